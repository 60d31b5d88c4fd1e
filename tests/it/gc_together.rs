//! Several collections at once, as processes: each does its part or says what another one did, and nothing is lost.

use crate::support::{Dice, TestStore, make_tree, random_bytes, resume, setting, snapshot, steps, text};
use cairn::gc::{GcOptions, collect};
use std::collections::BTreeMap;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GC: [&str; 3] = ["gc", "--min-age", "0"];
const GC_JSON: [&str; 4] = ["gc", "--min-age", "0", "--json"];

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

/// Everything is there, and after a last collection nothing is left over.
fn whole(test_store: &TestStore, label: &str) {
    test_store.clean(label);
    for (version, source) in [("a:v1", "a3"), ("b:v0", "b4")] {
        test_store.ok(&["diff", version, &format!("./{source}")]);
    }
    let report = collect(&test_store.store(), &GcOptions::default().min_age(Duration::ZERO)).unwrap();
    assert_eq!(report.taken_over, 0, "{label}: {report:?}");
    nothing_left(test_store, label);
}

fn nothing_left(test_store: &TestStore, label: &str) {
    for dir in ["trash", "work", "locks"] {
        let left: Vec<_> = std::fs::read_dir(test_store.store_path().join(dir)).unwrap().map(Result::unwrap).collect();
        assert!(left.is_empty(), "{label}: {dir}: {left:?}");
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

/// Stops a command before each step at which it changes the disk, while `meanwhile` runs, then lets it continue. It
/// must succeed, and the store must be whole; `check` gets what it printed. Returns how many steps it has.
fn at_each_step(
    args: &[&str],
    mut meanwhile: impl FnMut(&TestStore, &Child),
    mut check: impl FnMut(&TestStore, &Output),
) -> u64 {
    let from = start();
    let copy = || from.copy(&["store", "a2", "a3", "b4"]);
    let last = steps(&copy(), args);
    for step in 1..=last {
        let test_store = copy();
        let child = test_store.stopped_before(step, args);
        meanwhile(&test_store, &child);
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "step {step}: {}", text(&output.stderr));
        check(&test_store, &output);
        whole(&test_store, &format!("step {step}"));
    }
    last
}

/// The report of a collection.
fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_collection_that_is_stopped_at_any_step_and_whose_batch_another_one_takes_over_continues() {
    let mut taken_over = 0;
    let other_takes_over = |test_store: &TestStore, child: &Child| {
        break_locks(test_store, child);
        test_store.ok(&GC);
    };
    at_each_step(&GC_JSON, other_takes_over, |_, output| taken_over += report(output)["taken_over"].as_u64().unwrap());
    assert!(taken_over > 0, "some step was one at which the batch was taken over");
}

#[test]
fn a_collection_leaves_the_batch_of_another_one_that_is_alive_alone_and_says_so() {
    let mut seen = 0;
    let other_collects = |test_store: &TestStore, child: &Child| {
        let output = test_store.run(&GC_JSON, 0);
        if let Some(other) = report(&output)["other_collections"].as_array().unwrap().first() {
            assert_eq!(other["pid"].as_u64(), Some(child.id().into()));
            assert!(text(&output.stderr).contains("another gc"), "{}", text(&output.stderr));
            seen += 1;
        }
    };
    at_each_step(&GC_JSON, other_collects, |_, output| assert_eq!(report(output)["taken_over"], 0));
    assert!(seen > 2, "the other collection had a batch at several steps");
}

/// A collection fences a token that has no lock. If its holder takes the lock only then, another collection finds a
/// token that is fenced and whose holder is alive: it leaves the token to its holder.
#[test]
fn a_writer_that_was_fenced_while_it_took_its_lock_begins_again_whatever_another_collection_does() {
    let mut fenced = 0;
    let fence_and_collect = |test_store: &TestStore, _: &Child| {
        let entries = |dir: &str| std::fs::read_dir(test_store.store_path().join(dir)).unwrap().map(Result::unwrap);
        if entries("locks").count() == 1 {
            for token in entries("work") {
                fenced += u32::from(std::os::unix::fs::symlink("fenced", token.path().join("outcome")).is_ok());
            }
        }
        test_store.ok(&GC);
    };
    let last = at_each_step(&["put", "c", "b4", "--new-version"], fence_and_collect, |test_store, _| {
        test_store.ok(&["diff", "c:v0", "./b4"]);
    });
    assert!(fenced > 3, "its token was fenced at {fenced} of {last} steps");
}

#[test]
fn a_writer_whose_token_was_ended_at_any_step_begins_again() {
    let mut ended = 0;
    let end_it = |test_store: &TestStore, child: &Child| {
        break_locks(test_store, child);
        test_store.ok(&GC);
        test_store.ok(&GC);
        ended += u32::from(std::fs::read_dir(test_store.store_path().join("work")).unwrap().count() == 0);
    };
    let last = at_each_step(&["put", "c", "a2", "--new-version"], end_it, |test_store, output| {
        test_store.ok(&["diff", "c:v0", "./a2"]); // content of a removed version, which was freed meanwhile
        assert_eq!(text(&output.stdout).trim(), "c:v0");
        assert_eq!(test_store.ok(&["list", "c"]).lines().count(), 1, "one version");
    });
    assert!(ended > 6, "its token was removed at {ended} of {last} steps");
}

#[test]
fn an_upsert_and_a_patch_whose_tokens_were_ended_at_any_step_begin_again() {
    let end_it = |test_store: &TestStore, child: &Child| {
        break_locks(test_store, child);
        test_store.ok(&GC);
        test_store.ok(&GC);
    };
    at_each_step(&["upsert", "c", "a2", "--distributed-id", "d", "--run", "r"], end_it, |test_store, _| {
        let shown = test_store.json(&["draft", "show", "c", "d"]);
        assert_eq!(shown["contributions"].as_array().unwrap().len(), 1);
    });
    at_each_step(&["patch", "b", "a2", "--at", "new"], end_it, |test_store, _| {
        assert_eq!(test_store.ok(&["list", "b"]).lines().count(), 2);
        assert!(test_store.ok(&["ls", "b:v1", "new"]).contains("own.bin"));
    });
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
        let child = test_store.cairn(&GC_JSON).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if dice.roll(3) == 0 {
            std::thread::sleep(Duration::from_millis(dice.roll(40)));
            break_locks(test_store, &child);
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
        taken_over.fetch_add(report(&output)["taken_over"].as_u64().unwrap(), Ordering::Relaxed);
        rounds += 1;
    }
    rounds
}

#[test]
fn three_processes_that_collect_at_once_while_others_write_all_exit_with_0_and_lose_nothing() {
    let test_store = TestStore::new();
    let taken_over = AtomicU64::new(0);
    let seconds = setting("CAIRN_GC_LOAD_SECONDS", 6);
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
    test_store.clean("at the end");
    for (name, content) in versions {
        test_store.ok(&["get", &name, "out"]);
        assert_eq!(snapshot(&test_store.path("out")), content, "{name}");
        std::fs::remove_dir_all(test_store.path("out")).unwrap();
    }
    nothing_left(&test_store, "at the end");
}
