//! Writers and finishers that stop before each of their disk steps, while others continue; fences at every step; many
//! finishers at once.

use crate::support::{TestStore, make_tree, resume, steps, text};
use std::path::Path;
use std::process::{Output, Stdio};

const UPSERT: [&str; 7] = ["upsert", "x", "late", "--run", "late", "--distributed-id", "d"];
const FINISH: [&str; 4] = ["finish", "x", "--distributed-id", "d"];

/// A store in memory with one contribution, `p`; a file for the one that comes late.
fn start() -> TestStore {
    let test_store = TestStore::in_memory();
    make_tree(&test_store.path(""), &[("p", b"1"), ("late", b"2")]);
    test_store.ok(&["upsert", "x", "p", "--run", "first", "--distributed-id", "d"]);
    test_store
}

/// Runs a command that does not wait long in a queue.
fn impatient(test_store: &TestStore, args: &[&str]) -> Output {
    test_store.cairn(args).env("CAIRN_PATIENCE", "20").output().unwrap()
}

#[test]
fn a_writer_stopped_before_each_of_its_steps_while_another_finishes_is_in_the_version_or_refused() {
    let count = steps(&start(), &UPSERT);
    let (mut taken, mut refused) = (0, 0);
    for step in 1..=count {
        let test_store = start();
        let mut child = test_store.stopped_before(step, &UPSERT);
        // The finisher does not wait for it, and helps what it committed.
        let finished = impatient(&test_store, &[&FINISH[..], &["--skip-open"]].concat());
        assert_eq!((finished.status.code(), text(&finished.stdout).trim()), (Some(0), "x:v0"), "step {step}");
        let listed = test_store.ok(&["ls", "x:v0"]);
        resume(&child);
        let code = child.wait().unwrap().code();
        match code {
            Some(0) => {
                assert_eq!(listed, "late\np", "acknowledged at step {step}");
                taken += 1;
            }
            Some(3) => {
                let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
                assert!(stderr.contains("is finished as x:v0"), "{stderr}");
                assert_eq!(listed, "p", "refused at step {step}, and not in it");
                refused += 1;
            }
            other => panic!("step {step}: {other:?}"),
        }
        assert_eq!(test_store.ok(&FINISH), "x:v0");
        assert_eq!(test_store.ok(&["list", "x"]).lines().count(), 1);
        test_store.clean(&format!("step {step}"));
    }
    println!("upsert stopped before each of {count} steps: {taken} in the version, {refused} refused");
    assert!(taken > 0 && refused > 0);
}

#[test]
fn a_finisher_stopped_before_each_of_its_steps_while_others_upsert_and_finish_makes_no_second_version() {
    let count = steps(&start(), &FINISH);
    let (mut in_it, mut refused) = (0, 0);
    for step in 1..=count {
        let test_store = start();
        let child = test_store.stopped_before(step, &FINISH);
        // It may have its turn: others continue without one after a while.
        let upserted = impatient(&test_store, &UPSERT);
        let late = match upserted.status.code() {
            Some(0) => true,
            Some(3) => false,
            other => panic!("step {step}: {other:?} {}", text(&upserted.stderr)),
        };
        let finished = impatient(&test_store, &FINISH);
        assert_eq!((finished.status.code(), text(&finished.stdout).trim()), (Some(0), "x:v0"), "step {step}");
        resume(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout).trim()),
            (Some(0), "x:v0"),
            "step {step}: {}",
            text(&output.stderr)
        );
        assert_eq!(test_store.ok(&["ls", "x:v0"]), if late { "late\np" } else { "p" }, "step {step}");
        assert_eq!(test_store.ok(&["list", "x"]).lines().count(), 1);
        test_store.clean(&format!("step {step}"));
        if late { in_it += 1 } else { refused += 1 }
    }
    println!(
        "finish stopped before each of {count} steps: the late upsert was {in_it} times in it, {refused} times refused"
    );
    assert!(in_it > 0 && refused > 0);
}

#[test]
fn a_fence_before_each_step_of_an_upsert_and_a_finish_costs_a_retry() {
    for (args, wanted) in [(&UPSERT[..], "late\np"), (&FINISH[..], "p")] {
        let count = steps(&start(), args);
        let mut fenced = 0;
        for step in 1..=count {
            let test_store = start();
            let child = test_store.stopped_before(step, args);
            // After its claim a token is on its way out: fencing what is left of it would only leave more.
            let log = test_store.store_path().join("artifacts/x/drafts/d/log");
            let tokens = std::fs::read_dir(test_store.store_path().join("work")).unwrap().flatten();
            for token in tokens.filter(|_| !log.join("000002").is_symlink()) {
                fenced += usize::from(std::os::unix::fs::symlink("fenced", token.path().join("outcome")).is_ok());
            }
            resume(&child);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{args:?} fenced at step {step}: {}", text(&output.stderr));
            assert_eq!(test_store.ok(&FINISH), "x:v0");
            assert_eq!(test_store.ok(&["ls", "x:v0"]), wanted, "step {step}");
            assert_eq!(
                std::fs::read_dir(test_store.store_path().join("work")).unwrap().count(),
                0,
                "nothing is left at work, step {step}"
            );
            assert_eq!(
                records(&test_store.store_path().join("artifacts/x/drafts/d/log")),
                if wanted == "p" { 2 } else { 3 },
                "no record is left over, step {step}"
            );
            test_store.clean(&format!("{args:?} fenced at {step}"));
        }
        println!("{} fenced before each of {count} steps, {fenced} times before its commit", args[0]);
        assert!(fenced > 5);
    }
}

fn records(log: &Path) -> usize {
    std::fs::read_dir(log).unwrap().flatten().filter(|e| e.file_name().to_str().unwrap().starts_with('.')).count()
}

#[test]
fn a_finisher_that_dies_between_its_commit_and_the_version_is_completed_by_the_next_process() {
    let count = steps(&start(), &FINISH);
    let mut helped = 0;
    for step in 1..=count {
        let test_store = start();
        let killed = test_store.cairn(&FINISH).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        assert!(killed.status.code().is_none());
        let committed = std::fs::read_dir(test_store.store_path().join("work"))
            .unwrap()
            .flatten()
            .any(|t| std::fs::read_link(t.path().join("outcome")).is_ok_and(|o| o.as_os_str() == "commit"));
        let published = test_store.store_path().join("artifacts/x/versions/v0").is_symlink();
        // Not a finish: any writer of the artifact helps.
        make_tree(&test_store.path(""), &[("q", b"q")]);
        let put = test_store.ok(&["put", "x", "q"]);
        assert_eq!(put, if committed || published { "x:v1" } else { "x:v0" }, "step {step}");
        helped += usize::from(committed && !published);
        assert_eq!(test_store.ok(&FINISH), if committed || published { "x:v0" } else { "x:v1" }, "step {step}");
        test_store.clean(&format!("step {step}"));
    }
    println!("finish killed before each of {count} steps: {helped} times the next put claimed its version");
    assert!(helped > 0);
}

#[test]
fn twenty_finishers_at_once_name_one_version() {
    let test_store = start();
    let children: Vec<_> = (0..20)
        .map(|_| test_store.cairn(&FINISH).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut created = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout).trim()), (Some(0), "x:v0"), "{}", text(&output.stderr));
        created += usize::from(!text(&output.stderr).contains("already published as"));
    }
    assert_eq!(created, 1, "one of them made it");
    assert_eq!(test_store.ok(&["list", "x"]).lines().count(), 1);
    test_store.clean("twenty finishers");
}

#[test]
fn a_finish_that_is_stopped_while_its_draft_is_discarded_or_a_run_dropped_notices_it() {
    let expecting = ["finish", "x", "--distributed-id", "d", "--expect-run", "first"];
    let count = steps(&start(), &expecting);
    let (mut noticed, mut before) = (0, 0);
    for what in [&["draft", "discard", "x", "d"][..], &["draft", "drop", "x", "d", "--run", "first"]] {
        for step in 1..=count {
            let test_store = start();
            let child = test_store.stopped_before(step, &expecting);
            let undone = impatient(&test_store, what).status.code();
            resume(&child);
            let output = child.wait_with_output().unwrap();
            match undone {
                // Discarded before the finish was published: it must not make a version of nothing, nor without the run
                // that it expects.
                Some(0) => {
                    assert!(
                        matches!(output.status.code(), Some(3 | 6)),
                        "{what:?} at step {step}: {} {}",
                        text(&output.stdout),
                        text(&output.stderr)
                    );
                    assert!(
                        !test_store.store_path().join("artifacts/x/versions/v0").is_symlink(),
                        "{what:?} at step {step}: there is no version"
                    );
                    noticed += 1;
                }
                Some(3) => {
                    assert_eq!(text(&output.stdout).trim(), "x:v0", "step {step}");
                    before += 1;
                }
                other => panic!("{what:?} at step {step}: {other:?}"),
            }
            test_store.clean(&format!("{what:?} at step {step}"));
        }
    }
    println!("a finish stopped while its draft was discarded: {noticed} times it noticed, {before} times it was first");
    assert!(noticed > 0 && before > 0);
}

#[test]
fn a_late_completion_of_a_finish_moves_no_alias_back() {
    let args = ["finish", "x", "--distributed-id", "d", "--alias", "prod", "--tag", "t"];
    let count = steps(&start(), &args);
    let mut moved = 0;
    for step in 1..=count {
        let test_store = start();
        make_tree(&test_store.path(""), &[("q", b"q")]);
        let killed = test_store.cairn(&args).env("CAIRN_FAULT", format!("kill:{step}")).output().unwrap();
        assert!(killed.status.code().is_none());
        let there = test_store.cairn(&["alias", "x:v0", "prod"]).output().unwrap().status.success();
        if there {
            test_store.ok(&["put", "x", "late", "--new-version"]);
            test_store.ok(&["alias", "x:v1", "prod"]);
        }
        test_store.ok(&["put", "x", "q"]); // helps whatever was left
        if there {
            moved += 1;
            let prod = test_store.ok(&["show", "x:prod", "--json"]);
            assert!(prod.contains("\"version\":\"v1\""), "step {step}: {prod}");
        }
        assert!(test_store.ok(&args).starts_with("x:v"));
        test_store.clean(&format!("step {step}"));
    }
    println!("finish killed before each of {count} steps: {moved} times its alias had been moved on, and stayed");
    assert!(moved > 0);
}
