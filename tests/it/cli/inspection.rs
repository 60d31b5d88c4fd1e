//! `find`, `du`, `info`, `archive` and `manifest`.

use crate::support::{TestStore, make_tree, random_bytes, text};
use cairn::Artifact;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Versions that share files: `a:v0`, `a:v1` (one file more, one changed), `b:v0` (one file of `a`).
fn three_versions() -> TestStore {
    let test = TestStore::new();
    make_tree(
        &test.path("a"),
        &[("raw/x.csv", b"1,2\n"), ("raw/deep/y.csv", b"3\n"), ("big", &random_bytes(1, 200_000))],
    );
    test.ok(&["put", "a", "a"]);
    make_tree(&test.path("a"), &[("raw/z.csv", b"12345"), ("raw/x.csv", b"9,9\n")]);
    test.ok(&["put", "a", "a"]);
    make_tree(&test.path("b"), &[("copy.csv", b"3\n"), ("own", b"1234567")]);
    test.ok(&["put", "b", "b"]);
    test
}

#[test]
fn find_lists_the_versions_and_paths_of_a_content() {
    let test = three_versions();
    let digest = cairn::types::Digest::of(b"3\n").hex();
    let expected = "a:v0 raw/deep/y.csv\na:v1 raw/deep/y.csv\nb:v0 copy.csv";
    assert_eq!(test.ok(&["find", &digest]), expected);
    assert_eq!(test.ok(&["find", &format!("sha256:{digest}"), "--artifact", "b"]), "b:v0 copy.csv");
    test.ok(&["rm", "b:v0"]);
    assert_eq!(test.ok(&["find", &digest]), "a:v0 raw/deep/y.csv\na:v1 raw/deep/y.csv");
    let line: serde_json::Value =
        serde_json::from_str(test.ok(&["find", &digest, "--json"]).lines().next().unwrap()).unwrap();
    assert_eq!((&line["artifact"], &line["version"], &line["size"]), (&"a".into(), &"v0".into(), &2.into()));
    let none = test.run(&["find", &cairn::types::Digest::of(b"none").hex()], 1);
    assert_eq!(text(&none.stderr), "nothing was found\n");
}

#[test]
fn find_matches_paths_as_gitignore_does() {
    let test = three_versions();
    for (pattern, expected) in [
        (
            "*.csv",
            "a:v0 raw/deep/y.csv\na:v0 raw/x.csv\na:v1 raw/deep/y.csv\na:v1 raw/x.csv\na:v1 raw/z.csv\nb:v0 copy.csv",
        ),
        ("raw/*.csv", "a:v0 raw/x.csv\na:v1 raw/x.csv\na:v1 raw/z.csv"),
        ("raw/**/y.csv", "a:v0 raw/deep/y.csv\na:v1 raw/deep/y.csv"),
        ("/raw/z.csv", "a:v1 raw/z.csv"),
        ("deep", "a:v0 raw/deep/\na:v1 raw/deep/"),
        ("?ig", "a:v0 big\na:v1 big"),
        ("raw/deep/", "a:v0 raw/deep/\na:v1 raw/deep/"),
    ] {
        assert_eq!(test.ok(&["find", pattern]), expected, "{pattern}");
    }
    test.run(&["find", "nowhere/*"], 1);
    let wrong = test.run(&["find", "a[", "--artifact", "a"], 2);
    assert!(text(&wrong.stderr).contains("`a[` is not a pattern of paths"), "{}", text(&wrong.stderr));
    test.run(&["find", "*", "--artifact", "none"], 6);
}

#[test]
fn find_reports_a_damaged_version_and_searches_the_others() {
    let test = three_versions();
    let record = std::fs::read_link(test.path("store/artifacts/a/versions/v0")).unwrap();
    let manifest = test.path("store/artifacts/a/versions").join(record).join("manifest");
    std::fs::set_permissions(&manifest, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&manifest, b"damaged").unwrap();
    let found = test.run(&["find", "z.csv"], 0);
    assert_eq!(text(&found.stdout), "a:v1 raw/z.csv\n");
    assert!(text(&found.stderr).contains("warning: not searched: "), "{}", text(&found.stderr));
}

#[test]
fn du_shows_what_a_version_or_an_artifact_alone_has() {
    let test = three_versions();
    let usage = |args: &[&str]| test.json(&[&["du"], args].concat());
    let one = |artifact: &str, version: &str, bytes: u64, alone_bytes: u64| {
        let mut usage = serde_json::json!({ "artifact": artifact, "version": version });
        (usage["bytes"], usage["alone_bytes"]) = (bytes.into(), alone_bytes.into());
        usage
    };
    // v0 alone has its x.csv; v1 its x.csv and z.csv.
    assert_eq!(usage(&["a"]), serde_json::json!([one("a", "v0", 200_006, 4), one("a", "v1", 200_011, 9)]));
    assert_eq!(usage(&["a:v1"]), serde_json::json!([one("a", "v1", 200_011, 9)]));
    assert_eq!(usage(&["b"]), serde_json::json!([one("b", "v0", 9, 7)]));
    assert_eq!(
        usage(&[]),
        serde_json::json!([
            { "artifact": "a", "bytes": 200_011, "alone_bytes": 200_013 },
            { "artifact": "b", "bytes": 9, "alone_bytes": 7 },
        ])
    );
    assert_eq!(test.ok(&["du", "b"]), "b:v0  9 B  7 B");
    // What a draft has is not the version's alone; once the version goes, it would be.
    make_tree(&test.path("d"), &[("q", b"1234567")]);
    test.ok(&["upsert", "c", "d", "--distributed-id", "i", "--run", "r"]);
    assert_eq!(usage(&["b"]), serde_json::json!([one("b", "v0", 9, 0)]));
    let frees = test.json(&["rm", "a:v1", "--dry-run"]);
    assert_eq!(frees["frees_bytes"], 9, "rm says the same");
    test.run(&["du", "none"], 6);
    test.run(&["du", "a:v7"], 6);
}

#[test]
fn info_counts_what_the_store_has() {
    let test = three_versions();
    test.ok(&["rm", "a:v0"]);
    let info = test.json(&["info"]);
    assert_eq!((&info["artifacts"], &info["versions"], &info["drafts"]), (&2.into(), &2.into(), &0.into()));
    assert_eq!(info["objects"], serde_json::json!({ "count": 1, "bytes": 200_000 }));
    assert_eq!((&info["format"], &info["shared"]), (&1.into(), &false.into()));
    assert!(info["free_bytes"].as_u64().unwrap() > 0 && info["packs"]["count"].as_u64().unwrap() >= 3, "{info}");
    let shown = test.ok(&["info"]);
    assert!(
        shown.contains("file system:   local\n") && shown.contains("objects:       1 file, 195.31 KiB\n"),
        "{shown}"
    );
}

#[test]
fn a_tar_archive_is_the_same_for_the_same_version_and_unpacks_to_it() {
    let test = TestStore::new();
    let long = "n".repeat(200);
    make_tree(
        &test.path("src"),
        &[("bin/run", b"#!"), ("empty/", b""), ("x/y", b"hello"), (&long, &random_bytes(3, 70_000))],
    );
    std::fs::set_permissions(test.path("src/bin/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("x/y", test.path("src/link")).unwrap();
    test.ok(&["put", "a", "src"]);
    let first = test.run(&["archive", "a"], 0).stdout;
    assert_eq!(test.run(&["archive", "a:v0"], 0).stdout, first);
    let out = test.path("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(test.path("a.tar"), &first).unwrap();
    let tar = Command::new("tar").args(["-xpf", "../a.tar"]).current_dir(&out).status().unwrap();
    assert!(tar.success());
    test.ok(&["diff", "a", "./out"]);
    let part = test.run(&["archive", "a", "--path", "x"], 0).stdout;
    std::fs::write(test.path("part.tar"), &part).unwrap();
    let listed = Command::new("tar").args(["-tf", "part.tar"]).current_dir(test.path("")).output().unwrap();
    assert_eq!(text(&listed.stdout), "x/y\n");
    test.run(&["archive", "a", "--path", "none"], 6);
}

#[test]
fn a_zip_archive_unpacks_to_the_version() {
    let test = TestStore::new();
    make_tree(
        &test.path("src"),
        &[("bin/run", b"#!"), ("empty/", b""), ("x/y", b"hello"), ("big", &random_bytes(3, 200_000))],
    );
    test.ok(&["put", "a", "src"]);
    let zip = test.run(&["archive", "a", "--format", "zip"], 0).stdout;
    assert_eq!(test.run(&["archive", "a", "--format", "zip"], 0).stdout, zip);
    std::fs::write(test.path("a.zip"), &zip).unwrap();
    let unzip =
        Command::new("python3").args(["-m", "zipfile", "-e", "a.zip", "out"]).current_dir(test.path("")).status();
    assert!(unzip.unwrap().success());
    test.ok(&["diff", "a", "./out"]);
}

#[test]
fn wandbs_manifest_has_the_digests_that_are_known() {
    let test = TestStore::new();
    let store = test.store();
    for (files, digest) in [
        (vec![], "64e7c61456b10382e2f3b571ac24b659"),
        (vec!["file1.txt"], "a00c2239f036fb656c1dcbf9a32d89b4"),
        (vec!["great-file.txt"], "585b9ada17797e37c9cbab391e69b8c5"),
    ] {
        let mut artifact = Artifact::new("a", None).unwrap();
        for file in &files {
            artifact.add_bytes(file, "hello").unwrap();
        }
        artifact.save(&store).unwrap();
        let out = test.run(&["manifest", "a", "--format", "wandb"], 0);
        assert!(text(&out.stderr).ends_with(&format!("digest {digest}\n")), "{}", text(&out.stderr));
        let manifest: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(
            (&manifest["version"], &manifest["storagePolicyConfig"]["storageLayout"]),
            (&1.into(), &"V2".into())
        );
        for file in files {
            assert_eq!(
                manifest["contents"][file],
                serde_json::json!({ "digest": "XUFAKrxLKna5cZ2REBfFkg==", "size": 5 })
            );
        }
    }
}

#[test]
fn a_manifest_leaves_out_for_wandb_what_its_form_does_not_have() {
    let test = TestStore::new();
    make_tree(&test.path("src"), &[("a/b", b"1"), ("a-b", b"2"), ("empty/", b"")]);
    std::os::unix::fs::symlink("a/b", test.path("src/link")).unwrap();
    test.ok(&["put", "a", "src"]);
    test.ok(&["put", "a", "src", "gopher://host/x"]);
    let out = test.run(&["manifest", "a", "--format", "wandb"], 0);
    assert!(text(&out.stderr).contains("left out 2 entries"), "{}", text(&out.stderr));
    let manifest: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let paths: Vec<&String> = manifest["contents"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["a-b", "a/b", "x"], "in the order of whole paths");
    assert_eq!(manifest["contents"]["x"]["ref"], "gopher://host/x");
    assert_eq!(test.ok(&["manifest", "a"]), test.ok(&["ls", "a", "-R", "--json"]));
}
