//! Damage in every file of a store: flipped, cut, deleted, replaced. `verify` names it, readers give right bytes or an
//! error and never wrong ones, nothing panics, and what is put back is whole again (L6, L15, F1 to F12).
//!
//! `CAIRN_DAMAGE=all` flips every byte of every file; without, only short files have every byte flipped.

mod every_file;

use crate::support::{copy_tree, make_tree, memory_dir, random_bytes, snapshot};
use cairn::catalog::{Draft, VersionSpec, alias};
use cairn::internals::commit::{Artifact, SaveOptions};
use cairn::internals::objects::Content;
use cairn::manifest::Entry;
use cairn::types::{AliasName, ArtifactName, Digest, DistributedId, VersionNumber};
use cairn::verify::{Scope, VerifyOptions, VerifyReport, code, verify};
use cairn::view::{CheckoutOptions, checkout};
use cairn::{Kind, Store, Version};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What a version is made of: path, entry, digest of the content.
type Entries = Vec<(String, Entry)>;

/// What is known of the store before it is damaged.
struct Known {
    versions: Vec<(ArtifactName, VersionNumber, Digest, Entries)>,
    trees: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

fn open(root: &Path) -> Store {
    Store::open(root).unwrap()
}

fn name(text: &str) -> ArtifactName {
    ArtifactName::parse(text).unwrap()
}

fn put(store: &Store, name: &str, source: &Path, say: impl FnOnce(&mut Artifact)) -> Version {
    let mut artifact = Artifact::new(name, None).unwrap();
    artifact.add_dir(source).unwrap();
    say(&mut artifact);
    artifact.save_with(store, &SaveOptions::default()).unwrap().version
}

/// A store with everything in it that a store can hold, and its sources in the same directory.
fn small_store(dir: &Path) -> PathBuf {
    let root = dir.join("store");
    let store = Store::init(&root, &Default::default()).unwrap();
    let large = random_bytes(7, 150_000);
    let one = dir.join("one");
    make_tree(
        &one,
        &[("x.txt", b"one"), ("d/y.txt", b"two"), ("d/large.bin", &large), ("empty/", b""), ("run.sh", b"#!/bin/sh\n")],
    );
    std::fs::set_permissions(one.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("x.txt", one.join("link")).unwrap();
    for i in 0..700 {
        std::fs::write(one.join(format!("d/entry-{i:05}-{}", "n".repeat(20))), format!("{}", i % 7)).unwrap();
    }
    let two = dir.join("two");
    copy_tree(&one, &two);
    make_tree(&two, &[("x.txt", b"changed"), ("d/more.bin", &random_bytes(8, 3000))]);
    let three = dir.join("three");
    make_tree(&three, &[("only.txt", b"to be removed")]);
    put(&store, "a", &one, |a| {
        let _ = a.add_alias("prod").unwrap().set_description("the first");
    });
    put(&store, "a", &two, |a| {
        let _ = a.add_alias("prod").unwrap();
    });
    put(&store, "a", &three, |_| {});
    put(&store, "a", &two, |a| {
        let _ = a.set_description("again");
    });
    put(&store, "a", &two, |a| {
        let _ = a.add_tag("noted").unwrap();
    }); // a note on v3
    cairn::catalog::remove::remove(&store, &name("a"), VersionNumber(2), cairn::catalog::remove::Force::No).unwrap();
    put(&store, "b", &three, |_| {});
    // A draft that is open, and one that came to a version.
    let four = dir.join("four");
    make_tree(&four, &[("part", b"of a collaboration")]);
    for (artifact, id, run) in [("a", "open", "r1"), ("a", "open", "r2"), ("c", "done", "r1")] {
        let mut part = Artifact::new(artifact, None).unwrap();
        match id {
            "open" => drop(part.add_bytes(format!("{run}/part"), format!("of {run}")).unwrap()),
            _ => drop(part.add_dir(&four).unwrap()),
        }
        run_named(&store, run).upsert_artifact(&part, id).unwrap();
    }
    run_named(&store, "r3").finish_artifact(&Artifact::new("c", None).unwrap(), "done").unwrap();
    // What dead writers leave: a lock, a token that committed nothing, one that published, one that was fenced.
    std::fs::write(root.join("locks/0123456789abcdef0123456789abcdef"), "{\n}\n").unwrap();
    for (token, outcome) in [("1", None), ("2", Some("commit")), ("3", Some("fenced"))] {
        let work = root.join("work").join(token.repeat(32));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("p0"), "a pack in the making").unwrap();
        if let Some(outcome) = outcome {
            std::os::unix::fs::symlink(format!("artifacts/a/versions/.{}", token.repeat(32)), work.join("record"))
                .unwrap();
            std::os::unix::fs::symlink(outcome, work.join("outcome")).unwrap();
        }
    }
    root
}

fn run_named(store: &Store, id: &str) -> cairn::Run {
    cairn::Run::new(store, cairn::RunOptions::default().id(id)).unwrap()
}

fn entries(version: &Version) -> cairn::Result<Entries> {
    version.entries()?.map(|v| v.map(|v| (v.path.to_string(), v.entry))).collect()
}

fn know(root: &Path, dir: &Path) -> Known {
    let store = open(root);
    let mut known = Known { versions: Vec::new(), trees: BTreeMap::new() };
    for artifact in cairn::internals::catalog::artifact::all(&store).unwrap() {
        for version in cairn::internals::catalog::version::versions(&store, &artifact).unwrap() {
            known.versions.push((artifact.clone(), version.number(), version.digest(), entries(&version).unwrap()));
            let out = dir.join("known");
            checkout(&version, &out, &CheckoutOptions::default()).unwrap();
            known.trees.insert(version.to_string(), snapshot(&out));
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
    known
}

/// Reads everything of every version, in both ways. `rot`: an object that looks untouched may give wrong bytes (L15).
fn right_or_error(store: &Store, known: &Known, whole: bool, rot: bool, out: &Path, label: &str) {
    for (artifact, number, digest, wanted) in &known.versions {
        let Ok(Some(version)) = Version::read(store, artifact, *number) else { continue };
        assert_eq!(version.digest(), *digest, "{label}: {version} has another digest");
        let Ok(walk) = version.entries() else { continue };
        let (mut content, mut seen) = (0, 0);
        let mut wanted_entries = wanted.iter();
        for found in walk {
            let Ok(found) = found else {
                seen = wanted.len(); // what comes after an error is unknown, not missing
                break;
            };
            seen += 1;
            let Some((path, wanted)) = wanted_entries.next() else {
                panic!("{label}: {version} has more entries than it had")
            };
            assert_eq!(found.path.to_string(), *path, "{label}: {version}");
            match (&found.entry, wanted) {
                (Entry::File { digest, size, exec, place }, Entry::File { digest: d, size: s, exec: e, .. }) => {
                    assert!((digest, size, exec) == (d, s, e), "{label}: {version} {path} is another file");
                    content += 1;
                    // Seven contents are shared by seven hundred files, so each is read only some times.
                    if *size > 1 || content % 16 == 0 {
                        right_content(store, digest, *size, *place, rot, label);
                    }
                }
                (a, b) => assert!(same(a, b), "{label}: {version} {path} is another entry"),
            }
        }
        assert_eq!(seen, wanted.len(), "{label}: {version} lacks entries");
        if whole {
            let made = catch_unwind(AssertUnwindSafe(|| checkout(&version, out, &CheckoutOptions::default())));
            let made = made.unwrap_or_else(|_| panic!("{label}: checkout of {version} panics"));
            if made.is_ok() && !rot {
                assert!(
                    snapshot(out) == known.trees[&version.to_string()],
                    "{label}: checkout of {version} gives other content"
                );
            }
            for entry in std::fs::read_dir(out.parent().unwrap()).unwrap() {
                let path = entry.unwrap().path();
                if path == out || path.file_name().unwrap().to_str().unwrap().starts_with(".out") {
                    std::fs::remove_dir_all(path).unwrap();
                }
            }
        }
    }
}

fn same(a: &Entry, b: &Entry) -> bool {
    match (a, b) {
        (Entry::Symlink { target: a }, Entry::Symlink { target: b }) => a == b,
        (Entry::Directory(_), Entry::Directory(_)) => true, // what is in it comes next
        _ => false,
    }
}

fn right_content(
    store: &Store,
    digest: &Digest,
    size: u64,
    place: Option<cairn::types::Location>,
    rot: bool,
    label: &str,
) {
    let bytes = match store.objects().content(digest, size, place) {
        Err(_) => return,
        Ok(Content::Small(bytes)) => bytes,
        Ok(Content::Composed(composed)) => {
            let mut bytes = vec![0; composed.size() as usize];
            composed.read_at(&mut bytes, 0).unwrap();
            bytes
        }
        Ok(Content::Large(large)) => {
            let mut bytes = Vec::new();
            if large.into_file().read_to_end(&mut bytes).is_err() {
                return;
            }
            bytes
        }
    };
    assert!(rot || Digest::of(&bytes) == *digest, "{label}: wrong bytes for {digest}");
}

fn report_of(store: &Store, label: &str) -> VerifyReport {
    let report = catch_unwind(AssertUnwindSafe(|| verify(store, &Scope::All, &VerifyOptions::default())));
    let mut report = report
        .unwrap_or_else(|_| panic!("{label}: verify panics"))
        .unwrap_or_else(|e| panic!("{label}: verify fails: {e:?}"));
    // A damaged index run is a note, and is to be seen all the same.
    report.findings.append(&mut report.notes);
    report
}

fn files_of(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let is_reserve = entry.path().starts_with(root.join("reserve")); // holds space, has no content
        if !entry.file_type().is_dir() && !is_reserve {
            out.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    out.sort();
    out
}

#[test]
fn strangers_among_packs_objects_and_runs_are_named_and_harm_nothing() {
    let dir = memory_dir();
    let root = small_store(dir.path());
    let known = know(&root, dir.path());
    let shard = std::fs::read_dir(root.join("objects")).unwrap().next().unwrap().unwrap().path();
    let shard = shard.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let zeros = "0".repeat(64);
    let mut tried = 0;
    for (path, wanted) in [
        ("packs/stranger".to_owned(), &[code::STRANGER][..]),
        (format!("packs/{zeros}"), &[code::PACK]),
        (format!("packs/{zeros}.tmp"), &[code::STRANGER]),
        ("objects/stranger".to_owned(), &[code::STRANGER]),
        (format!("{shard}/x"), &[code::STRANGER]),
        (format!("{shard}/{}", &zeros[2..]), &[code::OBJECT]),
        ("index/x".to_owned(), &[code::INDEX]),
        (format!("index/{zeros}"), &[code::INDEX]),
    ] {
        for content in [&b""[..], b"strange", &random_bytes(3, 5000)] {
            std::fs::write(root.join(&path), content).unwrap();
            let store = open(&root);
            let report = report_of(&store, &path);
            assert!(report.findings.iter().any(|f| wanted.contains(&f.code)), "{path}: {:?}", report.findings);
            assert!(
                report.findings.iter().all(|f| f.what.contains(path.rsplit('/').next().unwrap())),
                "{path}: {:?}",
                report.findings
            );
            right_or_error(&store, &known, false, false, &dir.path().join("out"), &path);
            for (_, number, ..) in known.versions.iter().filter(|v| v.0.as_str() == "a") {
                let version = Version::read(&store, &name("a"), *number).unwrap().unwrap();
                assert!(version.open("x.txt").is_ok());
            }
            std::fs::remove_file(root.join(&path)).unwrap();
            tried += 1;
        }
    }
    println!("strangers: {tried}");
}

#[test]
fn a_directory_of_the_store_that_is_gone_or_a_file_is_an_error_and_never_wrong_bytes() {
    let dir = memory_dir();
    let root = small_store(dir.path());
    let known = know(&root, dir.path());
    let mut dirs: Vec<PathBuf> = walkdir::WalkDir::new(&root)
        .min_depth(1)
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_dir())
        .map(|e| e.into_path())
        .collect();
    dirs.sort();
    for at in &dirs {
        let aside = dir.path().join("aside");
        for kind in ["gone", "file"] {
            std::fs::rename(at, &aside).unwrap();
            if kind == "file" {
                std::fs::write(at, "no directory").unwrap();
            }
            let label = format!("{} {kind}", at.display());
            let store = open(&root);
            let looked = catch_unwind(AssertUnwindSafe(|| verify(&store, &Scope::All, &VerifyOptions::default())));
            let looked = looked.unwrap_or_else(|_| panic!("{label}: verify panics"));
            let passing = ["work", "locks", "index", "pins", "staging", "trash", "damaged", "reserve"]
                .iter()
                .any(|d| at.starts_with(root.join(d)));
            let last = at.starts_with(root.join("artifacts")) || at == &root.join("objects") && kind == "gone";
            if let Ok(report) = &looked {
                assert!(passing || last || !report.findings.is_empty(), "{label}: verify says nothing");
            }
            right_or_error(&store, &known, false, false, &dir.path().join("out"), &label);
            if kind == "file" {
                std::fs::remove_file(at).unwrap();
            }
            std::fs::rename(&aside, at).unwrap();
        }
    }
    assert!(report_of(&open(&root), "put back").findings.is_empty());
    println!("directories: {} gone, {} files in their place", dirs.len(), dirs.len());
}

#[test]
fn lost_content_comes_back_when_it_is_put_again() {
    let dir = memory_dir();
    let root = small_store(dir.path());
    let known = know(&root, dir.path());
    for lost in files_of(&root).into_iter().filter(|f| f.starts_with("packs/") || f.starts_with("objects/")) {
        let copy = dir.path().join("copy");
        copy_tree(&root, &copy);
        std::fs::remove_file(copy.join(&lost)).unwrap();
        let store = open(&copy);
        for (artifact, source) in [("d", "one"), ("d", "two"), ("d", "three"), ("d", "four")] {
            put(&store, artifact, &dir.path().join(source), |_| {});
        }
        let store = open(&copy);
        for (artifact, number, _, wanted) in &known.versions {
            let version = Version::read(&store, artifact, *number).unwrap().unwrap();
            assert_eq!(entries(&version).unwrap().len(), wanted.len(), "{lost}: {version}");
            checkout(&version, &dir.path().join("out"), &CheckoutOptions::default())
                .unwrap_or_else(|e| panic!("{lost}: {version}: {e}"));
            assert!(snapshot(&dir.path().join("out")) == known.trees[&version.to_string()]);
            std::fs::remove_dir_all(dir.path().join("out")).unwrap();
        }
        std::fs::remove_dir_all(&copy).unwrap();
    }
}
