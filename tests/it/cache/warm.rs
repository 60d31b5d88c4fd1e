//! `cairn warm` and `mount --warm`.

use super::support::{Cached, flip, until};
use crate::support::*;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// How many bytes of a file are in the page cache.
fn resident(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len() as usize;
    // SAFETY: a new map of an open file, which is unmapped below; mincore gets a byte for each of its pages.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert!(at != libc::MAP_FAILED);
        let mut pages = vec![0_u8; len.div_ceil(4096)];
        assert_eq!(libc::mincore(at, len, pages.as_mut_ptr()), 0);
        libc::munmap(at, len);
        pages.iter().filter(|page| **page & 1 == 1).count() as u64 * 4096
    }
}

/// Drops the pages of all files of the store from the page cache; what is in it after that.
fn forget(cached: &Cached) -> u64 {
    let content: Vec<_> =
        ["objects", "packs"].iter().flat_map(|dir| files(&cached.test.store_path().join(dir))).collect();
    for path in &content {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        // SAFETY: the descriptor is open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    content.iter().map(|path| resident(path)).sum()
}

fn in_memory(cached: &Cached) -> (u64, u64) {
    let content = ["objects", "packs"].iter().flat_map(|dir| files(&cached.test.store_path().join(dir)));
    content.fold((0, 0), |(found, all), path| (found + resident(&path), all + path.metadata().unwrap().len()))
}

#[test]
fn warm_reads_the_content_into_the_page_cache() {
    let cached = Cached::new();
    if forget(&cached) > 0 {
        println!("skipped: this file system keeps its pages");
        return;
    }
    let part = cached.test.json(&["warm", "x", "--path", "large/b"]);
    assert_eq!((part["files"].as_u64(), part["bytes"].as_u64()), (Some(1), Some(200_000)));
    let (found, all) = in_memory(&cached);
    assert!(found >= 200_000 && found < all / 2, "{found} of {all}");
    forget(&cached);
    let whole = cached.test.json(&["warm", "x", "--threads", "3"]);
    assert_eq!((whole["artifact"].as_str(), whole["version"].as_str()), (Some("x"), Some("v0")));
    assert_eq!((whole["files"].as_u64(), whole["skipped"].as_u64()), (Some(303), Some(0)));
    let (found, all) = in_memory(&cached);
    assert!(found >= all / 100 * 98, "{found} of {all}");
    let missing = cached.test.run(&["warm", "x", "--path", "none"], 6);
    assert!(text(&missing.stderr).contains("there is no none in x:v0"));
}

#[test]
fn warm_fills_a_cache_and_heals_it_and_the_kernel_can_read_its_whole_files_at_once() {
    let cached = Cached::new();
    assert_eq!(cached.test.ok(&["warm", "x", "--cache", cached.dir()]), "x:v0");
    cached.hide_store();
    cached.mount("mnt", &[]).is_right();
    cached.show_store();
    let whole = cached.files_named("sums").iter().filter(|f| std::fs::read(f).unwrap()[24..52] != [0; 28]).count();
    assert_eq!(whole, 3, "the large files");
    cached.files_named("data").iter().for_each(|file| flip(file, 500));
    cached.test.ok(&["warm", "x", "--cache", cached.dir()]);
    cached.hide_store();
    cached.mount("mnt", &["--io", "passthrough"]).is_right();
    cached.show_store();
    let small = cached.test.run(&["warm", "x", "--cache", cached.dir(), "--cache-size", "2M"], 0);
    assert!(text(&small.stderr).contains("only a part of it stays there"), "{}", text(&small.stderr));
}

#[test]
fn a_mount_can_warm_its_version_in_the_background() {
    let cached = Cached::new();
    let mounted = cached.mount("mnt", &["--warm"]);
    let log = cached.test.path("mnt.log");
    until("all is read", || std::fs::read_to_string(&log).unwrap_or_default().contains("303 files were read ahead"));
    cached.hide_store();
    mounted.is_right();
    drop(mounted);
    cached.show_store();
    let out = cached.test.run(&["mount", "mnt", "--warm"], 2);
    assert!(text(&out.stderr).contains("--warm"), "{}", text(&out.stderr));
}

#[test]
fn references_are_warmed_if_they_are_asked_for() {
    use crate::references::{Server, cairn};
    let (cached, server) = (Cached::new(), Server::start());
    server.put("bucket/far", &random_bytes(9, 2 << 20));
    let run = |args: &[&str]| {
        let out = cairn(&cached.test, &server, args).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    run(&["put", "r", "s3://bucket/far", "--json"]);
    server.counted();
    let skipped = run(&["warm", "r", "--cache", cached.dir(), "--json"]);
    assert_eq!((skipped["files"].as_u64(), skipped["skipped"].as_u64(), server.counted().1), (Some(0), Some(1), 0));
    for fetched in [2 << 20, 0] {
        assert_eq!(run(&["warm", "r", "--cache", cached.dir(), "--references", "--json"])["files"], 1);
        assert_eq!(server.counted().1, fetched);
    }
}

#[test]
fn a_cache_is_not_made_in_a_store_or_among_files_of_something_else() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("mine"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "mine"]);
    for (dir, why) in
        [("store", "it is a store"), ("store/new", "inside a store"), ("mine", "not empty"), (".", "not empty")]
    {
        let refused = text(&test_store.run(&["warm", "x", "--cache", dir], 2).stderr);
        assert!(refused.contains(why), "{dir}: {refused}");
        assert!(!test_store.path(dir).join("CACHEDIR.TAG").exists(), "{dir}");
    }
    std::fs::create_dir(test_store.path("empty")).unwrap();
    for dir in ["empty", "empty", "new/below"] {
        test_store.ok(&["warm", "x", "--cache", dir]);
        assert!(test_store.path(dir).join("CACHEDIR.TAG").exists());
    }
}
