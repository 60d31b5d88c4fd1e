//! `log`, `tag`, `untag`, `annotate`, and what `alias` and `show` say of who did what.

use crate::support::{TestStore, make_tree, text};
use serde_json::{Value, json};

fn put(lab: &TestStore, content: &str, more: &[&str]) {
    make_tree(&lab.path("src"), &[("a", content.as_bytes())]);
    lab.ok(&[&["put", "x", "src"], more].concat());
}

/// The fields that are wanted of each event.
fn events(lab: &TestStore, args: &[&str], fields: &[&str]) -> Vec<Value> {
    let pick = |event: Value| Value::Array(fields.iter().map(|field| event[*field].clone()).collect());
    lab.json_lines(args).into_iter().map(pick).collect()
}

#[test]
fn log_prints_who_did_what_the_newest_first() {
    let lab = TestStore::new();
    put(&lab, "0", &["--run", "train-1"]);
    put(&lab, "1", &["--alias", "prod"]);
    lab.ok(&["alias", "x:v0", "prod"]);
    lab.ok(&["tag", "x:v1", "golden"]);
    lab.ok(&["rm", "x:v1"]);
    lab.ok(&["restore", "x:v1"]);
    lab.ok(&["unalias", "x", "prod"]);
    lab.ok(&["upsert", "x", "src", "--distributed-id", "d", "--run", "r1"]);
    lab.ok(&["draft", "discard", "x", "d"]);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let all = lab.json_lines(&["log", "x"]);
    assert!(all.iter().all(|e| e["user"]["name"] == "root" && e["host"] == host.trim()), "{all:?}");
    let mut times: Vec<_> = all.iter().map(|e| e["at"].as_str().unwrap().to_owned()).collect();
    times.reverse();
    assert!(times.is_sorted());
    let mut found = events(&lab, &["log", "x"], &["event", "version", "alias", "from", "distributed_id", "run"]);
    let mut expected = vec![
        json!(["discarded", null, null, null, "d", null]),
        json!(["contributed", null, null, null, "d", "r1"]),
        json!(["unalias", null, "prod", "v0", null, null]),
        json!(["restored", "v1", null, null, null, null]),
        json!(["removed", "v1", null, null, null, null]),
        json!(["annotated", "v1", null, null, null, null]),
        json!(["alias", "v0", "prod", "v1", null, null]),
        json!(["alias", "v1", "prod", null, null, null]),
        json!(["published", "v1", null, null, null, null]),
        json!(["published", "v0", null, null, null, "train-1"]),
    ];
    // Events of one second, in different logs, have no order.
    for list in [&mut found, &mut expected] {
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(found, expected);
    let moves = events(&lab, &["log", "x:prod"], &["event", "from", "version"]);
    let expected = [json!(["unalias", "v0", null]), json!(["alias", "v1", "v0"]), json!(["alias", null, "v1"])];
    assert_eq!(moves, expected, "the newest first");
    put(&lab, "other", &[]);
    assert_eq!(lab.json_lines(&["log", "--limit", "2"]).len(), 2);
    let lines = lab.ok(&["log", "x"]);
    let by = format!("x:v0 (simple) by root on {}, run train-1", host.trim());
    assert!(lines.lines().any(|line| line.contains("  published   ") && line.ends_with(&by)), "{lines}");
    assert!(lines.contains("x:prod v1 -> v0 by"), "{lines}");
    lab.fails(&["log", "y"], 6);
    lab.fails(&["log", "x:v0"], 2);
}

#[test]
fn a_damaged_record_does_not_end_the_log() {
    let lab = TestStore::new();
    for content in ["0", "1", "2"] {
        put(&lab, content, &[]);
    }
    let versions = lab.store_path().join("artifacts/x/versions");
    let record = versions.join(std::fs::read_link(versions.join("v1")).unwrap()).join("version.json");
    std::fs::write(record, "{}").unwrap();
    let out = lab.run(&["log", "x"], 0);
    assert_eq!(text(&out.stdout).lines().count(), 2);
    assert!(text(&out.stderr).contains("warning: a record is damaged: "), "{}", text(&out.stderr));
}

#[test]
fn tags_description_and_metadata_change_after_the_commit() {
    let lab = TestStore::new();
    put(&lab, "0", &["--tag", "raw", "--metadata", r#"{"a": 1, "b": 2}"#]);
    assert_eq!(lab.ok(&["tag", "x", "golden", "raw"]), "x:v0  raw,golden");
    assert_eq!(lab.json(&["untag", "x:v0", "raw"]), json!({ "artifact": "x", "version": "v0", "tags": ["golden"] }));
    assert!(lab.fails(&["untag", "x", "golden", "raw"], 6).contains("does not have the tag raw"));
    lab.fails(&["tag", "x", "not/allowed"], 2);
    let said = lab.run(&["annotate", "x", "--description", "clean", "--metadata", r#"{"b": 3, "c": 4}"#, "--merge"], 0);
    assert_eq!(text(&said.stderr), "recorded: description, metadata\n");
    assert_eq!(
        lab.json(&["annotate", "x:v0", "--description", "clean"]),
        json!({ "artifact": "x", "version": "v0", "description": "clean", "metadata": { "a": 1, "b": 3, "c": 4 } })
    );
    let said = lab.run(&["annotate", "x", "--metadata", r#"{"c": 5}"#], 0);
    assert_eq!(text(&said.stderr), "recorded: metadata (replaced; dropped a, b)\n");
    let shown = lab.json(&["show", "x"]);
    assert_eq!((&shown["tags"], &shown["metadata"]), (&json!(["golden"]), &json!({ "c": 5 })));
    lab.fails(&["annotate", "x"], 2);
    lab.fails(&["annotate", "x", "--description", "a", "--merge"], 2);
}

#[test]
fn show_and_alias_say_where_from_and_by_whom() {
    let lab = TestStore::new();
    put(&lab, "0", &[]);
    lab.ok(&["patch", "x", "src", "--at", "d"]);
    let shown = lab.json(&["show", "x"]);
    assert_eq!((&shown["base"], &shown["user"]["uid"]), (&json!("v0"), &json!(0)));
    lab.ok(&["upsert", "y", "src", "--distributed-id", "d", "--run", "r1"]);
    lab.ok(&["finish", "y", "--distributed-id", "d"]);
    assert_eq!(lab.json(&["show", "y"])["distributed_id"], "d");
    lab.ok(&["alias", "x:v0", "prod"]);
    assert_eq!(text(&lab.run(&["alias", "x:v1", "prod"], 0).stderr), "prod pointed at v0 before\n");
    assert_eq!(lab.json(&["alias", "x:v0", "prod", "new"])["from"], json!(["v1", null]));
}
