//! Numbers whose links are lost or exchanged, and versions whose records are damaged. Each is reported as damage of one
//! version. The artifact stays usable, and the number goes to no other version.

use crate::support::{TestStore, text};
use std::path::{Path, PathBuf};
use std::process::Output;

/// `x` with `count` versions of the file `f`, which holds the number.
fn with_versions(count: usize) -> TestStore {
    let test_store = TestStore::new();
    for n in 0..count {
        put(&test_store, &n.to_string());
    }
    test_store
}

fn put(test_store: &TestStore, content: &str) -> String {
    std::fs::write(test_store.path("f"), content).unwrap();
    test_store.ok(&["put", "x", "f"])
}

fn link(test_store: &TestStore, number: usize) -> PathBuf {
    test_store.store_path().join(format!("artifacts/x/versions/v{number}"))
}

/// The directory with a version's record.
fn record_dir(test_store: &TestStore, number: usize) -> PathBuf {
    std::fs::canonicalize(link(test_store, number)).unwrap()
}

fn exchange(a: &Path, b: &Path) {
    let (to_a, to_b) = (std::fs::read_link(a).unwrap(), std::fs::read_link(b).unwrap());
    for (at, to) in [(a, to_b), (b, to_a)] {
        std::fs::remove_file(at).unwrap();
        std::os::unix::fs::symlink(to, at).unwrap();
    }
}

fn error(output: &Output) -> String {
    text(&output.stderr)
}

#[test]
fn exchanged_numbers_are_damage() {
    let test_store = with_versions(2);
    exchange(&link(&test_store, 0), &link(&test_store, 1));
    let stderr = error(&test_store.run(&["cat", "x:v0", "f"], 4));
    assert!(stderr.contains("versions/v0") && stderr.contains("number 1"), "{stderr}");
    assert!(text(&test_store.run(&["verify"], 1).stdout).contains("x:v0"));
    assert_eq!(put(&test_store, "new"), "x:v2");
}

#[test]
fn exchanged_records_of_an_alias_are_damage_and_it_can_be_seen_which() {
    let test_store = with_versions(2);
    test_store.ok(&["alias", "x:v0", "prod"]);
    test_store.ok(&["alias", "x:v1", "prod"]);
    let log = test_store.store_path().join("artifacts/x/aliases/prod");
    exchange(&log.join("000001"), &log.join("000002"));
    test_store.run(&["cat", "x:prod", "f"], 4);
    test_store.run(&["rm", "x:v0"], 4);
    assert!(error(&test_store.run(&["list", "x"], 0)).contains("an alias of x is damaged"));
    test_store.run(&["verify"], 1);
}

#[test]
fn exchanged_records_of_a_draft_are_damage() {
    let test_store = with_versions(1);
    for run in ["a", "b"] {
        test_store.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", run]);
    }
    let log = test_store.store_path().join("artifacts/x/drafts/job/log");
    exchange(&log.join("000001"), &log.join("000002"));
    test_store.run(&["finish", "x", "--distributed-id", "job"], 4);
}

#[test]
fn a_lost_number_is_damage_and_goes_to_no_other_version() {
    for lost in 0..4 {
        let test_store = with_versions(5);
        std::fs::remove_file(link(&test_store, lost)).unwrap();
        let spec = format!("x:v{lost}");
        let stderr = error(&test_store.run(&["cat", &spec, "f"], 4));
        assert!(
            stderr.contains(&format!("{spec} is missing from the store, and v4 was published after it")),
            "{stderr}"
        );
        assert_eq!(test_store.ok(&["cat", "x", "f"]), "4");
        assert!(test_store.ok(&["list"]).contains('x'));
        assert_eq!(put(&test_store, "new"), "x:v5");
        std::fs::write(test_store.path("g"), "g").unwrap();
        assert_eq!(test_store.ok(&["patch", "x", "g"]), "x:v6");
        assert_eq!(test_store.ok(&["copy", "x:v4", "x"]), "x:v7");
        test_store.run(&["cat", &spec, "f"], 4);
        let report = text(&test_store.run(&["verify"], 1).stdout);
        assert!(
            report.contains(&format!("v{lost} is missing, and v7 was")) && report.contains(&format!("affects {spec}"))
        );
    }
}

#[test]
fn a_lost_number_is_listed_and_removable_and_gc_names_the_next_step() {
    let test_store = with_versions(3);
    std::fs::remove_file(link(&test_store, 1)).unwrap();
    let listed = test_store.run(&["list", "x"], 0);
    let lines = text(&listed.stdout);
    assert!(lines.lines().any(|l| l.starts_with("v1 ") && l.contains("damaged")), "{lines}");
    assert!(error(&listed).contains("x:v1 is damaged: its number is lost"), "{}", error(&listed));
    let stderr = error(&test_store.run(&["gc", "--min-age", "0"], 4));
    assert!(stderr.contains("`cairn verify --repair`") && stderr.contains("`cairn rm x:v1`"), "{stderr}");
    assert_eq!(test_store.ok(&["rm", "x:v1"]), "x:v1");
    assert!(error(&test_store.run(&["list", "x"], 0)).is_empty());
    test_store.run(&["cat", "x:v1", "f"], 6);
    test_store.run(&["verify"], 0);
    test_store.ok(&["gc", "--min-age", "0"]);
    test_store.ok(&["gc", "--min-age", "0"]);
    test_store.run(&["verify"], 0);
    assert_eq!(put(&test_store, "new"), "x:v3");
    test_store.run(&["restore", "x:v1"], 6);
}

#[test]
fn repair_claims_a_lost_number_again_if_its_record_is_certain() {
    // Also of neighbours.
    for lost in [&[0][..], &[2], &[1, 3], &[0, 1], &[1, 2], &[2, 3], &[0, 1, 2, 3]] {
        let test_store = with_versions(5);
        for number in lost {
            std::fs::remove_file(link(&test_store, *number)).unwrap();
        }
        let found = text(&test_store.run(&["verify"], 1).stdout);
        for number in lost {
            assert!(found.contains(&format!("v{number} is missing, and v4 was published after it")), "{found}");
        }
        test_store.run(&["verify", "--repair"], 0);
        for number in 0..5 {
            assert_eq!(test_store.ok(&["cat", &format!("x:v{number}"), "f"]), number.to_string());
        }
        test_store.ok(&["gc", "--min-age", "0"]);
    }
}

#[test]
fn repair_does_not_guess_between_two_records() {
    let test_store = with_versions(3);
    // Another record that may have had the number: as an attempt leaves it that was stopped.
    let record = record_dir(&test_store, 1);
    let other = record.with_file_name(".0123456789abcdef0123456789abcdef");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(record.join("manifest"), other.join("manifest")).unwrap();
    std::fs::copy(record.join("version.json"), other.join("version.json")).unwrap();
    crate::crafted_stores::resign(&other.join("version.json"), |r| {
        drop(r.insert("token".into(), "0123456789abcdef0123456789abcdef".into()))
    });
    let noted = test_store.run(&["verify"], 0);
    assert!(text(&noted.stdout).contains("note: F4-unnumbered"), "{}", text(&noted.stdout));
    std::fs::remove_file(link(&test_store, 1)).unwrap();
    test_store.run(&["verify", "--repair"], 1);
    test_store.run(&["cat", "x:v1", "f"], 4);
}

#[test]
fn the_loss_of_the_newest_number_is_noted_and_it_is_not_given_again_if_anything_names_it() {
    let lose = |prepare: &dyn Fn(&TestStore)| {
        let test_store = with_versions(3);
        prepare(&test_store);
        std::fs::remove_file(link(&test_store, 2)).unwrap();
        test_store
    };
    // Nothing names it: its record may be one that its writer did not live to publish.
    let test_store = lose(&|_| {});
    let verified = test_store.run(&["verify"], 0);
    assert!(text(&verified.stdout).contains("note: F4-unnumbered"), "{}", text(&verified.stdout));
    let prepared: [&[&str]; 4] =
        [&["alias", "x:v2", "prod"], &["tag", "x:v2", "golden"], &["use", "x:v2", "--run", "train-7"], &["gc"]];
    for command in prepared {
        let test_store = lose(&|test_store| drop(test_store.ok(command)));
        test_store.run(&["verify"], 1);
        assert!(test_store.run(&["gc", "--min-age", "0"], 4).stdout.is_empty());
        assert_eq!(put(&test_store, "new"), "x:v3", "{command:?}");
        std::fs::write(test_store.path("g"), "g").unwrap();
        assert_eq!(test_store.ok(&["patch", "x", "g"]), "x:v4", "{command:?}");
        test_store.run(&["verify", "--repair"], 0);
        assert_eq!(test_store.ok(&["cat", "x:v2", "f"]), "2", "{command:?}");
    }
}

#[test]
fn a_lost_number_that_something_named_is_not_given_again_with_or_without_its_mark() {
    let named: [&[&[&str]]; 3] = [
        &[&["alias", "x:v3", "prod"]],
        &[&["gc"]],
        // The alias moved away: its mark is what is left.
        &[&["alias", "x:v3", "prod"], &["alias", "x:v0", "prod"]],
    ];
    for (case, commands) in named.iter().enumerate() {
        for has_mark in [true, false].into_iter().take(if case == 2 { 1 } else { 2 }) {
            let test_store = with_versions(4);
            commands.iter().for_each(|command| drop(test_store.ok(command)));
            let given = test_store.store_path().join("artifacts/x/given");
            assert!(given.join("v3").exists(), "{commands:?}");
            if !has_mark {
                std::fs::remove_dir_all(&given).unwrap();
            }
            // Nothing names v2.
            [2, 3].iter().for_each(|n| std::fs::remove_file(link(&test_store, *n)).unwrap());
            assert_eq!(put(&test_store, "new"), "x:v4", "{commands:?} {has_mark}");
            test_store.run(&["verify", "--repair"], 0);
            assert_eq!(test_store.ok(&["cat", "x:v3", "f"]), "3");
        }
    }
}

#[test]
fn a_lost_number_that_was_removed_is_not_given_again() {
    // The links that are lost, and the alias that shows a part of them.
    for (lost, alias) in [(vec![3], None), (vec![2, 3], Some("x:v2")), (vec![0, 1, 2, 3], None)] {
        let test_store = with_versions(4);
        alias.iter().for_each(|version| drop(test_store.ok(&["alias", version, "prod"])));
        test_store.ok(&["rm", "x:v3"]);
        lost.iter().for_each(|n| std::fs::remove_file(link(&test_store, *n)).unwrap());
        assert_eq!(put(&test_store, "new"), "x:v4", "{lost:?}");
        assert_eq!(test_store.ok(&["cat", "x:v4", "f"]), "new");
    }
}

#[test]
fn the_last_number_is_missed_where_an_alias_or_a_note_tells_of_it() {
    let test_store = with_versions(3);
    test_store.ok(&["alias", "x:v2", "prod"]);
    std::fs::remove_file(link(&test_store, 2)).unwrap();
    let stderr = error(&test_store.run(&["cat", "x:prod", "f"], 4));
    assert!(stderr.contains("alias prod points at it"), "{stderr}");
    test_store.run(&["cat", "x:v2", "f"], 4);
    test_store.run(&["cat", "x:v3", "f"], 6);
}

#[test]
fn the_lost_number_of_a_finished_draft_is_claimed_again_before_another_is_given() {
    type Next = fn(&TestStore) -> String;
    let next: [Next; 4] = [
        |test_store| put(test_store, "new"),
        |test_store| {
            std::fs::write(test_store.path("g"), "g").unwrap();
            test_store.ok(&["patch", "x:v0", "g"])
        },
        |test_store| test_store.ok(&["copy", "x:v0", "x"]),
        |test_store| {
            std::fs::write(test_store.path("f"), "other").unwrap();
            test_store.ok(&["upsert", "x", "f", "--distributed-id", "second", "--run", "r"]);
            test_store.ok(&["finish", "x", "--distributed-id", "second"])
        },
    ];
    for next in next {
        let test_store = with_versions(1);
        std::fs::write(test_store.path("f"), "of the draft").unwrap();
        test_store.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", "r"]);
        assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "job"]), "x:v1");
        std::fs::remove_file(link(&test_store, 1)).unwrap();
        std::fs::write(test_store.path("f"), "else").unwrap();
        assert_eq!(next(&test_store), "x:v2");
        assert_eq!(test_store.ok(&["cat", "x:v1", "f"]), "of the draft");
        assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "job"]), "x:v1");
        test_store.run(&["verify"], 0);
    }
}

#[test]
fn an_artifact_whose_own_record_is_lost_keeps_its_type_and_its_identity() {
    for damage in [
        |at: &Path| std::fs::remove_file(at).unwrap(),
        |at: &Path| std::fs::write(std::fs::canonicalize(at).unwrap(), "{}").unwrap(),
    ] {
        let test_store = TestStore::new();
        std::fs::write(test_store.path("f"), "f").unwrap();
        test_store.ok(&["put", "x", "f", "--type", "model"]);
        damage(&test_store.store_path().join("artifacts/x/artifact.json"));
        assert!(test_store.ok(&["list"]).contains("model"));
        test_store.run(&["put", "x", "f", "--type", "dataset"], 3);
        assert_eq!(put(&test_store, "new"), "x:v1");
        assert!(test_store.ok(&["show", "x"]).contains("model"));
        for args in [&["cat", "x:v7", "f"][..], &["unalias", "x", "none"]] {
            let stderr = error(&test_store.cairn(args).output().unwrap());
            assert!(!stderr.contains("there is no artifact"), "{stderr}");
        }
        test_store.run(&["verify"], 1);
    }
}

/// Ways to damage one version's record.
fn damages() -> [(&'static str, fn(&TestStore, usize)); 5] {
    [
        ("a byte of version.json", |test_store, n| {
            let at = record_dir(test_store, n).join("version.json");
            let mut bytes = std::fs::read(&at).unwrap();
            bytes[30] ^= 1;
            std::fs::write(&at, bytes).unwrap();
        }),
        ("version.json cut off", |test_store, n| {
            std::fs::write(record_dir(test_store, n).join("version.json"), "").unwrap()
        }),
        ("version.json missing", |test_store, n| {
            std::fs::remove_file(record_dir(test_store, n).join("version.json")).unwrap()
        }),
        ("the directory missing", |test_store, n| std::fs::remove_dir_all(record_dir(test_store, n)).unwrap()),
        ("a link to something else", |test_store, n| {
            std::fs::remove_file(link(test_store, n)).unwrap();
            std::os::unix::fs::symlink("elsewhere", link(test_store, n)).unwrap();
        }),
    ]
}

#[test]
fn a_damaged_version_is_shown_as_damaged_written_past_and_removable() {
    for (what, damage) in damages() {
        println!("{what}");
        let test_store = with_versions(2);
        damage(&test_store, 1);
        let listed = test_store.run(&["list", "x"], 0);
        assert!(
            text(&listed.stdout).lines().any(|l| l.starts_with("v1") && l.contains("damaged")),
            "{}",
            text(&listed.stdout)
        );
        assert!(error(&listed).contains("x:v1 is damaged"), "{}", error(&listed));
        test_store.ok(&["tag", "x:v0", "old"]);
        let tagged = test_store.run(&["list", "--tag", "old"], 0);
        assert!(text(&tagged.stdout).starts_with("x "), "{}", text(&tagged.stdout));
        assert_eq!(error(&tagged).matches("x:v1 is damaged").count(), 1, "{}", error(&tagged));
        let json = test_store.json(&["list", "x"]);
        assert!(json[1]["damaged"].is_string() && json[0].get("damaged").is_none(), "{json}");
        test_store.run(&["cat", "x", "f"], 4);
        test_store.run(&["show", "x:v1"], 4);
        assert_eq!(test_store.ok(&["cat", "x:v0", "f"]), "0");
        test_store.ok(&["alias", "x:v0", "prod"]);
        test_store.ok(&["get", "x:prod", "out"]);
        assert_eq!(test_store.ok(&["copy", "x:v0", "y"]), "y:v0");
        // A patch without --onto would have to read it.
        std::fs::write(test_store.path("g"), "g").unwrap();
        let stderr = error(&test_store.run(&["patch", "x:v0", "g"], 4));
        assert!(stderr.contains("newest version of x is damaged") && stderr.contains("--onto"), "{stderr}");
        assert_eq!(test_store.ok(&["patch", "x", "g", "--onto", "v0"]), "x:v2");
        assert_eq!(test_store.ok(&["ls", "x"]), "f\ng");
        assert_eq!(test_store.ok(&["rm", "x:v1"]), "x:v1");
        assert!(error(&test_store.run(&["list", "x"], 0)).is_empty());
        test_store.run(&["cat", "x:v1", "f"], 6);
    }
}

#[test]
fn a_put_a_copy_and_a_finish_go_past_a_damaged_newest_version() {
    for (what, damage) in damages() {
        println!("{what}");
        let test_store = with_versions(2);
        damage(&test_store, 1);
        // Its content may be the same or not: that is unknown, so there is a new version.
        assert_eq!(put(&test_store, "1"), "x:v2");
        damage(&test_store, 2);
        assert_eq!(test_store.ok(&["copy", "x:v0", "x"]), "x:v3");
        damage(&test_store, 3);
        test_store.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", "r"]);
        assert_eq!(test_store.ok(&["finish", "x", "--distributed-id", "job"]), "x:v4");
        assert_eq!(test_store.ok(&["cat", "x", "f"]), "1");
        let removed = test_store.ok(&["rm", "x", "--all", "--force"]);
        assert_eq!(removed.lines().count(), 5, "{removed}");
        assert_eq!(put(&test_store, "1"), "x:v5");
    }
}

#[test]
fn content_reported_as_unchanged_can_be_read() {
    let test_store = with_versions(2);
    std::fs::write(record_dir(&test_store, 1).join("manifest"), "damaged").unwrap();
    assert_eq!(put(&test_store, "1"), "x:v2");
    assert_eq!(test_store.ok(&["cat", "x", "f"]), "1");
}

#[test]
fn the_error_about_an_unknown_draft_names_the_open_ones() {
    let test_store = with_versions(1);
    for id in ["job-4711", "other"] {
        test_store.ok(&["upsert", "x", "f", "--distributed-id", id, "--run", "r"]);
    }
    for args in [
        &["finish", "x", "--distributed-id", "job-4771"][..],
        &["draft", "show", "x", "job-4771"],
        &["draft", "discard", "x", "job-4771"],
        &["draft", "drop", "x", "job-4771", "--run", "r"],
    ] {
        let stderr = error(&test_store.run(args, 6));
        assert!(
            stderr.contains("there is no draft job-4771 of x") && stderr.contains("job-4711, other"),
            "{args:?}: {stderr}"
        );
    }
    test_store.ok(&["draft", "discard", "x", "other"]);
    assert!(
        error(&test_store.run(&["finish", "x", "--distributed-id", "other"], 6)).contains("was dropped or discarded")
    );
    assert!(
        error(&test_store.run(&["finish", "z", "--distributed-id", "other"], 6)).contains("there is no artifact z")
    );
}

/// The mark of a number that an alias named shows it, also before the first collection.
#[test]
fn a_collection_frees_nothing_of_a_lost_version_that_a_mark_shows() {
    let test_store = with_versions(2);
    test_store.ok(&["alias", "x:v1", "prod"]);
    test_store.ok(&["alias", "x:v0", "prod"]);
    std::fs::remove_file(link(&test_store, 1)).unwrap();
    assert!(!test_store.store_path().join("gc.json").exists());
    for _ in 0..2 {
        let refused = error(&test_store.run(&["gc", "--min-age", "0"], 4));
        assert!(refused.contains("x:v1 is missing from the store") && refused.contains("given/v1"), "{refused}");
    }
    test_store.ok(&["verify", "--repair"]);
    assert_eq!(test_store.ok(&["cat", "x:v1", "f"]), "1");
    test_store.ok(&["gc", "--min-age", "0"]);
    test_store.clean("repaired and collected");
}
