//! What is refused, and what the error says: two processes of one run at once, annotations, conflicts, lists.

use crate::support::{TestStore, make_tree, resume, steps, text, wait_stopped};
use cairn::internals::lock::DraftLock;
use cairn::types::{ArtifactName, DistributedId};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 20;

fn upsert(test_store: &TestStore, run: &str, what: &[&str]) {
    test_store.ok(&[&["upsert", "x", "--distributed-id", "d", "--run", run], what].concat());
}

#[test]
fn of_two_processes_of_one_run_one_continues_and_the_error_of_the_other_names_it() {
    let test_store = TestStore::in_memory();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    let args = ["upsert", "x", "f", "--run", "twin", "--distributed-id", "d", "--replace"];
    test_store.ok(&args);
    let new = |n: u32| std::fs::write(test_store.path("f"), format!("new {n}")).unwrap();
    new(ROUNDS);
    // The process that is not refused stops when it has stored what is new. A refused one does fewer steps.
    let late = format!("stop:{}", steps(&test_store, &args) * 3 / 4);
    for round in 0..ROUNDS {
        new(round);
        let start = || {
            test_store
                .cairn(&args)
                .env("CAIRN_FAULT", &late)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut twins = [start(), start()];
        let until = Instant::now() + Duration::from_secs(20);
        let refused = loop {
            if let Some(i) = twins.iter_mut().position(|t| t.try_wait().unwrap().is_some()) {
                break i;
            }
            assert!(Instant::now() < until, "round {round}: no process was refused");
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = twins[refused].wait().unwrap().code();
        let stderr = std::io::read_to_string(twins[refused].stderr.take().unwrap()).unwrap();
        let other = &mut twins[1 - refused];
        assert_eq!(code, Some(3), "{stderr}");
        assert!(
            stderr.contains(&format!("run twin is already writing to draft d of x: process {} ", other.id())),
            "{stderr}"
        );
        wait_stopped(other);
        resume(other);
        assert!(other.wait().unwrap().success(), "round {round}");
    }
}

/// A process of the next test: on request it asks once for the draft, prints whether it has it, and holds it until
/// it is asked to end.
#[test]
fn holds_a_draft_on_request() {
    let Some(store) = std::env::var_os("CAIRN_TEST_HOLD") else { return };
    let store = cairn::Store::open(store).unwrap();
    let (name, id) = (ArtifactName::parse("x").unwrap(), DistributedId::parse("d").unwrap());
    let mut held: Option<DraftLock> = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "take" => {
                let took = store.lock_draft(&name, &id, Duration::ZERO);
                println!("{}", took.as_ref().map_or_else(|e| e.message().to_owned(), |_| "held".to_owned()));
                held = took.ok();
            }
            _ => drop(held.take()),
        }
    }
}

#[test]
fn of_two_processes_that_ask_for_a_draft_at_once_one_has_it() {
    let test_store = TestStore::new();
    // Without patience in queues: it is the locks themselves that keep them apart.
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "drafts::refusals::holds_a_draft_on_request", "--nocapture"]);
        command
            .env("CAIRN_TEST_HOLD", test_store.store_path())
            .env("CAIRN_PATIENCE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut children = [start(), start()];
    let mut answers = children.each_mut().map(|c| BufReader::new(c.stdout.take().unwrap()).lines());
    for round in 0..ROUNDS {
        children.iter_mut().for_each(|c| writeln!(c.stdin.as_mut().unwrap(), "take").unwrap());
        let message = answers.each_mut().map(|lines| {
            lines.map_while(Result::ok).find(|l| l.ends_with("held") || l.starts_with("draft d of x")).unwrap()
        });
        let holders = message.iter().filter(|s| s.ends_with("held")).count();
        assert_eq!(holders, 1, "round {round}: {message:?}");
        let holder = message.iter().position(|s| s.ends_with("held")).unwrap();
        assert!(message[1 - holder].contains(&format!("is held by process {} ", children[holder].id())), "{message:?}");
        writeln!(children[holder].stdin.as_mut().unwrap(), "drop").unwrap();
        while !test_store.ok(&["locks"]).is_empty() {}
    }
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_first_contribution_without_a_type_takes_the_one_that_another_gives_meanwhile() {
    let steps = {
        let test_store = TestStore::in_memory();
        make_tree(&test_store.path(""), &[("f", b"1")]);
        steps(&test_store, &["upsert", "x", "f", "--run", "a", "--distributed-id", "d"])
    };
    for step in 1..=steps {
        let test_store = TestStore::in_memory();
        make_tree(&test_store.path(""), &[("f", b"1"), ("g", b"1")]);
        let mut first = test_store.stopped_before(step, &["upsert", "x", "f", "--run", "a", "--distributed-id", "d"]);
        let typed = test_store
            .cairn(&["upsert", "x", "g", "--run", "b", "--distributed-id", "d", "--type", "model"])
            .output()
            .unwrap();
        resume(&first);
        assert!(
            first.wait().unwrap().success(),
            "step {step}: {}",
            std::io::read_to_string(first.stderr.take().unwrap()).unwrap()
        );
        // A run with another type is refused if the name has a type already.
        assert!(matches!(typed.status.code(), Some(0 | 3)), "{}", text(&typed.stderr));
        let list = test_store.ok(&["finish", "x", "--distributed-id", "d"]) + &test_store.ok(&["list", "--json"]);
        assert!(
            list.contains(if typed.status.success() { r#""type":"model""# } else { r#""type":"dataset""# }),
            "{list}"
        );
    }
}

#[test]
fn metadata_that_is_too_much_together_is_refused_with_the_run_that_says_most_and_the_draft_stays_open() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1"), ("g", b"2")]);
    let keys = |from: u32, n: u32| {
        serde_json::to_string(
            &(from..from + n).map(|k| (format!("k{k:03}"), k)).collect::<std::collections::BTreeMap<_, _>>(),
        )
        .unwrap()
    };
    upsert(&test_store, "few", &["f", "--metadata", &keys(0, 30)]);
    upsert(&test_store, "most", &["g", "--metadata", &keys(100, 90)]);
    let stderr = text(&test_store.run(&["finish", "x", "--distributed-id", "d"], 3).stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    assert!(lines[0].contains("120 top-level keys: at most 100"), "{stderr}");
    assert!(
        lines[1].starts_with("run most has 90 keys, ")
            && lines[2].starts_with("run few has 30 keys, ")
            && lines[3].starts_with("hint: "),
        "{stderr}"
    );
    assert!(test_store.ok(&["drafts"]).starts_with("x  d  2  2"));
    upsert(&test_store, "most", &["g", "--replace", "--metadata", &keys(100, 70)]);
    assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "d"]), "x:v0");
}

#[test]
fn a_finish_by_a_group_is_by_no_run_and_one_that_is_named_is_recorded() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    test_store.ok(&["upsert", "x", "f", "--run", "a", "--group", "g"]);
    assert_eq!(test_store.ok(&["finish", "x", "--group", "g"]), "x:v0");
    assert!(test_store.ok(&["list", "x", "--json"]).contains(r#""run":null"#));
    test_store.ok(&["upsert", "y", "f", "--run", "a", "--group", "g"]);
    assert_eq!(test_store.ok(&["finish", "y", "--group", "g", "--run", "last"]), "y:v0");
    assert!(test_store.ok(&["list", "y", "--json"]).contains(r#""run":"last""#));
}

#[test]
fn drafts_of_an_unknown_name_are_not_found_with_the_nearest_names() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    test_store.ok(&["put", "images", "f"]);
    assert_eq!(test_store.ok(&["drafts", "images"]), "");
    let stderr = text(&test_store.run(&["drafts", "imges"], 6).stderr);
    assert!(stderr.starts_with("error: there is no artifact imges\nhint: did you mean images?"), "{stderr}");
    test_store.ok(&["upsert", "new", "f", "--run", "a", "--distributed-id", "d"]);
    assert!(test_store.ok(&["drafts", "new"]).starts_with("new  d  1"));
}

#[test]
fn a_damaged_draft_is_named_and_the_others_are_listed() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    for id in ["first", "torn", "unnamed", "with-more"] {
        test_store.ok(&["upsert", "x", "f", "--run", "a", "--distributed-id", id]);
        test_store.ok(&["upsert", "x", "f", "--run", "b", "--distributed-id", id]);
    }
    for (id, number) in [("torn", "000002"), ("unnamed", "000001")] {
        let log = test_store.store_path().join(format!("artifacts/x/drafts/{id}/log"));
        let record = log.join(std::fs::read_link(log.join(number)).unwrap());
        std::fs::remove_file(&record).unwrap();
        std::fs::write(record, "{").unwrap();
    }
    for json in [false, true] {
        let output = test_store.run(if json { &["drafts", "--json"] } else { &["drafts"] }, 4);
        let (listed, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(
            listed.contains("first")
                && listed.contains("with-more")
                && !listed.contains("torn")
                && !listed.contains("unnamed"),
            "{listed}"
        );
        assert!(
            stderr.contains("2 drafts cannot be read")
                && stderr.contains("draft torn of x cannot be read")
                && stderr.contains("drafts/unnamed cannot be read"),
            "{stderr}"
        );
    }
}

#[test]
fn conflicts_are_counted_by_paths_and_each_path_is_listed_once_with_all_that_differ() {
    let test_store = TestStore::new();
    make_tree(
        &test_store.path(""),
        &[
            ("a/p", b"1"),
            ("b/p", b"2"),
            ("c/p", b"3"),
            ("a/q", b"1"),
            ("b/q", b"2"),
            ("a/same", b"s"),
            ("b/same", b"s"),
        ],
    );
    for run in ["a", "b", "c"] {
        upsert(&test_store, run, &[run]);
    }
    let stderr = text(&test_store.run(&["finish", "x", "--distributed-id", "d"], 3).stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    assert_eq!(lines[0], "error: draft d of x is not finished: runs differ at 2 paths");
    assert!(
        lines[1].starts_with("p: sha256 ")
            && ["by run a ", "by run b ", "by run c "].iter().all(|by| lines[1].matches(by).count() == 1),
        "{stderr}"
    );
    assert!(lines[2].starts_with("q: sha256 ") && lines[3].starts_with("hint: "), "{stderr}");
}
