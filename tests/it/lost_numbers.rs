//! Numbers whose links are lost or exchanged, and versions whose records are damaged. Each is reported as damage of one
//! version. The artifact stays usable, and the number goes to no other version.

use crate::support::{TestStore, text};
use std::path::{Path, PathBuf};
use std::process::Output;

/// `x` with `count` versions of the file `f`, which holds the number.
fn with_versions(count: usize) -> TestStore {
    let lab = TestStore::new();
    for n in 0..count {
        put(&lab, &n.to_string());
    }
    lab
}

fn put(lab: &TestStore, content: &str) -> String {
    std::fs::write(lab.path("f"), content).unwrap();
    lab.ok(&["put", "x", "f"])
}

fn link(lab: &TestStore, number: usize) -> PathBuf {
    lab.store_path().join(format!("artifacts/x/versions/v{number}"))
}

/// The directory with a version's record.
fn record_dir(lab: &TestStore, number: usize) -> PathBuf {
    std::fs::canonicalize(link(lab, number)).unwrap()
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
    let lab = with_versions(2);
    exchange(&link(&lab, 0), &link(&lab, 1));
    let said = error(&lab.run(&["cat", "x:v0", "f"], 4));
    assert!(said.contains("versions/v0") && said.contains("number 1"), "{said}");
    assert!(text(&lab.run(&["verify"], 1).stdout).contains("x:v0"));
    assert_eq!(put(&lab, "new"), "x:v2");
}

#[test]
fn exchanged_records_of_an_alias_are_damage_and_it_can_be_seen_which() {
    let lab = with_versions(2);
    lab.ok(&["alias", "x:v0", "prod"]);
    lab.ok(&["alias", "x:v1", "prod"]);
    let log = lab.store_path().join("artifacts/x/aliases/prod");
    exchange(&log.join("000001"), &log.join("000002"));
    lab.run(&["cat", "x:prod", "f"], 4);
    lab.run(&["rm", "x:v0"], 4);
    assert!(error(&lab.run(&["list", "x"], 0)).contains("an alias of x is damaged"));
    lab.run(&["verify"], 1);
}

#[test]
fn exchanged_records_of_a_draft_are_damage() {
    let lab = with_versions(1);
    for run in ["a", "b"] {
        lab.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", run]);
    }
    let log = lab.store_path().join("artifacts/x/drafts/job/log");
    exchange(&log.join("000001"), &log.join("000002"));
    lab.run(&["finish", "x", "--distributed-id", "job"], 4);
}

#[test]
fn a_lost_number_is_damage_and_goes_to_nobody() {
    for lost in 0..4 {
        let lab = with_versions(5);
        std::fs::remove_file(link(&lab, lost)).unwrap();
        let spec = format!("x:v{lost}");
        let said = error(&lab.run(&["cat", &spec, "f"], 4));
        assert!(said.contains(&format!("{spec} is missing from the store, and v4 was published after it")), "{said}");
        assert_eq!(lab.ok(&["cat", "x", "f"]), "4");
        assert!(lab.ok(&["list"]).contains('x'));
        assert_eq!(put(&lab, "new"), "x:v5");
        std::fs::write(lab.path("g"), "g").unwrap();
        assert_eq!(lab.ok(&["patch", "x", "g"]), "x:v6");
        assert_eq!(lab.ok(&["copy", "x:v4", "x"]), "x:v7");
        lab.run(&["cat", &spec, "f"], 4);
        lab.run(&["rm", &spec], 4);
        lab.run(&["verify"], 1);
    }
}

#[test]
fn the_last_number_is_missed_where_an_alias_or_a_note_tells_of_it() {
    let lab = with_versions(3);
    lab.ok(&["alias", "x:v2", "prod"]);
    std::fs::remove_file(link(&lab, 2)).unwrap();
    let said = error(&lab.run(&["cat", "x:prod", "f"], 4));
    assert!(said.contains("alias prod points at it"), "{said}");
    lab.run(&["cat", "x:v2", "f"], 4);
    lab.run(&["cat", "x:v3", "f"], 6);
}

#[test]
fn the_lost_number_of_a_finished_draft_is_claimed_again_before_another_is_given() {
    type Next = fn(&TestStore) -> String;
    let next: [Next; 4] = [
        |lab| put(lab, "new"),
        |lab| {
            std::fs::write(lab.path("g"), "g").unwrap();
            lab.ok(&["patch", "x:v0", "g"])
        },
        |lab| lab.ok(&["copy", "x:v0", "x"]),
        |lab| {
            std::fs::write(lab.path("f"), "other").unwrap();
            lab.ok(&["upsert", "x", "f", "--distributed-id", "second", "--run", "r"]);
            lab.ok(&["finish", "x", "--distributed-id", "second"])
        },
    ];
    for next in next {
        let lab = with_versions(1);
        std::fs::write(lab.path("f"), "of the draft").unwrap();
        lab.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", "r"]);
        assert_eq!(lab.ok(&["finish", "x", "--distributed-id", "job"]), "x:v1");
        std::fs::remove_file(link(&lab, 1)).unwrap();
        std::fs::write(lab.path("f"), "else").unwrap();
        assert_eq!(next(&lab), "x:v2");
        assert_eq!(lab.ok(&["cat", "x:v1", "f"]), "of the draft");
        assert_eq!(lab.ok(&["finish", "x", "--distributed-id", "job"]), "x:v1");
        lab.run(&["verify"], 0);
    }
}

#[test]
fn an_artifact_whose_own_record_is_lost_keeps_its_type_and_is_no_other_artifact() {
    for damage in [
        |at: &Path| std::fs::remove_file(at).unwrap(),
        |at: &Path| std::fs::write(std::fs::canonicalize(at).unwrap(), "{}").unwrap(),
    ] {
        let lab = TestStore::new();
        std::fs::write(lab.path("f"), "f").unwrap();
        lab.ok(&["put", "x", "f", "--type", "model"]);
        damage(&lab.store_path().join("artifacts/x/artifact.json"));
        assert!(lab.ok(&["list"]).contains("model"));
        lab.run(&["put", "x", "f", "--type", "dataset"], 3);
        assert_eq!(put(&lab, "new"), "x:v1");
        assert!(lab.ok(&["show", "x"]).contains("model"));
        for args in [&["cat", "x:v7", "f"][..], &["unalias", "x", "none"]] {
            let said = error(&lab.cairn(args).output().unwrap());
            assert!(!said.contains("there is no artifact"), "{said}");
        }
        lab.run(&["verify"], 1);
    }
}

/// Ways to damage one version's record.
fn damages() -> [(&'static str, fn(&TestStore, usize)); 5] {
    [
        ("a byte of version.json", |lab, n| {
            let at = record_dir(lab, n).join("version.json");
            let mut bytes = std::fs::read(&at).unwrap();
            bytes[30] ^= 1;
            std::fs::write(&at, bytes).unwrap();
        }),
        ("version.json cut off", |lab, n| std::fs::write(record_dir(lab, n).join("version.json"), "").unwrap()),
        ("version.json missing", |lab, n| std::fs::remove_file(record_dir(lab, n).join("version.json")).unwrap()),
        ("the directory missing", |lab, n| std::fs::remove_dir_all(record_dir(lab, n)).unwrap()),
        ("a link to something else", |lab, n| {
            std::fs::remove_file(link(lab, n)).unwrap();
            std::os::unix::fs::symlink("elsewhere", link(lab, n)).unwrap();
        }),
    ]
}

#[test]
fn a_damaged_version_is_shown_as_damaged_written_past_and_removable() {
    for (what, damage) in damages() {
        println!("{what}");
        let lab = with_versions(2);
        damage(&lab, 1);
        let listed = lab.run(&["list", "x"], 0);
        assert!(
            text(&listed.stdout).lines().any(|l| l.starts_with("v1") && l.contains("damaged")),
            "{}",
            text(&listed.stdout)
        );
        assert!(error(&listed).contains("x:v1 is damaged"), "{}", error(&listed));
        let json: serde_json::Value = serde_json::from_slice(&lab.run(&["list", "x", "--json"], 0).stdout).unwrap();
        assert!(json[1]["damaged"].is_string() && json[0].get("damaged").is_none(), "{json}");
        lab.run(&["cat", "x", "f"], 4);
        lab.run(&["show", "x:v1"], 4);
        assert_eq!(lab.ok(&["cat", "x:v0", "f"]), "0");
        lab.ok(&["alias", "x:v0", "prod"]);
        lab.ok(&["get", "x:prod", "out"]);
        assert_eq!(lab.ok(&["copy", "x:v0", "y"]), "y:v0");
        // A patch without --onto would have to read it.
        std::fs::write(lab.path("g"), "g").unwrap();
        let said = error(&lab.run(&["patch", "x:v0", "g"], 4));
        assert!(said.contains("newest version of x is damaged") && said.contains("--onto"), "{said}");
        assert_eq!(lab.ok(&["patch", "x", "g", "--onto", "v0"]), "x:v2");
        assert_eq!(lab.ok(&["ls", "x"]), "f\ng");
        assert_eq!(lab.ok(&["rm", "x:v1"]), "x:v1");
        assert!(error(&lab.run(&["list", "x"], 0)).is_empty());
        lab.run(&["cat", "x:v1", "f"], 6);
    }
}

#[test]
fn a_put_a_copy_and_a_finish_go_past_a_damaged_newest_version() {
    for (what, damage) in damages() {
        println!("{what}");
        let lab = with_versions(2);
        damage(&lab, 1);
        // Its content may be the same or not: nobody can tell, so there is a new version.
        assert_eq!(put(&lab, "1"), "x:v2");
        damage(&lab, 2);
        assert_eq!(lab.ok(&["copy", "x:v0", "x"]), "x:v3");
        damage(&lab, 3);
        lab.ok(&["upsert", "x", "f", "--distributed-id", "job", "--run", "r"]);
        assert_eq!(lab.ok(&["finish", "x", "--distributed-id", "job"]), "x:v4");
        assert_eq!(lab.ok(&["cat", "x", "f"]), "1");
        let removed = lab.ok(&["rm", "x", "--all", "--force"]);
        assert_eq!(removed.lines().count(), 5, "{removed}");
        assert_eq!(put(&lab, "1"), "x:v5");
    }
}

#[test]
fn what_is_said_to_be_unchanged_can_be_read() {
    let lab = with_versions(2);
    std::fs::write(record_dir(&lab, 1).join("manifest"), "damaged").unwrap();
    assert_eq!(put(&lab, "1"), "x:v2");
    assert_eq!(lab.ok(&["cat", "x", "f"]), "1");
}

#[test]
fn an_unknown_draft_is_said_to_be_unknown_and_the_open_ones_are_named() {
    let lab = with_versions(1);
    for id in ["job-4711", "other"] {
        lab.ok(&["upsert", "x", "f", "--distributed-id", id, "--run", "r"]);
    }
    for args in [
        &["finish", "x", "--distributed-id", "job-4771"][..],
        &["draft", "show", "x", "job-4771"],
        &["draft", "discard", "x", "job-4771"],
        &["draft", "drop", "x", "job-4771", "--run", "r"],
    ] {
        let said = error(&lab.run(args, 6));
        assert!(
            said.contains("there is no draft job-4771 of x") && said.contains("job-4711, other"),
            "{args:?}: {said}"
        );
    }
    lab.ok(&["draft", "discard", "x", "other"]);
    assert!(error(&lab.run(&["finish", "x", "--distributed-id", "other"], 6)).contains("was dropped or discarded"));
    assert!(error(&lab.run(&["finish", "z", "--distributed-id", "other"], 6)).contains("there is no artifact z"));
}
