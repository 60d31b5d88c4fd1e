//! What one artifact may hold, and the ids that runs and drafts may have.

use crate::support::{TestStore, make_tree, text};
use cairn::{Artifact, Kind};

fn artifact() -> Artifact {
    Artifact::new("x", None).unwrap()
}

#[test]
fn one_path_is_one_entry_if_equal_an_error_if_not_and_the_last_one_if_overwriting_is_asked_for() {
    let test_store = TestStore::new();
    let store = test_store.store();
    let mut twice = artifact();
    twice.add_bytes("a/b", "1").unwrap().add_bytes("a//b/", "1").unwrap();
    assert_eq!(twice.save(&store).unwrap().version.record().files, 1);
    let mut other = artifact();
    other.add_bytes("a/b", "1").unwrap().add_bytes("./a/b", "2").unwrap();
    let refused = other.save(&store).unwrap_err();
    assert!(refused.message().contains("a/b"), "{refused}");
    let mut last = artifact();
    last.add_bytes("a/b", "1").unwrap().add_bytes("a/b", "2").unwrap();
    last.overwrite();
    let version = last.save(&store).unwrap().version;
    let mut read = String::new();
    std::io::Read::read_to_string(&mut version.open("a/b").unwrap(), &mut read).unwrap();
    assert_eq!(read, "2");
}

#[test]
fn a_file_and_a_directory_at_one_path_are_refused_in_either_order() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("dir"), &[("x/y", b"1")]);
    make_tree(&test_store.path("file"), &[("x", b"2")]);
    for order in [["dir", "file"], ["file", "dir"]] {
        let mut both = artifact();
        for source in order {
            both.add_dir(test_store.path(source)).unwrap();
        }
        let refused = both.save(&test_store.store()).unwrap_err();
        assert!(refused.message().contains('x'), "{refused}");
        let out = test_store.cairn(&[&["put", "x"], &order[..]].concat()).output().unwrap();
        assert!(!out.status.success() && text(&out.stderr).contains('x'), "{}", text(&out.stderr));
    }
    assert_eq!(test_store.ok(&["list"]), "", "nothing was made");
}

#[test]
fn ids_of_runs_and_drafts_may_hold_anything_printable_and_lead_nowhere_else() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    let long = "é".repeat(64);
    for id in ["..", ".", "../../../up", "a/b", "with space", "ünï", "%2e%2e", "a:b", "-x", &long] {
        let draft = format!("--distributed-id={id}");
        let run = format!("--run={id}");
        test_store.ok(&["upsert", "x", "src", &draft, &run]);
        let shown = test_store.ok(&["draft", "show", "x", "--json", "--", id]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["distributed_id"], &shown["contributions"][0]["run"]), (&id.into(), &id.into()));
        test_store.ok(&["finish", "x", &draft, &run]);
    }
    let around: Vec<_> = std::fs::read_dir(test_store.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(around.iter().all(|name| ["store", "src", "cache"].contains(&name.to_str().unwrap())), "{around:?}");
    for id in ["", "line\nbreak", &"x".repeat(129)] {
        let draft = format!("--distributed-id={id}");
        let out = test_store.cairn(&["upsert", "x", "src", &draft, "--run=r"]).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{id:?}: {}", text(&out.stderr));
    }
    test_store.ok(&["verify", "-q"]);
    assert_eq!(Artifact::new("", None).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_directory_is_added_whole_or_not_at_all() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), &[("a", b"1"), ("deep/b", b"2"), ("empty/", b"")]);
    std::os::unix::fs::symlink("nowhere", test_store.path("src/dangling")).unwrap();
    assert_eq!(test_store.ok(&["put", "x", "src"]), "x:v0");
    assert_eq!(test_store.ok(&["ls", "x", "-R"]), "a\ndangling\ndeep/\ndeep/b\nempty/");
    let socket = std::os::unix::net::UnixListener::bind(test_store.path("src/deep/socket")).unwrap();
    let out = test_store.cairn(&["put", "x", "src", "--new-version"]).output().unwrap();
    assert!(!out.status.success() && text(&out.stderr).contains("deep/socket"), "{}", text(&out.stderr));
    assert_eq!(test_store.ok(&["list", "x"]).lines().count(), 1, "no version was made");
    drop(socket);
}
