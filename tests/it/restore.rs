//! A removed version is brought back whole until a collection has freed of it, or the restore fails: at any timing of
//! removal, restore and collection, and with a kill, an error or a stop at any step.

use crate::support::{Dice, TestStore, copy_tree, go_on, make_tree, random_bytes, snapshot, steps, text, wait_stopped};
use cairn::gc::{GcOptions, collect};
use cairn::internals::record;
use cairn::verify::{Scope, VerifyOptions, verify};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// `a:v0`, which is removed and has content of its own, and `a:v1`; they share some.
fn start() -> TestStore {
    let lab = TestStore::new();
    for (dir, seed) in [("one", 2), ("two", 3)] {
        let (large, small) = (random_bytes(seed, 300_000), random_bytes(seed, 3000));
        let shared = random_bytes(9, 200_000);
        make_tree(
            &lab.path(dir),
            &[("large", &large), ("d/small", &small), ("d/shared", &shared), ("note", dir.as_bytes())],
        );
        lab.ok(&["put", "a", dir]);
    }
    lab.ok(&["rm", "a:v0"]);
    lab
}

/// [`start`], in a store that knows restored versions already.
fn prepared() -> TestStore {
    let lab = start();
    lab.ok(&["restore", "a:v0"]);
    lab.ok(&["rm", "a:v0"]);
    lab
}

fn again(from: &TestStore) -> TestStore {
    let lab = TestStore { dir: tempfile::tempdir().unwrap() };
    for name in ["store", "one", "two"] {
        copy_tree(&from.path(name), &lab.path(name));
    }
    lab
}

fn gc(lab: &TestStore, min_age: u64) {
    collect(&lab.store(), &GcOptions::default().min_age(Duration::from_secs(min_age))).unwrap();
}

/// No damage; each version is what was put, or, as v0 may be, removed. Returns whether v0 is there.
fn whole(lab: &TestStore, label: &str) -> bool {
    let report = verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{label}: {:?}", report.findings);
    let there = lab.store().version("a:v0").is_ok();
    for (version, source) in [("a:v0", "one"), ("a:v1", "two")].into_iter().skip(usize::from(!there)) {
        let out = tempfile::tempdir_in(lab.dir.path()).unwrap();
        lab.ok(&["get", version, out.path().join("got").to_str().unwrap()]);
        assert!(snapshot(&out.path().join("got")) == snapshot(&lab.path(source)), "{label}: {version}");
    }
    there
}

fn config(lab: &TestStore) -> Value {
    serde_json::from_slice(&std::fs::read(lab.store_path().join("cairn.json")).unwrap()).unwrap()
}

#[test]
fn a_removed_version_says_when_and_by_whom_and_comes_back_as_it_was() {
    let lab = start();
    lab.ok(&["put", "a", "two", "--tag", "golden"]); // v1 again: a tag
    let out = lab.cairn(&["rm", "a:v1"]).env("CAIRN_RUN", "cleanup-7").output().unwrap();
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
        let said = text(&lab.run(args, 6).stderr);
        let by = format!(" by root on {}, run cleanup-7\n", host.trim());
        assert!(said.starts_with("error: a:v1 was removed at 20") && said.contains(&by), "{args:?}: {said}");
        assert!(said.contains("hint: `cairn restore a:v1` brings it back"), "{args:?}: {said}");
    }
    assert_eq!(config(&lab)["features"]["compatible"], json!([]));
    assert_eq!(lab.ok(&["restore", "a:v1"]), "a:v1");
    assert_eq!(config(&lab)["features"]["compatible"], json!(["restored-versions"]));
    let shown: Value = serde_json::from_str(&lab.ok(&["show", "a", "--json"])).unwrap();
    assert_eq!((&shown["version"], &shown["tags"]), (&json!("v1"), &json!(["golden"])), "the newest again");
    let document = |args: &[&str]| serde_json::from_str::<Value>(&lab.ok(args)).unwrap();
    let expect = |restored: bool| json!({ "artifact": "a", "version": "v1", "restored": restored });
    assert_eq!(document(&["restore", "a:v1", "--json"]), expect(false));
    lab.ok(&["rm", "a:v1"]);
    lab.run(&["show", "a:v1"], 6);
    assert_eq!(document(&["restore", "a:v1", "--json"]), expect(true));
    assert_eq!(lab.ok(&["put", "a", "one"]), "a:v2", "numbers continue");
    assert!(!whole(&lab, "restored twice"), "v0 is still removed");
    lab.run(&["restore", "a:v9"], 6);
    for word in ["a", "a:latest", "a:prod"] {
        lab.run(&["restore", word], 2);
    }
}

#[test]
fn a_version_whose_content_is_in_the_trash_is_put_back_and_stays() {
    let lab = start();
    gc(&lab, 1000);
    let trash = || {
        walkdir::WalkDir::new(lab.store_path().join("trash"))
            .into_iter()
            .filter(|e| e.as_ref().unwrap().file_type().is_file())
            .count()
    };
    assert!(trash() >= 2, "its own object and pack");
    lab.ok(&["restore", "a:v0"]);
    assert!(whole(&lab, "restored from the trash"));
    gc(&lab, 0);
    assert_eq!(trash(), 0);
    assert!(whole(&lab, "after a collection"));
}

#[test]
fn a_version_of_which_content_was_freed_cannot_be_restored_until_it_is_put_again() {
    let lab = start();
    gc(&lab, 0);
    let said = text(&lab.run(&["restore", "a:v0"], 6).stderr);
    assert!(said.contains("a:v0 cannot be restored: content of it is not in the store any more"), "{said}");
    assert!(said.contains("large"), "the paths: {said}");
    let said = text(&lab.run(&["cat", "a:v0", "note"], 6).stderr);
    assert!(said.contains("hint: a garbage collection has freed content of it, so it cannot be restored"), "{said}");
    assert!(!whole(&lab, "not restored"));
    lab.ok(&["put", "b", "one"]);
    lab.ok(&["restore", "a:v0"]); // the same content, and its nodes in a pack of the same name
    assert!(whole(&lab, "put again"));
}

#[test]
fn a_version_whose_packs_were_rewritten_is_restored_by_its_content() {
    let lab = TestStore::new();
    let pack = |version: &str| {
        let dir = lab.store_path().join("artifacts/a/versions");
        let manifest = dir.join(std::fs::read_link(dir.join(version)).unwrap()).join("manifest");
        let name = std::fs::read(manifest).unwrap()[12..44].iter().map(|b| format!("{b:02x}")).collect::<String>();
        lab.store_path().join("packs").join(name)
    };
    for i in 0..12 {
        make_tree(&lab.path("src"), &[(&format!("{i}"), format!("content {i}").as_bytes()), ("d/x", b"same")]);
        lab.ok(&["put", "a", "src"]);
    }
    gc(&lab, 0);
    assert!(!pack("v3").exists(), "small packs are merged");
    lab.ok(&["rm", "a:v3"]);
    lab.ok(&["restore", "a:v3"]);
    lab.ok(&["rm", "a:v3"]);
    gc(&lab, 1000); // its nodes go to the trash, in a pack that is rewritten or not
    lab.ok(&["restore", "a:v3"]);
    gc(&lab, 0);
    assert_eq!(lab.ok(&["cat", "a:v3", "3"]), "content 3");
    let report = verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn markers_of_older_releases_are_read() {
    let lab = start();
    let removed = lab.store_path().join("artifacts/a/removed");
    let old = json!({ "version": "v0", "at": "2026-01-02T03:04:05Z", "host": "old-host" });
    let record = removed.join(std::fs::read_link(removed.join("v0")).unwrap());
    std::fs::write(record, record::encode(&old).unwrap()).unwrap();
    let said = text(&lab.run(&["show", "a:v0"], 6).stderr);
    assert!(said.contains("a:v0 was removed at 2026-01-02T03:04:05Z on old-host\n"), "{said}");
    lab.ok(&["restore", "a:v0"]);
    assert!(whole(&lab, "an old marker"));
}

#[test]
fn a_lost_record_of_a_restore_frees_nothing() {
    let lab = start();
    lab.ok(&["restore", "a:v0"]);
    gc(&lab, 0);
    let link = lab.store_path().join("artifacts/a/removed/v0.000001");
    let target = std::fs::read_link(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    let said = text(&lab.run(&["gc", "--min-age", "0"], 3).stderr);
    assert!(said.contains("number 1 of removal of v0 of a missing"), "{said}");
    std::os::unix::fs::symlink(target, link).unwrap();
    assert!(whole(&lab, "the record is back"));
}

#[test]
fn the_first_restore_in_a_store_is_refused_while_a_collection_is_at_work() {
    let lab = start();
    let collection = ["gc", "--min-age", "1h"];
    let step = steps(&again(&lab), &collection) / 2;
    let out = stopped(&lab, &collection, step, || {
        let said = text(&lab.run(&["restore", "a:v0"], 3).stderr);
        assert!(said.contains("a garbage collection is at work") && said.contains("run the command again"), "{said}");
    });
    assert!(out.status.success(), "{}", text(&out.stderr));
    lab.ok(&["restore", "a:v0"]);
    assert!(whole(&lab, "after the collection"));
}

/// The command, stopped before a step that changes the disk, while `meanwhile` runs.
fn stopped(lab: &TestStore, args: &[&str], step: u64, meanwhile: impl FnOnce()) -> Output {
    let mut command = lab.cairn(args);
    command.env("CAIRN_FAULT", format!("stop:{step}")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_stopped(&child);
    meanwhile();
    go_on(&child);
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
        for step in 1..=steps(&again(&from), &collection) {
            let lab = again(&from);
            let mut status = None;
            let out = stopped(&lab, &collection, step, || {
                status = lab.cairn(&["restore", "a:v0"]).output().unwrap().status.code();
            });
            assert!(out.status.success(), "{step}: {}", text(&out.stderr));
            let there = whole(&lab, &format!("collection stopped at {step}"));
            assert_eq!(status, Some(if there { 0 } else { 6 }), "at step {step}");
            *(if there { &mut restored } else { &mut freed }) += 1;
            gc(&lab, 0);
            assert_eq!(whole(&lab, &format!("stopped at {step}, collected again")), there);
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
        for step in 1..=steps(&again(&from), &["restore", "a:v0"]) {
            for broken in [false, true] {
                let lab = again(&from);
                let out = stopped(&lab, &["restore", "a:v0"], step, || {
                    if broken {
                        // It looks dead: its lock is removed, so that it is fenced, or its commit is helped.
                        for lock in std::fs::read_dir(lab.store_path().join("locks")).unwrap() {
                            std::fs::remove_file(lock.unwrap().path()).unwrap();
                        }
                    }
                    for _ in 0..2 {
                        gc(&lab, 0);
                    }
                });
                let label = format!("restore stopped at {step}, lock broken: {broken}: {}", text(&out.stderr));
                let there = whole(&lab, &label);
                match out.status.code() {
                    Some(0) => assert!(there, "{label}"),
                    // Stopped while it made its token, which the collection removed.
                    Some(5) if label.contains("/store/work/") => assert!(!there, "{label}"),
                    code => assert!(code == Some(6) && !there, "{code:?} {label}"),
                }
                gc(&lab, 0);
                assert_eq!(whole(&lab, &label), there);
            }
        }
    }
}

#[test]
fn a_restore_killed_or_failed_at_every_step_is_done_or_not_done_and_succeeds_when_repeated() {
    let from = start();
    gc(&from, 1000);
    let args = ["restore", "a:v0"];
    let steps = steps(&again(&from), &args);
    assert!(steps > 8, "{steps}");
    for kind in ["kill", "error"] {
        for step in 1..=steps {
            for collect_between in [false, true] {
                let lab = again(&from);
                let out = lab.cairn(&args).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
                let label = format!("{kind} at step {step}: {}", text(&out.stderr));
                let there = whole(&lab, &label);
                assert!(there || !out.status.success(), "{label}");
                if collect_between {
                    gc(&lab, 0);
                    let helped = whole(&lab, &label); // a committed one is completed
                    assert!(helped || !there, "{label}");
                    let again = lab.cairn(&args).output().unwrap().status.code();
                    let there = whole(&lab, &label);
                    assert!(again == Some(if there { 0 } else { 6 }) && (there || !helped), "{label}");
                } else {
                    lab.run(&args, 0);
                    assert!(whole(&lab, &label), "{label}");
                }
            }
        }
    }
}

#[test]
fn removals_restores_and_collections_at_once_lose_nothing() {
    let lab = start();
    lab.ok(&["restore", "a:v0"]);
    let until = Instant::now() + Duration::from_secs(8);
    let outcomes: Vec<(PathBuf, i32, u64)> = std::thread::scope(|scope| {
        let run = |args: &'static [&'static str], allowed: &'static [i32], seed: u64| {
            let lab = &lab;
            scope.spawn(move || {
                let (mut dice, mut done) = (Dice(seed), 0);
                while Instant::now() < until {
                    let out = lab.cairn(args).output().unwrap();
                    let code = out.status.code().unwrap_or(-1);
                    assert!(allowed.contains(&code), "{args:?}: {code} {}", text(&out.stderr));
                    done += u64::from(code == 0);
                    std::thread::sleep(Duration::from_millis(dice.roll(30)));
                }
                (PathBuf::from(args[0]), 0, done)
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
    println!("{outcomes:?}");
    whole(&lab, "after the race");
    assert!(outcomes[1].2 + outcomes[2].2 > 5 && outcomes[3].2 > 3, "{outcomes:?}");
    let names: Vec<_> = std::fs::read_dir(lab.store_path().join("artifacts/a/removed")).unwrap().collect();
    assert!(names.len() > 4, "it was removed and restored many times");
}
