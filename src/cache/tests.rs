//! Tests of the cache: sharing, trimming, damage, content that is read through it.

use super::super::BLOCK;
use super::super::reading::Item;
use super::*;
use crate::cache::Usage;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

fn open(dir: &Path, limit: u64) -> Cache {
    Cache::open(dir, Some(limit)).unwrap()
}

fn record(cache: &Cache, key: &[u8], bytes: &[u8]) {
    let mut write = |file: &mut File| file.write_all(bytes).map_err(|e| Error::io("write", Path::new("x"), e));
    cache.put(&Digest::of(key), &mut write).unwrap();
}

fn text(cache: &Cache, key: &[u8]) -> Option<String> {
    let mut text = String::new();
    cache.get(&Digest::of(key))?.read_to_string(&mut text).unwrap();
    Some(text)
}

/// A source that counts what is fetched from it.
struct Source(Vec<u8>, AtomicUsize);

impl Source {
    fn new(len: usize) -> Source {
        Source((0..len).map(|i| (i * 7 + i / 251) as u8).collect(), AtomicUsize::new(0))
    }

    fn item(&self) -> Item {
        Item { key: Digest::of(&self.0), size: self.0.len() as u64 }
    }

    /// Reads a range through the cache and compares it; says how many blocks were fetched.
    fn read(&self, cache: &Cache, range: Range<usize>) -> usize {
        let fetch = |range: Range<u64>| {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(self.0[range.start as usize..range.end as usize].to_vec())
        };
        let mut out = vec![0; range.len()];
        cache.read_through(&self.item(), range.start as u64, &mut out, &fetch).unwrap();
        assert!(out == self.0[range]);
        self.1.swap(0, Ordering::Relaxed)
    }
}

const MIB: usize = BLOCK as usize;

#[test]
fn two_caches_on_one_directory_share_content_and_records() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a/b");
    let (one, two) = (open(&dir, 100 << 20), open(&dir, 100 << 20));
    assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700, "for this user alone");
    record(&one, b"k", b"hello");
    assert_eq!(text(&two, b"k").as_deref(), Some("hello"));
    let source = Source::new(3 * MIB + 5);
    assert_eq!(source.read(&one, MIB - 3..MIB + 3), 2);
    assert_eq!(source.read(&two, 0..2 * MIB), 0);
    assert_eq!(source.read(&two, 3 * MIB + 1..3 * MIB + 5), 1);
    assert_eq!(source.read(&one, 0..3 * MIB + 5), 1, "one block was missing");
    assert_eq!(one.size_of(&source.item().key), Some(source.item().size));
}

/// A process that looks for a content while another one publishes it must not take it for a broken one.
#[test]
fn what_one_process_publishes_another_one_does_not_remove() {
    let tmp = tempfile::tempdir().unwrap();
    let (one, two) = (open(tmp.path(), 100 << 20), open(tmp.path(), 100 << 20));
    let items: Vec<Item> = (0..2000u32).map(|n| Item { key: Digest::of(&n.to_le_bytes()), size: 1 }).collect();
    let turn = AtomicUsize::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            while let Some(item) = items.get(turn.load(Ordering::Acquire)) {
                two.has(item, 0);
            }
        });
        for item in &items {
            one.fill(item, 0, b"x");
            turn.fetch_add(1, Ordering::Release);
        }
    });
    let later = open(tmp.path(), 100 << 20);
    let lost = items.iter().filter(|item| !later.has(item, 0)).count();
    assert_eq!(lost, 0);
}

/// Several find the same damage. One of them repairs it, and the others do not remove what it has made.
#[test]
fn damage_that_many_find_at_once_is_repaired_once() {
    let tmp = tempfile::tempdir().unwrap();
    let source = Source::new(77);
    let key = source.item().key;
    let first = open(tmp.path(), 100 << 20);
    source.read(&first, 0..77);
    for _ in 0..300 {
        let sums = first.place(&key).join("sums");
        File::options().write(true).open(&sums).unwrap().write_all(b"damaged").unwrap();
        let gate = std::sync::Barrier::new(4);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let cache = open(tmp.path(), 100 << 20);
                    gate.wait();
                    cache.has(&source.item(), 0);
                    cache.fill(&source.item(), 0, &source.0);
                });
            }
        });
        assert!(open(tmp.path(), 100 << 20).has(&source.item(), 0));
    }
}

#[test]
fn damage_of_any_part_is_read_again_from_the_source() {
    let tmp = tempfile::tempdir().unwrap();
    let source = Source::new(2 * MIB + 77);
    let all = 0..2 * MIB + 77;
    let cache = open(tmp.path(), 100 << 20);
    source.read(&cache, all.clone());
    let dir = cache.place(&source.item().key);
    let flip = |name: &str, at: u64| {
        let file = File::options().read(true).write(true).open(dir.join(name)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    };
    for (name, at) in [("data", 5), ("data", 2 * BLOCK + 70), ("sums", 64), ("sums", 64 + 2 * 8 + 5)] {
        flip(name, at);
        assert_eq!(source.read(&cache, all.clone()), 1, "{name} {at}: in the process that has read it");
        assert_eq!(source.read(&cache, all.clone()), 0);
        flip(name, at);
        let other = open(tmp.path(), 100 << 20);
        assert_eq!(source.read(&other, all.clone()), 1, "{name} {at}");
    }
    for at in [0, 9, 17, 21] {
        flip("sums", at);
        assert_eq!(source.read(&open(tmp.path(), 100 << 20), all.clone()), 3, "header {at}");
    }
    std::fs::write(dir.join("data"), b"").unwrap();
    assert_eq!(source.read(&open(tmp.path(), 100 << 20), all.clone()), 3);
    std::fs::remove_file(dir.join("data")).unwrap();
    assert_eq!(source.read(&open(tmp.path(), 100 << 20), all.clone()), 3);
    assert_eq!(source.read(&cache, all), 0);
}

#[test]
fn whole_content_is_offered_after_its_digest_was_checked_and_not_after_a_change() {
    let tmp = tempfile::tempdir().unwrap();
    let source = Source::new(2 * MIB);
    let (cache, item) = (open(tmp.path(), 100 << 20), source.item());
    source.read(&cache, 0..MIB);
    assert!(!cache.may_be_whole(&item) && !cache.check_whole(&item, Some(&item.key)));
    source.read(&cache, 0..2 * MIB);
    assert!(cache.may_be_whole(&item) && cache.whole(&item).is_none());
    assert!(cache.check_whole(&item, Some(&item.key)));
    assert!(!cache.may_be_whole(&item) && open(tmp.path(), 100 << 20).whole(&item).is_some());
    let data = cache.place(&item.key).join("data");
    File::options().write(true).open(data).unwrap().write_all_at(b"?", 7).unwrap();
    assert!(cache.whole(&item).is_none());
    assert!(!cache.check_whole(&item, Some(&item.key)), "a block is damaged");
    assert_eq!(source.read(&cache, 0..2 * MIB), 1);
    assert!(!cache.check_whole(&item, Some(&Digest::of(b"another"))), "what has another digest is removed");
    assert_eq!(source.read(&cache, 0..2 * MIB), 2);
}

#[test]
fn over_its_limit_it_loses_what_was_used_least_recently_and_what_dead_writers_left() {
    let tmp = tempfile::tempdir().unwrap();
    let cache = open(tmp.path(), 100 << 10);
    let old = SystemTime::now() - Duration::from_secs(7200);
    let left = cache.dir.create(TEMPORARY).unwrap();
    left.0.set_modified(old).unwrap();
    let left_dir = cache.dir.create_filled_dir(TEMPORARY, &[("data", 5, b"x")]).unwrap();
    File::open(&left_dir).unwrap().set_modified(old).unwrap();
    let foreign = tmp.path().join(TEMPORARY).join("thesis.txt");
    File::create(&foreign).unwrap().set_modified(old).unwrap();
    for i in 0..20u8 {
        record(&cache, &[i], &[i; 8 << 10]);
        let path = cache.place(&Digest::of(&[i]));
        File::open(path).unwrap().set_modified(old + Duration::from_secs(i.into())).unwrap();
        assert!(text(&cache, &[0]).is_some(), "it is used again and again");
    }
    let usage = cache.usage().unwrap();
    assert!(usage.bytes <= 100 << 10 && usage.entries >= 8, "{usage:?}");
    assert!(text(&cache, &[19]).is_some() && text(&cache, &[1]).is_none());
    assert!(!left.1.exists() && !left_dir.exists());
    assert!(foreign.exists(), "it is not the cache's own");
    assert_eq!(cache.trim(0).unwrap().left, Usage::default());
}

#[test]
fn content_that_was_trimmed_by_another_process_is_cached_again_and_large_content_in_parts() {
    let tmp = tempfile::tempdir().unwrap();
    let (one, two) = (open(tmp.path(), 1 << 30), open(tmp.path(), 1 << 30));
    let source = Source::new(4 * MIB);
    source.read(&one, 0..4 * MIB);
    assert_eq!(two.trim(0).unwrap().removed.entries, 1);
    assert_eq!(source.read(&one, 0..4 * MIB), 4);
    assert_eq!(source.read(&two, 0..4 * MIB), 0);
    two.trim(0).unwrap();
    let small = open(tmp.path(), 10 << 20);
    assert_eq!(source.read(&small, 0..4 * MIB), 4);
    assert_eq!(source.read(&small, 0..4 * MIB), 0);
    assert!(small.size_of(&source.item().key).is_none() && !small.may_be_whole(&source.item()));
}

#[test]
fn the_limit_of_a_directory_is_the_one_that_was_set_last() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("c");
    let one = Cache::for_stores(&dir, Some(5 << 20)).unwrap();
    let two = Cache::for_stores(&dir, None).unwrap();
    assert_eq!((one.limit(), two.limit()), (5 << 20, 5 << 20));
    Cache::for_stores(&dir, Some(7 << 20)).unwrap();
    assert_eq!((one.limit(), two.limit()), (7 << 20, 7 << 20));
    assert_eq!(open(&dir, 3).limit(), 3, "for this process alone");
}

#[test]
fn one_process_fills_a_key_and_the_lock_ends_with_its_holder() {
    let tmp = tempfile::tempdir().unwrap();
    let (one, two) = (open(tmp.path(), 1), open(tmp.path(), 1));
    let key = Digest::of(b"k");
    let held = one.lock(&key, Duration::ZERO).unwrap();
    assert!(two.lock(&key, Duration::from_millis(20)).is_none());
    assert!(two.lock(&Digest::of(b"other"), Duration::ZERO).is_some());
    drop(held);
    assert!(two.lock(&key, Duration::ZERO).is_some());
}

#[test]
fn the_caches_of_puts_stay_on_only_if_every_answer_is_yes() {
    for (value, off) in [
        ("", false),
        ("on", false),
        ("1", false),
        ("off", true),
        ("OFF", true),
        ("0", true),
        ("no", true),
        ("of", true),
    ] {
        assert_eq!(turns_off(value.as_ref()), off, "{value}");
    }
}
