//! `cairn demo`

use crate::support::{TestStore, make_tree, snapshot, text};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn the_demo_shows_every_step_reads_only_and_leaves_nothing_behind() {
    let lab = TestStore::new();
    make_tree(&lab.path("it's mine"), &[("a.txt", b"1\n"), ("b.txt", b"2\n"), ("sub/c", b"3\n")]);
    std::fs::create_dir(lab.path("tmp")).unwrap();
    let before = snapshot(&lab.path("it's mine"));
    let out = lab.cairn(&["demo", "it's mine"]).env("TMPDIR", lab.path("tmp")).output().unwrap();
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", text(&out.stderr));
    for command in ["init", "put", "list", "ls", "diff", "patch", "upsert", "drafts", "finish", "verify", "get"] {
        assert!(said.contains(&format!("$ cairn {command}")), "{command}: {said}");
    }
    assert!(
        said.contains("demo:v0")
            && said.contains("demo:v1")
            && said.contains("A NEW.txt")
            && said.contains("M a.txt")
            && said.contains("D b.txt"),
        "{said}"
    );
    assert!(said.contains("the mount shows exactly what was put") || said.contains("cairn mount"), "{said}");
    assert_eq!(snapshot(&lab.path("it's mine")), before);
    assert_eq!(std::fs::read_dir(lab.path("tmp")).unwrap().count(), 0);
    assert_eq!(lab.ok(&["list"]), "", "the user's own store is not touched");
}

#[test]
fn the_demo_keeps_its_store_with_keep() {
    let lab = TestStore::new();
    make_tree(&lab.path("d"), &[("a", b"1")]);
    std::fs::create_dir(lab.path("tmp")).unwrap();
    assert!(
        lab.cairn(&["demo", "d", "--keep", "-q"]).env("TMPDIR", lab.path("tmp")).output().unwrap().status.success()
    );
    let kept = std::fs::read_dir(lab.path("tmp")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(
        lab.ok(&["--store", kept.join("store").to_str().unwrap(), "list"]),
        "demo     dataset  4  v3\ngallery  dataset  1  v0"
    );
    lab.fails(&["demo", "nowhere"], 6);
    let out = lab.run(&["demo", "d", "--json"], 2);
    assert!(text(&out.stderr).starts_with('{'));
}

#[test]
fn an_interrupted_demo_unmounts_and_cleans_up() {
    let lab = TestStore::new();
    make_tree(&lab.path("d"), &[("a", b"1")]);
    std::fs::create_dir(lab.path("tmp")).unwrap();
    let child = lab
        .cairn(&["demo", "d"])
        .env("TMPDIR", lab.path("tmp"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while std::fs::read_dir(lab.path("tmp")).unwrap().next().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the child is ours and not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    assert!(matches!(out.status.code(), Some(130)), "{:?} {}", out.status, text(&out.stderr));
    assert_eq!(std::fs::read_dir(lab.path("tmp")).unwrap().count(), 0);
}
