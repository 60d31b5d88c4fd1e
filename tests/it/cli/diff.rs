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
        "2 added, 2 removed, 3 changed; their size: 10 B now, 7 B before\n"
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

#[test]
fn renames_are_one_line_and_both_changes_in_json() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("src"),
        &[("old.txt", b"moved"), ("dir/a", b"1"), ("dir/b", b"22"), ("twice/x", b"eq"), ("other/x", b"eq"), ("e", b"")],
    );
    test_store.ok(&["put", "x", "src"]);
    let new = test_store.path("src2");
    copy_tree(&test_store.path("src"), &new);
    std::fs::rename(new.join("old.txt"), new.join("new.txt")).unwrap();
    std::fs::rename(new.join("dir"), new.join("folder")).unwrap();
    std::fs::rename(new.join("twice/x"), new.join("twice/y")).unwrap();
    std::fs::rename(new.join("other/x"), new.join("other/z")).unwrap();
    std::fs::rename(new.join("e"), new.join("f")).unwrap();
    let out = text(&test_store.run(&["diff", "x", "./src2"], 1).stdout);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort();
    // Of several files with the same content none is certain, and empty files say nothing.
    let unsure = ["A f", "A other/z", "A twice/y", "D e", "D other/x", "D twice/x"];
    assert_eq!(lines, [&unsure[..], &["R dir/ -> folder/", "R old.txt -> new.txt"]].concat());
    let document = test_store.json_with(&["diff", "x", "./src2"], 1);
    assert_eq!(
        document["renames"],
        serde_json::json!([
            { "old": "dir", "new": "folder", "kind": "directory" },
            { "old": "old.txt", "new": "new.txt", "kind": "file" },
        ])
    );
    assert_eq!((&document["renamed"], &document["added"], &document["removed"]), (&2.into(), &7.into(), &7.into()));
    assert_eq!(document["changes"].as_array().unwrap().len(), 14, "a patch needs both sides of a rename");
    let stat = text(&test_store.run(&["diff", "x", "./src2", "--stat"], 1).stdout);
    assert_eq!(stat, "7 added, 7 removed (2 of them renamed), 0 changed; their size: 12 B now, 12 B before\n");
    std::fs::write(test_store.path("changes.json"), document.to_string()).unwrap();
    test_store.ok(&["patch", "x", "--from-diff", "changes.json"]);
    assert_eq!(test_store.json(&["show", "x"])["digest"], document["to_digest"]);
    // A file that changed as well, or that only got another mode, is not renamed.
    std::fs::rename(new.join("new.txt"), new.join("newer.txt")).unwrap();
    std::fs::set_permissions(new.join("newer.txt"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = text(&test_store.run(&["diff", "x", "./src2"], 1).stdout);
    assert_eq!(out, "D new.txt\nA newer.txt\n");
}

#[test]
fn very_many_changes_are_printed_without_a_search_for_renames() {
    let test_store = TestStore::new();
    let mut artifact = cairn::Artifact::new("x", None).unwrap();
    artifact.add_bytes("a", "same").unwrap();
    artifact.save(&test_store.store()).unwrap();
    let mut artifact = cairn::Artifact::new("x", None).unwrap();
    artifact.add_bytes("b", "same").unwrap();
    for i in 0..1 << 16 {
        artifact.add_bytes(format!("d{}/{i}", i % 64), "many").unwrap();
    }
    artifact.save(&test_store.store()).unwrap();
    let out = text(&test_store.run(&["diff", "x:v0", "x"], 1).stdout);
    assert_eq!(out.lines().count(), (1 << 16) + 64 + 2);
    assert!(out.starts_with("D a\nA b\n"), "{}", &out[..40]);
    let document = test_store.json_with(&["diff", "x:v0", "x"], 1);
    assert_eq!((&document["renames"], &document["renamed"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(document["changes"].as_array().unwrap().len(), (1 << 16) + 64 + 2);
}

#[test]
fn a_draft_is_listed_and_compared_as_a_finish_would_make_it() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("base"), &[("shared", b"0"), ("dir/old", b"1")]);
    test_store.ok(&["put", "x", "base"]);
    for (run, files) in [("r1", [("shared", b"0"), ("dir/a", b"a")]), ("r2", [("shared", b"0"), ("dir/b", b"b")])] {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (*path, &bytes[..])).collect();
        make_tree(&test_store.path(run), &files);
        test_store.ok(&["upsert", "x", run, "--distributed-id", "d", "--run", run]);
    }
    assert_eq!(test_store.ok(&["ls", "x", "--draft", "d", "-R"]), "dir/\ndir/a\ndir/b\nshared");
    assert_eq!(test_store.ok(&["ls", "x", "dir", "--draft", "d", "--run", "r2"]), "dir/b");
    assert!(test_store.fails(&["ls", "x", "none", "--draft", "d"], 6).contains("`cairn ls x --draft d` shows"));
    let out = text(&test_store.run(&["diff", "x", "--draft", "d"], 1).stdout);
    assert_eq!(out, "A dir/a\nA dir/b\nD dir/old\n");
    let document = test_store.json_with(&["diff", "x", "--draft", "d", "--run", "r1"], 1);
    assert_eq!((&document["to"], &document["added"]), (&"draft d of x, run r1".into(), &1.into()));
    let expected = test_store.json_with(&["diff", "x", "--draft", "d"], 1);
    for (args, status) in [
        (&["diff", "x"][..], 2),
        (&["diff", "x", "x:v0", "--draft", "d"], 2),
        (&["ls", "x:v0", "--draft", "d"], 2),
        (&["ls", "x", "--run", "r1"], 2),
        (&["ls", "x", "--draft", "none"], 6),
        (&["ls", "x", "--draft", "d", "--run", "none"], 6),
    ] {
        test_store.fails(args, status);
    }
    // What runs disagree about is shown, with a warning.
    make_tree(&test_store.path("r3"), &[("shared", b"9")]);
    test_store.ok(&["upsert", "x", "r3", "--distributed-id", "d", "--run", "r3"]);
    let out = test_store.run(&["ls", "x", "shared", "-l", "--draft", "d"], 0);
    assert!(text(&out.stderr).starts_with("warning: 1 paths of draft d of x differ"), "{}", text(&out.stderr));
    let digest = cairn::types::Digest::of(b"9").to_string();
    assert_eq!(test_store.json(&["ls", "x", "shared", "--draft", "d"])["digest"], digest);
    test_store.ok(&["draft", "drop", "x", "d", "--run", "r3"]);
    test_store.ok(&["finish", "x", "--distributed-id", "d"]);
    assert_eq!(test_store.json(&["show", "x"])["digest"], expected["to_digest"], "the finish made what was shown");
    assert!(test_store.fails(&["ls", "x", "--draft", "d"], 3).contains("is finished as x:v1"));
}
