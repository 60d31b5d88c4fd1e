//! `cairn put`: cases 1 to 15 as far as they show at the command line.

use crate::support::{TestStore, make_tree, random_bytes, text};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a.txt", b"hello"), ("sub/b.txt", b"world!"), ("empty/", b"")]);
    test_store
}

#[test]
fn a_put_prints_the_version_and_its_document_says_all() {
    let test_store = test_store();
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v0");
    let again = test_store.json(&["put", "x", "src"]);
    let digest = test_store.json(&["show", "x"])["digest"].clone();
    assert_eq!(
        again,
        serde_json::json!({
            "artifact": "x", "version": "v0", "digest": digest, "created": false,
            "files": 2, "bytes": 11, "new_bytes": 0
        })
    );
    let other = test_store.json(&["put", "y", "src"]);
    assert_eq!(
        (&other["created"], &other["new_bytes"], &other["digest"]),
        (&true.into(), &0.into(), &digest),
        "equal content, equal digest, nothing new"
    );
}

#[test]
fn what_a_killed_get_left_in_a_directory_is_not_published() {
    let test_store = test_store();
    let half = ".cairn-0123456789abcdef0123456789abcdef";
    make_tree(
        &test_store.path("src"),
        &[
            (half, b"half"),
            (&format!("sub/{half}"), b"half"),
            (".out.cairn-0123456789abcdef/a", b"half"),
            (".cairn-notes", b"the user's"),
        ],
    );
    test_store.ok(&["put", "x", "src"]);
    let paths: Vec<_> =
        test_store.json_lines(&["ls", "x", "-R"]).iter().map(|l| l["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, [".cairn-notes", "a.txt", "empty", "sub", "sub/b.txt"]);
    assert_eq!(test_store.run(&["diff", "x", "./src"], 0).stdout, b"");
}

#[test]
fn a_b_a_makes_three_versions_and_unchanged_makes_none() {
    let test_store = test_store();
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v0");
    std::fs::write(test_store.path("src/a.txt"), "changed").unwrap();
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v1");
    std::fs::write(test_store.path("src/a.txt"), "hello").unwrap();
    let third = test_store.json(&["put", "x", "src"]);
    assert_eq!((&third["version"], &third["created"], &third["new_bytes"]), (&"v2".into(), &true.into(), &0.into()));
    assert_eq!(third["digest"], test_store.json(&["show", "x:v0"])["digest"]);
    assert_eq!(test_store.json(&["put", "x", "src"])["created"], false);
    let forced = test_store.json(&["put", "x", "src", "--new-version"]);
    assert_eq!((&forced["version"], &forced["created"]), (&"v3".into(), &true.into()));
}

#[test]
fn tags_are_kept_once_each_in_the_order_in_which_they_are_given() {
    let test_store = test_store();
    test_store.ok(&["put", "x", "src", "--tag", "b", "--tag", "a c", "--tag", "b", "--tag", "a"]);
    assert_eq!(test_store.json(&["show", "x"])["tags"], serde_json::json!(["b", "a c", "a"]));
}

#[test]
fn annotations_of_an_unchanged_put_are_recorded_on_the_newest_version() {
    let test_store = test_store();
    test_store.ok(&["put", "x", "src", "--tag", "one", "--run", "r1"]);
    test_store.ok(&[
        "put",
        "x",
        "src",
        "--tag",
        "two",
        "--tag",
        "one",
        "--alias",
        "prod",
        "--description",
        "D",
        "--metadata",
        r#"{"k": 1}"#,
        "--run",
        "r2",
    ]);
    let shown = test_store.json(&["show", "x"]);
    assert_eq!(shown["version"], "v0");
    assert_eq!(shown["tags"], serde_json::json!(["one", "two"]));
    assert_eq!(shown["aliases"], serde_json::json!(["latest", "prod"]));
    assert_eq!((&shown["description"], &shown["metadata"]["k"], &shown["run"]), (&"D".into(), &1.into(), &"r1".into()));
    assert_eq!(shown["runs"].as_array().unwrap().len(), 2);
    assert_eq!(shown["runs"][1]["run"], "r2");
}

#[test]
fn sources_are_directories_files_stdin_and_references_below_a_prefix() {
    let test_store = test_store();
    std::fs::set_permissions(test_store.path("src/a.txt"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = test_store.cairn(&[
        "put",
        "x",
        "src/sub",
        "src/a.txt",
        "-",
        "s3://bucket/dir/c.bin?versionId=7",
        "--stdin-filename",
        "from/pipe.txt",
        "--at",
        "./top//",
        "--no-checksum",
    ]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(text(&out.stdout), "x:v0\n", "{}", text(&out.stderr));
    let lines = test_store.json_lines(&["ls", "x", "-R"]);
    let of = |path: &str| {
        lines.iter().find(|l| l["path"] == path).unwrap_or_else(|| panic!("{path} is missing: {lines:?}")).clone()
    };
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(of("top")["kind"], "directory");
    assert_eq!((&of("top/a.txt")["exec"], &of("top/b.txt")["exec"]), (&true.into(), &false.into()));
    assert_eq!(of("top/c.bin")["uri"], "s3://bucket/dir/c.bin?versionId=7");
    assert_eq!(test_store.ok(&["cat", "x", "top/from/pipe.txt"]), "piped");
}

#[test]
fn stdin_is_called_stdin_and_can_be_given_once() {
    let test_store = test_store();
    let run = |args: &[&str]| {
        let mut child =
            test_store.cairn(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(&random_bytes(3, 300_000)); // a refused one does not read
        child.wait_with_output().unwrap()
    };
    assert_eq!(run(&["put", "x", "-"]).status.code(), Some(0));
    assert_eq!(test_store.run(&["cat", "x", "stdin"], 0).stdout, random_bytes(3, 300_000));
    assert_eq!(run(&["put", "y", "-", "-"]).status.code(), Some(2));
    assert_eq!(run(&["put", "y", "-", "--stdin-filename", "../up"]).status.code(), Some(2));
    assert_eq!(test_store.ok(&["list"]).lines().count(), 1);
}

#[test]
fn bad_names_paths_and_annotations_are_usage_errors_and_leave_nothing_behind() {
    let test_store = test_store();
    for name in ["", ".", "..", ".hidden", "a b", "a/b", "a:b", "a\n", "ä", "a:v1", &"x".repeat(129)] {
        test_store.fails(&["put", name, "src"], 2);
    }
    test_store.fails(&["put", "--", "-x", "src"], 2);
    for at in ["/abs", "../up", "a/../b", &"y".repeat(256)] {
        test_store.fails(&["put", "x", "src", "--at", at], 2);
    }
    for alias in ["", "a/b", "a:b", ".a", ".staging", "v0", "v12", "a\nb", &"x".repeat(129)] {
        test_store.fails(&["put", "x", "src", "--alias", alias], 2);
    }
    for tag in ["", " a", "a,b", "a\tb"] {
        test_store.fails(&["put", "x", "src", "--tag", tag], 2);
    }
    for metadata in ["", "[]", "1", "{", r#"{"a": Infinity}"#, r#"{"a": -Infinity}"#] {
        test_store.fails(&["put", "x", "src", "--metadata", metadata], 2);
    }
    for kind in ["", "a b", ".x"] {
        test_store.fails(&["put", "x", "src", "--type", kind], 2);
    }
    test_store.fails(&["put", "x", "src", "--run", "a\tb"], 2);
    test_store.fails(&["put", "x", "s3://"], 2);
    test_store.fails(&["put", "x", "src", "--exclude", "a{"], 2);
    test_store.expect_nothing();
}

#[test]
fn latest_given_at_a_put_is_accepted_and_means_nothing() {
    let test_store = test_store();
    test_store.ok(&["put", "x", "src", "--alias", "latest"]);
    test_store.ok(&["put", "x", "src", "src/a.txt", "--new-version"]);
    assert_eq!(test_store.json(&["show", "x"])["aliases"], serde_json::json!(["latest"]));
    assert_eq!(test_store.json(&["show", "x:v0"])["aliases"], serde_json::json!([]));
}

#[test]
fn an_artifacts_type_never_changes() {
    let test_store = test_store();
    test_store.ok(&["put", "m", "src", "--type", "model"]);
    let stderr = test_store.fails(&["put", "m", "src", "--type", "dataset"], 3);
    assert!(stderr.contains("model") && stderr.contains("dataset"), "{stderr}");
    std::fs::write(test_store.path("src/new"), "1").unwrap();
    assert_eq!(test_store.ok(&["put", "m", "src"]), "m:v1", "without a type it is the one the name has");
    test_store.ok(&["put", "d", "src"]);
    assert_eq!(test_store.artifacts(), ["d dataset 1 v0", "m model 2 v1"]);
}

#[test]
fn metadata_is_an_object_given_or_in_a_file_with_nan_as_null() {
    let test_store = test_store();
    std::fs::write(test_store.path("m.json"), r#"{"z": NaN, "a": [1, 2.5]}"#).unwrap();
    test_store.ok(&["put", "x", "src", "--metadata", "@m.json"]);
    let out = text(&test_store.run(&["show", "x", "--json"], 0).stdout);
    assert!(out.contains(r#""metadata":{"z":null,"a":[1,2.5]}"#), "key order is kept: {out}");
    assert!(test_store.ok(&["show", "x"]).contains("metadata:      z = null\nmetadata:      a = [1,2.5]"));
    assert!(test_store.fails(&["put", "y", "src", "--metadata", "@none.json"], 6).contains("none.json"));
    std::fs::write(test_store.path("bad.json"), "[1]").unwrap();
    assert!(test_store.fails(&["put", "y", "src", "--metadata", "@bad.json"], 2).contains("bad.json"));
    let many = format!("{{{}}}", (0..101).map(|i| format!("\"k{i}\": 1")).collect::<Vec<_>>().join(","));
    test_store.fails(&["put", "y", "src", "--metadata", &many], 2);
    let long = |bytes: usize| format!("{{\"k\": \"{}\"}}", "x".repeat(bytes));
    assert!(test_store.fails(&["put", "y", "src", "--metadata", &long(64 << 10)], 2).contains("65,536"));
    assert_eq!(test_store.ok(&["list"]).lines().count(), 1);
}

#[test]
fn one_path_from_two_sources_is_one_entry_if_equal_and_an_error_if_not() {
    let test_store = test_store();
    make_tree(&test_store.path("other"), &[("a.txt", b"other")]);
    make_tree(&test_store.path("same"), &[("a.txt", b"hello")]);
    make_tree(&test_store.path("clash"), &[("a.txt/x", b"below a file")]);
    assert!(test_store.fails(&["put", "x", "src", "other"], 2).contains("a.txt"));
    assert!(test_store.fails(&["put", "x", "src", "clash"], 2).contains("a.txt"));
    assert!(test_store.fails(&["put", "x", "clash", "src"], 2).contains("a.txt"));
    test_store.expect_nothing();
    assert_eq!(test_store.json(&["put", "x", "src", "same"])["files"], 2);
}

#[test]
fn symlinks_stay_symlinks_unless_followed() {
    let test_store = test_store();
    symlink("a.txt", test_store.path("src/link")).unwrap();
    symlink("nowhere", test_store.path("src/dangling")).unwrap();
    symlink("sub", test_store.path("src/dirlink")).unwrap();
    test_store.ok(&["put", "x", "src"]);
    let lines = test_store.json_lines(&["ls", "x"]);
    let link = lines.iter().find(|l| l["path"] == "link").unwrap();
    assert_eq!(*link, serde_json::json!({ "path": "link", "kind": "symlink", "target": "a.txt" }));
    assert!(lines.iter().any(|l| l["path"] == "dangling" && l["target"] == "nowhere"));
    assert!(lines.iter().any(|l| *l == serde_json::json!({ "path": "empty", "kind": "directory" })));
    test_store.ok(&["put", "x", "src", "--follow-symlinks"]);
    assert_eq!(test_store.ok(&["cat", "x", "dirlink/b.txt"]), "world!");
    assert_eq!(test_store.ok(&["cat", "x", "link"]), "hello");
    symlink("..", test_store.path("src/sub/loop")).unwrap();
    assert!(test_store.fails(&["put", "y", "src", "--follow-symlinks"], 2).contains("loop"));
    test_store.ok(&["put", "y", "src"]);
}

#[test]
fn special_files_are_refused_by_name_or_skipped() {
    let test_store = test_store();
    let fifo = std::ffi::CString::new(test_store.path("src/sub/pipe").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(test_store.path("src/sock")).unwrap();
    let stderr = test_store.fails(&["put", "x", "src"], 2);
    assert!(stderr.contains("sub/pipe") && stderr.contains("sock") && stderr.contains("--skip-special"), "{stderr}");
    test_store.fails(&["put", "x", "src/sub/pipe"], 2);
    test_store.fails(&["put", "x", "/dev/null"], 2);
    test_store.expect_nothing();
    assert_eq!(test_store.json(&["put", "x", "src", "--skip-special"])["files"], 2);
}

#[test]
fn missing_and_dangling_sources_are_not_found_and_nothing_is_made() {
    let test_store = test_store();
    symlink("nowhere", test_store.path("dangling")).unwrap();
    assert!(test_store.fails(&["put", "x", "src", "gone"], 6).contains("gone"));
    assert!(test_store.fails(&["put", "x", "dangling"], 6).contains("a symlink to nothing"));
    test_store.expect_nothing();
}

/// Runs `put x ARGS -`, does `meanwhile` after the arguments before `-` were looked at and before anything is read,
/// then lets it continue.
fn put_and_meanwhile(test_store: &TestStore, sources: &[&str], meanwhile: impl FnOnce()) -> std::process::Output {
    let mut child = test_store
        .cairn(&[&["put", "x"], sources, &["-"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400)); // it waits for stdin now
    meanwhile();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_source_that_vanishes_or_changes_in_the_middle_is_named_and_nothing_is_visible() {
    let test_store = test_store();
    let out = put_and_meanwhile(&test_store, &["src/a.txt"], || {
        std::fs::write(test_store.path("src/a.txt"), "other bytes").unwrap()
    });
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("a.txt changed since it was added"), "{}", text(&out.stderr));
    let out =
        put_and_meanwhile(&test_store, &["src/a.txt"], || std::fs::remove_file(test_store.path("src/a.txt")).unwrap());
    assert!(matches!(out.status.code(), Some(5 | 6)) && text(&out.stderr).contains("a.txt"), "{}", text(&out.stderr));
    let out = put_and_meanwhile(&test_store, &["src"], || std::fs::remove_dir_all(test_store.path("src")).unwrap());
    assert!(matches!(out.status.code(), Some(5 | 6)) && text(&out.stderr).contains("src"), "{}", text(&out.stderr));
    test_store.expect_nothing();
}

#[test]
fn a_file_that_keeps_changing_while_it_is_read_is_refused_or_whole() {
    let test_store = test_store();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, halt) = (test_store.path("src/moving"), stop.clone());
    std::fs::write(&path, random_bytes(1, 1 << 20)).unwrap();
    let writer = std::thread::spawn(move || {
        let mut seed = 2;
        while !halt.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = std::fs::write(&path, random_bytes(seed, 1 << 20));
            seed += 1;
        }
    });
    let outs: Vec<_> = (0..3).map(|_| test_store.cairn(&["put", "x", "src"]).output().unwrap()).collect();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    for out in outs {
        match out.status.code() {
            Some(0) => {}
            Some(5) => assert!(text(&out.stderr).contains("moving"), "{}", text(&out.stderr)),
            other => panic!("{other:?}: {}", text(&out.stderr)),
        }
    }
    assert_eq!(test_store.json(&["verify"])["findings"], serde_json::json!([]));
}

#[test]
fn exclude_and_ignore_files_leave_things_out() {
    let test_store = test_store();
    make_tree(
        &test_store.path("src"),
        &[
            ("x.tmp", b""),
            ("sub/y.tmp", b""),
            ("sub/keep.tmp", b""),
            ("cache/z", b""),
            (".cairnignore", b"cache/\n"),
            ("sub/.cairnignore", b"!keep.tmp\n"),
        ],
    );
    test_store.ok(&["put", "x", "src", "--exclude", "*.tmp"]);
    let listed = test_store.ok(&["ls", "x", "-R"]);
    assert!(!listed.contains("x.tmp") && !listed.contains("y.tmp") && !listed.contains("cache"), "{listed}");
    assert!(listed.contains("a.txt") && listed.contains("sub/b.txt"), "{listed}");
}

#[test]
fn the_store_inside_its_own_source_is_skipped() {
    let test_store = test_store();
    let src = test_store.path("src");
    let at = |args: &[&str]| test_store.cairn(args).env_remove("CAIRN_STORE").current_dir(&src).output().unwrap();
    assert!(at(&["init"]).status.success());
    assert_eq!(text(&at(&["put", "x", "."]).stdout), "x:v0\n");
    assert_eq!(text(&at(&["put", "x", "."]).stdout), "x:v0\n", "it did not see itself grow");
    assert!(!text(&at(&["ls", "x", "-R"]).stdout).contains(".cairn/"));
    let out = at(&["diff", "x", "."]);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), String::new()), "{}", text(&out.stderr));
}

#[test]
fn an_empty_artifact_and_empty_files_are_legal() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("none"), &[]);
    assert_eq!(test_store.json(&["put", "x", "none"])["files"], 0);
    assert_eq!(test_store.ok(&["ls", "x", "-R"]), "");
    make_tree(&test_store.path("zero"), &[("z", b"")]);
    assert_eq!(test_store.json(&["put", "y", "zero"])["bytes"], 0);
    assert_eq!(test_store.run(&["cat", "y", "z"], 0).stdout, b"");
}

#[test]
fn the_run_comes_from_options_or_the_environment_or_is_not_recorded() {
    let test_store = test_store();
    test_store.ok(&["put", "a", "src"]);
    assert_eq!(test_store.json(&["show", "a"])["run"], serde_json::Value::Null);
    let weird = "../r 1/ü";
    test_store.ok(&["put", "b", "src", "--run", weird, "--group", "g", "--job-type", "prep"]);
    let shown = test_store.json(&["show", "b"]);
    assert_eq!((&shown["run"], &shown["group"], &shown["job_type"]), (&weird.into(), &"g".into(), &"prep".into()));
    assert_eq!(test_store.json(&["list", "b"])[0]["run"], weird);
    let out = test_store
        .cairn(&["put", "c", "src"])
        .env("CAIRN_RUN", "from-env")
        .env("CAIRN_RUN_GROUP", "eg")
        .env("CAIRN_JOB_TYPE", "")
        .output()
        .unwrap();
    assert!(out.status.success());
    let shown = test_store.json(&["show", "c"]);
    assert_eq!(
        (&shown["run"], &shown["group"], &shown["job_type"]),
        (&"from-env".into(), &"eg".into(), &serde_json::Value::Null)
    );
}

#[test]
fn two_puts_at_once_make_two_versions_with_dense_numbers() {
    let test_store = test_store();
    let dirs: Vec<String> = (0..6).map(|i| format!("d{i}")).collect();
    for (i, dir) in dirs.iter().enumerate() {
        make_tree(&test_store.path(dir), &[("n", i.to_string().as_bytes()), ("shared", &random_bytes(1, 200_000))]);
    }
    let children: Vec<_> = dirs
        .iter()
        .map(|d| test_store.cairn(&["put", "x", d]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut printed: Vec<_> = children.into_iter().map(|c| text(&c.wait_with_output().unwrap().stdout)).collect();
    printed.sort();
    assert_eq!(printed, (0..6).map(|i| format!("x:v{i}\n")).collect::<Vec<_>>());
    let mut seen: Vec<_> = (0..6).map(|i| test_store.ok(&["cat", &format!("x:v{i}"), "n"])).collect();
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
}
