//! What is known to be damaged is not relied upon, and what is right is never replaced.

use super::super::{BlobKind, Damage, DamagedItem, SMALL_MAX, StoredFile};
use super::*;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Changes a file's byte, and leaves its time and mode as they were.
fn rot(path: &Path, at: usize) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    overwrite(path, &bytes);
    File::open(path).unwrap().set_modified(time).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

fn known(lab: &TestStore) -> Vec<DamagedItem> {
    lab.afresh().known_damage().unwrap().iter().copied().collect()
}

/// Verifies all packs and objects, and updates the list.
fn check_all(lab: &TestStore) {
    let objects = lab.afresh();
    let known = objects.known_damage().unwrap();
    let check = |stored: StoredFile, check: &dyn Fn(&StoredFile, &mut Vec<Damage>)| {
        let mut damage = Vec::new();
        check(&stored, &mut damage);
        objects.update_known_damage(&known, &stored, &damage);
    };
    objects.stored_packs().unwrap().into_iter().for_each(|s| check(s, &|s, d| drop(objects.check_pack(s, d).unwrap())));
    objects.stored_objects().unwrap().into_iter().for_each(|s| check(s, &|s, d| objects.check_object(s, d).unwrap()));
}

#[test]
fn a_damaged_blob_that_a_reader_met_is_stored_again_and_then_read_by_the_old_hint() {
    let lab = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..5).map(|i| random_bytes(i, 1000)).collect();
    let digests = lab.put(&contents);
    let place = lab.place(&digests[2]).unwrap();
    let pack = &lab.packs()[0];
    let at = place.offset as usize + 40 + 500;
    rot(pack, at);
    // Not known yet: a look at lengths and footers cannot see it.
    assert!(is_damage(&lab.objects.read_small(&digests[2], 1000, Some(place))));
    let name = Digest::from_hex(pack.file_name().unwrap().as_encoded_bytes()).unwrap();
    assert_eq!(known(&lab), [DamagedItem::Blob { digest: digests[2], kind: BlobKind::Content, pack: name }]);

    let writer = lab.afresh().writer(&lab.work()).unwrap();
    let mut lane = writer.thread_writer();
    assert_eq!(
        lane.find(&digests[2], 1000).unwrap(),
        None,
        "also who only knows its digest is told that it is not there"
    );
    let new: Vec<bool> = contents.iter().map(|c| put_small(&mut lane, c).1.new).collect();
    assert_eq!(new, [false, false, true, false, false]);
    lane.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    for objects in [lab.afresh(), lab.objects.clone()] {
        assert_eq!(objects.read_small(&digests[2], 1000, Some(place)).unwrap(), contents[2]);
    }
    // The damaged copy is listed for as long as it is there; the good one is found.
    assert_eq!(known(&lab).len(), 1);
    let again = lab.afresh().writer(&lab.work()).unwrap();
    assert!(!put_small(&mut again.thread_writer(), &contents[2]).1.new);
}

#[test]
fn a_wrong_hint_is_no_damage() {
    let lab = TestStore::new();
    let digests = lab.put(&[random_bytes(1, 1000), random_bytes(2, 1000)]);
    let (first, second) = (lab.place(&digests[0]).unwrap(), lab.place(&digests[1]).unwrap());
    assert_eq!(lab.objects.read_small(&digests[0], 1000, Some(second)).unwrap(), random_bytes(1, 1000));
    assert_eq!(lab.objects.read_small(&digests[1], 1000, Some(first)).unwrap(), random_bytes(2, 1000));
    assert!(known(&lab).is_empty());
}

#[test]
fn a_whole_check_lists_what_is_damaged_and_removes_what_is_right_again() {
    let lab = TestStore::new();
    let large = random_bytes(9, SMALL_MAX as usize);
    let digests = lab.put(&[random_bytes(1, 1000), random_bytes(2, 1000)]);
    let writer = lab.objects.writer(&lab.work()).unwrap();
    let digest = Digest::of(&large);
    assert!(writer.thread_writer().put_large_bytes(digest, &large).unwrap().new);
    writer.seal(&[], &[]).unwrap();
    check_all(&lab);
    assert!(known(&lab).is_empty());

    let (pack, object) = (lab.packs()[0].clone(), lab.layout.object(&digest));
    let name = Digest::from_hex(pack.file_name().unwrap().as_encoded_bytes()).unwrap();
    let at = lab.place(&digests[0]).unwrap().offset as usize + 40;
    rot(&pack, at);
    rot(&object, 7);
    check_all(&lab);
    let mut found = known(&lab);
    found.sort_by_key(|d| matches!(d, DamagedItem::Blob { .. }));
    assert_eq!(
        found,
        [DamagedItem::Object(digest), DamagedItem::Blob { digest: digests[0], kind: BlobKind::Content, pack: name }]
    );
    rot(&pack, at);
    rot(&object, 7);
    check_all(&lab);
    assert!(known(&lab).is_empty());
    // A footer that is wrong: nothing of the pack is relied upon.
    let len = std::fs::metadata(&pack).unwrap().len() as usize;
    rot(&pack, len - 40);
    check_all(&lab);
    assert_eq!(known(&lab), [DamagedItem::Pack(name)]);
    let writer = lab.afresh().writer(&lab.work()).unwrap();
    assert!(put_small(&mut writer.thread_writer(), &random_bytes(2, 1000)).1.new);
}

#[test]
fn an_object_known_to_be_damaged_is_replaced_and_taken_from_the_list() {
    let lab = TestStore::on_disk();
    let bytes = random_bytes(1, 300_000);
    let digest = Digest::of(&bytes);
    let put = || {
        let writer = lab.afresh().writer(&lab.work()).unwrap();
        let put = writer.thread_writer().put_large_bytes(digest, &bytes).unwrap();
        writer.seal(&[], &[]).unwrap();
        put.new
    };
    assert!(put());
    rot(&lab.layout.object(&digest), 1000);
    assert!(!put(), "length and time are right: nobody has seen it yet");
    check_all(&lab);
    assert_eq!(known(&lab), [DamagedItem::Object(digest)]);
    assert!(put());
    assert!(known(&lab).is_empty());
    assert_eq!(std::fs::read(lab.layout.object(&digest)).unwrap(), bytes);
    assert!(!put());
}

#[test]
fn equal_content_of_a_second_writer_replaces_nothing_f1() {
    for lab in [TestStore::new(), TestStore::on_disk()] {
        let (large, small) = (random_bytes(1, 200_000), random_bytes(2, 2000));
        let store = |writer: &super::super::ObjectWriter| {
            let mut lane = writer.thread_writer();
            lane.put_large_bytes(Digest::of(&large), &large).unwrap();
            put_small(&mut lane, &small);
        };
        // Both look before either is visible.
        let (first, second) = (lab.afresh().writer(&lab.work()).unwrap(), lab.afresh().writer(&lab.work()).unwrap());
        store(&first);
        store(&second);
        first.seal(&[], &[]).unwrap();
        let (object, pack) = (lab.layout.object(&Digest::of(&large)), lab.packs()[0].clone());
        let before = (inode(&object), inode(&pack));
        second.seal(&[], &[]).unwrap();
        assert_eq!((inode(&object), inode(&pack)), before);
        assert_eq!(lab.packs().len(), 1);
        assert_eq!(std::fs::metadata(&object).unwrap().nlink(), 1);
        let left: Vec<PathBuf> = files(&lab.layout.work()).iter().flat_map(|t| files(t)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_is_damaged_where_a_writer_puts_its_own_is_replaced() {
    let lab = TestStore::new();
    let (large, small) = (random_bytes(1, 200_000), random_bytes(2, 2000));
    let store = |writer: &super::super::ObjectWriter| {
        let mut lane = writer.thread_writer();
        lane.put_large_bytes(Digest::of(&large), &large).unwrap();
        put_small(&mut lane, &small);
    };
    let [first, second] = [0, 1].map(|_| lab.afresh().writer(&lab.work()).unwrap());
    store(&first);
    store(&second);
    first.seal(&[], &[]).unwrap();
    let (object, pack) = (lab.layout.object(&Digest::of(&large)), lab.packs()[0].clone());
    rot(&object, 100);
    rot(&pack, 100);
    check_all(&lab);
    assert_eq!(known(&lab).len(), 2);
    second.seal(&[], &[]).unwrap();
    assert!(known(&lab).is_empty());
    check_all(&lab);
    assert!(known(&lab).is_empty());
}

#[test]
fn who_finds_all_in_packs_reads_their_footers_and_notices_a_pack_that_is_cut() {
    let lab = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..40).map(|i| random_bytes(i, 900)).collect();
    lab.put(&contents);
    let put_again = || {
        let writer = lab.afresh().writer(&lab.work()).unwrap();
        let mut lane = writer.thread_writer();
        contents.iter().filter(|c| put_small(&mut lane, c).1.new).count()
    };
    assert_eq!(put_again(), 0);
    let pack = &lab.packs()[0];
    let whole = std::fs::read(pack).unwrap();
    // A byte of the footer: a few are confirmed by their headers, then none.
    let mut footer = whole.clone();
    let at = footer.len() - 100;
    footer[at] ^= 1;
    overwrite(pack, &footer);
    assert_eq!(put_again(), 40 - 3);
    assert_eq!(known(&lab).len(), 1);
    assert_eq!(put_again(), 40, "it is listed by now");
    std::fs::remove_dir_all(lab.layout.damaged()).unwrap();
    // Cut in the middle: what lies behind is not there.
    overwrite(pack, &whole[..whole.len() / 2]);
    assert!(put_again() >= 37);
    overwrite(pack, b"");
    std::fs::remove_dir_all(lab.layout.damaged()).unwrap();
    assert_eq!(put_again(), 40);
    std::fs::remove_file(pack).unwrap();
    assert_eq!(put_again(), 40);
}

#[test]
fn an_object_whose_time_a_copying_tool_lost_gets_it_back_once_it_was_hashed() {
    let lab = TestStore::on_disk();
    let bytes = random_bytes(1, 300_000);
    let digest = Digest::of(&bytes);
    let put = || {
        let writer = lab.afresh().writer(&lab.work()).unwrap();
        let put = writer.thread_writer().put_large_bytes(digest, &bytes).unwrap();
        writer.seal(&[], &[]).unwrap();
        put.new
    };
    assert!(put());
    let object = lab.layout.object(&digest);
    let is_as_left = || {
        let meta = std::fs::metadata(&object).unwrap();
        (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()) == (0o444, 1_000_000_000, 0)
    };
    for by_reading in [true, false] {
        overwrite(&object, &bytes);
        assert!(!is_as_left());
        if by_reading {
            lab.afresh().open_large(&digest, 300_000).unwrap();
        } else {
            assert!(!put(), "the writer hashes it, and need not store it again");
        }
        assert!(is_as_left());
    }
    // With wrong bytes it keeps its time.
    overwrite(&object, &random_bytes(2, 300_000));
    assert!(is_damage(&lab.afresh().open_large(&digest, 300_000)));
    assert!(!is_as_left());
    assert!(put());
    assert!(is_as_left());
    assert_eq!(std::fs::read(&object).unwrap(), bytes);
}
