//! A removed version is brought back whole until a collection has freed of it, or the restore fails: at any timing of
//! removal, restore and collection, and with a kill, an error or a stop at any step.

use crate::crafted_stores::behind;
use crate::support::{Dice, TestStore, at_once, faults, files, make_tree, random_bytes, resume, snapshot, steps, text};
use cairn::gc::{GcOptions, collect};
use cairn::internals::lock::{LockFile, Purpose};
use cairn::internals::record;
use cairn::types::Token;
use serde_json::{Value, json};
use std::process::Output;
use std::time::{Duration, Instant};

/// `a:v0`, which is removed and has content of its own, and `a:v1`; they share some.
fn start() -> TestStore {
    let test_store = TestStore::new();
    for (dir, seed) in [("one", 2), ("two", 3)] {
        let (large, small) = (random_bytes(seed, 300_000), random_bytes(seed, 3000));
        let shared = random_bytes(9, 200_000);
        make_tree(
            &test_store.path(dir),
            &[("large", &large), ("d/small", &small), ("d/shared", &shared), ("note", dir.as_bytes())],
        );
        test_store.ok(&["put", "a", dir]);
    }
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

/// A removed version of which the newest one has all content and all nodes but the root, which was freed.
fn with_freed_root() -> TestStore {
    let test_store = TestStore::new();
    let (large, small) = (random_bytes(2, 300_000), random_bytes(2, 3000));
    let files = [("large", large.as_slice()), ("d/small", &small)];
    make_tree(&test_store.path("one"), &files);
    make_tree(&test_store.path("two"), &files);
    make_tree(&test_store.path("two"), &[("more", b"more")]);
    test_store.ok(&["put", "a", "one"]);
    test_store.ok(&["put", "a", "two"]);
    test_store.ok(&["rm", "a:v0"]);
    gc(&test_store, 0);
    test_store
}

/// [`start`], in a store that knows restored versions already.
fn prepared() -> TestStore {
    let test_store = start();
    test_store.ok(&["restore", "a:v0"]);
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "one", "two"])
}

fn on_disk(from: &TestStore) -> TestStore {
    from.copy_on_disk(&["store", "one", "two"])
}

fn gc(test_store: &TestStore, min_age: u64) {
    collect(&test_store.store(), &GcOptions::default().min_age(Duration::from_secs(min_age))).unwrap();
}

/// No damage; each version is what was put, or, as v0 may be, removed. Returns whether v0 is there.
fn whole(test_store: &TestStore, label: &str) -> bool {
    test_store.clean(label);
    let there = test_store.store().version("a:v0").is_ok();
    for (version, source) in [("a:v0", "one"), ("a:v1", "two")].into_iter().skip(usize::from(!there)) {
        let out = tempfile::tempdir_in(test_store.dir.path()).unwrap();
        test_store.ok(&["get", version, out.path().join("got").to_str().unwrap()]);
        assert!(snapshot(&out.path().join("got")) == snapshot(&test_store.path(source)), "{label}: {version}");
    }
    there
}

fn config(test_store: &TestStore) -> Value {
    serde_json::from_slice(&std::fs::read(test_store.store_path().join("cairn.json")).unwrap()).unwrap()
}

#[test]
fn a_removed_version_says_when_and_by_whom_and_comes_back_as_it_was() {
    let test_store = start();
    test_store.ok(&["put", "a", "two", "--tag", "golden"]); // v1 again: a tag
    let out = test_store.cairn(&["rm", "a:v1"]).env("CAIRN_RUN", "cleanup-7").output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for args in [
        &["ls", "a:v1"][..],
        &["show", "a:v1"],
        &["cat", "a:v1", "note"],
        &["get", "a:v1", "out"],
        &["rm", "a:v1"],
        &["alias", "a:v1", "prod"],
        &["copy", "a:v1", "b"],
    ] {
        let message = text(&test_store.run(args, 6).stderr);
        let by = format!(" by root on {}, run cleanup-7\n", host.trim());
        assert!(message.starts_with("error: a:v1 was removed at 20") && message.contains(&by), "{args:?}: {message}");
        assert!(message.contains("hint: `cairn restore a:v1` brings it back"), "{args:?}: {message}");
    }
    assert_eq!(config(&test_store)["features"]["compatible"], json!([]));
    assert_eq!(test_store.ok(&["restore", "a:v1"]), "a:v1");
    assert_eq!(config(&test_store)["features"]["compatible"], json!(["restored-versions"]));
    let shown = test_store.json(&["show", "a"]);
    assert_eq!((&shown["version"], &shown["tags"]), (&json!("v1"), &json!(["golden"])), "the newest again");
    let expect = |restored: bool| json!({ "artifact": "a", "version": "v1", "restored": restored });
    assert_eq!(test_store.json(&["restore", "a:v1"]), expect(false));
    test_store.ok(&["rm", "a:v1"]);
    test_store.run(&["show", "a:v1"], 6);
    assert_eq!(test_store.json(&["restore", "a:v1"]), expect(true));
    assert_eq!(test_store.ok(&["put", "a", "one"]), "a:v2", "numbers continue");
    assert!(!whole(&test_store, "restored twice"), "v0 is still removed");
    test_store.run(&["restore", "a:v9"], 6);
    for spec in ["a", "a:latest", "a:prod"] {
        test_store.run(&["restore", spec], 2);
    }
}

#[test]
fn a_version_whose_content_is_in_the_trash_is_put_back_and_stays() {
    let test_store = start();
    gc(&test_store, 1000);
    let trash = || files(&test_store.store_path().join("trash")).len();
    assert!(trash() >= 2, "its own object and pack");
    test_store.ok(&["restore", "a:v0"]);
    assert!(whole(&test_store, "restored from the trash"));
    gc(&test_store, 0);
    assert_eq!(trash(), 0);
    assert!(whole(&test_store, "after a collection"));
}

#[test]
fn a_version_whose_content_was_freed_cannot_be_restored_until_it_is_put_again() {
    let test_store = start();
    gc(&test_store, 0);
    let message = text(&test_store.run(&["restore", "a:v0"], 6).stderr);
    assert!(message.contains("a:v0 cannot be restored: content of it is not in the store any more"), "{message}");
    assert!(message.contains("large"), "the paths: {message}");
    let message = text(&test_store.run(&["cat", "a:v0", "note"], 6).stderr);
    assert!(
        message.contains("hint: a garbage collection has freed content of it, or its number is lost: it cannot be"),
        "{message}"
    );
    assert!(!whole(&test_store, "not restored"));
    test_store.ok(&["put", "b", "one"]);
    test_store.ok(&["restore", "a:v0"]); // the same content, and its nodes in a pack of the same name
    assert!(whole(&test_store, "put again"));
}

#[test]
fn a_version_of_which_only_the_root_was_freed_is_restored_whole() {
    let test_store = with_freed_root();
    assert!(!whole(&test_store, "removed"));
    test_store.ok(&["restore", "a:v0"]);
    assert!(whole(&test_store, "restored"));
    gc(&test_store, 0);
    assert!(whole(&test_store, "collected"));
    test_store.ok(&["copy", "a:v0", "b"]);
    test_store.ok(&["rm", "a:v1"]);
    gc(&test_store, 0);
    test_store.clean("the restored version is left alone");
}

#[test]
fn a_version_whose_packs_were_rewritten_is_restored_by_its_content() {
    let test_store = TestStore::new();
    let pack = |version: &str| {
        let manifest = behind(&test_store.store_path().join("artifacts/a/versions").join(version)).join("manifest");
        let name = std::fs::read(manifest).unwrap()[12..44].iter().map(|b| format!("{b:02x}")).collect::<String>();
        test_store.store_path().join("packs").join(name)
    };
    for i in 0..12 {
        make_tree(&test_store.path("src"), &[(&format!("{i}"), format!("content {i}").as_bytes()), ("d/x", b"same")]);
        test_store.ok(&["put", "a", "src"]);
    }
    gc(&test_store, 0);
    assert!(!pack("v3").exists(), "small packs are merged");
    test_store.ok(&["rm", "a:v3"]);
    test_store.ok(&["restore", "a:v3"]);
    test_store.ok(&["rm", "a:v3"]);
    gc(&test_store, 1000); // its nodes go to the trash, in a pack that is rewritten or not
    test_store.ok(&["restore", "a:v3"]);
    gc(&test_store, 0);
    assert_eq!(test_store.ok(&["cat", "a:v3", "3"]), "content 3");
    test_store.clean("restored from rewritten packs");
}

#[test]
fn markers_of_older_releases_are_read() {
    let test_store = start();
    let old = json!({ "version": "v0", "at": "2026-01-02T03:04:05Z", "host": "old-host" });
    let record = behind(&test_store.store_path().join("artifacts/a/removed/v0"));
    std::fs::write(record, record::encode(&old).unwrap()).unwrap();
    let message = text(&test_store.run(&["show", "a:v0"], 6).stderr);
    assert!(message.contains("a:v0 was removed at 2026-01-02T03:04:05Z on old-host\n"), "{message}");
    test_store.ok(&["restore", "a:v0"]);
    assert!(whole(&test_store, "an old marker"));
}

#[test]
fn a_lost_record_of_a_restore_frees_nothing() {
    let test_store = start();
    test_store.ok(&["restore", "a:v0"]);
    gc(&test_store, 0);
    let link = test_store.store_path().join("artifacts/a/removed/v0.000001");
    let target = std::fs::read_link(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    let message = text(&test_store.run(&["gc", "--min-age", "0"], 3).stderr);
    assert!(message.contains("number 1 of removal of v0 of a missing"), "{message}");
    std::os::unix::fs::symlink(target, link).unwrap();
    assert!(whole(&test_store, "the record is back"));
}

#[test]
fn an_alias_that_moves_away_while_its_version_is_removed_by_force_stays() {
    let from = TestStore::new();
    make_tree(&from.path("one"), &[("note", b"one")]);
    make_tree(&from.path("two"), &[("note", b"two")]);
    from.ok(&["put", "a", "one"]);
    from.ok(&["put", "a", "two"]);
    from.ok(&["alias", "a:v0", "prod"]);
    from.ok(&["alias", "a:v0", "old"]);
    let args = ["rm", "a:v0", "--force"];
    let last = steps(&copy_of(&from), &args);
    assert!(last > 8, "{last}");
    for step in 1..=last {
        let test_store = copy_of(&from);
        let out = stopped(&test_store, &args, step, || {
            // It may be removed already: then it is made again.
            test_store.ok(&["alias", "a:v1", "prod"]);
        });
        assert!(out.status.success(), "{step}: {}", text(&out.stderr));
        assert_eq!(test_store.ok(&["cat", "a:prod", "note"]), "two", "stopped at {step}");
        test_store.run(&["cat", "a:old", "note"], 6);
        assert!(!whole(&test_store, "removed"));
    }
}

#[test]
fn the_first_restore_in_a_store_is_seen_by_a_collection_that_is_at_work() {
    let test_store = start();
    let collection = ["gc", "--min-age", "1h"];
    let step = steps(&copy_of(&test_store), &collection) / 2;
    let out = stopped(&test_store, &collection, step, || {
        test_store.ok(&["restore", "a:v0"]);
    });
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(whole(&test_store, "after the collection"));
}

/// The command, stopped before a step that changes the disk, while `meanwhile` runs.
fn stopped(test_store: &TestStore, args: &[&str], step: u64, meanwhile: impl FnOnce()) -> Output {
    let child = test_store.stopped_before(step, args);
    meanwhile();
    resume(&child);
    child.wait_with_output().unwrap()
}

#[test]
fn a_version_restored_while_a_collection_is_stopped_anywhere_is_whole_or_was_freed() {
    // With the content in place, and in a batch of the trash that this collection frees.
    for in_trash in [false, true] {
        let from = prepared();
        if in_trash {
            gc(&from, 1000);
        }
        let collection = ["gc", "--min-age", "0", "--wait"];
        let (mut restored, mut freed) = (0, 0);
        for step in 1..=steps(&copy_of(&from), &collection) {
            let test_store = copy_of(&from);
            let mut status = None;
            let out = stopped(&test_store, &collection, step, || {
                status = test_store.cairn(&["restore", "a:v0"]).output().unwrap().status.code();
            });
            assert!(out.status.success(), "{step}: {}", text(&out.stderr));
            let there = whole(&test_store, &format!("collection stopped at {step}"));
            assert_eq!(status, Some(if there { 0 } else { 6 }), "at step {step}");
            *(if there { &mut restored } else { &mut freed }) += 1;
            gc(&test_store, 0);
            assert_eq!(whole(&test_store, &format!("stopped at {step}, collected again")), there);
        }
        println!("in the trash: {in_trash}; restored {restored} times, freed before {freed} times");
        assert!(restored > 3 && freed > 1, "{restored} {freed}");
    }
}

#[test]
fn a_restore_stopped_anywhere_loses_nothing_to_a_collection() {
    for in_trash in [false, true] {
        let from = prepared();
        if in_trash {
            gc(&from, 1000);
        }
        for step in 1..=steps(&copy_of(&from), &["restore", "a:v0"]) {
            for broken in [false, true] {
                let test_store = copy_of(&from);
                let out = stopped(&test_store, &["restore", "a:v0"], step, || {
                    if broken {
                        // It looks dead: its lock is removed, so that it is fenced, or its commit is helped.
                        for lock in std::fs::read_dir(test_store.store_path().join("locks")).unwrap() {
                            std::fs::remove_file(lock.unwrap().path()).unwrap();
                        }
                    }
                    for _ in 0..2 {
                        gc(&test_store, 0);
                    }
                });
                let label = format!("restore stopped at {step}, lock broken: {broken}: {}", text(&out.stderr));
                let there = whole(&test_store, &label);
                match out.status.code() {
                    Some(0) => assert!(there, "{label}"),
                    // Its token was removed, because its lock was.
                    Some(5) if broken && label.contains("/store/work/") => assert!(!there, "{label}"),
                    code => assert!(code == Some(6) && !there, "{code:?} {label}"),
                }
                gc(&test_store, 0);
                assert_eq!(whole(&test_store, &label), there);
            }
        }
    }
}

#[test]
fn a_restore_killed_or_failed_at_every_step_is_done_or_not_done_and_succeeds_when_repeated() {
    let in_trash = start();
    gc(&in_trash, 1000);
    let freed = with_freed_root();
    let args = ["restore", "a:v0"];
    // In memory and on the disk: only some file systems can rename without replacing.
    let copies: [fn(&TestStore) -> TestStore; 2] = [copy_of, on_disk];
    for (from, copy) in [(&in_trash, copies[0]), (&in_trash, copies[1]), (&freed, copies[1])] {
        let steps = steps(&copy(from), &args);
        assert!(steps > 8, "{steps}");
        at_once(&faults(steps), |(kind, step)| {
            for collect_between in [false, true] {
                let test_store = copy(from);
                let out = test_store.cairn(&args).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
                let label = format!("{kind} at step {step}: {}", text(&out.stderr));
                let there = whole(&test_store, &label);
                assert!(there || !out.status.success(), "{label}");
                if collect_between {
                    gc(&test_store, 0);
                    let helped = whole(&test_store, &label); // a committed one is completed
                    assert!(helped || !there, "{label}");
                    let again = test_store.cairn(&args).output().unwrap().status.code();
                    let there = whole(&test_store, &label);
                    assert!(again == Some(if there { 0 } else { 6 }) && (there || !helped), "{label}");
                } else {
                    test_store.run(&args, 0);
                    assert!(whole(&test_store, &label), "{label}");
                }
            }
        });
    }
}

#[test]
fn removals_restores_and_collections_at_once_lose_nothing() {
    let test_store = start();
    test_store.ok(&["restore", "a:v0"]);
    let until = Instant::now() + Duration::from_secs(8);
    let done: Vec<u64> = std::thread::scope(|scope| {
        let run = |args: &'static [&'static str], allowed: &'static [i32], seed: u64| {
            let test_store = &test_store;
            scope.spawn(move || {
                let (mut dice, mut done) = (Dice(seed), 0);
                while Instant::now() < until {
                    let out = test_store.cairn(args).output().unwrap();
                    let code = out.status.code().unwrap_or(-1);
                    assert!(allowed.contains(&code), "{args:?}: {code} {}", text(&out.stderr));
                    done += u64::from(code == 0);
                    std::thread::sleep(Duration::from_millis(dice.roll(30)));
                }
                done
            })
        };
        let threads = [
            run(&["rm", "a:v0", "-q"], &[0, 6], 1),
            run(&["restore", "a:v0", "-q"], &[0, 6], 2),
            run(&["restore", "a:v0", "-q"], &[0, 6], 3),
            run(&["gc", "--min-age", "0", "--wait", "-q"], &[0], 4),
            // What was freed is stored again, so that restores can succeed.
            run(&["put", "b", "one", "-q", "--new-version"], &[0], 5),
            run(&["rm", "b", "--all", "-q"], &[0, 6], 6),
        ];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{done:?}");
    whole(&test_store, "after the race");
    assert!(done[1] + done[2] > 5 && done[3] > 3, "{done:?}");
    let names: Vec<_> = std::fs::read_dir(test_store.store_path().join("artifacts/a/removed")).unwrap().collect();
    assert!(names.len() > 4, "it was removed and restored many times");
}

#[test]
fn while_a_collection_of_an_older_release_is_at_work_each_restore_is_refused() {
    let test_store = start();
    let purpose = |features| Purpose { purpose: "gc", features, ..Purpose::default() };
    let lock = LockFile::take(&test_store.store(), &Token::fresh(), &purpose(&[])).unwrap();
    // The second one too: the first one has added the feature, and that collection does not know it.
    for _ in 0..2 {
        let message = text(&test_store.run(&["restore", "a:v0"], 3).stderr);
        assert!(message.contains("of an older release is at work"), "{message}");
    }
    drop(lock);
    let _of_this_release =
        LockFile::take(&test_store.store(), &Token::fresh(), &purpose(&["restored-versions"])).unwrap();
    test_store.ok(&["restore", "a:v0"]);
    assert!(whole(&test_store, "restored"));
}
