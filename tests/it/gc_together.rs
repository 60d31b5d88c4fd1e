//! Several collections at once, as processes: each does its part or says what another one did, and nothing is lost.

use crate::support::{Dice, TestStore, make_tree, random_bytes, resume, snapshot, steps, text, wait_stopped};
use cairn::gc::{GcOptions, collect};
use cairn::verify::{Scope, VerifyOptions, verify};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GC: [&str; 3] = ["gc", "--min-age", "0"];

/// A store with `a:v0` (removed), `a:v1` and `b:v0`.
fn start() -> TestStore {
    let test_store = TestStore::new();
    for (artifact, seed) in [("b", 4), ("a", 2), ("a", 3)] {
        let dir = format!("{artifact}{seed}");
        let (own, note) = (random_bytes(seed, 300_000), format!("note {seed}"));
        make_tree(&test_store.path(&dir), &[("own.bin", &own), ("d/own.txt", note.as_bytes())]);
        test_store.ok(&["put", artifact, &dir]);
    }
    test_store.ok(&["rm", "a:v0"]);
    test_store
}

fn clean(test_store: &TestStore) {
    let report = verify(&test_store.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// Everything is there, and after a last collection nothing is left over.
fn whole(test_store: &TestStore) {
    clean(test_store);
    for (version, source) in [("a:v1", "a3"), ("b:v0", "b4")] {
        test_store.ok(&["diff", version, &format!("./{source}")]);
    }
    let report = collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
    assert_eq!(report.taken_over, 0, "{report:?}");
    for dir in ["trash", "work", "locks"] {
        let left: Vec<_> = std::fs::read_dir(test_store.store_path().join(dir)).unwrap().map(Result::unwrap).collect();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
}

/// Removes the lock files of a process, as `cairn locks --break` does.
fn break_locks(test_store: &TestStore, child: &Child) {
    for lock in std::fs::read_dir(test_store.store_path().join("locks")).unwrap().flatten() {
        let held = std::fs::read_to_string(lock.path()).unwrap_or_default();
        if held.contains(&format!("\"pid\": {},", child.id())) {
            drop(std::fs::remove_file(lock.path()));
        }
    }
}

fn stopped_gc(test_store: &TestStore, step: u64) -> Child {
    let mut command = test_store.cairn(&[&GC[..], &["--json"]].concat());
    command.env("CAIRN_FAULT", format!("stop:{step}")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_stopped(&child);
    child
}

#[test]
fn a_collection_that_is_stopped_at_any_step_and_whose_batch_another_one_takes_over_continues() {
    let from = start();
    let names = ["store", "a2", "a3", "b4"];
    let last = steps(&from.copy(&names), &GC);
    let mut taken_over = 0;
    for step in 1..=last {
        let test_store = from.copy(&names);
        let child = stopped_gc(&test_store, step);
        break_locks(&test_store, &child);
        test_store.ok(&GC);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "step {step}: {}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        taken_over += report["taken_over"].as_u64().unwrap();
        whole(&test_store);
    }
    assert!(taken_over > 0, "some step was one at which the batch was taken over");
}

#[test]
fn a_collection_leaves_the_batch_of_another_one_that_is_alive_alone_and_says_so() {
    let from = start();
    let names = ["store", "a2", "a3", "b4"];
    let last = steps(&from.copy(&names), &GC);
    let mut seen = 0;
    for step in 1..=last {
        let test_store = from.copy(&names);
        let child = stopped_gc(&test_store, step);
        let output = test_store.run(&[&GC[..], &["--json"]].concat(), 0);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if let Some(other) = report["other_collections"].as_array().unwrap().first() {
            assert_eq!(other["pid"].as_u64(), Some(child.id().into()));
            assert!(text(&output.stderr).contains("another gc"), "{}", text(&output.stderr));
            seen += 1;
        }
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "step {step}: {}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["taken_over"], 0, "step {step}");
        whole(&test_store);
    }
    assert!(seen > 2, "the other collection had a batch at several steps");
}

/// A collection fences a token that has no lock. If its holder takes the lock only then, another collection finds a
/// token that is fenced and whose holder is alive: it leaves the token to its holder.
#[test]
fn a_writer_that_was_fenced_while_it_took_its_lock_begins_again_whatever_another_collection_does() {
    let from = start();
    let names = ["store", "a2", "a3", "b4"];
    let put = ["put", "c", "b4", "--new-version"];
    let last = steps(&from.copy(&names), &put);
    let mut fenced = 0;
    for step in 1..=last {
        let test_store = from.copy(&names);
        let mut command = test_store.cairn(&put);
        let child = command.env("CAIRN_FAULT", format!("stop:{step}")).stderr(Stdio::piped()).spawn().unwrap();
        wait_stopped(&child);
        let in_store = |name: &str| test_store.store_path().join(name);
        if std::fs::read_dir(in_store("locks")).unwrap().count() == 1 {
            for token in std::fs::read_dir(in_store("work")).unwrap().map(|token| token.unwrap().path()) {
                fenced += u32::from(std::os::unix::fs::symlink("fenced", token.join("outcome")).is_ok());
            }
        }
        test_store.ok(&GC);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "step {step}: {}", text(&output.stderr));
        test_store.ok(&["diff", "c:v0", "./b4"]);
        whole(&test_store);
    }
    assert!(fenced > 3, "its token was fenced at {fenced} of {last} steps");
}

/// The versions that were put, with what they hold.
type Versions = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Puts versions of little content that comes and goes, and removes older ones. Returns those that are left.
fn writer(test_store: &TestStore, k: u64, until: Instant) -> Versions {
    let (mut dice, mut left) = (Dice(77 + k), Versions::new());
    while Instant::now() < until {
        let dir = format!("src{k}");
        let _ = std::fs::remove_dir_all(test_store.path(&dir));
        let large = random_bytes(100 + dice.roll(5), 150_000);
        let small = format!("small {} ", dice.roll(9)).repeat(500);
        make_tree(&test_store.path(&dir), &[("large.bin", &large), ("small.txt", small.as_bytes())]);
        let name = test_store.ok(&["put", &format!("w{k}"), &dir, "--new-version"]);
        left.insert(name, snapshot(&test_store.path(&dir)));
        if left.len() > 3 {
            let at = dice.pick(left.len());
            let name = left.keys().nth(at).unwrap().clone();
            test_store.ok(&["rm", &name]);
            left.remove(&name);
        }
    }
    left
}

/// Collections in a loop; now and then one whose locks are broken. Each exits with 0.
fn collector(test_store: &TestStore, k: u64, until: Instant, taken_over: &AtomicU64) -> u64 {
    let (mut dice, mut rounds) = (Dice(55 + k), 0);
    while Instant::now() < until {
        let args = [&GC[..], &["--json"]].concat();
        let child = test_store.cairn(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if dice.roll(3) == 0 {
            std::thread::sleep(Duration::from_millis(dice.roll(40)));
            break_locks(test_store, &child);
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        taken_over.fetch_add(report["taken_over"].as_u64().unwrap(), Ordering::Relaxed);
        rounds += 1;
    }
    rounds
}

#[test]
fn three_processes_that_collect_at_once_while_others_write_all_exit_with_0_and_lose_nothing() {
    let test_store = TestStore::new();
    let taken_over = AtomicU64::new(0);
    let seconds = std::env::var("CAIRN_GC_LOAD_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (versions, rounds) = std::thread::scope(|scope| {
        let (test_store, taken_over) = (&test_store, &taken_over);
        let writers: Vec<_> = (0..2).map(|k| scope.spawn(move || writer(test_store, k, until))).collect();
        let collectors: Vec<_> =
            (0..3).map(|k| scope.spawn(move || collector(test_store, k, until, taken_over))).collect();
        let versions: Versions = writers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (versions, collectors.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>())
    });
    println!("{rounds} collections, {} files taken over, {} versions left", taken_over.into_inner(), versions.len());
    assert!(rounds > 6 && versions.len() > 3);
    for _ in 0..2 {
        test_store.ok(&GC);
    }
    clean(&test_store);
    for (name, content) in versions {
        test_store.ok(&["get", &name, "out"]);
        assert_eq!(snapshot(&test_store.path("out")), content, "{name}");
        std::fs::remove_dir_all(test_store.path("out")).unwrap();
    }
    for dir in ["trash", "work", "locks"] {
        assert_eq!(std::fs::read_dir(test_store.store_path().join(dir)).unwrap().count(), 0, "{dir}");
    }
}
