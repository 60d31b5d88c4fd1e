//! Large objects.

use super::super::recipe::{Extent, Recipe};
use super::super::{Content, Damage, OBJECT_MODE, OBJECT_MTIME, RecipeSource, SMALL_MAX};
use super::*;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

fn put_file(store: &TestStore, source: &Path) -> super::super::LargePut {
    let writer = store.objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    let put = thread_writer.put_large(&File::open(source).unwrap(), source, &mut |_| Ok(())).unwrap();
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    put
}

fn set_time(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
}

fn text(seed: u64, len: usize) -> Vec<u8> {
    (0u64..).flat_map(|n| format!("{seed} line {n}: {}\n", n * n % 977).into_bytes()).take(len).collect()
}

/// A store that compresses, as its configuration would say.
fn compressing(store: &TestStore) -> std::sync::Arc<Objects> {
    let disk = std::sync::Arc::new(Disk::of(store.dir.path(), Access::Umask).unwrap());
    std::sync::Arc::new(Objects::open(store.layout.clone(), disk).unwrap().with_compression(true))
}

#[test]
fn a_recipe_of_hundreds_of_parts_is_stored_and_read_at_any_place() {
    let store = TestStore::new();
    let objects = compressing(&store);
    let writer = objects.writer(&store.work()).unwrap();
    let mut thread_writer = writer.thread_writer();
    let parts: Vec<Vec<u8>> = (0..700).map(|n| text(n, if n == 699 { 300 } else { 140_000 + n as usize })).collect();
    let whole = parts.concat();
    let mut sources = Vec::new();
    for part in &parts {
        thread_writer.put_part(Digest::of(part), part).unwrap();
        sources.push(RecipeSource::framed(Digest::of(part), part.len() as u64));
    }
    let extents = (0..).zip(&parts).map(|(source, part)| Extent { source, offset: 0, len: part.len() as u64 });
    let recipe = Recipe { size: whole.len() as u64, sources, extents: extents.collect() };
    let digest = Digest::of(&whole);
    assert!(thread_writer.compose(&recipe, digest, &|| Ok(true)).unwrap().unwrap().new);
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
    let Content::Composed(composed) = store.afresh().content(&digest, recipe.size, None).unwrap() else {
        panic!("composed")
    };
    let mut found = vec![0; whole.len()];
    assert_eq!(composed.read_at(&mut found, 0).unwrap(), whole.len());
    assert!(found == whole);
    for at in (0..whole.len() - 1000).step_by(1_234_567) {
        let mut some = [0; 1000];
        composed.read_at(&mut some, at as u64).unwrap();
        assert!(some == whole[at..at + 1000], "at {at}");
    }
    assert!(composed.memory() < 3 << 20, "{}", composed.memory());
}

#[test]
fn content_that_is_cut_or_grows_while_it_is_read_is_not_stored_as_what_it_is_not() {
    let store = TestStore::new();
    let objects = compressing(&store);
    let mut writer = objects.writer(&store.work()).unwrap();
    writer.compress_large_files();
    let mut thread_writer = writer.thread_writer();
    let bytes = text(1, 3 << 20);
    let reads = std::cell::Cell::new(0);
    let read = |out: &mut [u8], at: u64, cut: usize| {
        reads.set(reads.get() + 1);
        let end = if reads.get() > 10 { cut } else { bytes.len() };
        let from = &bytes[(at as usize).min(end)..end];
        let n = from.len().min(out.len());
        out[..n].copy_from_slice(&from[..n]);
        Ok(n)
    };
    let size = bytes.len() as u64;
    // The samples are read first, then parts.
    let cut = thread_writer.put_in_parts(size, &|out, at| read(out, at, 2 << 20), &mut |_| Ok(())).unwrap();
    assert!(cut.is_none());
    // What is appended is left out: the caller sees that the file has another size.
    let put = thread_writer.put_in_parts(size - 5000, &|out, at| read(out, at, bytes.len()), &mut |_| Ok(()));
    let put = put.unwrap().unwrap();
    assert_eq!((put.size, put.digest), (size - 5000, Digest::of(&bytes[..bytes.len() - 5000])));
    thread_writer.close().unwrap();
    writer.seal(&[], &[]).unwrap();
}

#[test]
fn a_large_file_is_stored_read_only_with_a_fixed_time_and_once() {
    let store = TestStore::on_disk();
    let source = store.dir.path().join("source");
    for (i, len) in [SMALL_MAX as usize, (1 << 20) - 1, 1 << 20, (3 << 20) + 17].into_iter().enumerate() {
        let bytes = random_bytes(i as u64, len);
        std::fs::write(&source, &bytes).unwrap();
        let put = put_file(&store, &source);
        assert_eq!((put.digest, put.size, put.new), (Digest::of(&bytes), len as u64, true));
        let path = store.layout.object(&put.digest);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (OBJECT_MODE, OBJECT_MTIME, 0));
        let Content::Large(large) = store.objects.content(&put.digest, put.size, None).unwrap() else {
            panic!("large")
        };
        assert_eq!(
            std::io::read_to_string(large.into_file()).map_err(|_| ()).unwrap_or_default().len(),
            0,
            "random bytes are not text"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert!(!put_file(&store, &source).new);
    }
    assert_eq!(store.afresh().stored_objects().unwrap().len(), 4);
    assert!(store.packs().is_empty());
}

#[test]
fn holes_stay_holes_and_the_digest_is_that_of_all_bytes() {
    let store = TestStore::on_disk();
    let source = store.dir.path().join("sparse");
    let file = File::create(&source).unwrap();
    file.set_len(20 << 20).unwrap();
    file.write_all_at(&random_bytes(1, 5000), 7 << 20).unwrap();
    file.write_all_at(b"x", (12 << 20) - 1).unwrap();
    let put = put_file(&store, &source);
    assert_eq!(put.size, 20 << 20);
    assert_eq!(put.digest, Digest::of(&std::fs::read(&source).unwrap()));
    let meta = std::fs::metadata(store.layout.object(&put.digest)).unwrap();
    assert_eq!(meta.len(), 20 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    store.objects.open_large(&put.digest, put.size).unwrap().verify().unwrap();
}

#[test]
fn a_copy_that_is_cancelled_or_whose_source_cannot_be_read_leaves_nothing() {
    let store = TestStore::on_disk();
    let source = store.dir.path().join("source");
    for len in [2 << 20, 40 << 20] {
        File::create(&source).unwrap().set_len(len).unwrap();
        let work = store.work();
        let writer = store.objects.writer(&work).unwrap();
        let mut read = 0;
        let mut stop = |n| {
            read += n;
            if read >= len / 2 { Err(crate::Error::io_message("stop")) } else { Ok(()) }
        };
        assert!(writer.thread_writer().put_large(&File::open(&source).unwrap(), &source, &mut stop).is_err());
        assert!(read < len, "it stopped in the middle");
        // Opened for writing only: every read fails.
        let unreadable = File::options().write(true).open(&source).unwrap();
        assert!(writer.thread_writer().put_large(&unreadable, &source, &mut |_| Ok(())).is_err());
        assert!(files(&work).is_empty());
        writer.seal(&[], &[]).unwrap();
    }
    assert!(store.afresh().stored_objects().unwrap().is_empty());
}

#[test]
fn an_object_with_another_time_is_hashed_before_it_is_served_l15() {
    let store = TestStore::on_disk();
    let bytes = random_bytes(3, 400_000);
    let source = store.dir.path().join("source");
    std::fs::write(&source, &bytes).unwrap();
    let put = put_file(&store, &source);
    let path = store.layout.object(&put.digest);
    let damages = || {
        let mut damage = Vec::new();
        let objects = store.afresh();
        objects.stored_objects().unwrap().iter().for_each(|o| objects.check_object(o, &mut damage).unwrap());
        damage
    };
    assert!(damages().is_empty());
    // Touched, right bytes: reported; served when they were hashed, and the time is as recorded from then on.
    set_time(&path, 5);
    assert_eq!(damages(), [Damage::Touched(put.digest)]);
    store.objects.open_large(&put.digest, put.size).unwrap();
    assert!(damages().is_empty());
    // Changed bytes, whatever was hashed before.
    let mut wrong = bytes.clone();
    wrong[300_000] ^= 1;
    overwrite(&path, &wrong);
    assert!(is_damage(&store.objects.open_large(&put.digest, put.size)));
    assert!(is_damage(&store.objects.content(&put.digest, put.size, None)));
    assert!(matches!(&damages()[..], [Damage::Object(..)]));
    // Only `verify` finds damage that leaves size and time unchanged.
    set_time(&path, OBJECT_MTIME as u64);
    let served = store.objects.open_large(&put.digest, put.size).unwrap();
    assert!(is_damage(&served.verify()));
    assert!(matches!(&damages()[..], [Damage::Object(..)]));
    // Another size is never served; a put stores it again.
    overwrite(&path, &bytes[..399_999]);
    set_time(&path, OBJECT_MTIME as u64);
    assert!(is_damage(&store.objects.open_large(&put.digest, put.size)));
    assert!(put_file(&store, &source).new);
    store.objects.open_large(&put.digest, put.size).unwrap().verify().unwrap();
    assert!(damages().is_empty());
}

#[test]
fn a_large_file_that_the_store_has_is_hashed_and_not_copied() {
    let store = TestStore::new();
    let source = store.dir.path().join("source");
    std::fs::write(&source, random_bytes(1, 9 << 20)).unwrap();
    assert!(put_file(&store, &source).new);
    let put = |expect_copy: bool| {
        let work = store.work();
        let writer = store.afresh().writer(&work).unwrap();
        let (mut counted, mut copies, mut first) = (0, 0, None);
        let mut tick = |n| {
            counted += n;
            first.get_or_insert(n);
            copies += files(&work).len();
            Ok(())
        };
        let put = writer.thread_writer().put_large(&File::open(&source).unwrap(), &source, &mut tick).unwrap();
        assert_eq!((put.new, copies > 0), (expect_copy, expect_copy));
        assert_eq!(first == Some(0), !expect_copy, "what has other bytes in a few places is hashed once");
        assert_eq!(counted, if expect_copy { 9 << 20 } else { 0 }, "what is found is counted by who asked");
        writer.seal(&[], &[]).unwrap();
    };
    put(false);
    // Of the same size, and another.
    std::fs::write(&source, random_bytes(2, 9 << 20)).unwrap();
    put(true);
    put(false);
}
