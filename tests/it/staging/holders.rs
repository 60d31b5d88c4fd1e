//! Who may change, seal and discard a run's files: one mount at a time, none after the draft is finished, and no user
//! who cannot read all of them.

use super::support::{LARGE, contributions, finished, kill, left, stage};
use crate::support::{TestStore, make_tree, random_bytes, text};
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
fn break_locks(lab: &TestStore) {
    for lock in fs::read_dir(lab.store_path().join("locks")).unwrap().flatten() {
        fs::remove_file(lock.path()).unwrap();
    }
}

fn mount_elsewhere(lab: &TestStore) -> std::path::PathBuf {
    let other = lab.path("other");
    fs::create_dir_all(&other).unwrap();
    lab.ok(&["mount", other.to_str().unwrap(), "a", "--stage", "--distributed-id", "d", "--run", "r"]);
    other
}

#[test]
fn a_mount_whose_run_was_taken_over_takes_no_more_changes() {
    for stopped in [false, true] {
        let lab = TestStore::new();
        let staged = stage(&lab, "r");
        fs::write(staged.at("before"), "before").unwrap();
        if stopped {
            signal(staged.daemon(), libc::SIGSTOP);
        }
        break_locks(&lab);
        let other = mount_elsewhere(&lab);
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
        let said = text(&lab.run(&["umount", staged.mnt.to_str().unwrap()], 3).stderr);
        assert!(said.contains("taken the run over") && contributions(&lab, "r") == 0, "{said}");
        lab.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
        lab.ok(&["umount", other.to_str().unwrap()]);
        assert_eq!(finished(&lab)[&b"other"[..]], b"- other");
    }
}

#[test]
fn a_mount_whose_run_was_sealed_elsewhere_takes_no_more_changes() {
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    let mut open = fs::File::create(staged.at("f")).unwrap();
    open.write_all(b"f").unwrap();
    break_locks(&lab);
    lab.ok(&SEAL);
    becomes_read_only(|| fs::write(staged.at("after"), "after"));
    assert_eq!(finished(&lab).into_keys().collect::<Vec<_>>(), [b"f".to_vec()]);
}

#[test]
fn a_finish_that_did_not_wait_ends_the_changes_of_a_run_and_its_unmount_says_where_the_files_are() {
    let lab = TestStore::new();
    let staged = stage(&lab, "r");
    let mnt = staged.mnt.to_str().unwrap();
    fs::write(staged.at("late"), "late").unwrap();
    make_tree(&lab.path("src"), &[("x", b"x")]);
    lab.ok(&["upsert", "a", "src", "--run", "early", "--distributed-id", "d"]);
    lab.ok(&["finish", "a", "--distributed-id", "d", "--skip-open"]);
    becomes_read_only(|| fs::write(staged.at("more"), "more"));
    assert_eq!(fs::read(staged.at("late")).unwrap(), b"late");
    let directory = staged.backing();
    for words in [&["umount", mnt][..], &["seal", mnt]] {
        let said = text(&lab.run(words, 3).stderr);
        assert!(said.contains("finished as a:v0") && said.contains(directory.to_str().unwrap()), "{said}");
    }
    assert_eq!(lab.ok(&["drafts", "--all"]), "", "what is mounted is not left");
    let said = text(&lab.run(&["umount", "--no-seal", mnt], 0).stderr);
    assert!(said.contains("cairn draft drop a d --run r") && said.contains(directory.to_str().unwrap()), "{said}");
    assert_eq!(lab.ok(&["drafts"]), "");
    let left_over: serde_json::Value = serde_json::from_str(&lab.ok(&["drafts", "--all", "--json"])).unwrap();
    assert_eq!((&left_over[0]["run"], &left_over[0]["left_at"]), (&"r".into(), &directory.to_str().unwrap().into()));
    let shown = lab.ok(&["drafts", "--all"]);
    assert!(
        shown.contains("cairn draft drop a d --run r") && shown.contains(left_over[0]["since"].as_str().unwrap()),
        "{shown}"
    );
    lab.ok(&["draft", "drop", "a", "d", "--run", "r"]);
    assert!(left(&lab).is_empty() && lab.ok(&["drafts", "--all"]).is_empty(), "{:?}", left(&lab));
    assert_eq!(lab.ok(&["ls", "a"]), "x");
}

#[test]
fn a_draft_with_only_an_open_run_is_discarded_and_a_mounted_one_is_not() {
    let lab = TestStore::new();
    for words in [&["draft", "discard", "a", "d"][..], &["draft", "drop", "a", "d", "--run", "r"]] {
        let staged = stage(&lab, "r");
        let mnt = staged.mnt.to_str().unwrap();
        fs::write(staged.at("x"), "x").unwrap();
        let said = text(&lab.run(words, 3).stderr);
        assert!(said.contains("is held by process"), "{said}");
        lab.ok(&["umount", "--no-seal", mnt]);
        lab.ok(words);
        assert!(left(&lab).is_empty() && lab.ok(&["drafts"]).is_empty(), "{:?}", left(&lab));
        lab.run(words, 6);
    }
    // Contributions and what is open go together.
    make_tree(&lab.path("src"), &[("x", b"x")]);
    lab.ok(&["upsert", "a", "src", "--run", "r", "--distributed-id", "d"]);
    let staged = stage(&lab, "r");
    fs::write(staged.at("large"), random_bytes(1, LARGE)).unwrap();
    lab.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    lab.ok(&["draft", "discard", "a", "d"]);
    assert!(left(&lab).is_empty() && contributions(&lab, "r") == 0);
}

/// The command, as another user.
fn as_other(lab: &TestStore, words: &[&str]) -> Output {
    let binary = lab.path("cairn");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_cairn"), &binary).unwrap();
        fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(binary);
    command.env_clear().env("CAIRN_STORE", lab.store_path()).env("CAIRN_CACHE_DIR", "").args(words);
    command.current_dir(lab.dir.path()).uid(NOBODY).gid(NOBODY).output().unwrap()
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
    let lab = TestStore { dir: tempfile::tempdir().unwrap() };
    let store = lab.store_path();
    lab.ok(&["init", "--group", &NOBODY.to_string(), store.to_str().unwrap()]);
    let staged = stage(&lab, "r");
    make_tree(&staged.mnt, &[("half", b"half"), ("sub/y", b"y"), ("large", &random_bytes(1, LARGE))]);
    kill(staged.daemon(), libc::SIGKILL);
    lab.run(&["umount", staged.mnt.to_str().unwrap()], 3);
    let directory = staged.backing();
    // Unreadable, readable only, and a single file that is not to be written to.
    for bits in [0, 0o050, 0o070] {
        open_to_group(&directory, bits);
        if bits == 0o070 {
            fs::set_permissions(directory.join("sub/y"), fs::Permissions::from_mode(0o640)).unwrap();
        }
        for words in [&SEAL[..], &["draft", "drop", "a", "d", "--run", "r"], &["draft", "discard", "a", "d"]] {
            let output = as_other(&lab, words);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{bits:o}: {said}");
            assert!(said.contains("belongs to user 0"), "{bits:o}: {said}");
            assert!(
                !left(&lab).iter().any(|n| n.ends_with(".sealing")) && contributions(&lab, "r") == 0,
                "{bits:o}: {:?}",
                left(&lab)
            );
        }
    }
    assert!(staged.mount(&[]).status.success());
    assert_eq!(fs::read(staged.at("half")).unwrap(), b"half");
    lab.ok(&["umount", "--no-seal", staged.mnt.to_str().unwrap()]);
    open_to_group(&directory, 0o070);
    let output = as_other(&lab, &SEAL);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(finished(&lab).len(), 4);
}
