//! Stores that another program made, copied or damaged: symlinks and FIFOs in the place of directories, directories and
//! times lost by a copying tool. Nothing outside of the store is ever changed, every command ends, and what a put
//! acknowledges can be read.

use crate::support::{TestStore, make_tree, random_bytes, shim, snapshot, text};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A store with one version `a:v0` of a small and a large file.
fn one_version() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("one"), &[("small", b"small"), ("large", &random_bytes(1, 200_000))]);
    make_tree(&test_store.path("two"), &[("small", b"another"), ("large", &random_bytes(2, 200_000))]);
    test_store.ok(&["put", "a", "one"]);
    test_store
}

/// Runs a command, whatever comes of it, for at most some seconds; its exit status.
fn ends(test_store: &TestStore, args: &[&str]) -> Option<i32> {
    let mut child =
        test_store.cairn(args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("cairn {args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a valid C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

#[test]
fn nothing_behind_a_symlink_in_the_place_of_a_store_directory_is_changed() {
    let from = one_version();
    let shard = std::fs::read_dir(from.store_path().join("objects"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name()
        .into_string()
        .unwrap();
    let shard = format!("objects/{shard}");
    for name in
        ["objects", "packs", "index", "artifacts", "work", "pins", "locks", "staging", "trash", "damaged", &shard]
    {
        let test_store = from.copy(&["store", "one", "two"]);
        let at = test_store.store_path().join(name);
        let home = test_store.path("home");
        // What was in the store, and what never was: a name like a run's with other content is not ours either.
        std::fs::rename(&at, &home).unwrap();
        make_tree(&home, &[("thesis.tex", b"mine"), (&"e".repeat(64), b"not a run"), ("sub/diary", b"mine too")]);
        std::os::unix::fs::symlink(&home, &at).unwrap();
        let before = snapshot(&home);
        for args in [
            &["put", "a", "two"][..],
            &["put", "a", "one", "--new-version"],
            &["patch", "a", "one/small", "--at", "x"],
            &["rm", "a:v0"],
            &["verify"],
        ] {
            let status = ends(&test_store, args);
            assert_ne!(status, None, "{name}: {args:?} is killed");
            assert!(name == shard || args[0] == "verify" || status != Some(0), "{name}: {args:?} succeeds");
        }
        assert!(snapshot(&home) == before, "{name}: something behind it has changed");
        if name != shard {
            let error = text(&test_store.cairn(&["put", "a", "two"]).output().unwrap().stderr);
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}

#[test]
fn what_is_not_ours_in_index_is_neither_removed_nor_in_the_way() {
    let test_store = one_version();
    let index = test_store.store_path().join("index");
    make_tree(&index, &[("notes.txt", b"mine"), (&"e".repeat(64), b"mine"), (&"f".repeat(64), b"\0\0\0\0\0\0\0\0")]);
    test_store.ok(&["put", "a", "two"]);
    assert!(index.join("notes.txt").exists() && index.join("e".repeat(64)).exists());
    assert!(!index.join("f".repeat(64)).exists(), "a run that a loss of power has torn is removed");
}

#[test]
fn every_command_ends_with_a_fifo_in_the_place_of_a_directory() {
    for at in [
        "artifacts/a/versions",
        "artifacts/a/removed",
        "artifacts/a",
        "artifacts",
        "packs",
        "objects",
        "index",
        "work",
        "locks",
        "trash",
        "damaged",
    ] {
        let test_store = one_version();
        test_store.ok(&["put", "a", "two"]);
        test_store.ok(&["rm", "a:v0"]);
        let at = test_store.store_path().join(at);
        std::fs::remove_dir_all(&at).unwrap();
        make_fifo(&at);
        for args in [
            &["put", "a", "one", "--new-version"][..],
            &["list", "a"],
            &["show", "a"],
            &["cat", "a", "small"],
            &["verify"],
        ] {
            assert_ne!(ends(&test_store, args), None, "{args:?} is killed");
        }
    }
}

#[test]
fn directories_that_a_copying_tool_left_out_are_made_again_by_the_next_writer() {
    let test_store = one_version();
    let status =
        Command::new("find").arg(test_store.store_path()).args(["-type", "d", "-empty", "-delete"]).status().unwrap();
    assert!(status.success() && !test_store.store_path().join("work").exists());
    test_store.ok(&["verify"]);
    test_store.ok(&["put", "b", "two"]);
    assert_eq!(test_store.ok(&["cat", "b", "small"]), "another");
    test_store.ok(&["verify"]);
}

#[test]
fn a_store_copied_without_its_times_is_as_before_once_it_was_read() {
    let test_store = one_version();
    let status =
        Command::new("cp").arg("-r").arg(test_store.store_path()).arg(test_store.path("copy")).status().unwrap();
    assert!(status.success());
    let copy = test_store.path("copy");
    let copy = copy.to_str().unwrap();
    test_store.run(&["verify", "--store", copy], 1);
    test_store.run(&["cat", "a", "large", "--store", copy], 0);
    test_store.ok(&["verify", "--store", copy]);
}

#[test]
fn a_small_file_damaged_in_its_pack_is_stored_again_once_somebody_has_read_it() {
    let test_store = one_version();
    let pack = std::fs::read_dir(test_store.store_path().join("packs")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    let at = bytes.windows(5).position(|w| w == b"small").unwrap();
    bytes[at] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    test_store.run(&["cat", "a", "small"], 4);
    assert_eq!(std::fs::read_dir(test_store.store_path().join("damaged")).unwrap().count(), 1);
    for args in [&["put", "b", "one"][..], &["put", "a", "one", "--new-version"], &["put", "c", "one/small"]] {
        test_store.ok(args);
        assert_eq!(test_store.ok(&["cat", args[1], "small"]), "small");
    }
    assert_eq!(test_store.ok(&["cat", "a:v0", "small"]), "small", "the version that was there before is whole too");
}

#[test]
fn a_bad_sector_under_packs_and_index_is_as_if_they_were_not_there() {
    if Command::new("strace").arg("-V").output().is_err() {
        return println!("skipped: no strace to make reads fail with");
    }
    let test_store = one_version();
    let file =
        |dir: &str| std::fs::read_dir(test_store.store_path().join(dir)).unwrap().next().unwrap().unwrap().path();
    for (i, (unreadable, index_lost)) in [(file("packs"), true), (file("index"), false)].into_iter().enumerate() {
        if index_lost {
            std::fs::remove_file(file("index")).unwrap();
        }
        let fresh = format!("fresh-{i}");
        std::fs::write(test_store.path("fresh"), &fresh).unwrap();
        let calls = "pread64,preadv,read";
        let put = test_store.cairn(&[]);
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&unreadable).args([
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:error=EIO"),
        ]);
        traced
            .arg(put.get_program())
            .args(["put", "n", "fresh"])
            .current_dir(test_store.dir.path())
            .env("CAIRN_STORE", test_store.store_path())
            .env("CAIRN_CACHE_DIR", test_store.path("cache"));
        let output = traced.output().unwrap();
        if text(&output.stderr).contains("ptrace") {
            return println!("skipped: strace may not trace here");
        }
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(test_store.ok(&["cat", "n", "fresh"]), fresh);
    }
}

#[test]
fn init_refuses_a_file_system_without_modes_or_times() {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    let Some(shim) = shim(&test_store, "lostreply.c") else { return };
    for (call, lacks) in [("fchmod", "chmod"), ("futimens", "times")] {
        let output = test_store
            .cairn(&["init", "new"])
            .env("LD_PRELOAD", &shim)
            .env("LOSTREPLY", format!("{call}:1:{}", libc::EPERM))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(lacks), "{}", text(&output.stderr));
        assert!(!test_store.path("new/cairn.json").exists());
    }
    test_store.ok(&["init", "new"]);
}
