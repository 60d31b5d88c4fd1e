//! Every file of a store is damaged in every way that fits it.

use super::*;

/// Files up to this long have each byte flipped.
const SHORT: usize = 90;

/// Of files up to this long, each third byte is flipped. There are several of most kinds, and they begin at different
/// bytes.
const MIDDLE: usize = 360;

/// Of longer ones, this many positions.
const SAMPLED: usize = 40;

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
        } else if len <= MIDDLE {
            let first: usize = self.path.as_os_str().as_encoded_bytes().iter().map(|byte| usize::from(*byte)).sum();
            (first % 3..len).step_by(3).collect()
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
        // A mark counts by its name alone, and without it everything is read.
        ["artifacts", _, "given", _] => Class::Passing,
        ["locks" | "work", ..] => Class::Passing,
        other => panic!("a file of an unknown kind: {other:?}"),
    }
}

/// At least one of these codes must be found; if empty, none need be.
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
                        "{label}: the report says what is affected: {:?}",
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

/// Aliases, notes and lists: what was recorded, or an error.
fn others(store: &Store, class: Class, damage: Damage, label: &str) {
    let went_back = matches!(class, Class::Number { highest: true }) && damage == Damage::Delete;
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let a = name("a");
        if let (Ok(at), false) = (alias::get(store, &a, &AliasName::parse("prod").unwrap()), went_back) {
            assert_eq!(at, Some(VersionNumber(1)), "{label}: the alias is elsewhere");
        }
        if let (Ok(Some(v3)), false) = (Version::read(store, &a, VersionNumber(3)), went_back)
            && let Ok(message) = v3.annotations()
        {
            assert_eq!(
                (message.description.as_deref(), message.tags.len()),
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
        let _ = cairn::internals::catalog::version::versions(store, &a);
        let _ = cairn::resolve(store, &VersionSpec::parse("a:prod").unwrap());
        let _ = cairn::internals::lock::list(store);
    }));
    looked.unwrap_or_else(|_| panic!("{label}: looking at names panics"));
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
