//! Who may change, seal and discard a run's files: one mount at a time, none after the draft is finished, and no user
//! who cannot read all of them.

use super::support::{LARGE, contributions, finished, kill, left, stage};
use crate::support::{TestStore, copy_program, make_tree, random_bytes, text};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const SEAL: [&str; 6] = ["upsert", "a", "--run", "r", "--distributed-id", "d"];
const NOBODY: u32 = 65_534;

fn signal(pid: u32, signal: i32) {
    // SAFETY: a signal to a daemon that this test started.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// Waits until changes are refused as those of a read-only file system are, for some seconds.
fn becomes_read_only(change: impl Fn() -> std::io::Result<()>) {
    let until = Instant::now() + Duration::from_secs(10);
    while change().err().and_then(|e| e.raw_os_error()) != Some(libc::EROFS) {
        assert!(Instant::now() < until, "changes are taken ten seconds later");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Takes the lock of a live mount away, so that another takes the run over.
fn break_locks(test_store: &TestStore) {
    for lock in fs::read_dir(test_store.store_path().join("locks")).unwrap().flatten() {
        fs::remove_file(lock.path()).unwrap();
    }
}

fn mount_elsewhere(test_store: &TestStore) -> std::path::PathBuf {
    let other = test_store.path("other");
    fs::create_dir_all(&other).unwrap();
    test_store.ok(&["mount", other.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"]);
    other
}

#[test]
fn a_mount_whose_run_was_taken_over_takes_no_more_changes() {
    for stopped in [false, true] {
        let test_store = TestStore::new();
        let staged = stage(&test_store, "r");
        fs::write(staged.at("before"), "before").unwrap();
        if stopped {
            signal(staged.daemon(), libc::SIGSTOP);
        }
        break_locks(&test_store);
        let other = mount_elsewhere(&test_store);
        if stopped {
            // Longer than an answer of the store is good for: the very next change is refused.
            std::thread::sleep(Duration::from_secs(5));
            signal(staged.daemon(), libc::SIGCONT);
            let e = fs::write(staged.at("after"), "after").unwrap_err();
            assert_eq!(e.raw_os_error(), Some(libc::EROFS));
            assert!(!other.join("after").exists());
        } else {
            becomes_read_only(|| fs::write(staged.at("after"), "after"));
        }
        fs::write(other.join("other"), "other").unwrap();
        let stderr = text(&test_store.run(&["umount", staged.mnt.to_str().unwrap()], 3).stderr);
        assert!(stderr.contains("taken the run over") && contributions(&test_store, "r") == 0, "{stderr}");
        test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
        test_store.ok(&["umount", other.to_str().unwrap()]);
        assert_eq!(finished(&test_store)[&b"other"[..]], b"- other");
    }
}

#[test]
fn a_mount_whose_run_was_sealed_elsewhere_takes_no_more_changes() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let mut open = fs::File::create(staged.at("f")).unwrap();
    open.write_all(b"f").unwrap();
    break_locks(&test_store);
    test_store.ok(&SEAL);
    becomes_read_only(|| fs::write(staged.at("after"), "after"));
    assert_eq!(finished(&test_store).into_keys().collect::<Vec<_>>(), [b"f".to_vec()]);
}

#[test]
fn a_finish_that_did_not_wait_ends_the_changes_of_a_run_and_its_unmount_says_where_the_files_are() {
    let test_store = TestStore::new();
    let staged = stage(&test_store, "r");
    let mnt = staged.mnt.to_str().unwrap();
    fs::write(staged.at("late"), "late").unwrap();
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["upsert", "a", "src", "--run", "early", "--distributed-id", "d"]);
    test_store.ok(&["finish", "a", "--distributed-id", "d", "--skip-open"]);
    becomes_read_only(|| fs::write(staged.at("more"), "more"));
    assert_eq!(fs::read(staged.at("late")).unwrap(), b"late");
    let directory = staged.backing();
    for args in [&["umount", mnt][..], &["seal", mnt]] {
        let stderr = text(&test_store.run(args, 3).stderr);
        assert!(stderr.contains("finished as a:v0") && stderr.contains(directory.to_str().unwrap()), "{stderr}");
    }
    assert_eq!(test_store.ok(&["drafts", "--all"]), "", "what is mounted is not left");
    let stderr = text(&test_store.run(&["umount", "--no-seal", mnt], 0).stderr);
    assert!(
        stderr.contains("cairn draft drop a d --run r") && stderr.contains(directory.to_str().unwrap()),
        "{stderr}"
    );
    assert_eq!(test_store.ok(&["drafts"]), "");
    let left_over = test_store.json(&["drafts", "--all"]);
    assert_eq!((&left_over[0]["run"], &left_over[0]["left_at"]), (&"r".into(), &directory.to_str().unwrap().into()));
    let shown = test_store.ok(&["drafts", "--all"]);
    assert!(
        shown.contains("cairn draft drop a d --run r") && shown.contains(left_over[0]["since"].as_str().unwrap()),
        "{shown}"
    );
    test_store.ok(&["draft", "drop", "a", "d", "--run", "r"]);
    assert!(left(&test_store).is_empty() && test_store.ok(&["drafts", "--all"]).is_empty(), "{:?}", left(&test_store));
    assert_eq!(test_store.ok(&["ls", "a"]), "x");
}

#[test]
fn a_draft_with_only_an_open_run_is_discarded_and_a_mounted_one_is_not() {
    let test_store = TestStore::new();
    for args in [&["draft", "discard", "a", "d"][..], &["draft", "drop", "a", "d", "--run", "r"]] {
        let staged = stage(&test_store, "r");
        let mnt = staged.mnt.to_str().unwrap();
        fs::write(staged.at("x"), "x").unwrap();
        let stderr = text(&test_store.run(args, 3).stderr);
        assert!(stderr.contains("is held by process"), "{stderr}");
        test_store.ok(&["umount", "--no-seal", mnt]);
        test_store.ok(args);
        assert!(left(&test_store).is_empty() && test_store.ok(&["drafts"]).is_empty(), "{:?}", left(&test_store));
        test_store.run(args, 6);
    }
    // Contributions and what is open go together.
    make_tree(&test_store.path("src"), &[("x", b"x")]);
    test_store.ok(&["upsert", "a", "src", "--run", "r", "--distributed-id", "d"]);
    let staged = stage(&test_store, "r");
    fs::write(staged.at("large"), random_bytes(1, LARGE)).unwrap();
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    test_store.ok(&["draft", "discard", "a", "d"]);
    assert!(left(&test_store).is_empty() && contributions(&test_store, "r") == 0);
}

/// The command, as another user.
fn as_other(test_store: &TestStore, args: &[&str]) -> Output {
    let binary = test_store.path("cairn");
    if !binary.exists() {
        copy_program(env!("CARGO_BIN_EXE_cairn"), &binary);
        fs::set_permissions(test_store.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(binary);
    command.env_clear().env("CAIRN_STORE", test_store.store_path()).env("CAIRN_CACHE_DIR", "").args(args);
    command.current_dir(test_store.dir.path()).uid(NOBODY).gid(NOBODY).output().unwrap()
}

/// Makes a tree a group's: `bits` for its group.
fn open_to_group(path: &Path, bits: u32) {
    for entry in walkdir::WalkDir::new(path).into_iter().flatten().filter(|e| !e.path_is_symlink()) {
        std::os::unix::fs::chown(entry.path(), None, Some(NOBODY)).unwrap();
        let mode = entry.metadata().unwrap().mode();
        let bits = if entry.file_type().is_dir() { bits } else { bits & 0o060 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode & !0o077 | bits)).unwrap();
    }
}

#[test]
fn a_seal_by_a_user_who_cannot_read_and_write_all_of_it_leaves_the_run_as_it_was() {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    let store = test_store.store_path();
    test_store.ok(&["init", "--group", &NOBODY.to_string(), store.to_str().unwrap()]);
    let staged = stage(&test_store, "r");
    make_tree(&staged.mnt, &[("half", b"half"), ("sub/y", b"y"), ("large", &random_bytes(1, LARGE))]);
    kill(staged.daemon(), libc::SIGKILL);
    test_store.run(&["umount", staged.mnt.to_str().unwrap()], 3);
    let directory = staged.backing();
    // Unreadable, readable only, and a single file that is not to be written to.
    for bits in [0, 0o050, 0o070] {
        open_to_group(&directory, bits);
        if bits == 0o070 {
            fs::set_permissions(directory.join("sub/y"), fs::Permissions::from_mode(0o640)).unwrap();
        }
        for args in [&SEAL[..], &["draft", "drop", "a", "d", "--run", "r"], &["draft", "discard", "a", "d"]] {
            let output = as_other(&test_store, args);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{bits:o}: {stderr}");
            assert!(stderr.contains("belongs to user 0"), "{bits:o}: {stderr}");
            assert!(
                !left(&test_store).iter().any(|n| n.ends_with(".sealing")) && contributions(&test_store, "r") == 0,
                "{bits:o}: {:?}",
                left(&test_store)
            );
        }
    }
    assert!(staged.mount(&[]).status.success());
    assert_eq!(fs::read(staged.at("half")).unwrap(), b"half");
    test_store.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    open_to_group(&directory, 0o070);
    let output = as_other(&test_store, &SEAL);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(finished(&test_store).len(), 4);
}
