//! `cairn get`: case 36.

use crate::support::{Lab, copy_tree, make_tree, noise, snapshot, text};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn lab() -> Lab {
    let lab = Lab::new();
    make_tree(&lab.path("src"), &[("a/b/one", b"1"), ("a/bc/two", b"22"), ("a/three", b"333"), ("big", &noise(7, 400_000)), ("empty/", b""), ("run.sh", b"#!/bin/sh\n")]);
    std::fs::set_permissions(lab.path("src/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a/three", lab.path("src/link")).unwrap();
    lab.ok(&["put", "x", "src"]);
    lab
}

#[test]
fn a_version_is_written_out_exactly_and_a_second_get_changes_nothing() {
    let lab = lab();
    let report = lab.json(&["get", "x", "out"]);
    assert_eq!(report, serde_json::json!({ "artifact": "x", "version": "v0", "directory": "out", "files": 5, "bytes": 400_016, "written": 6, "kept": 0, "removed": 0 }));
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("src")));
    let before = std::fs::metadata(lab.path("out/big")).unwrap();
    let report = lab.json(&["get", "x", "out"]);
    assert_eq!((&report["written"], &report["kept"]), (&0.into(), &6.into()));
    let after = std::fs::metadata(lab.path("out/big")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "untouched");
    assert_eq!(lab.ok(&["get", "x:v0", "out"]), "x:v0");
}

#[test]
fn a_differing_file_is_refused_and_restored_with_force() {
    let lab = lab();
    lab.ok(&["get", "x", "out"]);
    std::fs::write(lab.path("out/a/three"), "mine").unwrap();
    std::fs::write(lab.path("out/extra"), "kept").unwrap();
    std::fs::remove_file(lab.path("out/big")).unwrap();
    let said = lab.fails(&["get", "x", "out"], 3);
    assert!(said.contains("a/three") && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read(lab.path("out/a/three")).unwrap(), b"mine");
    assert!(!lab.path("out/big").exists(), "refused as a whole, before anything was written");
    lab.ok(&["get", "x", "out", "--force"]);
    assert_eq!(std::fs::read(lab.path("out/extra")).unwrap(), b"kept");
    let report = lab.json(&["get", "x", "out", "--force", "--prune"]);
    assert_eq!(report["removed"], 1);
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("src")));
}

#[test]
fn a_path_takes_that_subtree_and_keeps_its_place() {
    let lab = lab();
    lab.ok(&["get", "x", "out", "--path", "a/b"]);
    assert_eq!(snapshot(&lab.path("out")).into_keys().collect::<Vec<_>>(), [b"a".to_vec(), b"a/b".to_vec(), b"a/b/one".to_vec()], "a path prefix, no string prefix");
    lab.ok(&["get", "x", "one", "--path", "./a/three"]);
    assert_eq!(std::fs::read(lab.path("one/a/three")).unwrap(), b"333");
    assert!(lab.fails(&["get", "x", "none", "--path", "a/nope"], 6).contains("a/nope"));
    assert!(!lab.path("none").exists());
    assert!(!std::fs::read_dir(lab.dir.path()).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("none")), "no litter");
    lab.fails(&["get", "x", "none", "--path", "../a"], 2);
}

#[test]
fn what_is_in_the_way_is_refused() {
    let lab = lab();
    std::fs::write(lab.path("file"), "").unwrap();
    lab.fails(&["get", "x", "file"], 3);
    std::fs::create_dir_all(lab.path("out/big")).unwrap();
    lab.fails(&["get", "x", "out"], 3);
    lab.ok(&["get", "x", "out", "--force"]);
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("src")));
}

#[test]
fn a_hard_link_is_made_only_when_it_is_asked_for() {
    let lab = lab();
    lab.ok(&["get", "x", "auto"]);
    assert_eq!(std::fs::metadata(lab.path("auto/big")).unwrap().nlink(), 1);
    assert_eq!(std::fs::metadata(lab.path("auto/a/three")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::metadata(lab.path("auto/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    lab.ok(&["get", "x", "hard", "--link", "hardlink"]);
    assert_eq!(std::fs::metadata(lab.path("hard/big")).unwrap().nlink(), 2);
    assert_eq!(std::fs::metadata(lab.path("hard/run.sh")).unwrap().nlink(), 1);
    lab.ok(&["get", "x", "copy", "--link", "copy"]);
    assert_eq!(snapshot(&lab.path("copy")), snapshot(&lab.path("src")));
}

#[test]
fn a_get_over_another_version_makes_it_that_version() {
    let lab = lab();
    lab.ok(&["get", "x", "out"]);
    copy_tree(&lab.path("src"), &lab.path("src2"));
    std::fs::remove_dir_all(lab.path("src2/a")).unwrap();
    std::fs::write(lab.path("src2/a"), "now a file").unwrap();
    std::fs::write(lab.path("src2/big"), noise(8, 400_000)).unwrap();
    lab.ok(&["put", "x", "src2"]);
    lab.ok(&["get", "x", "out", "--force", "--prune"]);
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("src2")));
    lab.ok(&["get", "x:v0", "out", "--force", "--prune"]);
    assert_eq!(snapshot(&lab.path("out")), snapshot(&lab.path("src")));
}

#[test]
fn holes_of_a_sparse_file_over_4_gib_are_not_filled() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("src")).unwrap();
    let file = std::fs::File::create(lab.path("src/sparse")).unwrap();
    let size = (4 << 30) + 12_345;
    file.set_len(size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 3 << 30).unwrap();
    let report = lab.json(&["put", "x", "src"]);
    assert_eq!(report["bytes"], size);
    lab.ok(&["get", "x", "out"]);
    let meta = std::fs::metadata(lab.path("out/sparse")).unwrap();
    assert_eq!(meta.len(), size);
    assert!(meta.blocks() * 512 < 4 << 20, "{} bytes on disk", meta.blocks() * 512);
    let mut middle = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(lab.path("out/sparse")).unwrap(), &mut middle, 3 << 30).unwrap();
    assert_eq!(&middle, b"in the middle");
}

/// Runs in `project`, whose store is `project/.cairn`.
fn in_project(lab: &Lab, args: &[&str], status: i32) -> String {
    let out = lab.cairn(args).env_remove("CAIRN_STORE").current_dir(lab.path("project")).output().unwrap();
    assert_eq!(out.status.code(), Some(status), "{args:?}: {}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn the_store_in_the_target_is_never_removed_nor_written_into() {
    let lab = lab();
    make_tree(&lab.path("project"), &[("data/a", b"1")]);
    in_project(&lab, &["init"], 0);
    in_project(&lab, &["put", "p", "."], 0);
    make_tree(&lab.path("project"), &[("extra", b"2")]);
    in_project(&lab, &["get", "p", ".", "--force", "--prune"], 0);
    assert!(!lab.path("project/extra").exists());
    in_project(&lab, &["verify"], 0);
    for target in [".cairn", ".cairn/new", ".cairn/objects", "data/../.cairn/new"] {
        assert!(in_project(&lab, &["get", "p", target, "--force", "--prune"], 3).contains("is in the store itself"));
    }
    assert!(in_project(&lab, &["get", "p", "..", "--prune"], 3).contains("would remove the store"));
    // A version that has something where the store is.
    make_tree(&lab.path("evil"), &[(".cairn", b"a file")]);
    make_tree(&lab.path("evil2"), &[(".cairn/cairn.json", b"{}")]);
    make_tree(&lab.path("evil3"), &[("project", b"a file")]);
    for (name, target) in [("evil", "."), ("evil2", "."), ("evil3", "..")] {
        in_project(&lab, &["put", name, &format!("../{name}")], 0);
        assert!(in_project(&lab, &["get", name, target, "--force"], 3).contains("where the store itself is"), "{name}");
    }
    in_project(&lab, &["verify"], 0);
}
