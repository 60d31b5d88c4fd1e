//! What `cairn mount --stage` does where something is mounted already, and what a mount that fails leaves.

use super::support::{contributions, finished, is_mounted, kill, left, stage};
use crate::support::{TestStore, make_tree, text};
use std::fs::{self, File};
use std::process::Command;

#[test]
fn a_second_mount_of_a_run_at_the_same_place_says_so() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("half"), "half").unwrap();
    let output = staged.mount(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "a d r\n");
    assert!(text(&output.stderr).contains("already mounted"), "{}", text(&output.stderr));
    staged.daemon(); // one
    assert_eq!(fs::read(staged.at("half")).unwrap(), b"half");
    // What needs another mount than that is refused, with a way on that seals nothing.
    for more in [&["--fresh"][..], &["--foreground"]] {
        let output = staged.mount(more);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(&format!("cairn umount --no-seal {}", staged.mnt.display())), "{stderr}");
    }
    staged.sealed();
    let stderr = text(&staged.mount(&[]).stderr);
    assert!(stderr.contains("is sealed") && stderr.contains("--no-seal"), "{stderr}");
}

#[test]
fn after_a_dead_rank_the_documented_steps_publish_no_half_written_run() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    fs::write(staged.at("half"), "half").unwrap();
    let other = test_store.path("other");
    fs::create_dir(&other).unwrap();
    let args = ["mount", other.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"];
    let stderr = text(&test_store.run(&args, 3).stderr);
    let hint = format!("`cairn umount --no-seal {}`", staged.mnt.display());
    assert!(stderr.contains(&hint), "{hint} in {stderr}");
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    assert_eq!(contributions(&test_store, "r"), 0);
    test_store.run(&["finish", "a", "--distributed-id", "d"], 3);
    test_store.ok(&args);
    assert_eq!(fs::read(other.join("half")).unwrap(), b"half");
    test_store.ok(&["umount", other.to_str().unwrap()]);
}

#[test]
fn a_mount_over_what_a_killed_daemon_left_takes_it_away_and_resumes() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("f", b"f")]);
    test_store.ok(&["put", "v", "src"]);
    let staged = stage(&test_store, "r");
    let file = File::create(staged.at("synced")).unwrap();
    file.sync_all().unwrap();
    kill(staged.daemon(), libc::SIGKILL);
    drop(file);
    assert!(staged.mount(&[]).status.success());
    assert!(staged.at("synced").exists());
    let stacked = || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|l| l.split(' ').nth(4) == staged.mnt.to_str())
            .count()
    };
    assert_eq!(stacked(), 1, "the dead one is gone");
    let mnt = staged.mnt.to_str().unwrap();
    kill(staged.daemon(), libc::SIGKILL);
    assert!(Command::new("umount").arg("-l").arg(mnt).status().unwrap().success());
    for args in [&["mount", mnt][..], &["mount", mnt, "v:v0"]] {
        test_store.ok(args);
        kill(staged.daemon(), libc::SIGKILL);
        test_store.ok(args);
        assert!(fs::read_dir(&staged.mnt).unwrap().count() > 0 && stacked() == 1, "{args:?}");
        test_store.ok(&["umount", mnt]);
    }
}

#[test]
fn a_mount_that_fails_leaves_no_run_that_finish_would_wait_for() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["upsert", "a", "src", "--distributed-id", "d", "--run", "good"]);
    let mnt = test_store.path("mnt");
    fs::create_dir(&mnt).unwrap();
    let args = ["mount", mnt.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "failed"];
    let without_fuse = |args: &[&str]| {
        let cairn = test_store.cairn(args);
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            "mount --bind /dev/null /dev/fuse && exec \"$@\"",
            "sh",
        ]);
        command.arg(cairn.get_program()).args(cairn.get_args()).current_dir(test_store.dir.path());
        command.envs(cairn.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.output().unwrap()
    };
    let output = without_fuse(&args);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(!is_mounted(&mnt) && left(&test_store).is_empty(), "{:?}", left(&test_store));
    // What a run had before stays.
    let staged = stage(&test_store, "kept");
    fs::write(staged.at("kept"), "kept").unwrap();
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    let again = ["mount", mnt.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "kept"];
    assert_eq!(without_fuse(&again).status.code(), Some(5));
    test_store.run(&["finish", "a", "--distributed-id", "d"], 3);
    test_store.ok(&["upsert", "a", "--distributed-id", "d", "--run", "kept"]);
    assert_eq!(finished(&test_store).len(), 2);
}
