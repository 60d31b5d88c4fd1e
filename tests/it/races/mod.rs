//! Many writers at once; writers that die, stop, are fenced or lose replies; sources that change; full disks. In all of
//! them acknowledged versions are complete, numbers are dense, and the same command, run again, succeeds (L7, L8, L10,
//! L14).

mod at_once;
mod killed_and_fenced;
mod replies_and_sources;

use crate::support::{
    TestStore, copy_tree, files, make_tree, memory_dir, random_bytes, resume, shim, snapshot, text, wait_stopped,
};
use cairn::catalog::remove::{self, Force};
use cairn::catalog::{VersionSpec, alias};
use cairn::internals::catalog::removal;
use cairn::internals::commit::Artifact;
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::view::{CheckoutOptions, checkout};
use cairn::{Kind, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROCESSES: usize = 8;

fn name(text: &str) -> ArtifactName {
    ArtifactName::parse(text).unwrap()
}

/// A command with a fault at a step. Without a stat cache: whether a file is remembered, which takes steps, depends on
/// how old it is.
fn faulty(test_store: &TestStore, args: &[&str], fault: &str) -> Command {
    let mut command = test_store.cairn(args);
    command.env("CAIRN_FAULT", fault).env("CAIRN_STAT_CACHE", "off");
    command
}

fn start(test_store: &TestStore, args: &[&str], fault: &str) -> Child {
    faulty(test_store, args, fault).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The number in `put --json`'s answer.
fn number(answer: &serde_json::Value) -> u64 {
    answer["version"].as_str().unwrap().trim_start_matches('v').parse().unwrap()
}

fn numbers(test_store: &TestStore, artifact: &str) -> Vec<u64> {
    let dir = test_store.store_path().join("artifacts").join(artifact).join("versions");
    let mut out: Vec<u64> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_prefix('v')?.parse().ok())
        .collect();
    out.sort_unstable();
    out
}

fn dense(test_store: &TestStore, artifact: &str, count: usize) {
    assert_eq!(
        numbers(test_store, artifact),
        (0..count as u64).collect::<Vec<_>>(),
        "the numbers of {artifact} are dense"
    );
}

fn holds(test_store: &TestStore, spec: &str, source: &str) {
    let version = cairn::resolve(&test_store.store(), &VersionSpec::parse(spec).unwrap()).unwrap();
    let out = tempfile::tempdir_in(test_store.dir.path()).unwrap();
    checkout(&version, &out.path().join("got"), &CheckoutOptions::default()).unwrap();
    assert!(snapshot(&out.path().join("got")) == snapshot(&test_store.path(source)), "{spec} holds {source}");
}

fn work_is_empty(test_store: &TestStore) {
    let left: Vec<_> =
        std::fs::read_dir(test_store.store_path().join("work")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left in work/: {left:?}");
}

/// Records `.T` of an artifact's directories that no number names: what refused or fenced writers left.
fn unpublished(test_store: &TestStore, artifact: &str) -> usize {
    let mut left = 0;
    for dir in walkdir::WalkDir::new(test_store.store_path().join("artifacts").join(artifact))
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_dir())
    {
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        let claimed: BTreeSet<_> = names.iter().filter_map(|p| std::fs::read_link(p).ok()).collect();
        left += names
            .iter()
            .filter(|p| {
                p.file_name().unwrap().to_str().unwrap().starts_with('.')
                    && !claimed.contains(Path::new(p.file_name().unwrap()))
            })
            .count();
    }
    left
}

/// The steps of a put at which its token has what `when` looks for: found by killing a copy at each.
fn find_step(from: &TestStore, args: &[&str], when: impl Fn(&Path) -> bool) -> u64 {
    let mut found = None;
    for step in 1.. {
        let test_store = TestStore { dir: memory_dir() };
        for entry in std::fs::read_dir(from.dir.path()).unwrap() {
            let entry = entry.unwrap();
            copy_tree(&entry.path(), &test_store.path(entry.file_name().to_str().unwrap()));
        }
        let output = faulty(&test_store, args, &format!("kill:{step}")).output().unwrap();
        if output.status.signal() != Some(9) {
            break;
        }
        let tokens: Vec<_> =
            std::fs::read_dir(test_store.store_path().join("work")).unwrap().map(|e| e.unwrap().path()).collect();
        if tokens.iter().any(|t| when(t)) {
            found = Some(step);
        }
    }
    found.expect("there is such a step")
}

fn outcome(token: &Path) -> Option<String> {
    Some(std::fs::read_link(token.join("outcome")).ok()?.to_str()?.to_owned())
}

/// A store in memory with `a:v0` and two sources.
fn one_version() -> TestStore {
    let test_store = TestStore::in_memory();
    make_tree(&test_store.path("one"), &[("f", b"one")]);
    make_tree(&test_store.path("two"), &[("f", b"two")]);
    make_tree(&test_store.path("three"), &[("f", b"three")]);
    test_store.ok(&["put", "a", "one"]);
    test_store
}
