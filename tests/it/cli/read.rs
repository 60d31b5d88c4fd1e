//! `list`, `ls`, `show`, `cat`.

use crate::support::{TestStore, make_tree, text};
use base64::Engine as _;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a-b", b"1"), ("a/x", b"22"), ("a/deep/y", b"333"), ("z", b"")]);
    test_store.ok(&["put", "x", "src", "--tag", "t one", "--alias", "prod", "--run", "r"]);
    test_store
}

#[test]
fn list_shows_artifacts_and_versions_as_tables_and_documents() {
    let test_store = TestStore::new();
    assert_eq!((test_store.ok(&["list"]), test_store.json(&["list"])), (String::new(), serde_json::json!([])));
    let test_store = self::test_store();
    let version = &test_store.json(&["list", "x"])[0];
    assert_eq!(
        test_store.json(&["list"]),
        serde_json::json!([{
            "artifact": "x", "type": "dataset", "versions": 1, "latest": "v0", "files": 4, "bytes": 6,
            "created_at": version["created_at"],
        }])
    );
    let fields: Vec<&str> = version.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["version", "digest", "aliases", "tags", "files", "bytes", "created_at", "mode", "run"]);
    assert_eq!(
        (&version["version"], &version["mode"], &version["run"], &version["files"]),
        (&"v0".into(), &"simple".into(), &"r".into(), &4.into())
    );
    let line = test_store.ok(&["list", "x"]);
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[0], words[2], &words[3..6]), ("v0", "4", &["6", "B", "simple"][..]), "{line}");
    assert!(version["digest"].as_str().unwrap().starts_with(words[6]));
    test_store.fails(&["list", "nope"], 6);
    test_store.fails(&["list", "x:v0"], 2);
}

#[test]
fn ls_lists_a_level_a_subtree_or_a_file() {
    let test_store = test_store();
    assert_eq!(test_store.ok(&["ls", "x"]), "a/\na-b\nz");
    assert_eq!(test_store.ok(&["ls", "x:prod", "a"]), "a/deep/\na/x");
    assert_eq!(test_store.ok(&["ls", "x", "./a//x"]), "a/x", "a file is listed itself");
    assert_eq!(test_store.ok(&["ls", "x", "-R"]), "a/\na/deep/\na/deep/y\na/x\na-b\nz");
    assert_eq!(test_store.ok(&["ls", "x", "a/deep", "-R"]), "a/deep/y");
    assert_eq!(test_store.ok(&["ls", "x", "/"]), "a/\na-b\nz");
    let long = test_store.ok(&["ls", "x", "-l"]);
    let rows: Vec<Vec<&str>> = long.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["drwxr-xr-x", "-", "-", "a/"]);
    assert_eq!(rows[1], ["-rw-r--r--", "1", "6b86b273ff34", "a-b"]);
    assert!(test_store.fails(&["ls", "x", "a/nope"], 6).contains("`cairn ls x:v0 a`"));
    test_store.fails(&["ls", "x", "a/x/below"], 6);
    test_store.fails(&["ls", "x", "../a"], 2);
    let lines = test_store.json_lines(&["ls", "x"]);
    assert_eq!(
        lines[1],
        serde_json::json!({
            "path": "a-b", "kind": "file", "size": 1, "exec": false,
            "digest": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        })
    );
}

#[test]
fn odd_names_come_out_raw_in_text_and_exact_in_json() {
    let test_store = TestStore::new();
    let names: [&[u8]; 5] = [b"new\nline", b"not\xffutf8", b"back\\slash", b"C:x", &[b'n'; 255]];
    std::fs::create_dir(test_store.path("src")).unwrap();
    for name in names {
        std::fs::write(test_store.path("src").join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(b"to\xfe"), test_store.path("src/link")).unwrap();
    test_store.ok(&["put", "x", "src"]);
    let raw = test_store.run(&["ls", "x"], 0).stdout;
    let mut sorted = names.map(<[u8]>::to_vec).to_vec();
    sorted.push(b"link".to_vec());
    sorted.sort();
    assert_eq!(raw, sorted.iter().flat_map(|n| [n.as_slice(), b"\n"].concat()).collect::<Vec<u8>>());
    let lines = test_store.json_lines(&["ls", "x"]);
    let odd = lines.iter().find(|l| l.get("path_b64").is_some()).unwrap();
    assert_eq!(odd["path"], "not\u{fffd}utf8");
    assert_eq!(
        base64::engine::general_purpose::STANDARD.decode(odd["path_b64"].as_str().unwrap()).unwrap(),
        b"not\xffutf8"
    );
    let link = lines.iter().find(|l| l["kind"] == "symlink").unwrap();
    assert_eq!(
        base64::engine::general_purpose::STANDARD.decode(link["target_b64"].as_str().unwrap()).unwrap(),
        b"to\xfe"
    );
    for name in names {
        let out = test_store.cairn(&["cat", "x"]).arg(OsStr::from_bytes(name)).output().unwrap();
        assert_eq!(out.stdout, name, "{}", text(&out.stderr));
    }
    test_store.ok(&["get", "x", "out"]);
    assert_eq!(crate::support::snapshot(&test_store.path("out")), crate::support::snapshot(&test_store.path("src")));
}

#[test]
fn show_prints_everything_recorded() {
    let test_store = test_store();
    let shown = test_store.json(&["show", "x"]);
    let fields: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "artifact",
            "version",
            "type",
            "digest",
            "aliases",
            "tags",
            "description",
            "metadata",
            "entries",
            "files",
            "bytes",
            "new_bytes",
            "created_at",
            "mode",
            "run",
            "user",
            "host",
            "base",
            "distributed_id",
            "source",
            "shared",
            "ttl_seconds",
            "expires_at",
            "contributions",
            "group",
            "job_type",
            "runs"
        ]
    );
    assert_eq!((&shown["entries"], &shown["files"], &shown["bytes"]), (&6.into(), &4.into(), &6.into()));
    let lines = test_store.ok(&["show", "x:prod"]);
    assert!(lines.starts_with("version:       x:v0\ntype:          dataset\n"), "{lines}");
    assert!(
        lines.contains("\naliases:       latest, prod\n")
            && lines.ends_with("\nrun:           r")
            && !lines.contains("description"),
        "{lines}"
    );
}

#[test]
fn versions_are_named_by_number_alias_digest_or_nothing_and_unknown_ones_get_a_hint() {
    let test_store = test_store();
    std::fs::write(test_store.path("src/z"), "2").unwrap();
    test_store.ok(&["put", "x", "src"]);
    let of = |spec: &str| test_store.json(&["show", spec])["version"].clone();
    let digest = test_store.json(&["show", "x:v0"])["digest"].as_str().unwrap().to_owned();
    assert_eq!(
        (of("x"), of("x:latest"), of("x:v0"), of("x:prod")),
        ("v1".into(), "v1".into(), "v0".into(), "v0".into())
    );
    assert_eq!((of(&format!("x:{digest}")), of(&format!("x:{}", &digest[..12]))), ("v0".into(), "v0".into()));
    assert!(test_store.fails(&["show", "x:prd"], 6).contains("prod"));
    assert!(test_store.fails(&["show", "x:v2"], 6).contains("it has v0 to v1"));
    assert!(test_store.fails(&["show", "x:1"], 6).contains("did you mean x:v1?"));
    assert!(test_store.fails(&["show", "x:v01"], 2).contains("did you mean x:v1?"));
    test_store.fails(&["show", "y"], 6);
    for bad in ["x:", ":v0", "x:v01", "x:a/b", "x y", "x:.staging"] {
        test_store.fails(&["show", bad], 2);
    }
}

#[test]
fn cat_gives_the_bytes_of_a_file_and_of_nothing_else() {
    let test_store = test_store();
    let big = crate::support::random_bytes(5, 700_000);
    make_tree(&test_store.path("big"), &[("b", &big)]);
    test_store.ok(&["put", "b", "big"]);
    assert_eq!(test_store.run(&["cat", "b", "b"], 0).stdout, big);
    assert_eq!(test_store.ok(&["cat", "x", "a/deep/y"]), "333");
    assert!(test_store.fails(&["cat", "x", "a"], 2).contains("is a directory"));
    test_store.fails(&["cat", "x", "a/nope"], 6);
    test_store.fails(&["cat", "x", "../x"], 2);
}
