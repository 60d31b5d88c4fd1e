//! Writers: lanes, nodes, sealing.

use super::*;
use crate::manifest::{NodeRef, NodeSource};
use std::collections::BTreeSet;

#[test]
fn eight_lanes_with_the_same_bytes_store_each_content_once() {
    let lab = TestStore::on_disk();
    let writer = lab.objects.writer(&lab.work()).unwrap();
    let contents: Vec<Vec<u8>> = (0..300).map(|i| random_bytes(i, 500)).collect();
    let big = random_bytes(9, 150_000);
    let new: usize = std::thread::scope(|s| {
        let lanes: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(|| {
                    let mut lane = writer.thread_writer();
                    let small = contents.iter().filter(|c| put_small(&mut lane, c).1.new).count();
                    small + usize::from(lane.put_large_bytes(Digest::of(&big), &big).unwrap().new)
                })
            })
            .collect();
        lanes.into_iter().map(|l| l.join().unwrap()).sum()
    });
    assert_eq!(new, 301);
    assert_eq!(writer.new_bytes(), 300 * 500 + 150_000);
    writer.seal(&[], &[]).unwrap();
    let objects = lab.afresh();
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
fn a_small_commit_makes_one_pack_for_contents_and_nodes_also_from_several_lanes_in_turn() {
    let lab = TestStore::on_disk();
    let work = lab.work();
    let writer = lab.objects.writer(&work).unwrap();
    let mut entries = Vec::new();
    for turn in 0..3 {
        let mut lane = writer.thread_writer();
        let content = random_bytes(turn, 800);
        let (digest, put) = put_small(&mut lane, &content);
        entries.push((format!("f{turn}"), digest, 800, Some(put.place)));
        lane.close().unwrap();
    }
    let root = build(&writer, &entries);
    assert!(lab.packs().is_empty(), "nothing is visible before it is sealed");
    writer.close_packs().unwrap();
    let node_packs = writer.node_packs();
    writer.seal(&[], &[]).unwrap();
    assert_eq!(lab.packs(), [lab.layout.pack(&node_packs.names[0])]);
    assert!(files(&work).is_empty());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&lab.packs()[0]).unwrap().permissions().mode() & 0o777, 0o444);
    // The stored node leads to the contents beside it.
    let objects = lab.afresh();
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
fn nodes_of_much_content_lie_apart_and_lead_into_its_packs() {
    let lab = TestStore::on_disk();
    let writer = lab.objects.writer(&lab.work()).unwrap();
    let mut entries = Vec::new();
    let mut lane = writer.thread_writer();
    for i in 0..50u64 {
        let content = random_bytes(i, 120_000);
        let (digest, put) = put_small(&mut lane, &content);
        entries.push((format!("f{i:03}"), digest, 120_000, Some(put.place)));
    }
    drop(lane);
    let root = build(&writer, &entries);
    writer.close_packs().unwrap();
    let node_packs = writer.node_packs();
    writer.seal(&[], &[]).unwrap();
    assert_eq!((lab.packs().len(), node_packs.names.len()), (2, 1));
    let objects = lab.afresh();
    let node = objects.load(&NodeRef::from(root.digest())).unwrap();
    let (digest, _, place) = node.blobs()[30];
    let place = place.unwrap();
    assert_ne!(objects.table().name(place.pack), Some(node_packs.names[0]));
    objects.read_small(&digest, 120_000, Some(place)).unwrap();
}

#[test]
fn a_version_built_up_by_many_puts_keeps_its_nodes_in_few_packs() {
    let lab = TestStore::new();
    let mut entries: Vec<(String, Digest, u64, Option<Location>)> =
        (0..6000).map(|i| (format!("{i:06}"), Digest::of(&[1]), 1, None)).collect();
    let mut most = 0;
    let mut root = None;
    for put in 0..40usize {
        entries[put * 149].1 = Digest::of(&put.to_le_bytes());
        let writer = lab.objects.writer(&lab.work()).unwrap();
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
    let objects = lab.afresh();
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
fn a_writer_that_is_dropped_leaves_nothing_and_lanes_dropped_on_an_error_lose_nothing() {
    let lab = TestStore::on_disk();
    let work = lab.work();
    let writer = lab.objects.writer(&work).unwrap();
    let mut lane = writer.thread_writer();
    put_small(&mut lane, b"x");
    lane.put_large_bytes(Digest::of(&[0; 200_000]), &[0; 200_000]).unwrap();
    drop(lane);
    assert!(!files(&work).is_empty());
    drop(writer);
    assert!(files(&work).is_empty() && lab.packs().is_empty() && files(&lab.layout.objects()).is_empty());
    let writer = lab.objects.writer(&lab.work()).unwrap();
    let mut lane = writer.thread_writer();
    put_small(&mut lane, b"promised to another lane");
    drop(lane); // not closed
    assert!(!put_small(&mut writer.thread_writer(), b"promised to another lane").1.new);
    writer.seal(&[], &[]).unwrap();
    lab.objects.read_small(&Digest::of(b"promised to another lane"), 24, None).unwrap();
}

#[test]
fn more_files_than_are_kept_open_are_all_sealed() {
    let lab = TestStore::on_disk();
    let work = lab.work();
    let writer = lab.objects.writer(&work).unwrap();
    let mut lane = writer.thread_writer();
    let bytes = vec![1; crate::objects::SMALL_MAX as usize];
    for i in 0..100u32 {
        let mut bytes = bytes.clone();
        bytes[..4].copy_from_slice(&i.to_le_bytes());
        let digest = Digest::of(&bytes);
        assert!(lane.put_large_bytes(digest, &bytes).unwrap().new);
        assert_eq!(lane.find(&digest, crate::objects::SMALL_MAX).unwrap(), Some(None));
    }
    drop(lane);
    let extra = lab.objects.disk().write_file(work.join("record"), b"r").unwrap();
    assert_eq!(writer.seal(&[extra], &[]).unwrap().new_bytes, 100 * crate::objects::SMALL_MAX);
    assert_eq!(files(&work).len(), 1);
    let objects = lab.afresh().stored_objects().unwrap();
    assert_eq!(objects.len(), 100);
    assert!(objects.iter().all(|o| o.name.is_some()));
}

#[test]
fn a_lane_finds_what_is_stored_by_digest_alone() {
    let lab = TestStore::on_disk();
    let digest = lab.put(&[b"before".to_vec()])[0];
    let writer = lab.objects.writer(&lab.work()).unwrap();
    let mut lane = writer.thread_writer();
    assert!(matches!(lane.find(&digest, 6).unwrap(), Some(Some(_))));
    let (now, put) = put_small(&mut lane, b"now");
    assert_eq!(lane.find(&now, 3).unwrap(), Some(Some(put.place)));
    assert_eq!(lane.find(&Digest::of(b"never"), 5).unwrap(), None);
    assert_eq!(lane.find(&Digest::of(b"never"), 500_000).unwrap(), None);
}
