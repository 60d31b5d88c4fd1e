//! Costs that must not grow with a store's age: with the runs that made a version, with its aliases, with what killed
//! writers left.

use crate::crafted_stores;
use crate::support::{TestStore, at_once, faults, make_tree, resume, steps, text};
use cairn::catalog::note::{self, Note};
use cairn::types::Tag;
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::{Artifact, Run, RunOptions, Store, Version};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A store with one version, which `runs` runs made.
fn made_by(runs: usize) -> TestStore {
    let test_store = TestStore::in_memory();
    for n in 0..runs {
        log(&test_store.store(), n);
    }
    test_store
}

fn log(store: &Store, run: usize) {
    let run = Run::new(store, RunOptions::default().id(format!("run-{run}"))).unwrap();
    let mut artifact = Artifact::new("x", None).unwrap();
    artifact.add_bytes("f", "same").unwrap();
    run.log_artifact(&artifact).unwrap();
}

fn newest(store: &Store) -> Version {
    store.version("x:v0").unwrap()
}

fn notes(test_store: &TestStore) -> PathBuf {
    test_store.store_path().join("artifacts/x/notes/v0")
}

/// How many notes a reader opens: those whose damage it reports.
fn read_notes(test_store: &TestStore) -> usize {
    let damaged = |number: &fs::DirEntry| {
        let record = notes(test_store).join(fs::read_link(number.path()).unwrap());
        let right = fs::read(&record).unwrap();
        fs::write(&record, b"damaged").unwrap();
        let failed = newest(&test_store.store()).annotations().is_err();
        fs::write(&record, right).unwrap();
        failed
    };
    let numbers = fs::read_dir(notes(test_store)).unwrap().map(Result::unwrap);
    numbers.filter(|n| n.file_type().unwrap().is_symlink()).filter(damaged).count()
}

#[test]
fn a_version_that_400_runs_made_is_read_with_few_notes() {
    let test_store = made_by(400);
    assert_eq!(fs::read_dir(notes(&test_store)).unwrap().count(), 2 * 399);
    let runs = newest(&test_store.store()).annotations().unwrap().runs;
    assert!(runs.iter().map(|run| run.id.as_str().to_owned()).eq((0..400).map(|n| format!("run-{n}"))), "{runs:?}");
    let read = read_notes(&test_store);
    assert!(read <= 32, "{read} of 399 notes are read");
    log(&test_store.store(), 17); // is noted already
    assert_eq!(fs::read_dir(notes(&test_store)).unwrap().count(), 2 * 399);
    test_store.clean("one note for each run");
    // Also directly before and after a note with a summary.
    for runs in [401, 409, 420] {
        let noted = fs::read_dir(notes(&test_store)).unwrap().count() / 2;
        (noted + 1..runs).for_each(|run| log(&test_store.store(), run));
        let read = read_notes(&test_store);
        assert!(read <= 32, "{read} of {} notes are read", runs - 1);
    }
    // Only the first ten runs are printed.
    let shown = test_store.ok(&["show", "x:v0"]);
    assert!(shown.contains("410 more") && shown.lines().count() < 40, "{shown}");
    assert_eq!(test_store.ok(&["show", "x:v0", "--json"]).matches("\"run-").count(), 421);
}

#[test]
fn notes_that_an_older_release_wrote_are_summarized_by_the_next_one() {
    let test_store = made_by(2);
    let record = notes(&test_store).join(fs::read_link(notes(&test_store).join("000001")).unwrap());
    let text = fs::read_to_string(&record).unwrap();
    assert!(!text.contains("\"before\""), "{text}");
    for n in 2..=100 {
        let body = text.rsplit_once("  \"sha256\"").unwrap().0.replace("run-1", &format!("old-{n}"));
        let token = cairn::types::Token::fresh();
        let record = notes(&test_store).join(token.record_name());
        let sum = cairn::types::Digest::of(body.as_bytes());
        fs::write(record, format!("{body}  \"sha256\": \"{sum}\"\n}}\n")).unwrap();
        symlink(token.record_name(), notes(&test_store).join(format!("{n:06}"))).unwrap();
    }
    assert_eq!(read_notes(&test_store), 100);
    log(&test_store.store(), 2);
    assert_eq!(read_notes(&test_store), 1);
    assert_eq!(newest(&test_store.store()).annotations().unwrap().runs.len(), 102);
    test_store.clean("summarized notes");
}

#[test]
fn summaries_of_notes_change_nothing_and_a_wrong_one_is_found() {
    let test_store = made_by(1);
    let (store, mut want) = (test_store.store(), Vec::<Tag>::new());
    let tag = |n: usize| Tag::parse(&format!("t{n}")).unwrap();
    for n in 0..150usize {
        let (add, remove) = (tag(n * 7 % 11), tag(n * 5 % 13));
        want.retain(|t| *t != remove);
        if !want.contains(&add) {
            want.push(add.clone());
        }
        let description = n.is_multiple_of(9).then(|| format!("description {n}"));
        let change = Note { add_tags: vec![add], remove_tags: vec![remove], description, ..Note::default() };
        note::add(&newest(&store), change).unwrap();
        let got = newest(&store).annotations().unwrap();
        assert_eq!(got.tags, want, "after note {n}");
        assert_eq!(got.description.unwrap(), format!("description {}", n / 9 * 9));
    }
    assert!(read_notes(&test_store) <= 30);
    test_store.clean("right summaries");
    // A summary that says something else.
    let records = fs::read_dir(notes(&test_store)).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.is_symlink());
    let with_summary: Vec<_> = records.filter(|p| fs::read_to_string(p).unwrap().contains("\"before\"")).collect();
    crafted_stores::resign(&with_summary[0], |record| {
        let wrong = record["before"].to_string().replacen("\"t1\"", "\"t99\"", 1);
        record["before"] = serde_json::from_str(&wrong).unwrap();
    });
    let report = verify(&store, &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.len() == 1 && report.findings[0].why.contains("add up to"), "{:?}", report.findings);
}

/// How many system calls of a command concern the notes of v0, and how many it makes in all.
fn calls(test_store: &TestStore, args: &[&str]) -> Option<(usize, usize)> {
    let calls = test_store.traced(args, 0)?;
    Some((calls.iter().filter(|line| line.contains("/notes/v0")).count(), calls.len()))
}

#[test]
fn a_run_that_makes_the_newest_version_again_reads_few_notes_after_any_number_of_runs() {
    let commands: [&[&str]; 6] = [
        &["put", "x", "d", "--run", "new"],
        &["put", "x", "d", "--run", "new"],
        &["put", "x", "d", "--run", "described", "--description", "text"],
        &["patch", "x", "d/f", "--run", "patches"],
        &["list", "x"],
        &["show", "x"],
    ];
    let made = [40, 640].map(|runs| {
        let test_store = made_by(runs);
        make_tree(&test_store.path("d"), &[("f", b"same")]);
        let counted = commands.map(|args| calls(&test_store, args));
        test_store.ok(&["upsert", "x", "d", "--distributed-id", "i", "--run", "upserts"]);
        let finish = calls(&test_store, &["finish", "x", "--distributed-id", "i", "--run", "finishes"]);
        let runs = newest(&test_store.store()).annotations().unwrap().runs;
        let last: Vec<_> = runs.iter().skip(runs.len() - 4).map(|run| run.id.as_str()).collect();
        assert_eq!(last, ["new", "described", "patches", "finishes"], "each is noted once");
        test_store.clean("after puts of the newest version");
        [counted.to_vec(), vec![finish]].concat()
    });
    for (args, few, many) in commands.iter().zip(&made[0]).zip(&made[1]).map(|((a, f), m)| (a, f, m)) {
        let (Some(few), Some(many)) = (few, many) else { return };
        assert!(many.1 <= few.1 + 160, "{args:?}: {few:?} with 40 runs, {many:?} with 640");
    }
    assert!(made[1][0].unwrap().0 <= 120, "{made:?}");
    assert_eq!(made[1][1].unwrap().0, 0, "a run that is noted reads no notes");
}

#[test]
fn a_run_is_noted_once_also_if_its_mark_is_missing() {
    let test_store = made_by(201);
    let noted = || fs::read_dir(notes(&test_store)).unwrap().count() / 2;
    assert_eq!((noted(), count(&marks(&test_store))), (200, 200));
    fs::remove_dir_all(marks(&test_store)).unwrap();
    log(&test_store.store(), 200); // the last note names it
    assert_eq!((noted(), count(&marks(&test_store))), (200, 1));
    log(&test_store.store(), 0); // the version's record names it
    assert_eq!((noted(), count(&marks(&test_store))), (200, 1));
    log(&test_store.store(), 1); // a second note changes nothing
    log(&test_store.store(), 1);
    assert_eq!((noted(), count(&marks(&test_store))), (201, 2));
    let runs = newest(&test_store.store()).annotations().unwrap().runs;
    assert!(runs.iter().map(|run| run.id.as_str().to_owned()).eq((0..201).map(|n| format!("run-{n}"))), "{runs:?}");
    test_store.clean("without marks");
}

/// The marks of runs that the notes name.
fn marks(test_store: &TestStore) -> PathBuf {
    test_store.store_path().join("artifacts/x/made/v0")
}

#[test]
fn a_collection_removes_the_marks_of_a_removed_version_and_each_run_of_a_restored_one_is_listed_once() {
    let test_store = made_by(20);
    let runs = || newest(&test_store.store()).annotations().unwrap().runs;
    let before = runs();
    test_store.ok(&["gc"]);
    assert_eq!((before.len(), count(&marks(&test_store))), (20, 19));
    test_store.ok(&["rm", "x:v0"]);
    test_store.ok(&["gc"]);
    assert!(!marks(&test_store).exists());
    test_store.ok(&["restore", "x:v0"]);
    log(&test_store.store(), 1);
    log(&test_store.store(), 20);
    assert_eq!(count(&marks(&test_store)), 2);
    assert!(runs()[..20] == before && runs().len() == 21);
    test_store.clean("restored");
}

#[test]
fn a_run_is_noted_once_whatever_step_a_crash_interrupts() {
    let from = made_by(17); // the next note has a summary
    make_tree(&from.path("d"), &[("f", b"same")]);
    fs::remove_dir_all(marks(&from).parent().unwrap()).unwrap();
    let args = ["put", "x", "d", "--run", "new"];
    let steps = steps(&from.copy(&["store", "d"]), &args);
    at_once(&faults(steps), |(kind, step)| {
        let test_store = from.copy(&["store", "d"]);
        let output = test_store.cairn(&args).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
        let label = format!("{kind} at step {step}: {:?}", output.status);
        let noted = || {
            let runs = newest(&test_store.store()).annotations().unwrap().runs;
            runs.iter().filter(|run| run.id.as_str() == "new").count()
        };
        assert!(!output.status.success() || noted() == 1, "{label}");
        // A mark is never there without the note.
        assert!(!marks(&test_store).is_dir() || count(&marks(&test_store)) == 0 || noted() == 1, "{label}");
        test_store.ok(&args);
        test_store.ok(&args);
        assert_eq!((noted(), fs::read_dir(notes(&test_store)).unwrap().count() / 2 <= 18), (1, true), "{label}");
        test_store.clean(&label);
    });
}

/// What a writer of this host leaves that was killed before it committed: its token, its lock, its record.
fn dead_writer(test_store: &TestStore, pid: u32) -> PathBuf {
    let token = cairn::types::Token::fresh();
    let (work, record) = (test_store.store_path().join("work").join(token.as_str()), token.record_name());
    fs::create_dir(&work).unwrap();
    symlink(format!("artifacts/x/versions/{record}"), work.join("record")).unwrap();
    fs::write(work.join("pack-0"), [7; 1000]).unwrap();
    let versions = test_store.store_path().join("artifacts/x/versions");
    make_tree(&versions.join(record), &[("record", b"half")]);
    let line = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
    let lock = serde_json::json!({
        "beat": "000000000000", "purpose": "put", "artifact": "x", "draft": null, "run": null,
        "host": line("/proc/sys/kernel/hostname"), "boot_id": line("/proc/sys/kernel/random/boot_id"),
        "pid": pid, "pid_start": 1, "user": "u", "since": "2026-01-01T00:00:00Z",
    });
    fs::write(test_store.store_path().join("locks").join(token.as_str()), lock.to_string()).unwrap();
    work
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_writer_clears_what_dead_writers_of_its_host_left() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("f", b"0")]);
    test_store.ok(&["put", "x", "d"]);
    // One writer is alive: it stopped somewhere before its commit.
    make_tree(&test_store.path("other"), &[("f", b"other")]);
    let alive = test_store.stopped_before(6, &["put", "x", "other"]);
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    for _ in 0..200 {
        dead_writer(&test_store, gone.id());
    }
    let (work, locks) = (test_store.store_path().join("work"), test_store.store_path().join("locks"));
    assert!(count(&work) == 201 && count(&locks) == 201, "{} {}", count(&work), count(&locks));
    make_tree(&test_store.path("d"), &[("f", b"1")]);
    test_store.ok(&["put", "x", "d"]);
    assert_eq!((count(&work), count(&locks)), (1, 1));
    let hidden = fs::read_dir(test_store.store_path().join("artifacts/x/versions")).unwrap();
    let records = hidden.filter(|e| e.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.').count();
    assert!((2..=3).contains(&records), "{records}"); // of the versions, and perhaps of the writer that is alive
    resume(&alive);
    let done = alive.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(test_store.ok(&["cat", "x:v2", "f"]), "other");
    assert_eq!((count(&work), count(&locks)), (0, 0));
    test_store.clean("after the dead writers");
}

/// How many system calls of a put of new content concern what aliases and the last collection name.
fn calls_for_names(test_store: &TestStore, content: &str) -> Option<usize> {
    make_tree(&test_store.path("d"), &[("f", content.as_bytes())]);
    let calls = test_store.traced(&["put", "x", "d"], 0)?;
    let is_for_names = |line: &&String| ["/aliases", "gc.json", "/given"].iter().any(|at| line.contains(at));
    Some(calls.iter().filter(is_for_names).count())
}

#[test]
fn a_new_version_reads_neither_all_aliases_nor_what_the_last_collection_saw() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("f", b"0")]);
    test_store.ok(&["put", "x", "d"]);
    let Some(without_names) = calls_for_names(&test_store, "1") else { return };
    assert!(without_names <= 8, "{without_names}");
    for n in 0..30 {
        test_store.ok(&["alias", &format!("x:v{}", n % 2), &format!("a{n}")]);
    }
    let given = test_store.store_path().join("artifacts/x/given");
    let marks = || fs::read_dir(&given).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(marks().collect::<Vec<_>>(), ["v1"]);
    test_store.ok(&["gc"]);
    assert_eq!(calls_for_names(&test_store, "2"), Some(1));
    test_store.ok(&["gc"]);
    assert_eq!(marks().collect::<Vec<_>>(), ["v2"]);
    // A store of an earlier release has no marks: the first writer reads everything, and leaves one.
    fs::remove_dir_all(&given).unwrap();
    assert!(calls_for_names(&test_store, "3") > Some(30));
    assert_eq!(marks().collect::<Vec<_>>(), ["v2"]);
    assert_eq!(calls_for_names(&test_store, "4"), Some(1));
    test_store.clean("with marks");
}

#[test]
fn a_version_is_published_before_the_index_is_maintained() {
    let test_store = TestStore::new();
    for (n, args) in [&["put", "x", "d"][..], &["patch", "x", "d"]].iter().enumerate() {
        make_tree(&test_store.path("d"), &[("f", n.to_string().as_bytes())]);
        let Some(calls) = test_store.traced(args, 0) else { return };
        let published = calls.iter().position(|c| c.contains("symlink") && c.contains(&format!("/versions/v{n}\"")));
        let indexed = calls.iter().position(|c| c.contains("rename") && c.contains("/store/index/"));
        assert!(published.is_some() && indexed > published, "{args:?}: {published:?} {indexed:?}");
    }
    test_store.clean("both versions");
}

#[test]
fn a_finish_that_waits_reads_each_record_of_the_log_once() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("f", b"0")]);
    for run in 0..8 {
        test_store.ok(&["upsert", "x", "d", "--distributed-id", "job", "--run", &format!("r{run}")]);
    }
    let finish = ["finish", "x", "--distributed-id", "job", "--expect", "9", "--wait", "2"];
    let Some(calls) = test_store.traced(&finish, 3) else { return };
    let waits = calls.iter().filter(|call| call.contains("clock_nanosleep") && call.contains("200000000")).count();
    let reads = calls.iter().filter(|call| call.contains("open") && call.contains("/log/.")).count();
    assert!(waits >= 5 && reads == 8, "{waits} waits, {reads} records opened");
}

#[test]
fn a_removal_of_many_versions_looks_at_the_pins_once() {
    let test_store = TestStore::new();
    for n in 0..42u32 {
        make_tree(&test_store.path("d"), &[("f", n.to_string().as_bytes())]);
        test_store.ok(&["put", "x", "d"]);
    }
    let store = test_store.store();
    let purpose = cairn::internals::lock::Purpose { purpose: "test", ..Default::default() };
    let holders: Vec<_> = (0..4).map(|_| cairn::internals::pins::Pins::hold(&store, &purpose).unwrap()).collect();
    let pinned = cairn::types::VersionNumber(41);
    holders.iter().for_each(|pins| pins.pin(&"x".parse().unwrap(), pinned).unwrap());
    let calls_of = |from: usize, to: usize| {
        let versions: Vec<_> = (from..to).map(|n| format!("x:v{n}")).collect();
        let arguments: Vec<_> = std::iter::once("rm").chain(versions.iter().map(String::as_str)).collect();
        Some(test_store.traced(&arguments, 0)?.iter().filter(|call| call.contains("/pins")).count())
    };
    let Some(ten) = calls_of(0, 10) else { return };
    let thirty = calls_of(10, 40);
    assert!(thirty <= Some(ten + 10), "{ten} calls for ten versions, {thirty:?} for thirty");
}
