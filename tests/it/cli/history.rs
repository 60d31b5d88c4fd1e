//! `log`, `tag`, `untag`, `annotate`, and what `alias` and `show` say of who did what.

use crate::crafted_stores::behind;
use crate::support::{TestStore, make_tree, resume, steps, text};
use serde_json::{Value, json};

fn put(test_store: &TestStore, content: &str, more: &[&str]) {
    make_tree(&test_store.path("src"), &[("a", content.as_bytes())]);
    test_store.ok(&[&["put", "x", "src"], more].concat());
}

/// The fields that are wanted of each event.
fn events(test_store: &TestStore, args: &[&str], fields: &[&str]) -> Vec<Value> {
    let pick = |event: Value| Value::Array(fields.iter().map(|field| event[*field].clone()).collect());
    test_store.json_lines(args).into_iter().map(pick).collect()
}

#[test]
fn log_prints_who_did_what_the_newest_first() {
    let test_store = TestStore::new();
    put(&test_store, "0", &["--run", "train-1"]);
    put(&test_store, "1", &["--alias", "prod"]);
    test_store.ok(&["alias", "x:v0", "prod"]);
    test_store.ok(&["tag", "x:v1", "golden"]);
    test_store.ok(&["rm", "x:v1"]);
    test_store.ok(&["restore", "x:v1"]);
    test_store.ok(&["unalias", "x", "prod"]);
    test_store.ok(&["upsert", "x", "src", "--distributed-id", "d", "--run", "r1"]);
    test_store.ok(&["draft", "discard", "x", "d"]);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let all = test_store.json_lines(&["log", "x"]);
    assert!(all.iter().all(|e| e["user"]["name"] == "root" && e["host"] == host.trim()), "{all:?}");
    let mut times: Vec<_> = all.iter().map(|e| e["at"].as_str().unwrap().to_owned()).collect();
    times.reverse();
    assert!(times.is_sorted());
    let mut found = events(&test_store, &["log", "x"], &["event", "version", "alias", "from", "distributed_id", "run"]);
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
    // Events of one second that do not concern each other have no order.
    for list in [&mut found, &mut expected] {
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(found, expected);
    let moves = events(&test_store, &["log", "x:prod"], &["event", "from", "version"]);
    let expected = [json!(["unalias", "v0", null]), json!(["alias", "v1", "v0"]), json!(["alias", null, "v1"])];
    assert_eq!(moves, expected, "the newest first");
    put(&test_store, "other", &[]);
    assert_eq!(test_store.json_lines(&["log", "--limit", "2"]).len(), 2);
    let lines = test_store.ok(&["log", "x"]);
    let by = format!("x:v0 (simple) by root on {}, run train-1", host.trim());
    assert!(lines.lines().any(|line| line.contains("  published   ") && line.ends_with(&by)), "{lines}");
    assert!(lines.contains("x:prod v1 -> v0 by"), "{lines}");
    test_store.fails(&["log", "y"], 6);
    test_store.fails(&["log", "x:v0"], 2);
}

#[test]
fn events_of_one_second_are_in_the_order_in_which_they_can_only_have_happened() {
    let test_store = TestStore::new();
    for content in ["0", "1", "2"] {
        put(&test_store, content, &[]);
        test_store.ok(&["alias", "x", "prod"]);
        test_store.ok(&["tag", "x", "good"]);
    }
    test_store.ok(&["alias", "x:v0", "prod"]);
    test_store.ok(&["rm", "x:v2"]);
    test_store.ok(&["restore", "x:v2"]);
    let found = events(&test_store, &["log", "x"], &["event", "version"]);
    let place = |event: &str, version: &str| found.iter().position(|e| *e == json!([event, version])).unwrap();
    for version in ["v0", "v1", "v2"] {
        let published = place("published", version);
        assert!(found[..published].contains(&json!(["annotated", version])), "{found:?}");
        assert!(found[..published].contains(&json!(["alias", version])), "{found:?}");
    }
    let only = |wanted: &[&str]| {
        let events = found.iter().filter(|e| wanted.contains(&e[0].as_str().unwrap()));
        events.map(|e| format!("{} {}", e[0].as_str().unwrap(), e[1].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(only(&["published"]), ["published v2", "published v1", "published v0"]);
    assert_eq!(
        only(&["published", "alias"])[..6],
        ["alias v0", "alias v2", "published v2", "alias v1", "published v1", "alias v0"]
    );
    assert_eq!(only(&["removed", "restored", "published"])[..3], ["restored v2", "removed v2", "published v2"]);
    assert!(place("removed", "v2") < place("alias", "v0"), "an alias left it before it was removed: {found:?}");
    test_store.ok(&["upsert", "y", "src", "--distributed-id", "d", "--run", "r1"]);
    test_store.ok(&["finish", "y", "--distributed-id", "d", "--run", "r1"]);
    let found = events(&test_store, &["log", "y"], &["event"]);
    assert_eq!(found, [json!(["published"]), json!(["finished"]), json!(["contributed"])]);
}

#[test]
fn a_damaged_record_does_not_end_the_log() {
    let test_store = TestStore::new();
    for content in ["0", "1", "2"] {
        put(&test_store, content, &[]);
    }
    let record = behind(&test_store.store_path().join("artifacts/x/versions/v1")).join("version.json");
    std::fs::write(record, "{}").unwrap();
    let out = test_store.run(&["log", "x"], 0);
    assert_eq!(text(&out.stdout).lines().count(), 2);
    assert!(text(&out.stderr).contains("warning: a record is damaged: "), "{}", text(&out.stderr));
}

#[test]
fn tags_description_and_metadata_change_after_the_commit() {
    let test_store = TestStore::new();
    put(&test_store, "0", &["--tag", "raw", "--metadata", r#"{"a": 1, "b": 2}"#]);
    assert_eq!(test_store.ok(&["tag", "x", "golden", "raw"]), "x:v0  raw,golden");
    assert_eq!(
        test_store.json(&["untag", "x:v0", "raw"]),
        json!({ "artifact": "x", "version": "v0", "tags": ["golden"] })
    );
    assert!(test_store.fails(&["untag", "x", "golden", "raw"], 6).contains("does not have the tag raw"));
    test_store.fails(&["tag", "x", "not/allowed"], 2);
    let recorded =
        test_store.run(&["annotate", "x", "--description", "clean", "--metadata", r#"{"b": 3, "c": 4}"#, "--merge"], 0);
    assert_eq!(text(&recorded.stderr), "recorded: description, metadata\n");
    assert_eq!(
        test_store.json(&["annotate", "x:v0", "--description", "clean"]),
        json!({
            "artifact": "x", "version": "v0", "description": "clean", "metadata": { "a": 1, "b": 3, "c": 4 },
            "ttl_seconds": null,
        })
    );
    let recorded = test_store.run(&["annotate", "x", "--metadata", r#"{"c": 5}"#], 0);
    assert_eq!(text(&recorded.stderr), "recorded: metadata (replaced; dropped a, b)\n");
    let shown = test_store.json(&["show", "x"]);
    assert_eq!((&shown["tags"], &shown["metadata"]), (&json!(["golden"]), &json!({ "c": 5 })));
    test_store.fails(&["annotate", "x"], 2);
    test_store.fails(&["annotate", "x", "--description", "a", "--merge"], 2);
}

#[test]
fn show_and_alias_say_where_from_and_by_whom() {
    let test_store = TestStore::new();
    put(&test_store, "0", &[]);
    test_store.ok(&["patch", "x", "src", "--at", "d"]);
    let shown = test_store.json(&["show", "x"]);
    assert_eq!((&shown["base"], &shown["user"]["uid"]), (&json!("v0"), &json!(0)));
    test_store.ok(&["upsert", "y", "src", "--distributed-id", "d", "--run", "r1"]);
    test_store.ok(&["finish", "y", "--distributed-id", "d"]);
    assert_eq!(test_store.json(&["show", "y"])["distributed_id"], "d");
    test_store.ok(&["alias", "x:v0", "prod"]);
    assert_eq!(text(&test_store.run(&["alias", "x:v1", "prod"], 0).stderr), "prod pointed at v0 before\n");
    assert_eq!(test_store.json(&["alias", "x:v0", "prod", "new"])["from"], json!(["v1", null]));
}

#[test]
fn an_annotate_with_merge_keeps_the_keys_that_others_record_at_the_same_moment() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "d", "--metadata", r#"{"old": 0}"#]);
    let merge = |key: usize| format!(r#"{{"k{key}": {key}}}"#);
    test_store.ok(&["annotate", "x", "--description", "it has notes"]);
    // Each step of a merge, with another merge in between.
    for step in 1..=steps(&test_store, &["annotate", "x", "--metadata", r#"{"k0": 0}"#, "--merge"]) as usize {
        let (own, other) = (merge(step), merge(100 + step));
        let child = test_store.stopped_before(step as u64, &["annotate", "x", "--metadata", &own, "--merge"]);
        test_store.ok(&["annotate", "x", "--metadata", &other, "--merge"]);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{step}: {}", text(&output.stderr));
        let shown = test_store.json(&["show", "x"]);
        let keys = shown["metadata"].as_object().unwrap();
        assert_eq!(
            (&keys[&format!("k{step}")], &keys[&format!("k{}", 100 + step)]),
            (&step.into(), &(100 + step).into())
        );
        assert_eq!(keys.len(), 2 + 2 * step, "after step {step}: {keys:?}");
    }
}
