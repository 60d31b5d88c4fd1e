//! The bytes of packs and stored nodes.

use super::super::Damage;
use super::super::hints;
use super::super::pack::TRAILER;
use super::*;
use crate::manifest::{NodeRef, NodeSource};

#[test]
fn a_pack_gives_back_what_was_put_and_a_shell_finds_its_name() {
    let store = TestStore::new();
    let contents: Vec<Vec<u8>> = (0..20).map(|i| random_bytes(i, 100 * i as usize)).collect();
    let digests = store.put(&contents);
    let [pack] = &store.packs()[..] else { panic!("one pack") };
    for (content, digest) in contents.iter().zip(&digests) {
        assert_eq!(&store.objects.read_small(digest, content.len() as u64, None).unwrap(), content);
    }
    let footer = 20 * 44 + TRAILER;
    let script = format!("tail -c {footer} {} | sha256sum", pack.display());
    let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).split(' ').next(), pack.file_name().unwrap().to_str());
    assert_eq!(&std::fs::read(pack).unwrap()[..8], b"cairnpk1");
}

#[test]
fn the_example_of_format_md_is_what_is_written() {
    let store = TestStore::new();
    store.put(&[b"hello".to_vec()]);
    assert_eq!(
        store.packs()[0].file_name().unwrap(),
        "b96306177809d360931c0b693a95711b5432e0b4e2b15a12a4e4731e69fb0686"
    );
    let digest = Digest::of(b"hello");
    let expected = [
        b"cairnpk1".as_slice(),
        &digest.0,
        b"\x05\0\0\0\x01\0\0\0hello",
        &digest.0,
        b"\x08\0\0\0\x05\0\0\0\x01\0\0\0",
        b"\x35\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0cairnpkE",
    ];
    assert_eq!(std::fs::read(&store.packs()[0]).unwrap(), expected.concat());
}

/// A pack with two blobs and two nodes; the files' digests, and the root.
fn small_pack(store: &TestStore) -> (Vec<(Digest, Vec<u8>)>, RootNode, PathBuf) {
    let writer = store.afresh().writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    let contents = [b"one".to_vec(), random_bytes(7, 90)];
    let files: Vec<_> = contents.iter().map(|c| put_small(&mut thread_writer, c)).collect();
    thread_writer.close().unwrap();
    let mut nodes = writer.node_writer().unwrap();
    let mut builder = Builder::new(&mut nodes);
    builder.enter(b"d").unwrap();
    builder
        .entry(b"x", Entry::File { digest: files[0].0, size: 3, exec: false, place: Some(files[0].1.place) })
        .unwrap();
    builder.leave().unwrap();
    builder
        .entry(b"y", Entry::File { digest: files[1].0, size: 90, exec: true, place: Some(files[1].1.place) })
        .unwrap();
    let root = builder.finish().unwrap();
    drop(nodes);
    writer.seal(&[], &[]).unwrap();
    let [pack] = &store.packs()[..] else { panic!("one pack") };
    (files.iter().map(|f| f.0).zip(contents).collect(), root, pack.clone())
}

#[test]
fn every_flipped_byte_and_every_truncation_of_a_pack_is_found_and_gives_no_wrong_bytes_f1() {
    let store = TestStore::new();
    let (files, root, path) = small_pack(&store);
    let whole = std::fs::read(&path).unwrap();
    let check = |label: &str, expect: bool| {
        let objects = store.afresh();
        let mut damage = Vec::new();
        for pack in objects.stored_packs().unwrap() {
            objects.check_pack(&pack, &mut damage).unwrap();
        }
        assert_eq!(!damage.is_empty(), expect, "{label}: {damage:?}");
        for (digest, content) in &files {
            let name = Digest::of_hex(path.file_name().unwrap().as_encoded_bytes()).unwrap();
            let hint = root.node.blobs().into_iter().find(|b| b.0 == *digest).unwrap().2.unwrap();
            let hint = Location { pack: objects.table().intern(&name), offset: hint.offset };
            for place in [None, Some(hint)] {
                let read = objects.read_small(digest, content.len() as u64, place);
                assert!(is_damage(&read) || read.as_ref().unwrap() == content, "{label}: {read:?}");
            }
        }
        let node = objects.load(&NodeRef::from(root.digest()));
        assert!(is_damage(&node) || node.as_ref().unwrap().bytes() == root.node.bytes(), "{label}: {node:?}");
        damage
    };
    check("whole", false);
    let mut hints = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        overwrite(&path, &bytes);
        hints += usize::from(check(&format!("byte {at}"), true).iter().any(|d| matches!(d, Damage::Hints(_))));
        overwrite(&path, &whole[..at]);
        check(&format!("cut to {at}"), true);
    }
    assert!(hints > 0, "bad hints are damage of their own kind");
    overwrite(&path, &[&whole[..], b"\0"].concat());
    check("one byte more", true);
    overwrite(&path, &whole);
    check("put back", false);
}

#[test]
fn hints_name_their_own_pack_another_or_none_and_damaged_ones_are_ignored_f11() {
    let store = TestStore::new();
    let table = store.objects.table();
    let (own, other) = (table.reserve(), table.intern(&Digest::of(b"other")));
    let places = [
        Some(Location { pack: own, offset: 8 }),
        None,
        Some(Location { pack: other, offset: u32::MAX }),
        Some(Location { pack: own, offset: 48 }),
    ];
    let mut nodes = crate::manifest::MemoryNodes::new();
    let mut builder = Builder::new(&mut nodes);
    for (i, place) in places.iter().enumerate() {
        builder
            .entry(
                &[b'a' + i as u8],
                Entry::File { digest: Digest::of(&[i as u8]), size: 1, exec: false, place: *place },
            )
            .unwrap();
    }
    let root = builder.finish().unwrap();
    let stored = hints::encode(&root.node, Some(own), table).unwrap();
    let read_in = table.intern(&Digest::of(b"own"));
    let (node, state) = hints::decode(&stored, Some(read_in), table).unwrap();
    assert_eq!(state, hints::Hints::Whole);
    let moved = |p: Location| Location { pack: if p.pack == own { read_in } else { p.pack }, ..p };
    assert_eq!(node.places().collect::<Vec<_>>(), places.map(|p| p.map(moved)));
    assert!(hints::encode(&root.node, None, table).is_err(), "the pack has no name yet");
    for at in 4 + root.node.bytes().len()..stored.len() {
        let mut bytes = stored.clone();
        bytes[at] ^= 4;
        let (node, state) = hints::decode(&bytes, Some(read_in), table).unwrap();
        assert_eq!(state, hints::Hints::Damaged);
        assert!(node.places().all(|p| p.is_none()) && node.digest() == root.digest(), "byte {at}");
    }
}

#[test]
fn a_blob_too_long_for_a_pack_is_refused_and_a_failed_writer_seals_nothing() {
    let store = TestStore::new();
    let work = store.work();
    let writer = store.objects.writer(&work).unwrap();
    let mut thread_writer = writer.thread_writer();
    let (digest, _) = put_small(&mut thread_writer, b"kept");
    let long = vec![0; crate::objects::SMALL_MAX as usize];
    assert!(thread_writer.put_small(Digest::of(&long), &long).is_err());
    thread_writer.close().unwrap();
    writer.fail_on_error::<()>(Err(crate::Error::io_message("a disk full"))).unwrap_err();
    assert!(writer.seal(&[], &[]).is_err());
    assert!(store.packs().is_empty() && files(&work).is_empty(), "neither visible nor left behind");
    assert!(is_damage(&store.objects.read_small(&digest, 4, None)));
}
