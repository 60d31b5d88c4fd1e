//! What commands report: what was stored differently from what a user may expect, and errors that lead to the next
//! step.

use crate::support::*;
use serde_json::json;
use std::io::{BufRead, BufReader};

fn stderr_of(test_store: &TestStore, args: &[&str]) -> String {
    text(&test_store.run(args, 0).stderr)
}

#[test]
fn a_put_with_fewer_files_than_the_version_before_says_how_many_are_missing() {
    let test_store = TestStore::new();
    let names: Vec<String> = (0..55).map(|i| format!("f{i}")).collect();
    make_tree(&test_store.path("d"), &names.iter().map(|n| (n.as_str(), n.as_bytes())).collect::<Vec<_>>());
    std::fs::create_dir(test_store.path("empty")).unwrap();
    test_store.ok(&["put", "photos", "d"]);
    assert_eq!(
        stderr_of(&test_store, &["put", "photos", "d/f1"]),
        "1 file, 2 B; 0 B new in the store; 54 fewer files than photos:v0, which has 55\n"
    );
    assert_eq!(
        stderr_of(&test_store, &["put", "photos", "d"]),
        "55 files, 155 B; 0 B new in the store\n",
        "more files than before need no remark"
    );
    let stderr = stderr_of(&test_store, &["put", "photos", "empty"]);
    assert!(stderr.ends_with("; 55 fewer files than photos:v2, which has 55\n"), "{stderr}");
}

#[test]
fn symlinks_that_lead_out_of_the_source_are_counted_and_those_within_it_are_not() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("hub"), &[("blobs/abc", b"{}"), ("main/sub/own", b"1")]);
    let link = |target: &str, at: &str| std::os::unix::fs::symlink(target, test_store.path(at)).unwrap();
    link("../blobs/abc", "hub/main/config.json");
    link("../../../hub", "hub/main/sub/up");
    link("../sub/own", "hub/main/sub/inside");
    link("sub/../sub/own", "hub/main/inside");
    link("/etc/hostname", "hub/main/absolute");
    for args in [
        vec!["put", "x", "hub/main"],
        vec!["upsert", "y", "hub/main", "--distributed-id", "j", "--run", "r"],
        vec!["patch", "z", "hub/main", "--create"],
    ] {
        let stderr = stderr_of(&test_store, &args);
        let wanted = "warning: 3 symlinks lead out of what was added and will not resolve in a version; \
                      --follow-symlinks stores the targets\n";
        assert!(stderr.starts_with(wanted), "{args:?}: {stderr}");
    }
    let stderr = stderr_of(&test_store, &["put", "x", "hub"]);
    assert!(stderr.starts_with("warning: 2 symlinks lead out"), "from here ../blobs/abc is inside: {stderr}");
    std::fs::remove_file(test_store.path("hub/main/sub/up")).unwrap();
    assert!(!stderr_of(&test_store, &["put", "x", "hub/main", "--follow-symlinks"]).contains("warning"));
    assert_eq!(test_store.ok(&["cat", "x", "config.json"]), "{}");
}

#[test]
fn special_files_that_are_skipped_are_counted() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    for name in ["p", "q"] {
        assert!(std::process::Command::new("mkfifo").arg(test_store.path("d").join(name)).status().unwrap().success());
    }
    let stderr = stderr_of(&test_store, &["put", "x", "d", "--skip-special"]);
    assert!(stderr.starts_with("warning: 2 special files left out: device nodes, sockets or FIFOs\n"), "{stderr}");
    let stderr = stderr_of(&test_store, &["put", "x", "d", "d/p", "--skip-special"]);
    assert!(stderr.starts_with("warning: 3 special files left out"), "one that is named counts too: {stderr}");
}

#[test]
fn a_put_of_equal_content_says_what_it_recorded() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "d", "--metadata", r#"{"a":1}"#]);
    assert_eq!(stderr_of(&test_store, &["put", "x", "d"]), "1 file, 1 B; nothing changed since x:v0\n");
    let stderr = stderr_of(
        &test_store,
        &[
            "put",
            "x",
            "d",
            "--metadata",
            r#"{"b":2}"#,
            "--tag",
            "raw",
            "--description",
            "second look",
            "--alias",
            "prod",
        ],
    );
    assert_eq!(
        stderr,
        "1 file, 1 B; nothing changed since x:v0; recorded: alias prod, tag raw, description, metadata (replaced; \
         dropped a)\n"
    );
    assert_eq!(test_store.json(&["show", "x"])["metadata"], json!({ "b": 2 }));
    assert_eq!(
        stderr_of(&test_store, &["put", "x", "d", "--tag", "raw", "--alias", "prod"]),
        "1 file, 1 B; nothing changed since x:v0\n",
        "it has both already"
    );
}

#[test]
fn integers_in_metadata_are_kept_exactly_or_refused() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    for number in ["18446744073709551616", "-9223372036854775809", "12345678901234567890123"] {
        for text in [format!(r#"{{"n":{number}}}"#), format!(r#"{{"l":["\\\"", {number}]}}"#)] {
            let stderr = test_store.fails(&["put", "x", "d", "--metadata", &text], 2);
            assert!(
                stderr.contains(&format!("the integer {number},")) && stderr.contains("hint: write it as a string"),
                "{stderr}"
            );
        }
    }
    let kept = r#"{"big":18446744073709551615,"small":-9223372036854775808,"text":"18446744073709551616"}"#;
    test_store.ok(&["put", "x", "d", "--metadata", kept]);
    assert!(
        test_store
            .ok(&["show", "x", "--json"])
            .contains(r#""big":18446744073709551615,"small":-9223372036854775808,"text":"18446744073709551616""#)
    );
}

#[test]
fn a_metadata_file_may_begin_with_a_byte_order_mark() {
    let test_store = TestStore::new();
    make_tree(&test_store.path(""), &[("a", b"1"), ("m.json", b"\xef\xbb\xbf{\"k\": 1}")]);
    test_store.ok(&["put", "x", "a", "--metadata", "@m.json"]);
    assert_eq!(test_store.json(&["show", "x"])["metadata"], json!({ "k": 1 }));
}

#[test]
fn commands_of_other_tools_are_answered_with_the_one_here() {
    let test_store = TestStore::new();
    for (unknown, command) in [
        ("pull", "get"),
        ("push", "put"),
        ("add", "put"),
        ("commit", "put"),
        ("checkout", "get"),
        ("status", "diff"),
        ("unmount", "umount"),
        ("remove", "rm"),
        ("fsck", "verify"),
    ] {
        let stderr = test_store.fails(&[unknown, "something"], 2);
        assert!(
            stderr.starts_with(&format!("error: there is no command `{unknown}`\nhint: `cairn {command}"))
                && stderr.lines().count() == 2,
            "{stderr}"
        );
    }
    for (args, hint) in [
        (&["pul", "x"][..], "`cairn --help` lists the commands"),
        (&["lits"], "a command with a similar name is `cairn list`"),
        (&["puhs", "x"], "if you mean `push`: `cairn put NAME DIR` makes a version"),
        (&["draft", "delete", "x"], "`cairn draft discard NAME ID` discards a draft"),
        (&["draft", "nothing"], "`cairn draft --help` lists the commands"),
        (&["umount", "--seal", "x"], "`cairn umount --help` has examples"),
    ] {
        let stderr = test_store.fails(args, 2);
        assert!(stderr.contains(&format!("hint: {hint}")), "{args:?}: {stderr}");
    }
    assert!(test_store.ok(&["help", "put"]).contains("cairn put images ./photos"));
    assert!(test_store.ok(&["help"]).contains("Usage: cairn"));
    assert_eq!(test_store.ok(&["version"]), test_store.ok(&["--version"]));
    assert_eq!(test_store.json(&["version"]), json!({ "version": env!("CARGO_PKG_VERSION") }));
}

#[test]
fn a_mistyped_option_is_not_turned_into_a_source_or_a_version() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "d"]);
    for args in [
        vec!["put", "x", "d", "-m", "note"],
        vec!["put", "x", "d", "--dry-run"],
        vec!["rm", "x", "--keep-newest", "1"],
        vec!["list", "--order", "size"],
    ] {
        let stderr = test_store.fails(&args, 2);
        assert!(!stderr.contains("as a value") && !stderr.contains("--store"), "{args:?}: {stderr}");
    }
    assert!(
        test_store.fails(&["put", "x", "d", "--new-versio"], 2).contains("--new-version"),
        "a tip that helps stays"
    );
}

#[test]
fn messages_name_the_first_few_of_many() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "d"]);
    let aliases: Vec<String> = (0..40).map(|i| format!("experiment-{i:02}-accepted")).collect();
    test_store.ok(&[&["alias", "x:v0"], aliases.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    let stderr = test_store.fails(&["cat", "x:zzz", "a"], 6);
    assert!(stderr.contains("experiment-09-accepted and 31 more") && !stderr.contains("experiment-10"), "{stderr}");
    let stderr = test_store.fails(&["rm", "x:v0"], 3);
    assert!(stderr.contains("experiment-09-accepted and 30 more"), "{stderr}");
    for run in 0..12 {
        test_store.ok(&["upsert", "e", "d", "--distributed-id", "j", "--run", &format!("rank-{run:02}")]);
    }
    let stderr = test_store.fails(&["finish", "e", "--distributed-id", "j", "--expect", "40"], 3);
    assert!(
        stderr.contains("expected 40 runs, found 12: rank-00, ") && stderr.contains("rank-09 and 2 more"),
        "{stderr}"
    );
}

#[test]
fn a_finish_that_is_repeated_still_requires_the_expected_runs() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["upsert", "e", "d", "--distributed-id", "j", "--run", "rank-0"]);
    let finish = |expect: &str, status| {
        text(&test_store.run(&["finish", "e", "--distributed-id", "j", "--expect", expect], status).stderr)
    };
    finish("1", 0);
    assert!(finish("1", 0).contains("already published as e:v0"));
    assert!(finish("64", 3).contains("finished as e:v0\n  expected 64 runs, found 1: rank-0"));
    let stderr = test_store.fails(&["finish", "e", "--distributed-id", "j", "--expect-run", "rank-7"], 3);
    assert!(stderr.contains("run rank-7 has not contributed"), "{stderr}");
}

#[test]
fn a_finish_that_skips_an_open_run_names_it() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    std::fs::create_dir(test_store.path("m")).unwrap();
    test_store.ok(&["mount", "m", "e", "--stage", "--distributed-id", "j", "--run", "late"]);
    std::fs::write(test_store.path("m/precious"), b"1").unwrap();
    test_store.ok(&["umount", "m", "--no-seal"]);
    test_store.ok(&["upsert", "e", "d", "--distributed-id", "j", "--run", "early"]);
    let stderr = test_store.fails(&["finish", "e", "--distributed-id", "j"], 3);
    assert!(
        stderr.contains("run late has left its staging directory open")
            && stderr.contains("`cairn upsert e --distributed-id j --run RUN` seals"),
        "{stderr}"
    );
    let stderr = stderr_of(&test_store, &["finish", "e", "--distributed-id", "j", "--skip-open"]);
    assert!(stderr.contains("warning: not in e:v0: run late has left its staging directory open"), "{stderr}");
}

#[test]
fn a_waiting_finish_prints_a_line_for_each_change_of_what_it_waits_for() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    let upsert = |run: &str| test_store.ok(&["upsert", "e", "d", "--distributed-id", "j", "--run", run]);
    upsert("rank-0");
    let finish = ["finish", "e", "--distributed-id", "j", "--expect", "3", "--wait", "60"];
    let mut child = test_store.cairn(&finish).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut waits: Vec<String> = Vec::new();
    for (line, run) in [("waiting for runs, 1 of 3", "rank-1"), ("waiting for runs, 2 of 3", "rank-2")] {
        while waits.last().is_none_or(|last| last != line) {
            waits.push(lines.next().unwrap());
        }
        upsert(run);
    }
    waits.extend(lines.filter(|line| line.starts_with("waiting")));
    assert!(child.wait().unwrap().success());
    // A run that is still writing is named, if it is seen then.
    waits.retain(|line| !line.contains("is writing"));
    assert_eq!(waits, ["waiting for runs, 1 of 3", "waiting for runs, 2 of 3"]);
    let stderr = text(&test_store.run(&["finish", "e", "--distributed-id", "j", "--wait", "1", "-q"], 0).stderr);
    assert_eq!(stderr, "");
}

#[test]
fn an_empty_version_is_made_with_a_warning() {
    let test_store = TestStore::new();
    std::fs::create_dir(test_store.path("empty")).unwrap();
    let stderr = stderr_of(&test_store, &["put", "x", "empty"]);
    assert_eq!(
        stderr,
        "warning: x:v0 is empty: nothing was found in its sources\n0 files, 0 B; 0 B new in the store\n"
    );
}

#[test]
fn an_exclude_pattern_that_can_never_match_is_refused_with_its_position() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    let stderr = test_store.fails(&["put", "x", "d", "--exclude", "ab["], 2);
    assert!(stderr.contains("`ab[` is not a pattern: the [ at character 3 has no ]"), "{stderr}");
    test_store.fails(&["diff", "x", "./d", "--exclude", "["], 6);
    assert!(test_store.fails(&["put", "x", "d", "--exclude", "#a"], 2).contains("comment"));
    test_store.expect_nothing();
    test_store.ok(&["put", "x", "d", "--exclude", "[b]", "--exclude", "\\["]);
}

#[test]
fn a_mistyped_uri_is_refused_and_a_missing_path_that_looks_like_one_gets_a_hint() {
    let test_store = TestStore::new();
    let stderr = test_store.fails(&["put", "x", "htps://host/a"], 2);
    assert!(stderr.contains("the scheme `htps` is not known\nhint: did you mean https://host/a?"), "{stderr}");
    let stderr = test_store.fails(&["put", "x", "s3:/bucket/a"], 6);
    assert!(stderr.contains("hint: it was taken for a path; a reference is written s3://bucket/a"), "{stderr}");
    test_store.expect_nothing();
    assert_eq!(test_store.ok(&["put", "x", "lakefs://repo/a"]), "x:v0", "an unknown scheme is accepted");
}
