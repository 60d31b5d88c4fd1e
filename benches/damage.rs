//! What damage costs: `cargo bench --bench damage -- [files] [packs] [versions] [reads]`; without names, all parts.
//!
//! Each line compares the check of a damaged store with that of the same store when it was whole, in one process.
//! files: damaged contents in packs. packs: lost packs of one small content each. versions: versions that share one
//! damaged content. reads: reads of lost content in a store of many packs. `CAIRN_BENCH_SCALE=10` makes the stores ten
//! times as large. Works in `$TMPDIR`: a tmpfs makes many packs in seconds, a disk in minutes. The stores are made from
//! FORMAT.md, by `tests/it/crafted_stores.rs`.

#[allow(dead_code)]
#[path = "../tests/it/crafted_stores.rs"]
mod crafted_stores;

use cairn::internals::manifest::{Edit, MemoryNodes, Node, RootNode, apply};
use cairn::manifest::{Entry, Tree};
use cairn::types::{Digest, RelPath};
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::{Artifact, Store};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|w| w == name);
    let scale = std::env::var("CAIRN_BENCH_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    println!("| store | damage | whole | damaged | ratio | the artifact alone, whole | damaged | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    if wanted("files") {
        for damaged in [10, 100, 1000] {
            files(1000 * scale, damaged * scale);
        }
    }
    if wanted("packs") {
        for lost in [1, 51] {
            packs(2000 * scale, lost);
        }
    }
    if wanted("versions") {
        versions(20 * scale, 10_000);
    }
    if wanted("reads") {
        reads(2000 * scale);
    }
}

fn content(i: usize) -> Vec<u8> {
    format!("content {i:08}").into_bytes()
}

/// A manifest of `n` files in directories of 1,000.
fn tree(n: usize) -> (Tree, MemoryNodes) {
    let nodes = MemoryNodes::new();
    let empty = RootNode { node: Arc::new(Node::empty()), place: None };
    let edits = (0..n).map(|i| {
        let path = RelPath::parse(format!("d{:04}/f{i:07}", i / 1000).as_bytes()).expect("a path");
        let (digest, size) = (Digest::of(&content(i)), content(i).len() as u64);
        Edit::put(path, Entry::File { digest, size, exec: false, place: None })
    });
    let edits = edits.collect();
    let root = apply(&Tree::of(&empty, Arc::new(nodes.clone())), edits, &mut nodes.clone()).expect("a manifest");
    (Tree::of(&root, Arc::new(nodes.clone())), nodes)
}

/// A store with one version of `n` files, and the packs of their content, `each` to a pack.
fn store(n: usize, each: usize) -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("store");
    Store::init(&root, &Default::default()).expect("a store");
    let mut packs = Vec::new();
    for first in (0..n).step_by(each) {
        let blobs: Vec<_> = (first..n.min(first + each)).map(|i| (Digest::of(&content(i)), 1, content(i))).collect();
        let (name, bytes) = crafted_stores::pack(&blobs);
        packs.push(root.join("packs").join(name.hex()));
        crafted_stores::write(packs.last().expect("one"), &bytes);
    }
    let (tree, nodes) = tree(n);
    crafted_stores::publish(&root, "x", 0, &tree, &nodes, &[]);
    // A put makes the index.
    put(&root, "other", &[("f", b"other")]);
    (dir, root, packs)
}

fn put(root: &Path, name: &str, files: &[(&str, &[u8])]) {
    let mut artifact = Artifact::new(name, None).expect("a name");
    for (path, bytes) in files {
        artifact.add_bytes(path, bytes).expect("a file");
    }
    artifact.save(&Store::open(root).expect("the store")).expect("a version");
}

/// The time of the fastest of three checks, each with a handle of its own, and the findings.
fn check(root: &Path, scope: &Scope) -> (Duration, usize) {
    let once = || {
        let store = Store::open(root).expect("the store");
        let begun = Instant::now();
        let report = verify(&store, scope, &VerifyOptions::default()).expect("a report");
        (begun.elapsed(), report.findings.len())
    };
    (0..3).map(|_| once()).min().expect("three")
}

fn scopes() -> [Scope; 2] {
    [Scope::All, Scope::Artifact("x".parse().expect("a name"))]
}

/// Prints a line: `damage` is done between the two checks.
fn line(what: &str, how: &str, root: &Path, damage: impl FnOnce(), expected: usize) {
    let whole = scopes().map(|scope| check(root, &scope));
    damage();
    let damaged = scopes().map(|scope| check(root, &scope));
    assert!(whole.iter().all(|(_, found)| *found == 0), "{whole:?}");
    assert!(damaged.iter().all(|(_, found)| *found == expected), "{damaged:?}, expected {expected}");
    let cells: Vec<String> = (whole.iter().zip(&damaged))
        .map(|((a, _), (b, _))| format!("{:.3} s | {:.3} s | {:.2}", secs(*a), secs(*b), secs(*b) / secs(*a)))
        .collect();
    println!("| {what} | {how} | {} |", cells.join(" | "));
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn files(n: usize, damaged: usize) {
    let (_dir, root, packs) = store(n, 10_000);
    let mut places = HashMap::new();
    for path in &packs {
        let bytes = std::fs::read(path).expect("the pack");
        let at = bytes.windows(16).enumerate().filter(|(_, w)| w.starts_with(b"content "));
        places.extend(at.map(|(at, w)| (w.to_vec(), (path.clone(), at))));
    }
    let damage = || {
        let mut changed: HashMap<&PathBuf, Vec<u8>> = HashMap::new();
        for i in (0..n).step_by(n / damaged) {
            let (path, at) = &places[&content(i)];
            changed.entry(path).or_insert_with(|| std::fs::read(path).expect("the pack"))[*at] ^= 1;
        }
        changed.iter().for_each(|(path, bytes)| crafted_stores::write(path, bytes));
    };
    line(&format!("{n} files"), &format!("{damaged} damaged"), &root, damage, damaged);
}

fn packs(n: usize, lost: usize) {
    let (_dir, root, packs) = store(n, 1);
    let damage = || packs[..lost].iter().for_each(|path| std::fs::remove_file(path).expect("it is removed"));
    line(&format!("{n} packs"), &format!("{lost} lost"), &root, damage, lost);
}

/// Versions that differ in one file each and share a damaged one.
fn versions(n: usize, files: usize) {
    let (_dir, root, packs) = store(files, 10_000);
    for i in 0..n {
        let base = Store::open(&root).expect("the store").version("x").expect("the newest");
        let mut patch = base.new_draft();
        patch.add_bytes("changed", format!("{i}")).expect("a file");
        patch.save(base.store()).expect("a patch");
    }
    let damage = || {
        let mut bytes = std::fs::read(&packs[0]).expect("the pack");
        bytes[48] ^= 1;
        crafted_stores::write(&packs[0], &bytes);
    };
    line(&format!("{n} versions of {files} files"), "1 damaged in all", &root, damage, 1);
}

/// A reader that meets one lost content after the other, as a mount does.
fn reads(n: usize) {
    let (_dir, root, packs) = store(n, 1);
    packs[..100].iter().for_each(|path| std::fs::remove_file(path).expect("it is removed"));
    let store = Store::open(&root).expect("the store");
    let read = |i: usize| {
        let content = content(i);
        let begun = Instant::now();
        let found = store.objects().read_small(&Digest::of(&content), content.len() as u64, None);
        assert_eq!(found.is_ok(), i >= 100);
        begun.elapsed()
    };
    let first = read(0);
    let others: Duration = (1..100).map(read).sum();
    let again: Duration = (0..100).map(read).sum();
    let right: Duration = (100..200).map(read).sum();
    println!();
    println!(
        "{n} packs, 100 of them lost: the first read of a lost content takes {:.1} ms, each other {:.3} ms, each again \
         {:.3} ms; a read of a right one {:.3} ms",
        secs(first) * 1e3,
        secs(others) * 1e3 / 99.0,
        secs(again) * 10.0,
        secs(right) * 10.0
    );
}
