//! Reads and listings that fail, or that show less than there is, while a collection works: nothing is freed after an
//! error, and what is needed stays (L18).

use crate::support::{TestStore, files, make_tree, memory_dir, random_bytes, shim, text};
use cairn::gc::{GcOptions, collect};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

const NAMES: [&str; 2] = ["store", "a3"];
/// After each group of collections, one store is read whole.
const WHOLE_EACH: u64 = 16;

/// A store that was collected once, so that it has a history. Then `a:v0` was removed. It has `a:v1`, several artifacts
/// and an open draft.
fn start() -> TestStore {
    let test_store = TestStore { dir: memory_dir() };
    cairn::Store::init(test_store.store_path(), &Default::default()).unwrap();
    let shared = random_bytes(1, 200_000);
    for (artifact, seed) in [("b", 4), ("a", 2), ("a", 3), ("c", 5)] {
        let dir = format!("{artifact}{seed}");
        let (own, note) = (random_bytes(seed, 300_000), format!("note {seed}"));
        let files: [(&str, &[u8]); 4] =
            [("shared.bin", &shared), ("d/shared.txt", b"shared"), ("own.bin", &own), ("d/own.txt", note.as_bytes())];
        make_tree(&test_store.path(&dir), &files);
        test_store.ok(&["put", artifact, &dir, "--alias", &format!("alias-{seed}")]);
    }
    test_store.ok(&["upsert", "e", "b4/d", "--distributed-id", "j", "--run", "r1"]);
    make_tree(&test_store.path("part"), &[("x", b"in a draft"), ("big", &random_bytes(7, 200_000))]);
    test_store.ok(&["upsert", "e", "part", "--distributed-id", "j", "--run", "r2"]);
    test_store.ok(&["gc", "--min-age", "0"]);
    test_store.ok(&["rm", "a:v0", "--force"]);
    test_store
}

/// Objects and packs, with the places where they are.
fn content(test_store: &TestStore) -> BTreeSet<PathBuf> {
    ["objects", "packs", "trash"].iter().flat_map(|dir| files(&test_store.store_path().join(dir))).collect()
}

/// The objects and packs, in place or in the trash, by the ends of their names.
fn names(content: &BTreeSet<PathBuf>) -> BTreeSet<String> {
    content.iter().map(|path| text(path.as_os_str().as_encoded_bytes())).map(|p| p[p.len() - 60..].into()).collect()
}

struct Reads {
    from: TestStore,
    shim: PathBuf,
    is_short: bool,
    /// What a collection without faults leaves, and what it frees.
    needed: BTreeSet<String>,
    garbage: BTreeSet<String>,
}

impl Reads {
    fn new(is_short: bool) -> Option<Reads> {
        let from = start();
        let shim = shim(&from, "readfail.c")?;
        let before = names(&content(&from));
        let collected = from.copy_to(memory_dir(), &NAMES);
        collected.ok(&["gc", "--min-age", "0"]);
        let needed = names(&content(&collected));
        let garbage: BTreeSet<_> = before.difference(&needed).cloned().collect();
        assert!(garbage.len() >= 2, "{garbage:?}");
        Some(Reads { from, shim, is_short, needed, garbage })
    }

    /// A collection of a copy, in which that call fails.
    fn gc(&self, test_store: &TestStore, at: u64, freed: &Path, count: Option<&Path>) -> Output {
        let mut command = test_store.cairn(&["gc", "--min-age", "0"]);
        command
            .env("LD_PRELOAD", &self.shim)
            .env("READFAIL_BELOW", std::fs::canonicalize(test_store.store_path()).unwrap())
            .env("READFAIL_AT", at.to_string())
            .env("READFAIL_FREED", freed);
        if self.is_short {
            command.env("READFAIL_SHORT", "1");
        }
        if let Some(count) = count {
            command.env("READFAIL_COUNT", count);
        }
        command.output().unwrap()
    }

    fn copy(&self) -> TestStore {
        self.from.copy_to(memory_dir(), &NAMES)
    }

    fn calls(&self) -> u64 {
        let (test_store, count) = (self.copy(), self.from.path("calls"));
        assert!(self.gc(&test_store, 0, &self.from.path("freed"), Some(&count)).status.success());
        std::fs::read_to_string(&count).unwrap().parse().unwrap()
    }

    /// What holds after a collection in which a call failed. Returns whether the collection ended with an error.
    fn check(&self, at: u64) -> bool {
        let test_store = self.copy();
        let freed = test_store.path("freed");
        let output = self.gc(&test_store, at, &freed, None);
        let label = format!("call {at}: {:?} {}", output.status, text(&output.stderr));
        let has_failed = output.status.code() != Some(0);
        assert!(matches!(output.status.code(), Some(0 | 3 | 4 | 5 | 6)), "{label}");
        assert!(!(has_failed && freed.exists()), "it freed content after the error: {label}");
        let left = content(&test_store);
        let missing: Vec<_> = self.needed.difference(&names(&left)).cloned().collect();
        assert!(missing.is_empty(), "{missing:?} was freed: {label}");
        let in_place = left.into_iter().filter(|path| !path.starts_with(test_store.store_path().join("trash")));
        let moved: Vec<_> = self.needed.difference(&names(&in_place.collect())).cloned().collect();
        assert!(has_failed || moved.is_empty(), "{moved:?} is not in its place: {label}");
        if at.is_multiple_of(WHOLE_EACH) {
            self.read_whole(&test_store, &label);
        }
        has_failed
    }

    /// Everything reads as it was put, and the next collection finishes the work.
    fn read_whole(&self, test_store: &TestStore, label: &str) {
        test_store.clean(label);
        test_store.ok(&["diff", "a:v1", "./a3"]);
        collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
        assert!(names(&content(test_store)).is_disjoint(&self.garbage), "{label}");
        assert_eq!(test_store.ok(&["finish", "e", "--distributed-id", "j"]), "e:v0");
        assert_eq!(test_store.ok(&["cat", "e", "x"]), "in a draft");
        test_store.clean(label);
    }

    /// Lets each call fail once. Returns in how many cases the collection ended with an error, and how many there are.
    fn check_all(&self) -> (usize, u64) {
        let calls = self.calls();
        let failed = std::thread::scope(|scope| {
            let part = |n: u64| scope.spawn(move || (1 + n..=calls).step_by(2).filter(|at| self.check(*at)).count());
            [part(0), part(1)].into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        (failed, calls)
    }
}

#[test]
fn after_any_read_or_listing_that_fails_nothing_is_freed() {
    let Some(reads) = Reads::new(false) else { return };
    let (failed, calls) = reads.check_all();
    println!("{failed} of {calls} failed calls ended the collection");
    assert!(calls > 300 && failed as u64 * 10 > calls * 6, "{failed} of {calls}");
}

#[test]
fn a_listing_that_ends_early_frees_nothing_that_is_needed() {
    let Some(reads) = Reads::new(true) else { return };
    let (failed, calls) = reads.check_all();
    println!("{failed} of {calls} listings that ended early ended the collection");
    assert!(calls > 100 && failed > 10, "{failed} of {calls}");
}
