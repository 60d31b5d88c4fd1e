//! What a first user tries: mistakes that were accepted, answers that said too much or too little.

use crate::support::{TestStore, files, make_tree, random_bytes, text};
use std::os::unix::fs::PermissionsExt;

/// `x:v0` and `x:v1`, of `d`.
fn test_store() -> TestStore {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1"), ("b", b"2"), ("k/c", b"3")]);
    test_store.ok(&["put", "x", "d"]);
    make_tree(&test_store.path("d"), &[("a", b"one")]);
    test_store.ok(&["put", "x", "d"]);
    test_store
}

fn stderr(test_store: &TestStore, args: &[&str], status: i32) -> String {
    text(&test_store.run(args, status).stderr)
}

#[test]
fn a_quick_or_partial_verification_does_not_say_more_than_it_read() {
    let test_store = test_store();
    make_tree(&test_store.path("big"), &[("object", &random_bytes(5, 300_000))]);
    test_store.ok(&["put", "big", "big"]);
    let said = stderr(&test_store, &["verify", "--quick"], 0);
    assert!(said.contains("no damage found in records and structure; content was not hashed"), "{said}");
    let said = stderr(&test_store, &["verify", "--sample", "10%"], 0);
    assert!(said.contains("about 10% of the content was hashed"), "{said}");
    let said = stderr(&test_store, &["verify", "big:v0", "--quick"], 0);
    assert!(said.contains(" 0 B read") && !said.contains("packs"), "{said}");
    let object = &files(&test_store.store_path().join("objects"))[0];
    std::fs::set_permissions(object, std::fs::Permissions::from_mode(0o644)).unwrap();
    let found = text(&test_store.run(&["verify", "--quick"], 1).stdout);
    assert!(found.contains("F1-touched") && !found.contains("its bytes are right"), "{found}");
}

#[test]
fn repair_from_the_store_itself_is_refused_and_another_store_is_named_as_such() {
    let test_store = test_store();
    let own = test_store.store_path();
    assert!(stderr(&test_store, &["verify", "--repair-from", own.to_str().unwrap()], 2).contains("the store itself"));
    let missing = stderr(&test_store, &["verify", "--repair-from", "d"], 6);
    assert!(missing.contains("--repair-from takes a store"), "{missing}");
    test_store.ok(&["init", "other"]);
    std::fs::remove_dir_all(own.join("artifacts/x/versions")).unwrap();
    std::fs::create_dir(own.join("artifacts/x/versions")).unwrap();
    test_store.run(&["verify", "--repair-from", "other"], 0);
}

#[test]
fn a_forced_removal_says_what_it_overrides_and_a_restore_what_stays_removed() {
    let test_store = test_store();
    test_store.ok(&["alias", "x:v1", "best", "prod"]);
    let refused = stderr(&test_store, &["rm", "x:v1"], 3);
    assert!(
        refused.contains("by the aliases best, prod") && refused.contains("`cairn unalias x best prod`"),
        "{refused}"
    );
    let removed = stderr(&test_store, &["rm", "x:v1", "--force"], 0);
    assert!(removed.contains("aliases of x:v1 are removed with it: best, prod"), "{removed}");
    let restored = stderr(&test_store, &["restore", "x:v1"], 0);
    assert!(restored.contains("not set again: best, prod (`cairn alias x:v1 best prod`)"), "{restored}");
}

#[test]
fn a_tag_that_no_version_has_keeps_nothing_and_is_refused_or_named() {
    let test_store = test_store();
    test_store.ok(&["alias", "x:v0", "prod"]);
    assert!(stderr(&test_store, &["rm", "x", "--keep-tag", "nosuch"], 2).contains("no version of x has this tag"));
    let said = stderr(&test_store, &["rm", "x", "--keep-tag", "nosuch", "--keep-last", "1", "--dry-run"], 0);
    assert!(said.contains("warning: --keep-tag nosuch: no version of x has this tag"), "{said}");
    let said = stderr(&test_store, &["rm", "x:v1", "--expired"], 2);
    assert!(said.contains("--expired and --keep rules take a name"), "{said}");
    assert!(stderr(&test_store, &["rm", "x", "--keep-last", "0"], 2).contains("expected a number from 1"));
    assert!(stderr(&test_store, &["annotate", "x", "--ttl", "99999999999d"], 2).contains("more than 100 years"));
}

#[test]
fn a_patch_says_what_it_changed_and_refuses_to_change_nothing() {
    let test_store = test_store();
    std::fs::write(test_store.path("n"), "new").unwrap();
    let said = stderr(&test_store, &["patch", "x", "--remove", "a", "n"], 0);
    assert!(said.contains("changes of x:v1: 1 added, 0 changed, 1 removed"), "{said}");
    assert!(stderr(&test_store, &["patch", "x"], 2).contains("no change is given"));
    let said = stderr(&test_store, &["patch", "x:v1", "n", "--onto", "v0"], 2);
    assert!(said.contains("x:v1 and --onto v0 are different versions"), "{said}");
    let said = stderr(&test_store, &["patch", "x:v1", "--remove", "a"], 0);
    assert!(said.contains("made on x:v1; they change nothing on x:v2"), "{said}");
}

#[test]
fn an_alias_that_never_was_and_an_empty_pattern_are_errors() {
    let test_store = test_store();
    assert!(stderr(&test_store, &["log", "x:nosuch"], 6).contains("x never had an alias nosuch"));
    assert!(stderr(&test_store, &["log", "x:v1"], 2).contains("the log is of an artifact or of an alias"));
    assert!(stderr(&test_store, &["find", ""], 2).contains("the pattern is empty"));
    assert_eq!(test_store.ok(&["find", "./k/c"]), "x:v0 k/c\nx:v1 k/c");
    assert!(stderr(&test_store, &["find", "4767be549c8e"], 1).contains("a digest has 64 digits"));
    assert!(stderr(&test_store, &["annotate", "x"], 2).contains("nothing to annotate"));
    assert!(stderr(&test_store, &["annotate", "x", "--merge"], 2).contains("--merge needs --metadata"));
    assert!(stderr(&test_store, &["list", "x:v0"], 2).contains("write `x`"));
    assert!(test_store.ok(&["list", "x", "--alias", "latest"]).starts_with("v1 "));
    assert!(stderr(&test_store, &["list", "x", "--tag", "nosuch"], 0).contains("there is nothing to list"));
    test_store.ok(&["alias", "x:v0", "prod"]);
    assert!(stderr(&test_store, &["show", "x:prd"], 6).contains("did you mean x:prod?"));
}

#[test]
fn the_store_is_not_stored_in_itself_and_latest_is_not_an_alias_to_record() {
    let test_store = test_store();
    let own = test_store.store_path();
    for source in [own.clone(), own.join("packs")] {
        assert!(
            stderr(&test_store, &["put", "x", source.to_str().unwrap()], 2).contains("belongs to the store itself")
        );
    }
    assert!(stderr(&test_store, &["put", "x", "d", "--alias", "latest"], 0).contains("`latest` follows"));
}

#[test]
fn an_upsert_without_a_run_says_that_it_counts_again() {
    let test_store = test_store();
    let said = stderr(&test_store, &["upsert", "ev", "d", "--distributed-id", "j"], 0);
    assert!(said.contains("no --run is given: this is run ") && said.contains("counts as another run"), "{said}");
    let said = stderr(&test_store, &["upsert", "ev", "d", "--distributed-id", "j", "--run", "r"], 0);
    assert!(!said.contains("no --run"), "{said}");
    assert!(stderr(&test_store, &["finish", "ev", "--distributed-id", "j", "--expect", "0"], 2).contains("from 1"));
    assert!(stderr(&test_store, &["show", "ev"], 6).contains("`cairn drafts ev`"));
    assert!(stderr(&test_store, &["use", "x", "--run", "r"], 0).contains("run r uses x:v1"));
}

#[test]
fn hints_name_what_was_meant() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "images", "src"]);
    let hints: [(&[&str], i32, &str); 7] = [
        (&["mount", "images", "m"], 6, "the mount point comes first: `cairn mount m images`"),
        (&["restore", "images:v0", "--to", "x"], 2, "`cairn get NAME:V DIR` writes a version's files"),
        (&["diff", "src", "images"], 6, "the directory is written ./src, and comes second"),
        (&["draft", "ev", "d1"], 2, "`cairn draft show ev d1` shows a draft"),
        (&["annotate", "images", "--ttl", "-1d"], 2, "'-1d' for '--ttl"),
        (&["show", "ev"], 6, "lists the artifacts"),
        (&["show", "image"], 6, "images"),
    ];
    for (args, status, hint) in hints {
        let printed = stderr(&test_store, args, status);
        assert!(printed.contains(hint), "{args:?}: {printed}");
    }
}

#[test]
fn a_drop_and_a_discard_say_what_is_gone_and_show_says_that_nothing_is_left() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1"), ("b", b"22")]);
    for run in ["r1", "r2"] {
        test_store.ok(&["upsert", "ev", "src", "--distributed-id", "d", "--run", run]);
    }
    let dropped = stderr(&test_store, &["draft", "drop", "ev", "d", "--run", "r1"], 0);
    assert_eq!(dropped.trim(), "dropped: 1 contribution, 2 files, 3 B");
    let discarded = stderr(&test_store, &["draft", "discard", "ev", "d"], 0);
    assert_eq!(discarded.trim(), "discarded: 1 contribution, 2 files, 3 B");
    let shown = stderr(&test_store, &["draft", "show", "ev", "d"], 0);
    assert!(shown.contains("nothing is in it"), "{shown}");
}

#[test]
fn tables_get_headings_where_they_are_asked_for() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    test_store.ok(&["put", "x", "src"]);
    test_store.ok(&["upsert", "x", "src", "--distributed-id", "d", "--run", "r"]);
    let tables: [(&[&str], &str); 5] = [
        (&["du"], "NAME  SIZE  ALONE"),
        (&["drafts"], "ARTIFACT  ID  RUNS"),
        (&["draft", "show", "x", "d"], "NUMBER  RUN"),
        (&["locks"], "ID  LIFE"),
        (&["list", "x"], "VERSION  CREATED"),
    ];
    for (command, heads) in tables {
        assert!(!test_store.ok(command).starts_with(heads.split(' ').next().unwrap()));
        let printed = test_store.ok(&[command, &["--header"]].concat());
        assert!(printed.starts_with(heads), "{printed}");
    }
}
