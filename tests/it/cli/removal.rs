//! `rm` with rules, what it says it frees, and how much it reads.

use crate::crafted_stores::made_at;
use crate::support::{TestStore, make_tree, random_bytes, shim, steps, text};
use cairn::catalog::sole_content::{sole_content, sole_content_within};
use cairn::types::{ArtifactName, VersionNumber};
use serde_json::json;

/// `x` with versions v0 to v{n-1}, each with a small file of its own and one that all share.
fn test_store(n: u64) -> TestStore {
    let test_store = TestStore::new();
    for i in 0..n {
        put(&test_store, i);
    }
    test_store
}

fn put(test_store: &TestStore, i: u64) {
    make_tree(&test_store.path("src"), &[("own", &random_bytes(i + 1, 1000 + i as usize)), ("shared", b"shared")]);
    test_store.ok(&["put", "x", "src"]);
}

fn live(test_store: &TestStore) -> Vec<String> {
    let list = test_store.json(&["list", "x"]);
    list.as_array().unwrap().iter().map(|v| v["version"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rules_keep_a_version_if_one_of_them_does() {
    let test_store = test_store(6);
    for (version, day) in [("v0", 1), ("v1", 2), ("v2", 10), ("v3", 20), ("v4", 29), ("v5", 30)] {
        made_at(&test_store.store_path(), "x", version, &format!("2026-06-{day:02}T12:00:00Z"));
    }
    test_store.ok(&["put", "x", "src", "--tag", "golden"]); // v5 again: a tag for it
    test_store.ok(&["alias", "x:v1", "prod"]);
    let rules = ["rm", "x", "--keep-last", "1", "--keep-within", "10d", "--keep-tag", "golden"];
    let out = test_store.run(&[&rules[..], &["--dry-run"]].concat(), 0);
    assert_eq!(
        text(&out.stdout),
        "x:v5  kept              --keep-last, --keep-within, tag golden\nx:v4  kept              --keep-within\n\
         x:v3  kept              --keep-within\nx:v2  would be removed\nx:v1  kept              alias prod\n\
         x:v0  would be removed\n"
    );
    assert!(
        text(&out.stderr).contains("nothing was changed; `cairn gc` would move 1.96 KiB to the trash"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(live(&test_store).len(), 6, "a dry run changes nothing");
    assert_eq!(
        test_store.json(&rules),
        json!({
            "removed": [{ "artifact": "x", "version": "v2" }, { "artifact": "x", "version": "v0" }],
            "kept": [
                { "artifact": "x", "version": "v5", "reasons": ["last", "within", "tag golden"] },
                { "artifact": "x", "version": "v4", "reasons": ["within"] },
                { "artifact": "x", "version": "v3", "reasons": ["within"] },
                { "artifact": "x", "version": "v1", "reasons": ["alias prod"] },
            ],
            "dry_run": false, "frees_bytes": 2002, "estimate": false,
        })
    );
    assert_eq!(live(&test_store), ["v1", "v3", "v4", "v5"]);
    let again = test_store.run(&rules, 0);
    assert!(text(&again.stderr).contains("nothing was removed"), "{}", text(&again.stderr));
    let again = test_store.run(&[&rules[..], &["--dry-run"]].concat(), 0);
    assert!(text(&again.stderr).contains("nothing would be removed"), "{}", text(&again.stderr));
}

#[test]
fn rules_that_keep_nothing_or_make_no_sense_are_refused() {
    let test_store = test_store(2);
    let stderr = test_store.fails(&["rm", "x", "--keep-tag", "golden"], 3);
    assert!(stderr.contains("the rules keep no version of x") && stderr.contains("cairn rm x --all"), "{stderr}");
    for args in [
        vec!["rm", "x:v0", "--keep-last", "1"],
        vec!["rm", "x", "--keep-last", "0"],
        vec!["rm", "x", "--keep-within", "soon"],
        vec!["rm", "x", "--keep-last", "1", "--all"],
        vec!["rm", "x", "--keep-last", "1", "--force"],
    ] {
        test_store.fails(&args, 2);
    }
    test_store.fails(&["rm", "y", "--keep-last", "1"], 6);
    assert_eq!(live(&test_store).len(), 2);
}

#[test]
fn a_version_that_a_mount_uses_is_kept_by_rules() {
    let test_store = test_store(3);
    let store = test_store.store();
    let x = ArtifactName::parse("x").unwrap();
    let purpose = cairn::internals::lock::Purpose { purpose: "mount", artifact: Some("x"), ..Default::default() };
    let pins = cairn::internals::pins::Pins::hold(&store, &purpose).unwrap();
    pins.pin(&x, VersionNumber(0)).unwrap();
    let kept = test_store.json(&["rm", "x", "--keep-last", "1"]);
    assert_eq!(kept["removed"], json!([{ "artifact": "x", "version": "v1" }]));
    assert!(kept["kept"][1]["reasons"][0].as_str().unwrap().starts_with("mount of "), "{kept}");
    drop(pins);
    assert_eq!(
        test_store.json(&["rm", "x", "--keep-last", "1"])["removed"],
        json!([{ "artifact": "x", "version": "v0" }])
    );
}

#[test]
fn pins_of_many_versions_are_asked_back_at_once() {
    let test_store = test_store(5);
    let store = test_store.store();
    // A mount of the whole store that does not answer.
    let purpose = cairn::internals::lock::Purpose { purpose: "mount", ..Default::default() };
    let pins = cairn::internals::pins::Pins::hold(&store, &purpose).unwrap();
    let x: ArtifactName = "x".parse().unwrap();
    for version in 0..4 {
        pins.pin(&x, VersionNumber(version)).unwrap();
    }
    let begun = std::time::Instant::now();
    let rules = cairn::catalog::retention::KeepRules::default().last(1);
    let judged = cairn::catalog::retention::judge(&store, &x, &rules).unwrap();
    // It waits 5 seconds for an answer; for each version that would be 20.
    assert!(begun.elapsed() < std::time::Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(judged[1..].iter().all(|version| version.kept_by[0].starts_with("mount of ")), "{judged:?}");
    drop(pins);
    let judged = cairn::catalog::retention::judge(&store, &x, &rules).unwrap();
    assert!(judged[1..].iter().all(|version| version.kept_by.is_empty()), "{judged:?}");
}

#[test]
fn a_hint_offers_restore_only_where_it_can_work() {
    let test_store = test_store(2);
    test_store.ok(&["alias", "x:v0", "prod"]);
    // A removal that was killed after the version was removed, and before its alias was.
    let mut killed_at = 0;
    let said = loop {
        killed_at += 1;
        let mut child = test_store.stopped_before(killed_at, &["rm", "x:v0", "--force"]);
        child.kill().unwrap();
        child.wait().unwrap();
        let out = test_store.cairn(&["show", "x:prod"]).output().unwrap();
        if !out.status.success() {
            break text(&out.stderr);
        }
    };
    assert!(said.contains("alias prod of x points at v0, which is removed"), "{said}");
    assert!(said.contains("moves it; `cairn restore x:v0` brings it back"), "{said}");
    test_store.ok(&["gc", "--min-age", "0s"]);
    let said = text(&test_store.cairn(&["show", "x:prod"]).output().unwrap().stderr);
    assert!(said.contains("moves it; a garbage collection has freed content of it"), "{said}");
    assert!(!said.contains("cairn restore"), "{said}");
}

#[test]
fn what_rm_says_it_frees_is_what_no_other_version_and_no_draft_has() {
    let test_store = test_store(3);
    let removed = text(&test_store.run(&["rm", "x:v1"], 0).stderr);
    assert_eq!(removed, "removed; `cairn gc` moves 1001 B to the trash, and frees it 24 hours later\n");
    // The rest of v0 and v2 is held by a copy, except for what only they have.
    test_store.ok(&["copy", "x:v0", "other"]);
    let document = test_store.json(&["rm", "x", "--all", "--dry-run"]);
    assert_eq!((&document["frees_bytes"], &document["estimate"]), (&json!(1002), &json!(false)), "{document}");
    make_tree(&test_store.path("part"), &[("elsewhere", &random_bytes(3, 1002))]);
    test_store.ok(&["upsert", "y", "part", "--distributed-id", "d", "--run", "r"]);
    assert_eq!(test_store.json(&["rm", "x:v2", "--dry-run"])["frees_bytes"], 0, "a contribution has it");
    test_store.ok(&["draft", "discard", "y", "d"]);
    assert_eq!(test_store.json(&["rm", "x:v2", "--dry-run"])["frees_bytes"], 1002);
}

#[test]
fn a_comparison_that_is_ended_early_is_called_an_estimate() {
    let test_store = test_store(3);
    let (store, x) = (test_store.store(), ArtifactName::parse("x").unwrap());
    let v0 = [(x, VersionNumber(0))];
    assert_eq!(sole_content(&store, &v0).unwrap(), sole_content_within(&store, &v0, 4).unwrap());
    let whole = sole_content_within(&store, &v0, 4).unwrap();
    assert_eq!((whole.bytes, whole.is_estimate), (1000, false));
    assert!(sole_content_within(&store, &v0, 3).unwrap().is_estimate);
}

/// How many calls read something below a directory while the command runs; `None` without a compiler.
fn reads(test_store: &TestStore, below: &str, args: &[&str]) -> Option<u64> {
    let shim = shim(test_store, "readfail.c")?;
    let count = test_store.path("reads");
    let below = std::fs::canonicalize(test_store.store_path()).unwrap().join(below);
    let mut command = test_store.cairn(args);
    command.env("LD_PRELOAD", &shim).env("READFAIL_BELOW", below).env("READFAIL_COUNT", &count);
    assert!(command.output().unwrap().status.success());
    Some(std::fs::read_to_string(&count).unwrap().parse().unwrap())
}

#[test]
fn rm_reads_the_aliases_as_often_for_many_versions_as_for_one() {
    let test_store = test_store(6);
    for i in 0..10 {
        test_store.ok(&["alias", "x:v5", &format!("alias-{i}")]);
    }
    let Some(one) = reads(&test_store, "artifacts/x/aliases", &["rm", "x:v0", "-q"]) else { return };
    let four = reads(&test_store, "artifacts/x/aliases", &["rm", "x:v1", "x:v2", "x:v3", "x:v4", "-q"]).unwrap();
    assert!(one > 20, "{one} reads of ten aliases, twice at least");
    assert_eq!(four, one);
}

#[test]
fn a_removal_whose_last_sync_fails_says_that_the_version_is_removed() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "src"]);
    let count = steps(&test_store.copy(&["store"]), &["rm", "x:v0"]);
    let mut said = 0;
    for step in 1..=count {
        let copy = test_store.copy(&["store"]);
        let out = copy.cairn(&["rm", "x:v0"]).env("CAIRN_FAULT", format!("error:{step}")).output().unwrap();
        let is_removed = copy.cairn(&["show", "x:v0"]).output().unwrap().status.code() == Some(6);
        let (printed, stderr) = (text(&out.stdout), text(&out.stderr));
        assert_eq!(printed.trim(), if is_removed { "x:v0" } else { "" }, "step {step}: {stderr}");
        assert_eq!(stderr.contains("nothing was removed"), !is_removed, "step {step}: {stderr}");
        assert!(!stderr.contains("is published"), "step {step}: {stderr}");
        if stderr.contains("it is removed, but that may not survive a loss of power") {
            assert!(is_removed && out.status.code() == Some(5), "{stderr}");
            said += 1;
        }
    }
    assert_eq!(said, 1);
}
