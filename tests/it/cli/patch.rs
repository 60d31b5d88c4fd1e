//! `cairn patch` and `cairn copy`: cases 12, 14 to 17 and 31 to 35.

use crate::support::{TestStore, copy_tree, make_tree, random_bytes, snapshot, text};
use std::io::Write;
use std::process::Stdio;

/// `x:v0` of `src`.
fn lab() -> TestStore {
    let lab = TestStore::new();
    let big = random_bytes(3, 200_000);
    make_tree(
        &lab.path("src"),
        &[("a", b"1"), ("b", b"22"), ("d/x", b"333"), ("d/y", b"4444"), ("d/e/z", &big), ("empty/", b"")],
    );
    lab.ok(&["put", "x", "src"]);
    make_tree(&lab.path("new"), &[("n", b"new"), ("d/x", b"other"), ("k/l/m", b"deep")]);
    lab
}

/// The digest of what a put of `dir` gives.
fn digest_of(lab: &TestStore, dir: &str) -> String {
    lab.ok(&["put", "by-put", dir]);
    lab.json(&["show", "by-put"])["digest"].as_str().unwrap().to_owned()
}

fn digest(lab: &TestStore, version: &str) -> String {
    lab.json(&["show", version])["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_patch_adds_replaces_removes_and_renames_and_is_what_a_put_would_be() {
    let lab = lab();
    let said = lab.json(&[
        "patch", "x", "new", "--remove", "b", "--remove", "d/e", "--rename", "a", "moved/a", "--rename", "empty",
        "full",
    ]);
    assert_eq!((&said["version"], &said["created"], &said["new_bytes"]), (&"v1".into(), &true.into(), &12.into()));
    let want = lab.path("want");
    make_tree(
        &want,
        &[("moved/a", b"1"), ("d/x", b"other"), ("d/y", b"4444"), ("full/", b""), ("n", b"new"), ("k/l/m", b"deep")],
    );
    lab.ok(&["get", "x", "got"]);
    assert_eq!(snapshot(&lab.path("got")), snapshot(&want));
    assert_eq!(said["digest"], digest_of(&lab, "want").as_str());
    assert_eq!(digest(&lab, "x:v0"), digest_of(&lab, "src"), "the base is what it was");
    let listed = lab.json(&["list", "x"]);
    assert_eq!((&listed[1]["mode"], &listed[0]["mode"]), (&"patch".into(), &"simple".into()));
    assert_eq!(lab.ok(&["verify"]), "");
}

#[test]
fn sources_go_below_a_prefix_and_annotations_are_recorded() {
    let lab = lab();
    assert_eq!(
        lab.ok(&[
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
    let shown = lab.json(&["show", "x:prod"]);
    assert_eq!(
        (&shown["version"], &shown["tags"][0], &shown["description"], &shown["metadata"]["k"], &shown["run"]),
        (&"v1".into(), &"t".into(), &"D".into(), &1.into(), &"r".into())
    );
    assert_eq!(lab.ok(&["cat", "x", "2026/11/n"]), "new");
    let mut child = lab
        .cairn(&["patch", "x", "-", "--stdin-filename", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "x:v2\n");
    assert_eq!(lab.ok(&["cat", "x", "s"]), "piped");
}

#[test]
fn removing_or_renaming_what_is_not_there_and_files_against_directories_change_nothing() {
    let lab = lab();
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
        let said = lab.fails(args, status);
        assert!(said.contains(named), "{args:?}: {said}");
    }
    std::fs::write(lab.path("d"), "a file").unwrap();
    assert!(lab.fails(&["patch", "x", "d"], 3).contains("`d`"));
    assert_eq!(lab.json(&["list", "x"]).as_array().unwrap().len(), 1, "nothing changed");
}

#[test]
fn a_patch_that_changes_nothing_makes_no_version() {
    let lab = lab();
    for args in [&["patch", "x"][..], &["patch", "x", "src"], &["patch", "x", "src/a"]] {
        let said = lab.json(args);
        assert_eq!((&said["version"], &said["created"]), (&"v0".into(), &false.into()), "{args:?}");
    }
    lab.ok(&["patch", "x", "--tag", "seen"]);
    assert_eq!(lab.json(&["show", "x:v0"])["tags"][0], "seen");
}

#[test]
fn a_patch_on_an_older_version_is_rebased_where_paths_are_disjoint_and_says_so() {
    let lab = lab();
    lab.ok(&["patch", "x:v0", "new/n"]);
    let out = lab.run(&["patch", "x:v0", "new/k", "--at", "k", "--remove", "d/e"], 0);
    assert_eq!(text(&out.stdout), "x:v2\n");
    assert!(text(&out.stderr).contains("rebased: x:v2 was put on v1"), "{}", text(&out.stderr));
    make_tree(
        &lab.path("want"),
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
    assert_eq!(digest(&lab, "x"), digest_of(&lab, "want"), "both changes survive");
    // The same directory made by both, and the same change made by both.
    lab.ok(&["patch", "x:v2", "new/n", "--at", "day/one"]);
    lab.ok(&["patch", "x:v2", "new/n", "--at", "day/two"]);
    assert_eq!((lab.ok(&["cat", "x", "day/one/n"]), lab.ok(&["cat", "x", "day/two/n"])), ("new".into(), "new".into()));
    let again = lab.json(&["patch", "x:v2", "new/n", "--at", "day/one"]);
    assert_eq!(
        (&again["created"], &again["version"]),
        (&false.into(), &"v4".into()),
        "when repeated, it changes nothing"
    );
    let both = lab.json(&["patch", "x:v0", "--remove", "d/e", "new/k/l/m"]);
    assert_eq!(both["version"], "v5", "removed by both");
}

#[test]
fn overlapping_changes_are_a_conflict_that_lists_the_paths_and_publishes_nothing() {
    let lab = lab();
    lab.ok(&["patch", "x", "new", "--remove", "b", "--remove", "d/e"]);
    make_tree(
        &lab.path("mine"),
        &[("d/x", b"mine"), ("n", b"mine too"), ("b", b"33"), ("d/e/z2", b"in what they removed"), ("free", b"")],
    );
    let said = lab.fails(&["patch", "x:v0", "mine"], 3);
    for path in ["d/x", "\n  n\n", "\n  b\n", "d/e"] {
        assert!(said.contains(path), "{path}: {said}");
    }
    assert!(!said.contains("free") && said.contains("hint:"), "{said}");
    let said = lab.fails(&["patch", "x:v0", "--remove", "d"], 3);
    assert!(said.contains("d/x"), "what is removed here was changed there: {said}");
    let json = lab.run(&["patch", "x:v0", "mine", "--json"], 3);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.stderr).unwrap()["exit"], 3);
    assert_eq!(lab.json(&["list", "x"]).as_array().unwrap().len(), 2);
    // Knowingly: v0 and the change, as the next version.
    assert_eq!(lab.ok(&["patch", "x:v0", "mine", "--onto", "v0"]), "x:v2");
    copy_tree(&lab.path("src"), &lab.path("want"));
    copy_tree(&lab.path("mine/."), &lab.path("want"));
    assert_eq!(digest(&lab, "x"), digest_of(&lab, "want"));
    assert_eq!(lab.ok(&["patch", "x", "--onto", "v1"]), "x:v3", "nothing changed since v1 is a change of v2");
    assert_eq!(digest(&lab, "x:v3"), digest(&lab, "x:v1"));
}

#[test]
fn only_the_first_patch_of_an_artifact_needs_create() {
    let lab = TestStore::new();
    make_tree(&lab.path("day"), &[("1", b"1"), ("2", b"2")]);
    assert!(lab.fails(&["patch", "crawl", "day/1"], 6).contains("--create"));
    assert_eq!(lab.ok(&["patch", "crawl", "day/1", "--create", "--type", "log"]), "crawl:v0");
    assert_eq!(lab.ok(&["patch", "crawl", "day/2", "--create"]), "crawl:v1");
    assert_eq!(lab.json(&["show", "crawl"])["type"], "log");
    assert_eq!(lab.json(&["show", "crawl"])["files"], 2);
}

#[test]
fn a_removed_base_is_refused_and_removed_versions_are_stepped_over() {
    let lab = lab();
    lab.ok(&["patch", "x", "new/n"]);
    lab.ok(&["rm", "x:v1"]);
    lab.fails(&["patch", "x:v1", "new"], 6);
    lab.fails(&["patch", "x", "new", "--onto", "v1"], 6);
    assert_eq!(lab.ok(&["patch", "x", "new/k", "--at", "k"]), "x:v2", "its number is not given again");
    assert!(lab.fails(&["cat", "x", "n"], 6).contains('n'), "what was removed with v1 does not come back");
    lab.ok(&["rm", "x", "--all"]);
    lab.fails(&["patch", "x", "new"], 6);
    assert_eq!(lab.ok(&["patch", "x", "new", "--create"]), "x:v3");
    assert_eq!(digest(&lab, "x"), digest_of(&lab, "new"));
    assert_eq!(lab.ok(&["verify"]), "");
}

#[test]
fn removing_a_version_harms_no_patch_on_it() {
    let lab = lab();
    lab.ok(&["patch", "x", "new"]);
    lab.ok(&["rm", "x:v0"]);
    lab.ok(&["get", "x", "got"]);
    copy_tree(&lab.path("src"), &lab.path("want"));
    copy_tree(&lab.path("new/."), &lab.path("want"));
    assert_eq!(snapshot(&lab.path("got")), snapshot(&lab.path("want")));
    assert_eq!(lab.ok(&["verify"]), "");
}

/// Two trees that differ in every way there is.
fn two(lab: &TestStore) {
    make_tree(
        &lab.path("one"),
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
        &lab.path("two"),
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
    std::os::unix::fs::symlink("same", lab.path("two/link")).unwrap();
    std::fs::write(lab.path("two").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    let mut mode = std::fs::metadata(lab.path("two/mode")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(lab.path("two/mode"), mode).unwrap();
    for name in ["one", "two"] {
        lab.ok(&["put", name, name]);
    }
}

#[test]
fn the_difference_of_two_versions_makes_the_one_of_the_other() {
    let lab = TestStore::new();
    two(&lab);
    for (from, to) in [("one", "two"), ("two", "one")] {
        let diff = lab.run(&["diff", from, to, "--json"], 1).stdout;
        std::fs::write(lab.path("diff.json"), &diff).unwrap();
        lab.ok(&["copy", from, "x"]);
        let said = lab.json(&["patch", "x", "--from-diff", "diff.json"]);
        assert_eq!(said["digest"], digest(&lab, to).as_str());
        assert_eq!(said["new_bytes"], 0);
    }
    // On a version that is something else, it is a conflict.
    let said = lab.fails(&["patch", "two", "--from-diff", "diff.json", "--remove", "changed"], 3);
    assert!(said.contains("changed"), "{said}");
    make_tree(&lab.path("more"), &[("dir/unknown", b"!")]);
    lab.ok(&["put", "z", "one", "more"]);
    lab.run(&["diff", "one", "two", "--json"], 1);
    std::fs::write(lab.path("diff.json"), lab.run(&["diff", "one", "two", "--json"], 1).stdout).unwrap();
    let said = lab.fails(&["patch", "z", "--from-diff", "diff.json"], 3);
    assert!(said.contains("\n  dir\n"), "a directory is not taken away with what the difference does not know: {said}");
}

#[test]
fn a_difference_from_another_store_finds_its_bytes_by_digest_or_lists_what_is_missing() {
    let lab = TestStore::new();
    two(&lab);
    lab.ok(&["init", "other"]);
    let other = lab.str("other");
    assert_eq!(lab.ok(&["copy", "one", "mine", "--to", "other"]), "mine:v0");
    std::fs::write(lab.path("diff.json"), lab.run(&["diff", "one", "two", "--json"], 1).stdout).unwrap();
    let said = lab.fails(&["--store", &other, "patch", "mine", "--from-diff", "diff.json"], 6);
    assert!(said.contains("5 of the difference's contents") && said.matches("sha256 ").count() == 5, "{said}");
    lab.ok(&["--store", &other, "put", "bytes", "two"]);
    let said = lab.json(&["--store", &other, "patch", "mine", "--from-diff", "diff.json"]);
    assert_eq!(said["digest"], digest(&lab, "two").as_str());
    assert_eq!(lab.ok(&["--store", &other, "verify"]), "");
    lab.fails(&["patch", "one", "--from-diff", "no.json"], 6);
    lab.fails(&["patch", "one", "--from-diff", "one/same"], 2);
}

#[test]
fn a_copy_is_the_same_content_under_another_name_or_in_another_store() {
    let lab = lab();
    lab.ok(&["patch", "x", "new", "--remove", "b"]);
    let said = lab.json(&["copy", "x:v0", "released", "--alias", "prod"]);
    assert_eq!((&said["version"], &said["created"], &said["new_bytes"]), (&"v0".into(), &true.into(), &0.into()));
    assert_eq!(digest(&lab, "released:prod"), digest(&lab, "x:v0"));
    assert_eq!(lab.ok(&["copy", "x:v0", "x"]), "x:v2", "rolled back");
    assert_eq!(lab.json(&["copy", "x:v0", "x"])["created"], false);
    lab.ok(&["init", "other"]);
    let other = lab.str("other");
    let first = lab.json(&["copy", "x:v0", "x", "--to", "other"]);
    assert_eq!(first["new_bytes"], 200_010);
    let second = lab.json(&["copy", "x:v1", "x", "--to", "other"]);
    assert_eq!(
        (&second["version"], &second["new_bytes"], &second["digest"]),
        (&"v1".into(), &12.into(), &digest(&lab, "x:v1").as_str().into())
    );
    assert_eq!(lab.json(&["copy", "x:v1", "x", "--to", "other"])["created"], false);
    lab.ok(&["--store", &other, "get", "x:v1", "there"]);
    lab.ok(&["get", "x:v1", "here"]);
    assert_eq!(snapshot(&lab.path("there")), snapshot(&lab.path("here")));
    assert_eq!(lab.ok(&["--store", &other, "verify"]), "");
    assert_eq!(lab.ok(&["verify"]), "");
    lab.fails(&["copy", "x:v9", "y"], 6);
    lab.fails(&["copy", "x", "y", "--to", "nowhere"], 6);
    lab.fails(&["copy", "x", "released", "--type", "model"], 3);
}
