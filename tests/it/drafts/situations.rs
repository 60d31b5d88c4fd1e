//! What drafts do in each situation that their users meet, as commands and through the library.

use crate::support::{TestStore, make_tree, resume, text};
use cairn::catalog::{Draft, Mode, VersionSpec};
use cairn::error::Detail;
use cairn::types::{ArtifactName, DistributedId, RelPath, RunId};
use cairn::{Artifact, FinishOptions, Kind, OnConflict, Run, RunOptions, Store, UpsertOptions, Version};
use std::time::Duration;

fn run(store: &Store, id: &str) -> Run {
    Run::new(store, RunOptions::default().id(id)).unwrap()
}

fn files(name: &str, files: &[(&str, &str)]) -> Artifact {
    let mut artifact = Artifact::new(name, None).unwrap();
    for (path, content) in files {
        artifact.add_bytes(path, content).unwrap();
    }
    artifact
}

fn upsert(store: &Store, by: &str, id: &str, what: &[(&str, &str)]) {
    run(store, by).upsert_artifact(&files("x", what), id).unwrap();
}

fn finish(store: &Store, id: &str, options: &FinishOptions) -> cairn::Result<cairn::Published> {
    draft(store, id).finish(&files("x", &[]), options)
}

fn draft(store: &Store, id: &str) -> Draft {
    Draft::new(store, &ArtifactName::parse("x").unwrap(), &DistributedId::parse(id).unwrap())
}

fn content(version: &Version) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for visit in version.entries().unwrap() {
        let visit = visit.unwrap();
        if !visit.entry.is_directory() {
            let path = visit.path.to_string();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut version.open(&path).unwrap(), &mut text).unwrap();
            out.push((path, text));
        }
    }
    out
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

#[test]
fn three_runs_give_one_image_each_and_the_third_finishes() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("image1.png", b"1"), ("image2.png", b"22"), ("image3.png", b"333")]);
    let id = ["--distributed-id", "my_dist_artifact"];
    let say = |args: &[&str]| test_store.ok(&[args, &id].concat());
    assert_eq!(say(&["upsert", "images", "image1.png", "--run", "run1"]), "images my_dist_artifact run1");
    assert_eq!(
        say(&["upsert", "images", "image2.png", "--run", "run2", "--json"]),
        r#"{"artifact":"images","distributed_id":"my_dist_artifact","run":"run2","files":1,"bytes":2}"#
    );
    let shown = test_store.ok(&["drafts"]);
    assert!(shown.starts_with("images  my_dist_artifact  2  2  3 B  ") && shown.contains("  -  "), "{shown}");
    assert_eq!(say(&["finish", "images", "image3.png", "--run", "run3"]), "images:v0");
    assert_eq!(test_store.ok(&["ls", "images"]), "image1.png\nimage2.png\nimage3.png");
    let list = test_store.ok(&["list", "images", "--json"]);
    assert!(list.contains(r#""mode":"collaborative","run":"run3""#), "{list}");
    assert_eq!(test_store.ok(&["drafts"]), "");
    assert_eq!(test_store.ok(&["verify"]), "");
}

#[test]
fn neither_an_id_nor_a_group_is_an_error_and_the_group_is_the_default() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    let stderr = text(&test_store.run(&["upsert", "x", "f", "--run", "r"], 2).stderr);
    assert!(stderr.starts_with("error: a distributed id or a group is needed\n"), "{stderr}");
    let stderr = text(&test_store.run(&["finish", "x"], 2).stderr);
    assert!(stderr.starts_with("error: a distributed id or a group is needed\n"), "{stderr}");
    assert_eq!(test_store.ok(&["upsert", "x", "f", "--run", "r", "--group", "job 7"]), "x job 7 r");
    let output = test_store.cairn(&["finish", "x"]).env("CAIRN_RUN_GROUP", "job 7").output().unwrap();
    assert_eq!(text(&output.stdout), "x:v0\n");
    let store = test_store.store();
    let refused = run(&store, "r").upsert_artifact(&files("x", &[("f", "1")]), None).unwrap_err();
    assert_eq!((refused.kind(), refused.message()), (Kind::Usage, "a distributed id or a group is needed"));
}

#[test]
fn the_same_bytes_from_two_runs_are_fine_and_other_bytes_are_refused_with_both_sides_named() {
    let test_store = TestStore::new();
    let store = test_store.store();
    upsert(&store, "a", "d", &[("same", "s"), ("p", "1"), ("d/x", "1")]);
    upsert(&store, "b", "d", &[("same", "s"), ("p", "2"), ("d", "a file")]);
    let before = draft(&store, "d").state().unwrap();
    let refused = finish(&store, "d", &FinishOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    let digest = |b: &str| cairn::types::Digest::of(b.as_bytes()).hex()[..12].to_owned();
    let conflicts = ["d", "p"].map(|p| RelPath::parse(p.as_bytes()).unwrap()).to_vec();
    assert_eq!(refused.detail(), Some(&Detail::Conflict { paths: conflicts }));
    let lines = refused.causes();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("d: a directory by run a") && lines[0].contains(&digest("a file")), "{lines:?}");
    assert!(
        lines[1].starts_with("p: ")
            && [digest("1"), digest("2"), "run a".into(), "run b".into()].iter().all(|part| lines[1].contains(part)),
        "{lines:?}"
    );
    assert_eq!(draft(&store, "d").state().unwrap(), before, "nothing is recorded");
    assert!(cairn::resolve(&store, &VersionSpec::parse("x").unwrap()).is_err());
    // The ways out. One: the run upserts again.
    upsert(&store, "b", "d", &[("p", "1")]);
    assert_eq!(finish(&store, "d", &FinishOptions::default()).unwrap_err().causes().len(), 1);
    // Two: what was appended last.
    let latest = FinishOptions::default().on_conflict(OnConflict::Latest);
    assert_eq!(
        content(&finish(&store, "d", &latest).unwrap().version),
        pairs(&[("d", "a file"), ("p", "1"), ("same", "s")])
    );
    // Three: one is removed.
    upsert(&store, "a", "e", &[("p", "1")]);
    upsert(&store, "b", "e", &[("p", "2")]);
    draft(&store, "e").drop_run(&RunId::parse("b").unwrap()).unwrap();
    assert_eq!(content(&finish(&store, "e", &FinishOptions::default()).unwrap().version), pairs(&[("p", "1")]));
}

#[test]
fn under_latest_the_log_decides_and_no_clock() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let latest = FinishOptions::default().on_conflict(OnConflict::Latest);
    upsert(&store, "a", "d", &[("p", "a1"), ("q", "a1")]);
    upsert(&store, "b", "d", &[("p", "b2"), ("q", "b2")]);
    upsert(&store, "a", "d", &[("q", "a3")]);
    // a's p is older than b's, although a wrote last; a's q is the newest.
    assert_eq!(content(&finish(&store, "d", &latest).unwrap().version), pairs(&[("p", "b2"), ("q", "a3")]));
    // The finisher's own files replace all others, also those of its own run.
    upsert(&store, "a", "e", &[("p", "1"), ("q", "1")]);
    upsert(&store, "b", "e", &[("p", "2")]);
    let own = run(&store, "a")
        .finish_artifact_with(&files("x", &[("p", "2"), ("r", "3")]), "e", &FinishOptions::default())
        .unwrap();
    assert_eq!(content(&own.version), pairs(&[("p", "2"), ("q", "1"), ("r", "3")]));
    assert_eq!(own.version.record().mode, Mode::Collaborative);
    assert_eq!(own.version.record().distributed_id.as_ref().unwrap().as_str(), "e");
}

#[test]
fn one_run_that_upserts_twice_goes_over_itself_and_replace_takes_all_back() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let mut first = files("x", &[("p", "1"), ("q", "1"), ("d/x", "1")]);
    first.add_alias("one").unwrap().add_tag("t1").unwrap().set_description("first");
    first.set_metadata(cairn::catalog::parse_metadata(r#"{"a": 1, "b": 1}"#).unwrap()).unwrap();
    run(&store, "a").upsert_artifact(&first, "d").unwrap();
    let mut second = files("x", &[("p", "2"), ("d", "file now")]);
    second.add_alias("two").unwrap().add_tag("t2").unwrap().add_tag("t1").unwrap().set_description("second");
    second.set_metadata(cairn::catalog::parse_metadata(r#"{"b": 2}"#).unwrap()).unwrap();
    run(&store, "a").upsert_artifact(&second, "d").unwrap();
    let version = finish(&store, "d", &FinishOptions::default()).unwrap().version;
    assert_eq!(content(&version), pairs(&[("d", "file now"), ("p", "2"), ("q", "1")]));
    assert_eq!(version.aliases().unwrap(), ["latest", "one", "two"]);
    let message = version.annotations().unwrap();
    assert_eq!(message.description.as_deref(), Some("second"));
    assert_eq!(message.tags.iter().map(|t| t.to_string()).collect::<Vec<_>>(), ["t1", "t2"]);
    assert_eq!(serde_json::to_string(&message.metadata).unwrap(), r#"{"a":1,"b":2}"#);

    upsert(&store, "a", "e", &[("p", "1"), ("q", "1")]);
    upsert(&store, "b", "e", &[("q", "b")]);
    let replace = UpsertOptions::default().replace(true);
    run(&store, "a").upsert_artifact_with(&files("x", &[("p", "3")]), "e", &replace).unwrap();
    assert_eq!(
        content(&finish(&store, "e", &FinishOptions::default()).unwrap().version),
        pairs(&[("p", "3"), ("q", "b")])
    );
    let other = Artifact::new("x", "model").unwrap();
    assert_eq!(run(&store, "a").upsert_artifact(&other, "f").unwrap_err().kind(), Kind::Conflict, "another type");
}

#[test]
fn after_the_finish_the_id_stays_closed_and_a_repeated_finish_returns_the_version() {
    let test_store = TestStore::new();
    let store = test_store.store();
    upsert(&store, "a", "d", &[("p", "1")]);
    let first = finish(&store, "d", &FinishOptions::default()).unwrap();
    assert!(first.created);
    let again = finish(&store, "d", &FinishOptions::default()).unwrap();
    assert_eq!((again.created, again.version.number()), (false, first.version.number()));
    let refused = run(&store, "a").upsert_artifact(&files("x", &[("p", "1")]), "d").unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.message().contains("x:v0") && refused.hint().unwrap().contains("choose another"), "{refused}");
    let refused = run(&store, "b").finish_artifact(&files("x", &[("new", "1")]), "d").unwrap_err();
    assert!(matches!(refused.detail(), Some(Detail::Finished { version: Some(number), .. }) if number.0 == 0));
    assert_eq!(refused.kind(), Kind::Conflict, "with new files");
    for refused in [draft(&store, "d").discard(), draft(&store, "d").drop_run(&RunId::parse("a").unwrap())] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    }
    // Also when other versions came after it, and when it was removed.
    files("x", &[("later", "1")]).save(&store).unwrap();
    assert_eq!(finish(&store, "d", &FinishOptions::default()).unwrap().version.number().0, 0);
    test_store.ok(&["rm", "x:v0"]);
    let removed = finish(&store, "d", &FinishOptions::default()).unwrap_err();
    assert!(removed.kind() == Kind::Conflict && removed.message().contains("removed"), "{removed}");
}

#[test]
fn content_equal_to_the_newest_version_adds_its_annotations_to_that_version() {
    let test_store = TestStore::new();
    let store = test_store.store();
    files("x", &[("p", "1"), ("q", "2")]).save(&store).unwrap();
    upsert(&store, "a", "d", &[("p", "1")]);
    let mut part = files("x", &[("q", "2")]);
    part.add_alias("best").unwrap().add_tag("same").unwrap();
    run(&store, "b").upsert_artifact(&part, "d").unwrap();
    for _ in 0..2 {
        let published = finish(&store, "d", &FinishOptions::default()).unwrap();
        assert_eq!((published.created, published.version.number().0), (false, 0));
        assert_eq!(published.version.aliases().unwrap(), ["latest", "best"]);
        assert_eq!(published.version.annotations().unwrap().tags.len(), 1);
    }
    assert_eq!(test_store.ok(&["list", "x", "--json"]).matches("\"version\"").count(), 1);
    assert_eq!(test_store.ok(&["verify"]), "");
}

#[test]
fn a_finish_lists_what_is_missing_and_waits_for_it_if_asked() {
    let test_store = TestStore::new();
    let store = test_store.store();
    upsert(&store, "a", "d", &[("p", "1")]);
    let expect = FinishOptions::default().expect(3).expect_runs([RunId::parse("b").unwrap()]);
    let refused = finish(&store, "d", &expect).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert_eq!(refused.causes(), ["expected 3 runs, found 1: a", "run b has not contributed"]);
    let stderr =
        text(&test_store.run(&["finish", "x", "--distributed-id", "d", "--expect", "2", "--wait", "0.3"], 3).stderr);
    assert!(stderr.contains("expected 2 runs, found 1: a") && stderr.contains("hint: --wait"), "{stderr}");
    // The finisher's run counts when it brings something.
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            upsert(&store, "b", "d", &[("q", "2")]);
        });
        let wait = expect.clone().wait(Duration::from_secs(60));
        let published = run(&store, "c").finish_artifact_with(&files("x", &[("r", "3")]), "d", &wait).unwrap();
        assert_eq!(content(&published.version), pairs(&[("p", "1"), ("q", "2"), ("r", "3")]));
    });
}

#[test]
fn a_finish_during_an_upsert_names_the_run_or_waits_for_it_or_skips_it() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    upsert(&store, "a", "d", &[("p", "1")]);
    // A writer that is stopped in the middle of its upsert.
    let mut writer = test_store.stopped_before(6, &["upsert", "x", "f", "--run", "slow", "--distributed-id", "d"]);
    let refused = finish(&store, "d", &FinishOptions::default()).unwrap_err();
    assert!(refused.causes().len() == 1 && refused.causes()[0].starts_with("run slow is writing on "), "{refused}");
    let shown = test_store.ok(&["drafts", "x", "--json"]);
    assert!(shown.contains(r#""writing":["slow"]"#), "{shown}");
    // The same run elsewhere is refused while this one lives.
    let stderr = text(&test_store.run(&["upsert", "x", "f", "--run", "slow", "--distributed-id", "d"], 3).stderr);
    assert!(stderr.contains(&format!("process {}", writer.id())), "{stderr}");
    // A lock is advisory: once it is broken, nothing waits for it, and nothing is lost.
    let skipped = finish(&store, "d", &FinishOptions::default().skip_open(true)).unwrap();
    assert_eq!(content(&skipped.version), pairs(&[("p", "1")]));
    resume(&writer);
    assert_eq!(writer.wait().unwrap().code(), Some(3), "woken after the finish, it is refused");
    assert_eq!(test_store.ok(&["verify"]), "");
    // One that is waited for.
    upsert(&store, "a", "e", &[("p", "1")]);
    let mut writer = test_store.stopped_before(6, &["upsert", "x", "f", "--run", "slow", "--distributed-id", "e"]);
    std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_millis(400));
            resume(&writer);
        });
        let waited = finish(&store, "e", &FinishOptions::default().wait(Duration::from_secs(60))).unwrap();
        assert_eq!(content(&waited.version), pairs(&[("f", "1"), ("p", "1")]));
    });
    assert!(writer.wait().unwrap().success());
}

#[test]
fn a_writer_killed_in_the_middle_leaves_nothing_half_and_continues_when_started_again() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    let args = ["upsert", "x", "f", "--run", "r", "--distributed-id", "d"];
    let killed = test_store.cairn(&args).env("CAIRN_FAULT", "kill:9").status().unwrap();
    assert!(killed.code().is_none());
    assert_eq!(draft(&store, "d").state().unwrap().last, 0);
    assert_eq!(test_store.ok(&args), "x d r");
    assert_eq!(content(&finish(&store, "d", &FinishOptions::default()).unwrap().version), pairs(&[("f", "1")]));
}

#[test]
fn two_ids_on_one_name_and_one_id_on_two_names_are_independent() {
    let test_store = TestStore::new();
    let store = test_store.store();
    upsert(&store, "a", "d", &[("p", "1")]);
    upsert(&store, "a", "../e/ü", &[("p", "2")]);
    run(&store, "a").upsert_artifact(&files("y", &[("p", "3")]), "d").unwrap();
    assert_eq!(test_store.ok(&["drafts", "x"]).lines().count(), 2);
    assert!(test_store.ok(&["drafts"]).contains("../e/ü"));
    assert_eq!(content(&finish(&store, "../e/ü", &FinishOptions::default()).unwrap().version), pairs(&[("p", "2")]));
    let y = Draft::new(&store, &ArtifactName::parse("y").unwrap(), &DistributedId::parse("d").unwrap());
    assert_eq!(content(&y.finish(&files("y", &[]), &FinishOptions::default()).unwrap().version), pairs(&[("p", "3")]));
    assert_eq!(content(&finish(&store, "d", &FinishOptions::default()).unwrap().version), pairs(&[("p", "1")]));
    assert!(finish(&store, "unknown", &FinishOptions::default()).is_err_and(|e| e.kind() == Kind::NotFound));
    let long = "x".repeat(128);
    upsert(&store, &"ü".repeat(128), &long, &[("p", "4")]);
    assert_eq!(finish(&store, &long, &FinishOptions::default()).unwrap().version.number().0, 2);
}

#[test]
fn a_discarded_draft_begins_again_and_a_dropped_run_counts_again_when_it_comes_back() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path(""), &[("f", b"new")]);
    upsert(&store, "a", "d", &[("p", "1")]);
    upsert(&store, "b", "d", &[("q", "1")]);
    assert_eq!(test_store.ok(&["draft", "drop", "x", "d", "--run", "a"]), "x d a");
    test_store.run(&["draft", "drop", "x", "d", "--run", "a"], 6);
    assert_eq!(draft(&store, "d").state().unwrap().runs().len(), 1);
    upsert(&store, "a", "d", &[("r", "1")]);
    assert_eq!(test_store.ok(&["draft", "show", "x", "d"]).lines().count(), 2);
    assert_eq!(test_store.ok(&["draft", "discard", "x", "d"]), "x d");
    assert_eq!(test_store.ok(&["drafts"]), "");
    test_store.run(&["draft", "discard", "x", "d"], 6);
    test_store.run(&["finish", "x", "--distributed-id", "d"], 6);
    test_store.run(&["draft", "show", "x", "nothing"], 6);
    test_store.ok(&["upsert", "x", "f", "--run", "c", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "d"]), "x:v0");
    assert_eq!(test_store.ok(&["ls", "x"]), "f");
    let shown = test_store.run(&["draft", "show", "x", "d"], 0);
    assert!(text(&shown.stderr).contains("finished as x:v0"));
}

#[test]
fn an_upsert_that_began_before_a_discard_is_refused() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path(""), &[("f", b"1")]);
    upsert(&store, "a", "d", &[("p", "1")]);
    // The second time its content is there: the record is what is written.
    for step in [5, 7] {
        let writer = test_store.stopped_before(step, &["upsert", "x", "f", "--run", "late", "--distributed-id", "d"]);
        draft(&store, "d").discard().unwrap();
        resume(&writer);
        let refused = writer.wait_with_output().unwrap();
        let stderr = text(&refused.stderr);
        assert!(refused.status.code() == Some(3) && stderr.contains("was discarded meanwhile"), "{stderr} at {step}");
        assert!(draft(&store, "d").state().unwrap().contributions.is_empty());
        upsert(&store, "a", "d", &[("p", "1")]);
    }
}

#[test]
fn a_draft_can_be_held_by_one_at_a_time_and_the_lock_is_only_advisory() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let (name, id) = (ArtifactName::parse("x").unwrap(), DistributedId::parse("d").unwrap());
    let held = store.lock_draft(&name, &id, Duration::ZERO).unwrap();
    let refused = store.lock_draft(&name, &id, Duration::from_millis(50)).unwrap_err();
    assert!(
        refused.kind() == Kind::Conflict && refused.message().contains(&std::process::id().to_string()),
        "{refused}"
    );
    assert!(matches!(refused.detail(), Some(Detail::Locked { holder }) if holder.pid == std::process::id()));
    drop(store.lock_draft(&name, &DistributedId::parse("e").unwrap(), Duration::ZERO).unwrap());
    // It excludes only processes that ask, and breaking it breaks nothing.
    upsert(&store, "a", "d", &[("p", "1")]);
    let shown = test_store.ok(&["locks", "--json"]);
    let lock = shown.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    test_store.ok(&["locks", "--break", lock]);
    let second = store.lock_draft(&name, &id, Duration::ZERO).unwrap();
    assert!(finish(&store, "d", &FinishOptions::default()).unwrap().created);
    drop((held, second));
    assert_eq!(test_store.ok(&["locks"]), "");
    // Eight that ask, one after the other: no two have it at once.
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                let _held = store.lock_draft(&name, &id, Duration::from_secs(60)).unwrap();
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                std::thread::sleep(Duration::from_millis(5));
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
    });
}

#[test]
fn an_empty_contribution_counts_as_a_run() {
    let test_store = TestStore::new();
    let store = test_store.store();
    upsert(&store, "a", "d", &[]);
    upsert(&store, "b", "d", &[("p", "1")]);
    let published = finish(&store, "d", &FinishOptions::default().expect(2)).unwrap();
    assert_eq!(content(&published.version), pairs(&[("p", "1")]));
    assert!(
        run(&store, "a").upsert_artifact(&published.version.new_draft(), "e").is_err_and(|e| e.kind() == Kind::Usage),
        "a patch is not a contribution"
    );
}

#[test]
fn a_repeated_contribution_is_counted_once_and_a_second_seal_and_a_late_upsert_say_why_not() {
    let test_store = TestStore::new();
    let failure = |args: &[&str], status: i32| text(&test_store.run(args, status).stderr);
    make_tree(&test_store.path("src"), &[("f", b"1")]);
    let id = ["--distributed-id", "d", "--run", "r"];
    test_store.ok(&[&["upsert", "x", "src"], &id[..]].concat());
    test_store.ok(&[&["upsert", "x", "src"], &id[..]].concat());
    let drafts = serde_json::from_slice::<serde_json::Value>(&test_store.run(&["drafts", "--json"], 0).stdout).unwrap();
    assert!(drafts[0]["contributions"] == 2 && drafts[0]["files"] == 1 && drafts[0]["bytes"] == 1, "{drafts}");
    let message = failure(&[&["upsert", "x"], &id[..]].concat(), 6);
    let expected = "error: run r has no open staging directory for draft d of x; it has contributed already\n";
    assert!(message.starts_with(expected), "{message}");
    let message = failure(&["finish", "x", "--distributed-id", "d", "--expect", "2"], 3);
    assert!(message.ends_with("; without --expect and --expect-run, finish publishes what is there\n"), "{message}");
    test_store.ok(&["finish", "x", "--distributed-id", "d"]);
    let message = failure(&[&["upsert", "x"], &id[..]].concat(), 3);
    assert!(message.starts_with("error: draft d of x is finished as x:v0\n"), "{message}");
    for args in [&["draft", "discard", "x", "d"][..], &["draft", "drop", "x", "d", "--run", "r"]] {
        let message = failure(args, 3);
        assert!(message.ends_with("hint: `cairn rm x:v0` removes the version\n"), "{message}");
    }
}
