//! The pages in docs/users: every command in them, run as a reader would type it.

use crate::support::{TestStore, text};
use std::path::Path;

/// The commands of a page, in order: its blocks of shell code.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// Runs a page in a directory of its own.
fn run(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/users").join(page);
    let script = commands(&std::fs::read_to_string(&path).unwrap());
    assert!(script.lines().filter(|line| line.contains("cairn ")).count() >= 6, "{page} has few commands");
    if script.contains("cairn mount") && !Path::new("/dev/fuse").exists() {
        println!("skipped, no /dev/fuse: {page}");
        return;
    }
    let test_store = TestStore::new();
    let home = test_store.path("home");
    std::fs::create_dir(&home).unwrap();
    let script = format!("set -ex -o pipefail\ntrap 'cairn umount mnt || true' EXIT\n{script}");
    let out = test_store.reader("bash", &home, &script);
    assert!(out.status.success(), "{page}: {:?}\n{}", out.status, text(&out.stdout));
}

#[test]
fn the_pages_for_each_kind_of_user_can_be_followed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/users");
    let mut pages: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    assert_eq!(pages.len(), 7, "{pages:?}");
    for page in pages {
        run(&page);
    }
}
