//! What verify finds, what it does not report as damage, and what it costs if much is damaged.

use crate::crafted_stores::{self, behind};
use crate::support::{TestStore, make_tree, random_bytes, shim, text};
use cairn::internals::commit::Artifact;
use cairn::internals::manifest::{Census, Visitor};
use cairn::types::{ArtifactName, Digest, Location};
use cairn::verify::{Scope, VerifyOptions, VerifyReport, code, verify};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = ".11111111111111111111111111111111";

fn all(test_store: &TestStore) -> VerifyReport {
    verify(&test_store.store(), &Scope::All, &VerifyOptions::default()).unwrap()
}

fn put(test_store: &TestStore, name: &str, files: &[(&str, &[u8])]) {
    let mut artifact = Artifact::new(name, None).unwrap();
    for (path, bytes) in files {
        artifact.add_bytes(path, bytes).unwrap();
    }
    artifact.save(&test_store.store()).unwrap();
}

#[test]
fn what_others_publish_while_verify_works_is_not_called_missing() {
    let test_store = TestStore::new();
    for i in 0..6 {
        put(&test_store, "base", &[("big", &random_bytes(i, 8_000_000))]);
    }
    let (stop, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let i = puts.fetch_add(1, Ordering::Relaxed);
                put(
                    &test_store,
                    "log",
                    &[("one", format!("{i}").as_bytes()), ("large", &random_bytes(1000 + i, 140_000))],
                );
            }
        });
        for i in 0..6 {
            let before = puts.load(Ordering::Relaxed);
            let report = all(&test_store);
            if !report.findings.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            assert!(
                report.findings.is_empty(),
                "look {i}, {} puts meanwhile: {:?}",
                puts.load(Ordering::Relaxed) - before,
                report.findings
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(puts.into_inner() > 2);
}

/// Runs a command that must end by itself soon.
fn ends(test_store: &TestStore, args: &[&str]) -> (i32, String) {
    let mut child = test_store.cairn(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("cairn {args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn a_manifest_that_names_one_directory_many_times_costs_little() {
    let test_store = TestStore::new();
    let (tree, nodes) = crafted_stores::bomb(140, 8, b"hello", "a");
    assert!(tree.totals().entries > 1 << 60);
    crafted_stores::publish(&test_store.store_path(), "x", 0, &tree, &nodes, &[b"hello"]);
    let (other, nodes) = crafted_stores::bomb(140, 8, b"hello", "b");
    crafted_stores::publish(&test_store.store_path(), "x", 1, &other, &nodes, &[b"hello"]);
    put(&test_store, "small", &[("a", b"a")]);
    assert!(all(&test_store).findings.is_empty(), "{:?}", all(&test_store).findings);
    assert_eq!(test_store.ok(&["ls", "x:v0"]).lines().count(), 140);
    assert_eq!(test_store.ok(&["cat", "x:v0", &format!("{}f", "d007/".repeat(8))]), "hello");
    for args in [vec!["verify"], vec!["verify", "x"], vec!["verify", "x:v0"], vec!["verify", "--quick"]] {
        assert_eq!(ends(&test_store, &args).0, 0, "{args:?}");
    }
    for args in [
        vec!["ls", "-R", "x:v0"],
        vec!["get", "x:v0", "out"],
        vec!["diff", "small:v0", "x:v0"],
        vec!["diff", "--stat", "x:v0", "x:v1"],
    ] {
        let (status, message) = ends(&test_store, &args);
        assert_eq!(status, 3, "{args:?}: {message}");
        assert!(message.contains("entries to go through"), "{args:?}: {message}");
    }
    assert!(!test_store.path("out").exists());
    // A root that is in its version's directory alone is found.
    let pack = std::fs::read_dir(test_store.store_path().join("packs"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| std::fs::read(p).unwrap().windows(32).any(|w| w == tree.digest().0))
        .unwrap();
    let aside = test_store.path("aside");
    std::fs::rename(&pack, &aside).unwrap();
    assert!(all(&test_store).findings.iter().any(|f| f.code == code::NODE && f.affects.contains(&"x:v0".to_owned())));
    std::fs::rename(&aside, &pack).unwrap();
    // Content at the bottom is lost: that is one finding, and it does not list everything that is affected.
    let (tree, nodes) = crafted_stores::bomb(140, 8, b"lost", "c");
    crafted_stores::publish(&test_store.store_path(), "y", 0, &tree, &nodes, &[]);
    let report = all(&test_store);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!((report.findings[0].code, report.findings[0].affects.len()), (code::MISSING, 21));
    assert!(
        report.findings[0].affects[20].starts_with("and 147578905599999980 more"),
        "{:?}",
        report.findings[0].affects[20]
    );
}

#[test]
fn each_node_is_loaded_once_whatever_leads_to_it() {
    struct Count(u64);
    impl Visitor for Count {
        fn file(&mut self, _: &Digest, _: u64, _: Option<Location>) -> cairn::Result<bool> {
            self.0 += 1;
            Ok(false)
        }
        fn fault(&mut self, _: &Digest, error: cairn::Error) -> cairn::Result<()> {
            Err(error)
        }
    }
    let (tree, nodes) = crafted_stores::bomb(140, 8, b"hello", "a");
    nodes.reset();
    let (mut census, mut count) = (Census::new(), Count(0));
    for _ in 0..2 {
        assert!(!census.visit(&tree, &mut count).unwrap());
    }
    assert!(nodes.counts().loads <= 8 && count.0 == 1, "{:?}", nodes.counts());
}

#[test]
fn a_record_where_it_does_not_belong_is_found() {
    let plain = |test_store: &TestStore| {
        put(test_store, "x", &[("f", b"one")]);
        put(test_store, "x", &[("f", b"two")]);
        put(test_store, "x", &[("f", b"three")]);
        test_store.ok(&["alias", "x:v0", "prod"]);
        make_tree(&test_store.path("noted"), &[("f", b"three")]);
        test_store.ok(&["put", "x", "noted", "--tag", "t"]);
        test_store.ok(&["rm", "x:v2"]);
        make_tree(&test_store.path("d"), &[("part", b"part")]);
        test_store.ok(&["upsert", "c", "d", "--distributed-id", "j", "--run", "r"]);
        test_store.ok(&["finish", "c", "--distributed-id", "j"]);
    };
    let artifact = |test_store: &TestStore, rest: &str| test_store.store_path().join("artifacts").join(rest);
    let marker = |test_store: &TestStore, number: &str, of: &str| {
        let removed = artifact(test_store, "x/removed");
        crafted_stores::write(
            &removed.join(TOKEN),
            &crafted_stores::record(
                json!({"version": of, "at": "2026-01-01T00:00:00Z", "host": "h"}).as_object().unwrap(),
            ),
        );
        symlink(TOKEN, removed.join(number)).unwrap();
    };
    type Case<'a> = (&'a str, &'a str, Box<dyn Fn(&TestStore) + 'a>);
    let cases: Vec<Case<'_>> = vec![
        (
            "two version numbers exchanged",
            code::NUMBER,
            Box::new(|test_store| {
                let (a, b) = (artifact(test_store, "x/versions/v0"), artifact(test_store, "x/versions/v1"));
                let aside = artifact(test_store, "x/versions/aside");
                std::fs::rename(&a, &aside).unwrap();
                std::fs::rename(&b, &a).unwrap();
                std::fs::rename(&aside, &b).unwrap();
            }),
        ),
        ("a removal under another number", code::RECORD, Box::new(|test_store| marker(test_store, "v1", "v0"))),
        ("a removal of what never was", code::NUMBER, Box::new(|test_store| marker(test_store, "v9", "v9"))),
        (
            "an alias directory under another name",
            code::RECORD,
            Box::new(|test_store| {
                std::fs::rename(artifact(test_store, "x/aliases/prod"), artifact(test_store, "x/aliases/other"))
                    .unwrap()
            }),
        ),
        (
            "an alias record at another number",
            code::RECORD,
            Box::new(|test_store| {
                crafted_stores::resign(&behind(&artifact(test_store, "x/aliases/prod/000001")), |r| {
                    drop(r.insert("from".into(), json!(2)))
                })
            }),
        ),
        (
            "artifact.json with another type",
            code::ARTIFACT,
            Box::new(|test_store| {
                crafted_stores::resign(&behind(&artifact(test_store, "x/artifact.json")), |r| {
                    drop(r.insert("type".into(), json!("model")))
                })
            }),
        ),
        (
            "a finished draft without its version",
            code::DRAFT,
            Box::new(|test_store| std::fs::remove_file(artifact(test_store, "c/versions/v0")).unwrap()),
        ),
        (
            "a finished draft whose version's number another one has",
            code::DRAFT,
            Box::new(|test_store| {
                std::fs::remove_file(artifact(test_store, "c/versions/v0")).unwrap();
                put(test_store, "other", &[("f", b"other")]);
                let token = std::fs::read_link(artifact(test_store, "other/versions/v0")).unwrap();
                std::fs::rename(
                    artifact(test_store, "other/versions").join(&token),
                    artifact(test_store, "c/versions").join(&token),
                )
                .unwrap();
                std::fs::remove_dir_all(artifact(test_store, "other")).unwrap();
                crafted_stores::resign(&artifact(test_store, "c/versions").join(&token).join("version.json"), |r| {
                    drop(r.insert("artifact".into(), json!("c")))
                });
                symlink(&token, artifact(test_store, "c/versions/v0")).unwrap();
            }),
        ),
        (
            "a collaborative version without its finish",
            code::DRAFT,
            Box::new(|test_store| std::fs::remove_dir_all(artifact(test_store, "c/drafts")).unwrap()),
        ),
        (
            "a finish record at another number",
            code::NUMBER,
            Box::new(|test_store| {
                crafted_stores::resign(&behind(&artifact(test_store, "c/drafts/j/log/000002")), |r| {
                    drop(r.insert("from".into(), json!(1)))
                })
            }),
        ),
        (
            "a version for another number",
            code::NUMBER,
            Box::new(|test_store| {
                crafted_stores::resign(&behind(&artifact(test_store, "x/versions/v0")).join("version.json"), |r| {
                    drop(r.insert("from".into(), json!("v1")))
                })
            }),
        ),
        (
            "notes of a version that never was",
            code::RECORD,
            Box::new(|test_store| {
                let notes = artifact(test_store, "x/notes/v9");
                crafted_stores::write(
                    &notes.join(TOKEN),
                    &crafted_stores::record(
                        json!({"at": "2026-01-01T00:00:00Z", "add_tags": [], "remove_tags": []}).as_object().unwrap(),
                    ),
                );
                symlink(TOKEN, notes.join("000001")).unwrap();
            }),
        ),
    ];
    for (what, wanted, change) in cases {
        let test_store = TestStore::new();
        plain(&test_store);
        assert!(all(&test_store).findings.is_empty(), "{:?}", all(&test_store).findings);
        change(&test_store);
        let report = all(&test_store);
        assert!(
            report.findings.iter().any(|f| f.code == wanted),
            "{what}: expected {wanted}, found {:?}",
            report.findings
        );
    }
}

#[test]
fn a_finish_in_progress_is_not_damage() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("part", b"part")]);
    test_store.ok(&["upsert", "c", "d", "--distributed-id", "j", "--run", "r"]);
    test_store.ok(&["finish", "c", "--distributed-id", "j"]);
    // As after a crash between the two numbers: the token is still at work.
    let versions = test_store.store_path().join("artifacts/c/versions");
    let token = std::fs::read_link(versions.join("v0")).unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    std::fs::remove_file(versions.join("v0")).unwrap();
    let work = test_store.store_path().join("work").join(&token);
    std::fs::create_dir(&work).unwrap();
    symlink("commit", work.join("outcome")).unwrap();
    symlink(format!("artifacts/c/drafts/j/log/.{token}"), work.join("record")).unwrap();
    assert!(all(&test_store).findings.is_empty(), "{:?}", all(&test_store).findings);
}

#[test]
fn strays_in_the_trash_and_what_nfs_keeps_of_open_files_hide_no_damage() {
    let test_store = TestStore::new();
    put(&test_store, "x", &[("a", b"a"), ("big", &random_bytes(1, 200_000))]);
    let root = test_store.store_path();
    for stray in ["trash/.nfs00000000c0ffee", "trash/.DS_Store", "packs/.nfs0000000000000001", "objects/.nfs2/.nfs3"] {
        crafted_stores::write(&root.join(stray), b"stray");
    }
    let object = walkdir::WalkDir::new(root.join("objects"))
        .into_iter()
        .flatten()
        .find(|e| e.file_type().is_file() && !e.path().to_str().unwrap().contains(".nfs"))
        .unwrap();
    assert!(all(&test_store).findings.is_empty(), "{:?}", all(&test_store).findings);
    std::fs::remove_file(object.path()).unwrap();
    let report = all(&test_store);
    assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), [code::MISSING]);
    assert_eq!(report.findings[0].affects, ["x:v0 big"]);
    // Readers too: what is missing is damage of the store, not an error of the disk.
    test_store.run(&["cat", "x", "big"], 4);
}

#[test]
fn what_cannot_be_listed_is_a_finding_among_others() {
    let test_store = TestStore::new();
    put(&test_store, "x", &[("a", b"a")]);
    put(&test_store, "y", &[("b", b"b")]);
    let root = test_store.store_path();
    std::fs::rename(root.join("artifacts/x/aliases"), root.join("aside")).ok();
    std::fs::remove_dir_all(root.join("objects")).unwrap();
    std::fs::write(root.join("objects"), b"not a directory").unwrap();
    std::fs::write(root.join("artifacts/x/aliases"), b"not a directory").unwrap();
    for pack in std::fs::read_dir(root.join("packs")).unwrap() {
        std::fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let codes: Vec<_> = all(&test_store).findings.iter().map(|f| f.code).collect();
    assert!(
        codes.contains(&code::UNREADABLE) && codes.contains(&code::MISSING) && codes.contains(&code::NO_PACK),
        "{codes:?}"
    );
}

#[test]
fn a_pack_that_the_disk_cannot_read_is_one_finding_among_others() {
    let test_store = TestStore::new();
    let Some(shim) = shim(&test_store, "eio.c") else { return };
    put(&test_store, "x", &[("f1", b"text 1"), ("f2", b"text 2")]);
    let packs = || {
        std::fs::read_dir(test_store.store_path().join("packs")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    let unreadable = packs().remove(0);
    put(&test_store, "y", &[("g1", b"e 1"), ("g2", b"e 2")]);
    let other = packs().into_iter().find(|p| *p != unreadable).unwrap();
    let mut bytes = std::fs::read(&other).unwrap();
    let at = bytes.windows(3).position(|w| w == b"e 1").unwrap();
    bytes[at] ^= 1;
    crafted_stores::write(&other, &bytes);
    for args in [&["verify"][..], &["verify", "--quick"], &["verify", "x"]] {
        let output = test_store
            .cairn(args)
            .env("LD_PRELOAD", &shim)
            .env("EIO_PATH", std::fs::canonicalize(&unreadable).unwrap())
            .output()
            .unwrap();
        let message = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {message} {}", text(&output.stderr));
        assert!(message.contains("Input/output error"), "{args:?}: {message}");
        assert!(args.len() > 1 || message.contains("affects y:v0 g1"), "{args:?}: {message}");
    }
}

#[test]
fn much_damage_is_counted_and_listed_once_for_each_content() {
    let test_store = TestStore::new();
    let mut contents = Vec::new();
    for i in 0..60 {
        contents.push(format!("content {i:03}"));
    }
    for content in &contents {
        let files: Vec<(String, &[u8])> = (0..30).map(|j| (format!("f{j:02}"), content.as_bytes())).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), *b)).collect();
        put(&test_store, "many", &files);
    }
    let store = test_store.store_path();
    // Every second content is damaged in its pack.
    let damaged: Vec<&String> = contents.iter().step_by(2).collect();
    for pack in std::fs::read_dir(store.join("packs")).unwrap() {
        let pack = pack.unwrap().path();
        let mut bytes = std::fs::read(&pack).unwrap();
        for content in &damaged {
            if let Some(at) = bytes.windows(content.len()).position(|w| w == content.as_bytes()) {
                bytes[at] ^= 1;
            }
        }
        crafted_stores::write(&pack, &bytes);
    }
    for (scope, wanted) in
        [(Scope::All, code::BLOB), (Scope::Artifact(ArtifactName::parse("many").unwrap()), code::BLOB)]
    {
        let report = verify(&test_store.store(), &scope, &VerifyOptions::default()).unwrap();
        assert_eq!(report.findings.len(), damaged.len(), "{:?}", report.findings);
        for finding in &report.findings {
            assert_eq!((finding.code, finding.affects.len()), (wanted, 21), "{finding:?}");
            assert_eq!(finding.affects[20], "and 10 more");
        }
    }
}

#[test]
fn the_codes_are_in_the_help() {
    let test_store = TestStore::new();
    let help = test_store.ok(&["verify", "--help"]);
    for (code, _) in code::ALL {
        assert!(help.contains(code), "{code} is not in the help");
    }
}

#[test]
fn a_damaged_index_run_is_a_note_and_no_damage() {
    let test_store = TestStore::new();
    put(&test_store, "x", &[("a", b"a")]);
    let run = std::fs::read_dir(test_store.store_path().join("index")).unwrap().next().unwrap().unwrap().path();
    crafted_stores::write(&run, b"cut");
    let report = all(&test_store);
    assert!(report.findings.is_empty() && report.notes.iter().any(|n| n.code == code::INDEX), "{report:?}");
    assert!(text(&test_store.run(&["verify"], 0).stdout).contains("note: F12-index"));
}

#[test]
fn what_verify_found_damaged_is_stored_again_by_the_next_put_of_it() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("d"),
        &[("small", b"small content"), ("other", b"other content"), ("large", &random_bytes(3, 200_000))],
    );
    for (scope, name) in [(vec!["verify"], "x"), (vec!["verify", "y"], "y")] {
        test_store.ok(&["put", name, "d"]);
        rot(&test_store);
        test_store.run(&scope, 1);
        test_store.ok(&["put", name, "d", "--new-version"]);
        test_store.ok(&["get", name, "out"]);
        assert_eq!(
            crate::support::snapshot(&test_store.path("out")),
            crate::support::snapshot(&test_store.path("d")),
            "{scope:?}"
        );
        std::fs::remove_dir_all(test_store.path("out")).unwrap();
    }
}

#[test]
fn an_unchanged_put_says_that_it_stored_damaged_content_again() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("large", &random_bytes(3, 200_000))]);
    let put = || text(&test_store.run(&["put", "x", "d"], 0).stderr);
    put();
    assert!(!put().contains("stored"));
    rot(&test_store);
    test_store.run(&["verify"], 1);
    assert_eq!(
        put(),
        "1 file, 195.31 KiB; nothing changed since x:v0; 195.31 KiB stored: the store had no intact copy\n"
    );
    test_store.ok(&["verify"]);
    assert!(!put().contains("stored"));
}

#[test]
fn a_put_does_not_name_a_version_whose_own_files_are_damaged() {
    let test_store = TestStore::new();
    put(&test_store, "x", &[("f", b"one")]);
    let manifest = behind(&test_store.store_path().join("artifacts/x/versions/v0")).join("manifest");
    crafted_stores::write(&manifest, b"cut");
    put(&test_store, "x", &[("f", b"one")]);
    assert_eq!(test_store.ok(&["cat", "x", "f"]), "one");
    assert_eq!(test_store.ok(&["list", "x"]).lines().filter(|l| l.starts_with('x') || l.contains("v1")).count(), 1);
}

#[test]
fn the_number_of_a_removed_version_is_not_given_again_when_its_link_is_lost() {
    let test_store = TestStore::new();
    for content in ["one", "two", "three", "four"] {
        put(&test_store, "x", &[("f", content.as_bytes())]);
    }
    let number = |n: u64| test_store.store_path().join(format!("artifacts/x/versions/v{n}"));
    test_store.ok(&["rm", "x:v1"]);
    std::fs::remove_file(number(1)).unwrap();
    put(&test_store, "x", &[("f", b"five")]);
    assert!(!number(1).is_symlink() && number(4).is_symlink());
    assert_eq!(test_store.ok(&["cat", "x", "f"]), "five");
    // The last one of all, too.
    test_store.ok(&["rm", "x:v4"]);
    std::fs::remove_file(number(4)).unwrap();
    put(&test_store, "x", &[("f", b"six")]);
    assert!(!number(4).is_symlink() && number(5).is_symlink());
    assert_eq!(test_store.ok(&["cat", "x", "f"]), "six");
}

#[test]
fn a_symlink_in_place_of_a_directory_of_an_artifact_is_found_and_refused_by_writers() {
    let test_store = TestStore::new();
    std::fs::write(test_store.path("f"), b"one").unwrap();
    put(&test_store, "x", &[("f", b"one")]);
    test_store.ok(&["alias", "x:v0", "good"]);
    let dir = test_store.store_path().join("artifacts/x");
    let aside = test_store.path("aside");
    std::fs::create_dir(test_store.path("empty")).unwrap();
    for sub in ["", "aliases", "versions", "drafts", "notes", "uses", "removed"] {
        let place = if sub.is_empty() { dir.clone() } else { dir.join(sub) };
        let there = std::fs::rename(&place, &aside).is_ok();
        for target in [aside.clone(), test_store.path("empty"), test_store.path("nothing")] {
            symlink(&target, &place).unwrap();
            let message = text(&test_store.run(&["verify"], 1).stdout);
            assert!(message.contains("is a symlink, expected a directory"), "{sub:?} to {target:?}: {message}");
            std::fs::remove_file(&place).unwrap();
        }
        if there {
            std::fs::rename(&aside, &place).unwrap();
        }
    }
    test_store.run(&["verify"], 0);
    for (sub, args) in [
        ("", vec!["put", "x", "f"]),
        ("removed", vec!["rm", "x:v0", "--force"]),
        ("aliases", vec!["alias", "x:v0", "better"]),
    ] {
        let place = dir.join(sub);
        let place = if sub.is_empty() { dir.clone() } else { place };
        let there = std::fs::rename(&place, &aside).is_ok();
        symlink(test_store.path("nothing"), &place).unwrap();
        let message = text(&test_store.run(&args, 4).stderr);
        assert!(message.contains("is a symlink, expected a directory"), "{args:?}: {message}");
        std::fs::remove_file(&place).unwrap();
        if there {
            std::fs::rename(&aside, &place).unwrap();
        }
    }
    // A stray file that is not ours is not damage.
    crafted_stores::write(&test_store.store_path().join("artifacts/.DS_Store"), b"stray");
    test_store.run(&["verify"], 0);
}

#[test]
fn what_is_wrong_with_a_removed_version_is_a_note() {
    let test_store = TestStore::new();
    for content in ["one", "two", "three"] {
        put(&test_store, "x", &[("f", content.as_bytes())]);
    }
    let number = |n: u64| test_store.store_path().join(format!("artifacts/x/versions/v{n}"));
    crafted_stores::write(&behind(&number(1)).join("version.json"), b"cut");
    test_store.run(&["verify"], 1);
    test_store.ok(&["rm", "x:v1"]);
    let report = all(&test_store);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.notes.iter().map(|n| (n.code, n.what.as_str())).collect::<Vec<_>>(), [(code::VERSION, "x:v1")]);
    test_store.run(&["verify"], 0);
    std::fs::remove_file(number(1)).unwrap();
    symlink("nonsense", number(1)).unwrap();
    let report = all(&test_store);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.notes.iter().map(|n| n.code).collect::<Vec<_>>(), [code::NUMBER]);
}

#[test]
fn verify_pauses_once_for_all_artifacts_with_findings() {
    let test_store = TestStore::new();
    for i in 0..40 {
        let name = format!("x{i}");
        put(&test_store, &name, &[("f", b"one")]);
        let number = test_store.store_path().join(format!("artifacts/{name}/versions/v0"));
        crafted_stores::write(&behind(&number).join("version.json"), b"cut");
    }
    assert_eq!(all(&test_store).findings.iter().filter(|f| f.code == code::VERSION).count(), 40);
    let Some(calls) = test_store.traced(&["verify"], 1) else { return };
    // Other pauses depend on the machine; this one is of a store on a local file system.
    let pauses = calls.iter().filter(|call| call.contains("nanosleep") && call.contains("tv_nsec=50000000")).count();
    assert_eq!(pauses, 1);
}

/// Silent rot of all content that is large or begins with "small content": sizes, times and modes are as they were.
fn rot(test_store: &TestStore) {
    for entry in
        walkdir::WalkDir::new(test_store.store_path()).into_iter().flatten().filter(|e| e.file_type().is_file())
    {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        let place = entry.path().strip_prefix(test_store.store_path()).unwrap().to_owned();
        let at = match place.starts_with("objects") {
            true => Some(1000),
            false if place.starts_with("packs") => bytes.windows(13).position(|w| w == b"small content"),
            false => None,
        };
        let Some(at) = at else { continue };
        bytes[at] ^= 1;
        let time = entry.metadata().unwrap().modified().unwrap();
        crafted_stores::write(entry.path(), &bytes);
        std::fs::File::open(entry.path()).unwrap().set_modified(time).unwrap();
        std::fs::set_permissions(entry.path(), std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    }
}

#[test]
fn a_quick_check_reports_known_damage_and_a_copy_that_was_stored_again_is_a_note() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path("d"),
        &[("small", b"small content"), ("other", b"other"), ("large", &random_bytes(3, 200_000))],
    );
    test_store.ok(&["put", "x", "d"]);
    rot(&test_store);
    test_store.run(&["verify"], 1);
    let message = text(&test_store.run(&["verify", "--quick"], 1).stdout);
    assert!(message.contains("affects x:v0 small") && message.contains("affects x:v0 large"), "{message}");
    let message = text(&test_store.run(&["verify", "x", "--quick"], 1).stdout);
    assert!(message.contains("affects x:v0 small") && message.contains("affects x:v0 large"), "{message}");
    test_store.ok(&["put", "x", "d", "--new-version"]);
    for args in [&["verify"][..], &["verify", "--quick"]] {
        let message = text(&test_store.run(args, 0).stdout);
        assert!(message.contains("note: F1-blob") && message.contains("nothing is affected"), "{args:?}: {message}");
    }
    assert_eq!(test_store.ok(&["cat", "x:v0", "small"]), "small content");
}

#[test]
fn a_damaged_copy_that_is_the_only_one_is_damage_although_nothing_needs_it() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("small", b"small content"), ("other", b"other")]);
    test_store.ok(&["put", "x", "d"]);
    test_store.ok(&["rm", "x:v0"]);
    rot(&test_store);
    let report = all(&test_store);
    assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), [code::BLOB]);
    assert!(report.findings[0].affects.is_empty() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_listed_pack_that_was_repaired_is_not_a_finding_of_a_quick_check() {
    use std::os::unix::fs::PermissionsExt;
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("small", b"small content"), ("other", b"other")]);
    test_store.ok(&["put", "x", "d"]);
    let packs = walkdir::WalkDir::new(test_store.store_path().join("packs")).into_iter().map(Result::unwrap);
    let pack = packs.filter(|entry| entry.file_type().is_file()).last().unwrap().into_path();
    let right = std::fs::read(&pack).unwrap();
    let (time, mut wrong) = (std::fs::metadata(&pack).unwrap().modified().unwrap(), right.clone());
    *wrong.last_mut().unwrap() ^= 1;
    for (bytes, status) in [(&wrong, 1), (&right, 0)] {
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&pack, bytes).unwrap();
        std::fs::File::open(&pack).unwrap().set_modified(time).unwrap();
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o444)).unwrap();
        if status == 1 {
            test_store.run(&["verify"], 1);
            assert!(text(&test_store.run(&["verify", "--quick"], 1).stdout).contains("F1-pack"));
        }
    }
    assert_eq!(text(&test_store.run(&["verify", "--quick"], 0).stdout), "");
    assert_eq!(
        std::fs::read_dir(test_store.store_path().join("damaged")).map_or(0, Iterator::count),
        0,
        "it is not listed"
    );
}
