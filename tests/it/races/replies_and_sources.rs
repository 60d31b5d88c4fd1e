//! Lost replies, sources that change while they are read, full disks.

use super::*;

#[test]
fn a_lost_reply_of_any_call_is_detected_or_reported_and_the_repeat_makes_nothing_twice() {
    let from = one_version();
    make_tree(&from.path("two"), &[("f", b"two"), ("d/large", &random_bytes(4, 140_000))]);
    let Some(shim) = shim(&from, "lostreply.c") else { return };
    let mut tried = BTreeMap::new();
    for (call, errors) in [
        ("symlink", [libc::EEXIST, libc::EIO]),
        ("mkdir", [libc::EEXIST, libc::EIO]),
        ("rename", [libc::ENOENT, libc::EIO]),
        ("excl", [libc::EEXIST, libc::EIO]),
        ("unlink", [libc::ENOENT, libc::EIO]),
        ("fsync", [libc::EIO, libc::ENOSPC]),
    ] {
        for error in errors {
            for n in 1.. {
                let test_store = from.copy(&["store", "two"]);
                let hit = test_store.path("hit");
                let with_shim = |args: &[&str]| {
                    test_store
                        .cairn(args)
                        .env("LD_PRELOAD", &shim)
                        .env("LOSTREPLY", format!("{call}:{n}:{error}"))
                        .env("LOSTREPLY_HIT", &hit)
                        .output()
                        .unwrap()
                };
                let output = with_shim(&["put", "a", "two", "--alias", "prod", "--type", "dataset"]);
                if !hit.exists() {
                    assert!(output.status.success(), "{}", text(&output.stderr));
                    break;
                }
                *tried.entry(call).or_insert(0) += 1;
                let label = format!("{call} {n} lost with {error}: {:?} {}", output.status, text(&output.stderr));
                // As network file systems lose them: recognised. Other errors may be passed on.
                let recognised = matches!(
                    (call, error),
                    ("symlink" | "mkdir" | "excl", libc::EEXIST) | ("rename" | "unlink", libc::ENOENT)
                );
                assert!(output.status.success() || (!recognised && output.status.code() == Some(5)), "{label}");
                let published = numbers(&test_store, "a").len() == 2;
                if output.status.success() {
                    assert!(published, "{label}");
                } else if call == "fsync" && !published {
                    let committed = std::fs::read_dir(test_store.store_path().join("work"))
                        .unwrap()
                        .any(|t| outcome(&t.unwrap().path()).as_deref() == Some("commit"));
                    assert!(!committed, "nothing is committed after a failed sync: {label}");
                }
                test_store.clean(&label);
                test_store.ok(&["put", "a", "two", "--alias", "prod"]);
                dense(&test_store, "a", 2);
                holds(&test_store, "a:prod", "two");
                test_store.clean(&format!("repeated after {label}"));
            }
        }
    }
    println!("lost replies: {tried:?}");
    assert!(
        tried["symlink"] >= 6
            && tried["mkdir"] >= 2
            && tried["rename"] >= 2
            && tried["excl"] >= 8
            && tried["fsync"] >= 4,
        "{tried:?}"
    );
}

#[test]
fn a_directory_or_symlink_that_a_wrong_reply_reports_is_made_again() {
    let from = one_version();
    make_tree(&from.path("two"), &[("f", b"two"), ("d/large", &random_bytes(4, 140_000))]);
    let Some(shim) = shim(&from, "lostreply.c") else { return };
    for (call, at_least) in [("mkdir", 5), ("symlink", 3)] {
        let mut tried = 0;
        for n in 1.. {
            let test_store = from.copy(&["store", "two"]);
            let hit = test_store.path("hit");
            let mut command = test_store.cairn(&["put", "new", "two", "--alias", "prod"]);
            command
                .env("LD_PRELOAD", &shim)
                .env("LOSTREPLY", format!("{call}:{n}:{}", libc::EEXIST))
                .env("LOSTREPLY_UNDONE", "1")
                .env("LOSTREPLY_HIT", &hit);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{call} {n}: {}", text(&output.stderr));
            if !hit.exists() {
                break;
            }
            tried += 1;
            holds(&test_store, "new:prod", "two");
            dense(&test_store, "new", 1);
            test_store.clean(&format!("{call} {n}"));
        }
        assert!(tried >= at_least, "{call}: {tried}");
    }
}

#[test]
fn a_file_that_keeps_changing_while_it_is_read_is_refused_and_nothing_is_published() {
    let test_store = one_version();
    std::fs::create_dir(test_store.path("moving")).unwrap();
    let file = test_store.path("moving/file");
    std::fs::write(&file, random_bytes(1, 24 << 20)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            use std::os::unix::fs::FileExt;
            let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                open.write_all_at(&n.to_le_bytes(), n * 4096 % (24 << 20)).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let output = test_store.cairn(&["put", "a", "moving"]).output().unwrap();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("moving/file"), "{}", text(&output.stderr));
    });
    dense(&test_store, "a", 1);
    work_is_empty(&test_store);
    assert_eq!(test_store.ok(&["put", "a", "moving"]), "a:v1");
    holds(&test_store, "a:v1", "moving");
    test_store.clean("at the end");
}

/// Stops `put a source` where it makes its first temporary file: the walk is done, and at most one file was read.
fn stopped_after_its_walk(test_store: &TestStore, source: &str) -> Child {
    let args = ["put", "a", source];
    let count = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    // When its files were renamed away, the token's directory has only its note, and the version's directory
    // exists.
    let step = find_step(test_store, &args, |token| {
        count(token) == 1 && outcome(token).is_none() && count(&token.join("../../artifacts/a/versions")) == 2
    });
    let child = start(test_store, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    child
}

#[test]
fn a_file_that_vanishes_in_the_middle_is_named_and_nothing_is_visible() {
    let test_store = one_version();
    make_tree(&test_store.path("source"), &[("a", b"first"), ("gone", b"gone soon"), ("z", b"last")]);
    let child = stopped_after_its_walk(&test_store, "source");
    std::fs::remove_file(test_store.path("source/gone")).unwrap();
    resume(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("source/gone"), "{}", text(&output.stderr));
    dense(&test_store, "a", 1);
    work_is_empty(&test_store);
    test_store.ok(&["put", "a", "source"]);
    holds(&test_store, "a:v1", "source");
    test_store.clean("at the end");
}

#[test]
fn a_large_file_that_changes_once_while_it_is_read_is_read_again_and_held_as_it_then_is() {
    let test_store = one_version();
    std::fs::create_dir(test_store.path("source")).unwrap();
    std::fs::write(test_store.path("source/large"), random_bytes(1, 3 << 20)).unwrap();
    // Stopped at the temporary file, after it was opened and looked at.
    let child = stopped_after_its_walk(&test_store, "source");
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(test_store.path("source/large"), random_bytes(2, 2 << 20)).unwrap();
    resume(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    holds(&test_store, "a:v1", "source");
    test_store.clean("at the end");
}

/// A file system of its own, unmounted when dropped.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// `None` where this user may not mount.
    fn tmpfs(at: &Path, size: &str) -> Option<Mounted> {
        std::fs::create_dir(at).unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        Self::made(at, done)
    }

    fn ext4(at: &Path, image: &Path, size: u64) -> Option<Mounted> {
        std::fs::create_dir(at).unwrap();
        std::fs::File::create(image).unwrap().set_len(size).unwrap();
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image).output();
        if !made.is_ok_and(|o| o.status.success()) {
            println!("skipped: no mkfs.ext4");
            return None;
        }
        let done = std::process::Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output();
        Self::made(at, done)
    }

    fn made(at: &Path, done: std::io::Result<Output>) -> Option<Mounted> {
        if done.is_ok_and(|o| o.status.success()) {
            return Some(Mounted { at: at.to_path_buf() });
        }
        println!("skipped: this user may not mount");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.at).status();
    }
}

/// Fills the file system so that `free` bytes are left for others.
fn fill(at: &Path, free: u64) {
    let ballast = at.join("ballast");
    let available = cairn::internals::disk::free_bytes(at).unwrap();
    let file = std::fs::File::create(&ballast).unwrap();
    let mut left = available.saturating_sub(free);
    let block = vec![0x55u8; 64 << 10];
    while left > 0 {
        use std::io::Write;
        let n = left.min(block.len() as u64) as usize;
        if (&file).write_all(&block[..n]).is_err() {
            break;
        }
        left -= n as u64;
    }
    let _ = file.sync_all();
}

fn full_disk(test_store: &TestStore, at: &Path) {
    let store = at.join("store");
    make_tree(&test_store.path("one"), &[("f", b"one")]);
    make_tree(
        &test_store.path("two"),
        &[("f", b"two"), ("g", &random_bytes(1, 60_000)), ("h", &random_bytes(2, 140_000))],
    );
    let cairn = |args: &[&str]| test_store.cairn(args).env("CAIRN_STORE", &store).output().unwrap();
    assert!(cairn(&["init", store.to_str().unwrap()]).status.success());
    assert!(cairn(&["put", "a", "one"]).status.success());
    let (mut refused, mut done) = (0, 0);
    for (round, free) in (0..70).map(|k| k * 4096).enumerate() {
        // Other content each time, so that what an earlier round stored does not help.
        make_tree(
            &test_store.path("two"),
            &[("f", format!("round {round}").as_bytes()), ("h", &random_bytes(round as u64 + 9, 140_000))],
        );
        fill(at, free);
        let before = std::fs::read_dir(store.join("artifacts/a/versions"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('v'))
            .count();
        let output = cairn(&["put", "a", "two"]);
        let versions = || {
            std::fs::read_dir(store.join("artifacts/a/versions"))
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('v'))
                .count()
        };
        if output.status.success() {
            done += 1;
            assert_eq!(versions(), before + 1);
        } else {
            refused += 1;
            assert_eq!(output.status.code(), Some(5), "{free} free: {}", text(&output.stderr));
            assert!(
                text(&output.stderr).contains("No space left") || text(&output.stderr).contains("space"),
                "{}",
                text(&output.stderr)
            );
            assert_eq!(versions(), before, "{free} free: nothing is visible");
        }
        // Emptied first: a child that another test has just forked may hold the file open for a moment.
        std::fs::File::create(at.join("ballast")).unwrap();
        std::fs::remove_file(at.join("ballast")).unwrap();
        let again = cairn(&["put", "a", "two"]);
        assert!(again.status.success(), "{free} free, then freed: {}", text(&again.stderr));
        assert_eq!(versions(), before + 1, "one version of it");
        let report = verify(&Store::open(&store).unwrap(), &Scope::All, &VerifyOptions::default()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let out = test_store.path("out");
        assert!(cairn(&["get", "a", out.to_str().unwrap()]).status.success());
        assert!(snapshot(&out) == snapshot(&test_store.path("two")));
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(refused >= 10 && done >= 1, "{refused} refused, {done} done");
    println!("full disk {}: {refused} refused, {done} fitted", at.display());
}

#[test]
fn a_full_disk_is_a_clear_error_with_nothing_visible_and_the_repeat_succeeds_when_there_is_space() {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    if let Some(mounted) = Mounted::tmpfs(&test_store.path("tmpfs"), "32m") {
        full_disk(&test_store, &mounted.at);
    }
    if let Some(mounted) = Mounted::ext4(&test_store.path("ext4"), &test_store.path("ext4.img"), 40 << 20) {
        full_disk(&test_store, &mounted.at);
    }
}

#[test]
fn a_store_inside_its_own_source_and_eight_writers_of_it_store_no_store() {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    make_tree(&test_store.path("project"), &[("src/a", b"a"), ("b", b"b")]);
    let store = Store::init(test_store.path("project/.cairn"), &Default::default()).unwrap();
    std::thread::scope(|s| {
        for _ in 0..PROCESSES {
            s.spawn(|| {
                let mut artifact = Artifact::new("p", None).unwrap();
                artifact.add_dir(test_store.path("project")).unwrap();
                let published = artifact.save(&store).unwrap();
                assert_eq!((published.version.number().0, published.version.record().files), (0, 2));
            });
        }
    });
}
