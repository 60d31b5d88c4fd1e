//! A staging directory behaves as a local directory: the essentials, through the daemon and with the kernel reading and
//! writing by itself. (All of it: `tests/staging/run`.)

use super::support::{LARGE, stage_with};
use crate::support::{TestStore, copy_tree, make_tree, random_bytes, snapshot, text};
use std::path::Path;
use std::process::Command;

/// The system calls, each checked for its result, in a directory of its own: the script that the outside suites use
/// too.
#[test]
fn system_calls_do_what_they_do_in_a_local_directory() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/staging/calls.py");
    for io in ["auto", "no-open"] {
        let test_store = TestStore::new();
        test_store.open_to_all();
        let staged = stage_with(&test_store, "r", &["--io", io, "--allow-other"]);
        let output = Command::new("python3")
            .arg(&script)
            .arg(&staged.mnt)
            .arg(test_store.dir.path())
            .env("CAIRN_STORE", test_store.store_path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{io}: {}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(text(&output.stdout).lines().count(), 8, "all of them were run");
    }
}

#[test]
fn programs_copy_into_it_and_out_of_it() {
    for io in ["auto", "no-open"] {
        let test_store = TestStore::new();
        make_tree(&test_store.path("src"), &[("a/b/c", b"c"), ("large", &random_bytes(1, 3 * LARGE)), ("empty/", b"")]);
        std::os::unix::fs::symlink("a/b", test_store.path("src/link")).unwrap();
        let staged = stage_with(&test_store, "r", &["--io", io]);
        copy_tree(&test_store.path("src"), &staged.at("cp"));
        let tar = Command::new("sh")
            .arg("-c")
            .arg("mkdir $2/tar && tar -C $1 -cf - . | tar -C $2/tar -xf -")
            .arg("sh")
            .arg(test_store.path("src"))
            .arg(&staged.mnt)
            .status()
            .unwrap();
        assert!(tar.success());
        for made in ["cp", "tar"] {
            assert!(snapshot(&staged.at(made)) == snapshot(&test_store.path("src")), "{made}");
        }
        copy_tree(&staged.at("cp"), &test_store.path("back"));
        assert!(snapshot(&test_store.path("back")) == snapshot(&test_store.path("src")));
        staged.sealed();
    }
}
