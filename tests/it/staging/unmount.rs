//! What `cairn umount` does with a contribution: it is sealed, or the mount stays and the reason is given, or it is
//! listed as left open.

use super::support::{contributions, finished, is_mounted, kill, stage};
use crate::support::{TestStore, text};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SEAL: [&str; 6] = ["upsert", "a", "--run", "r", "--distributed-id", "d"];

pub fn fifo(at: &Path) {
    let path = CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: a valid C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn an_unmount_that_cannot_seal_leaves_the_mount_and_says_why() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let mnt = staged.mnt.to_str().unwrap();
    fs::write(staged.at("result"), "result").unwrap();
    fifo(&staged.at("pipe"));
    let stderr = text(&test_store.run(&["umount", mnt], 2).stderr);
    assert!(stderr.contains(": pipe") && stderr.contains("--no-seal"), "{stderr}");
    assert!(is_mounted(&staged.mnt) && contributions(&test_store, "r") == 0);
    let stderr = text(&test_store.run(&SEAL, 2).stderr);
    assert!(stderr.contains(": pipe"), "an upsert gives the daemon's reason: {stderr}");
    fs::remove_file(staged.at("pipe")).unwrap();
    let held = fs::File::create(staged.at("held")).unwrap();
    let stderr = text(&test_store.run(&["umount", mnt], 3).stderr);
    assert!(stderr.contains("held is open for writing") && is_mounted(&staged.mnt), "{stderr}");
    drop(held);
    let stderr = text(&test_store.run(&["umount", mnt], 0).stderr);
    assert!(stderr.contains("sealed: a d r: 2 files"), "{stderr}");
    assert_eq!(finished(&test_store)[&b"result"[..]], b"- result");
}

#[test]
fn a_refusal_with_long_names_of_any_alphabet_keeps_its_status_and_names_the_file() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let mut directory = staged.mnt.clone();
    for _ in 0..7 {
        directory.push("文件".repeat(42));
    }
    fs::create_dir_all(&directory).unwrap();
    let _held: Vec<_> = (0..3).map(|i| fs::File::create(directory.join(format!("数据{i}"))).unwrap()).collect();
    let stderr = text(&staged.seal().stderr);
    assert!(stderr.contains("文件") && stderr.contains("open for writing"), "{stderr}");
    test_store.run(&["seal", staged.mnt.to_str().unwrap()], 3);
}

#[test]
fn an_unmount_names_what_is_left_open_and_how_to_continue() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("x"), "x").unwrap();
    let stderr = text(&test_store.run(&["umount", "--no-seal", staged.mnt.to_str().unwrap()], 0).stderr);
    for part in [
        "left open: a d r",
        "cairn mount MNT a --stage --distributed-id d --run r",
        "cairn upsert a --distributed-id d --run r",
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

#[test]
fn an_unmount_of_a_directory_in_a_mount_seals_nothing() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::create_dir(staged.at("sub")).unwrap();
    test_store.run(&["umount", staged.at("sub").to_str().unwrap()], 6);
    assert!(contributions(&test_store, "r") == 0 && is_mounted(&staged.mnt));
}

#[test]
fn the_unmount_of_a_killed_stores_mount_names_the_runs_that_it_had() {
    let test_store = TestStore::new();
    let mnt = test_store.path("all");
    fs::create_dir(&mnt).unwrap();
    let at = mnt.to_str().unwrap();
    test_store.ok(&["mount", at]);
    fs::create_dir_all(mnt.join(".staging/a/d/r")).unwrap();
    fs::write(mnt.join(".staging/a/d/r/x"), "x").unwrap();
    kill(crate::support::daemons(&mnt)[0], libc::SIGKILL);
    let stderr = text(&test_store.run(&["umount", at], 0).stderr);
    assert!(stderr.contains("left open: a d r") && !is_mounted(&mnt), "{stderr}");
    test_store.ok(&SEAL);
    assert_eq!(finished(&test_store)[&b"x"[..]], b"- x");
}
