//! Large files under new names that share bytes with a file near them in the newest version: only what is new is
//! stored.

use crate::composed::bytes_read;
use crate::support::{TestStore, make_tree, random_bytes};
use std::fs;

const MIB: usize = 1 << 20;

/// Puts exactly these files; returns how many bytes are new.
fn put(test_store: &TestStore, tree: &[(&str, &[u8])]) -> u64 {
    let _ = fs::remove_dir_all(test_store.path("d"));
    make_tree(&test_store.path("d"), tree);
    test_store.ok(&["put", "a", "d"]);
    for (path, bytes) in tree {
        assert!(test_store.run(&["cat", "a", path], 0).stdout == *bytes, "{path}");
    }
    test_store.store().version("a").unwrap().record().new_bytes
}

#[test]
fn a_file_of_the_next_day_or_step_shares_with_the_one_before() {
    let test_store = TestStore::new();
    let (first, more) = (random_bytes(1, 2 * MIB), random_bytes(2, 90_000));
    let grown = [&first[..], &more].concat();
    // A cumulative export, the file before kept and not kept.
    put(&test_store, &[("day-2026-11-30.parquet", &first), ("small", b"small")]);
    let kept = put(&test_store, &[("day-2026-11-30.parquet", &first), ("day-2026-12-01.parquet", &grown)]);
    assert!(kept < 100_000, "{kept}");
    let moved = [&random_bytes(3, 50)[..], &grown].concat();
    let alone = put(&test_store, &[("day-2026-12-02.parquet", &moved)]);
    assert!(alone < 10_000, "{alone}");
    // Checkpoints: the directory has the number.
    put(&test_store, &[("run/step-1000/model", &first), ("run/step-1000/other", b"other")]);
    let tuned = [&first[..MIB], &random_bytes(4, 60_000), &first[MIB + 60_000..]].concat();
    let step = put(&test_store, &[("run/step-1000/model", &first), ("run/step-2000/model", &tuned)]);
    assert!(step < 70_000, "{step}");
    // A directory that was renamed, two above the file.
    let run = put(&test_store, &[("run-2/step-1000/model", &moved)]);
    assert!(run < 100_000, "{run}");
    test_store.clean("at the end");
}

#[test]
fn a_renamed_file_that_was_changed_shares_with_what_it_was_and_a_log_with_what_was_rotated() {
    let test_store = TestStore::new();
    let log = random_bytes(1, 2 * MIB);
    put(&test_store, &[("log", &log), ("log.1", &random_bytes(2, 2 * MIB)), ("table.csv", &random_bytes(3, 2 * MIB))]);
    let today = random_bytes(4, 2 * MIB);
    let rotated = [&log[..], &random_bytes(5, 30_000)].concat();
    let renamed = [&random_bytes(3, 2 * MIB)[..], b"more"].concat();
    // At the path `log.1` there is a file, which is another one.
    let new = put(&test_store, &[("log", &today), ("log.1", &rotated), ("data.csv", &renamed)]);
    assert!(new < (2 * MIB + 40_000) as u64, "{new}");
    test_store.clean("at the end");
}

#[test]
fn new_files_that_resemble_none_are_stored_whole_and_few_of_them_are_compared() {
    let test_store = TestStore::new();
    let bytes: Vec<Vec<u8>> = (0..60).map(|i| random_bytes(i, MIB + i as usize)).collect();
    let named: Vec<String> = (0..60).map(|i| format!("image-{i:03}.raw")).collect();
    let tree = |range: std::ops::Range<usize>| {
        range.map(|i| (named[i].as_str(), &bytes[i][..])).collect::<Vec<(&str, &[u8])>>()
    };
    put(&test_store, &tree(0..30));
    fs::remove_dir_all(test_store.path("d")).unwrap();
    make_tree(&test_store.path("d"), &tree(30..60));
    let Some(read) = bytes_read(&test_store, &["put", "a", "d"]) else { return };
    assert!(read < 40 * MIB as u64, "{read} bytes were read for files of 30 MiB");
    assert_eq!(
        test_store.store().version("a").unwrap().record().new_bytes,
        (30..60).map(|i| MIB as u64 + i).sum::<u64>()
    );
    test_store.clean("at the end");
}
