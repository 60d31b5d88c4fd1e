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

#[test]
fn the_stores_own_files_are_refused_and_a_directory_with_the_store_in_it_is_added_without_it() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path("src"), &[("a", b"1")]);
    artifact().add_dir(test_store.path("src")).unwrap().save(&store).unwrap();
    let own = store.root().to_path_buf();
    std::os::unix::fs::symlink(&own, test_store.path("link")).unwrap();
    let mut additions = [artifact(), artifact(), artifact(), artifact()];
    additions[0].add_dir(&own).unwrap();
    additions[1].add_dir(own.join("packs")).unwrap();
    additions[2].add_file(own.join("cairn.json")).unwrap();
    additions[3].add_dir(test_store.path("link")).unwrap();
    for addition in additions {
        let refused = addition.save(&store).unwrap_err();
        assert!(
            refused.kind() == Kind::Usage && refused.message().contains("belongs to the store itself"),
            "{refused}"
        );
    }
    let around = artifact().add_dir(own.parent().unwrap()).unwrap().save(&store).unwrap().version;
    let paths: Vec<String> = around.entries().unwrap().map(|entry| entry.unwrap().path.to_string()).collect();
    assert!(paths.contains(&"src/a".to_owned()) && !paths.iter().any(|path| path.ends_with("cairn.json")), "{paths:?}");
    // A spool file and a link to an object are content.
    let mut written = artifact();
    let mut file = written.new_file_in("large", &store).unwrap();
    std::io::Write::write_all(&mut file, &vec![7; 1 << 20]).unwrap();
    file.set_executable(true);
    file.finish().unwrap();
    let large = written.save(&store).unwrap().version;
    let object = cairn::view::LocalFiles::in_cache(&large, &test_store.path("cache")).unwrap().path("large").unwrap();
    let again = artifact().add_file_at("large", &object).unwrap().save(&store).unwrap().version;
    assert_eq!(again.record().bytes, 1 << 20);
}

#[test]
fn a_preview_has_the_digest_of_what_is_saved_and_stores_nothing() {
    let test_store = TestStore::new();
    let store = test_store.store();
    make_tree(&test_store.path("src"), &[("a", b"1"), ("d/b", b"22")]);
    let mut first = artifact();
    first.add_dir(test_store.path("src")).unwrap().add_bytes("more", "3").unwrap();
    let preview = first.preview(&store, &Default::default()).unwrap();
    assert_eq!((preview.totals().files, preview.totals().bytes), (3, 4));
    assert_eq!(test_store.ok(&["list"]), "");
    let version = first.save(&store).unwrap().version;
    assert_eq!(preview.digest(), version.digest());
    let mut draft = version.new_draft();
    draft.remove("d").unwrap().add_bytes("a", "other").unwrap().rename("more", "less").unwrap();
    let preview = draft.preview(&store, &Default::default()).unwrap();
    assert_eq!(preview.digest(), draft.save(&store).unwrap().version.digest());
    assert_eq!(first.has_bytes_of("more", test_store.path("src/a")).unwrap(), Some(false));
    first.remove("more").unwrap();
    assert_eq!(first.has_bytes_of("more", test_store.path("src/a")).unwrap(), None);
}
