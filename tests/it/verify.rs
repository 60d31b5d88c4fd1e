//! What verify finds, what it does not report as damage, and what it costs if much is damaged.

use crate::crafted_stores;
use crate::support::{TestStore, make_tree, random_bytes, text};
use cairn::internals::commit::Artifact;
use cairn::internals::manifest::{Census, Visitor};
use cairn::types::{ArtifactName, Digest, Location};
use cairn::verify::{Scope, VerifyOptions, VerifyReport, code, verify};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = ".11111111111111111111111111111111";

fn all(lab: &TestStore) -> VerifyReport {
    verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap()
}

fn put(lab: &TestStore, name: &str, files: &[(&str, &[u8])]) {
    let mut artifact = Artifact::new(name, None).unwrap();
    for (path, bytes) in files {
        artifact.add_bytes(path, bytes).unwrap();
    }
    artifact.save(&lab.store()).unwrap();
}

/// The record's file behind a number.
fn behind(link: &Path) -> PathBuf {
    link.parent().unwrap().join(std::fs::read_link(link).unwrap())
}

#[test]
fn what_others_publish_while_verify_works_is_not_called_missing() {
    let lab = TestStore::new();
    for i in 0..6 {
        put(&lab, "base", &[("big", &random_bytes(i, 8_000_000))]);
    }
    let (stop, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let i = puts.fetch_add(1, Ordering::Relaxed);
                put(&lab, "log", &[("one", format!("{i}").as_bytes()), ("large", &random_bytes(1000 + i, 140_000))]);
            }
        });
        for i in 0..6 {
            let before = puts.load(Ordering::Relaxed);
            let report = all(&lab);
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
fn ends(lab: &TestStore, args: &[&str]) -> (i32, String) {
    let mut child = lab.cairn(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
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
    let lab = TestStore::new();
    let (tree, nodes) = crafted_stores::bomb(140, 8, b"hello", "a");
    assert!(tree.totals().entries > 1 << 60);
    crafted_stores::publish(&lab.store_path(), "x", 0, &tree, &nodes, &[b"hello"]);
    let (other, nodes) = crafted_stores::bomb(140, 8, b"hello", "b");
    crafted_stores::publish(&lab.store_path(), "x", 1, &other, &nodes, &[b"hello"]);
    put(&lab, "small", &[("a", b"a")]);
    assert!(all(&lab).findings.is_empty(), "{:?}", all(&lab).findings);
    assert_eq!(lab.ok(&["ls", "x:v0"]).lines().count(), 140);
    assert_eq!(lab.ok(&["cat", "x:v0", &format!("{}f", "d007/".repeat(8))]), "hello");
    for args in [vec!["verify"], vec!["verify", "x"], vec!["verify", "x:v0"], vec!["verify", "--quick"]] {
        assert_eq!(ends(&lab, &args).0, 0, "{args:?}");
    }
    for args in [
        vec!["ls", "-R", "x:v0"],
        vec!["get", "x:v0", "out"],
        vec!["diff", "small:v0", "x:v0"],
        vec!["diff", "--stat", "x:v0", "x:v1"],
    ] {
        let (status, said) = ends(&lab, &args);
        assert_eq!(status, 3, "{args:?}: {said}");
        assert!(said.contains("entries to go through"), "{args:?}: {said}");
    }
    assert!(!lab.path("out").exists());
    // A root that is in its version's directory alone is found.
    let pack = std::fs::read_dir(lab.store_path().join("packs"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| std::fs::read(p).unwrap().windows(32).any(|w| w == tree.digest().0))
        .unwrap();
    let aside = lab.path("aside");
    std::fs::rename(&pack, &aside).unwrap();
    assert!(all(&lab).findings.iter().any(|f| f.code == code::NODE && f.affects.contains(&"x:v0".to_owned())));
    std::fs::rename(&aside, &pack).unwrap();
    // Content at the bottom is lost: that is one finding, and it does not list everything that is affected.
    let (tree, nodes) = crafted_stores::bomb(140, 8, b"lost", "c");
    crafted_stores::publish(&lab.store_path(), "y", 0, &tree, &nodes, &[]);
    let report = all(&lab);
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
    let plain = |lab: &TestStore| {
        put(lab, "x", &[("f", b"one")]);
        put(lab, "x", &[("f", b"two")]);
        put(lab, "x", &[("f", b"three")]);
        lab.ok(&["alias", "x:v0", "prod"]);
        make_tree(&lab.path("noted"), &[("f", b"three")]);
        lab.ok(&["put", "x", "noted", "--tag", "t"]);
        lab.ok(&["rm", "x:v2"]);
        make_tree(&lab.path("d"), &[("part", b"part")]);
        lab.ok(&["upsert", "c", "d", "--distributed-id", "j", "--run", "r"]);
        lab.ok(&["finish", "c", "--distributed-id", "j"]);
    };
    let artifact = |lab: &TestStore, rest: &str| lab.store_path().join("artifacts").join(rest);
    let marker = |lab: &TestStore, number: &str, of: &str| {
        let removed = artifact(lab, "x/removed");
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
            Box::new(|lab| {
                let (a, b) = (artifact(lab, "x/versions/v0"), artifact(lab, "x/versions/v1"));
                let aside = artifact(lab, "x/versions/aside");
                std::fs::rename(&a, &aside).unwrap();
                std::fs::rename(&b, &a).unwrap();
                std::fs::rename(&aside, &b).unwrap();
            }),
        ),
        ("a removal under another number", code::RECORD, Box::new(|lab| marker(lab, "v1", "v0"))),
        ("a removal of what never was", code::NUMBER, Box::new(|lab| marker(lab, "v9", "v9"))),
        (
            "an alias directory under another name",
            code::RECORD,
            Box::new(|lab| std::fs::rename(artifact(lab, "x/aliases/prod"), artifact(lab, "x/aliases/other")).unwrap()),
        ),
        (
            "an alias record at another number",
            code::RECORD,
            Box::new(|lab| {
                crafted_stores::resign(&behind(&artifact(lab, "x/aliases/prod/000001")), |r| {
                    drop(r.insert("from".into(), json!(2)))
                })
            }),
        ),
        (
            "artifact.json with another type",
            code::ARTIFACT,
            Box::new(|lab| {
                crafted_stores::resign(&behind(&artifact(lab, "x/artifact.json")), |r| {
                    drop(r.insert("type".into(), json!("model")))
                })
            }),
        ),
        (
            "a finished draft without its version",
            code::DRAFT,
            Box::new(|lab| std::fs::remove_file(artifact(lab, "c/versions/v0")).unwrap()),
        ),
        (
            "a finished draft whose version's number another one has",
            code::DRAFT,
            Box::new(|lab| {
                std::fs::remove_file(artifact(lab, "c/versions/v0")).unwrap();
                put(lab, "other", &[("f", b"other")]);
                let token = std::fs::read_link(artifact(lab, "other/versions/v0")).unwrap();
                std::fs::rename(artifact(lab, "other/versions").join(&token), artifact(lab, "c/versions").join(&token))
                    .unwrap();
                std::fs::remove_dir_all(artifact(lab, "other")).unwrap();
                crafted_stores::resign(&artifact(lab, "c/versions").join(&token).join("version.json"), |r| {
                    drop(r.insert("artifact".into(), json!("c")))
                });
                symlink(&token, artifact(lab, "c/versions/v0")).unwrap();
            }),
        ),
        (
            "a collaborative version without its finish",
            code::DRAFT,
            Box::new(|lab| std::fs::remove_dir_all(artifact(lab, "c/drafts")).unwrap()),
        ),
        (
            "a finish record at another number",
            code::NUMBER,
            Box::new(|lab| {
                crafted_stores::resign(&behind(&artifact(lab, "c/drafts/j/log/000002")), |r| {
                    drop(r.insert("from".into(), json!(1)))
                })
            }),
        ),
        (
            "a version for another number",
            code::NUMBER,
            Box::new(|lab| {
                crafted_stores::resign(&behind(&artifact(lab, "x/versions/v0")).join("version.json"), |r| {
                    drop(r.insert("from".into(), json!("v1")))
                })
            }),
        ),
        (
            "notes of a version that never was",
            code::RECORD,
            Box::new(|lab| {
                let notes = artifact(lab, "x/notes/v9");
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
        let lab = TestStore::new();
        plain(&lab);
        assert!(all(&lab).findings.is_empty(), "{:?}", all(&lab).findings);
        change(&lab);
        let report = all(&lab);
        assert!(
            report.findings.iter().any(|f| f.code == wanted),
            "{what}: expected {wanted}, found {:?}",
            report.findings
        );
    }
}

#[test]
fn a_finish_on_its_way_is_no_damage() {
    let lab = TestStore::new();
    make_tree(&lab.path("d"), &[("part", b"part")]);
    lab.ok(&["upsert", "c", "d", "--distributed-id", "j", "--run", "r"]);
    lab.ok(&["finish", "c", "--distributed-id", "j"]);
    // As after a crash between the two numbers: the token is still at work.
    let versions = lab.store_path().join("artifacts/c/versions");
    let token = std::fs::read_link(versions.join("v0")).unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    std::fs::remove_file(versions.join("v0")).unwrap();
    let work = lab.store_path().join("work").join(&token);
    std::fs::create_dir(&work).unwrap();
    symlink("commit", work.join("outcome")).unwrap();
    symlink(format!("artifacts/c/drafts/j/log/.{token}"), work.join("record")).unwrap();
    assert!(all(&lab).findings.is_empty(), "{:?}", all(&lab).findings);
}

#[test]
fn strays_in_the_trash_and_what_nfs_keeps_of_open_files_hide_no_damage() {
    let lab = TestStore::new();
    put(&lab, "x", &[("a", b"a"), ("big", &random_bytes(1, 200_000))]);
    let root = lab.store_path();
    for stray in ["trash/.nfs00000000c0ffee", "trash/.DS_Store", "packs/.nfs0000000000000001", "objects/.nfs2/.nfs3"] {
        crafted_stores::write(&root.join(stray), b"stray");
    }
    let object = walkdir::WalkDir::new(root.join("objects"))
        .into_iter()
        .flatten()
        .find(|e| e.file_type().is_file() && !e.path().to_str().unwrap().contains(".nfs"))
        .unwrap();
    assert!(all(&lab).findings.is_empty(), "{:?}", all(&lab).findings);
    std::fs::remove_file(object.path()).unwrap();
    let report = all(&lab);
    assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), [code::MISSING]);
    assert_eq!(report.findings[0].affects, ["x:v0 big"]);
    // Readers too: what is missing is damage of the store, not an error of the disk.
    lab.run(&["cat", "x", "big"], 4);
}

#[test]
fn what_cannot_be_listed_is_a_finding_among_others() {
    let lab = TestStore::new();
    put(&lab, "x", &[("a", b"a")]);
    put(&lab, "y", &[("b", b"b")]);
    let root = lab.store_path();
    std::fs::rename(root.join("artifacts/x/aliases"), root.join("aside")).ok();
    std::fs::remove_dir_all(root.join("objects")).unwrap();
    std::fs::write(root.join("objects"), b"not a directory").unwrap();
    std::fs::write(root.join("artifacts/x/aliases"), b"not a directory").unwrap();
    for pack in std::fs::read_dir(root.join("packs")).unwrap() {
        std::fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let codes: Vec<_> = all(&lab).findings.iter().map(|f| f.code).collect();
    assert!(
        codes.contains(&code::UNREADABLE) && codes.contains(&code::MISSING) && codes.contains(&code::NO_PACK),
        "{codes:?}"
    );
}

#[test]
fn a_pack_that_the_disk_cannot_read_is_one_finding_among_others() {
    let lab = TestStore::new();
    let shim = lab.path("eio.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/eio.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    if !built.is_ok_and(|s| s.success()) {
        println!("skipped: no cc to build eio.c with");
        return;
    }
    put(&lab, "x", &[("f1", b"text 1"), ("f2", b"text 2")]);
    let packs =
        || std::fs::read_dir(lab.store_path().join("packs")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let unreadable = packs().remove(0);
    put(&lab, "y", &[("g1", b"e 1"), ("g2", b"e 2")]);
    let other = packs().into_iter().find(|p| *p != unreadable).unwrap();
    let mut bytes = std::fs::read(&other).unwrap();
    let at = bytes.windows(3).position(|w| w == b"e 1").unwrap();
    bytes[at] ^= 1;
    crafted_stores::write(&other, &bytes);
    for args in [&["verify"][..], &["verify", "--quick"], &["verify", "x"]] {
        let output = lab
            .cairn(args)
            .env("LD_PRELOAD", &shim)
            .env("EIO_PATH", std::fs::canonicalize(&unreadable).unwrap())
            .output()
            .unwrap();
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said} {}", text(&output.stderr));
        assert!(said.contains("Input/output error"), "{args:?}: {said}");
        assert!(args.len() > 1 || said.contains("affects y:v0 g1"), "{args:?}: {said}");
    }
}

#[test]
fn much_damage_is_counted_and_listed_once_for_each_content() {
    let lab = TestStore::new();
    let mut contents = Vec::new();
    for i in 0..60 {
        contents.push(format!("content {i:03}"));
    }
    for content in &contents {
        let files: Vec<(String, &[u8])> = (0..30).map(|j| (format!("f{j:02}"), content.as_bytes())).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), *b)).collect();
        put(&lab, "many", &files);
    }
    let store = lab.store_path();
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
        let report = verify(&lab.store(), &scope, &VerifyOptions::default()).unwrap();
        assert_eq!(report.findings.len(), damaged.len(), "{:?}", report.findings);
        for finding in &report.findings {
            assert_eq!((finding.code, finding.affects.len()), (wanted, 21), "{finding:?}");
            assert_eq!(finding.affects[20], "and 10 more");
        }
    }
}

#[test]
fn the_codes_are_in_the_help() {
    let lab = TestStore::new();
    let help = lab.ok(&["verify", "--help"]);
    for (code, _) in code::ALL {
        assert!(help.contains(code), "{code} is not in the help");
    }
}

#[test]
fn a_damaged_index_run_is_a_note_and_no_damage() {
    let lab = TestStore::new();
    put(&lab, "x", &[("a", b"a")]);
    let run = std::fs::read_dir(lab.store_path().join("index")).unwrap().next().unwrap().unwrap().path();
    crafted_stores::write(&run, b"cut");
    let report = all(&lab);
    assert!(report.findings.is_empty() && report.notes.iter().any(|n| n.code == code::INDEX), "{report:?}");
    assert!(text(&lab.run(&["verify"], 0).stdout).contains("note: F12-index"));
}

#[test]
fn what_verify_found_damaged_is_stored_again_by_the_next_put_of_it() {
    let lab = TestStore::new();
    make_tree(
        &lab.path("d"),
        &[("small", b"small content"), ("other", b"other content"), ("large", &random_bytes(3, 200_000))],
    );
    for (scope, name) in [(vec!["verify"], "x"), (vec!["verify", "y"], "y")] {
        lab.ok(&["put", name, "d"]);
        // Silent rot: sizes and times are as they were.
        for entry in walkdir::WalkDir::new(lab.store_path()).into_iter().flatten().filter(|e| e.file_type().is_file()) {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            let place = entry.path().strip_prefix(lab.store_path()).unwrap().to_owned();
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
        lab.run(&scope, 1);
        lab.ok(&["put", name, "d", "--new-version"]);
        lab.ok(&["get", name, "out"]);
        assert_eq!(crate::support::snapshot(&lab.path("out")), crate::support::snapshot(&lab.path("d")), "{scope:?}");
        std::fs::remove_dir_all(lab.path("out")).unwrap();
    }
}

#[test]
fn a_put_does_not_name_a_version_whose_own_files_are_damaged() {
    let lab = TestStore::new();
    put(&lab, "x", &[("f", b"one")]);
    let manifest = behind(&lab.store_path().join("artifacts/x/versions/v0")).join("manifest");
    crafted_stores::write(&manifest, b"cut");
    put(&lab, "x", &[("f", b"one")]);
    assert_eq!(lab.ok(&["cat", "x", "f"]), "one");
    assert_eq!(lab.ok(&["list", "x"]).lines().filter(|l| l.starts_with('x') || l.contains("v1")).count(), 1);
}

#[test]
fn the_number_of_a_removed_version_is_not_given_again_when_its_link_is_lost() {
    let lab = TestStore::new();
    for content in ["one", "two", "three", "four"] {
        put(&lab, "x", &[("f", content.as_bytes())]);
    }
    let number = |n: u64| lab.store_path().join(format!("artifacts/x/versions/v{n}"));
    lab.ok(&["rm", "x:v1"]);
    std::fs::remove_file(number(1)).unwrap();
    put(&lab, "x", &[("f", b"five")]);
    assert!(!number(1).is_symlink() && number(4).is_symlink());
    assert_eq!(lab.ok(&["cat", "x", "f"]), "five");
    // The last one of all, too.
    lab.ok(&["rm", "x:v4"]);
    std::fs::remove_file(number(4)).unwrap();
    put(&lab, "x", &[("f", b"six")]);
    assert!(!number(4).is_symlink() && number(5).is_symlink());
    assert_eq!(lab.ok(&["cat", "x", "f"]), "six");
}

#[test]
fn a_symlink_in_place_of_a_directory_of_an_artifact_is_found_and_refused_by_writers() {
    let lab = TestStore::new();
    std::fs::write(lab.path("f"), b"one").unwrap();
    put(&lab, "x", &[("f", b"one")]);
    lab.ok(&["alias", "x:v0", "good"]);
    let dir = lab.store_path().join("artifacts/x");
    let aside = lab.path("aside");
    std::fs::create_dir(lab.path("empty")).unwrap();
    for sub in ["", "aliases", "versions", "drafts", "notes", "uses", "removed"] {
        let place = if sub.is_empty() { dir.clone() } else { dir.join(sub) };
        let there = std::fs::rename(&place, &aside).is_ok();
        for target in [aside.clone(), lab.path("empty"), lab.path("nothing")] {
            symlink(&target, &place).unwrap();
            let said = text(&lab.run(&["verify"], 1).stdout);
            assert!(said.contains("is a symlink, expected a directory"), "{sub:?} to {target:?}: {said}");
            std::fs::remove_file(&place).unwrap();
        }
        if there {
            std::fs::rename(&aside, &place).unwrap();
        }
    }
    lab.run(&["verify"], 0);
    for (sub, args) in [
        ("", vec!["put", "x", "f"]),
        ("removed", vec!["rm", "x:v0", "--force"]),
        ("aliases", vec!["alias", "x:v0", "better"]),
    ] {
        let place = dir.join(sub);
        let place = if sub.is_empty() { dir.clone() } else { place };
        let there = std::fs::rename(&place, &aside).is_ok();
        symlink(lab.path("nothing"), &place).unwrap();
        let said = text(&lab.run(&args, 4).stderr);
        assert!(said.contains("is a symlink, expected a directory"), "{args:?}: {said}");
        std::fs::remove_file(&place).unwrap();
        if there {
            std::fs::rename(&aside, &place).unwrap();
        }
    }
    // A stray file that is not ours is no damage.
    crafted_stores::write(&lab.store_path().join("artifacts/.DS_Store"), b"stray");
    lab.run(&["verify"], 0);
}

#[test]
fn what_is_wrong_with_a_removed_version_is_a_note() {
    let lab = TestStore::new();
    for content in ["one", "two", "three"] {
        put(&lab, "x", &[("f", content.as_bytes())]);
    }
    let number = |n: u64| lab.store_path().join(format!("artifacts/x/versions/v{n}"));
    crafted_stores::write(&behind(&number(1)).join("version.json"), b"cut");
    lab.run(&["verify"], 1);
    lab.ok(&["rm", "x:v1"]);
    let report = all(&lab);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.notes.iter().map(|n| (n.code, n.what.as_str())).collect::<Vec<_>>(), [(code::VERSION, "x:v1")]);
    lab.run(&["verify"], 0);
    std::fs::remove_file(number(1)).unwrap();
    symlink("nonsense", number(1)).unwrap();
    let report = all(&lab);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.notes.iter().map(|n| n.code).collect::<Vec<_>>(), [code::NUMBER]);
}

#[test]
fn verify_pauses_once_for_all_artifacts_with_findings() {
    let lab = TestStore::new();
    for i in 0..40 {
        let name = format!("x{i}");
        put(&lab, &name, &[("f", b"one")]);
        let number = lab.store_path().join(format!("artifacts/{name}/versions/v0"));
        crafted_stores::write(&behind(&number).join("version.json"), b"cut");
    }
    let began = Instant::now();
    assert_eq!(all(&lab).findings.iter().filter(|f| f.code == code::VERSION).count(), 40);
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

/// Silent rot of all content that is large or begins with "small content": sizes, times and modes are as they were.
fn rot(lab: &TestStore) {
    for entry in walkdir::WalkDir::new(lab.store_path()).into_iter().flatten().filter(|e| e.file_type().is_file()) {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        let place = entry.path().strip_prefix(lab.store_path()).unwrap().to_owned();
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
    let lab = TestStore::new();
    make_tree(
        &lab.path("d"),
        &[("small", b"small content"), ("other", b"other"), ("large", &random_bytes(3, 200_000))],
    );
    lab.ok(&["put", "x", "d"]);
    rot(&lab);
    lab.run(&["verify"], 1);
    let said = text(&lab.run(&["verify", "--quick"], 1).stdout);
    assert!(said.contains("affects x:v0 small") && said.contains("affects x:v0 large"), "{said}");
    let said = text(&lab.run(&["verify", "x", "--quick"], 1).stdout);
    assert!(said.contains("affects x:v0 small") && said.contains("affects x:v0 large"), "{said}");
    lab.ok(&["put", "x", "d", "--new-version"]);
    for args in [&["verify"][..], &["verify", "--quick"]] {
        let said = text(&lab.run(args, 0).stdout);
        assert!(said.contains("note: F1-blob") && said.contains("nothing is affected"), "{args:?}: {said}");
    }
    assert_eq!(lab.ok(&["cat", "x:v0", "small"]), "small content");
}

#[test]
fn a_damaged_copy_that_is_the_only_one_is_damage_although_nothing_needs_it() {
    let lab = TestStore::new();
    make_tree(&lab.path("d"), &[("small", b"small content"), ("other", b"other")]);
    lab.ok(&["put", "x", "d"]);
    lab.ok(&["rm", "x:v0"]);
    rot(&lab);
    let report = all(&lab);
    assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), [code::BLOB]);
    assert!(report.findings[0].affects.is_empty() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_listed_pack_that_was_repaired_is_not_a_finding_of_a_quick_check() {
    use std::os::unix::fs::PermissionsExt;
    let lab = TestStore::new();
    make_tree(&lab.path("d"), &[("small", b"small content"), ("other", b"other")]);
    lab.ok(&["put", "x", "d"]);
    let packs = walkdir::WalkDir::new(lab.store_path().join("packs")).into_iter().map(Result::unwrap);
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
            lab.run(&["verify"], 1);
            assert!(text(&lab.run(&["verify", "--quick"], 1).stdout).contains("F1-pack"));
        }
    }
    assert_eq!(text(&lab.run(&["verify", "--quick"], 0).stdout), "");
    assert_eq!(std::fs::read_dir(lab.store_path().join("damaged")).map_or(0, Iterator::count), 0, "it is not listed");
}
