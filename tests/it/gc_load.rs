//! Collections in a loop while everything else happens: puts, patches, upserts with finishes, seals of staging
//! directories, readers that get or mount versions and compare every byte, a remover; processes are killed and stopped,
//! and locks are broken. Afterwards nothing acknowledged is lost, and the store holds exactly what its manifests name
//! (L14).
//!
//! `CAIRN_GC_LOAD_SECONDS` (6) and `CAIRN_GC_LOAD_SEED` (1) make it longer and other:
//! `CAIRN_GC_LOAD_SECONDS=600 cargo test --test it gc_load -- --nocapture`.

use crate::support::{Dice, TestStore, copy_tree, make_tree, random_bytes, resume, setting, snapshot, text};
use cairn::catalog::{Draft, RunRecord};
use cairn::gc::{GcOptions, collect};
use cairn::internals::catalog::{artifact, version};
use cairn::internals::objects::{BlobKind, RecipesInPacks, SMALL_MAX};
use cairn::manifest::Entry;
use cairn::staging::{Resume, Stage};
use cairn::types::{ArtifactName, Digest, DistributedId, RunId};
use cairn::{Store, Version};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A version that was acknowledged, and what it holds.
#[derive(Clone)]
struct Published {
    name: String,
    content: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What the threads share.
struct Load {
    test_store: TestStore,
    until: Instant,
    published: Mutex<Vec<Published>>,
    removed: Mutex<HashSet<String>>,
    counts: [AtomicU64; 12],
    stop: AtomicBool,
}

const VERSIONS: usize = 0;
const KILLS: usize = 1;
const STOPS: usize = 2;
const ROUNDS: usize = 3;
const FREED: usize = 4;
const READS: usize = 5;
const REMOVED: usize = 6;
const WAITED: usize = 7;
const REWRITTEN: usize = 8;
const PATCHES: usize = 9;
const SEALS: usize = 10;
const MOUNTED: usize = 11;

impl Load {
    /// For the time that was set, and on a slow machine longer: until everything has happened.
    fn continues(&self) -> bool {
        let now = Instant::now();
        let time = now < self.until || now < self.until + Duration::from_secs(60) && !self.happened();
        time && !self.stop.load(Ordering::Relaxed)
    }

    fn happened(&self) -> bool {
        let some = [FREED, REWRITTEN, PATCHES, SEALS].into_iter().all(|what| self.get(what) > 0);
        some && self.get(ROUNDS) > 3 && self.get(VERSIONS) > 3
    }

    fn count(&self, what: usize) {
        self.counts[what].fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, what: usize) -> u64 {
        self.counts[what].load(Ordering::Relaxed)
    }

    /// Runs a command, which now and then is killed at a step, or stopped for a while with its lock broken. `None`: it
    /// was killed.
    fn run(&self, args: &[&str], dice: &mut Dice) -> Option<Output> {
        let mut command = self.test_store.cairn(args);
        let step = 1 + dice.roll(40);
        match dice.roll(10) {
            0 => {
                self.count(KILLS);
                let output = command.env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
                output.status.code().is_some().then_some(output)
            }
            1 => {
                self.count(STOPS);
                command.env("CAIRN_FAULT", format!("stop:{step}")).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn().unwrap();
                std::thread::sleep(Duration::from_millis(150));
                if dice.roll(2) == 0 {
                    for lock in std::fs::read_dir(self.test_store.store_path().join("locks")).unwrap().flatten() {
                        let held = std::fs::read_to_string(lock.path()).unwrap_or_default();
                        if held.contains(&format!("\"pid\": {},", child.id())) {
                            drop(std::fs::remove_file(lock.path()));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(300));
                }
                // Until it ends: it may come to its step only now.
                while child.try_wait().unwrap().is_none() {
                    resume(&child);
                    std::thread::sleep(Duration::from_millis(20));
                }
                Some(child.wait_with_output().unwrap())
            }
            _ => Some(command.output().unwrap()),
        }
    }

    /// Notes what a command acknowledged. Returns the version.
    fn acknowledge(&self, output: Option<Output>, content: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<String> {
        let output = output?;
        match output.status.code() {
            Some(0) => {
                let name = text(&output.stdout).trim().to_owned();
                self.count(VERSIONS);
                self.published.lock().push(Published { name: name.clone(), content: content.clone() });
                Some(name)
            }
            // Refused, or its token was taken away under it: said plainly, and nothing was acknowledged.
            Some(3 | 5) => None,
            _ => panic!("{:?} {}", output.status, text(&output.stderr)),
        }
    }

    /// A source directory whose files come from a small pool, so that the same content comes and goes.
    fn source(&self, name: &str, dice: &mut Dice) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let dir = self.test_store.path(name);
        let _ = std::fs::remove_dir_all(&dir);
        let big = random_bytes(100 + dice.roll(6), 150_000);
        let small: Vec<_> = (0..4).map(|_| format!("small {} ", dice.roll(12)).repeat(900)).collect();
        let paths: Vec<_> = (0..4).map(|i| format!("d{}/f{i}", dice.roll(3))).collect();
        let mut files: Vec<(&str, &[u8])> =
            paths.iter().zip(&small).map(|(path, bytes)| (path.as_str(), bytes.as_bytes())).collect();
        files.push(("big.bin", &big));
        // A file that changes a little each time, so that it is composed of parts of others.
        let mut grown = random_bytes(200, 1_100_000);
        let (at, len) = (dice.pick(4) * 200_000, 1 + dice.pick(3) * 90_000);
        grown.splice(at..at, random_bytes(300 + dice.roll(5), len));
        files.push(("grown.bin", &grown));
        make_tree(&dir, &files);
        snapshot(&dir)
    }

    fn putter(&self, k: u64, mut dice: Dice) {
        let dir = format!("put{k}");
        while self.continues() {
            let content = self.source(&dir, &mut dice);
            let name = format!("p{}", dice.roll(2));
            let output = self.run(&["put", &name, &dir, "--new-version"], &mut dice);
            self.acknowledge(output, &content);
        }
    }

    /// Chains of patches. A chain ends where it is not known what the newest version holds: after a kill or an error.
    fn patcher(&self, mut dice: Dice) {
        let mut n = 0;
        while self.continues() {
            let mut content = self.source("patched", &mut dice);
            let output = self.run(&["put", "q", "patched", "--new-version"], &mut dice);
            let mut base = self.acknowledge(output, &content);
            while let Some(newest) = base.filter(|_| self.continues() && dice.roll(6) > 0) {
                n += 1;
                let (file, bytes) = (format!("f{}", dice.roll(4)), format!("patch {n}").repeat(500).into_bytes());
                make_tree(&self.test_store.path("patch"), &[(&file, &bytes)]);
                content.insert(format!("more/{file}").into_bytes(), [b"- ".as_slice(), &bytes].concat());
                let args = ["patch", &newest, &format!("patch/{file}"), "--at", "more"];
                let output = self.run(&args, &mut dice);
                if output.as_ref().is_some_and(|output| output.status.code() == Some(6)) {
                    assert!(self.removed.lock().contains(&newest), "{newest} was removed");
                    break;
                }
                base = self.acknowledge(output, &content);
                self.counts[PATCHES].fetch_add(u64::from(base.is_some()), Ordering::Relaxed);
            }
        }
    }

    /// Staging directories. After a kill, each is sealed again until it is, then its draft is finished.
    fn sealer(&self, mut dice: Dice) {
        let name = ArtifactName::parse("s").unwrap();
        let run = RunRecord { id: RunId::parse("r").unwrap(), group: None, job_type: None };
        for round in 0.. {
            if !self.continues() {
                break;
            }
            let id = format!("stage-{round}");
            let draft = Draft::new(&self.test_store.store(), &name, &DistributedId::parse(&id).unwrap());
            let stage = Stage::open(&draft, &run, None, Resume::Continue).unwrap();
            let content = self.source("staged", &mut dice);
            copy_tree(&self.test_store.path("staged/."), &stage.directory());
            drop(stage);
            let mut seal = || {
                let output = self.run(&["upsert", "s", "--distributed-id", &id, "--run", "r"], &mut dice)?;
                let is_sealed = output.status.success() || text(&output.stderr).contains("has contributed already");
                is_sealed.then_some(output)
            };
            assert!((0..40).any(|_| seal().is_some()), "{id} is sealed in the end");
            self.count(SEALS);
            let output = self.run(&["finish", "s", "--distributed-id", &id], &mut dice);
            self.acknowledge(output, &content);
        }
    }

    fn contributor(&self, k: u64, mut dice: Dice) {
        let mut round = 0;
        while self.continues() {
            round += 1;
            let id = format!("id-{k}-{round}");
            let dir = format!("part{k}");
            let mut all = BTreeMap::new();
            let mut whole = true;
            for run in ["r1", "r2"] {
                let part = self.source(&dir, &mut dice);
                let args = ["upsert", "e", &dir, "--distributed-id", &id, "--run", run, "--at", run];
                let output = self.run(&args, &mut dice);
                whole &= output.is_some_and(|output| output.status.success());
                for (path, bytes) in part {
                    all.insert([run.as_bytes(), b"/", path.as_slice()].concat(), bytes);
                }
            }
            let output = self.run(&["finish", "e", "--distributed-id", &id], &mut dice);
            if whole {
                self.acknowledge(output, &all);
            }
        }
    }

    fn reader(&self, mut dice: Dice) {
        let mut n = 0;
        while self.continues() {
            let Some(one) = self.one(&mut dice) else { continue };
            n += 1;
            let out = format!("out{n}");
            let output = self.test_store.cairn(&["get", &one.name, &out]).output().unwrap();
            if output.status.success() {
                assert_eq!(files(&snapshot(&self.test_store.path(&out))), files(&one.content), "{}", one.name);
                self.count(READS);
            } else {
                let was_removed = self.removed.lock().contains(&one.name);
                assert!(was_removed, "{}: {}", one.name, text(&output.stderr));
            }
            let _ = std::fs::remove_dir_all(self.test_store.path(&out));
        }
    }

    /// Mounts versions, most of which are removed meanwhile. A version that was mounted stays readable.
    fn mounter(&self, mut dice: Dice) {
        std::fs::create_dir(self.test_store.path("mnt")).unwrap();
        while self.continues() && Path::new("/dev/fuse").exists() {
            let Some(one) = self.one(&mut dice) else { continue };
            let output = self.test_store.cairn(&["mount", "mnt", &one.name]).output().unwrap();
            if !output.status.success() {
                let was_removed = self.removed.lock().contains(&one.name);
                assert!(was_removed, "{}: {}", one.name, text(&output.stderr));
                continue;
            }
            std::thread::sleep(Duration::from_millis(200));
            let mnt = self.test_store.path("mnt");
            let read = std::panic::catch_unwind(|| files(&snapshot(&mnt)));
            self.test_store.ok(&["umount", "mnt"]);
            assert_eq!(read.unwrap(), files(&one.content), "{}", one.name);
            self.count(MOUNTED);
        }
    }

    fn one(&self, dice: &mut Dice) -> Option<Published> {
        let published = self.published.lock();
        if published.is_empty() {
            drop(published);
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        Some(published[dice.pick(published.len())].clone())
    }

    fn remover(&self, mut dice: Dice) {
        while self.continues() {
            std::thread::sleep(Duration::from_millis(60));
            if self.published.lock().len() < 6 {
                continue;
            }
            let Some(one) = self.one(&mut dice) else { continue };
            self.removed.lock().insert(one.name.clone());
            self.published.lock().retain(|p| p.name != one.name);
            if self.test_store.cairn(&["rm", &one.name, "--force"]).output().unwrap().status.success() {
                self.count(REMOVED);
            }
        }
    }

    fn collector(&self, mut dice: Dice) {
        while self.continues() {
            if dice.roll(6) == 0 {
                let fault = format!("kill:{}", 1 + dice.roll(30));
                drop(self.test_store.cairn(&["gc", "--min-age", "0"]).env("CAIRN_FAULT", fault).output().unwrap());
            }
            // A writer is nearly always at work: then only a collection that waits frees something.
            let report = collect(&self.test_store.store(), &now().wait(dice.roll(2) == 0)).unwrap();
            self.count(ROUNDS);
            self.counts[FREED].fetch_add(report.freed.files, Ordering::Relaxed);
            self.counts[REWRITTEN].fetch_add(report.rewritten.files, Ordering::Relaxed);
            self.counts[WAITED].fetch_add(u64::from(!report.waits_for.is_empty()), Ordering::Relaxed);
        }
    }
}

fn now() -> GcOptions {
    GcOptions::default().min_age(Duration::ZERO)
}

/// The files of a snapshot, by the digests of their bytes.
fn files(all: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<String, Digest> {
    let files = all.iter().filter(|(_, bytes)| *bytes != b"dir");
    files.map(|(path, bytes)| (text(path), Digest::of(bytes))).collect()
}

#[test]
fn nothing_is_lost_and_nothing_is_left_over_after_collections_during_all_commands() {
    let seed = setting("CAIRN_GC_LOAD_SEED", 1);
    let load = Load {
        test_store: TestStore::new(),
        until: Instant::now() + Duration::from_secs(setting("CAIRN_GC_LOAD_SECONDS", 6)),
        published: Mutex::default(),
        removed: Mutex::default(),
        counts: Default::default(),
        stop: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let dice = |n: u64| Dice(seed * 1000 + n);
        let load = &load;
        let threads = [
            scope.spawn(move || load.putter(1, dice(1))),
            scope.spawn(move || load.putter(2, dice(2))),
            scope.spawn(move || load.contributor(1, dice(3))),
            scope.spawn(move || load.reader(dice(4))),
            scope.spawn(move || load.remover(dice(5))),
            scope.spawn(move || load.collector(dice(6))),
            scope.spawn(move || load.patcher(dice(7))),
            scope.spawn(move || load.sealer(dice(8))),
            scope.spawn(move || load.mounter(dice(9))),
        ];
        for thread in threads {
            if let Err(panic) = thread.join() {
                load.stop.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!(
        "{} versions, {} of them patches; {} stages sealed; {} kills, {} stops, {} removed, {} read, {} mounted; {} \
         collections, {} of them waited, {} files freed, {} packs rewritten",
        load.get(VERSIONS),
        load.get(PATCHES),
        load.get(SEALS),
        load.get(KILLS),
        load.get(STOPS),
        load.get(REMOVED),
        load.get(READS),
        load.get(MOUNTED),
        load.get(ROUNDS),
        load.get(WAITED),
        load.get(FREED),
        load.get(REWRITTEN)
    );
    assert!(load.happened());
    check(&load);
}

/// Nothing is lost, and nothing is left over.
fn check(load: &Load) {
    let test_store = &load.test_store;
    for draft in serde_json::from_str::<Vec<serde_json::Value>>(&test_store.ok(&["drafts", "--json"])).unwrap() {
        let field = |name: &str| draft[name].as_str().unwrap();
        test_store.ok(&["draft", "discard", field("artifact"), field("distributed_id")]);
    }
    for _ in 0..2 {
        let report = collect(&test_store.store(), &now()).unwrap();
        assert!(report.waits_for.is_empty() && report.damaged.is_empty(), "{report:?}");
    }
    test_store.clean("at the end");
    for one in load.published.lock().iter() {
        test_store.ok(&["get", &one.name, "final"]);
        assert_eq!(files(&snapshot(&test_store.path("final"))), files(&one.content), "{}", one.name);
        std::fs::remove_dir_all(test_store.path("final")).unwrap();
    }
    exactly_what_is_named(test_store);
}

fn exactly_what_is_named(test_store: &TestStore) {
    let store = test_store.store();
    let (mut content, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for name in artifact::all(&store).unwrap() {
        if version::live_numbers(&store, &name).unwrap().is_empty() {
            continue;
        }
        for version in version::versions(&store, &name).unwrap() {
            named(&version, &mut content, &mut nodes);
        }
    }
    let objects: BTreeSet<Digest> = store.objects().stored_objects().unwrap().iter().map(|s| s.name.unwrap()).collect();
    let large: BTreeSet<Digest> = content.iter().filter(|(_, size)| *size >= SMALL_MAX).map(|(d, _)| *d).collect();
    let (composed, sources) = composed(&store, &content);
    let missing: Vec<_> =
        large.iter().filter(|digest| !objects.contains(digest) && !composed.contains(digest)).collect();
    assert!(missing.is_empty(), "large files that are neither objects nor composed: {missing:?}");
    let unneeded: Vec<_> =
        objects.iter().filter(|digest| !large.contains(digest) && !sources.contains(digest)).collect();
    assert!(unneeded.is_empty(), "objects that no large file needs: {unneeded:?}");
    for pack in store.objects().stored_packs().unwrap() {
        let name = pack.name.unwrap();
        let blobs = store.objects().list_pack(&pack, &mut Vec::new()).unwrap().blobs;
        let is_named = |(digest, kind, _): &(Digest, BlobKind, u32)| match kind {
            BlobKind::Content => content.iter().any(|(d, _)| d == digest) || sources.contains(digest),
            BlobKind::Recipe => composed.contains(digest),
            BlobKind::Node => nodes.contains(digest),
        };
        assert!(blobs.iter().any(is_named), "pack {name} holds nothing that is named");
        let needed: u64 = blobs.iter().filter(|blob| is_named(blob)).map(|(_, _, len)| u64::from(*len) + 84).sum();
        assert!(needed * 2 >= pack.size, "pack {name} is mostly unneeded: {needed} of {}", pack.size);
    }
    for dir in ["trash", "work", "locks", "pins", "staging"] {
        let entries = walkdir::WalkDir::new(test_store.store_path().join(dir)).min_depth(1);
        let left: Vec<_> = entries.into_iter().map(|e| e.map(|e| (e.metadata().unwrap(), e.into_path()))).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The named contents that have a recipe, and what these recipes take parts of.
fn composed(store: &Store, content: &BTreeSet<(Digest, u64)>) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
    let mut recipes = RecipesInPacks::default();
    store.objects().read_recipes(&mut recipes, true).unwrap();
    let mut composed = BTreeSet::new();
    let mut sources: BTreeSet<Digest> = content.iter().map(|(digest, _)| *digest).collect();
    loop {
        let needed: Vec<_> = recipes.contents().filter(|d| sources.contains(d) && !composed.contains(*d)).collect();
        if needed.is_empty() {
            return (composed, sources);
        }
        for digest in needed {
            composed.insert(*digest);
            sources.extend(recipes.sources(digest).unwrap().map(|source| source.digest));
        }
    }
}

fn named(version: &Version, content: &mut BTreeSet<(Digest, u64)>, nodes: &mut BTreeSet<Digest>) {
    let tree = version.tree().unwrap();
    nodes.insert(tree.digest());
    for visit in tree.walk() {
        match visit.unwrap().entry {
            Entry::File { digest, size, .. } => drop(content.insert((digest, size))),
            Entry::Directory(dir) => nodes.extend(dir.node_ref().map(|at| at.digest)),
            _ => {}
        }
    }
}
