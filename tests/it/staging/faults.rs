//! A stage is sealed by a process that is killed, or gets an error, at every step that changes the disk. Afterwards the
//! same command gives exactly one contribution with all that was staged, and no object shares its inode with a stage
//! that can be written to.

use super::support::{LARGE, contributions, finished, left, whole};
use crate::support::{TestStore, at_once, copy_tree, faults, make_tree, random_bytes, snapshot, steps, text};
use cairn::catalog::{Draft, RunRecord};
use cairn::staging::{Resume, Stage};
use cairn::types::{ArtifactName, DistributedId, RunId};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

const SEAL: [&str; 6] = ["upsert", "a", "--run", "r", "--distributed-id", "d"];

fn open(test_store: &TestStore) -> (Stage, PathBuf) {
    let draft =
        Draft::new(&test_store.store(), &ArtifactName::parse("a").unwrap(), &DistributedId::parse("d").unwrap());
    let run = RunRecord { id: RunId::parse("r").unwrap(), group: None, job_type: None };
    let stage = Stage::open(&draft, &run, None, Resume::Continue).unwrap();
    let directory = stage.directory();
    (stage, directory)
}

/// A test store with a stage that no process holds.
fn start() -> TestStore {
    let test_store = TestStore::new();
    let (stage, directory) = open(&test_store);
    let (one, two) = (random_bytes(1, LARGE), random_bytes(2, 3 * LARGE));
    make_tree(
        &directory,
        &[
            ("small", b"small"),
            ("d/one", &one),
            ("d/two", &two),
            ("d/same", &one),
            ("tool", &random_bytes(3, LARGE)),
            ("empty/", b""),
        ],
    );
    std::fs::set_permissions(directory.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("small", directory.join("link")).unwrap();
    copy_tree(&directory, &test_store.path("want"));
    drop(stage);
    test_store
}

fn copy_of(from: &TestStore) -> TestStore {
    from.copy(&["store", "want"])
}

fn on_disk(from: &TestStore) -> TestStore {
    from.copy_on_disk(&["store", "want"])
}

/// The version that comes of the draft is what was staged.
fn right(test_store: &TestStore, label: &str) {
    assert_eq!(contributions(test_store, "r"), 1, "{label}");
    assert!(left(test_store).is_empty(), "{label}: {:?}", left(test_store));
    assert!(finished(test_store) == snapshot(&test_store.path("want")), "{label}");
    whole(test_store, label);
}

#[test]
fn a_seal_killed_or_failed_at_every_step_gives_one_contribution_when_it_is_repeated() {
    let from = start();
    let trial = on_disk(&from);
    let steps = steps(&trial, &SEAL);
    right(&trial, "without a fault");
    at_once(&faults(steps), |(kind, step)| {
        let test_store = on_disk(&from);
        let output = test_store.cairn(&SEAL).env("CAIRN_FAULT", format!("{kind}:{step}")).output().unwrap();
        let label = format!("{kind} at step {step} of {steps}: {:?} {}", output.status, text(&output.stderr));
        match *kind {
            "kill" => assert!(output.status.signal() == Some(9) || step + 8 > steps, "{label}"),
            _ => assert!(matches!(output.status.code(), Some(0 | 5)), "{label}"),
        }
        // What was an error left the stage open, or closed for a sealer to come; in neither case can a writer reach
        // an object.
        let closed = left(&test_store).iter().any(|n| n.ends_with(".sealing"));
        if !closed {
            whole(&test_store, &label);
        }
        let output = test_store.cairn(&SEAL).output().unwrap();
        assert!(
            matches!(output.status.code(), Some(0 | 6)),
            "again after {label}: {:?} {}",
            output.status,
            text(&output.stderr)
        );
        test_store.cairn(&["locks"]).output().unwrap();
        let (next, directory) = open(&test_store); // and a run that is started again begins with nothing
        assert_eq!(snapshot(&directory).len(), 0, "{label}");
        drop(next);
        test_store.run(&SEAL, 0);
        assert!(contributions(&test_store, "r") == 2, "{label}: that one, and an empty one");
        assert!(left(&test_store).is_empty(), "{label}: {:?}", left(&test_store));
        assert!(finished(&test_store) == snapshot(&test_store.path("want")), "{label}");
        whole(&test_store, &label);
    });
    println!("seal: {steps} steps, each killed and failed");
    assert!(steps > 30);
}

#[test]
fn a_run_that_is_started_again_after_a_seal_killed_at_any_step_writes_to_no_object() {
    let from = start();
    let steps = steps(&copy_of(&from), &SEAL);
    for step in 1..=steps {
        let test_store = copy_of(&from);
        drop(test_store.cairn(&SEAL).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap());
        let (stage, directory) = open(&test_store);
        make_tree(&directory, &[("small", b"later"), ("d/one", b"later")]);
        whole(&test_store, &format!("kill at step {step}, then written to"));
        drop(stage);
        test_store.run(&SEAL, 0);
        let mut want = snapshot(&test_store.path("want"));
        want.insert(b"small".to_vec(), b"- later".to_vec());
        want.insert(b"d/one".to_vec(), b"- later".to_vec());
        assert!(finished(&test_store) == want, "kill at step {step}");
        whole(&test_store, &format!("kill at step {step}, then sealed"));
    }
}

#[test]
fn throwing_a_stage_away_is_done_or_continues_when_it_is_killed() {
    let from = start();
    // A mount cannot be had with every step counted: the same call, from here.
    let test_store = copy_of(&from);
    let draft =
        Draft::new(&test_store.store(), &ArtifactName::parse("a").unwrap(), &DistributedId::parse("d").unwrap());
    let run = RunRecord { id: RunId::parse("r").unwrap(), group: None, job_type: None };
    // Cut off in the middle: the marker says what was meant, and half of the files are gone.
    let directory = super::support::backing(&test_store, "r");
    std::fs::write(directory.with_extension("sealing"), "dropped\n").unwrap();
    std::fs::remove_file(directory.join("d/one")).unwrap();
    test_store.run(&SEAL, 6);
    let stage = Stage::open(&draft, &run, None, Resume::Continue).unwrap();
    assert_ne!(stage.directory(), directory);
    assert!(!directory.exists() && snapshot(&stage.directory()).is_empty());
}

#[test]
fn annotations_of_a_seal_are_kept_if_the_sealer_died_after_recording_them() {
    let from = start();
    let steps = steps(&copy_of(&from), &SEAL);
    let mut late = 0;
    for step in (1..=steps).rev().take(12) {
        let test_store = copy_of(&from);
        test_store.cairn(&SEAL).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        if contributions(&test_store, "r") == 1 && left(&test_store).iter().any(|n| n.ends_with(".json")) {
            test_store.ok(&[&SEAL[..], &["--tag", "late"]].concat());
            assert!(
                left(&test_store).is_empty() && finished(&test_store) == snapshot(&test_store.path("want")),
                "step {step}"
            );
            assert!(test_store.ok(&["show", "a", "--json"]).contains(r#""late""#), "step {step}");
            late += 1;
        }
    }
    assert!(late > 0);
}
