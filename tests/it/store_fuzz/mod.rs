//! Whole stores, damaged at random: any file mutated, cut, doubled or exchanged; files and directories replaced by
//! symlinks, FIFOs and each other; records and packs remade so that their checksums are right and what they say is
//! wrong. Then commands that read and write run on it, each under a limit of memory and of time. What must hold:
//! * no command panics, dies of a signal, hangs, or ends with an undocumented exit status;
//! * what `get`, `cat` and a mount give is what was put, or an error;
//! * nothing outside the store changes: not the directory that symlinks lead to, not the sources;
//! * after a `verify` without findings all that was acknowledged can be read;
//! * a put that is acknowledged after the damage can be read, and is right.
//!
//! Everything follows from a seed (but for tokens and times, on which no choice depends). The suite runs the kept seeds
//! and a few more. Long runs: `CAIRN_FUZZ_SECONDS=600 cargo test --test it -- store_fuzz --nocapture`, with
//! * `CAIRN_FUZZ_ROUNDS=5000` or `CAIRN_FUZZ_SECONDS=3600`, whichever ends first;
//! * `CAIRN_FUZZ_SEED=1`, the first seed; `CAIRN_FUZZ_JOBS=2`, the threads;
//! * `CAIRN_FUZZ_BINARY`, another `cairn`, with `cairnfs` next to it; `CAIRN_FUZZ_KEEP=DIR`, where stores with a fault
//!   go.
//!
//! A fault prints its seed, what was done to the store, and by which command it was seen. `CAIRN_FUZZ_SEED=N
//! CAIRN_FUZZ_ROUNDS=1` runs one seed alone. Each seed that found a fault goes to `KEPT`, or, from
//! [`FIRST_WITH_PARTS`] on, to `KEPT_WITH_PARTS`: the rounds of those begin with a store that has composed files, too;
//! from [`FIRST_OF_ALL`] on, with one that also compresses files of any size (`KEPT_OF_ALL`).

mod crafted;
mod mutations;
mod round;

use crate::crafted_stores;
use crate::support::{Dice, copy_tree, make_tree, memory_dir, random_bytes, snapshot, text};
use cairn::types::Digest;
use crafted::craft_file;
use mutations::{mutate, remove, replace};
use round::{difference, round};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seeds that found a fault, which is mended.
const KEPT: &[u64] = &[29, 32, 41, 77, 205, 286, 311, 541, 1052, 1191, 1362, 901874];

/// The rounds of seeds from this one on begin with a store that has composed files.
const FIRST_WITH_PARTS: u64 = 2_000_000;

/// As [`KEPT`], of these.
const KEPT_WITH_PARTS: &[u64] = &[2_000_125];

/// The rounds of seeds from this one on begin with such a store that compresses files of any size.
const FIRST_OF_ALL: u64 = 4_000_000;

/// As [`KEPT`], of these.
const KEPT_OF_ALL: &[u64] = &[];

/// Rounds in the suite, in addition to the kept seeds.
const FEW: u64 = 12;

/// What one command may take.
const MEMORY: u64 = 2 << 30;

const FILE: u64 = 256 << 20;

const TIME: Duration = Duration::from_secs(60);

type Snapshot = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store that every round begins with, and what is known of it.
struct Template {
    dir: tempfile::TempDir,
    versions: BTreeMap<String, Snapshot>,
    outside: Snapshot,
    has_parts: bool,
}

/// What the store of a template has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    Objects,
    /// Composed files, too.
    Parts,
    /// The same, and its files are compressed whatever their size.
    CompressedFiles,
}

/// The directories with what is put. Nothing in them may change.
const SOURCES: [&str; 8] = ["one", "two", "three", "four", "grown0", "grown1", "grown2", "grown3"];

/// A file that grows: its parts are an object, a small packed one, and a long one that is compressed.
fn grown(steps: usize) -> Vec<u8> {
    let lines =
        |from: u32, to: u32| (from..to).flat_map(|i| format!("{i}: {}\n", i.wrapping_mul(i) % 9973).into_bytes());
    let mut out = random_bytes(21, 700_000);
    out.extend(lines(0, 50_000));
    if steps > 0 {
        out.extend(lines(100_000, 120_000));
    }
    if steps > 1 {
        out.splice(600_000..600_000, random_bytes(22, 3000));
        out.extend(random_bytes(23, 140_000));
    }
    if steps > 2 {
        out.splice(1_300_000..1_300_000, lines(200_000, 215_000));
    }
    out
}

/// A command on the store below `dir`.
fn cairn(dir: &Path, args: &[&str]) -> Command {
    let binary = std::env::var_os("CAIRN_FUZZ_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_cairn").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.as_bytes().starts_with(b"CAIRN_")) {
        command.env_remove(name);
    }
    command.env("CAIRN_STORE", dir.join("store")).env("CAIRN_CACHE_DIR", dir.join("cache")).env("RUST_BACKTRACE", "0");
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command
}

impl Template {
    fn new(has: Has) -> Template {
        let has_parts = has != Has::Objects;
        let compression = if has == Has::CompressedFiles { "all" } else { "auto" };
        let dir = memory_dir();
        let root = dir.path();
        let large = random_bytes(7, 140_000);
        make_tree(
            &root.join("one"),
            &[
                ("x.txt", b"one"),
                ("d/y.txt", b"two"),
                ("d/large.bin", &large),
                ("empty/", b""),
                ("run.sh", b"#!/bin/sh\n"),
            ],
        );
        std::fs::set_permissions(root.join("one/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("x.txt", root.join("one/link")).unwrap();
        for i in 0..120 {
            std::fs::write(root.join(format!("one/d/entry-{i:05}-{}", "n".repeat(20))), format!("{}", i % 7)).unwrap();
        }
        copy_tree(&root.join("one"), &root.join("two"));
        make_tree(
            &root.join("two"),
            &[("x.txt", b"changed"), ("d/more.bin", &random_bytes(8, 3000)), ("large2", &random_bytes(9, 131_072))],
        );
        make_tree(&root.join("three"), &[("only.txt", b"to be removed"), ("new", b"new")]);
        make_tree(&root.join("four"), &[("part", b"of a collaboration"), ("big", &random_bytes(10, 200_000))]);
        make_tree(
            &root.join("sentinel"),
            &[
                ("file", b"not the store's"),
                ("packs/stays", b"stays"),
                ("v0/version.json", b"{}"),
                ("ab/cd", &random_bytes(11, 5000)),
            ],
        );
        std::fs::write(root.join("sentinel").join("0".repeat(64)), b"like a digest").unwrap();
        let steps: &[&[&str]] = &[
            &["init", "store", "--compression", compression],
            &["put", "a", "one", "--alias", "prod", "--description", "the first", "--metadata", r#"{"k": 1}"#],
            &["put", "a", "two"],
            &["put", "a", "three"],
            &["put", "a", "two", "--tag", "noted"],
            &["patch", "a", "three/new", "--at", "patched"],
            &["put", "a", "two", "--new-version"],
            &["put", "a", "two", "--tag", "noted"],
            &["alias", "a:v1", "prod"],
            &["rm", "a:v2"],
            &["put", "b", "three"],
            &["upsert", "a", "four", "--distributed-id", "open", "--run", "r1"],
            &["upsert", "a", "three", "--distributed-id", "open", "--run", "r2"],
            &["upsert", "c", "four", "--distributed-id", "done", "--run", "r1"],
            &["upsert", "c", "three", "--distributed-id", "done", "--run", "r2"],
            &["finish", "c", "--distributed-id", "done"],
        ];
        for args in steps {
            let output = cairn(root, args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        }
        for steps in (0..4).filter(|_| has_parts) {
            let source = format!("grown{steps}");
            make_tree(&root.join(&source), &[("g", &grown(steps))]);
            if steps < 3 {
                let output = cairn(root, &["put", "g", &source]).output().unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
            }
        }
        let mut versions = BTreeMap::new();
        let all = ["a:v0", "a:v1", "a:v3", "a:v4", "a:v5", "b:v0", "c:v0", "g:v0", "g:v1", "g:v2"];
        for version in &all[..if has_parts { 10 } else { 7 }] {
            let output = cairn(root, &["get", version, "known"]).output().unwrap();
            if output.status.code() == Some(6) {
                continue;
            }
            assert!(output.status.success(), "{version}: {}", text(&output.stderr));
            versions.insert((*version).to_owned(), snapshot(&root.join("known")));
            std::fs::remove_dir_all(root.join("known")).unwrap();
        }
        assert!(versions.len() >= 6, "{:?}", versions.keys());
        let outside = outside(root);
        if has_parts {
            let config = std::fs::read_to_string(root.join("store/cairn.json")).unwrap();
            assert!(config.contains("compressed-parts"), "g:v1 has such a part: {config}");
            assert_eq!(config.contains("compressed-files"), has == Has::CompressedFiles, "{config}");
        }
        Template { dir, versions, outside, has_parts }
    }
}

/// All that no command may change.
fn outside(dir: &Path) -> Snapshot {
    let mut out = Snapshot::new();
    for name in ["sentinel"].into_iter().chain(SOURCES).filter(|name| dir.join(name).exists()) {
        for (path, value) in snapshot(&dir.join(name)) {
            let at = dir.join(name).join(OsStr::from_bytes(&path));
            let meta = std::fs::symlink_metadata(at).unwrap();
            let more = format!(" {:o} {}", meta.mode(), meta.nlink());
            out.insert([name.as_bytes(), b"/", &path].concat(), [value, more.into_bytes()].concat());
        }
    }
    out
}

/// What the damage of a round leaves to be asked for.
#[derive(Default, Debug)]
struct Effects {
    /// What was done.
    done: Vec<String>,
    /// Numbers, links or whole names were moved: a version can be gone, or be another.
    names: bool,
    /// A record or a pack was remade with right checksums: what it says is believed.
    crafted: bool,
    /// Content changed behind an unchanged size and time: only verify reads it all.
    rot: bool,
    /// The sources' cache can be wrong.
    cache: bool,
}

/// One thing in the store that can be damaged.
struct Target {
    path: PathBuf,
    at: String,
    meta: std::fs::Metadata,
}

/// Everything in the store, in an order in which no token and no time counts: by the names of the numbers that lead
/// there.
fn targets(store: &Path) -> Vec<Target> {
    let mut out: Vec<(String, Target)> = Vec::new();
    let mut names: BTreeMap<PathBuf, String> = BTreeMap::new();
    let all: Vec<PathBuf> =
        walkdir::WalkDir::new(store).min_depth(1).into_iter().flatten().map(|e| e.into_path()).collect();
    for path in &all {
        if let Ok(text) = std::fs::read_link(path) {
            names.insert(path.parent().unwrap().join(text), path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    for path in all {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let mut key = String::new();
        let mut at = store.to_path_buf();
        for part in path.strip_prefix(store).unwrap().components() {
            at.push(part);
            let part = part.as_os_str().to_string_lossy().into_owned();
            let hidden = part.len() >= 32 && part.trim_start_matches('.').bytes().all(|b| b.is_ascii_hexdigit());
            let known = names.get(&at).map(|n| format!("{n}!"));
            key.push('/');
            // Packs, objects and runs of equal content have equal names; unpublished tokens differ only by their
            // sizes.
            key.push_str(&known.unwrap_or_else(|| if hidden && part.starts_with('.') { "?".into() } else { part }));
        }
        key.push_str(&format!(" {}", if meta.is_file() { meta.len() } else { 0 }));
        let at = path.strip_prefix(store).unwrap().to_string_lossy().into_owned();
        out.push((key, Target { path, at, meta }));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().map(|(_, t)| t).collect()
}

#[test]
fn store_fuzz_damaged_stores_give_right_bytes_or_errors_and_change_nothing_else() {
    let number = |name: &str| {
        std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (rounds, seconds) = (number("CAIRN_FUZZ_ROUNDS"), number("CAIRN_FUZZ_SECONDS"));
    let long = rounds.is_some() || seconds.is_some();
    let begin = number("CAIRN_FUZZ_SEED");
    let end = if seconds.is_some() { rounds.unwrap_or(u64::MAX) } else { rounds.unwrap_or(FEW) };
    let until = seconds.map(|s| Instant::now() + Duration::from_secs(s));
    // The suite runs the first seeds of all.
    let first = [1, FIRST_WITH_PARTS, FIRST_OF_ALL].into_iter().flat_map(|first| first..first + FEW);
    let kept = KEPT.iter().chain(KEPT_WITH_PARTS).chain(KEPT_OF_ALL).copied();
    let kept: Vec<u64> = kept.chain(first).filter(|_| !long).collect();
    // A long run takes turns, if it begins nowhere.
    let seed = |n: u64| match begin {
        Some(begin) => begin + n,
        None => [FIRST_WITH_PARTS, FIRST_OF_ALL][(n % 2) as usize] + n / 2,
    };
    let end = if long { end } else { 0 };
    let (plain, with_parts) = (Template::new(Has::Objects), Template::new(Has::Parts));
    let of_all = Template::new(Has::CompressedFiles);
    let (next, commands, clean) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let found = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for _ in 0..number("CAIRN_FUZZ_JOBS").unwrap_or(2) {
            s.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let over = i >= end.saturating_add(kept.len() as u64) || until.is_some_and(|u| Instant::now() > u);
                    if over || (!long && found.lock().unwrap().len() > 2) {
                        return;
                    }
                    let seed = kept.get(i as usize).copied().unwrap_or_else(|| seed(i - kept.len() as u64));
                    let template = match seed {
                        ..FIRST_WITH_PARTS => &plain,
                        FIRST_WITH_PARTS..FIRST_OF_ALL => &with_parts,
                        _ => &of_all,
                    };
                    let (faults, effects, ran) = round(template, seed);
                    commands.fetch_add(ran, Ordering::Relaxed);
                    if faults.is_empty() {
                        clean.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let all = format!("seed {seed}: {}\n  {}", effects.done.join("; "), faults.join("\n  "));
                        println!("{all}");
                        found.lock().unwrap().push(all);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    println!(
        "store_fuzz: {} rounds, {} commands, {} rounds with faults",
        clean.into_inner() + found.len() as u64,
        commands.into_inner(),
        found.len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_command_writes_behind_a_symlink_in_the_place_of_a_directory_of_the_store() {
    let template = Template::new(Has::Objects);
    let store = template.dir.path().join("store");
    let dirs: Vec<PathBuf> = walkdir::WalkDir::new(&store)
        .min_depth(1)
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_dir())
        .map(|e| e.path().strip_prefix(&store).unwrap().to_owned())
        .filter(|d| !d.to_str().unwrap().contains("/.")) // of published versions nothing is written
        .collect();
    assert!(dirs.len() > 20, "{dirs:?}");
    let mut commands = 0;
    for dir in &dirs {
        let at = memory_dir();
        for name in ["store", "one", "two", "three", "four", "sentinel"] {
            copy_tree(&template.dir.path().join(name), &at.path().join(name));
        }
        let place = at.path().join("store").join(dir);
        // The directory itself, somewhere else: what is in it is as it should be, and still nothing is written there.
        let aside = at.path().join("sentinel/aside");
        std::fs::rename(&place, &aside).unwrap();
        symlink(&aside, &place).unwrap();
        let before = snapshot(&at.path().join("sentinel"));
        for args in [
            &["put", "a", "four"][..],
            &["put", "b", "one", "--new-version", "--alias", "prod"],
            &["alias", "a:v0", "prod"],
            &["upsert", "a", "one", "--distributed-id", "open", "--run", "r1"],
            &["patch", "a", "two/large2", "--at", "p"],
            &["finish", "a", "--distributed-id", "open", "--on-conflict", "latest"],
            &["put", "a", "two", "--tag", "t"],
            &["rm", "a:v0", "--force"],
        ] {
            let output = cairn(at.path(), args).output().unwrap();
            let stderr = text(&output.stderr);
            assert!(
                !stderr.contains("panicked") && output.status.code().is_some_and(|c| c <= 6),
                "{dir:?} {args:?}: {stderr}"
            );
            let after = snapshot(&at.path().join("sentinel"));
            assert!(before == after, "{dir:?} {args:?}: {} {stderr}", difference(Some(&before), &after));
            commands += 1;
        }
    }
    println!("{} directories, {commands} commands", dirs.len());
}
