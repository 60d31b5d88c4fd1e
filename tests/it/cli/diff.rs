//! `cairn diff`

use crate::support::{TestStore, copy_tree, make_tree, text};
use std::os::unix::fs::{PermissionsExt, symlink};

/// `x:v0`, and `src2` with one change of each kind.
fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("src"),
        &[("same", b"1"), ("changed", b"old"), ("gone", b"22"), ("dir/below", b""), ("mode", b"#!")],
    );
    test_store.ok(&["put", "x", "src"]);
    copy_tree(&test_store.path("src"), &test_store.path("src2"));
    std::fs::write(test_store.path("src2/changed"), "newer").unwrap();
    std::fs::remove_file(test_store.path("src2/gone")).unwrap();
    std::fs::remove_dir_all(test_store.path("src2/dir")).unwrap();
    symlink("same", test_store.path("src2/dir")).unwrap();
    std::fs::set_permissions(test_store.path("src2/mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
    make_tree(&test_store.path("src2"), &[("added/deep", b"333")]);
    test_store
}

#[test]
fn changes_are_letters_and_paths_and_the_status_says_whether_there_are_any() {
    let test_store = test_store();
    test_store.ok(&["put", "x", "src2"]);
    let out = text(&test_store.run(&["diff", "x:v0", "x"], 1).stdout);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort();
    assert_eq!(lines, ["A added/", "A added/deep", "D dir/below", "D gone", "M changed", "M dir", "M mode"]);
    assert_eq!(test_store.ok(&["diff", "x", "x:v1"]), "");
    let back = text(&test_store.run(&["diff", "x", "x:v0"], 1).stdout);
    assert!(back.contains("A gone\n") && back.contains("D added/\n") && back.contains("M dir/\n"), "{back}");
}

#[test]
fn a_directory_is_compared_as_a_put_of_it_would_be() {
    let test_store = test_store();
    let dir = test_store.str("src2");
    let against = |b: &str| text(&test_store.run(&["diff", "x:v0", b], 1).stdout);
    let by_dir = against("./src2");
    assert_eq!(against(&dir), by_dir);
    let out = test_store.cairn(&["diff", "x:v0", "."]).current_dir(test_store.path("src2")).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), by_dir.clone()));
    let out = test_store.cairn(&["diff", "x:v0", "../src"]).current_dir(test_store.path("src2")).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), String::new()));
    let predicted = test_store.json_with(&["diff", "x:v0", "./src2"], 1);
    test_store.ok(&["put", "x", "src2"]);
    assert_eq!(against("x"), by_dir);
    assert_eq!(test_store.json_with(&["diff", "x:v0", "x"], 1)["changes"], predicted["changes"]);
    assert_eq!(predicted["to_digest"], test_store.json(&["show", "x"])["digest"]);
    test_store.run(&["diff", "x", "./src2"], 0);
    assert_eq!(
        text(&test_store.run(&["diff", "x:v0", "./src2", "--exclude", "added"], 1).stdout).matches("added").count(),
        0
    );
    test_store.fails(&["diff", "x", "./nowhere"], 6);
    assert!(test_store.fails(&["diff", "x", "src2"], 6).contains("./src2"));
    test_store.fails(&["diff", "x", "y"], 6);
    assert_eq!(test_store.ok(&["list"]).lines().count(), 1, "a diff stores nothing");
}

#[test]
fn the_document_has_both_sides_of_each_change() {
    let test_store = test_store();
    let document = test_store.json_with(&["diff", "x", "./src2"], 1);
    assert_eq!((&document["from"], &document["to"]), (&"x:v0".into(), &"./src2".into()));
    let change =
        |path: &str| document["changes"].as_array().unwrap().iter().find(|c| c["path"] == path).unwrap().clone();
    let changed = change("changed");
    assert_eq!(
        (&changed["change"], &changed["old"]["size"], &changed["new"]["size"], &changed["new"]["kind"]),
        (&"changed".into(), &3.into(), &5.into(), &"file".into())
    );
    assert_eq!(changed["new"]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(change("gone")["new"], serde_json::Value::Null);
    assert_eq!(
        (&change("added/deep")["change"], &change("added/deep")["old"]),
        (&"added".into(), &serde_json::Value::Null)
    );
    let dir = change("dir");
    assert_eq!(
        (&dir["old"]["kind"], &dir["new"]),
        (&"directory".into(), &serde_json::json!({ "kind": "symlink", "target": "same" }))
    );
    assert_eq!((&change("mode")["old"]["exec"], &change("mode")["new"]["exec"]), (&false.into(), &true.into()));
    assert_eq!((&document["added"], &document["removed"], &document["changed"]), (&2.into(), &2.into(), &3.into()));
}

#[test]
fn stat_gives_counts_and_bytes() {
    let test_store = test_store();
    assert_eq!(
        text(&test_store.run(&["diff", "x", "./src2", "--stat"], 1).stdout),
        "2 added, 2 removed, 3 changed; 10 B in, 7 B out\n"
    );
    let document = test_store.json_with(&["diff", "x", "./src2", "--stat"], 1);
    assert!(document.get("changes").is_none());
    assert_eq!(
        (&document["added"], &document["bytes_added"], &document["bytes_removed"]),
        (&2.into(), &10.into(), &7.into())
    );
    let same = test_store.json(&["diff", "x", "x"]);
    assert_eq!((&same["changes"], &same["added"]), (&serde_json::json!([]), &0.into()));
}
