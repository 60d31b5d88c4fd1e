//! What the other writers of a draft cost an upsert.

use crate::support::{TestStore, make_tree, resume, steps};
use cairn::catalog::Draft;
use cairn::types::{ArtifactName, DistributedId};
use std::process::Child;

fn args(run: &str) -> [&str; 7] {
    ["upsert", "x", "f", "--run", run, "--distributed-id", "d"]
}

fn last(test_store: &TestStore) -> u64 {
    let (name, id) = (ArtifactName::parse("x").unwrap(), DistributedId::parse("d").unwrap());
    Draft::new(&test_store.store(), &name, &id).state().unwrap().last
}

/// Whether a token in `work/` is committed.
fn is_committed(test_store: &TestStore) -> bool {
    let tokens = std::fs::read_dir(test_store.store_path().join("work")).unwrap();
    let outcomes = tokens.map(|token| std::fs::read_link(token.unwrap().path().join("outcome")));
    outcomes.flatten().any(|text| text.to_str() == Some("commit"))
}

/// The step before which an upsert is committed and has no number yet.
fn step_of_the_claim(test_store: &TestStore, of: u64) -> u64 {
    for step in 1..=of {
        let before = last(test_store);
        let writer = test_store.stopped_before(step, &args(&format!("probe-{step}")));
        let found = is_committed(test_store) && last(test_store) == before;
        succeeds(writer);
        if found {
            return step;
        }
    }
    panic!("none of its {of} steps is between the commit and the claim");
}

fn succeeds(stopped: Child) {
    resume(&stopped);
    assert!(stopped.wait_with_output().unwrap().status.success());
}

#[test]
fn an_upsert_claims_nothing_for_committed_writers_at_work_and_claims_for_one_that_was_killed() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    test_store.ok(&args("first"));
    let alone = steps(&test_store, &args("second"));
    let claim = step_of_the_claim(&test_store, alone);
    let before = last(&test_store);
    let stopped: Vec<_> = (0..3).map(|n| test_store.stopped_before(claim, &args(&format!("stopped-{n}")))).collect();
    assert!(is_committed(&test_store));

    assert_eq!(steps(&test_store, &args("third")), alone, "as many steps as without other writers");
    assert_eq!(last(&test_store), before + 1, "its own number");
    stopped.into_iter().for_each(succeeds);
    assert_eq!(last(&test_store), before + 4, "each writer takes its own");

    let mut killed = test_store.stopped_before(claim, &args("killed"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(last(&test_store), before + 4);
    test_store.ok(&args("fourth"));
    assert_eq!(last(&test_store), before + 6, "that of the killed writer comes first");
    assert_eq!(test_store.ok(&["verify"]), "");
}
