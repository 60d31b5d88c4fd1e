//! Garbage collection in a store that is in use: halves of publications, clocks that are wrong, lost
//! replies, broken locks, backups.

use crate::support::{TestStore, copy_tree, make_tree, random_bytes, resume, shim, snapshot, text};
use cairn::gc::{GcOptions, GcReport, collect};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn gc(test_store: &TestStore) -> GcReport {
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap()
}

fn names(dir: PathBuf) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `a:v0` (removed) and `a:v1`, with 12 small files and a large one each; they share 2 small files.
fn start() -> TestStore {
    let test_store = TestStore::new();
    for (dir, first) in [("old", 0), ("new", 10)] {
        for n in first..first + 12 {
            make_tree(&test_store.path(dir), &[(&format!("f{n}"), &random_bytes(n, 4000))]);
        }
        make_tree(&test_store.path(dir), &[("big", &random_bytes(500 + first, 200_000))]);
        test_store.ok(&["put", "a", dir]);
    }
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "old", "new"])
}

fn whole(test_store: &TestStore) {
    test_store.clean("the whole store");
    test_store.ok(&["diff", "a:v1", "./new"]);
}

#[test]
fn packs_without_a_segment_get_one_and_segments_lose_packs_that_are_gone() {
    let test_store = start();
    let index = test_store.store_path().join("index");
    for name in names(index.clone()) {
        std::fs::remove_file(index.join(name)).unwrap();
    }
    let is_tidy = || !test_store.store().objects().index_needs_tidying().unwrap();
    assert!(!is_tidy());
    gc(&test_store);
    whole(&test_store);
    assert!(is_tidy());
    let packs = names(test_store.store_path().join("packs")).len();
    // A segment whose pack is gone: that of a version that is removed and freed.
    make_tree(&test_store.path("more"), &[("x", b"more")]);
    test_store.ok(&["put", "m", "more"]);
    test_store.ok(&["rm", "m:v0"]);
    gc(&test_store);
    assert!(is_tidy());
    assert_eq!(names(test_store.store_path().join("packs")).len(), packs);
    whole(&test_store);
}

#[test]
fn records_without_a_number_stay_while_their_token_lives_and_go_when_it_is_dead_or_unknown() {
    let from = start();
    gc(&from);
    let versions = |test_store: &TestStore| names(test_store.store_path().join("artifacts/a/versions"));
    let published = versions(&from).len();
    make_tree(&from.path("more"), &[("x", &random_bytes(77, 200_000)), ("y", b"more")]);
    let mut found = 0;
    for step in 1.. {
        let test_store = copy_of(&from);
        copy_tree(&from.path("more"), &test_store.path("more"));
        let mut child = test_store.stopped_before(step, &["put", "a", "more"]);
        let has_record = versions(&test_store).len() == published + 1;
        if has_record {
            found += 1;
            let report = gc(&test_store);
            let now = versions(&test_store);
            // Once it has committed, the collection publishes it.
            let is_helped = now.contains(&"v2".to_owned());
            assert!(is_helped || report.waits_for.len() == 1, "{step}: {report:?}");
            assert!(is_helped || now.len() == published + 1, "{step}: a live token's record stays: {now:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if has_record && found == 1 {
            // Unknown: the token's directory is gone.
            let work = test_store.store_path().join("work");
            for token in names(work.clone()) {
                std::fs::remove_dir_all(work.join(token)).unwrap();
            }
        }
        gc(&test_store);
        gc(&test_store);
        let now = versions(&test_store);
        assert!(now.len() == published || now.contains(&"v2".to_owned()), "{step}: {now:?}");
        whole(&test_store);
        if now.contains(&"v2".to_owned()) {
            break;
        }
    }
    assert!(found > 1);
}

#[test]
fn staging_directories_that_no_draft_needs_stay_and_are_listed() {
    let test_store = start();
    let orphan = test_store.store_path().join("staging").join("0123456789abcdef0123456789abcdef");
    make_tree(&orphan, &[("x", b"the only copy")]);
    let report = gc(&test_store);
    assert_eq!(report.staging.len(), 1, "{report:?}");
    assert_eq!(std::fs::read(orphan.join("x")).unwrap(), b"the only copy");
    let output = test_store.run(&["gc"], 0);
    assert!(text(&output.stderr).contains("staging/0123456789abcdef"), "{}", text(&output.stderr));
    // Directories that writers make once stay too, also when they are empty.
    test_store.ok(&["rm", "a:v1"]);
    let shards = names(test_store.store_path().join("objects"));
    assert!(gc(&test_store).freed.files > 0);
    assert_eq!(names(test_store.store_path().join("objects")), shards);
    test_store.ok(&["put", "a", "new"]);
    test_store.ok(&["diff", "a:v2", "./new"]);
}

#[test]
fn the_report_says_which_removed_versions_named_what_is_garbage() {
    let test_store = start();
    make_tree(&test_store.path("more"), &[("x", &random_bytes(78, 150_000)), ("y", b"more")]);
    test_store.ok(&["put", "m", "more"]);
    test_store.ok(&["rm", "m:v0"]);
    let dry = text(&test_store.run(&["gc", "--dry-run", "--json"], 0).stdout);
    let json = text(&test_store.run(&["gc", "--min-age", "0", "--json"], 0).stdout);
    for report in [dry, json] {
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        // Of `a:v0`: ten small files and the large one.
        assert_eq!(report["removed"]["a"], serde_json::json!({ "files": 11, "bytes": 240_000 }), "{report}");
        assert_eq!(report["removed"]["m"], serde_json::json!({ "files": 2, "bytes": 150_004 }), "{report}");
    }
    assert!(gc(&test_store).removed.is_empty(), "what was freed is not counted again");
}

#[test]
fn a_host_whose_clock_is_a_year_off_frees_nothing_early() {
    let from = start();
    for skew in ["+1y", "-1y"] {
        let test_store = copy_of(&from);
        for round in 0..2 {
            let command = test_store.cairn(&["gc", "--json"]);
            let mut skewed = Command::new("faketime");
            skewed.args(["-f", skew]).arg(command.get_program()).args(command.get_args());
            skewed.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?)))).current_dir(test_store.dir.path());
            let Ok(output) = skewed.output() else {
                println!("skipped: no faketime");
                return;
            };
            assert!(output.status.success(), "{}", text(&output.stderr));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["freed"]["files"], 0, "{skew} {round}: {report}");
            assert!(report["in_trash"]["files"].as_u64() > Some(0), "{skew} {round}: {report}");
        }
        whole(&test_store);
        assert!(gc(&test_store).freed.files > 0);
        whole(&test_store);
    }
}

#[test]
fn a_rename_whose_reply_is_lost_loses_nothing() {
    let from = start();
    let Some(shim) = shim(&from, "lostreply.c") else { return };
    let hit = from.path("hit");
    for (call, error) in [("rename", libc::ENOENT), ("rename", libc::EEXIST), ("unlink", libc::ENOENT)] {
        for at in 1.. {
            let test_store = copy_of(&from);
            let _ = std::fs::remove_file(&hit);
            let output = test_store
                .cairn(&["gc", "--min-age", "0"])
                .env("LD_PRELOAD", &shim)
                .env("LOSTREPLY", format!("{call}:{at}:{error}"))
                .env("LOSTREPLY_HIT", &hit)
                .output()
                .unwrap();
            let what = format!("{call} {at} {error}: {}", text(&output.stderr));
            assert!(matches!(output.status.code(), Some(0 | 5)), "{what}");
            whole(&test_store);
            gc(&test_store);
            whole(&test_store);
            for dir in ["trash", "work"] {
                assert!(names(test_store.store_path().join(dir)).is_empty(), "{what}");
            }
            if !hit.exists() {
                assert!(at > 2, "{what}");
                break;
            }
        }
    }
}

#[test]
fn a_mount_whose_lock_was_broken_never_gives_wrong_bytes() {
    let test_store = start();
    std::fs::create_dir(test_store.path("mnt")).unwrap();
    test_store.ok(&["mount", "mnt", "a:v1"]);
    let mounted = std::panic::catch_unwind(|| {
        for lock in names(test_store.store_path().join("locks")) {
            test_store.ok(&["locks", "--break", &lock]);
        }
        test_store.ok(&["rm", "a:v1", "--force"]);
        for _ in 0..3 {
            gc(&test_store);
            for name in names(test_store.path("new")) {
                match std::fs::read(test_store.path("mnt").join(&name)) {
                    Ok(bytes) => {
                        assert_eq!(bytes, std::fs::read(test_store.path("new").join(&name)).unwrap(), "{name}")
                    }
                    Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EIO), "{name}"),
                }
            }
        }
    });
    test_store.ok(&["umount", "mnt"]);
    mounted.unwrap();
    test_store.clean("after the collections");
}

/// `contrib/backup.sh` with pauses, while patches come and collections move, merge and free.
#[test]
fn a_backup_that_is_taken_during_collections_opens_and_verifies() {
    let rsync = |args: &[&str]| Command::new("rsync").args(args).output();
    if rsync(&["--version"]).is_err() {
        println!("skipped: no rsync");
        return;
    }
    let test_store = start();
    // Long before it is run: see `copy_program`.
    let slow = test_store.path("slow-rsync");
    std::fs::write(&slow, "#!/bin/sh\nsleep 0.4\nrsync \"$@\"\nstatus=$?\nsleep 0.4\nexit $status\n").unwrap();
    std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for n in 0..12 {
        make_tree(&test_store.path("one"), &[("f", &random_bytes(900 + n, 3000))]);
        test_store.ok(&["patch", "a", "one/f", "--at", &format!("p{n}")]);
    }
    let done = AtomicBool::new(false);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/backup.sh");
    let copy = TestStore { dir: tempfile::tempdir().unwrap() };
    let rewritten = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rewritten = 0;
            while !done.load(Ordering::Relaxed) {
                rewritten += gc(&test_store).rewritten.files;
            }
            rewritten
        });
        let patcher = scope.spawn(|| {
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                make_tree(&test_store.path("two"), &[("f", &random_bytes(2000 + n, 3000))]);
                test_store.ok(&["patch", "a", "two/f", "--at", &format!("q{}", n % 5)]);
            }
        });
        let backup = || {
            let paths = [test_store.store_path(), copy.store_path()];
            Command::new("sh").arg(&script).args(paths).env("RSYNC", &slow).output().unwrap()
        };
        let outputs = [backup(), backup()];
        done.store(true, Ordering::Relaxed);
        patcher.join().unwrap();
        for output in outputs {
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        collector.join().unwrap()
    });
    assert!(rewritten > 0, "packs were rewritten meanwhile");
    copy.clean("the backup");
    let listed = copy.json(&["list", "a"]);
    assert!(listed.as_array().unwrap().len() > 12, "{listed}");
    copy.ok(&["get", "a:v1", "out"]);
    assert_eq!(snapshot(&copy.path("out")), snapshot(&test_store.path("new")));
    // What was freed in the store since the first backup is freed in the copy by a collection.
    gc(&copy);
    copy.clean("the backup, collected");
}

#[test]
fn drafts_and_staging_directories_of_the_dead_are_listed_with_their_age_and_how_to_discard_them() {
    let test_store = start();
    make_tree(&test_store.path("part"), &[("x", b"part")]);
    test_store.ok(&["upsert", "e", "part", "--distributed-id", "job 7", "--run", "r1"]);
    let orphan = test_store.store_path().join("staging").join("0123456789abcdef0123456789abcdef");
    make_tree(&orphan, &[("x", b"the only copy")]);
    set_old(&orphan, 3 * 86_400 + 60);
    let report = test_store.json(&["gc", "--min-age", "0"]);
    let draft = &report["idle_drafts"][0];
    assert_eq!((draft["artifact"].as_str(), draft["distributed_id"].as_str()), (Some("e"), Some("job 7")), "{report}");
    assert!(draft["age_seconds"].as_i64().is_some_and(|age| (0..100).contains(&age)), "{report}");
    assert_eq!(draft["discarded_by"], "cairn draft discard e 'job 7'");
    let staging = &report["staging"][0];
    assert!(staging["age_seconds"].as_i64() >= Some(3 * 86_400), "{report}");
    assert_eq!(staging["removed_by"], format!("rm -r {}", orphan.display()));
    let stderr = text(&test_store.run(&["gc", "--min-age", "0"], 0).stderr);
    assert!(stderr.contains("draft job 7 of e: no process writes to it, last change"), "{stderr}");
    assert!(stderr.contains("(3 days ago); it stays; `rm -r"), "{stderr}");
    // Both stay, and the commands discard them.
    assert!(orphan.join("x").exists());
    test_store.ok(&["draft", "discard", "e", "job 7"]);
    std::fs::remove_dir_all(&orphan).unwrap();
    let report = test_store.json(&["gc", "--min-age", "0"]);
    assert_eq!((report["idle_drafts"].as_array().unwrap().len(), report["staging"].as_array().unwrap().len()), (0, 0));
    // A draft to which a process writes is not idle.
    let writer = test_store.stopped_before(8, &["upsert", "e", "new", "--distributed-id", "j", "--run", "r1"]);
    test_store.ok(&["upsert", "e", "part", "--distributed-id", "j", "--run", "r2"]);
    let report = collect(&test_store.store(), &GcOptions::default()).unwrap();
    assert_eq!((report.open_drafts, report.idle_drafts.len()), (1, 0), "{report:?}");
    resume(&writer);
    assert!(writer.wait_with_output().unwrap().status.success());
}

fn set_old(path: &Path, seconds: u64) {
    let time = std::time::SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn what_holders_of_pins_left_goes_when_they_are_dead_or_it_has_been_empty_for_long() {
    let test_store = start();
    let pins = test_store.store_path().join("pins");
    let held = |name: &str, holder: Option<&str>| {
        let dir = pins.join(name);
        std::fs::create_dir(&dir).unwrap();
        if let Some(holder) = holder {
            std::fs::write(dir.join("holder"), holder).unwrap();
        }
        dir
    };
    let purpose = cairn::internals::lock::Purpose { purpose: "mount", ..Default::default() };
    let live = cairn::internals::pins::Pins::hold(&test_store.store(), &purpose).unwrap();
    let of_live: Vec<_> = std::fs::read_dir(&pins).unwrap().map(|dir| dir.unwrap().path()).collect();
    let record = std::fs::read_to_string(of_live[0].join("holder")).unwrap();
    // A process that was killed while it held no pin: as a mount of the whole store that nothing used.
    let dead = record.replace(&format!("\"pid\": {}", std::process::id()), "\"pid\": 4194303");
    assert_ne!(dead, record);
    let dead = held("11111111111111111111111111111111", Some(&dead));
    let (old, young) = (held("22222222222222222222222222222222", None), held("33333333333333333333333333333333", None));
    set_old(&old, 2 * 60 * 60);
    gc(&test_store);
    assert!(!dead.exists() && !old.exists() && young.exists() && of_live[0].exists());
    // A holder that ends leaves nothing.
    drop(live);
    assert_eq!(names(pins), ["33333333333333333333333333333333"]);
}
