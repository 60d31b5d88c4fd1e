//! `cairn get`: case 36.

use crate::support::{TestStore, copy_tree, make_tree, plain_umount, random_bytes, snapshot, text};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("src"),
        &[
            ("a/b/one", b"1"),
            ("a/bc/two", b"22"),
            ("a/three", b"333"),
            ("big", &random_bytes(7, 400_000)),
            ("empty/", b""),
            ("run.sh", b"#!/bin/sh\n"),
        ],
    );
    std::fs::set_permissions(test_store.path("src/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a/three", test_store.path("src/link")).unwrap();
    test_store.ok(&["put", "x", "src"]);
    test_store
}

#[test]
fn a_version_is_written_out_exactly_and_a_second_get_changes_nothing() {
    let test_store = test_store();
    let report = test_store.json(&["get", "x", "out"]);
    assert_eq!(
        report,
        serde_json::json!({
            "artifact": "x", "version": "v0", "directory": "out", "files": 5, "bytes": 400_016,
            "written": 6, "kept": 0, "removed": 0, "protected": 0, "skipped": 0
        })
    );
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
    let before = std::fs::metadata(test_store.path("out/big")).unwrap();
    let report = test_store.json(&["get", "x", "out"]);
    assert_eq!((&report["written"], &report["kept"]), (&0.into(), &6.into()));
    let after = std::fs::metadata(test_store.path("out/big")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "untouched");
    assert_eq!(test_store.ok(&["get", "x:v0", "out"]), "x:v0");
}

#[test]
fn a_differing_file_is_refused_and_restored_with_force() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    std::fs::write(test_store.path("out/a/three"), "mine").unwrap();
    std::fs::write(test_store.path("out/extra"), "kept").unwrap();
    std::fs::remove_file(test_store.path("out/big")).unwrap();
    let stderr = test_store.fails(&["get", "x", "out"], 3);
    assert!(stderr.contains("a/three") && stderr.contains("--force"), "{stderr}");
    assert_eq!(std::fs::read(test_store.path("out/a/three")).unwrap(), b"mine");
    assert!(!test_store.path("out/big").exists(), "refused as a whole, before anything was written");
    test_store.ok(&["get", "x", "out", "--force"]);
    assert_eq!(std::fs::read(test_store.path("out/extra")).unwrap(), b"kept");
    let report = test_store.json(&["get", "x", "out", "--force", "--prune"]);
    assert_eq!(report["removed"], 1);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn a_path_takes_that_subtree_and_keeps_its_place() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out", "--path", "a/b"]);
    assert_eq!(
        snapshot(&test_store.path("out")).into_keys().collect::<Vec<_>>(),
        [b"a".to_vec(), b"a/b".to_vec(), b"a/b/one".to_vec()],
        "a path prefix, no string prefix"
    );
    test_store.ok(&["get", "x", "one", "--path", "./a/three"]);
    assert_eq!(std::fs::read(test_store.path("one/a/three")).unwrap(), b"333");
    assert!(test_store.fails(&["get", "x", "none", "--path", "a/nope"], 6).contains("a/nope"));
    assert!(!test_store.path("none").exists());
    assert!(
        !std::fs::read_dir(test_store.dir.path()).unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("none")),
        "no litter"
    );
    test_store.fails(&["get", "x", "none", "--path", "../a"], 2);
}

#[test]
fn what_is_in_the_way_is_refused() {
    let test_store = test_store();
    std::fs::write(test_store.path("file"), "").unwrap();
    test_store.fails(&["get", "x", "file"], 3);
    std::fs::create_dir_all(test_store.path("out/big")).unwrap();
    test_store.fails(&["get", "x", "out"], 3);
    test_store.ok(&["get", "x", "out", "--force"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn a_hard_link_is_made_only_when_it_is_asked_for() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "auto"]);
    assert_eq!(std::fs::metadata(test_store.path("auto/big")).unwrap().nlink(), 1);
    assert_eq!(std::fs::metadata(test_store.path("auto/a/three")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::metadata(test_store.path("auto/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    test_store.ok(&["get", "x", "hard", "--link", "hardlink"]);
    assert_eq!(std::fs::metadata(test_store.path("hard/big")).unwrap().nlink(), 2);
    assert_eq!(std::fs::metadata(test_store.path("hard/run.sh")).unwrap().nlink(), 1);
    test_store.ok(&["get", "x", "copy", "--link", "copy"]);
    assert_eq!(snapshot(&test_store.path("copy")), snapshot(&test_store.path("src")));
}

#[test]
fn a_get_over_another_version_makes_it_that_version() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    copy_tree(&test_store.path("src"), &test_store.path("src2"));
    std::fs::remove_dir_all(test_store.path("src2/a")).unwrap();
    std::fs::write(test_store.path("src2/a"), "now a file").unwrap();
    std::fs::write(test_store.path("src2/big"), random_bytes(8, 400_000)).unwrap();
    test_store.ok(&["put", "x", "src2"]);
    test_store.ok(&["get", "x", "out", "--force", "--prune"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src2")));
    test_store.ok(&["get", "x:v0", "out", "--force", "--prune"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn holes_of_a_sparse_file_over_4_gib_are_not_filled() {
    let test_store = TestStore::new();
    std::fs::create_dir(test_store.path("src")).unwrap();
    let file = std::fs::File::create(test_store.path("src/sparse")).unwrap();
    let size = (4 << 30) + 12_345;
    file.set_len(size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 3 << 30).unwrap();
    let report = test_store.json(&["put", "x", "src"]);
    assert_eq!(report["bytes"], size);
    test_store.ok(&["get", "x", "out"]);
    let meta = std::fs::metadata(test_store.path("out/sparse")).unwrap();
    assert_eq!(meta.len(), size);
    assert!(meta.blocks() * 512 < 4 << 20, "{} bytes on disk", meta.blocks() * 512);
    let mut middle = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(
        &std::fs::File::open(test_store.path("out/sparse")).unwrap(),
        &mut middle,
        3 << 30,
    )
    .unwrap();
    assert_eq!(&middle, b"in the middle");
}

/// Runs in `project`, whose store is `project/.cairn`.
fn in_project(test_store: &TestStore, args: &[&str], status: i32) -> String {
    let out =
        test_store.cairn(args).env_remove("CAIRN_STORE").current_dir(test_store.path("project")).output().unwrap();
    assert_eq!(out.status.code(), Some(status), "{args:?}: {}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn the_store_in_the_target_is_never_removed_nor_written_into() {
    let test_store = test_store();
    make_tree(&test_store.path("project"), &[("data/a", b"1")]);
    in_project(&test_store, &["init"], 0);
    in_project(&test_store, &["put", "p", "."], 0);
    make_tree(&test_store.path("project"), &[("extra", b"2")]);
    in_project(&test_store, &["get", "p", ".", "--force", "--prune"], 0);
    assert!(!test_store.path("project/extra").exists());
    in_project(&test_store, &["verify"], 0);
    for target in [".cairn", ".cairn/new", ".cairn/objects", "data/../.cairn/new"] {
        assert!(
            in_project(&test_store, &["get", "p", target, "--force", "--prune"], 3).contains("is in the store itself")
        );
    }
    assert!(in_project(&test_store, &["get", "p", "..", "--prune"], 3).contains("would remove the store"));
    // A version that has something where the store is.
    make_tree(&test_store.path("evil"), &[(".cairn", b"a file")]);
    make_tree(&test_store.path("evil2"), &[(".cairn/cairn.json", b"{}")]);
    make_tree(&test_store.path("evil3"), &[("project", b"a file")]);
    for (name, target) in [("evil", "."), ("evil2", "."), ("evil3", "..")] {
        in_project(&test_store, &["put", name, &format!("../{name}")], 0);
        assert!(
            in_project(&test_store, &["get", name, target, "--force"], 3).contains("where the store itself is"),
            "{name}"
        );
    }
    in_project(&test_store, &["verify"], 0);
}

/// The names in a directory that cairn gives to unfinished entries.
fn unfinished(dir: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|n| n.contains(".cairn-")).collect()
}

#[test]
fn a_symlink_where_a_new_directory_is_built_is_not_followed() {
    let test_store = test_store();
    make_tree(&test_store.path("precious"), &[("a/three", b"mine"), ("diary", b"mine")]);
    let before = snapshot(&test_store.path("precious"));
    let digest = test_store.json(&["show", "x"])["digest"].as_str().unwrap()[..16].to_owned();
    symlink(test_store.path("precious"), test_store.path(&format!(".out.cairn-{digest}"))).unwrap();
    test_store.ok(&["get", "x", "out"]);
    assert_eq!(snapshot(&test_store.path("precious")), before);
    assert!(!test_store.path("out").is_symlink());
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
    assert_eq!(
        unfinished(test_store.dir.path()),
        [format!(".out.cairn-{digest}")],
        "the symlink is not ours to remove"
    );
}

#[test]
fn a_new_directory_holds_nothing_of_an_earlier_get_of_another_part() {
    let test_store = test_store();
    let digest = test_store.json(&["show", "x"])["digest"].as_str().unwrap()[..16].to_owned();
    let half = format!(".out.cairn-{digest}");
    make_tree(&test_store.path(&half), &[("a/three", b"33"), ("stale/deep/file", b"unrelated"), ("big", b"half")]);
    test_store.ok(&["get", "x", "out", "--path", "a"]);
    let names: Vec<_> = snapshot(&test_store.path("out")).into_keys().map(|n| String::from_utf8(n).unwrap()).collect();
    assert_eq!(names, ["a", "a/b", "a/b/one", "a/bc", "a/bc/two", "a/three"]);
    assert!(unfinished(test_store.dir.path()).is_empty());
}

#[test]
fn a_symlink_in_the_target_is_replaced_and_not_followed() {
    let test_store = test_store();
    make_tree(&test_store.path("outside"), &[("three", b"mine"), ("b/one", b"mine"), ("extra", b"mine")]);
    let before = snapshot(&test_store.path("outside"));
    std::fs::create_dir(test_store.path("out")).unwrap();
    symlink(test_store.path("outside"), test_store.path("out/a")).unwrap();
    symlink(test_store.path("outside/three"), test_store.path("out/big")).unwrap();
    symlink(test_store.path("outside"), test_store.path("out/not-in-the-version")).unwrap();
    assert!(test_store.fails(&["get", "x", "out"], 3).contains("a, big"));
    test_store.ok(&["get", "x", "out", "--force", "--prune"]);
    assert_eq!(snapshot(&test_store.path("outside")), before);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
    // The target itself may be reached through one: the user named it.
    symlink("out", test_store.path("link")).unwrap();
    std::fs::remove_file(test_store.path("out/big")).unwrap();
    test_store.ok(&["get", "x", "link"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn what_shares_a_file_with_the_store_is_made_anew_unless_hard_links_are_asked_for() {
    for link in ["copy", "auto"] {
        let test_store = test_store();
        test_store.ok(&["get", "x", "out", "--link", "hardlink"]);
        let linked = std::fs::metadata(test_store.path("out/big")).unwrap().ino();
        test_store.ok(&["get", "x", "out", "--link", "hardlink"]);
        assert_eq!(std::fs::metadata(test_store.path("out/big")).unwrap().ino(), linked);
        let report = test_store.json(&["get", "x", "out", "--link", link]);
        assert_eq!((&report["written"], &report["kept"]), (&1.into(), &5.into()));
        assert_eq!(std::fs::metadata(test_store.path("out/big")).unwrap().nlink(), 1);
        std::fs::write(test_store.path("out/big"), "an edit").unwrap();
        test_store.ok(&["verify"]);
    }
    // Also what an interrupted get left.
    let test_store = test_store();
    test_store.ok(&["get", "x", "out", "--link", "hardlink"]);
    let digest = test_store.json(&["show", "x"])["digest"].as_str().unwrap()[..16].to_owned();
    std::fs::rename(test_store.path("out"), test_store.path(&format!(".out.cairn-{digest}"))).unwrap();
    test_store.ok(&["get", "x", "out", "--link", "copy"]);
    assert_eq!(std::fs::metadata(test_store.path("out/big")).unwrap().nlink(), 1);
}

#[test]
fn an_exec_bit_is_never_set_through_a_hard_link() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out", "--link", "hardlink"]);
    std::fs::set_permissions(test_store.path("src/big"), std::fs::Permissions::from_mode(0o755)).unwrap();
    test_store.ok(&["put", "x", "src"]);
    let linked = std::fs::metadata(test_store.path("out/big")).unwrap();
    std::fs::hard_link(test_store.path("out/big"), test_store.path("other-name")).unwrap();
    test_store.ok(&["get", "x", "out", "--force"]);
    let other = std::fs::metadata(test_store.path("other-name")).unwrap();
    assert_eq!((other.ino(), other.mode() & 0o777), (linked.ino(), 0o444), "the object is as it was");
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
    // With one name its bit is set in place.
    let before = std::fs::metadata(test_store.path("out/big")).unwrap().ino();
    test_store.ok(&["get", "x:v0", "out"]);
    let after = std::fs::metadata(test_store.path("out/big")).unwrap();
    assert_eq!((after.ino(), after.mode() & 0o111), (before, 0));
}

#[test]
fn the_next_get_removes_what_killed_gets_left_and_leaves_other_names_alone() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    let half = ".cairn-0123456789abcdef0123456789abcdef";
    make_tree(
        &test_store.path("out"),
        &[(half, b"half"), (&format!("a/b/{half}"), b"half"), ("a/.cairn-mine", b"mine")],
    );
    std::fs::remove_file(test_store.path("out/a/three")).unwrap();
    test_store.ok(&["get", "x", "out"]);
    assert!(unfinished(&test_store.path("out")).is_empty() && unfinished(&test_store.path("out/a/b")).is_empty());
    assert_eq!(unfinished(&test_store.path("out/a")), [".cairn-mine"]);
}

#[test]
fn a_get_killed_at_any_step_leaves_nothing_that_a_put_publishes_or_the_next_get_keeps() {
    let test_store = test_store();
    let prepare = || {
        let _ = std::fs::remove_dir_all(test_store.path("out"));
        make_tree(&test_store.path("out"), &[("a/three", b"333"), ("big", b"other")]);
    };
    prepare();
    let steps = crate::support::steps(&test_store, &["get", "x", "out", "--force"]);
    assert!(steps > 8, "{steps}");
    let mut left = 0;
    for step in 1..=steps {
        prepare();
        let status = test_store
            .cairn(&["get", "x", "out", "--force"])
            .env("CAIRN_FAULT", format!("kill:{step}"))
            .status()
            .unwrap();
        assert!(!status.success());
        left += unfinished(&test_store.path("out")).len();
        let seen = test_store.json_with(&["diff", "x", "./out"], 1);
        let extra: Vec<_> = seen["changes"].as_array().unwrap().iter().filter(|c| c["change"] == "added").collect();
        assert!(extra.is_empty(), "step {step}: {extra:?}");
        test_store.ok(&["get", "x", "out", "--force"]);
        assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")), "step {step}");
    }
    assert!(left > 0, "some were killed with a half file there");
}

#[test]
fn a_get_that_is_at_work_keeps_its_half_files_when_another_comes_to_the_same_directory() {
    let test_store = test_store();
    make_tree(&test_store.path("out"), &[("a/three", b"333")]);
    let mut at = 0;
    let mut first = loop {
        at += 1;
        let mut child = test_store.stopped_before(at, &["-q", "get", "x", "out"]);
        if !unfinished(&test_store.path("out")).is_empty() {
            break child;
        }
        crate::support::resume(&child);
        child.wait().unwrap();
        std::fs::remove_dir_all(test_store.path("out")).unwrap();
        make_tree(&test_store.path("out"), &[("a/three", b"333")]);
    };
    let halves = unfinished(&test_store.path("out"));
    test_store.ok(&["get", "x", "out"]);
    assert_eq!(unfinished(&test_store.path("out")), halves);
    crate::support::resume(&first);
    assert!(first.wait().unwrap().success());
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn prune_leaves_alone_what_put_and_diff_leave_out() {
    let test_store = test_store();
    make_tree(&test_store.path("src"), &[(".cairnignore", b"*.log\ncache/\n"), ("a/.cairnignore", b"!keep.log\n")]);
    test_store.ok(&["put", "x", "src"]);
    test_store.ok(&["get", "x", "out"]);
    let hidden: &[(&str, &[u8])] = &[
        ("train.log", b"1"),
        ("a/b/one.log", b"2"),
        ("cache/deep/file", b"3"),
        ("new/dir/x.log", b"4"),
        (".git/config", b"5"),
    ];
    let extra: &[(&str, &[u8])] =
        &[("extra", b""), ("a/keep.log", b""), ("new/dir/x", b""), ("new/gone/y", b""), ("a/empty/", b"")];
    make_tree(&test_store.path("out"), hidden);
    make_tree(&test_store.path("out"), extra);
    // A store that something else uses.
    std::fs::create_dir(test_store.path("out/b")).unwrap();
    let other = test_store.cairn(&["init", "out/b/.cairn"]).output().unwrap();
    assert!(other.status.success(), "{}", text(&other.stderr));
    let report = test_store.json(&["get", "x", "out", "--prune"]);
    assert_eq!(report["protected"], 6);
    for (path, bytes) in hidden {
        assert_eq!(std::fs::read(test_store.path("out").join(path)).unwrap(), *bytes, "{path}");
    }
    for (path, _) in extra {
        assert!(!test_store.path("out").join(path).exists(), "{path}");
    }
    assert!(!test_store.path("out/new/gone").exists() && test_store.path("out/b/.cairn/cairn.json").exists());
    // A second time nothing more goes.
    assert_eq!(test_store.json(&["get", "x", "out", "--prune"])["removed"], 0);
    assert!(test_store.path("out/new/dir/x.log").exists());
}

#[test]
fn prune_keeps_an_ignore_file_of_the_users_while_something_that_it_hides_is_there() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    make_tree(&test_store.path("out"), &[(".cairnignore", b"*.log\n"), ("a/b/x.log", b"1"), ("extra", b"")]);
    for _ in 0..2 {
        test_store.ok(&["get", "x", "out", "--prune"]);
        assert!(test_store.path("out/a/b/x.log").exists() && test_store.path("out/.cairnignore").exists());
    }
    assert!(!test_store.path("out/extra").exists());
    std::fs::remove_file(test_store.path("out/a/b/x.log")).unwrap();
    test_store.ok(&["get", "x", "out", "--prune"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn prune_counts_what_goes_from_a_directory_that_stays() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    let extra: &[(&str, &[u8])] = &[
        ("n/.cairnignore", b"*.log\n"),
        ("n/a.log", b"1"),
        ("n/one", b"2"),
        ("n/gone/two", b"3"),
        ("n/gone/three", b"4"),
        ("whole/one", b"5"),
        ("whole/below/two", b"6"),
    ];
    make_tree(&test_store.path("out"), extra);
    let report = test_store.json(&["get", "x", "out", "--prune"]);
    assert_eq!((&report["removed"], &report["protected"]), (&3.into(), &2.into()), "n/one, n/gone and whole went");
    assert!(test_store.path("out/n/a.log").exists() && test_store.path("out/n/.cairnignore").exists());
}

#[test]
fn a_prune_stops_when_it_is_interrupted() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    for i in 0..3000 {
        make_tree(&test_store.path("out"), &[(&format!("extra/{}/{i}", i % 10), b"")]);
    }
    let mut child = test_store.stopped_before(20, &["-q", "get", "x", "out", "--prune"]);
    // SAFETY: a signal to a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    crate::support::resume(&child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(test_store.path("out/extra").exists(), "the rest is left");
    assert_eq!(test_store.json(&["get", "x", "out", "--prune"])["removed"], 1);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn extras_deeper_than_the_soft_limit_of_open_files_are_removed() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    make_tree(&test_store.path("out"), &[(&format!("{}extra", "d/".repeat(300)), b"")]);
    let mut get = test_store.cairn(&["get", "x", "out", "--prune"]);
    // SAFETY: getrlimit and setrlimit may be called between fork and exec; the struct is filled before it is read.
    unsafe {
        get.pre_exec(|| {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit.rlim_cur = 100;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            Ok(())
        })
    };
    let done = get.output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn what_is_mounted_in_a_directory_that_a_killed_get_left_is_not_removed() {
    let test_store = test_store();
    let digest = test_store.json(&["show", "x"])["digest"].as_str().unwrap()[..16].to_owned();
    let ram = test_store.path(&format!(".out.cairn-{digest}/a/ram"));
    std::fs::create_dir_all(&ram).unwrap();
    if !Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&ram).status().is_ok_and(|s| s.success()) {
        println!("skipped: no mounts here");
        return;
    }
    make_tree(&ram, &[("diary", b"mine")]);
    let refused = test_store.cairn(&["get", "x", "out"]).output().unwrap();
    let kept = ram.join("diary").exists();
    plain_umount(&ram);
    assert!(kept, "{}", text(&refused.stderr));
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("another file system is mounted there"), "{}", text(&refused.stderr));
    test_store.ok(&["get", "x", "out"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
}

#[test]
fn a_directory_in_the_way_of_a_file_is_not_replaced_while_it_holds_what_a_get_leaves_alone() {
    let test_store = test_store();
    test_store.ok(&["get", "x", "out"]);
    std::fs::remove_file(test_store.path("out/big")).unwrap();
    make_tree(&test_store.path("out"), &[("big/.git/config", b"mine"), ("a/three", b"differs")]);
    let stderr = test_store.fails(&["get", "x", "out", "--force"], 3);
    assert!(stderr.contains("big/.git"), "{stderr}");
    assert_eq!(std::fs::read(test_store.path("out/a/three")).unwrap(), b"differs", "nothing was changed");
}

#[test]
fn force_replaces_no_directory_that_holds_what_an_ignore_file_above_it_hides() {
    let test_store = test_store();
    let mine: &[(&str, &[u8])] =
        &[(".cairnignore", b"*.key\n"), ("big/deep/my.key", b"mine"), ("a/three/x", b"1"), ("a/.cairnignore", b"x\n")];
    make_tree(&test_store.path("out"), mine);
    for path in ["big", "a/three"] {
        for prune in [&[][..], &["--prune"]] {
            let stderr = test_store.fails(&[&["get", "x", "out", "--force", "--path", path], prune].concat(), 3);
            assert!(stderr.contains("which a get leaves alone"), "{stderr}");
        }
    }
    for (path, bytes) in mine {
        assert_eq!(std::fs::read(test_store.path("out").join(path)).unwrap(), *bytes, "{path}");
    }
    // What nothing hides is replaced.
    std::fs::remove_file(test_store.path("out/big/deep/my.key")).unwrap();
    test_store.ok(&["get", "x", "out", "--force", "--path", "big"]);
    assert!(test_store.path("out/big").is_file() && test_store.path("out/.cairnignore").exists());
}

#[test]
fn references_are_skipped_or_linked_or_refused_before_anything_is_written() {
    let test_store = test_store();
    let local = test_store.path("local file");
    std::fs::write(&local, "here").unwrap();
    let local_uri = format!("file://{}", local.display()).replace(' ', "%20");
    test_store.ok(&["patch", "x", &local_uri, "oddscheme://bucket/z.bin", "--at", "refs"]);
    let stderr = test_store.fails(&["get", "x", "out"], 2);
    assert!(stderr.contains("oddscheme://bucket/z.bin cannot be read") && stderr.contains("skip"), "{stderr}");
    assert!(!test_store.path("out").exists() && unfinished(test_store.dir.path()).is_empty());
    test_store.fails(&["get", "x", "out", "--references", "fetch"], 2);
    let report = test_store.json(&["get", "x", "out", "--references", "skip"]);
    assert_eq!((&report["skipped"], &report["written"]), (&2.into(), &6.into()));
    std::fs::remove_dir(test_store.path("out/refs")).unwrap();
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("src")));
    // What the user put at its path is neither extra nor in the way.
    make_tree(&test_store.path("out"), &[("refs/z.bin", b"fetched by hand")]);
    test_store.ok(&["get", "x", "out", "--references", "skip", "--prune", "--force"]);
    assert_eq!(std::fs::read(test_store.path("out/refs/z.bin")).unwrap(), b"fetched by hand");
    // Only what is on this host can be linked to.
    assert!(
        test_store
            .fails(&["get", "x", "two", "--references", "link"], 2)
            .contains("oddscheme://bucket/z.bin cannot be linked to")
    );
    assert!(!test_store.path("two").exists());
    test_store.ok(&["get", "x", "two", "--references", "link", "--path", "refs/local file"]);
    assert_eq!(std::fs::read_link(test_store.path("two/refs/local file")).unwrap(), local);
    assert_eq!(test_store.json(&["get", "x", "two", "--references", "link", "--path", "refs/local file"])["kept"], 1);
}

#[test]
fn trees_deeper_than_the_directories_held_open_are_written_and_compared() {
    let test_store = test_store();
    let deep: Vec<String> = (0..90).map(|i| format!("d{i}")).collect();
    let mut files = Vec::new();
    for depth in [40, 70, 90] {
        files.push((format!("{}/file{depth}", deep[..depth].join("/")), depth.to_string()));
        files.push((format!("{}/zz/last", deep[..depth / 2].join("/")), depth.to_string()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(p, c)| (p.as_str(), c.as_bytes())).collect();
    make_tree(&test_store.path("deep"), &files);
    test_store.ok(&["put", "deep", "deep"]);
    test_store.ok(&["get", "deep", "out"]);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("deep")));
    make_tree(
        &test_store.path("out"),
        &[(&format!("{}/extra", deep[..80].join("/")), b""), (&format!("{}/extra", deep[..3].join("/")), b"")],
    );
    assert_eq!(test_store.json(&["get", "deep", "out", "--prune"])["removed"], 2);
    assert_eq!(snapshot(&test_store.path("out")), snapshot(&test_store.path("deep")));
}
