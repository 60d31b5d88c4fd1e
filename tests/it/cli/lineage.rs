//! `use` and `lineage`: which runs made and used a version.

use crate::support::{TestStore, make_tree, text};
use cairn::catalog::lineage;
use cairn::{Artifact, Run, RunOptions};
use serde_json::json;
use std::time::{Duration, Instant};

fn put(lab: &TestStore, name: &str, content: &str, run: &str) {
    make_tree(&lab.path("src"), &[("a", content.as_bytes())]);
    lab.ok(&["put", name, "src", "--run", run]);
}

#[test]
fn a_use_is_recorded_once_and_the_name_is_printed() {
    let lab = TestStore::new();
    put(&lab, "images", "0", "crawl-1");
    lab.ok(&["alias", "images:v0", "prod"]);
    assert_eq!(lab.ok(&["use", "images:prod", "--run", "train 1/é"]), "images:v0");
    let again = lab.json(&["use", "images", "--run", "train 1/é"]);
    assert_eq!(
        (&again["version"], &again["recorded"], &again["run"]),
        (&json!("v0"), &json!(false), &json!("train 1/é"))
    );
    let long = "r".repeat(10) + &"ü".repeat(59);
    assert_eq!(lab.json(&["use", "images", "--run", &long])["recorded"], true);
    let dir = lab.store_path().join("artifacts/images/uses/v0");
    assert_eq!(std::fs::read_link(dir.join("train%201%2F%C3%A9")).unwrap().to_str().unwrap().len(), 33);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4, "two records and two links");
    let lines = lab.ok(&["lineage", "images"]);
    let expected = format!("images:v0\n  made by run crawl-1\n  used by run {long}\n  used by run train 1/é");
    assert_eq!(lines, expected);
    assert!(lab.fails(&["use", "images"], 2).contains("--run or CAIRN_RUN"));
    lab.fails(&["use", "images:v7", "--run", "r"], 6);
    lab.fails(&["use", "other", "--run", "r"], 6);
    lab.ok(&["rm", "images:v0", "--force"]);
    assert!(lab.fails(&["use", "images:v0", "--run", "r"], 6).contains("was removed"));
    lab.ok(&["gc", "--min-age", "0s"]);
    lab.ok(&["verify"]);
}

#[test]
fn verify_finds_a_use_whose_record_is_damaged_or_belongs_elsewhere() {
    let lab = TestStore::new();
    put(&lab, "images", "0", "crawl-1");
    lab.ok(&["use", "images", "--run", "a"]);
    lab.ok(&["verify"]);
    let dir = lab.store_path().join("artifacts/images/uses/v0");
    std::os::unix::fs::symlink(std::fs::read_link(dir.join("a")).unwrap(), dir.join("b")).unwrap();
    let found = text(&lab.run(&["verify"], 1).stdout);
    assert!(found.contains("uses/v0/b") && found.contains("run a used v0") && !found.contains("uses/v0/a"), "{found}");
    std::fs::remove_file(dir.join("b")).unwrap();
    let record = dir.join(std::fs::read_link(dir.join("a")).unwrap());
    std::fs::write(&record, "{}").unwrap();
    let found = text(&lab.run(&["verify"], 1).stdout);
    assert!(found.contains("uses/v0/a"), "{found}");
    assert_eq!(lab.ok(&["lineage", "images"]), "images:v0\n  made by run crawl-1\n  used by run a");
}

/// images:v0 → train-1 → model:v0 → eval-1 → scores:v0; and eval-2 used model:v0 and images:v0 and made scores:v1.
fn pipeline(lab: &TestStore) {
    put(lab, "images", "0", "crawl-1");
    lab.ok(&["use", "images", "--run", "train-1"]);
    put(lab, "model", "0", "train-1");
    lab.ok(&["use", "model", "--run", "eval-1"]);
    put(lab, "scores", "0", "eval-1");
    lab.ok(&["use", "model", "--run", "eval-2"]);
    lab.ok(&["use", "images", "--run", "eval-2"]);
    put(lab, "scores", "1", "eval-2");
}

#[test]
fn lineage_follows_both_directions() {
    let lab = TestStore::new();
    pipeline(&lab);
    lab.ok(&["rm", "scores:v0"]);
    let expected = "model:v0
  made by run train-1
    which used images:v0
      made by run crawl-1
  used by run eval-1
    which made scores:v0 (removed)
  used by run eval-2
    which made scores:v1";
    assert_eq!(lab.ok(&["lineage", "model"]), expected);
    let document = lab.json(&["lineage", "model"]);
    assert_eq!(document["complete"], true);
    let step = |run: &str, event: &str, artifact: &str, version: &str, removed: bool| json!({ "run": run, "event": event, "artifact": artifact, "version": version, "removed": removed });
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
    let dot = lab.ok(&["lineage", "scores", "--format", "dot"]);
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
    let near = lab.run(&["lineage", "scores", "--depth", "1"], 0);
    assert!(text(&near.stderr).contains("--depth"), "{}", text(&near.stderr));
    assert_eq!(text(&near.stdout).lines().count(), 4, "{}", text(&near.stdout));
}

#[test]
fn lineage_has_the_runs_of_collaborative_versions_and_of_equal_content() {
    let lab = TestStore::new();
    put(&lab, "x", "0", "first");
    put(&lab, "x", "0", "second");
    assert_eq!(lab.ok(&["lineage", "x"]), "x:v0\n  made by run first\n  made by run second");
    lab.ok(&["use", "x", "--run", "part-2"]);
    for run in ["part-1", "part-2"] {
        make_tree(&lab.path(run), &[(run, b"1")]);
        lab.ok(&["upsert", "y", run, "--distributed-id", "d", "--run", run]);
    }
    lab.ok(&["finish", "y", "--distributed-id", "d"]);
    let expected = "y:v0\n  made by run part-1\n  made by run part-2\n    which used x:v0\n      made by run first\n      \
                    made by run second";
    assert_eq!(lab.ok(&["lineage", "y"]), expected);
    let expected = "x:v0\n  made by run first\n  made by run second\n  used by run part-2\n    which made y:v0";
    assert_eq!(lab.ok(&["lineage", "x"]), expected);
}

#[test]
fn a_circle_of_runs_ends() {
    let lab = TestStore::new();
    put(&lab, "x", "0", "loop");
    lab.ok(&["use", "x:v0", "--run", "loop"]);
    put(&lab, "x", "1", "loop");
    lab.ok(&["use", "x:v1", "--run", "loop"]);
    let lines = lab.ok(&["lineage", "x:v0"]);
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
    let lab = TestStore::new();
    let store = lab.store();
    Artifact::new("images", "dataset").unwrap().add_bytes("a", "a").unwrap().save(&store).unwrap();
    let version = store.version("images").unwrap();
    let run = Run::new(&store, RunOptions::default().id("first")).unwrap();
    run.use_artifact("images").unwrap();
    let dir = lab.store_path().join("artifacts/images/uses/v0");
    let record = std::fs::read_link(dir.join("first")).unwrap();
    for i in 1..10_000 {
        std::os::unix::fs::symlink(&record, dir.join(format!("run-{i}"))).unwrap();
    }
    let begin = Instant::now();
    assert_eq!(lineage::of(&version, 10).unwrap().results.len(), 10_000);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
