//! A sealed run whose contribution is dropped or discarded while it is mounted, and a mount of another store.

use crate::support::{TestStore, make_tree, text};
use std::fs;

/// A test store whose mount at `m` ends with it.
struct Mounted(TestStore);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.0.cairn(&["umount", "--no-seal", "m"]).output(); // a test that failed may have left it
    }
}

fn mounted(args: &[&str]) -> Mounted {
    let test_store = TestStore::new();
    fs::create_dir(test_store.path("m")).unwrap();
    test_store.ok(&[&["mount", "m"], args].concat());
    Mounted(test_store)
}

const DRAFT: [&str; 2] = ["--distributed-id", "d"];

#[test]
fn what_was_discarded_after_its_seal_is_not_reported_as_sealed_and_the_run_begins_again() {
    let Mounted(test_store) = &mounted(&[]);
    let run = test_store.path("m/.staging/e/d/r");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("old"), "1").unwrap();
    test_store.ok(&["seal", "m/.staging/e/d/r"]);
    test_store.ok(&["draft", "discard", "e", "d"]);
    let out = test_store.cairn(&["seal", "m/.staging/e/d/r"]).output().unwrap();
    assert_ne!(out.status.code(), Some(0), "nothing is sealed: {}", text(&out.stdout));
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("new"), "22").unwrap();
    assert_eq!(fs::read_dir(&run).unwrap().count(), 1, "what was discarded is not there");
    test_store.ok(&["seal", "m/.staging/e/d/r"]);
    test_store.ok(&["finish", "e", "--distributed-id", "d"]);
    assert_eq!(test_store.ok(&["ls", "e"]), "new");
}

#[test]
fn an_unmount_does_not_say_that_a_dropped_run_is_sealed() {
    let Mounted(test_store) = &mounted(&[&["e", "--stage", "--run", "r"], DRAFT.as_slice()].concat());
    fs::write(test_store.path("m/f"), "1").unwrap();
    test_store.ok(&["seal", "m"]);
    test_store.ok(&["draft", "drop", "e", "d", "--run", "r"]);
    let stderr = text(&test_store.run(&["umount", "m"], 3).stderr);
    assert!(
        stderr.contains("what was sealed here was dropped or discarded since")
            && stderr.contains("`cairn umount --no-seal`"),
        "{stderr}"
    );
    test_store.ok(&["umount", "--no-seal", "m"]);
}

#[test]
fn a_run_mounted_from_another_store_is_not_the_same_run() {
    let Mounted(test_store) = &mounted(&[&["e", "--stage", "--run", "r"], DRAFT.as_slice()].concat());
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    test_store.ok(&["init", "other"]);
    let other = [&["--store", "other", "mount", "m", "e", "--stage", "--run", "r"], DRAFT.as_slice()].concat();
    let stderr = text(&test_store.run(&other, 3).stderr);
    assert!(stderr.contains("cannot mount at"), "{stderr}");
    let same = [&["mount", "m", "e", "--stage", "--run", "r"], DRAFT.as_slice()].concat();
    assert!(text(&test_store.run(&same, 0).stderr).contains("it is already mounted"));
}
