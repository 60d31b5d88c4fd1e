//! Many writers at once; writers that die, stop, are fenced or lose replies; sources that change; full disks. In all of
//! them acknowledged versions are complete, numbers are dense, and the same command, run again, succeeds (L7, L8, L10,
//! L14).

use crate::support::{TestStore, copy_tree, go_on, make_tree, random_bytes, snapshot, text, wait_stopped};
use cairn::catalog::removal;
use cairn::catalog::remove::{self, Force};
use cairn::catalog::{VersionSpec, alias};
use cairn::internals::commit::Artifact;
use cairn::types::{AliasName, ArtifactName, VersionNumber};
use cairn::verify::{Scope, VerifyOptions, verify};
use cairn::view::{CheckoutOptions, checkout};
use cairn::{Kind, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROCESSES: usize = 8;

fn name(text: &str) -> ArtifactName {
    ArtifactName::parse(text).unwrap()
}

/// A command with a fault at a step. Without a stat cache: whether a file is remembered, which takes steps, depends on
/// how old it is.
fn faulty(lab: &TestStore, args: &[&str], fault: &str) -> Command {
    let mut command = lab.cairn(args);
    command.env("CAIRN_FAULT", fault).env("CAIRN_STAT_CACHE", "off");
    command
}

fn start(lab: &TestStore, args: &[&str], fault: &str) -> Child {
    faulty(lab, args, fault).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The number in `put --json`'s answer.
fn number(answer: &serde_json::Value) -> u64 {
    answer["version"].as_str().unwrap().trim_start_matches('v').parse().unwrap()
}

fn clean(lab: &TestStore) {
    let report = verify(&lab.store(), &Scope::All, &VerifyOptions::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

fn numbers(lab: &TestStore, artifact: &str) -> Vec<u64> {
    let dir = lab.store_path().join("artifacts").join(artifact).join("versions");
    let mut out: Vec<u64> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_prefix('v')?.parse().ok())
        .collect();
    out.sort_unstable();
    out
}

fn dense(lab: &TestStore, artifact: &str, count: usize) {
    assert_eq!(numbers(lab, artifact), (0..count as u64).collect::<Vec<_>>(), "the numbers of {artifact} are dense");
}

fn holds(lab: &TestStore, spec: &str, source: &str) {
    let version = cairn::resolve(&lab.store(), &VersionSpec::parse(spec).unwrap()).unwrap();
    let out = tempfile::tempdir_in(lab.dir.path()).unwrap();
    checkout(&version, &out.path().join("got"), &CheckoutOptions::default()).unwrap();
    assert!(snapshot(&out.path().join("got")) == snapshot(&lab.path(source)), "{spec} holds {source}");
}

fn work_is_empty(lab: &TestStore) {
    let left: Vec<_> =
        std::fs::read_dir(lab.store_path().join("work")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left in work/: {left:?}");
}

/// Records `.T` of an artifact's directories that no number names: what refused or fenced writers left.
fn unpublished(lab: &TestStore, artifact: &str) -> usize {
    let mut left = 0;
    for dir in walkdir::WalkDir::new(lab.store_path().join("artifacts").join(artifact))
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_dir())
    {
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        let claimed: BTreeSet<_> = names.iter().filter_map(|p| std::fs::read_link(p).ok()).collect();
        left += names
            .iter()
            .filter(|p| {
                p.file_name().unwrap().to_str().unwrap().starts_with('.')
                    && !claimed.contains(Path::new(p.file_name().unwrap()))
            })
            .count();
    }
    left
}

#[test]
fn eight_processes_that_put_different_content_to_one_name_get_dense_numbers_and_every_version_is_whole() {
    let lab = TestStore::new();
    for i in 0..PROCESSES * 3 {
        make_tree(
            &lab.path(&format!("s{i}")),
            &[
                ("own", format!("content {i}").as_bytes()),
                ("same", b"same"),
                ("big", &random_bytes(i as u64 / 3, 140_000)),
            ],
        );
    }
    let mut acknowledged = BTreeMap::new();
    for round in 0..3 {
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{}", round * PROCESSES + i)).collect();
        let children: Vec<Child> = sources.iter().map(|s| start(&lab, &["put", "a", s, "--json"], "")).collect();
        for (child, source) in children.into_iter().zip(sources) {
            let answer = json(&child.wait_with_output().unwrap());
            assert_eq!(answer["created"], true);
            assert!(acknowledged.insert(number(&answer), source).is_none(), "a number goes to one writer");
        }
    }
    dense(&lab, "a", PROCESSES * 3);
    for (number, source) in &acknowledged {
        holds(&lab, &format!("a:v{number}"), source);
    }
    assert_eq!(
        number(&json(&lab.cairn(&["show", "a", "--json"]).output().unwrap())),
        PROCESSES as u64 * 3 - 1,
        "latest is the highest"
    );
    work_is_empty(&lab);
    assert_eq!(unpublished(&lab, "a"), 0);
    clean(&lab);
}

#[test]
fn eight_processes_that_put_the_same_content_to_one_name_make_one_version_of_it() {
    let lab = TestStore::new();
    for round in 0..6 {
        make_tree(&lab.path("source"), &[("f", format!("round {round}").as_bytes())]);
        let children: Vec<Child> = (0..PROCESSES).map(|_| start(&lab, &["put", "a", "source", "--json"], "")).collect();
        let answers: Vec<_> = children.into_iter().map(|c| json(&c.wait_with_output().unwrap())).collect();
        assert_eq!(answers.iter().filter(|a| a["created"] == true).count(), 1, "one of them made it: {answers:?}");
        assert!(answers.iter().all(|a| number(a) == round), "all were told that version: {answers:?}");
        dense(&lab, "a", round as usize + 1);
    }
    work_is_empty(&lab);
    assert_eq!(unpublished(&lab, "a"), 0);
    clean(&lab);
}

#[test]
fn eight_processes_that_add_the_same_bytes_store_a_large_one_once_and_small_ones_equally() {
    let lab = TestStore::new();
    make_tree(
        &lab.path("source"),
        &[("large", &random_bytes(1, 300_000)), ("small", b"small"), ("d/small", &random_bytes(2, 90_000))],
    );
    let names: Vec<String> = (0..PROCESSES).map(|i| format!("n{i}")).collect();
    let children: Vec<Child> = names.iter().map(|n| start(&lab, &["put", n, "source", "--json"], "")).collect();
    let digests: BTreeSet<String> =
        children.into_iter().map(|c| json(&c.wait_with_output().unwrap())["digest"].to_string()).collect();
    assert_eq!(digests.len(), 1);
    let objects = walkdir::WalkDir::new(lab.store_path().join("objects"))
        .into_iter()
        .filter(|e| e.as_ref().unwrap().file_type().is_file())
        .count();
    assert_eq!(objects, 1);
    for n in &names {
        dense(&lab, n, 1);
        holds(&lab, n, "source");
    }
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn eight_threads_with_one_handle_put_to_one_name_and_add_the_same_bytes() {
    let lab = TestStore::new();
    let store = lab.store();
    let large = random_bytes(5, 200_000);
    let versions: Vec<(u64, String)> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..PROCESSES)
            .map(|i| {
                let (store, large) = (&store, &large);
                s.spawn(move || {
                    let mut out = Vec::new();
                    for round in 0..4 {
                        let mut artifact = Artifact::new("a", None).unwrap();
                        let own = format!("thread {i} round {round}");
                        artifact
                            .add_bytes("own", &own)
                            .unwrap()
                            .add_bytes("large", large)
                            .unwrap()
                            .add_bytes("small", "small")
                            .unwrap();
                        out.push((artifact.save(store).unwrap().version.number().0, own));
                    }
                    out
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    dense(&lab, "a", PROCESSES * 4);
    assert_eq!(versions.iter().map(|v| v.0).collect::<BTreeSet<_>>().len(), PROCESSES * 4);
    for (number, own) in versions {
        let version = cairn::resolve(&lab.store(), &VersionSpec::parse(&format!("a:v{number}")).unwrap()).unwrap();
        assert_eq!(std::io::read_to_string(version.open("own").unwrap()).unwrap(), own);
    }
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn an_alias_that_moves_while_its_version_is_removed_is_moved_back_or_the_remover_is_told() {
    let lab = TestStore::new();
    let (alias_name, a) = (AliasName::parse("prod").unwrap(), name("a"));
    let mut outcomes = BTreeMap::new();
    for round in 0..40 {
        for i in 0..3 {
            let mut artifact = Artifact::new("a", None).unwrap();
            artifact.add_bytes("f", format!("{round} {i}")).unwrap();
            artifact.save(&lab.store()).unwrap();
        }
        let first = VersionNumber(round * 3);
        let (second, _) = (VersionNumber(round * 3 + 1), ());
        alias::set(&lab.store(), &a, &alias_name, alias::Expected::Any, Some(first)).unwrap();
        let gate = std::sync::Barrier::new(3);
        let (moved, rm1, rm2) = std::thread::scope(|s| {
            let at_once = |f: Box<dyn FnOnce(Store) -> cairn::Result<()> + Send>| {
                let (gate, store) = (&gate, lab.store());
                s.spawn(move || {
                    gate.wait();
                    f(store)
                })
            };
            let (a1, a2, a3, n) = (a.clone(), a.clone(), a.clone(), alias_name.clone());
            let moved = at_once(Box::new(move |store| alias::set(&store, &a1, &n, alias::Expected::Any, Some(second))));
            let rm1 = at_once(Box::new(move |store| remove::remove(&store, &a2, first, Force::No)));
            let rm2 = at_once(Box::new(move |store| remove::remove(&store, &a3, second, Force::No)));
            (moved.join().unwrap(), rm1.join().unwrap(), rm2.join().unwrap())
        });
        let store = lab.store();
        for (result, what) in [(&moved, "alias"), (&rm1, "rm"), (&rm2, "rm")] {
            if let Err(e) = result {
                assert!(matches!(e.kind(), Kind::Conflict | Kind::NotFound), "{what}: {e:?}");
            }
        }
        let at = alias::get(&store, &a, &alias_name).unwrap();
        if moved.is_ok() {
            assert_eq!(at, Some(second));
        }
        if let Some(at) = at
            && removal::is_removed(&store, &a, at).unwrap()
        {
            // The setter's last look came before the marker, so the remover's came after the move: it was told, and
            // does as the hint says.
            let told = if at == first { &rm1 } else { &rm2 };
            let said = told.as_ref().unwrap_err();
            assert_eq!(said.kind(), Kind::Conflict, "round {round}: prod names {at}: {moved:?} {rm1:?} {rm2:?}");
            assert!(said.hint().unwrap().contains("is removed"), "{said:?}");
            alias::set(&store, &a, &alias_name, alias::Expected::Exactly(Some(at)), None).unwrap();
        }
        *outcomes.entry((moved.is_ok(), rm1.is_ok(), rm2.is_ok())).or_insert(0) += 1;
    }
    println!("alias against rm: {outcomes:?}");
    clean(&lab);
}

#[test]
fn an_alias_moved_by_eight_at_once_stands_at_one_of_them_and_every_move_is_recorded() {
    let lab = TestStore::new();
    for i in 0..PROCESSES {
        make_tree(&lab.path(&format!("s{i}")), &[("f", format!("{i}").as_bytes())]);
        lab.ok(&["put", "a", &format!("s{i}")]);
    }
    let targets: Vec<String> = (0..PROCESSES).map(|i| format!("a:v{i}")).collect();
    let children: Vec<Child> = targets.iter().map(|t| start(&lab, &["alias", t, "prod"], "")).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let log = lab.store_path().join("artifacts/a/aliases/prod");
    let moves = std::fs::read_dir(&log)
        .unwrap()
        .filter(|e| !e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'))
        .count();
    assert_eq!(moves, PROCESSES);
    assert_eq!(unpublished(&lab, "a"), 0, "who lost a number took its record away");
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn puts_of_two_types_at_once_agree_on_one_and_the_others_are_told_both() {
    let lab = TestStore::new();
    for round in 0..4 {
        let artifact = format!("n{round}");
        for i in 0..PROCESSES {
            make_tree(&lab.path(&format!("s{i}")), &[("f", format!("{round} {i}").as_bytes())]);
        }
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{i}")).collect();
        let children: Vec<Child> = sources
            .iter()
            .enumerate()
            .map(|(i, s)| start(&lab, &["put", &artifact, s, "--type", ["model", "table"][i % 2], "--json"], ""))
            .collect();
        let outputs: Vec<Output> = children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
        let mut won = [0, 0];
        for (i, output) in outputs.iter().enumerate() {
            match output.status.code() {
                Some(0) => won[i % 2] += 1,
                Some(3) => assert!(
                    text(&output.stderr).contains("model") && text(&output.stderr).contains("table"),
                    "{}",
                    text(&output.stderr)
                ),
                other => panic!("{other:?}: {}", text(&output.stderr)),
            }
        }
        assert!(won == [PROCESSES / 2, 0] || won == [0, PROCESSES / 2], "one type won: {won:?}");
        dense(&lab, &artifact, PROCESSES / 2);
    }
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn writers_killed_at_any_step_among_others_lose_nothing_that_was_acknowledged() {
    let lab = TestStore::new();
    let mut acknowledged = BTreeMap::new();
    let mut killed = 0;
    for round in 0..8u64 {
        let sources: Vec<String> = (0..PROCESSES).map(|i| format!("s{round}-{i}")).collect();
        for source in &sources {
            make_tree(
                &lab.path(source),
                &[("f", source.as_bytes()), ("same", b"same"), ("large", &random_bytes(round, 131_072))],
            );
        }
        // Every other one is killed, each at a step of its own.
        let children: Vec<Child> = sources
            .iter()
            .enumerate()
            .map(|(i, s)| {
                start(
                    &lab,
                    &["put", "a", s, "--json"],
                    &if i % 2 == 0 { String::new() } else { format!("kill:{}", 3 + (round * 5 + i as u64 * 4) % 34) },
                )
            })
            .collect();
        for (i, (child, source)) in children.into_iter().zip(sources).enumerate() {
            let output = child.wait_with_output().unwrap();
            if output.status.signal() == Some(9) {
                killed += 1;
                continue;
            }
            assert!(output.status.success(), "{i}: {}", text(&output.stderr));
            assert!(acknowledged.insert(number(&json(&output)), source).is_none());
        }
    }
    assert!(killed > 16, "{killed}");
    let count = numbers(&lab, "a").len();
    dense(&lab, "a", count);
    assert!(count >= acknowledged.len());
    for (number, source) in &acknowledged {
        holds(&lab, &format!("a:v{number}"), source);
    }
    clean(&lab);
    println!("{killed} killed, {} acknowledged, {count} published", acknowledged.len());
}

/// The steps of a put at which its token has what `when` looks for: found by killing a copy at each.
fn find_step(from: &TestStore, args: &[&str], when: impl Fn(&Path) -> bool) -> u64 {
    let mut found = None;
    for step in 1.. {
        let lab = TestStore { dir: tempfile::tempdir().unwrap() };
        for entry in std::fs::read_dir(from.dir.path()).unwrap() {
            let entry = entry.unwrap();
            copy_tree(&entry.path(), &lab.path(entry.file_name().to_str().unwrap()));
        }
        let output = faulty(&lab, args, &format!("kill:{step}")).output().unwrap();
        if output.status.signal() != Some(9) {
            break;
        }
        let tokens: Vec<_> =
            std::fs::read_dir(lab.store_path().join("work")).unwrap().map(|e| e.unwrap().path()).collect();
        if tokens.iter().any(|t| when(t)) {
            found = Some(step);
        }
    }
    found.expect("there is such a step")
}

fn outcome(token: &Path) -> Option<String> {
    Some(std::fs::read_link(token.join("outcome")).ok()?.to_str()?.to_owned())
}

/// A store with `a:v0` and two sources.
fn one_version() -> TestStore {
    let lab = TestStore::new();
    make_tree(&lab.path("one"), &[("f", b"one")]);
    make_tree(&lab.path("two"), &[("f", b"two")]);
    make_tree(&lab.path("three"), &[("f", b"three")]);
    lab.ok(&["put", "a", "one"]);
    lab
}

/// The step of `put a two` just before which it has committed and not claimed.
fn claim_step(lab: &TestStore) -> u64 {
    let store = lab.store_path();
    let _ = store;
    find_step(lab, &["put", "a", "two"], |token| {
        outcome(token).as_deref() == Some("commit")
            && !token.parent().unwrap().parent().unwrap().join("artifacts/a/versions/v1").is_symlink()
    })
}

#[test]
fn a_writer_killed_between_commit_and_claim_is_helped_by_the_next_put() {
    let lab = one_version();
    let step = claim_step(&lab);
    let output = faulty(&lab, &["put", "a", "two"], &format!("kill:{step}")).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    dense(&lab, "a", 1);
    assert_eq!(lab.ok(&["put", "a", "three"]), "a:v2");
    dense(&lab, "a", 3);
    holds(&lab, "a:v1", "two");
    holds(&lab, "a:v2", "three");
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn a_put_killed_between_commit_and_claim_and_repeated_makes_one_version() {
    let lab = one_version();
    let step = claim_step(&lab);
    let output = faulty(&lab, &["put", "a", "two"], &format!("kill:{step}")).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    assert_eq!(lab.ok(&["put", "a", "two"]), "a:v1");
    dense(&lab, "a", 2);
    holds(&lab, "a:v1", "two");
    clean(&lab);
}

fn the_token(lab: &TestStore) -> PathBuf {
    let tokens: Vec<_> = std::fs::read_dir(lab.store_path().join("work")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(tokens.len(), 1);
    tokens.into_iter().next().unwrap()
}

#[test]
fn a_writer_paused_after_its_commit_is_published_by_another_and_finds_its_number_when_it_goes_on() {
    let lab = one_version();
    let step = claim_step(&lab);
    let child = start(&lab, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    assert_eq!(lab.ok(&["put", "a", "three"]), "a:v2");
    go_on(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    dense(&lab, "a", 3);
    holds(&lab, "a:v1", "two");
    work_is_empty(&lab);
    clean(&lab);
}

#[test]
fn a_writer_fenced_before_its_commit_looks_at_everything_again_and_succeeds_with_a_new_token() {
    let lab = one_version();
    let args = ["put", "a", "two"];
    let step = find_step(&lab, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(&lab, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    let token = the_token(&lab);
    std::os::unix::fs::symlink("fenced", token.join("outcome")).unwrap();
    // What it had stored is freed, as a collector may do once it has fenced it.
    for pack in std::fs::read_dir(lab.store_path().join("packs")).unwrap().map(|e| e.unwrap().path()) {
        let relied: BTreeSet<PathBuf> = lab_packs(&lab);
        if !relied.contains(&pack) {
            std::fs::remove_file(pack).unwrap();
        }
    }
    go_on(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    dense(&lab, "a", 2);
    holds(&lab, "a:v0", "one");
    holds(&lab, "a:v1", "two");
    let stands = std::fs::read_link(lab.store_path().join("artifacts/a/versions/v1")).unwrap();
    assert_ne!(
        stands.to_str().unwrap().trim_start_matches('.'),
        token.file_name().unwrap().to_str().unwrap(),
        "the fenced token stands nowhere"
    );
    work_is_empty(&lab);
    assert_eq!(unpublished(&lab, "a"), 0);
    clean(&lab);
}

/// The packs that published versions need.
fn lab_packs(lab: &TestStore) -> BTreeSet<PathBuf> {
    let store = lab.store();
    let versions = cairn::catalog::version::versions(&store, &name("a")).unwrap();
    versions.iter().flat_map(|v| v.manifest_file().unwrap().packs().to_vec()).map(|p| store.layout().pack(&p)).collect()
}

#[test]
fn a_fence_between_the_last_two_steps_of_a_token_that_has_ended_holds_for_nothing() {
    let lab = one_version();
    let step = find_step(&lab, &["put", "a", "two"], |token| {
        std::fs::read_dir(token).unwrap().count() == 0 && token.join("../../artifacts/a/versions/v1").is_symlink()
    });
    let child = start(&lab, &["put", "a", "two", "--json"], &format!("stop:{step}"));
    wait_stopped(&child);
    std::os::unix::fs::symlink("fenced", the_token(&lab).join("outcome")).unwrap();
    // For as long as it stands there: what has ended is not fenced.
    clean(&lab);
    go_on(&child);
    assert_eq!(number(&json(&child.wait_with_output().unwrap())), 1);
    holds(&lab, "a:v1", "two");
    work_is_empty(&lab);
    clean(&lab);
}

/// A put that stands before its commit while `meanwhile` is done with its token.
fn before_its_commit(lab: &TestStore, meanwhile: impl Fn(&Path)) -> serde_json::Value {
    let args = ["put", "a", "two", "--json"];
    let step = find_step(lab, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(lab, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    meanwhile(&the_token(lab));
    go_on(&child);
    let answer = json(&child.wait_with_output().unwrap());
    work_is_empty(lab);
    clean(lab);
    answer
}

/// Its commit was done, its reply lost, and another helped it to v1.
fn committed_and_helped(lab: &TestStore, token: &Path) {
    std::os::unix::fs::symlink("commit", token.join("outcome")).unwrap();
    assert_eq!(lab.ok(&["put", "a", "three"]), "a:v2");
    assert!(!token.exists());
}

#[test]
fn a_writer_whose_token_was_ended_by_a_helper_before_it_heard_of_its_commit_finds_its_number() {
    let lab = one_version();
    assert_eq!(number(&before_its_commit(&lab, |token| committed_and_helped(&lab, token))), 1);
    dense(&lab, "a", 3);
    holds(&lab, "a:v1", "two");
}

#[test]
fn a_writer_helped_and_then_fenced_before_it_heard_of_its_commit_keeps_its_version() {
    let lab = one_version();
    let answer = before_its_commit(&lab, |token| {
        committed_and_helped(&lab, token);
        // A fence that came before the helper could remove the directory.
        std::fs::create_dir(token).unwrap();
        std::os::unix::fs::symlink("fenced", token.join("outcome")).unwrap();
    });
    assert_eq!(number(&answer), 1);
    dense(&lab, "a", 3);
    holds(&lab, "a:v1", "two");
}

#[test]
fn a_commit_into_a_token_that_was_fenced_and_half_taken_away_counts_for_nothing() {
    for gone in [true, false] {
        let lab = one_version();
        let was = std::cell::RefCell::new(PathBuf::new());
        let answer = before_its_commit(&lab, |token| {
            *was.borrow_mut() = token.to_owned();
            std::fs::remove_dir_all(token).unwrap();
            if !gone {
                std::fs::create_dir(token).unwrap();
            }
        });
        assert_eq!(number(&answer), 1);
        let stands = std::fs::read_link(lab.store_path().join("artifacts/a/versions/v1")).unwrap();
        assert_ne!(
            stands.to_str().unwrap().trim_start_matches('.'),
            was.borrow().file_name().unwrap().to_str().unwrap(),
            "the token that was taken away stands nowhere"
        );
        holds(&lab, "a:v1", "two");
    }
}

#[test]
fn an_alias_move_fenced_before_its_commit_is_done_with_a_new_token() {
    let lab = one_version();
    lab.ok(&["put", "a", "two"]);
    let args = ["alias", "a:v1", "prod"];
    let step = find_step(&lab, &args, |token| outcome(token).is_none() && token.join("record").is_symlink());
    let child = start(&lab, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    std::os::unix::fs::symlink("fenced", the_token(&lab).join("outcome")).unwrap();
    go_on(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(
        alias::get(&lab.store(), &name("a"), &AliasName::parse("prod").unwrap()).unwrap(),
        Some(VersionNumber(1))
    );
    work_is_empty(&lab);
    assert_eq!(unpublished(&lab, "a"), 0);
    clean(&lab);
}

#[test]
fn what_another_left_broken_in_work_does_not_stop_a_put() {
    let lab = one_version();
    let work = lab.store_path().join("work");
    let token = |digit: &str| work.join(digit.repeat(32));
    for digit in ["1", "2", "3", "4"] {
        std::fs::create_dir(token(digit)).unwrap();
    }
    std::fs::write(token("1").join("outcome"), "no link").unwrap();
    std::os::unix::fs::symlink("neither", token("2").join("outcome")).unwrap();
    // Refused, and killed while it took its record away: a directory without its files.
    for digit in ["3", "4"] {
        std::os::unix::fs::symlink("commit", token(digit).join("outcome")).unwrap();
        std::os::unix::fs::symlink(format!("artifacts/a/versions/.{}", digit.repeat(32)), token(digit).join("record"))
            .unwrap();
    }
    std::fs::create_dir(lab.store_path().join("artifacts/a/versions").join(format!(".{}", "3".repeat(32)))).unwrap();
    assert_eq!(lab.ok(&["put", "a", "two"]), "a:v1");
    dense(&lab, "a", 2);
    clean(&lab);
}

/// The shim built from `lostreply.c`; `None` where there is no C compiler.
pub fn shim(lab: &TestStore) -> Option<PathBuf> {
    let to = lab.path("lostreply.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lostreply.c");
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&to)
        .arg(source)
        .arg("-ldl")
        .status();
    if built.is_ok_and(|s| s.success()) {
        return Some(to);
    }
    println!("skipped: no cc to build lostreply.c with");
    None
}

#[test]
fn a_lost_reply_of_any_call_is_found_out_or_said_and_the_repeat_makes_nothing_twice() {
    let from = one_version();
    make_tree(&from.path("two"), &[("f", b"two"), ("d/large", &random_bytes(4, 140_000))]);
    let Some(shim) = shim(&from) else { return };
    let mut tried = BTreeMap::new();
    for (call, errors) in [
        ("symlink", [libc::EEXIST, libc::EIO]),
        ("mkdir", [libc::EEXIST, libc::EIO]),
        ("rename", [libc::ENOENT, libc::EIO]),
        ("excl", [libc::EEXIST, libc::EIO]),
        ("unlink", [libc::ENOENT, libc::EIO]),
        ("fsync", [libc::EIO, libc::ENOSPC]),
    ] {
        for error in errors {
            for n in 1.. {
                let lab = TestStore { dir: tempfile::tempdir().unwrap() };
                for part in ["store", "two"] {
                    copy_tree(&from.path(part), &lab.path(part));
                }
                let hit = lab.path("hit");
                let with_shim = |args: &[&str]| {
                    lab.cairn(args)
                        .env("LD_PRELOAD", &shim)
                        .env("LOSTREPLY", format!("{call}:{n}:{error}"))
                        .env("LOSTREPLY_HIT", &hit)
                        .output()
                        .unwrap()
                };
                let output = with_shim(&["put", "a", "two", "--alias", "prod", "--type", "dataset"]);
                if !hit.exists() {
                    assert!(output.status.success(), "{}", text(&output.stderr));
                    break;
                }
                *tried.entry(call).or_insert(0) += 1;
                let label = format!("{call} {n} lost with {error}: {:?} {}", output.status, text(&output.stderr));
                // As network file systems lose them: recognised. Other errors may be passed on.
                let recognised = matches!(
                    (call, error),
                    ("symlink" | "mkdir" | "excl", libc::EEXIST) | ("rename" | "unlink", libc::ENOENT)
                );
                assert!(output.status.success() || (!recognised && output.status.code() == Some(5)), "{label}");
                let published = numbers(&lab, "a").len() == 2;
                if output.status.success() {
                    assert!(published, "{label}");
                } else if call == "fsync" && !published {
                    let committed = std::fs::read_dir(lab.store_path().join("work"))
                        .unwrap()
                        .any(|t| outcome(&t.unwrap().path()).as_deref() == Some("commit"));
                    assert!(!committed, "nothing is committed after a failed sync: {label}");
                }
                clean(&lab);
                lab.ok(&["put", "a", "two", "--alias", "prod"]);
                dense(&lab, "a", 2);
                holds(&lab, "a:prod", "two");
                clean(&lab);
            }
        }
    }
    println!("lost replies: {tried:?}");
    assert!(
        tried["symlink"] >= 6
            && tried["mkdir"] >= 2
            && tried["rename"] >= 2
            && tried["excl"] >= 8
            && tried["fsync"] >= 4,
        "{tried:?}"
    );
}

#[test]
fn a_directory_or_symlink_that_is_said_to_exist_and_does_not_is_made_again() {
    let from = one_version();
    make_tree(&from.path("two"), &[("f", b"two"), ("d/large", &random_bytes(4, 140_000))]);
    let Some(shim) = shim(&from) else { return };
    for (call, at_least) in [("mkdir", 5), ("symlink", 3)] {
        let mut tried = 0;
        for n in 1.. {
            let lab = TestStore { dir: tempfile::tempdir().unwrap() };
            for part in ["store", "two"] {
                copy_tree(&from.path(part), &lab.path(part));
            }
            let hit = lab.path("hit");
            let mut command = lab.cairn(&["put", "new", "two", "--alias", "prod"]);
            command
                .env("LD_PRELOAD", &shim)
                .env("LOSTREPLY", format!("{call}:{n}:{}", libc::EEXIST))
                .env("LOSTREPLY_UNDONE", "1")
                .env("LOSTREPLY_HIT", &hit);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{call} {n}: {}", text(&output.stderr));
            if !hit.exists() {
                break;
            }
            tried += 1;
            holds(&lab, "new:prod", "two");
            dense(&lab, "new", 1);
            clean(&lab);
        }
        assert!(tried >= at_least, "{call}: {tried}");
    }
}

#[test]
fn a_file_that_keeps_changing_while_it_is_read_is_refused_and_nothing_is_published() {
    let lab = one_version();
    std::fs::create_dir(lab.path("moving")).unwrap();
    let file = lab.path("moving/file");
    std::fs::write(&file, random_bytes(1, 24 << 20)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            use std::os::unix::fs::FileExt;
            let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                open.write_all_at(&n.to_le_bytes(), n * 4096 % (24 << 20)).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let output = lab.cairn(&["put", "a", "moving"]).output().unwrap();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("moving/file"), "{}", text(&output.stderr));
    });
    dense(&lab, "a", 1);
    work_is_empty(&lab);
    assert_eq!(lab.ok(&["put", "a", "moving"]), "a:v1");
    holds(&lab, "a:v1", "moving");
    clean(&lab);
}

/// Stops `put a source` where it makes its first temporary file: the walk is done, and at most one file was read.
fn stopped_after_its_walk(lab: &TestStore, source: &str) -> Child {
    let args = ["put", "a", source];
    let count = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    // The token's directory has its note alone when its files were renamed away; the version's directory stands by
    // then.
    let step = find_step(lab, &args, |token| {
        count(token) == 1 && outcome(token).is_none() && count(&token.join("../../artifacts/a/versions")) == 2
    });
    let child = start(lab, &args, &format!("stop:{step}"));
    wait_stopped(&child);
    child
}

#[test]
fn a_file_that_vanishes_in_the_middle_is_named_and_nothing_is_visible() {
    let lab = one_version();
    make_tree(&lab.path("source"), &[("a", b"first"), ("gone", b"gone soon"), ("z", b"last")]);
    let child = stopped_after_its_walk(&lab, "source");
    std::fs::remove_file(lab.path("source/gone")).unwrap();
    go_on(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("source/gone"), "{}", text(&output.stderr));
    dense(&lab, "a", 1);
    work_is_empty(&lab);
    lab.ok(&["put", "a", "source"]);
    holds(&lab, "a:v1", "source");
    clean(&lab);
}

#[test]
fn a_large_file_that_changes_once_while_it_is_read_is_read_again_and_held_as_it_then_is() {
    let lab = one_version();
    std::fs::create_dir(lab.path("source")).unwrap();
    std::fs::write(lab.path("source/large"), random_bytes(1, 3 << 20)).unwrap();
    // Stopped at the temporary file, after it was opened and looked at.
    let child = stopped_after_its_walk(&lab, "source");
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(lab.path("source/large"), random_bytes(2, 2 << 20)).unwrap();
    go_on(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    holds(&lab, "a:v1", "source");
    clean(&lab);
}

/// A file system of its own, unmounted when dropped.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// `None` where this user may not mount.
    fn tmpfs(at: &Path, size: &str) -> Option<Mounted> {
        std::fs::create_dir(at).unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        Self::made(at, done)
    }

    fn ext4(at: &Path, image: &Path, size: u64) -> Option<Mounted> {
        std::fs::create_dir(at).unwrap();
        std::fs::File::create(image).unwrap().set_len(size).unwrap();
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image).output();
        if !made.is_ok_and(|o| o.status.success()) {
            println!("skipped: no mkfs.ext4");
            return None;
        }
        let done = std::process::Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output();
        Self::made(at, done)
    }

    fn made(at: &Path, done: std::io::Result<Output>) -> Option<Mounted> {
        if done.is_ok_and(|o| o.status.success()) {
            return Some(Mounted { at: at.to_path_buf() });
        }
        println!("skipped: this user may not mount");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.at).status();
    }
}

/// Fills the file system so that `free` bytes are left for others.
fn fill(at: &Path, free: u64) {
    let ballast = at.join("ballast");
    let available = cairn::internals::disk::free_bytes(at).unwrap();
    let file = std::fs::File::create(&ballast).unwrap();
    let mut left = available.saturating_sub(free);
    let block = vec![0x55u8; 64 << 10];
    while left > 0 {
        use std::io::Write;
        let n = left.min(block.len() as u64) as usize;
        if (&file).write_all(&block[..n]).is_err() {
            break;
        }
        left -= n as u64;
    }
    let _ = file.sync_all();
}

fn full_disk(lab: &TestStore, at: &Path) {
    let store = at.join("store");
    make_tree(&lab.path("one"), &[("f", b"one")]);
    make_tree(&lab.path("two"), &[("f", b"two"), ("g", &random_bytes(1, 60_000)), ("h", &random_bytes(2, 140_000))]);
    let cairn = |args: &[&str]| lab.cairn(args).env("CAIRN_STORE", &store).output().unwrap();
    assert!(cairn(&["init", store.to_str().unwrap()]).status.success());
    assert!(cairn(&["put", "a", "one"]).status.success());
    let (mut refused, mut done) = (0, 0);
    for (round, free) in (0..70).map(|k| k * 4096).enumerate() {
        // Other content each time, so that what an earlier round stored does not help.
        make_tree(
            &lab.path("two"),
            &[("f", format!("round {round}").as_bytes()), ("h", &random_bytes(round as u64 + 9, 140_000))],
        );
        fill(at, free);
        let before = std::fs::read_dir(store.join("artifacts/a/versions"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('v'))
            .count();
        let output = cairn(&["put", "a", "two"]);
        let versions = || {
            std::fs::read_dir(store.join("artifacts/a/versions"))
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('v'))
                .count()
        };
        if output.status.success() {
            done += 1;
            assert_eq!(versions(), before + 1);
        } else {
            refused += 1;
            assert_eq!(output.status.code(), Some(5), "{free} free: {}", text(&output.stderr));
            assert!(
                text(&output.stderr).contains("No space left") || text(&output.stderr).contains("space"),
                "{}",
                text(&output.stderr)
            );
            assert_eq!(versions(), before, "{free} free: nothing is visible");
        }
        std::fs::remove_file(at.join("ballast")).unwrap();
        let again = cairn(&["put", "a", "two"]);
        assert!(again.status.success(), "{free} free, then freed: {}", text(&again.stderr));
        assert_eq!(versions(), before + 1, "one version of it");
        let report = verify(&Store::open(&store).unwrap(), &Scope::All, &VerifyOptions::default()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let out = lab.path("out");
        assert!(cairn(&["get", "a", out.to_str().unwrap()]).status.success());
        assert!(snapshot(&out) == snapshot(&lab.path("two")));
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(refused >= 10 && done >= 1, "{refused} refused, {done} done");
    println!("full disk {}: {refused} refused, {done} fitted", at.display());
}

#[test]
fn a_full_disk_is_a_clear_error_with_nothing_visible_and_the_repeat_succeeds_when_there_is_space() {
    let lab = TestStore { dir: tempfile::tempdir().unwrap() };
    if let Some(mounted) = Mounted::tmpfs(&lab.path("tmpfs"), "32m") {
        full_disk(&lab, &mounted.at);
    }
    if let Some(mounted) = Mounted::ext4(&lab.path("ext4"), &lab.path("ext4.img"), 40 << 20) {
        full_disk(&lab, &mounted.at);
    }
}

#[test]
fn a_store_inside_its_own_source_and_eight_writers_of_it_store_no_store() {
    let lab = TestStore { dir: tempfile::tempdir().unwrap() };
    make_tree(&lab.path("project"), &[("src/a", b"a"), ("b", b"b")]);
    let store = Store::init(&lab.path("project/.cairn"), &Default::default()).unwrap();
    std::thread::scope(|s| {
        for _ in 0..PROCESSES {
            s.spawn(|| {
                let mut artifact = Artifact::new("p", None).unwrap();
                artifact.add_dir(lab.path("project")).unwrap();
                let published = artifact.save(&store).unwrap();
                assert_eq!((published.version.number().0, published.version.record().files), (0, 2));
            });
        }
    });
}
