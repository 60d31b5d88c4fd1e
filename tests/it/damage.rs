//! Damage in every file of a store: flipped, cut, deleted, replaced. `verify` names it, readers give right bytes or an
//! error and never wrong ones, nothing panics, and what is put back is whole again (L6, L15, F1 to F12).
//!
//! `CAIRN_DAMAGE=all` flips every byte of every file; without, long files are sampled.

use crate::support::{copy_tree, make_tree, random_bytes, snapshot};
use cairn::catalog::{Draft, VersionSpec, alias};
use cairn::internals::commit::{Artifact, SaveOptions};
use cairn::internals::objects::Content;
use cairn::manifest::Entry;
use cairn::types::{AliasName, ArtifactName, Digest, DistributedId, VersionNumber};
use cairn::verify::{Report, Scope, VerifyOptions, code, verify};
use cairn::view::{CheckoutOptions, checkout};
use cairn::{Kind, Store, Version};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Files up to this long have each byte flipped.
const SHORT: usize = 360;
/// Of longer ones, this many positions.
const SAMPLED: usize = 64;

/// What a version is made of: path, what stands there, its content's digest.
type Entries = Vec<(String, Entry)>;

/// What is known of the store before it is damaged.
struct Known {
    versions: Vec<(ArtifactName, VersionNumber, Digest, Entries)>,
    trees: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// A temporary directory in memory where there is one: nothing here depends on the disk, and thousands of small changes
/// do take time on one.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
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

/// A store with everything in it that a store can hold by now, and its sources beside it.
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
    cairn::Run::new(store, cairn::RunOptions { id: Some(id.into()), ..Default::default() }).unwrap()
}

fn entries(version: &Version) -> cairn::Result<Entries> {
    version.entries()?.map(|v| v.map(|v| (v.path.to_string(), v.entry))).collect()
}

fn know(root: &Path, dir: &Path) -> Known {
    let store = open(root);
    let mut known = Known { versions: Vec::new(), trees: BTreeMap::new() };
    for artifact in cairn::catalog::artifact::all(&store).unwrap() {
        for version in cairn::catalog::version::versions(&store, &artifact).unwrap() {
            known.versions.push((artifact.clone(), version.number(), version.digest(), entries(&version).unwrap()));
            let out = dir.join("known");
            checkout(&version, &out, &CheckoutOptions::default()).unwrap();
            known.trees.insert(version.to_string(), snapshot(&out));
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
    known
}

/// One way to damage a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
        old_mtime: bool,
    },
    Cut {
        to: usize,
        old_mtime: bool,
    },
    Delete,
    Directory,
    /// A symlink to a copy of the very bytes.
    SymlinkToCopy,
    /// A symlink to itself.
    SymlinkLoop,
    /// For symlinks: another text.
    Text {
        at: usize,
        bit: u8,
    },
    /// For symlinks: a regular file with the text in it.
    File,
}

/// What stood at a path, to be put back.
struct Original {
    path: PathBuf,
    bytes: Vec<u8>,
    meta: std::fs::Metadata,
    link: Option<PathBuf>,
}

impl Original {
    fn of(path: &Path) -> Original {
        let meta = std::fs::symlink_metadata(path).unwrap();
        let link = meta.is_symlink().then(|| std::fs::read_link(path).unwrap());
        let bytes = if link.is_some() { Vec::new() } else { std::fs::read(path).unwrap() };
        Original { path: path.to_path_buf(), bytes, meta, link }
    }

    fn clear(&self) {
        match std::fs::symlink_metadata(&self.path) {
            Ok(m) if m.is_dir() => std::fs::remove_dir(&self.path).unwrap(),
            Ok(_) => std::fs::remove_file(&self.path).unwrap(),
            Err(_) => {}
        }
    }

    fn write(&self, bytes: &[u8], old_mtime: bool) {
        self.clear();
        std::fs::write(&self.path, bytes).unwrap();
        let file = std::fs::File::open(&self.path).unwrap();
        if old_mtime {
            let at = SystemTime::UNIX_EPOCH + Duration::new(self.meta.mtime() as u64, self.meta.mtime_nsec() as u32);
            file.set_modified(at).unwrap();
        }
        std::fs::set_permissions(&self.path, self.meta.permissions()).unwrap();
    }

    fn put_back(&self) {
        match &self.link {
            Some(text) => {
                self.clear();
                std::os::unix::fs::symlink(text, &self.path).unwrap();
            }
            None => self.write(&self.bytes, true),
        }
    }

    /// `false` when this damage changes nothing.
    fn damage(&self, damage: Damage, aside: &Path) -> bool {
        match damage {
            Damage::Flip { at, bit, old_mtime } => {
                let mut bytes = self.bytes.clone();
                bytes[at] ^= 1 << bit;
                self.write(&bytes, old_mtime);
            }
            Damage::Cut { to, old_mtime } => self.write(&self.bytes[..to], old_mtime),
            Damage::Delete => self.clear(),
            Damage::Directory => {
                self.clear();
                std::fs::create_dir(&self.path).unwrap();
            }
            Damage::SymlinkToCopy => {
                std::fs::write(aside, &self.bytes).unwrap();
                self.clear();
                std::os::unix::fs::symlink(aside, &self.path).unwrap();
            }
            Damage::SymlinkLoop => {
                self.clear();
                std::os::unix::fs::symlink(self.path.file_name().unwrap(), &self.path).unwrap();
            }
            Damage::Text { at, bit } => {
                use std::os::unix::ffi::OsStrExt;
                let mut text = self.link.as_ref().unwrap().as_os_str().as_bytes().to_vec();
                text[at] ^= 1 << bit;
                if text[at] == 0 {
                    return false;
                }
                self.clear();
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&text), &self.path).unwrap();
            }
            Damage::File => {
                use std::os::unix::ffi::OsStrExt;
                self.clear();
                std::fs::write(&self.path, self.link.as_ref().unwrap().as_os_str().as_bytes()).unwrap();
            }
        }
        true
    }

    /// Everything that is tried with it.
    fn damages(&self) -> Vec<Damage> {
        let mut out = vec![Damage::Delete, Damage::Directory, Damage::SymlinkLoop];
        if let Some(text) = &self.link {
            out.push(Damage::File);
            out.extend((0..text.as_os_str().len()).map(|at| Damage::Text { at, bit: (at % 7) as u8 }));
            return out;
        }
        out.push(Damage::SymlinkToCopy);
        let len = self.bytes.len();
        let mut cuts = vec![0, len / 2, len.saturating_sub(1)];
        cuts.dedup();
        out.extend(
            cuts.into_iter()
                .filter(|to| *to < len)
                .flat_map(|to| [false, true].map(|old_mtime| Damage::Cut { to, old_mtime })),
        );
        let all = len <= SHORT || std::env::var("CAIRN_DAMAGE").is_ok_and(|v| v == "all");
        let positions: Vec<usize> = if all {
            (0..len).collect()
        } else {
            // Ends and beginnings are where the structure is; the rest evenly, off the round numbers.
            let mut p: Vec<usize> = (0..12).chain(len - 40..len).step_by(3).collect();
            p.extend((0..SAMPLED - p.len()).map(|i| (i * len / (SAMPLED - 16) + i * 7) % len));
            p.sort_unstable();
            p.dedup();
            p
        };
        // Only content is judged by its time; elsewhere it alternates.
        let both = self.path.components().any(|c| c.as_os_str() == "objects");
        for at in positions {
            let bit = (at * 5 % 8) as u8;
            if both {
                out.extend([false, true].map(|old_mtime| Damage::Flip { at, bit, old_mtime }));
            } else {
                out.push(Damage::Flip { at, bit, old_mtime: at % 2 == 0 });
            }
        }
        out
    }
}

/// What kind of file this is, by its path below the store's root.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    Config,
    Pack,
    Object,
    Index,
    VersionFile,
    Number { highest: bool },
    RecordFile,
    ArtifactFile,
    Removal { link: bool },
    Passing,
}

fn class(relative: &str, all: &[String], removed: &str) -> Class {
    let parts: Vec<&str> = relative.split('/').collect();
    let highest = || {
        let parent = &relative[..relative.rfind('/').unwrap() + 1];
        !all.iter().any(|o| {
            o.len() == relative.len()
                && o.starts_with(parent)
                && !o[parent.len()..].starts_with('.')
                && o.as_str() > relative
        })
    };
    match parts.as_slice() {
        ["cairn.json"] => Class::Config,
        ["packs", _] => Class::Pack,
        ["objects", ..] => Class::Object,
        ["index", _] => Class::Index,
        ["artifacts", _, "artifact.json"] => Class::ArtifactFile,
        ["artifacts", _, file] if file.starts_with('.') => Class::ArtifactFile,
        ["artifacts", _, "versions", _] => Class::Number { highest: highest() },
        ["artifacts", _, "versions", dir, "manifest"] if *dir == removed => Class::Passing,
        ["artifacts", _, "versions", ..] => Class::VersionFile,
        ["artifacts", _, "removed", file] => Class::Removal { link: !file.starts_with('.') },
        ["artifacts", _, "drafts", _, "log", file] if file.starts_with('.') => Class::RecordFile,
        ["artifacts", _, "drafts", _, "log", _] => Class::Number { highest: highest() },
        ["artifacts", _, "aliases" | "notes", _, file] if file.starts_with('.') => Class::RecordFile,
        ["artifacts", _, "aliases" | "notes", _, _] => Class::Number { highest: highest() },
        ["locks" | "work", ..] => Class::Passing,
        other => panic!("a file of an unknown kind: {other:?}"),
    }
}

/// The codes of which at least one must be found; empty: none need be.
fn expected(class: Class, damage: Damage) -> &'static [&'static str] {
    match class {
        Class::Config => unreachable!("the store is not opened then"),
        Class::Pack if damage == Damage::Delete => &[code::NO_PACK, code::NODE, code::MISSING],
        Class::Pack => &[code::PACK, code::BLOB, code::HINTS, code::STRANGER],
        Class::Object if damage == Damage::Delete => &[code::MISSING],
        Class::Object => &[code::OBJECT, code::STRANGER],
        Class::Index if damage == Damage::Delete => &[],
        Class::Index => &[code::INDEX],
        Class::VersionFile => &[code::VERSION],
        // Nothing says that there was a higher one, unless something names it.
        Class::Number { highest: true } if damage == Damage::Delete => &[],
        Class::Number { .. } => &[code::NUMBER, code::GAP, code::VERSION, code::RECORD],
        Class::RecordFile => &[code::RECORD],
        Class::ArtifactFile => &[code::ARTIFACT],
        // Without the marker the version is there again: nothing says otherwise.
        Class::Removal { link: true } if damage == Damage::Delete => &[],
        Class::Removal { .. } => &[code::NUMBER, code::RECORD],
        Class::Passing => &[],
    }
}

/// How much was tried.
#[derive(Default)]
struct Counts {
    files: AtomicU64,
    flips: AtomicU64,
    others: AtomicU64,
    checkouts: AtomicU64,
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
                    // Seven contents stand for seven hundred files: each is read some times.
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

fn report_of(store: &Store, label: &str) -> Report {
    let report = catch_unwind(AssertUnwindSafe(|| verify(store, &Scope::All, &VerifyOptions::default())));
    let mut report = report
        .unwrap_or_else(|_| panic!("{label}: verify panics"))
        .unwrap_or_else(|e| panic!("{label}: verify gives up: {e:?}"));
    // A damaged index run is a note, and is to be seen all the same.
    report.findings.append(&mut report.notes);
    report
}

/// Damages one file in every way, and looks at each.
fn damage_file(root: &Path, relative: &str, class: Class, known: &Known, scratch: &Path, counts: &Counts) {
    let original = Original::of(&root.join(relative));
    counts.files.fetch_add(1, Ordering::Relaxed);
    for (i, damage) in original.damages().into_iter().enumerate() {
        if !original.damage(damage, &scratch.join("copy")) {
            continue;
        }
        let label = format!("{relative} {damage:?}");
        match damage {
            Damage::Flip { .. } | Damage::Text { .. } => counts.flips.fetch_add(1, Ordering::Relaxed),
            _ => counts.others.fetch_add(1, Ordering::Relaxed),
        };
        match Store::open(root) {
            Err(e) => {
                assert_eq!(class, Class::Config, "{label}: {e:?}");
                assert!(matches!(e.kind(), Kind::Damaged | Kind::Conflict | Kind::NotFound), "{label}: {e:?}");
            }
            Ok(store) => {
                assert_ne!(class, Class::Config, "{label}: the store is opened");
                let report = report_of(&store, &label);
                let codes: Vec<_> = report.findings.iter().map(|f| f.code).collect();
                let wanted = expected(class, damage);
                assert!(
                    wanted.is_empty() || codes.iter().any(|c| wanted.contains(c)),
                    "{label}: expected one of {wanted:?}, found {:?}",
                    report.findings
                );
                assert!(class != Class::Passing || codes.is_empty(), "{label}: {:?}", report.findings);
                if class == Class::Object && !matches!(damage, Damage::SymlinkToCopy)
                    || matches!(damage, Damage::Delete) && class == Class::Pack
                {
                    assert!(
                        report.findings.iter().any(|f| !f.affects.is_empty()),
                        "{label}: what is affected is said: {:?}",
                        report.findings
                    );
                }
                let rot = class == Class::Object && matches!(damage, Damage::Flip { old_mtime: true, .. });
                let whole =
                    i % 40 == 0 && matches!(class, Class::Pack | Class::Object | Class::VersionFile | Class::Index);
                counts.checkouts.fetch_add(u64::from(whole), Ordering::Relaxed);
                // A new handle: what verify read is not cached in it.
                right_or_error(&open(root), known, whole, rot, &scratch.join("out"), &label);
                if known.trees.contains_key("a:v3") {
                    others(&open(root), class, damage, &label);
                }
            }
        }
        original.put_back();
    }
    let report = report_of(&open(root), relative);
    assert!(report.findings.is_empty(), "{relative} was put back: {:?}", report.findings);
}

/// Aliases, notes and lists: what was said, or an error.
fn others(store: &Store, class: Class, damage: Damage, label: &str) {
    let went_back = matches!(class, Class::Number { highest: true }) && damage == Damage::Delete;
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let a = name("a");
        if let (Ok(at), false) = (alias::get(store, &a, &AliasName::parse("prod").unwrap()), went_back) {
            assert_eq!(at, Some(VersionNumber(1)), "{label}: the alias is elsewhere");
        }
        if let (Ok(Some(v3)), false) = (Version::read(store, &a, VersionNumber(3)), went_back)
            && let Ok(said) = v3.annotations()
        {
            assert_eq!(
                (said.description.as_deref(), said.tags.len()),
                (Some("again"), 1),
                "{label}: other annotations"
            );
        }
        let open = Draft::new(store, &a, &DistributedId::parse("open").unwrap());
        if let (Ok(state), false) = (open.state(), went_back) {
            assert_eq!(
                state.runs().iter().map(|r| r.as_str()).collect::<Vec<_>>(),
                ["r1", "r2"],
                "{label}: other contributions"
            );
            for contribution in &state.contributions {
                if let Ok(tree) = contribution.tree(store) {
                    let _ = tree.walk().count();
                }
            }
        }
        let _ = cairn::catalog::draft::all(store, &a);
        let _ = cairn::catalog::version::versions(store, &a);
        let _ = cairn::resolve(store, &VersionSpec::parse("a:prod").unwrap());
        let _ = cairn::internals::lock::list(store);
    }));
    looked.unwrap_or_else(|_| panic!("{label}: looking at names panics"));
}

fn files_of(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        if !entry.file_type().is_dir() {
            out.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    out.sort();
    out
}

/// Shares the files of a store among threads, each with a copy of the store.
fn damage_all(root: &Path, dir: &Path, chosen: &[String], known: &Known) -> Counts {
    let all = files_of(root);
    // A removed version is a tombstone: nothing is lost with its content.
    let removed = std::fs::read_link(root.join("artifacts/a/versions/v2"))
        .map(|t| t.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let counts = Counts::default();
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
    std::thread::scope(|s| {
        for t in 0..threads {
            let (all, counts, next, removed) = (&all, &counts, &next, &removed);
            s.spawn(move || {
                let scratch = dir.join(format!("scratch{t}"));
                std::fs::create_dir(&scratch).unwrap();
                let copy = scratch.join("store");
                copy_tree(root, &copy);
                while let Some(file) = chosen.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    damage_file(&copy, file, class(file, all, removed), known, &scratch, counts);
                }
            });
        }
    });
    counts
}

#[test]
fn damage_in_every_file_is_found_and_never_gives_wrong_bytes() {
    let dir = memory_dir();
    let root = small_store(dir.path());
    let known = know(&root, dir.path());
    let report = report_of(&open(&root), "before");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.packs >= 3 && report.objects == 1 && report.versions >= 3, "{report:?}");
    let files = files_of(&root);
    let started = Instant::now();
    let counts = damage_all(&root, dir.path(), &files, &known);
    println!(
        "damage: {} files, {} flips, {} cuts, deletions and replacements, {} of them checked out whole; {:.1} s",
        counts.files.into_inner(),
        counts.flips.into_inner(),
        counts.others.into_inner(),
        counts.checkouts.into_inner(),
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn a_damaged_index_run_costs_time_and_nothing_else_and_is_made_anew() {
    let dir = memory_dir();
    let root = dir.path().join("store");
    let store = Store::init(&root, &Default::default()).unwrap();
    for i in 0..67 {
        let mut artifact = Artifact::new("many", None).unwrap();
        artifact.add_bytes("f", format!("content {i}")).unwrap().add_bytes("same", "same").unwrap();
        artifact.save(&store).unwrap();
    }
    let runs: Vec<String> = files_of(&root).into_iter().filter(|f| f.starts_with("index/")).collect();
    assert!(!runs.is_empty(), "67 packs make a run");
    let known = know(&root, dir.path());
    let counts = damage_all(
        &root,
        dir.path(),
        &runs,
        &Known { versions: known.versions.into_iter().step_by(11).collect(), trees: known.trees },
    );
    println!(
        "index: {} files, {} flips, {} others",
        counts.files.into_inner(),
        counts.flips.into_inner(),
        counts.others.into_inner()
    );
    // Damaged and left so: the next put makes it anew.
    let run = root.join(&runs[0]);
    let mut bytes = std::fs::read(&run).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&run).unwrap();
    std::fs::write(&run, &bytes).unwrap();
    let store = open(&root);
    assert!(report_of(&store, "damaged").findings.iter().all(|f| f.code == code::INDEX));
    let mut artifact = Artifact::new("many", None).unwrap();
    artifact.add_bytes("f", "one more").unwrap();
    artifact.save(&store).unwrap();
    let report = report_of(&open(&root), "after");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
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
            let passing = ["work", "locks", "index", "pins", "staging", "trash", "damaged"]
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
