//! Locks of other hosts: their heartbeat counter is watched, and a dead one is noted.

use crate::support::TestStore;
use cairn::internals::lock::{self, HolderStatus};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lock of another host.
fn foreign(test_store: &TestStore) -> PathBuf {
    let path = test_store.store_path().join("locks").join(cairn::types::Token::fresh().as_str());
    beat(&path, 1);
    path
}

fn beat(path: &Path, n: u64) {
    let record = serde_json::json!({
        "beat": format!("{n:012}"),
        "purpose": "upsert",
        "artifact": "e",
        "draft": "j",
        "run": "dead",
        "host": "elsewhere",
        "boot_id": "another",
        "pid": 1,
        "pid_start": 1,
        "user": "u",
        "since": "2026-01-01T00:00:00Z",
    });
    fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
}

fn look(test_store: &TestStore) -> (Vec<HolderStatus>, Duration) {
    let begun = Instant::now();
    let lives = lock::list(&test_store.store()).unwrap().into_iter().map(|l| l.status).collect();
    (lives, begun.elapsed())
}

#[test]
fn a_dead_holder_of_another_host_is_watched_once_and_a_live_one_is_seen_at_its_next_beat() {
    let test_store = TestStore::new();
    let path = foreign(&test_store);
    let (lives, took) = look(&test_store);
    assert!(lives == [HolderStatus::Dead] && took > Duration::from_secs(5), "{lives:?} {took:?}");
    let (lives, took) = look(&test_store);
    assert!(lives == [HolderStatus::Dead] && took < Duration::from_secs(3), "{lives:?} {took:?}");
    // It was only stopped: the note holds an earlier counter value.
    beat(&path, 2);
    let moving = path.clone();
    let mover = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        beat(&moving, 3);
    });
    let (lives, took) = look(&test_store);
    mover.join().unwrap();
    assert!(lives == [HolderStatus::Live] && took < Duration::from_secs(4), "{lives:?} {took:?}");
    // The note is removed with its lock.
    let notes = || fs::read_dir(test_store.store_path().join("locks")).unwrap().count();
    let id = path.file_name().unwrap().to_str().unwrap();
    test_store.ok(&["locks", "--break", id]);
    assert_eq!(notes(), 0);
}
