//! Many processes make one version: some share files, some retry, some are killed, some finish. What was acknowledged
//! is in the version, once; numbers are dense; nothing is accepted and lost (L11, L12).
//!
//! `CAIRN_STORM_RUNS=64 CAIRN_STORM_FILES=1000 CAIRN_STORM_ROUNDS=20 cargo test --release --test it storm --
//! --nocapture` is the long form.

use crate::support::{Dice, TestStore, setting, text};
use cairn::catalog::Draft;
use cairn::types::{ArtifactName, DistributedId};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Tally {
    killed: AtomicUsize,
    finished: AtomicUsize,
    broken: AtomicUsize,
    /// Runs whose upsert was acknowledged, and runs refused because the draft is finished.
    acknowledged: Mutex<Vec<usize>>,
    refused: Mutex<Vec<usize>>,
}

/// What run `run` contributes: files of its own, and files that all have.
fn prepare(test_store: &TestStore, run: usize, files: usize) {
    let dir = test_store.path(&format!("in{run}"));
    std::fs::create_dir_all(dir.join(format!("rank-{run}"))).unwrap();
    std::fs::create_dir_all(dir.join("shared")).unwrap();
    for i in 0..files {
        let (path, content) = if i % 4 == 0 {
            (format!("shared/f{i}"), format!("all {i}"))
        } else {
            (format!("rank-{run}/f{i}"), format!("{run} {i}"))
        };
        std::fs::write(dir.join(path), content).unwrap();
    }
}

fn wanted(runs: impl Iterator<Item = usize>, files: usize) -> BTreeMap<String, String> {
    runs.flat_map(|run| {
        (0..files).map(move |i| {
            if i % 4 == 0 {
                (format!("shared/f{i}"), format!("all {i}"))
            } else {
                (format!("rank-{run}/f{i}"), format!("{run} {i}"))
            }
        })
    })
    .collect()
}

/// One process, killed at random, and run again until it answers.
fn persist(test_store: &TestStore, args: &[&str], dice: &mut Dice, tally: &Tally) -> (i32, String) {
    loop {
        let mut child = test_store.cairn(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if dice.roll(4) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(60_000)));
            let _ = child.kill(); // it may have ended
        }
        let out = child.wait_with_output().unwrap();
        let stderr = text(&out.stderr);
        match out.status.code() {
            None => drop(tally.killed.fetch_add(1, Ordering::Relaxed)),
            // A killed process's children don't exist; only another live one of this run is refused so, and there is
            // none.
            Some(code @ (0 | 3)) => return (code, if code == 0 { text(&out.stdout) } else { stderr }),
            other => panic!("{args:?}: {other:?} {stderr}"),
        }
    }
}

/// Breaks locks at random. Locks are advisory, so this must have no effect (L13).
fn break_locks(test_store: &TestStore, stop: &AtomicBool, dice: &mut Dice, tally: &Tally) {
    while !stop.load(Ordering::Relaxed) {
        for lock in std::fs::read_dir(test_store.store_path().join("locks")).unwrap().flatten() {
            if dice.roll(2) == 0 {
                tally.broken.fetch_add(usize::from(std::fs::remove_file(lock.path()).is_ok()), Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(dice.roll(30)));
    }
}

/// `runs` processes at once on one id; finishers begin when about two thirds are through, so that late ones race the
/// finish.
fn storm(runs: usize, files: usize, rounds: usize, early: bool) {
    let test_store = TestStore::new();
    let tally = Tally::default();
    (0..runs).for_each(|run| prepare(&test_store, run, files));
    let begun = Instant::now();
    let mut versions = 0;
    for round in 0..rounds {
        let id = format!("round {round}");
        let done = AtomicUsize::new(0);
        tally.acknowledged.lock().unwrap().clear();
        tally.refused.lock().unwrap().clear();
        let numbers = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let (test_store, tally, id, done, numbers, stop) = (&test_store, &tally, &id, &done, &numbers, &stop);
            s.spawn(move || break_locks(test_store, stop, &mut Dice(round as u64 + 99), tally));
            let workers: Vec<_> = (0..runs)
                .map(|run| {
                    s.spawn(move || {
                        let mut dice = Dice((round * 1000 + run) as u64 + 1);
                        std::thread::sleep(Duration::from_micros(dice.roll(20_000)));
                        let (source, name) = (format!("in{run}"), format!("rank-{run}"));
                        let args = ["upsert", "e", &source, "--run", &name, "--distributed-id", id];
                        let (code, stderr) = persist(test_store, &args, &mut dice, tally);
                        if code == 0 {
                            assert_eq!(stderr, format!("e {id} {name}\n"));
                            tally.acknowledged.lock().unwrap().push(run);
                        } else {
                            assert!(stderr.contains(" is finished"), "{stderr}");
                            tally.refused.lock().unwrap().push(run);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            let finishers: Vec<_> = (0..4)
                .map(|n| {
                    s.spawn(move || {
                        let mut dice = Dice((round * 10 + n) as u64 + 7);
                        let enough = if early { runs * 2 / 3 } else { runs };
                        while done.load(Ordering::Relaxed) < enough {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                        loop {
                            let mut args = vec!["finish", "e", "--distributed-id", id.as_str()];
                            args.extend(early.then_some("--skip-open"));
                            let (code, stderr) = persist(test_store, &args, &mut dice, tally);
                            if code == 0 {
                                numbers.lock().unwrap().push(stderr);
                                break;
                            }
                            assert!(stderr.contains("is writing on"), "{stderr}");
                        }
                        tally.finished.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            workers.into_iter().chain(finishers).for_each(|t| t.join().unwrap());
            stop.store(true, Ordering::Relaxed);
        });
        let numbers = numbers.into_inner().unwrap();
        assert!(numbers.iter().all(|n| *n == numbers[0]), "all finishers name one version: {numbers:?}");
        let acknowledged = tally.acknowledged.lock().unwrap().clone();
        let refused = tally.refused.lock().unwrap().clone();
        if !early {
            assert_eq!(acknowledged.len(), runs);
        }
        let store = test_store.store();
        let version = cairn::resolve(&store, &cairn::VersionSpec::parse(numbers[0].trim()).unwrap()).unwrap();
        let draft = Draft::new(&store, &ArtifactName::parse("e").unwrap(), &DistributedId::parse(&id).unwrap());
        let state = draft.state().unwrap();
        let inside: Vec<usize> =
            state.runs().iter().map(|r| r.as_str().strip_prefix("rank-").unwrap().parse().unwrap()).collect();
        assert!(
            acknowledged.iter().all(|run| inside.contains(run)),
            "acknowledged and not in it: {acknowledged:?} {inside:?}"
        );
        // A run that was killed after its claim, and got "finished" when it was started again, is in it: no error
        // denied that.
        assert!(inside.iter().all(|run| acknowledged.contains(run) || refused.contains(run)));
        let mut seen = BTreeMap::new();
        for visit in version.entries().unwrap() {
            let visit = visit.unwrap();
            if !visit.entry.is_directory() {
                let mut content = String::new();
                std::io::Read::read_to_string(&mut version.open(visit.path.as_bytes()).unwrap(), &mut content).unwrap();
                seen.insert(visit.path.to_string(), content);
            }
        }
        assert!(seen == wanted(inside.into_iter(), files), "round {round}: the version is the union");
        // An equal union again would be the version before it; else each draft makes exactly one.
        versions = versions.max(version.number().0 as usize + 1);
    }
    let store = test_store.store();
    let all = cairn::internals::catalog::version::versions(&store, &ArtifactName::parse("e").unwrap()).unwrap();
    assert!(
        all.len() == versions && all.iter().enumerate().all(|(i, v)| v.number().0 == i as u64),
        "numbers are dense"
    );
    test_store.clean("at the end");
    println!(
        "{runs} runs x {files} files, {rounds} rounds, {}: {} killed, {} locks broken, {} finishes, {} refused in the \
         last round, {versions} versions, 0 violations, {:.1} s",
        if early { "finished under way" } else { "finished at the end" },
        tally.killed.load(Ordering::Relaxed),
        tally.broken.load(Ordering::Relaxed),
        tally.finished.load(Ordering::Relaxed),
        tally.refused.lock().unwrap().len(),
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn a_storm_of_runs_that_all_come_through_gives_one_whole_version() {
    storm(setting("CAIRN_STORM_RUNS", 12), setting("CAIRN_STORM_FILES", 24), setting("CAIRN_STORM_ROUNDS", 2), false);
}

#[test]
fn under_load_a_finish_includes_each_run_or_its_upsert_fails() {
    storm(setting("CAIRN_STORM_RUNS", 12), setting("CAIRN_STORM_FILES", 24), setting("CAIRN_STORM_ROUNDS", 4), true);
}
