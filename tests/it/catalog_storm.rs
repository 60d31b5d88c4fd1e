//! 32 processes move aliases, annotate, tag, remove and put versions of one artifact. After each second they rest, and
//! what is then in the store must add up.
//!
//! `CAIRN_CATALOG_STORM_SECONDS=60 cargo test --test it catalog_storm -- --nocapture` is the long form.

use crate::support::{Dice, TestStore, setting, text};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PROCESSES: u64 = 32;
const ALIASES: [&str; 3] = ["prod", "cur", "best"];

#[derive(Default)]
struct Counts {
    moved: AtomicU64,
    refused_moves: AtomicU64,
    annotated: AtomicU64,
    removed: AtomicU64,
    refused_removals: AtomicU64,
    published: AtomicU64,
}

struct Storm {
    test_store: TestStore,
    counts: Counts,
    /// Metadata keys and tags that were acknowledged, by version.
    recorded: Mutex<BTreeMap<u64, BTreeSet<String>>>,
    removed: Mutex<BTreeSet<u64>>,
    /// The highest version that is known.
    highest: AtomicU64,
    /// Numbers that are used once.
    unique: AtomicU64,
}

impl Storm {
    /// Runs a command. Others may win: then it is refused or finds nothing, and nothing else may go wrong.
    fn run(&self, args: &[&str]) -> Output {
        let out = self.test_store.cairn(args).stdin(Stdio::null()).output().unwrap();
        let status = out.status.code();
        assert!(matches!(status, Some(0 | 3 | 6)), "cairn {args:?}: {status:?}: {}", text(&out.stderr));
        out
    }

    fn attempt(&self, args: &[&str]) -> bool {
        self.run(args).status.success()
    }

    /// Whether it was removed.
    fn remove(&self, version: &str) -> bool {
        let out = self.run(&["rm", version]);
        let printed = text(&out.stdout).trim() == version;
        assert_eq!(printed, out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
        printed
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn work(&self, process: u64, until: Instant, dice: &mut Dice) {
        while Instant::now() < until {
            let highest = self.highest.load(Ordering::Relaxed);
            // Mostly the newest few, so that processes meet.
            let number = highest.saturating_sub(dice.roll(6));
            let version = format!("x:v{number}");
            let alias = ALIASES[dice.pick(ALIASES.len())];
            match dice.roll(100) {
                0..30 => {
                    let moved = self.attempt(&["alias", &version, alias]);
                    Self::count(if moved { &self.counts.moved } else { &self.counts.refused_moves });
                }
                30..38 => {
                    let expected = format!("v{}", highest.saturating_sub(dice.roll(6)));
                    let moved = self.attempt(&["alias", &version, alias, "--expect", &expected]);
                    Self::count(if moved { &self.counts.moved } else { &self.counts.refused_moves });
                }
                38..42 => drop(self.attempt(&["unalias", "x", alias])),
                42..62 => {
                    let key = format!("k{}", self.unique.fetch_add(1, Ordering::Relaxed));
                    let metadata = format!("{{\"{key}\": 1}}");
                    if self.attempt(&["annotate", &version, "--metadata", &metadata, "--merge"]) {
                        Self::count(&self.counts.annotated);
                        self.recorded.lock().entry(number).or_default().insert(key);
                    }
                }
                62..70 => {
                    let tag = format!("t{}", dice.roll(100));
                    if self.attempt(&["tag", &version, &tag]) {
                        self.recorded.lock().entry(number).or_default().insert(tag);
                    }
                }
                70..88 => {
                    if self.remove(&version) {
                        Self::count(&self.counts.removed);
                        self.removed.lock().insert(number);
                    } else {
                        Self::count(&self.counts.refused_removals);
                    }
                }
                _ => self.put(process),
            }
        }
    }

    fn put(&self, process: u64) {
        let file = self.test_store.path(&format!("own-{process}"));
        std::fs::write(&file, self.unique.fetch_add(1, Ordering::Relaxed).to_string()).unwrap();
        let out = self.test_store.cairn(&["put", "x", "--at", "f", "-q"]).arg(&file).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        let printed = text(&out.stdout);
        let number = printed.trim().strip_prefix("x:v").unwrap().parse().unwrap();
        self.highest.fetch_max(number, Ordering::Relaxed);
        Self::count(&self.counts.published);
    }

    /// What must be true whenever nothing is at work.
    fn check(&self) {
        let store = self.test_store.store_path().join("artifacts/x");
        let published = self.counts.published.load(Ordering::Relaxed);
        assert_eq!(numbers(&store.join("versions"), "v"), (0..published).collect::<Vec<_>>(), "versions are dense");
        for (dir, entries) in [("aliases", ALIASES.map(str::to_owned).to_vec()), ("notes", names(&store.join("notes")))]
        {
            for entry in entries {
                let log = numbers(&store.join(dir).join(&entry), "");
                assert_eq!(log, (1..=log.len() as u64).collect::<Vec<_>>(), "the log {dir}/{entry} is dense");
            }
        }
        let list = self.test_store.json(&["list", "x"]);
        let live: BTreeMap<u64, &Value> =
            list.as_array().unwrap().iter().map(|v| (number_of(&v["version"]), v)).collect();
        let removed = self.removed.lock();
        let expected: Vec<u64> = (0..published).filter(|number| !removed.contains(number)).collect();
        // One of two removals at once may bring back what the other one removed, because an alias moved to it.
        let lost: Vec<_> = expected.iter().filter(|number| !live.contains_key(number)).collect();
        assert!(lost.is_empty(), "{lost:?} were not removed and are gone");
        for alias in ALIASES {
            let out = self.test_store.cairn(&["show", &format!("x:{alias}"), "--json"]).output().unwrap();
            let stderr = text(&out.stderr);
            assert!(!stderr.contains("is removed"), "no removal was forced: {stderr}");
            if out.status.success() {
                let shown: Value = serde_json::from_slice(&out.stdout).unwrap();
                assert!(live.contains_key(&number_of(&shown["version"])), "{alias}: {}", shown["version"]);
            }
        }
        // By the library: a process for each version would take longer than what is checked.
        let opened = self.test_store.store();
        for (number, recorded) in self.recorded.lock().iter().filter(|(number, _)| live.contains_key(number)) {
            let found = opened.version(&format!("x:v{number}")).unwrap().annotations().unwrap();
            for key in recorded {
                let is_tag = found.tags.iter().any(|tag| tag.as_str() == key);
                assert!(is_tag || found.metadata.get(key) == Some(&1.into()), "x:v{number} lost {key}");
            }
        }
        let log = self.test_store.run(&["log", "x", "--json"], 0);
        assert_eq!(text(&log.stderr), "", "each record can be read");
    }
}

fn number_of(version: &Value) -> u64 {
    version.as_str().unwrap().strip_prefix('v').unwrap().parse().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// The numbers that names in a directory are, after a prefix.
fn numbers(dir: &Path, prefix: &str) -> Vec<u64> {
    let mut found: Vec<u64> = names(dir).iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
    found.sort();
    found
}

#[test]
fn many_processes_move_aliases_annotate_and_remove_versions() {
    let seconds = setting("CAIRN_CATALOG_STORM_SECONDS", 3);
    let storm = Storm {
        test_store: TestStore::new(),
        counts: Counts::default(),
        recorded: Mutex::default(),
        removed: Mutex::default(),
        highest: AtomicU64::new(0),
        unique: AtomicU64::new(0),
    };
    storm.put(0);
    for round in 0..seconds {
        let until = Instant::now() + Duration::from_secs(1);
        std::thread::scope(|scope| {
            for process in 0..PROCESSES {
                let storm = &storm;
                scope.spawn(move || storm.work(process, until, &mut Dice(round * PROCESSES + process + 1)));
            }
        });
        storm.check();
    }
    storm.test_store.ok(&["verify", "-q"]);
    let counts = &storm.counts;
    let [moved, refused_moves, annotated, removed, refused_removals, published] = [
        &counts.moved,
        &counts.refused_moves,
        &counts.annotated,
        &counts.removed,
        &counts.refused_removals,
        &counts.published,
    ]
    .map(|counter| counter.load(Ordering::Relaxed));
    println!(
        "{seconds} s: {published} versions, {moved} moves of aliases ({refused_moves} refused), {annotated} \
         annotations, {removed} removals ({refused_removals} refused)"
    );
    assert!(moved > 0 && annotated > 0 && published > 1, "something happened");
}
