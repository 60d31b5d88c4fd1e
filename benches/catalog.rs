//! What commands cost that read names and records: `cargo bench --bench catalog`.
//!
//! 10,000 versions (`CAIRN_BENCH_VERSIONS`) of one artifact, each made by a run of its own that used one version of
//! another; and as many notes about one version. Then time and peak memory of each command: the median of three runs.
//! Works in `$TMPDIR`, or in `CAIRN_BENCH_DIR`, where the store is kept for the next run.

#[allow(dead_code)]
mod support;

use cairn::catalog::note::{self, Note};
use cairn::{Artifact, Run, RunOptions, Store};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use support::process;
use support::settings::{directory, number};

fn main() {
    let (place, _made) = directory().unwrap();
    let versions: u64 = number("CAIRN_BENCH_VERSIONS", 10_000);
    let root = place.join(format!("catalog-{versions}"));
    if !root.exists() {
        let begun = Instant::now();
        fill(&root, versions);
        println!("{versions} versions, runs, uses and notes were recorded in {:.1} s", begun.elapsed().as_secs_f64());
    }
    let middle = format!("images:v{}", versions / 2);
    let digest = digest_of(&root, &middle);
    println!("| command, {versions} versions | ms | peak MiB |\n|---|---|---|");
    let digest = digest.as_str();
    let commands: [&[&str]; 15] = [
        &["list"],
        &["list", "images"],
        &["list", "images", "--limit", "20"],
        &["show", "images"],
        &["show", &middle],
        &["log", "--limit", "20"],
        &["log", "images", "--limit", "20"],
        &["log", "images"],
        &["lineage", &middle],
        &["lineage", "source:v0"],
        &["find", digest],
        &["find", "*.txt", "--artifact", "images"],
        &["show", "noted"],
        &["list", "noted"],
        &["log", "noted"],
    ];
    for command in commands {
        let cairn = || {
            let mut cairn = Command::new(env!("CARGO_BIN_EXE_cairn"));
            cairn.env("CAIRN_STORE", &root).args(command);
            cairn
        };
        let mut runs: Vec<_> = (0..3).map(|_| process::run(&mut cairn()).unwrap()).collect();
        runs.sort_by_key(|run| run.time);
        let shown = command.join(" ").replace(digest, "DIGEST");
        println!("| `{shown}` | {:.0} | {:.1} |", runs[1].time.as_secs_f64() * 1e3, runs[1].peak_kib as f64 / 1024.0);
    }
}

/// `source:v0`, used by each run; `images`, a version by each run; `noted`, with a note for each.
fn fill(root: &Path, versions: u64) {
    let store = Store::init(root, &Default::default()).unwrap();
    for name in ["source", "noted"] {
        Artifact::new(name, None).unwrap().add_bytes("a.txt", name).unwrap().save(&store).unwrap();
    }
    let noted = store.version("noted").unwrap();
    for i in 0..versions {
        let run = Run::new(&store, RunOptions::default().id(format!("run-{i}"))).unwrap();
        run.use_artifact("source:v0").unwrap();
        let mut artifact = Artifact::new("images", None).unwrap();
        artifact.add_bytes("shared.txt", "in each version").unwrap();
        artifact.add_bytes(format!("{}.txt", i % 100), format!("of version {i}")).unwrap();
        run.log_artifact(&artifact).unwrap();
        note::add(&noted, Note { description: Some(format!("note {i}")), ..Note::default() }).unwrap();
    }
}

/// The digest of the file that only this version has.
fn digest_of(root: &Path, version: &str) -> String {
    let store = Store::open(root).unwrap();
    let tree = store.version(version).unwrap().tree().unwrap();
    let own = tree.walk().map(Result::unwrap).find(|visit| visit.path.as_bytes() != b"shared.txt").unwrap();
    match own.entry {
        cairn::manifest::Entry::File { digest, .. } => digest.to_string(),
        _ => unreachable!("the store has files"),
    }
}
