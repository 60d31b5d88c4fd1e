//! Who is refused and what is told: two of one run at once, what is said of the version, conflicts, lists.

use crate::support::{TestStore, go_on, make_tree, steps, text, wait_stopped};
use cairn::internals::lock::DraftLock;
use cairn::types::{ArtifactName, DistributedId};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 20;

fn upsert(lab: &TestStore, run: &str, what: &[&str]) {
    lab.ok(&[&["upsert", "x", "--distributed-id", "d", "--run", run], what].concat());
}

#[test]
fn of_two_processes_of_one_run_that_start_at_once_one_goes_on_and_the_other_is_told_who() {
    let lab = TestStore::new();
    make_tree(&lab.path(""), &[("f", b"1")]);
    let words = ["upsert", "x", "f", "--run", "twin", "--distributed-id", "d", "--replace"];
    lab.ok(&words);
    let new = |n: u32| std::fs::write(lab.path("f"), format!("new {n}")).unwrap();
    new(ROUNDS);
    // Who goes on stands still when it has stored what is new: with more steps done than one who is refused ever does.
    let late = format!("stop:{}", steps(&lab, &words) * 3 / 4);
    for round in 0..ROUNDS {
        new(round);
        let start = || {
            lab.cairn(&words).env("CAIRN_FAULT", &late).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut twins = [start(), start()];
        let until = Instant::now() + Duration::from_secs(20);
        let refused = loop {
            if let Some(i) = twins.iter_mut().position(|t| t.try_wait().unwrap().is_some()) {
                break i;
            }
            assert!(Instant::now() < until, "round {round}: nobody was refused");
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = twins[refused].wait().unwrap().code();
        let said = std::io::read_to_string(twins[refused].stderr.take().unwrap()).unwrap();
        let other = &mut twins[1 - refused];
        assert_eq!(code, Some(3), "{said}");
        assert!(
            said.contains(&format!("run twin is already writing to draft d of x: process {} ", other.id())),
            "{said}"
        );
        wait_stopped(other);
        go_on(other);
        assert!(other.wait().unwrap().success(), "round {round}");
    }
}

/// A process of the next test: asks once for the draft when it is told to, says whether it has it, and holds it until
/// it is told to end.
#[test]
fn holds_a_draft_when_it_is_told_to() {
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
    let lab = TestStore::new();
    // Without patience in queues: it is the locks themselves that keep them apart.
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "drafts::refusals::holds_a_draft_when_it_is_told_to", "--nocapture"]);
        command
            .env("CAIRN_TEST_HOLD", lab.store_path())
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
        let said = answers.each_mut().map(|lines| {
            lines.map_while(Result::ok).find(|l| l.ends_with("held") || l.starts_with("draft d of x")).unwrap()
        });
        let holders = said.iter().filter(|s| s.ends_with("held")).count();
        assert_eq!(holders, 1, "round {round}: {said:?}");
        let holder = said.iter().position(|s| s.ends_with("held")).unwrap();
        assert!(said[1 - holder].contains(&format!("is held by process {} ", children[holder].id())), "{said:?}");
        writeln!(children[holder].stdin.as_mut().unwrap(), "drop").unwrap();
        while !lab.ok(&["locks"]).is_empty() {}
    }
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_first_contribution_without_a_type_takes_the_one_that_another_gives_meanwhile() {
    let steps = {
        let lab = TestStore::new();
        make_tree(&lab.path(""), &[("f", b"1")]);
        steps(&lab, &["upsert", "x", "f", "--run", "a", "--distributed-id", "d"])
    };
    for step in 1..=steps {
        let lab = TestStore::new();
        make_tree(&lab.path(""), &[("f", b"1"), ("g", b"1")]);
        let mut first = lab.stopped_before(step, &["upsert", "x", "f", "--run", "a", "--distributed-id", "d"]);
        let typed = lab
            .cairn(&["upsert", "x", "g", "--run", "b", "--distributed-id", "d", "--type", "model"])
            .output()
            .unwrap();
        go_on(&first);
        assert!(
            first.wait().unwrap().success(),
            "step {step}: {}",
            std::io::read_to_string(first.stderr.take().unwrap()).unwrap()
        );
        // Who comes with another type when the name has one already is refused.
        assert!(matches!(typed.status.code(), Some(0 | 3)), "{}", text(&typed.stderr));
        let list = lab.ok(&["finish", "x", "--distributed-id", "d"]) + &lab.ok(&["list", "--json"]);
        assert!(
            list.contains(if typed.status.success() { r#""type":"model""# } else { r#""type":"dataset""# }),
            "{list}"
        );
    }
}

#[test]
fn metadata_that_is_too_much_together_is_refused_with_the_run_that_says_most_and_the_draft_stays_open() {
    let lab = TestStore::new();
    make_tree(&lab.path(""), &[("f", b"1"), ("g", b"2")]);
    let keys = |from: u32, n: u32| {
        serde_json::to_string(
            &(from..from + n).map(|k| (format!("k{k:03}"), k)).collect::<std::collections::BTreeMap<_, _>>(),
        )
        .unwrap()
    };
    upsert(&lab, "few", &["f", "--metadata", &keys(0, 30)]);
    upsert(&lab, "most", &["g", "--metadata", &keys(100, 90)]);
    let said = text(&lab.run(&["finish", "x", "--distributed-id", "d"], 3).stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(lines[0].contains("120 top-level keys: at most 100"), "{said}");
    assert!(
        lines[1].starts_with("run most has 90 keys, ")
            && lines[2].starts_with("run few has 30 keys, ")
            && lines[3].starts_with("hint: "),
        "{said}"
    );
    assert!(lab.ok(&["drafts"]).starts_with("x  d  2  2"));
    upsert(&lab, "most", &["g", "--replace", "--metadata", &keys(100, 70)]);
    assert_eq!(lab.ok(&["finish", "x", "--distributed-id", "d"]), "x:v0");
}

#[test]
fn a_finish_by_a_group_is_by_no_run_and_one_that_is_named_is_recorded() {
    let lab = TestStore::new();
    make_tree(&lab.path(""), &[("f", b"1")]);
    lab.ok(&["upsert", "x", "f", "--run", "a", "--group", "g"]);
    assert_eq!(lab.ok(&["finish", "x", "--group", "g"]), "x:v0");
    assert!(lab.ok(&["list", "x", "--json"]).contains(r#""run":null"#));
    lab.ok(&["upsert", "y", "f", "--run", "a", "--group", "g"]);
    assert_eq!(lab.ok(&["finish", "y", "--group", "g", "--run", "last"]), "y:v0");
    assert!(lab.ok(&["list", "y", "--json"]).contains(r#""run":"last""#));
}

#[test]
fn drafts_of_an_unknown_name_are_not_found_with_the_nearest_names() {
    let lab = TestStore::new();
    make_tree(&lab.path(""), &[("f", b"1")]);
    lab.ok(&["put", "images", "f"]);
    assert_eq!(lab.ok(&["drafts", "images"]), "");
    let said = text(&lab.run(&["drafts", "imges"], 6).stderr);
    assert!(said.starts_with("error: there is no artifact imges\nhint: did you mean images?"), "{said}");
    lab.ok(&["upsert", "new", "f", "--run", "a", "--distributed-id", "d"]);
    assert!(lab.ok(&["drafts", "new"]).starts_with("new  d  1"));
}

#[test]
fn a_damaged_draft_is_named_and_the_others_are_listed() {
    let lab = TestStore::new();
    make_tree(&lab.path(""), &[("f", b"1")]);
    for id in ["first", "torn", "unnamed", "with-more"] {
        lab.ok(&["upsert", "x", "f", "--run", "a", "--distributed-id", id]);
        lab.ok(&["upsert", "x", "f", "--run", "b", "--distributed-id", id]);
    }
    for (id, number) in [("torn", "000002"), ("unnamed", "000001")] {
        let log = lab.store_path().join(format!("artifacts/x/drafts/{id}/log"));
        let record = log.join(std::fs::read_link(log.join(number)).unwrap());
        std::fs::remove_file(&record).unwrap();
        std::fs::write(record, "{").unwrap();
    }
    for json in [false, true] {
        let output = lab.run(if json { &["drafts", "--json"] } else { &["drafts"] }, 4);
        let (listed, said) = (text(&output.stdout), text(&output.stderr));
        assert!(
            listed.contains("first")
                && listed.contains("with-more")
                && !listed.contains("torn")
                && !listed.contains("unnamed"),
            "{listed}"
        );
        assert!(
            said.contains("2 drafts cannot be read")
                && said.contains("draft torn of x cannot be read")
                && said.contains("drafts/unnamed cannot be read"),
            "{said}"
        );
    }
}

#[test]
fn conflicts_are_counted_by_paths_and_each_path_is_listed_once_with_all_that_differ() {
    let lab = TestStore::new();
    make_tree(
        &lab.path(""),
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
        upsert(&lab, run, &[run]);
    }
    let said = text(&lab.run(&["finish", "x", "--distributed-id", "d"], 3).stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines[0], "error: draft d of x is not finished: runs differ at 2 paths");
    assert!(
        lines[1].starts_with("p: sha256 ")
            && ["by run a ", "by run b ", "by run c "].iter().all(|by| lines[1].matches(by).count() == 1),
        "{said}"
    );
    assert!(lines[2].starts_with("q: sha256 ") && lines[3].starts_with("hint: "), "{said}");
}
