//! Writers do not rely on what is known to be damaged, and never replace what is right.

use super::super::{BlobKind, Damage, DamagedItem, SMALL_MAX, StoredFile};
use super::*;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Changes a file's byte, and leaves its time and mode as they were.
fn flip_byte(path: &Path, at: usize) {
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

fn known(store: &TestStore) -> Vec<DamagedItem> {
    store.afresh().known_damage().unwrap().iter().copied().collect()
}

/// Verifies all packs and objects, and updates the list.
fn check_all(store: &TestStore) {
    let objects = store.afresh();
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
fn a_damaged_blob_that_a_reader_found_is_stored_again_and_read_by_the_old_hint() {
    let store = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..5).map(|i| random_bytes(i, 1000)).collect();
    let digests = store.put(&contents);
    let place = store.place(&digests[2]).unwrap();
    let pack = &store.packs()[0];
    let at = place.offset as usize + 40 + 500;
    flip_byte(pack, at);
    // Not known yet: checks of lengths and footers do not find it.
    assert!(is_damage(&store.objects.read_small(&digests[2], 1000, Some(place))));
    let name = Digest::of_hex(pack.file_name().unwrap().as_encoded_bytes()).unwrap();
    assert_eq!(known(&store), [DamagedItem::Blob { digest: digests[2], kind: BlobKind::Content, pack: name }]);

    let writer = store.afresh().writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    assert_eq!(thread_writer.find(&digests[2], 1000).unwrap(), None, "a lookup by digest does not find it either");
    let new: Vec<bool> = contents.iter().map(|c| put_small(&mut thread_writer, c).1.new).collect();
    assert_eq!(new, [false, false, true, false, false]);
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    for objects in [store.afresh(), store.objects.clone()] {
        assert_eq!(objects.read_small(&digests[2], 1000, Some(place)).unwrap(), contents[2]);
    }
    // The damaged copy is listed for as long as it is there; the good one is found.
    assert_eq!(known(&store).len(), 1);
    let again = store.afresh().writer(&store.work()).unwrap();
    assert!(!put_small(&mut again.thread_writer(), &contents[2]).1.new);
}

#[test]
fn a_wrong_hint_is_not_damage() {
    let store = TestStore::new();
    let digests = store.put(&[random_bytes(1, 1000), random_bytes(2, 1000)]);
    let (first, second) = (store.place(&digests[0]).unwrap(), store.place(&digests[1]).unwrap());
    assert_eq!(store.objects.read_small(&digests[0], 1000, Some(second)).unwrap(), random_bytes(1, 1000));
    assert_eq!(store.objects.read_small(&digests[1], 1000, Some(first)).unwrap(), random_bytes(2, 1000));
    assert!(known(&store).is_empty());
}

#[test]
fn a_whole_check_lists_what_is_damaged_and_removes_what_is_right_again() {
    let store = TestStore::new();
    let large = random_bytes(9, SMALL_MAX as usize);
    let digests = store.put(&[random_bytes(1, 1000), random_bytes(2, 1000)]);
    let writer = store.objects.writer(&store.work()).unwrap();
    let digest = Digest::of(&large);
    assert!(writer.thread_writer().put_large_bytes(digest, &large).unwrap().new);
    writer.seal(&[], &[]).unwrap();
    check_all(&store);
    assert!(known(&store).is_empty());

    let (pack, object) = (store.packs()[0].clone(), store.layout.object(&digest));
    let name = Digest::of_hex(pack.file_name().unwrap().as_encoded_bytes()).unwrap();
    let at = store.place(&digests[0]).unwrap().offset as usize + 40;
    flip_byte(&pack, at);
    flip_byte(&object, 7);
    check_all(&store);
    let mut found = known(&store);
    found.sort_by_key(|d| matches!(d, DamagedItem::Blob { .. }));
    assert_eq!(
        found,
        [DamagedItem::Object(digest), DamagedItem::Blob { digest: digests[0], kind: BlobKind::Content, pack: name }]
    );
    flip_byte(&pack, at);
    flip_byte(&object, 7);
    check_all(&store);
    assert!(known(&store).is_empty());
    // A footer that is wrong: nothing of the pack is relied upon.
    let len = std::fs::metadata(&pack).unwrap().len() as usize;
    flip_byte(&pack, len - 40);
    check_all(&store);
    assert_eq!(known(&store), [DamagedItem::Pack(name)]);
    let writer = store.afresh().writer(&store.work()).unwrap();
    assert!(put_small(&mut writer.thread_writer(), &random_bytes(2, 1000)).1.new);
}

#[test]
fn an_object_known_to_be_damaged_is_replaced_and_removed_from_the_list() {
    let store = TestStore::on_disk();
    let bytes = random_bytes(1, 300_000);
    let digest = Digest::of(&bytes);
    let put = || {
        let writer = store.afresh().writer(&store.work()).unwrap();
        let put = writer.thread_writer().put_large_bytes(digest, &bytes).unwrap();
        writer.seal(&[], &[]).unwrap();
        put.new
    };
    assert!(put());
    flip_byte(&store.layout.object(&digest), 1000);
    assert!(!put(), "length and time are right: no reader has seen it yet");
    check_all(&store);
    assert_eq!(known(&store), [DamagedItem::Object(digest)]);
    assert!(put());
    assert!(known(&store).is_empty());
    assert_eq!(std::fs::read(store.layout.object(&digest)).unwrap(), bytes);
    assert!(!put());
}

#[test]
fn equal_content_of_a_second_writer_replaces_nothing_f1() {
    for store in [TestStore::new(), TestStore::on_disk()] {
        let (large, small) = (random_bytes(1, 200_000), random_bytes(2, 2000));
        let put_all = |writer: &super::super::ObjectWriter| {
            let mut thread_writer = writer.thread_writer();
            thread_writer.put_large_bytes(Digest::of(&large), &large).unwrap();
            put_small(&mut thread_writer, &small);
        };
        // Both check before either is visible.
        let (first, second) =
            (store.afresh().writer(&store.work()).unwrap(), store.afresh().writer(&store.work()).unwrap());
        put_all(&first);
        put_all(&second);
        first.seal(&[], &[]).unwrap();
        let (object, pack) = (store.layout.object(&Digest::of(&large)), store.packs()[0].clone());
        let before = (inode(&object), inode(&pack));
        second.seal(&[], &[]).unwrap();
        assert_eq!((inode(&object), inode(&pack)), before);
        assert_eq!(store.packs().len(), 1);
        assert_eq!(std::fs::metadata(&object).unwrap().nlink(), 1);
        let left: Vec<PathBuf> = files(&store.layout.work()).iter().flat_map(|t| files(t)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_writer_replaces_a_damaged_file_of_the_same_name() {
    let store = TestStore::new();
    let (large, small) = (random_bytes(1, 200_000), random_bytes(2, 2000));
    let put_all = |writer: &super::super::ObjectWriter| {
        let mut thread_writer = writer.thread_writer();
        thread_writer.put_large_bytes(Digest::of(&large), &large).unwrap();
        put_small(&mut thread_writer, &small);
    };
    let [first, second] = [0, 1].map(|_| store.afresh().writer(&store.work()).unwrap());
    put_all(&first);
    put_all(&second);
    first.seal(&[], &[]).unwrap();
    let (object, pack) = (store.layout.object(&Digest::of(&large)), store.packs()[0].clone());
    flip_byte(&object, 100);
    flip_byte(&pack, 100);
    check_all(&store);
    assert_eq!(known(&store).len(), 2);
    second.seal(&[], &[]).unwrap();
    assert!(known(&store).is_empty());
    check_all(&store);
    assert!(known(&store).is_empty());
}

#[test]
fn a_writer_that_finds_all_content_reads_footers_and_notices_a_truncated_pack() {
    let store = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..40).map(|i| random_bytes(i, 900)).collect();
    store.put(&contents);
    let put_again = || {
        let writer = store.afresh().writer(&store.work()).unwrap();
        let mut thread_writer = writer.thread_writer();
        contents.iter().filter(|c| put_small(&mut thread_writer, c).1.new).count()
    };
    assert_eq!(put_again(), 0);
    let pack = &store.packs()[0];
    let whole = std::fs::read(pack).unwrap();
    // A byte of the footer: a few are confirmed by their headers, then none.
    let mut footer = whole.clone();
    let at = footer.len() - 100;
    footer[at] ^= 1;
    overwrite(pack, &footer);
    assert_eq!(put_again(), 40 - 3);
    assert_eq!(known(&store).len(), 1);
    assert_eq!(put_again(), 40, "it is listed by now");
    std::fs::remove_dir_all(store.layout.damaged()).unwrap();
    // Cut in the middle: what follows is not there.
    overwrite(pack, &whole[..whole.len() / 2]);
    assert!(put_again() >= 37);
    overwrite(pack, b"");
    std::fs::remove_dir_all(store.layout.damaged()).unwrap();
    assert_eq!(put_again(), 40);
    std::fs::remove_file(pack).unwrap();
    assert_eq!(put_again(), 40);
}

#[test]
fn an_object_that_lost_its_time_gets_it_back_after_it_was_hashed() {
    let store = TestStore::on_disk();
    let bytes = random_bytes(1, 300_000);
    let digest = Digest::of(&bytes);
    let put = || {
        let writer = store.afresh().writer(&store.work()).unwrap();
        let put = writer.thread_writer().put_large_bytes(digest, &bytes).unwrap();
        writer.seal(&[], &[]).unwrap();
        put.new
    };
    assert!(put());
    let object = store.layout.object(&digest);
    let is_as_left = || {
        let meta = std::fs::metadata(&object).unwrap();
        (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()) == (0o444, 1_000_000_000, 0)
    };
    for by_reading in [true, false] {
        overwrite(&object, &bytes);
        assert!(!is_as_left());
        if by_reading {
            store.afresh().open_large(&digest, 300_000).unwrap();
        } else {
            assert!(!put(), "the writer hashes it, and need not store it again");
        }
        assert!(is_as_left());
    }
    // With wrong bytes it keeps its time.
    overwrite(&object, &random_bytes(2, 300_000));
    assert!(is_damage(&store.afresh().open_large(&digest, 300_000)));
    assert!(!is_as_left());
    assert!(put());
    assert!(is_as_left());
    assert_eq!(std::fs::read(&object).unwrap(), bytes);
}
