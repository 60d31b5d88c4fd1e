//! `cairn demo`

use crate::support::{TestStore, make_tree, snapshot, text};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn the_demo_shows_every_step_reads_only_and_leaves_nothing_behind() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("it's mine"), &[("a.txt", b"1\n"), ("b.txt", b"2\n"), ("sub/c", b"3\n")]);
    std::fs::create_dir(test_store.path("tmp")).unwrap();
    let before = snapshot(&test_store.path("it's mine"));
    let out = test_store.cairn(&["demo", "it's mine"]).env("TMPDIR", test_store.path("tmp")).output().unwrap();
    let stdout = text(&out.stdout);
    assert!(out.status.success(), "{stdout}\n{}", text(&out.stderr));
    for command in ["init", "put", "list", "ls", "diff", "patch", "upsert", "drafts", "finish", "verify", "get"] {
        assert!(stdout.contains(&format!("$ cairn {command}")), "{command}: {stdout}");
    }
    assert!(
        stdout.contains("demo:v0")
            && stdout.contains("demo:v1")
            && stdout.contains("A NEW.txt")
            && stdout.contains("M a.txt")
            && stdout.contains("D b.txt"),
        "{stdout}"
    );
    assert!(stdout.contains("the mount shows exactly what was put") || stdout.contains("cairn mount"), "{stdout}");
    assert_eq!(snapshot(&test_store.path("it's mine")), before);
    assert_eq!(std::fs::read_dir(test_store.path("tmp")).unwrap().count(), 0);
    assert_eq!(test_store.ok(&["list"]), "", "the user's own store is not touched");
}

#[test]
fn the_demo_keeps_its_store_with_keep() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    std::fs::create_dir(test_store.path("tmp")).unwrap();
    assert!(
        test_store
            .cairn(&["demo", "d", "--keep", "-q"])
            .env("TMPDIR", test_store.path("tmp"))
            .output()
            .unwrap()
            .status
            .success()
    );
    let kept = std::fs::read_dir(test_store.path("tmp")).unwrap().next().unwrap().unwrap().path();
    let listed = test_store.json(&["--store", kept.join("store").to_str().unwrap(), "list"]);
    let latest: Vec<_> = listed.as_array().unwrap().iter().map(|a| (&a["artifact"], &a["latest"])).collect();
    assert_eq!(latest, [(&"demo".into(), &"v3".into()), (&"gallery".into(), &"v0".into())]);
    test_store.fails(&["demo", "nowhere"], 6);
    let out = test_store.run(&["demo", "d", "--json"], 2);
    assert!(text(&out.stderr).starts_with('{'));
}

#[test]
fn an_interrupted_demo_unmounts_and_cleans_up() {
    let test_store = TestStore::new();
    make_tree(&test_store.path("d"), &[("a", b"1")]);
    std::fs::create_dir(test_store.path("tmp")).unwrap();
    let child = test_store
        .cairn(&["demo", "d"])
        .env("TMPDIR", test_store.path("tmp"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while std::fs::read_dir(test_store.path("tmp")).unwrap().next().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the child is ours and not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert!(matches!(out.status.code(), Some(130)), "{:?} {}", out.status, text(&out.stderr));
    assert_eq!(std::fs::read_dir(test_store.path("tmp")).unwrap().count(), 0);
}
