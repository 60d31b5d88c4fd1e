//! A quota that is used up at each step that changes the disk: the command succeeds (with what the reserve holds), or
//! fails, says so, and leaves the store right. Run again, it succeeds.

use crate::support::{TestStore, make_tree, random_bytes, steps, text};
use cairn::catalog::{Draft, RunRecord};
use cairn::staging::{Resume, Stage};
use cairn::types::{ArtifactName, DistributedId, RunId};

const NAMES: [&str; 3] = ["store", "new", "part"];

/// A store with versions, a removed one, an open draft, and a stage that no process holds.
fn start() -> TestStore {
    let test_store = TestStore::new();
    let big = random_bytes(1, 200_000);
    make_tree(&test_store.path("old"), &[("big", &big), ("small", b"small")]);
    make_tree(&test_store.path("new"), &[("big", &random_bytes(2, 200_000)), ("d/small", b"new"), ("d/more", b"more")]);
    make_tree(&test_store.path("part"), &[("part", b"part"), ("big part", &random_bytes(3, 150_000))]);
    test_store.ok(&["put", "a", "old"]);
    test_store.ok(&["put", "a", "part"]);
    test_store.ok(&["put", "a", "new/d"]);
    test_store.ok(&["rm", "a:v0"]);
    test_store.ok(&["upsert", "c", "part", "--distributed-id", "j", "--run", "one"]);
    let (name, id) = (ArtifactName::parse("s").unwrap(), DistributedId::parse("d").unwrap());
    let run = RunRecord { id: RunId::parse("r").unwrap(), group: None, job_type: None };
    let stage = Stage::open(&Draft::new(&test_store.store(), &name, &id), &run, None, Resume::Continue).unwrap();
    make_tree(&stage.directory(), &[("staged", b"staged"), ("large", &random_bytes(4, 200_000))]);
    drop(stage);
    test_store
}

#[test]
fn a_quota_used_up_at_any_step_is_named_and_leaves_the_store_right() {
    let from = start();
    let commands: [&[&str]; 8] = [
        &["put", "a", "new"],
        &["put", "first", "new"],
        &["patch", "a", "new/big", "--at", "p"],
        &["upsert", "c", "new", "--distributed-id", "j", "--run", "two"],
        &["finish", "c", "--distributed-id", "j"],
        &["upsert", "s", "--distributed-id", "d", "--run", "r"],
        &["rm", "a:v1"],
        &["gc", "--min-age", "0"],
    ];
    // At the same time: most of the time they wait for the disk.
    std::thread::scope(|scope| {
        for args in commands {
            let from = &from;
            scope.spawn(move || at_each_step(from, args));
        }
    });
}

fn at_each_step(from: &TestStore, args: &[&str]) {
    let steps = steps(&from.copy(&NAMES), args);
    let mut failed = 0;
    for step in 1..=steps {
        let test_store = from.copy(&NAMES);
        let output = test_store.cairn(args).env("CAIRN_FAULT", format!("quota:{step}")).output().unwrap();
        let message = text(&output.stderr);
        let label = format!("{args:?} at step {step}: {:?} {message}", output.status);
        match output.status.code() {
            Some(0) => {}
            Some(5) => {
                failed += 1;
                assert!(message.contains("quota") && message.contains("hint: "), "{label}");
                assert!(!message.contains("No space left"), "{label}");
            }
            _ => panic!("{label}"),
        }
        test_store.clean(&label);
        let again = test_store.cairn(args).output().unwrap();
        // What was done before the fault is not done twice.
        let done = match (args[0], again.status.code()) {
            (_, Some(0)) | ("rm", Some(6)) => true,
            ("upsert", Some(3 | 6)) => text(&again.stderr).contains("it has contributed already"),
            _ => false,
        };
        assert!(done, "again after {label}: {}", text(&again.stderr));
        test_store.clean(&label);
    }
    println!("{args:?}: {failed} of {steps} steps failed");
    let has_reserve = matches!(args[0], "rm" | "gc");
    assert!(steps > 3 && (failed > 0 || has_reserve), "{args:?}: {failed} of {steps}");
}
