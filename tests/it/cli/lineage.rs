//! `use` and `lineage`: which runs made and used a version.

use crate::support::{TestStore, make_tree, text};
use cairn::catalog::lineage;
use cairn::{Artifact, Run, RunOptions};
use serde_json::json;
use std::time::{Duration, Instant};

fn put(test_store: &TestStore, name: &str, content: &str, run: &str) {
    make_tree(&test_store.path("src"), &[("a", content.as_bytes())]);
    test_store.ok(&["put", name, "src", "--run", run]);
}

#[test]
fn a_use_is_recorded_once_and_the_name_is_printed() {
    let test_store = TestStore::new();
    put(&test_store, "images", "0", "crawl-1");
    test_store.ok(&["alias", "images:v0", "prod"]);
    assert_eq!(test_store.ok(&["use", "images:prod", "--run", "train 1/é"]), "images:v0");
    let again = test_store.json(&["use", "images", "--run", "train 1/é"]);
    assert_eq!(
        (&again["version"], &again["recorded"], &again["run"]),
        (&json!("v0"), &json!(false), &json!("train 1/é"))
    );
    let long = "r".repeat(10) + &"ü".repeat(59);
    assert_eq!(test_store.json(&["use", "images", "--run", &long])["recorded"], true);
    let dir = test_store.store_path().join("artifacts/images/uses/v0");
    assert_eq!(std::fs::read_link(dir.join("train%201%2F%C3%A9")).unwrap().to_str().unwrap().len(), 33);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4, "two records and two links");
    let lines = test_store.ok(&["lineage", "images"]);
    let expected = format!("images:v0\n  made by run crawl-1\n  used by run {long}\n  used by run train 1/é");
    assert_eq!(lines, expected);
    assert!(test_store.fails(&["use", "images"], 2).contains("--run or CAIRN_RUN"));
    test_store.fails(&["use", "images:v7", "--run", "r"], 6);
    test_store.fails(&["use", "other", "--run", "r"], 6);
    test_store.ok(&["rm", "images:v0", "--force"]);
    assert!(test_store.fails(&["use", "images:v0", "--run", "r"], 6).contains("was removed"));
    test_store.ok(&["gc", "--min-age", "0s"]);
    test_store.ok(&["verify"]);
}

#[test]
fn verify_finds_a_use_whose_record_is_damaged_or_belongs_elsewhere() {
    let test_store = TestStore::new();
    put(&test_store, "images", "0", "crawl-1");
    test_store.ok(&["use", "images", "--run", "a"]);
    test_store.ok(&["verify"]);
    let dir = test_store.store_path().join("artifacts/images/uses/v0");
    std::os::unix::fs::symlink(std::fs::read_link(dir.join("a")).unwrap(), dir.join("b")).unwrap();
    let found = text(&test_store.run(&["verify"], 1).stdout);
    assert!(found.contains("uses/v0/b") && found.contains("run a used v0") && !found.contains("uses/v0/a"), "{found}");
    std::fs::remove_file(dir.join("b")).unwrap();
    let record = dir.join(std::fs::read_link(dir.join("a")).unwrap());
    std::fs::write(&record, "{}").unwrap();
    let found = text(&test_store.run(&["verify"], 1).stdout);
    assert!(found.contains("uses/v0/a"), "{found}");
    assert_eq!(test_store.ok(&["lineage", "images"]), "images:v0\n  made by run crawl-1\n  used by run a");
}

/// images:v0 → train-1 → model:v0 → eval-1 → scores:v0; and eval-2 used model:v0 and images:v0 and made scores:v1.
fn pipeline(test_store: &TestStore) {
    put(test_store, "images", "0", "crawl-1");
    test_store.ok(&["use", "images", "--run", "train-1"]);
    put(test_store, "model", "0", "train-1");
    test_store.ok(&["use", "model", "--run", "eval-1"]);
    put(test_store, "scores", "0", "eval-1");
    test_store.ok(&["use", "model", "--run", "eval-2"]);
    test_store.ok(&["use", "images", "--run", "eval-2"]);
    put(test_store, "scores", "1", "eval-2");
}

#[test]
fn lineage_follows_both_directions() {
    let test_store = TestStore::new();
    pipeline(&test_store);
    test_store.ok(&["rm", "scores:v0"]);
    let expected = "model:v0
  made by run train-1
    which used images:v0
      made by run crawl-1
  used by run eval-1
    which made scores:v0 (removed)
  used by run eval-2
    which made scores:v1";
    assert_eq!(test_store.ok(&["lineage", "model"]), expected);
    let document = test_store.json(&["lineage", "model"]);
    assert_eq!(document["complete"], true);
    let step = |run: &str, event: &str, artifact: &str, version: &str, removed: bool| {
        let mut step = json!({ "run": run, "event": event, "artifact": artifact, "version": version });
        step["removed"] = removed.into();
        step
    };
    let sources = [
        step("train-1", "made", "model", "v0", false),
        step("train-1", "used", "images", "v0", false),
        step("crawl-1", "made", "images", "v0", false),
    ];
    assert_eq!(document["sources"], json!(sources));
    let results = [
        step("eval-1", "used", "model", "v0", false),
        step("eval-1", "made", "scores", "v0", true),
        step("eval-2", "used", "model", "v0", false),
        step("eval-2", "made", "scores", "v1", false),
    ];
    assert_eq!(document["results"], json!(results));
    let dot = test_store.ok(&["lineage", "scores", "--format", "dot"]);
    let expected = "digraph lineage {
  rankdir=LR;
  node [shape=box];
  \"images:v0\";
  \"model:v0\";
  \"scores:v1\" [style=bold];
  \"run crawl-1\" [shape=ellipse, label=\"crawl-1\"];
  \"run eval-2\" [shape=ellipse, label=\"eval-2\"];
  \"run train-1\" [shape=ellipse, label=\"train-1\"];
  \"run crawl-1\" -> \"images:v0\";
  \"run eval-2\" -> \"scores:v1\";
  \"images:v0\" -> \"run eval-2\";
  \"model:v0\" -> \"run eval-2\";
  \"run train-1\" -> \"model:v0\";
  \"images:v0\" -> \"run train-1\";
}";
    assert_eq!(dot, expected);
    let near = test_store.run(&["lineage", "scores", "--depth", "1"], 0);
    assert!(text(&near.stderr).contains("--depth"), "{}", text(&near.stderr));
    assert_eq!(text(&near.stdout).lines().count(), 4, "{}", text(&near.stdout));
}

#[test]
fn lineage_has_the_runs_of_collaborative_versions_and_of_equal_content() {
    let test_store = TestStore::new();
    put(&test_store, "x", "0", "first");
    put(&test_store, "x", "0", "second");
    assert_eq!(test_store.ok(&["lineage", "x"]), "x:v0\n  made by run first\n  made by run second");
    test_store.ok(&["use", "x", "--run", "part-2"]);
    for run in ["part-1", "part-2"] {
        make_tree(&test_store.path(run), &[(run, b"1")]);
        test_store.ok(&["upsert", "y", run, "--distributed-id", "d", "--run", run]);
    }
    test_store.ok(&["finish", "y", "--distributed-id", "d"]);
    let expected = "y:v0\n  made by run part-1\n  made by run part-2\n    which used x:v0\n      made by run first\n\
                    \x20     made by run second";
    assert_eq!(test_store.ok(&["lineage", "y"]), expected);
    let expected = "x:v0\n  made by run first\n  made by run second\n  used by run part-2\n    which made y:v0";
    assert_eq!(test_store.ok(&["lineage", "x"]), expected);
}

#[test]
fn a_circle_of_runs_ends() {
    let test_store = TestStore::new();
    put(&test_store, "x", "0", "loop");
    test_store.ok(&["use", "x:v0", "--run", "loop"]);
    put(&test_store, "x", "1", "loop");
    test_store.ok(&["use", "x:v1", "--run", "loop"]);
    let lines = test_store.ok(&["lineage", "x:v0"]);
    let expected = "x:v0
  made by run loop
    which used x:v0 (above)
    which used x:v1
      made by run loop (above)
  used by run loop
    which made x:v0 (above)
    which made x:v1
      used by run loop (above)";
    assert_eq!(lines, expected);
}

#[test]
fn ten_thousand_runs_are_followed_in_well_under_a_second() {
    let test_store = TestStore::new();
    let store = test_store.store();
    Artifact::new("images", "dataset").unwrap().add_bytes("a", "a").unwrap().save(&store).unwrap();
    let version = store.version("images").unwrap();
    let run = Run::new(&store, RunOptions::default().id("first")).unwrap();
    run.use_artifact("images").unwrap();
    let dir = test_store.store_path().join("artifacts/images/uses/v0");
    let record = std::fs::read_link(dir.join("first")).unwrap();
    for i in 1..10_000 {
        std::os::unix::fs::symlink(&record, dir.join(format!("run-{i}"))).unwrap();
    }
    let begin = Instant::now();
    assert_eq!(lineage::of(&version, 10).unwrap().results.len(), 10_000);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
