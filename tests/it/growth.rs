//! Costs that must not grow with a store's age: with the runs that made a version.

use crate::support::TestStore;
use cairn::catalog::note::{self, Note};
use cairn::types::Tag;
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::{Artifact, Run, RunOptions, Store, Version};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A store with one version, which `runs` runs made.
fn made_by(runs: usize) -> TestStore {
    let lab = TestStore::new();
    for n in 0..runs {
        log(&lab.store(), n);
    }
    lab
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

fn notes(lab: &TestStore) -> PathBuf {
    lab.store_path().join("artifacts/x/notes/v0")
}

fn clean(lab: &TestStore) {
    let report = verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// How many notes a reader opens: those whose damage it reports.
fn read_notes(lab: &TestStore) -> usize {
    let damaged = |number: &fs::DirEntry| {
        let record = notes(lab).join(fs::read_link(number.path()).unwrap());
        let right = fs::read(&record).unwrap();
        fs::write(&record, b"damaged").unwrap();
        let failed = newest(&lab.store()).annotations().is_err();
        fs::write(&record, right).unwrap();
        failed
    };
    let numbers = fs::read_dir(notes(lab)).unwrap().map(Result::unwrap);
    numbers.filter(|n| n.file_type().unwrap().is_symlink()).filter(damaged).count()
}

#[test]
fn a_version_that_400_runs_made_is_read_with_few_notes() {
    let lab = made_by(400);
    assert_eq!(fs::read_dir(notes(&lab)).unwrap().count(), 2 * 399);
    let runs = newest(&lab.store()).annotations().unwrap().runs;
    assert!(runs.iter().map(|run| run.id.as_str().to_owned()).eq((0..400).map(|n| format!("run-{n}"))), "{runs:?}");
    let read = read_notes(&lab);
    assert!(read <= 32, "{read} of 399 notes are read");
    log(&lab.store(), 17); // is noted already
    assert_eq!(fs::read_dir(notes(&lab)).unwrap().count(), 2 * 399);
    clean(&lab);
    // Only the first ten runs are printed.
    let shown = lab.ok(&["show", "x:v0"]);
    assert!(shown.contains("390 more") && shown.lines().count() < 40, "{shown}");
    assert_eq!(lab.ok(&["show", "x:v0", "--json"]).matches("\"run-").count(), 401);
}

#[test]
fn notes_that_an_older_release_wrote_are_summarized_by_the_next_one() {
    let lab = made_by(2);
    let record = notes(&lab).join(fs::read_link(notes(&lab).join("000001")).unwrap());
    let text = fs::read_to_string(&record).unwrap();
    assert!(!text.contains("\"before\""), "{text}");
    for n in 2..=100 {
        let body = text.rsplit_once("  \"sha256\"").unwrap().0.replace("run-1", &format!("old-{n}"));
        let token = cairn::types::Token::fresh();
        let record = notes(&lab).join(token.record_name());
        let sum = cairn::types::Digest::of(body.as_bytes());
        fs::write(record, format!("{body}  \"sha256\": \"{sum}\"\n}}\n")).unwrap();
        symlink(token.record_name(), notes(&lab).join(format!("{n:06}"))).unwrap();
    }
    assert_eq!(read_notes(&lab), 100);
    log(&lab.store(), 2);
    assert_eq!(read_notes(&lab), 1);
    assert_eq!(newest(&lab.store()).annotations().unwrap().runs.len(), 102);
    clean(&lab);
}

#[test]
fn summaries_of_notes_change_nothing_and_a_wrong_one_is_found() {
    let lab = made_by(1);
    let (store, mut want) = (lab.store(), Vec::<Tag>::new());
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
    assert!(read_notes(&lab) <= 30);
    clean(&lab);
    // A summary that says something else.
    let records = fs::read_dir(notes(&lab)).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.is_symlink());
    let with_summary: Vec<_> = records.filter(|p| fs::read_to_string(p).unwrap().contains("\"before\"")).collect();
    let text = fs::read_to_string(&with_summary[0]).unwrap();
    let (before, rest) = text.split_once("\"before\"").unwrap();
    let body = format!("{before}\"before\"{}", rest.replacen("\"t1\"", "\"t99\"", 1));
    let body = body.rsplit_once("  \"sha256\"").unwrap().0.to_owned();
    let sum = cairn::types::Digest::of(body.as_bytes());
    fs::write(&with_summary[0], format!("{body}  \"sha256\": \"{sum}\"\n}}\n")).unwrap();
    let report = verify(&store, &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.len() == 1 && report.findings[0].why.contains("add up to"), "{:?}", report.findings);
}
