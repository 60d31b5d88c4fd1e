//! Writers: threads, nodes, sealing.

use super::*;
use crate::manifest::{NodeRef, NodeSource};
use std::collections::BTreeSet;

#[test]
fn eight_threads_with_the_same_bytes_store_each_content_once() {
    let store = TestStore::on_disk();
    let writer = store.objects.writer(&store.work()).unwrap();
    let contents: Vec<Vec<u8>> = (0..300).map(|i| random_bytes(i, 500)).collect();
    let big = random_bytes(9, 150_000);
    let new: usize = std::thread::scope(|s| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(|| {
                    let mut thread_writer = writer.thread_writer();
                    let small = contents.iter().filter(|c| put_small(&mut thread_writer, c).1.new).count();
                    small + usize::from(thread_writer.put_large_bytes(Digest::of(&big), &big).unwrap().new)
                })
            })
            .collect();
        threads.into_iter().map(|l| l.join().unwrap()).sum()
    });
    assert_eq!(new, 301);
    assert_eq!(writer.new_bytes(), 300 * 500 + 150_000);
    writer.seal(&[], &[]).unwrap();
    let objects = store.afresh();
    let mut blobs = Vec::new();
    for pack in objects.stored_packs().unwrap() {
        let mut damage = Vec::new();
        blobs.extend(objects.check_pack(&pack, &mut damage).unwrap().blobs);
        assert!(damage.is_empty());
    }
    assert_eq!(blobs.len(), 300);
    assert_eq!(blobs.iter().map(|b| b.0).collect::<BTreeSet<_>>(), contents.iter().map(|c| Digest::of(c)).collect());
    for content in &contents {
        assert_eq!(&objects.read_small(&Digest::of(content), 500, None).unwrap(), content);
    }
}

#[test]
fn a_small_commit_makes_one_pack_for_contents_and_nodes_also_from_several_threads_in_turn() {
    let store = TestStore::on_disk();
    let work = store.work();
    let writer = store.objects.writer(&work).unwrap();
    let mut entries = Vec::new();
    for turn in 0..3 {
        let mut thread_writer = writer.thread_writer();
        let content = random_bytes(turn, 800);
        let (digest, put) = put_small(&mut thread_writer, &content);
        entries.push((format!("f{turn}"), digest, 800, Some(put.place)));
        thread_writer.close().unwrap();
    }
    let root = build(&writer, &entries);
    assert!(store.packs().is_empty(), "nothing is visible before it is sealed");
    writer.close_packs().unwrap();
    let node_packs = writer.node_packs();
    writer.seal(&[], &[]).unwrap();
    assert_eq!(store.packs(), [store.layout.pack(&node_packs.names[0])]);
    assert!(files(&work).is_empty());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&store.packs()[0]).unwrap().permissions().mode() & 0o777, 0o444);
    // The stored node has hints to the contents in its pack.
    let objects = store.afresh();
    let node = objects.load(&NodeRef::from(root.digest())).unwrap();
    for (digest, size, place) in node.blobs() {
        let place = place.unwrap();
        assert_eq!(objects.table().name(place.pack), Some(node_packs.names[0]));
        assert!(
            objects
                .open_pack(place.pack)
                .unwrap()
                .read(&digest, super::super::BlobKind::Content, place.offset, size as u32, &mut Vec::new())
                .is_ok()
        );
    }
}

#[test]
fn with_much_content_nodes_have_packs_of_their_own() {
    let store = TestStore::on_disk();
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut entries = Vec::new();
    let mut thread_writer = writer.thread_writer();
    for i in 0..50u64 {
        let content = random_bytes(i, 120_000);
        let (digest, put) = put_small(&mut thread_writer, &content);
        entries.push((format!("f{i:03}"), digest, 120_000, Some(put.place)));
    }
    drop(thread_writer);
    let root = build(&writer, &entries);
    writer.close_packs().unwrap();
    let node_packs = writer.node_packs();
    writer.seal(&[], &[]).unwrap();
    assert_eq!((store.packs().len(), node_packs.names.len()), (2, 1));
    let objects = store.afresh();
    let node = objects.load(&NodeRef::from(root.digest())).unwrap();
    let (digest, _, place) = node.blobs()[30];
    let place = place.unwrap();
    assert_ne!(objects.table().name(place.pack), Some(node_packs.names[0]));
    objects.read_small(&digest, 120_000, Some(place)).unwrap();
}

#[test]
fn a_version_built_up_by_many_puts_keeps_its_nodes_in_few_packs() {
    let store = TestStore::new();
    let mut entries: Vec<(String, Digest, u64, Option<Location>)> =
        (0..6000).map(|i| (format!("{i:06}"), Digest::of(&[1]), 1, None)).collect();
    let mut most = 0;
    let mut root = None;
    for put in 0..40usize {
        entries[put * 149].1 = Digest::of(&put.to_le_bytes());
        let writer = store.objects.writer(&store.work()).unwrap();
        let mut builds = 0;
        loop {
            builds += 1;
            root = Some(build(&writer, &entries));
            if !writer.spread_too_far() {
                break;
            }
        }
        assert!(builds <= 2, "building once more is enough");
        writer.close_packs().unwrap();
        most = most.max(writer.node_packs().names.len());
        writer.seal(&[], &[]).unwrap();
    }
    assert!((8..=16).contains(&most), "{most}");
    // What was gathered once is found where it was gathered, not stored again by every put.
    let objects = store.afresh();
    let packs = objects.stored_packs().unwrap();
    let stored: usize = packs.iter().map(|p| objects.list_pack(p, &mut Vec::new()).unwrap().blobs.len()).sum();
    assert!(stored < 180, "{stored} nodes stored");
    // And all is there.
    let mut left = vec![NodeRef::from(root.unwrap().digest())];
    let mut count = 0;
    while let Some(at) = left.pop() {
        left.extend(objects.load(&at).unwrap().children());
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_and_dropped_thread_writers_lose_nothing() {
    let store = TestStore::on_disk();
    let work = store.work();
    let writer = store.objects.writer(&work).unwrap();
    let mut thread_writer = writer.thread_writer();
    put_small(&mut thread_writer, b"x");
    thread_writer.put_large_bytes(Digest::of(&[0; 200_000]), &[0; 200_000]).unwrap();
    drop(thread_writer);
    assert!(!files(&work).is_empty());
    drop(writer);
    assert!(files(&work).is_empty() && store.packs().is_empty() && files(&store.layout.objects()).is_empty());
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    put_small(&mut thread_writer, b"promised to another thread");
    drop(thread_writer); // not closed
    assert!(!put_small(&mut writer.thread_writer(), b"promised to another thread").1.new);
    writer.seal(&[], &[]).unwrap();
    store.objects.read_small(&Digest::of(b"promised to another thread"), 26, None).unwrap();
}

#[test]
fn more_files_than_are_kept_open_are_all_sealed() {
    let store = TestStore::on_disk();
    let work = store.work();
    let writer = store.objects.writer(&work).unwrap();
    let mut thread_writer = writer.thread_writer();
    let bytes = vec![1; crate::objects::SMALL_MAX as usize];
    for i in 0..100u32 {
        let mut bytes = bytes.clone();
        bytes[..4].copy_from_slice(&i.to_le_bytes());
        let digest = Digest::of(&bytes);
        assert!(thread_writer.put_large_bytes(digest, &bytes).unwrap().new);
        assert_eq!(thread_writer.find(&digest, crate::objects::SMALL_MAX).unwrap(), Some(None));
    }
    drop(thread_writer);
    let extra = store.objects.disk().write_file(work.join("record"), b"r").unwrap();
    assert_eq!(writer.seal(&[extra], &[]).unwrap().new_bytes, 100 * crate::objects::SMALL_MAX);
    assert_eq!(files(&work).len(), 1);
    let objects = store.afresh().stored_objects().unwrap();
    assert_eq!(objects.len(), 100);
    assert!(objects.iter().all(|o| o.name.is_some()));
}

#[test]
fn a_thread_writer_finds_content_by_its_digest() {
    let store = TestStore::on_disk();
    let digest = store.put(&[b"before".to_vec()])[0];
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    assert!(matches!(thread_writer.find(&digest, 6).unwrap(), Some(Some(_))));
    let (now, put) = put_small(&mut thread_writer, b"now");
    assert_eq!(thread_writer.find(&now, 3).unwrap(), Some(Some(put.place)));
    assert_eq!(thread_writer.find(&Digest::of(b"never"), 5).unwrap(), None);
    assert_eq!(thread_writer.find(&Digest::of(b"never"), 500_000).unwrap(), None);
}
