//! Processes that patch one artifact at once, some of them killed: every acknowledged change is in the newest version,
//! numbers are dense (L8, L9).
//!
//! `CAIRN_STORM_ROUNDS=1000 cargo test --release --test it patching -- --nocapture` is the long form.

use crate::support::{Dice, TestStore, make_tree, text};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn rounds(quick: usize) -> usize {
    std::env::var("CAIRN_STORM_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(quick)
}

#[derive(Default)]
struct Tally {
    /// The acknowledged paths and contents, with the printed version.
    acknowledged: Vec<(String, String, u64)>,
    conflicts: usize,
    killed: usize,
    rebased: usize,
}

/// One patch of `path`, killed now and then; repeated until it is answered. `None`: a conflict.
fn patch(
    test_store: &TestStore,
    base: &str,
    source: &str,
    at: &str,
    dice: &mut Dice,
    tally: &Mutex<Tally>,
) -> Option<u64> {
    loop {
        let mut child = test_store
            .cairn(&["patch", base, source, "--at", at, "--create"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if dice.roll(4) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(40_000)));
            let _ = child.kill(); // it may have ended
        }
        let out = child.wait_with_output().unwrap();
        match out.status.code() {
            Some(0) => {
                let mut tally = tally.lock().unwrap();
                tally.rebased += usize::from(text(&out.stderr).contains("rebased:"));
                return Some(text(&out.stdout).trim().strip_prefix("p:v").unwrap().parse().unwrap());
            }
            Some(3) => {
                tally.lock().unwrap().conflicts += 1;
                return None;
            }
            None => tally.lock().unwrap().killed += 1,
            other => panic!("{other:?}: {}", text(&out.stderr)),
        }
    }
}

/// `writers` processes at a time, each patching `rounds` times: a path of its own, and, if `overlapping`, one that all
/// want.
fn storm(writers: usize, rounds: usize, overlapping: bool) {
    let test_store = TestStore::new();
    let tally = Mutex::new(Tally::default());
    let begun = Instant::now();
    std::thread::scope(|s| {
        for writer in 0..writers {
            let (test_store, tally) = (&test_store, &tally);
            s.spawn(move || {
                let mut dice = Dice(writer as u64 + 1);
                for round in 0..rounds {
                    let (file, content) = (format!("w{writer}/f{round}"), format!("{writer} {round}"));
                    make_tree(
                        &test_store.path("in"),
                        &[(&file, content.as_bytes()), (&format!("s{writer}/shared"), content.as_bytes())],
                    );
                    let at = format!("own/{writer}");
                    let number = patch(test_store, "p", &format!("in/{file}"), &at, &mut dice, tally)
                        .expect("paths of its own conflict with no other process");
                    tally.lock().unwrap().acknowledged.push((format!("{at}/f{round}"), content.clone(), number));
                    if overlapping
                        && let Some(number) =
                            patch(test_store, "p", &format!("in/s{writer}/shared"), "all", &mut dice, tally)
                    {
                        tally.lock().unwrap().acknowledged.push(("all/shared".into(), content, number));
                    }
                }
            });
        }
    });
    let took = begun.elapsed();
    let tally = tally.into_inner().unwrap();
    let store = test_store.store();
    let versions =
        cairn::internals::catalog::version::versions(&store, &cairn::types::ArtifactName::parse("p").unwrap()).unwrap();
    assert!(versions.iter().enumerate().all(|(i, v)| v.number().0 == i as u64), "numbers are dense");
    let newest = versions.last().unwrap();
    let read = |version: &cairn::Version, path: &str| {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut version.open(path).unwrap(), &mut out).unwrap();
        out
    };
    let mut shared: BTreeMap<u64, &str> = BTreeMap::new();
    for (path, content, number) in &tally.acknowledged {
        if path == "all/shared" {
            shared.insert(*number, content);
        } else {
            assert_eq!(read(newest, path), *content, "{path} was acknowledged");
        }
    }
    for (number, content) in &shared {
        assert_eq!(read(&versions[*number as usize], "all/shared"), **content, "v{number} was acknowledged");
    }
    assert!(versions.len() <= tally.acknowledged.len() + tally.killed);
    test_store.clean("at the end");
    println!(
        "{writers} writers x {rounds} {}: {} versions, {} acknowledged, {} conflicts, {} killed, {} rebased, {:.1} s",
        if overlapping { "disjoint and overlapping" } else { "disjoint" },
        versions.len(),
        tally.acknowledged.len(),
        tally.conflicts,
        tally.killed,
        tally.rebased,
        took.as_secs_f64()
    );
}

#[test]
fn two_processes_patching_at_once_lose_nothing() {
    storm(2, rounds(15), false);
}

#[test]
fn two_processes_patching_the_same_paths_lose_nothing_that_was_acknowledged() {
    storm(2, rounds(10), true);
}

#[test]
fn eight_processes_patching_at_once_lose_nothing() {
    storm(8, rounds(6), false);
}

#[test]
fn eight_processes_patching_the_same_paths_lose_nothing_that_was_acknowledged() {
    storm(8, rounds(4), true);
}
