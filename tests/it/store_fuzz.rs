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
//! * `CAIRN_FUZZ_BINARY`, another `cairn` with `cairnfs` beside it; `CAIRN_FUZZ_KEEP=DIR`, where stores with a fault
//!   go.
//!
//! A fault prints its seed, what was done to the store, and by which command it was seen. `CAIRN_FUZZ_SEED=N
//! CAIRN_FUZZ_ROUNDS=1` runs one seed alone. Each seed that found a fault goes to `KEPT`.

use crate::crafted_stores;
use crate::support::{Dice, copy_tree, make_tree, random_bytes, snapshot, text};
use cairn::types::Digest;
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
/// Rounds in the suite, beside the kept seeds.
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
}

fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
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
    fn new() -> Template {
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
            &["init", "store"],
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
        let mut versions = BTreeMap::new();
        for version in ["a:v0", "a:v1", "a:v3", "a:v4", "a:v5", "b:v0", "c:v0"] {
            let output = cairn(root, &["get", version, "known"]).output().unwrap();
            if output.status.code() == Some(6) {
                continue;
            }
            assert!(output.status.success(), "{version}: {}", text(&output.stderr));
            versions.insert(version.to_owned(), snapshot(&root.join("known")));
            std::fs::remove_dir_all(root.join("known")).unwrap();
        }
        assert!(versions.len() >= 6, "{:?}", versions.keys());
        let outside = outside(root);
        Template { dir, versions, outside }
    }
}

/// All that no command may change.
fn outside(dir: &Path) -> Snapshot {
    let mut out = Snapshot::new();
    for name in ["sentinel", "one", "two", "three", "four"] {
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
            // Packs, objects and runs of equal content have equal names; unpublished tokens are told apart by their
            // sizes alone.
            key.push_str(&known.unwrap_or_else(|| if hidden && part.starts_with('.') { "?".into() } else { part }));
        }
        key.push_str(&format!(" {}", if meta.is_file() { meta.len() } else { 0 }));
        let at = path.strip_prefix(store).unwrap().to_string_lossy().into_owned();
        out.push((key, Target { path, at, meta }));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().map(|(_, t)| t).collect()
}

fn remove(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn fifo(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

/// Somewhere for a symlink to lead.
fn lead(dir: &Path, dice: &mut Dice, of: &Path) -> PathBuf {
    match dice.roll(9) {
        0 => dir.join("sentinel"),
        1 => dir.join("sentinel/file"),
        2 => dir.join("sentinel").join("0".repeat(64)),
        3 => of.file_name().unwrap().into(),
        4 => "..".into(),
        5 => "/dev/zero".into(),
        6 => format!(".{}", "1".repeat(32)).into(),
        7 => "x".repeat(3000).into(),
        _ => "../../../sentinel/packs".into(),
    }
}

/// Damages one thing; what was done, for people.
fn mutate(dir: &Path, dice: &mut Dice, effects: &mut Effects) {
    let store = dir.join("store");
    let all = targets(&store);
    if all.is_empty() {
        return;
    }
    // Of each kind alike, else the many files of one kind would take all.
    let kind = dice.roll(10);
    let chosen: Vec<&Target> = match kind {
        0..=1 => all.iter().filter(|t| t.meta.is_dir()).collect(),
        2..=3 => all.iter().filter(|t| t.meta.is_symlink()).collect(),
        4 => all.iter().filter(|t| t.meta.is_file() && t.at.starts_with("packs/")).collect(),
        5 => all
            .iter()
            .filter(|t| t.meta.is_file() && (t.at.starts_with("objects/") || t.at.starts_with("index/")))
            .collect(),
        6 => all.iter().filter(|t| t.meta.is_file() && t.at.ends_with("/manifest")).collect(),
        _ => all.iter().filter(|t| t.meta.is_file()).collect(),
    };
    let Some(target) = chosen.get(dice.pick(chosen.len().max(1))) else { return };
    let before = effects.done.len();
    if target.meta.is_dir() {
        mutate_dir(dir, target, dice, effects, &chosen);
    } else if target.meta.is_symlink() {
        mutate_link(dir, target, dice, effects, &chosen);
    } else if target.meta.is_file() {
        match dice.roll(3) {
            0 => craft_file(&store, target, dice, effects),
            _ => mutate_file(dir, target, dice, effects, &chosen),
        }
    }
    if effects.done.len() == before {
        effects.done.push(format!("nothing to {}", target.at));
    }
}

fn mutate_dir(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    effects.names = true;
    let path = &target.path;
    let done = match dice.roll(9) {
        0 => {
            remove(path);
            "is removed".to_owned()
        }
        1 => {
            remove(path);
            std::fs::write(path, b"a file").unwrap();
            "is a file".into()
        }
        2 => {
            remove(path);
            fifo(path);
            "is a FIFO".into()
        }
        3 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("is a symlink to {:.60}", to.display().to_string())
        }
        4 => {
            let aside = dir.join("sentinel-moved");
            remove(&aside);
            std::fs::rename(path, &aside).unwrap();
            symlink(&aside, path).unwrap();
            "is moved aside, with a symlink to it".into()
        }
        5 => {
            let other = others[dice.pick(others.len())];
            let aside = dir.join("store/aside");
            if other.path.starts_with(path) || path.starts_with(&other.path) {
                return;
            }
            std::fs::rename(path, &aside).unwrap();
            std::fs::rename(&other.path, path).unwrap();
            std::fs::rename(&aside, &other.path).unwrap();
            format!("is exchanged with {}", other.at)
        }
        6 => {
            let name = match dice.roll(6) {
                0 => ".nfs0000000000c0ffee".to_owned(),
                1 => "0".repeat(64),
                2 => "1".repeat(32),
                3 => "v99".into(),
                4 => "000099".into(),
                _ => "s".repeat(255),
            };
            let at = path.join(&name);
            if std::fs::symlink_metadata(&at).is_ok() {
                return;
            }
            match dice.roll(4) {
                0 => std::fs::write(&at, random_bytes(dice.roll(1000), 300)).unwrap(),
                1 => fifo(&at),
                2 => symlink(lead(dir, dice, &at), &at).unwrap(),
                _ => std::fs::create_dir(&at).unwrap(),
            }
            format!("gets a stranger {name}")
        }
        7 => {
            let mode = [0o000, 0o500, 0o777][dice.pick(3)];
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            format!("has mode {mode:o}")
        }
        _ => {
            for entry in std::fs::read_dir(path).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    remove(&entry.path())
                } else {
                    std::fs::remove_file(entry.path()).unwrap()
                }
            }
            "is emptied".into()
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}

fn mutate_link(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    effects.names = true;
    let path = &target.path;
    let text = std::fs::read_link(path).unwrap();
    let done = match dice.roll(7) {
        0 => {
            remove(path);
            "is removed".to_owned()
        }
        1 => {
            remove(path);
            std::fs::write(path, text.as_os_str().as_bytes()).unwrap();
            "is a file".into()
        }
        2 => {
            remove(path);
            if dice.roll(2) == 0 {
                std::fs::create_dir(path).unwrap()
            } else {
                fifo(path)
            }
            "is a directory or a FIFO".into()
        }
        3 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("leads to {:.60}", to.display().to_string())
        }
        4 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read_link(&other.path).unwrap();
            remove(path);
            symlink(&theirs, path).unwrap();
            remove(&other.path);
            symlink(&text, &other.path).unwrap();
            format!("is exchanged with {}", other.at)
        }
        5 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read_link(&other.path).unwrap();
            remove(path);
            symlink(theirs, path).unwrap();
            format!("leads where {} leads", other.at)
        }
        _ => {
            let name = ["v7", "v6", "v99", "000002", "000003", "000099"][dice.pick(6)];
            let at = path.with_file_name(name);
            if std::fs::symlink_metadata(&at).is_ok() {
                return;
            }
            symlink(&text, &at).unwrap();
            format!("is at {name} too")
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}

/// Writes bytes in the place of a file; with the old time if `quietly`.
fn replace(target: &Target, bytes: &[u8], quietly: bool) {
    crafted_stores::write(&target.path, bytes);
    let file = std::fs::File::open(&target.path).unwrap();
    if quietly {
        file.set_modified(target.meta.modified().unwrap()).unwrap();
    }
    std::fs::set_permissions(&target.path, target.meta.permissions()).unwrap();
}

fn mutate_file(dir: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects, others: &[&Target]) {
    let path = &target.path;
    let mut bytes = std::fs::read(path).unwrap();
    let len = bytes.len();
    let quietly = dice.roll(2) == 0;
    let object = target.at.starts_with("objects/");
    effects.names |= !object && !target.at.starts_with("packs/") && !target.at.starts_with("index/");
    // Beginnings and ends are where the structure is.
    let position = |dice: &mut Dice| -> usize {
        match dice.roll(3) {
            0 => dice.pick(len.clamp(1, 64)),
            1 => len - 1 - dice.pick(len.clamp(1, 160)),
            _ => dice.pick(len),
        }
    };
    let done = match dice.roll(16) {
        0..=3 if len > 0 => {
            let n = 1 + dice.roll(3);
            let mut at = Vec::new();
            for _ in 0..n {
                let i = position(dice);
                bytes[i] ^= 1 << dice.roll(8);
                at.push(i);
            }
            replace(target, &bytes, quietly);
            effects.rot |= object && quietly || target.at.starts_with("packs/");
            format!("has bits flipped at {at:?} of {len}, quietly: {quietly}")
        }
        4 => {
            let to = if len == 0 { 0 } else { dice.pick(len) };
            replace(target, &bytes[..to], quietly);
            format!("is cut from {len} to {to}")
        }
        5 => {
            replace(target, &[bytes.clone(), bytes].concat(), quietly);
            "is doubled".into()
        }
        6 => {
            let more = dice.roll(5000) as usize;
            replace(target, &[bytes, random_bytes(more as u64, more)].concat(), quietly);
            format!("has {more} bytes more")
        }
        7 if len >= 8 => {
            let at = position(dice).min(len - 8);
            let value = [u64::MAX, 0x7fff_ffff_ffff_ffff, 0xffff_ffff, 0x7fff_ffff, 0, 1 << 40][dice.pick(6)];
            let width = if dice.roll(2) == 0 { 8 } else { 4 };
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            replace(target, &bytes, quietly);
            effects.rot |= object && quietly || target.at.starts_with("packs/");
            format!("has {value:x} at {at} of {len}, {width} bytes, quietly: {quietly}")
        }
        8 => {
            let other = others[dice.pick(others.len())];
            let theirs = std::fs::read(&other.path).unwrap();
            replace(target, &theirs, quietly);
            replace(other, &bytes, quietly);
            effects.names = true;
            effects.rot |= object && theirs.len() == len;
            format!("is exchanged with {}", other.at)
        }
        9 => {
            remove(path);
            "is removed".into()
        }
        10 => {
            remove(path);
            std::fs::create_dir(path).unwrap();
            "is a directory".into()
        }
        11 => {
            remove(path);
            fifo(path);
            "is a FIFO".into()
        }
        12 => {
            let to = lead(dir, dice, path);
            remove(path);
            symlink(&to, path).unwrap();
            format!("is a symlink to {:.60}", to.display().to_string())
        }
        13 => {
            let aside = dir.join("sentinel-copy");
            crafted_stores::write(&aside, &bytes);
            remove(path);
            symlink(&aside, path).unwrap();
            "is a symlink to a copy of itself".into()
        }
        14 => {
            let mode = [0o000, 0o777, 0o644][dice.pick(3)];
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            format!("has mode {mode:o}")
        }
        _ => {
            let n = len.max(10);
            replace(target, &random_bytes(dice.roll(1000), n), quietly);
            effects.rot |= object && quietly;
            format!("is random_bytes, quietly: {quietly}")
        }
    };
    effects.done.push(format!("{} {done}", target.at));
}

/// Another value for a field of a record.
fn other_value(value: &Value, dice: &mut Dice) -> Value {
    let texts = [
        "",
        "v0",
        "v1",
        "v99",
        "v18446744073709551615",
        "a",
        "../../sentinel",
        "\u{1b}[31m\n",
        "simple",
        "collaborative",
        "patch",
        "2026-01-01T00:00:00Z",
        "99999-13-41",
    ];
    match dice.roll(8) {
        0 => Value::Null,
        1 => json!(u64::MAX),
        2 => json!(dice.roll(100)),
        3 => json!(-1),
        4 => json!(texts[dice.pick(texts.len())]),
        5 => json!("x".repeat(70_000)),
        6 => match value {
            Value::Array(list) => json!([list.as_slice(), list.as_slice()].concat()),
            Value::String(text) if text.len() == 64 => json!(Digest::of(text.as_bytes()).hex()),
            Value::Number(n) => json!(n.as_u64().unwrap_or(0).wrapping_add(1)),
            _ => json!([[[[{"a": [1, 2, 3]}]]]]),
        },
        _ => json!({"id": "r1", "group": null, "job_type": null}),
    }
}

/// Remakes a file so that every checksum is right.
fn craft_file(store: &Path, target: &Target, dice: &mut Dice, effects: &mut Effects) {
    let bytes = std::fs::read(&target.path).unwrap();
    if let Some(mut fields) = crafted_stores::fields(&target.path) {
        let keys: Vec<String> = fields.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = &keys[dice.pick(keys.len())];
        let done = match dice.roll(6) {
            0 => {
                fields.shift_remove(key);
                format!("{key} is left out")
            }
            1 => {
                fields.insert("unknown".into(), json!({"a": 1}));
                "a field is added".into()
            }
            _ => {
                let inner = fields.get_mut(key).and_then(|v| v.as_object_mut()).filter(|o| !o.is_empty());
                match inner {
                    Some(object) if dice.roll(2) == 0 => {
                        let keys: Vec<String> = object.keys().cloned().collect();
                        let inside = &keys[dice.pick(keys.len())];
                        let value = other_value(&object[inside], dice);
                        let done = format!("{key}.{inside} is {:.60}", value.to_string());
                        object.insert(inside.clone(), value);
                        done
                    }
                    _ => {
                        let value = other_value(&fields[key], dice);
                        let done = format!("{key} is {:.60}", value.to_string());
                        fields.insert(key.clone(), value);
                        done
                    }
                }
            }
        };
        replace(target, &crafted_stores::record(&fields), false);
        (effects.crafted, effects.names) = (true, true);
        effects.done.push(format!("{} is signed again: {done}", target.at));
        return;
    }
    if target.at.ends_with("/manifest") && bytes.len() > 80 {
        effects.crafted = true;
        craft_manifest(target, bytes, dice, effects);
    } else if target.at.starts_with("packs/") && bytes.len() > 100 {
        effects.crafted = true;
        craft_pack(store, target, bytes, dice, effects);
    } else if target.at.starts_with("index/") && bytes.len() > 90 {
        craft_run(target, bytes, dice, effects);
    }
}

/// A number or a byte of `bytes[from..to]` becomes another.
fn poke(bytes: &mut [u8], from: usize, to: usize, dice: &mut Dice) -> usize {
    let at = from + dice.pick((to - from).max(1));
    let value = [u64::MAX, 0x7fff_ffff_ffff_ffff, 0xffff_ffff, 0x7fff, 0, 1, 2][dice.pick(7)];
    match dice.roll(4) {
        0 if at + 8 <= to => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        1 if at + 4 <= to => bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]),
        2 if at + 2 <= to => bytes[at..at + 2].copy_from_slice(&value.to_le_bytes()[..2]),
        _ => bytes[at] ^= 1 << dice.roll(8),
    }
    at
}

/// A version's root node becomes another, with its digest, its place in `version.json`, and the file's sum.
fn craft_manifest(target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    // An earlier mutation of this round may have hit the same file.
    let number_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()) as usize);
    let Some(packs) = number_at(8).map(|n| n & 0xffff) else { return };
    let node = 12 + 32 * packs;
    let Some((len, end)) = number_at(node).zip(bytes.len().checked_sub(32)) else { return };
    if node + 4 + len > end {
        return;
    }
    let (from, to, what) = match dice.roll(4) {
        0 => (8, node, "table of packs"),
        1 => (node, node + 4, "length of its node"),
        2 => (node + 4, node + 4 + len, "node"),
        _ => (node + 4 + len, end, "hints"),
    };
    let at = poke(&mut bytes, from, to, dice);
    let sum = Digest::of(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.0);
    let digest = Digest::of(&[b"cairn-node-1\n", &bytes[node + 4..node + 4 + len]].concat());
    let record = target.path.with_file_name("version.json");
    if dice.roll(4) > 0 && crafted_stores::fields(&record).is_some() {
        crafted_stores::resign(&record, |r| drop(r.insert("digest".into(), json!(digest.hex()))));
        effects.names = true;
    }
    replace(target, &bytes, false);
    effects.done.push(format!("{} is made anew: its {what} at {at} of {end}", target.at));
}

/// A pack's footer, or the bytes and the digest of a blob; under the name that is right then, also in the manifests
/// that list it.
fn craft_pack(store: &Path, target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    let Some(trailer) = bytes.len().checked_sub(24) else { return };
    let start = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let count = u32::from_le_bytes(bytes[trailer + 8..trailer + 12].try_into().unwrap()) as usize;
    if start > trailer || count == 0 || start + 44 * count != trailer {
        return;
    }
    let entry = start + 44 * dice.pick(count);
    let offset = u32::from_le_bytes(bytes[entry + 32..entry + 36].try_into().unwrap()) as usize;
    let len = u32::from_le_bytes(bytes[entry + 36..entry + 40].try_into().unwrap()) as usize;
    if offset + 40 + len > start {
        return; // an earlier mutation of this round hit the same file
    }
    let done = match dice.roll(4) {
        0 => format!("an entry at {}", poke(&mut bytes, entry + 32, entry + 44, dice)),
        1 => {
            let end = bytes.len();
            format!("the trailer at {}", poke(&mut bytes, trailer, end, dice))
        }
        2 => {
            poke(&mut bytes, offset + 32, offset + 40, dice);
            bytes.copy_within(offset + 32..offset + 36, entry + 36);
            format!("the header at {offset}, and its entry")
        }
        _ if len > 0 => {
            let at = poke(&mut bytes, offset + 40, offset + 40 + len, dice);
            let body = &bytes[offset + 40..offset + 40 + len];
            let hashed = if bytes[entry + 40] == 2 {
                let n = (u32::from_le_bytes(body[..4].try_into().unwrap()) as usize).min(len - 4);
                Digest::of(&[b"cairn-node-1\n", &body[4..4 + n]].concat())
            } else {
                Digest::of(body)
            };
            if dice.roll(2) == 0 {
                bytes[offset..offset + 32].copy_from_slice(&hashed.0);
                bytes[entry..entry + 32].copy_from_slice(&hashed.0);
            }
            format!("a blob at {at}")
        }
        _ => return,
    };
    let name = Digest::of(&bytes[start..]);
    let old = target.path.file_name().unwrap().to_str().and_then(|hex| Digest::parse(hex).ok());
    remove(&target.path);
    crafted_stores::write(&target.path.with_file_name(name.hex()), &bytes);
    if let (Some(old), true) = (old, dice.roll(4) > 0) {
        for other in targets(store).into_iter().filter(|t| t.meta.is_file() && t.at.ends_with("/manifest")) {
            let mut bytes = std::fs::read(&other.path).unwrap();
            let end = bytes.len().saturating_sub(32);
            let Some(at) = bytes[..end].windows(32).position(|w| w == old.0) else { continue };
            bytes[at..at + 32].copy_from_slice(&name.0);
            let sum = Digest::of(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum.0);
            replace(&other, &bytes, false);
        }
    }
    effects.done.push(format!("{} is made anew: {done} of {}", target.at, bytes.len()));
}

/// An index run, with a right header and name.
fn craft_run(target: &Target, mut bytes: Vec<u8>, dice: &mut Dice, effects: &mut Effects) {
    let end = bytes.len();
    if end < 80 {
        return;
    }
    let at = poke(&mut bytes, 8, end, dice);
    let blocks = (u32::from_le_bytes(bytes[20..24].try_into().unwrap()) as usize).min(4);
    let packs = (u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize).min(64);
    let header = 24 + 16 * blocks + 32;
    if header + 32 + 32 * packs <= end {
        let names = Digest::of(&bytes[header + 32..header + 32 + 32 * packs]);
        bytes[header - 32..header].copy_from_slice(&names.0);
        let mut from = header + 32 + 32 * packs;
        for i in 0..blocks {
            let to = (from + 4092).min(end);
            let sum = Digest::of(&bytes[from..to]);
            bytes[24 + 16 * i + 8..24 + 16 * i + 16].copy_from_slice(&sum.0[..8]);
            from = to;
        }
    }
    if header + 32 > end {
        return;
    }
    let name = Digest::of(&bytes[..header]);
    bytes[header..header + 32].copy_from_slice(&name.0);
    remove(&target.path);
    crafted_stores::write(&target.path.with_file_name(name.hex()), &bytes);
    effects.done.push(format!("{} is made anew, at {at} of {end}", target.at));
}

/// The result of a command.
struct CommandOutcome {
    status: i32,
    out: Vec<u8>,
    err: String,
}

/// One round: a copy of the template, damaged, and what was found wrong.
struct Round<'a> {
    template: &'a Template,
    dir: tempfile::TempDir,
    dice: Dice,
    effects: Effects,
    faults: Vec<String>,
    commands: u64,
}

impl Round<'_> {
    /// Runs one command under its limits; `None` when it is a fault already.
    fn run(&mut self, args: &[&str]) -> Option<CommandOutcome> {
        self.commands += 1;
        let label = format!("cairn {}", args.join(" "));
        let (out, err) = (self.dir.path().join(".out"), self.dir.path().join(".err"));
        let mut command = cairn(self.dir.path(), args);
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for (what, most) in [(libc::RLIMIT_AS, MEMORY), (libc::RLIMIT_FSIZE, FILE), (libc::RLIMIT_CORE, 0)] {
                    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                    if libc::setrlimit(what, &limit) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + TIME;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                self.faults.push(format!("{label}: hangs"));
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let said = text(&std::fs::read(&err).unwrap());
        let short: String = said.chars().take(1500).collect();
        if let Some(signal) = status.signal() {
            self.faults.push(format!("{label}: dies of signal {signal}: {short}"));
            return None;
        }
        let status = status.code().unwrap();
        if said.contains("panicked at") || said.contains("internal error") || status == 101 {
            self.faults.push(format!("{label}: panics: {short}"));
        } else if !(0..=6).contains(&status) {
            self.faults.push(format!("{label}: exit status {status}: {short}"));
        } else if status > 1 && !said.contains("error") {
            self.faults.push(format!("{label}: exit status {status} without an error: {short}"));
        }
        if said.len() > 16 << 10 {
            self.faults.push(format!("{label}: {} bytes on stderr", said.len()));
        }
        Some(CommandOutcome { status, out: std::fs::read(&out).unwrap(), err: said })
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// Whether `tree` may be what `version` gives.
    fn may_be(&self, version: &str, tree: &Snapshot) -> bool {
        let known = &self.template.versions;
        if self.effects.crafted {
            return true; // what was signed anew is believed
        }
        match known.get(version) {
            Some(wanted) if wanted == tree => true,
            // Two numbers, two manifests with their records, or two artifacts were exchanged. A number may have been
            // lost, and be another version's now: then each file is one that was put.
            _ if self.effects.names => {
                let put = |value: &Vec<u8>| known.values().any(|k| k.values().any(|v| v == value));
                tree.values().all(put)
            }
            _ => false,
        }
    }

    /// Reads a version whole, and compares.
    fn get(&mut self, version: &str, sound: bool) {
        let link = ["copy", "auto", "hardlink"][self.dice.pick(3)];
        let Some(ended) = self.run(&["get", version, "out", "--link", link]) else { return };
        let out = self.dir.path().join("out");
        if ended.status == 0 {
            let tree = snapshot(&out);
            // What looks untouched is believed by all but verify.
            if !self.effects.rot && !self.may_be(version, &tree) {
                self.fault(format!(
                    "get {version}: wrong content: {}",
                    difference(self.template.versions.get(version), &tree)
                ));
            } else if sound && !self.may_be(version, &tree) {
                self.fault(format!("get {version} after a clean verify: wrong content"));
            }
        } else if sound && !(ended.status == 6 && self.effects.names) && !self.effects.crafted {
            self.fault(format!("get {version} after a clean verify: exit {}: {}", ended.status, ended.err));
        }
        remove(&out);
    }

    fn cat(&mut self, version: &str, path: &str) {
        let Some(ended) = self.run(&["cat", version, path]) else { return };
        let wanted: Vec<&[u8]> =
            self.template.versions.values().filter_map(|t| t.get(path.as_bytes())).map(|v| &v[2..]).collect();
        let right = self.template.versions[version].get(path.as_bytes()).map(|v| &v[2..]) == Some(&ended.out);
        // Another version's bytes are right where names were exchanged; any bytes are where content was.
        let known = self.effects.names && wanted.contains(&ended.out.as_slice());
        if ended.status == 0 && !right && !known && !self.effects.rot && !self.effects.crafted {
            self.fault(format!("cat {version} {path}: {} wrong bytes", ended.out.len()));
        }
    }

    /// A put that is acknowledged can be read.
    fn put(&mut self, name: &str, source: &str, healed: bool) {
        let Some(ended) = self.run(&["put", name, source, "--json"]) else { return };
        if ended.status != 0 {
            return;
        }
        let Ok(said) = serde_json::from_slice::<Value>(&ended.out) else {
            self.fault(format!("put {name} {source}: its JSON: {}", text(&ended.out)));
            return;
        };
        let version = format!("{name}:{}", said["version"].as_str().unwrap_or("?"));
        let Some(got) = self.run(&["get", &version, "out"]) else { return };
        let out = self.dir.path().join("out");
        let must_be_right = healed || !self.effects.rot;
        if got.status == 0 {
            if must_be_right && snapshot(&out) != snapshot(&self.dir.path().join(source)) {
                let tree = snapshot(&out);
                self.fault(format!(
                    "put {name} {source} is acknowledged as {version}, and get gives something else: {}",
                    difference(Some(&snapshot(&self.dir.path().join(source))), &tree)
                ));
            }
        } else if must_be_right {
            // Rot inside packs and objects that nobody has read yet is not known to a writer.
            self.fault(format!(
                "put {name} {source} is acknowledged as {version}, which cannot be read: exit {}: {}",
                got.status, got.err
            ));
        }
        remove(&out);
    }

    /// Reads a mount.
    fn mount(&mut self) {
        let dir = self.dir.path().to_path_buf();
        let at = dir.join("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let versions = ["a:v0", "a:v1", "a:v4", "c:v0"];
        let version = versions[self.dice.pick(versions.len())];
        let whole = self.dice.roll(3) == 0;
        let args: Vec<&str> = if whole { vec!["mount", "mnt", "--no-stage"] } else { vec!["mount", "mnt", version] };
        let ended = self.run(&args);
        if ended.as_ref().is_some_and(|e| e.status == 0) {
            let root = if whole { at.join(version.replace(':', "/")) } else { at.clone() };
            let (send, receive) = std::sync::mpsc::channel();
            // A read that hangs must not take the test with it.
            let reader = std::thread::spawn(move || send.send(read_tree(&root)));
            match receive.recv_timeout(TIME) {
                Ok(Some(tree)) => {
                    if !self.effects.rot && !self.may_be(version, &tree) {
                        self.fault(format!(
                            "mount {version}: wrong content: {}",
                            difference(self.template.versions.get(version), &tree)
                        ));
                    }
                }
                Ok(None) => {}
                Err(_) => self.fault(format!("mount {version}: a read hangs")),
            }
            let mut ended = self.run(&["umount", "mnt"]);
            // A child that another thread forks holds the reader's descriptors until its exec.
            for _ in 0..20 {
                if ended.as_ref().is_none_or(|e| e.status != 3) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
                ended = self.run(&["umount", "mnt"]);
            }
            if let Some(ended) = ended
                && ended.status != 0
            {
                self.fault(format!("umount: exit {}: {}", ended.status, ended.err));
            }
            drop(reader);
        }
        let path = std::ffi::CString::new(at.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string; what is not mounted is an error.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }

    /// One command of those that read or write, chosen at random.
    fn any(&mut self) {
        let versions: Vec<String> = self.template.versions.keys().cloned().collect();
        let version = versions[self.dice.pick(versions.len())].clone();
        let v = version.as_str();
        match self.dice.roll(30) {
            0 => drop(self.run(&["list"])),
            1 => drop(self.run(&["list", "a"])),
            2 => drop(self.run(&["show", v])),
            3 => drop(self.run(&["ls", v, "-R"])),
            4 => drop(self.run(&["ls", v, "-l", "--json"])),
            5 => drop(self.run(&["diff", "a:v0", "a:v1"])),
            6 => drop(self.run(&["diff", v, "./two"])),
            7 => drop(self.run(&["drafts", "--json"])),
            8 => drop(self.run(&["draft", "a", "open"])),
            9 => drop(self.run(&["locks"])),
            10 => drop(self.run(&["verify", "--quick"])),
            11 => drop(self.run(&["verify", "a"])),
            12 => drop(self.run(&["verify", v])),
            13 => {
                let path = ["x.txt", "d/large.bin", "big", "only.txt"][self.dice.pick(4)];
                self.cat(v, path);
            }
            14..=15 => self.get(v, false),
            16 => drop(self.run(&["alias", v, "prod"])),
            17 => drop(self.run(&["unalias", "a", "prod"])),
            18 => drop(self.run(&["copy", v, "copied"])),
            19 => drop(self.run(&["patch", "a", "four/part", "--at", "by-patch"])),
            20 => drop(self.run(&["upsert", "a", "two", "--distributed-id", "open", "--run", "r3"])),
            21 => drop(self.run(&["finish", "a", "--distributed-id", "open", "--on-conflict", "latest"])),
            22 => drop(self.run(&["draft", "a", "open", "--drop-run", "r1"])),
            23 => drop(self.run(&["rm", "c:v0", "--force"])),
            24 => drop(self.run(&["put", "a", "four", "--tag", "t", "--alias", "prod"])),
            25 => drop(self.run(&["upsert", "c", "one", "--distributed-id", "other", "--run", "r3"])),
            26 => drop(self.run(&["show", v, "--json"])),
            27 => drop(self.run(&["put", "b", "three"])),
            28 => drop(self.run(&["init", "store"])),
            _ => self.mount(),
        }
    }

    fn play(&mut self) {
        for _ in 0..1 + self.dice.roll(3) {
            mutate(self.dir.path(), &mut self.dice, &mut self.effects);
        }
        if self.dice.roll(2) == 0 {
            self.effects.cache = true;
        } else {
            remove(&self.dir.path().join("cache"));
        }
        let before = self.dice.roll(4);
        for _ in 0..before {
            self.any();
        }
        let verified = self.run(&["verify"]);
        let sound = verified.as_ref().is_some_and(|v| v.status == 0);
        // Commands that ran before may have removed versions or aliases.
        if sound && before == 0 {
            let versions: Vec<String> = self.template.versions.keys().cloned().collect();
            for version in &versions {
                self.get(version, true);
            }
        }
        let put = ["one", "two", "four"][self.dice.pick(3)];
        self.put("a", put, HEALS);
        self.put("fresh", put, HEALS);
        for _ in 0..2 + self.dice.roll(3) {
            self.any();
        }
        let outside = outside(self.dir.path());
        if outside != self.template.outside {
            self.fault(format!(
                "something outside the store changed: {}",
                difference(Some(&self.template.outside), &outside)
            ));
        }
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = [
                "store",
                "cache",
                "one",
                "two",
                "three",
                "four",
                "sentinel",
                "sentinel-moved",
                "sentinel-copy",
                "mnt",
                ".out",
                ".err",
            ];
            // What a failed get has written is kept for its repetition.
            if !known.contains(&name.as_str()) && !name.starts_with(".out.cairn-") {
                self.fault(format!("{name} is left beside the store"));
            }
        }
    }
}

/// Whether a writer stores again what verify found damaged before.
const HEALS: bool = true;

/// A tree through a mount; `None` when something in it is an error.
fn read_tree(root: &Path) -> Option<Snapshot> {
    let mut out = Snapshot::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.ok()?;
        let path = entry.path().strip_prefix(root).ok()?.as_os_str().as_bytes().to_vec();
        let kind = entry.file_type();
        let value = if kind.is_dir() {
            b"dir".to_vec()
        } else if kind.is_symlink() {
            [b"link ", std::fs::read_link(entry.path()).ok()?.as_os_str().as_bytes()].concat()
        } else if kind.is_fifo() {
            return None;
        } else {
            let exec = entry.metadata().ok()?.permissions().mode() & 0o111 != 0;
            [if exec { b"x ".as_slice() } else { b"- ".as_slice() }, &std::fs::read(entry.path()).ok()?].concat()
        };
        out.insert(path, value);
    }
    Some(out)
}

/// The first thing that differs.
fn difference(wanted: Option<&Snapshot>, found: &Snapshot) -> String {
    let Some(wanted) = wanted else { return "nothing was expected".into() };
    let show = |v: Option<&Vec<u8>>| {
        v.map_or("nothing".to_owned(), |v| {
            format!("{} bytes: {:.80}", v.len(), String::from_utf8_lossy(&v[..v.len().min(80)]))
        })
    };
    let path = wanted.keys().chain(found.keys()).find(|k| wanted.get(*k) != found.get(*k));
    path.map_or("nothing differs".into(), |p| {
        format!("{}: expected {}, found {}", String::from_utf8_lossy(p), show(wanted.get(p)), show(found.get(p)))
    })
}

/// One round; its faults, what was done, and how many commands ran.
fn round(template: &Template, seed: u64) -> (Vec<String>, Effects, u64) {
    let dir = memory_dir();
    for name in ["store", "cache", "one", "two", "three", "four", "sentinel"] {
        let from = template.dir.path().join(name);
        // Where files' times prove nothing, as in memory, there is no stat cache.
        if from.exists() {
            copy_tree(&from, &dir.path().join(name));
        }
    }
    let mut round = Round {
        template,
        dir,
        dice: Dice(seed.wrapping_mul(2) + 1),
        effects: Effects::default(),
        faults: Vec::new(),
        commands: 0,
    };
    round.play();
    if !round.faults.is_empty()
        && let Some(keep) = std::env::var_os("CAIRN_FUZZ_KEEP")
    {
        copy_tree(round.dir.path(), &Path::new(&keep).join(format!("seed-{seed}")));
    }
    (round.faults, round.effects, round.commands)
}

#[test]
fn store_fuzz_damaged_stores_give_right_bytes_or_errors_and_change_nothing_else() {
    let number = |name: &str| {
        std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (rounds, seconds) = (number("CAIRN_FUZZ_ROUNDS"), number("CAIRN_FUZZ_SECONDS"));
    let long = rounds.is_some() || seconds.is_some();
    let begin = number("CAIRN_FUZZ_SEED").unwrap_or(1);
    let end = if seconds.is_some() { rounds.unwrap_or(u64::MAX) } else { rounds.unwrap_or(FEW) };
    let until = seconds.map(|s| Instant::now() + Duration::from_secs(s));
    let kept: &[u64] = if long { &[] } else { KEPT };
    let template = Template::new();
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
                    let seed = kept.get(i as usize).copied().unwrap_or_else(|| begin + (i - kept.len() as u64));
                    let (faults, effects, ran) = round(&template, seed);
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
    let template = Template::new();
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
            let said = text(&output.stderr);
            assert!(
                !said.contains("panicked") && output.status.code().is_some_and(|c| c <= 6),
                "{dir:?} {args:?}: {said}"
            );
            let after = snapshot(&at.path().join("sentinel"));
            assert!(before == after, "{dir:?} {args:?}: {} {said}", difference(Some(&before), &after));
            commands += 1;
        }
    }
    println!("{} directories, {commands} commands", dirs.len());
}
