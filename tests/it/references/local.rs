//! `file://` references, content of other versions, and URIs that are recorded as they are.

use crate::support::*;
use cairn::error::Kind;
use cairn::{Artifact, ReferenceOptions};
use serde_json::json;
use std::path::Path;

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn files_directories_stdin_and_references_mix_in_one_put() {
    let test = TestStore::new();
    make_tree(&test.path("far"), &[("a b/ü.bin", b"one"), ("c", b"two")]);
    make_tree(&test.path("near"), &[("d", b"three"), ("e/f", b"four")]);
    test.ok(&["put", "other", "near"]);
    let far = uri(&test.path("far"));
    test.ok(&["put", "x", &far, "near", "cairn://other:v0/e", "cairn://other/d", "s4n://bucket/odd", "--at", "p"]);
    let lines: Vec<serde_json::Value> =
        test.ok(&["ls", "x", "-R", "--json"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |path: &str| lines.iter().find(|l| l["path"] == path).unwrap_or_else(|| panic!("{path}: {lines:?}"));
    assert_eq!(of("p/a b/ü.bin")["uri"], format!("{far}/a%20b/%C3%BC.bin"));
    assert_eq!((of("p/c")["kind"].as_str(), of("p/c")["size"].as_u64()), (Some("reference"), Some(3)));
    assert_eq!(of("p/c")["digest"], cairn::types::Digest::of(b"two").to_string());
    assert_eq!((of("p/d")["kind"].as_str(), of("p/f")["kind"].as_str()), (Some("file"), Some("file")));
    assert_eq!((of("p/odd")["uri"].as_str(), of("p/odd").get("size")), (Some("s4n://bucket/odd"), None));
    for (path, text) in [("p/a b/ü.bin", "one"), ("p/c", "two"), ("p/d", "three"), ("p/f", "four")] {
        assert_eq!(test.ok(&["cat", "x", path]), text);
    }
    test.run(&["cat", "x", "p/odd"], 2);
    test.run(&["get", "x", "out"], 2);
    test.ok(&["get", "x", "out", "--references", "skip"]);
    test.ok(&["get", "x", "all", "--path", "p/a b"]);
    assert_eq!(std::fs::read(test.path("all/p/a b/ü.bin")).unwrap(), b"one");
    assert!(!test.path("out/p/c").exists() && test.path("out/p/e/f").exists());
    let again =
        test.ok(&["put", "x", &far, "near", "cairn://other:v0/e", "cairn://other/d", "s4n://bucket/odd", "--at", "p"]);
    assert_eq!(again, "x:v0", "the same sources are the same version");
}

#[test]
fn a_change_at_the_source_makes_a_version_with_checksum_and_none_without() {
    let test = TestStore::new();
    let file = test.path("far");
    std::fs::write(&file, "one").unwrap();
    let uri = uri(&file);
    test.ok(&["put", "with", &uri]);
    test.ok(&["put", "without", &uri, "--no-checksum"]);
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(time + std::time::Duration::from_secs(9))
        .unwrap();
    assert_eq!(test.ok(&["put", "with", &uri]), "with:v0", "another time is not another content");
    std::fs::write(&file, "two").unwrap();
    assert_eq!(test.ok(&["put", "with", &uri]), "with:v1");
    assert_eq!(test.ok(&["put", "without", &uri, "--no-checksum"]), "without:v0");
    assert_eq!(test.ok(&["cat", "without", "far"]), "two", "nothing is recorded that it could differ from");
    std::fs::rename(&file, test.path("near")).unwrap();
    assert_eq!(test.ok(&["put", "without", &super::local::uri(&test.path("near")), "--no-checksum"]), "without:v1");
}

#[test]
fn over_max_objects_nothing_is_added() {
    let test = TestStore::new();
    make_tree(&test.path("far"), &[("a", b"1"), ("b/c", b"2"), ("d", b"3")]);
    let out = test.run(&["put", "x", &uri(&test.path("far")), "--max-objects", "2"], 2);
    assert!(text(&out.stderr).contains("has more than 2 objects"), "{}", text(&out.stderr));
    test.run(&["list", "x"], 6);
    test.ok(&["put", "x", &uri(&test.path("far")), "--max-objects", "3"]);
}

#[test]
fn a_changed_or_missing_file_is_an_error_that_names_it_and_never_other_bytes() {
    let test = TestStore::new();
    let file = test.path("far");
    std::fs::write(&file, random_bytes(1, 300_000)).unwrap();
    test.ok(&["put", "x", &uri(&file)]);
    // The same size, and the old time.
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, random_bytes(2, 300_000)).unwrap();
    std::fs::File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
    for args in [&["cat", "x", "far"][..], &["get", "x", "out"]] {
        let out = test.run(args, 5);
        let stderr = text(&out.stderr);
        assert!(out.stdout.is_empty() && stderr.contains(&uri(&file)) && stderr.contains("it changed"), "{stderr}");
    }
    assert!(!test.path("out/far").exists());
    std::fs::write(&file, "short").unwrap();
    assert!(text(&test.run(&["cat", "x", "far"], 5).stderr).contains("expected 300000 bytes, found 5"));
    std::fs::remove_file(&file).unwrap();
    assert!(text(&test.run(&["cat", "x", "far"], 5).stderr).contains(&uri(&file)));
    std::fs::write(&file, random_bytes(1, 300_000)).unwrap();
    assert_eq!(test.run(&["cat", "x", "far"], 0).stdout, random_bytes(1, 300_000), "it is back");
}

#[test]
fn a_write_under_an_open_reader_is_noticed() {
    let test = TestStore::new();
    let file = test.path("far");
    std::fs::write(&file, random_bytes(1, 300_000)).unwrap();
    let store = test.store();
    let mut artifact = Artifact::new("x", None).unwrap();
    artifact.add_reference(&uri(&file), None, &ReferenceOptions::default()).unwrap();
    let version = artifact.save(&store).unwrap().version;
    let reader = version.open("far").unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(reader.read_at(&mut buffer, 299_500).unwrap(), 500);
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(&file, random_bytes(2, 300_000)).unwrap();
    let e = reader.read_at(&mut buffer, 0).unwrap_err().downcast::<cairn::Error>().unwrap();
    assert!(e.kind() == Kind::Io && e.message().contains("written to while it was read"), "{e:#}");
}

#[test]
fn an_unchanged_file_is_hashed_once_for_all_processes_and_a_damaged_cache_is_not_believed() {
    let test = TestStore::new();
    make_tree(&test.path("far"), &[("a", &random_bytes(1, 200_000)), ("b", &random_bytes(2, 200_000))]);
    std::thread::sleep(std::time::Duration::from_millis(30));
    test.ok(&["put", "x", &uri(&test.path("far"))]);
    let kind = std::process::Command::new("stat").args(["-f", "-c", "%T"]).arg(test.dir.path()).output().unwrap();
    if text(&kind.stdout).trim() == "tmpfs" {
        return println!("skipped: a tmpfs has no name that lasts, so nothing is remembered of its files");
    }
    let mut cached = files(&test.path("cache/references"));
    cached.retain(|path| std::fs::metadata(path).unwrap().len() == 64);
    assert!(!cached.is_empty());
    for path in &cached {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[3] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(test.run(&["cat", "x", "a"], 0).stdout, random_bytes(1, 200_000));
}

#[test]
fn content_of_another_version_stays_when_that_version_is_freed() {
    let test = TestStore::new();
    make_tree(&test.path("src"), &[("d/small", b"s"), ("d/large", &random_bytes(3, 300_000)), ("e", b"not this")]);
    test.ok(&["put", "one", "src"]);
    assert_eq!(test.ok(&["put", "two", "cairn://one:v0/d"]), "two:v0");
    let record = |name: &str| serde_json::from_str::<serde_json::Value>(&test.ok(&["show", name, "--json"])).unwrap();
    assert_eq!((record("two")["files"].as_u64(), record("two")["new_bytes"].as_u64()), (Some(2), Some(0)));
    test.ok(&["rm", "one", "--all"]);
    test.ok(&["gc", "--min-age", "0", "--wait"]);
    assert_eq!(test.run(&["cat", "two", "large"], 0).stdout, random_bytes(3, 300_000));
    test.ok(&["verify"]);
    for (wrong, status) in [("cairn://two:v7/x", 6), ("cairn://two/x", 6), ("cairn://none/x", 6)] {
        test.run(&["put", "three", wrong], status);
    }
}

#[test]
fn the_source_of_content_of_another_version_is_recorded_and_printed() {
    let test = TestStore::new();
    make_tree(&test.path("src"), &[("d/1", b"one"), ("d/2", b"two"), ("e", b"e")]);
    make_tree(&test.path("new"), &[("3", b"three")]);
    make_tree(&test.path("same"), &[("d/1", b"one"), ("d/2", b"two"), ("d/3", b"three"), ("e", b"e")]);
    test.ok(&["put", "one", "src", "--run", "crawl"]);
    test.ok(&["put", "two", "cairn://one:v0/d", "new", "--at", "d"]);
    test.ok(&["patch", "two", "cairn://one/e"]);
    let shown = test.json(&["show", "two:v0"])["shared"].clone();
    let (uri, path, at) = (&shown[0]["uri"], &shown[0]["path"], &shown[0]["at"]);
    assert_eq!((shown.as_array().unwrap().len(), uri, path, at), (1, &json!("cairn://one:v0/d"), &json!("d"), at));
    assert_eq!((at, &shown[0]["source"]["version"]), (&json!("d"), &json!("v0")));
    assert!(test.ok(&["show", "two:v0"]).contains("d from cairn://one:v0/d"));
    let list = |path: &str| test.ok(&["ls", "two:v1", path, "-l"]);
    assert!(list("e").ends_with("e from cairn://one:v0/e"), "{}", list("e"));
    assert!(!test.ok(&["ls", "two:v0", "d/3", "-l"]).contains("from"), "it came from a file");
    let below = test.ok(&["ls", "two:v0", "d", "-l"]);
    assert!(below.contains("d/1 from cairn://one:v0/d/1\n") && below.ends_with("d/3"), "{below}");
    assert_eq!(test.ok(&["lineage", "two:v0"]), "two:v0\n  with content of one:v0\n    made by run crawl");
    let content = test.json(&["lineage", "two:v0"])["content"].clone();
    assert_eq!((&content[0]["source"]["artifact"], &content[0]["event"]), (&json!("one"), &json!("added")));
    assert!(test.ok(&["lineage", "two:v0", "--format", "dot"]).contains("\"one:v0\" -> \"two:v0\" [style=dashed]"));
    // The digest says what is in a version, not where it came from.
    test.ok(&["put", "three", "same"]);
    assert_eq!(test.json(&["show", "three"])["digest"], test.json(&["show", "two:v1"])["digest"]);
    test.ok(&["rm", "one", "--all"]);
    test.ok(&["gc", "--min-age", "0", "--wait"]);
    assert_eq!(test.ok(&["lineage", "two:v0"]), "two:v0\n  with content of one:v0 (removed)\n    made by run crawl");
    assert!(list("e").ends_with("e from cairn://one:v0/e"));
    assert_eq!(test.run(&["cat", "two", "d/1"], 0).stdout, b"one");
    test.ok(&["verify"]);
}

#[test]
fn a_finish_records_what_its_contributions_added_from_other_versions() {
    let test = TestStore::new();
    make_tree(&test.path("src"), &[("a", b"a"), ("b", b"b"), ("c", b"c")]);
    test.ok(&["put", "one", "src"]);
    for (run, path) in [("r1", "a"), ("r2", "b")] {
        test.ok(&["upsert", "all", &format!("cairn://one:v0/{path}"), "--distributed-id", "d", "--run", run]);
    }
    test.ok(&["finish", "all", "cairn://one:v0/c", "--distributed-id", "d"]);
    let shown = test.json(&["show", "all"]);
    let uris: Vec<_> = shown["shared"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap()).collect();
    assert_eq!(uris, ["cairn://one:v0/a", "cairn://one:v0/b", "cairn://one:v0/c"]);
    test.ok(&["copy", "all", "again"]);
    assert_eq!(
        test.ok(&["lineage", "again"]).lines().map(str::trim).collect::<Vec<_>>()[..2],
        ["again:v0", "copied from all:v0"]
    );
}

#[test]
fn a_uri_with_a_password_is_refused_and_not_printed() {
    let test = TestStore::new();
    for uri in [
        "https://me:hunter2@host/x",
        "s3://key:hunter2@bucket/x",
        "htps://me:hunter2@host/x",
        "https://h/x?sig=hunter2",
    ] {
        let out = test.run(&["put", "x", uri], 2);
        assert!(!text(&out.stderr).contains("hunter2"), "{}", text(&out.stderr));
    }
    test.run(&["list", "x"], 6);
}
