//! What `cairn umount` does with a contribution: it is sealed, or the mount stays and the reason is given, or it is
//! said to be left open.

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
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    let mnt = staged.mnt.to_str().unwrap();
    fs::write(staged.at("result"), "result").unwrap();
    fifo(&staged.at("pipe"));
    let said = text(&lab.run(&["umount", mnt], 2).stderr);
    assert!(said.contains(": pipe") && said.contains("--no-seal"), "{said}");
    assert!(is_mounted(&staged.mnt) && contributions(&lab, "r") == 0);
    let said = text(&lab.run(&SEAL, 2).stderr);
    assert!(said.contains(": pipe"), "an upsert gives the daemon's reason: {said}");
    fs::remove_file(staged.at("pipe")).unwrap();
    let held = fs::File::create(staged.at("held")).unwrap();
    let said = text(&lab.run(&["umount", mnt], 3).stderr);
    assert!(said.contains("held is open for writing") && is_mounted(&staged.mnt), "{said}");
    drop(held);
    let said = text(&lab.run(&["umount", mnt], 0).stderr);
    assert!(said.contains("sealed: a d r: 2 files"), "{said}");
    assert_eq!(finished(&lab)[&b"result"[..]], b"- result");
}

#[test]
fn a_refusal_with_long_names_of_any_alphabet_keeps_its_status_and_names_the_file() {
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    let mut directory = staged.mnt.clone();
    for _ in 0..7 {
        directory.push("文件".repeat(42));
    }
    fs::create_dir_all(&directory).unwrap();
    let _held: Vec<_> = (0..3).map(|i| fs::File::create(directory.join(format!("数据{i}"))).unwrap()).collect();
    let said = text(&staged.seal().stderr);
    assert!(said.contains("文件") && said.contains("open for writing"), "{said}");
    lab.run(&["seal", staged.mnt.to_str().unwrap()], 3);
}

#[test]
fn what_is_left_open_is_said_with_the_way_on() {
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    fs::write(staged.at("x"), "x").unwrap();
    let said = text(&lab.run(&["umount", "--no-seal", staged.mnt.to_str().unwrap()], 0).stderr);
    for part in [
        "left open: a d r",
        "cairn mount MNT a --stage --distributed-id d --run r",
        "cairn upsert a --distributed-id d --run r",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn an_unmount_of_a_directory_in_a_mount_seals_nothing() {
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    fs::create_dir(staged.at("sub")).unwrap();
    lab.run(&["umount", staged.at("sub").to_str().unwrap()], 6);
    assert!(contributions(&lab, "r") == 0 && is_mounted(&staged.mnt));
}

#[test]
fn the_unmount_of_a_killed_stores_mount_names_the_runs_that_it_had() {
    let lab = TestStore::new();
    let mnt = lab.path("all");
    fs::create_dir(&mnt).unwrap();
    let at = mnt.to_str().unwrap();
    lab.ok(&["mount", at]);
    fs::create_dir_all(mnt.join(".staging/a/d/r")).unwrap();
    fs::write(mnt.join(".staging/a/d/r/x"), "x").unwrap();
    kill(super::support::daemons(&mnt)[0], libc::SIGKILL);
    let said = text(&lab.run(&["umount", at], 0).stderr);
    assert!(said.contains("left open: a d r") && !is_mounted(&mnt), "{said}");
    lab.ok(&SEAL);
    assert_eq!(finished(&lab)[&b"x"[..]], b"- x");
}
