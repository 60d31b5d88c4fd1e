//! Finding a readable copy.

use super::super::codec::StoredBytes;
use super::super::pack::MAX_PACK;
use super::super::pack_writer::PackWriter;
use super::super::{BlobKind, Content};
use super::*;
use crate::manifest::{NodeRef, NodeSource};

/// Stores the same content by two independent writers: two packs.
fn twice(store: &TestStore, content: &[u8]) -> (Digest, [PathBuf; 2]) {
    let writers = [0, 1].map(|i| {
        let writer = store.afresh().writer(&store.work()).unwrap();
        let mut thread_writer = writer.thread_writer();
        put_small(&mut thread_writer, content);
        put_small(&mut thread_writer, &[i]);
        drop(thread_writer);
        writer
    });
    for writer in writers {
        writer.seal(&[], &[]).unwrap();
    }
    let packs = store.packs();
    (Digest::of(content), [packs[0].clone(), packs[1].clone()])
}

#[test]
fn a_read_by_a_right_hint_does_not_load_the_index() {
    let store = TestStore::new();
    let content = random_bytes(1, 5000);
    let digest = store.put(std::slice::from_ref(&content))[0];
    let place = store.place(&digest).unwrap();
    let name = store.objects.table().name(place.pack).unwrap();
    let objects = store.afresh();
    let place = Location { pack: objects.table().intern(&name), ..place };
    assert_eq!(objects.read_small(&digest, 5000, Some(place)).unwrap(), content);
    assert!(!objects.has_index());
    for wrong in [
        Location { offset: place.offset + 1, ..place },
        Location { offset: u32::MAX, ..place },
        Location { pack: crate::types::PackRef(77), ..place },
    ] {
        assert_eq!(objects.read_small(&digest, 5000, Some(wrong)).unwrap(), content);
    }
    let wrong_size = objects.read_small(&digest, 4999, Some(place)).unwrap_err();
    assert!(format!("{wrong_size:#}").contains("5000 bytes, expected 4999"), "{wrong_size:#}");
}

#[test]
fn a_stale_hint_leads_to_the_copy_in_another_pack() {
    let store = TestStore::new();
    let content = random_bytes(2, 3000);
    let (digest, packs) = twice(&store, &content);
    for gone in packs {
        let place = store.place(&digest).unwrap();
        let bytes = std::fs::read(&gone).unwrap();
        let hint = Location {
            pack: store.objects.table().intern(&Digest::of_hex(gone.file_name().unwrap().as_encoded_bytes()).unwrap()),
            ..place
        };
        assert_eq!(store.objects.read_small(&digest, 3000, Some(hint)).unwrap(), content);
        std::fs::remove_file(&gone).unwrap();
        let objects = store.afresh();
        let hint = Location { pack: objects.table().intern(&store.objects.table().name(hint.pack).unwrap()), ..hint };
        assert_eq!(objects.read_small(&digest, 3000, Some(hint)).unwrap(), content);
        std::fs::write(&gone, bytes).unwrap();
    }
}

#[test]
fn a_damaged_copy_does_not_matter_while_there_is_a_good_one() {
    let store = TestStore::new();
    let content = random_bytes(3, 3000);
    let (digest, packs) = twice(&store, &content);
    let wholes = packs.clone().map(|p| std::fs::read(p).unwrap());
    for (pack, whole) in packs.iter().zip(&wholes) {
        let mut bytes = whole.clone();
        bytes[200] ^= 1;
        overwrite(pack, &bytes);
        assert_eq!(store.afresh().read_small(&digest, 3000, None).unwrap(), content);
        assert_eq!(store.objects.read_small(&digest, 3000, None).unwrap(), content);
        overwrite(pack, whole);
    }
    for (pack, whole) in packs.iter().zip(&wholes) {
        let mut bytes = whole.clone();
        bytes[200] ^= 1;
        overwrite(pack, &bytes);
    }
    let e = store.objects.read_small(&digest, 3000, None).unwrap_err();
    assert_eq!(e.kind(), crate::Kind::Damaged);
    assert!(
        e.causes().len() == 2 && e.causes().iter().all(|c| c.contains("expected")),
        "{e}: both copies, and what was expected"
    );
    // A repair by rename shows at the next read, also where the damaged file is open.
    std::fs::write(store.dir.path().join("new"), &wholes[0]).unwrap();
    std::fs::rename(store.dir.path().join("new"), &packs[0]).unwrap();
    assert_eq!(store.objects.read_small(&digest, 3000, None).unwrap(), content);
}

#[test]
fn what_a_collector_moved_to_the_trash_is_read_there() {
    let store = TestStore::new();
    let (small, big) = (random_bytes(4, 2000), random_bytes(5, 200_000));
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    let (digest, put) = put_small(&mut thread_writer, &small);
    thread_writer.put_large_bytes(Digest::of(&big), &big).unwrap();
    drop(thread_writer);
    let root = build(&writer, &[("f".into(), digest, 2000, Some(put.place))]);
    writer.seal(&[], &[]).unwrap();
    for batch in ["empty", "old", "new"] {
        std::fs::create_dir(store.layout.trash().join(batch)).unwrap();
    }
    let [pack] = &store.packs()[..] else { panic!("one pack") };
    let name = Digest::of_hex(pack.file_name().unwrap().as_encoded_bytes()).unwrap();
    let moved = store.layout.trashed_pack("new".as_ref(), &name);
    std::fs::rename(pack, &moved).unwrap();
    std::fs::rename(
        store.layout.object(&Digest::of(&big)),
        store.layout.trashed_object("old".as_ref(), &Digest::of(&big)),
    )
    .unwrap();
    for objects in [store.afresh(), store.objects.clone()] {
        let hint = Location { pack: objects.table().intern(&name), ..put.place };
        assert_eq!(objects.read_small(&digest, 2000, None).unwrap(), small);
        assert_eq!(objects.read_small(&digest, 2000, Some(hint)).unwrap(), small);
        assert_eq!(objects.load(&NodeRef::from(root.digest())).unwrap().bytes(), root.node.bytes());
        let Content::Large(large) = objects.content(&Digest::of(&big), 200_000, None).unwrap() else { panic!("large") };
        assert!(large.path().starts_with(store.layout.trash()));
    }
    // A writer relies on nothing in the trash.
    store.put(std::slice::from_ref(&small));
    assert_eq!(store.packs().len(), 1);
    std::fs::remove_file(&moved).unwrap();
    assert_eq!(store.afresh().read_small(&digest, 2000, None).unwrap(), small);
    std::fs::remove_file(&store.packs()[0]).unwrap();
    let gone = store.afresh().read_small(&digest, 2000, None).unwrap_err();
    assert!(gone.to_string().contains("is missing") && gone.kind() == crate::Kind::Damaged, "{gone}");
    assert!(is_damage(&store.afresh().load(&NodeRef::from(root.digest()))));
}

#[test]
fn small_content_in_a_file_and_large_content_in_a_pack_are_found() {
    let store = TestStore::new();
    let (small, big) = (random_bytes(6, 1000), random_bytes(7, 300_000));
    let object = store.layout.object(&Digest::of(&small));
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(&object, &small).unwrap();
    let mut pack =
        PackWriter::create(store.objects.disk(), store.dir.path().join("p"), store.objects.table().reserve(), MAX_PACK)
            .unwrap();
    pack.append(Digest::of(&big), BlobKind::Content, StoredBytes::raw(&big)).unwrap();
    let closed = pack.close().unwrap();
    std::fs::rename(closed.file.path(), store.layout.pack(&closed.name)).unwrap();
    assert!(matches!(store.objects.content(&Digest::of(&small), 1000, None), Ok(Content::Small(b)) if b == small));
    assert!(matches!(store.objects.content(&Digest::of(&big), 300_000, None), Ok(Content::Small(b)) if b == big));
    overwrite(&object, &random_bytes(8, 1000));
    assert!(is_damage(&store.objects.content(&Digest::of(&small), 1000, None)));
}

#[test]
fn nothing_but_regular_files_is_opened() {
    let store = TestStore::new();
    let digest = Digest::of(b"x");
    let path = store.layout.object(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let c = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string. A fifo without a writer: a plain open would wait forever.
    assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
    assert!(is_damage(&store.objects.open_large(&digest, 200_000)));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(is_damage(&store.objects.open_large(&digest, 200_000)));
}

#[test]
fn missing_content_costs_no_search_again_for_a_moment_and_is_found_when_it_is_stored_again() {
    let store = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..50).map(|i| random_bytes(900 + i, 300)).collect();
    for content in &contents {
        store.put(std::slice::from_ref(content));
    }
    let lost: Vec<Vec<u8>> = (0..200).map(|i| random_bytes(2000 + i, 300)).collect();
    let read = |content: &Vec<u8>| store.objects.read_small(&Digest::of(content), 300, None);
    let begun = std::time::Instant::now();
    for _ in 0..50 {
        assert!(lost.iter().all(|content| is_damage(&read(content))));
    }
    assert!(begun.elapsed().as_secs() < 20, "10,000 reads took {:?}", begun.elapsed());
    // Another process stores one of them again.
    store.put(&lost[..1]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(read(&lost[0]).unwrap(), lost[0]);
    // What this process stores itself is found at once.
    assert!(is_damage(&read(&lost[1])));
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    super::put_small(&mut thread_writer, &lost[1]);
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    assert_eq!(read(&lost[1]).unwrap(), lost[1]);
}
