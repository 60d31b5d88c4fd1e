//! `cairn patch` and `cairn copy`: cases 12, 14 to 17 and 31 to 35.

use crate::support::{TestStore, copy_tree, make_tree, random_bytes, snapshot, text};
use std::io::Write;
use std::process::Stdio;

/// `x:v0` of `src`.
fn test_store() -> TestStore {
    let test_store = TestStore::new();
    let big = random_bytes(3, 200_000);
    make_tree(
        &test_store.path("src"),
        &[("a", b"1"), ("b", b"22"), ("d/x", b"333"), ("d/y", b"4444"), ("d/e/z", &big), ("empty/", b"")],
    );
    test_store.ok(&["put", "x", "src"]);
    make_tree(&test_store.path("new"), &[("n", b"new"), ("d/x", b"other"), ("k/l/m", b"deep")]);
    test_store
}

/// The digest of what a put of `dir` gives.
fn digest_of(test_store: &TestStore, dir: &str) -> String {
    test_store.ok(&["put", "by-put", dir]);
    test_store.json(&["show", "by-put"])["digest"].as_str().unwrap().to_owned()
}

fn digest(test_store: &TestStore, version: &str) -> String {
    test_store.json(&["show", version])["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_patch_adds_replaces_removes_and_renames_and_is_what_a_put_would_be() {
    let test_store = test_store();
    let answer = test_store.json(&[
        "patch", "x", "new", "--remove", "b", "--remove", "d/e", "--rename", "a", "moved/a", "--rename", "empty",
        "full",
    ]);
    assert_eq!(
        (&answer["version"], &answer["created"], &answer["new_bytes"]),
        (&"v1".into(), &true.into(), &12.into())
    );
    let want = test_store.path("want");
    make_tree(
        &want,
        &[("moved/a", b"1"), ("d/x", b"other"), ("d/y", b"4444"), ("full/", b""), ("n", b"new"), ("k/l/m", b"deep")],
    );
    test_store.ok(&["get", "x", "got"]);
    assert_eq!(snapshot(&test_store.path("got")), snapshot(&want));
    assert_eq!(answer["digest"], digest_of(&test_store, "want").as_str());
    assert_eq!(digest(&test_store, "x:v0"), digest_of(&test_store, "src"), "the base is what it was");
    let listed = test_store.json(&["list", "x"]);
    assert_eq!((&listed[1]["mode"], &listed[0]["mode"]), (&"patch".into(), &"simple".into()));
    assert_eq!(test_store.ok(&["verify"]), "");
}

#[test]
fn sources_go_below_a_prefix_and_annotations_are_recorded() {
    let test_store = test_store();
    assert_eq!(
        test_store.ok(&[
            "patch",
            "x",
            "new/n",
            "--at",
            "2026/11",
            "--alias",
            "prod",
            "--tag",
            "t",
            "--description",
            "D",
            "--metadata",
            "{\"k\":1}",
            "--run",
            "r"
        ]),
        "x:v1"
    );
    let shown = test_store.json(&["show", "x:prod"]);
    assert_eq!(
        (&shown["version"], &shown["tags"][0], &shown["description"], &shown["metadata"]["k"], &shown["run"]),
        (&"v1".into(), &"t".into(), &"D".into(), &1.into(), &"r".into())
    );
    assert_eq!(test_store.ok(&["cat", "x", "2026/11/n"]), "new");
    let mut child = test_store
        .cairn(&["patch", "x", "-", "--stdin-filename", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "x:v2\n");
    assert_eq!(test_store.ok(&["cat", "x", "s"]), "piped");
}

#[test]
fn removing_or_renaming_what_is_not_there_and_files_against_directories_change_nothing() {
    let test_store = test_store();
    for (args, status, named) in [
        (&["patch", "x", "--remove", "no"][..], 6, "no"),
        (&["patch", "x", "new", "--remove", "d/no"], 6, "d/no"),
        (&["patch", "x", "--remove", "a/below"], 6, "a/below"),
        (&["patch", "x", "--remove", "d", "--remove", "d/x"], 6, "d/x"),
        (&["patch", "x", "--rename", "no", "n"], 6, "no"),
        (&["patch", "x", "--rename", "a", "b"], 3, "b"),
        (&["patch", "x", "--rename", "d", "d/inside"], 2, "d/inside"),
        (&["patch", "x", "new/n", "--at", "a"], 3, "a"),
        (&["patch", "x", "--remove", "../a"], 2, ".."),
        (&["patch", "x", "nowhere"], 6, "nowhere"),
        (&["patch", "x", "new", "--type", "model"], 3, "model"),
        (&["patch", "x:v7", "new"], 6, "v7"),
        (&["patch", "y", "new"], 6, "y"),
        (&["patch", "x", "new", "--onto", "latest"], 2, "latest"),
    ] {
        let stderr = test_store.fails(args, status);
        assert!(stderr.contains(named), "{args:?}: {stderr}");
    }
    std::fs::write(test_store.path("d"), "a file").unwrap();
    assert!(test_store.fails(&["patch", "x", "d"], 3).contains("`d`"));
    assert_eq!(test_store.json(&["list", "x"]).as_array().unwrap().len(), 1, "nothing changed");
}

#[test]
fn a_patch_that_changes_nothing_makes_no_version() {
    let test_store = test_store();
    for args in [["patch", "x", "src"], ["patch", "x", "src/a"]] {
        let answer = test_store.json(&args);
        assert_eq!((&answer["version"], &answer["created"]), (&"v0".into(), &false.into()), "{args:?}");
    }
    test_store.ok(&["patch", "x", "--tag", "seen"]);
    assert_eq!(test_store.json(&["show", "x:v0"])["tags"][0], "seen");
}

#[test]
fn a_patch_on_an_older_version_is_rebased_where_paths_are_disjoint_and_says_so() {
    let test_store = test_store();
    test_store.ok(&["patch", "x:v0", "new/n"]);
    let out = test_store.run(&["patch", "x:v0", "new/k", "--at", "k", "--remove", "d/e"], 0);
    assert_eq!(text(&out.stdout), "x:v2\n");
    assert!(text(&out.stderr).contains("rebased: x:v2 was put on v1"), "{}", text(&out.stderr));
    make_tree(
        &test_store.path("want"),
        &[
            ("a", b"1"),
            ("b", b"22"),
            ("d/x", b"333"),
            ("d/y", b"4444"),
            ("empty/", b""),
            ("n", b"new"),
            ("k/l/m", b"deep"),
        ],
    );
    assert_eq!(digest(&test_store, "x"), digest_of(&test_store, "want"), "both changes survive");
    // The same directory made by both, and the same change made by both.
    test_store.ok(&["patch", "x:v2", "new/n", "--at", "day/one"]);
    test_store.ok(&["patch", "x:v2", "new/n", "--at", "day/two"]);
    assert_eq!(
        (test_store.ok(&["cat", "x", "day/one/n"]), test_store.ok(&["cat", "x", "day/two/n"])),
        ("new".into(), "new".into())
    );
    let again = test_store.json(&["patch", "x:v2", "new/n", "--at", "day/one"]);
    assert_eq!(
        (&again["created"], &again["version"]),
        (&false.into(), &"v4".into()),
        "when repeated, it changes nothing"
    );
    let both = test_store.json(&["patch", "x:v0", "--remove", "d/e", "new/k/l/m"]);
    assert_eq!(both["version"], "v5", "removed by both");
}

#[test]
fn overlapping_changes_are_a_conflict_that_lists_the_paths_and_publishes_nothing() {
    let test_store = test_store();
    test_store.ok(&["patch", "x", "new", "--remove", "b", "--remove", "d/e"]);
    make_tree(
        &test_store.path("mine"),
        &[("d/x", b"mine"), ("n", b"mine too"), ("b", b"33"), ("d/e/z2", b"in what they removed"), ("free", b"")],
    );
    let stderr = test_store.fails(&["patch", "x:v0", "mine"], 3);
    for path in ["d/x", "\n  n\n", "\n  b\n", "d/e"] {
        assert!(stderr.contains(path), "{path}: {stderr}");
    }
    assert!(!stderr.contains("free") && stderr.contains("hint:"), "{stderr}");
    let stderr = test_store.fails(&["patch", "x:v0", "--remove", "d"], 3);
    assert!(stderr.contains("d/x"), "what is removed here was changed there: {stderr}");
    let json = test_store.run(&["patch", "x:v0", "mine", "--json"], 3);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.stderr).unwrap()["exit"], 3);
    assert_eq!(test_store.json(&["list", "x"]).as_array().unwrap().len(), 2);
    // Knowingly: v0 and the change, as the next version.
    assert_eq!(test_store.ok(&["patch", "x:v0", "mine", "--onto", "v0"]), "x:v2");
    copy_tree(&test_store.path("src"), &test_store.path("want"));
    copy_tree(&test_store.path("mine/."), &test_store.path("want"));
    assert_eq!(digest(&test_store, "x"), digest_of(&test_store, "want"));
    assert_eq!(test_store.ok(&["patch", "x", "--onto", "v1"]), "x:v3", "nothing changed since v1 is a change of v2");
    assert_eq!(digest(&test_store, "x:v3"), digest(&test_store, "x:v1"));
}

#[test]
fn only_the_first_patch_of_an_artifact_needs_create() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("day"), &[("1", b"1"), ("2", b"2")]);
    assert!(test_store.fails(&["patch", "crawl", "day/1"], 6).contains("--create"));
    assert_eq!(test_store.ok(&["patch", "crawl", "day/1", "--create", "--type", "log"]), "crawl:v0");
    assert_eq!(test_store.ok(&["patch", "crawl", "day/2", "--create"]), "crawl:v1");
    assert_eq!(test_store.json(&["show", "crawl"])["type"], "log");
    assert_eq!(test_store.json(&["show", "crawl"])["files"], 2);
}

#[test]
fn a_removed_base_is_refused_and_removed_versions_are_stepped_over() {
    let test_store = test_store();
    test_store.ok(&["patch", "x", "new/n"]);
    test_store.ok(&["rm", "x:v1"]);
    test_store.fails(&["patch", "x:v1", "new"], 6);
    test_store.fails(&["patch", "x", "new", "--onto", "v1"], 6);
    assert_eq!(test_store.ok(&["patch", "x", "new/k", "--at", "k"]), "x:v2", "its number is not given again");
    assert!(test_store.fails(&["cat", "x", "n"], 6).contains('n'), "what was removed with v1 does not come back");
    test_store.ok(&["rm", "x", "--all"]);
    test_store.fails(&["patch", "x", "new"], 6);
    assert_eq!(test_store.ok(&["patch", "x", "new", "--create"]), "x:v3");
    assert_eq!(digest(&test_store, "x"), digest_of(&test_store, "new"));
    assert_eq!(test_store.ok(&["verify"]), "");
}

#[test]
fn removing_a_version_harms_no_patch_on_it() {
    let test_store = test_store();
    test_store.ok(&["patch", "x", "new"]);
    test_store.ok(&["rm", "x:v0"]);
    test_store.ok(&["get", "x", "got"]);
    copy_tree(&test_store.path("src"), &test_store.path("want"));
    copy_tree(&test_store.path("new/."), &test_store.path("want"));
    assert_eq!(snapshot(&test_store.path("got")), snapshot(&test_store.path("want")));
    assert_eq!(test_store.ok(&["verify"]), "");
}

/// Two trees that differ in every way there is.
fn two(test_store: &TestStore) {
    make_tree(
        &test_store.path("one"),
        &[
            ("same", b"1"),
            ("changed", b"old"),
            ("gone", b"2"),
            ("dir/a", b""),
            ("dir/b/c", b"x"),
            ("file", b"f"),
            ("mode", b"#!"),
            ("deep/er/x", b"3"),
        ],
    );
    make_tree(
        &test_store.path("two"),
        &[
            ("same", b"1"),
            ("changed", b"new"),
            ("dir", b"now a file"),
            ("file/now/dir", b"y"),
            ("mode", b"#!"),
            ("added/x", b"4"),
            ("added/e/", b""),
            ("deep/er/y", b"3"),
        ],
    );
    use std::os::unix::ffi::OsStrExt;
    std::os::unix::fs::symlink("same", test_store.path("two/link")).unwrap();
    std::fs::write(test_store.path("two").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    let mut mode = std::fs::metadata(test_store.path("two/mode")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(test_store.path("two/mode"), mode).unwrap();
    for name in ["one", "two"] {
        test_store.ok(&["put", name, name]);
    }
}

#[test]
fn the_difference_of_two_versions_makes_the_one_of_the_other() {
    let test_store = TestStore::new();
    two(&test_store);
    for (from, to) in [("one", "two"), ("two", "one")] {
        let diff = test_store.run(&["diff", from, to, "--json"], 1).stdout;
        std::fs::write(test_store.path("diff.json"), &diff).unwrap();
        test_store.ok(&["copy", from, "x"]);
        let answer = test_store.json(&["patch", "x", "--from-diff", "diff.json"]);
        assert_eq!(answer["digest"], digest(&test_store, to).as_str());
        assert_eq!(answer["new_bytes"], 0);
    }
    // On a version that is something else, it is a conflict.
    let stderr = test_store.fails(&["patch", "two", "--from-diff", "diff.json", "--remove", "changed"], 3);
    assert!(stderr.contains("changed"), "{stderr}");
    make_tree(&test_store.path("more"), &[("dir/unknown", b"!")]);
    test_store.ok(&["put", "z", "one", "more"]);
    test_store.run(&["diff", "one", "two", "--json"], 1);
    std::fs::write(test_store.path("diff.json"), test_store.run(&["diff", "one", "two", "--json"], 1).stdout).unwrap();
    let stderr = test_store.fails(&["patch", "z", "--from-diff", "diff.json"], 3);
    assert!(
        stderr.contains("\n  dir\n"),
        "a directory is not taken away with what the difference does not know: {stderr}"
    );
}

#[test]
fn a_difference_from_another_store_finds_its_bytes_by_digest_or_lists_what_is_missing() {
    let test_store = TestStore::new();
    two(&test_store);
    test_store.ok(&["init", "other"]);
    let other = test_store.str("other");
    assert_eq!(test_store.ok(&["copy", "one", "mine", "--to", "other"]), "mine:v0");
    std::fs::write(test_store.path("diff.json"), test_store.run(&["diff", "one", "two", "--json"], 1).stdout).unwrap();
    let stderr = test_store.fails(&["--store", &other, "patch", "mine", "--from-diff", "diff.json"], 6);
    assert!(stderr.contains("5 of the difference's contents") && stderr.matches("sha256 ").count() == 5, "{stderr}");
    test_store.ok(&["--store", &other, "put", "bytes", "two"]);
    let answer = test_store.json(&["--store", &other, "patch", "mine", "--from-diff", "diff.json"]);
    assert_eq!(answer["digest"], digest(&test_store, "two").as_str());
    assert_eq!(test_store.ok(&["--store", &other, "verify"]), "");
    test_store.fails(&["patch", "one", "--from-diff", "no.json"], 6);
    test_store.fails(&["patch", "one", "--from-diff", "one/same"], 2);
}

#[test]
fn a_copy_is_the_same_content_under_another_name_or_in_another_store() {
    let test_store = test_store();
    test_store.ok(&["patch", "x", "new", "--remove", "b"]);
    let answer = test_store.json(&["copy", "x:v0", "released", "--alias", "prod"]);
    assert_eq!((&answer["version"], &answer["created"], &answer["new_bytes"]), (&"v0".into(), &true.into(), &0.into()));
    assert_eq!(digest(&test_store, "released:prod"), digest(&test_store, "x:v0"));
    assert_eq!(test_store.ok(&["copy", "x:v0", "x"]), "x:v2", "rolled back");
    assert_eq!(test_store.json(&["copy", "x:v0", "x"])["created"], false);
    test_store.ok(&["init", "other"]);
    let other = test_store.str("other");
    let first = test_store.json(&["copy", "x:v0", "x", "--to", "other"]);
    assert_eq!(first["new_bytes"], 200_010);
    let second = test_store.json(&["copy", "x:v1", "x", "--to", "other"]);
    assert_eq!(
        (&second["version"], &second["new_bytes"], &second["digest"]),
        (&"v1".into(), &12.into(), &digest(&test_store, "x:v1").as_str().into())
    );
    assert_eq!(test_store.json(&["copy", "x:v1", "x", "--to", "other"])["created"], false);
    test_store.ok(&["--store", &other, "get", "x:v1", "there"]);
    test_store.ok(&["get", "x:v1", "here"]);
    assert_eq!(snapshot(&test_store.path("there")), snapshot(&test_store.path("here")));
    assert_eq!(test_store.ok(&["--store", &other, "verify"]), "");
    assert_eq!(test_store.ok(&["verify"]), "");
    test_store.fails(&["copy", "x:v9", "y"], 6);
    test_store.fails(&["copy", "x", "y", "--to", "nowhere"], 6);
    test_store.fails(&["copy", "x", "released", "--type", "model"], 3);
}
