//! A store on a shared disk, whose client keeps a removed file that is open under another name: bindfs does so as an
//! NFS client does.

use super::support::{finished, left, stage};
use crate::support::TestStore;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A file system that is one to cairn that other hosts see; unmounted with the value.
struct Shared(PathBuf);

impl Drop for Shared {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_file_that_is_removed_while_open_on_a_shared_disk_is_in_no_listing_and_no_version() {
    let test_store = TestStore { dir: tempfile::tempdir().unwrap() };
    let (back, at) = (test_store.path("back"), test_store.path("shared"));
    fs::create_dir(&back).unwrap();
    fs::create_dir(&at).unwrap();
    match Command::new("bindfs").arg(&back).arg(&at).status() {
        Ok(status) if status.success() => {}
        other => return eprintln!("skipped: bindfs does not mount: {other:?}"),
    }
    let shared = Shared(at.clone());
    cairn::Store::init(at.join("store"), &Default::default()).unwrap();
    std::os::unix::fs::symlink(at.join("store"), test_store.store_path()).unwrap();
    {
        let staged = stage(&test_store, "r");
        for (name, content) in [("keep", "keep"), ("gone", "removed"), ("current", "old"), ("d/gone", "removed")] {
            fs::create_dir_all(staged.at("d")).unwrap();
            fs::write(staged.at(name), content).unwrap();
        }
        let held = ["gone", "current", "d/gone"].map(|name| fs::File::open(staged.at(name)).unwrap());
        fs::remove_file(staged.at("gone")).unwrap();
        fs::remove_file(staged.at("d/gone")).unwrap();
        fs::remove_dir(staged.at("d")).unwrap();
        fs::write(staged.at("new"), "new").unwrap();
        fs::rename(staged.at("new"), staged.at("current")).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&staged.mnt).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["current", "keep"]);
        for (file, content) in held.iter().zip(["removed", "old", "removed"]) {
            let mut read = vec![0; content.len()];
            file.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read, content.as_bytes());
        }
        staged.sealed();
        drop(held);
        test_store.ok(&["umount", staged.mnt.to_str().unwrap()]);
    }
    let got = finished(&test_store);
    assert_eq!(
        got.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect::<Vec<_>>(),
        [(&b"current"[..], &b"- new"[..]), (b"keep", b"- keep")]
    );
    // The next run's beginning removes what could not be removed while it was open.
    let mnt = test_store.path("mnt-r");
    test_store.ok(&["mount", mnt.to_str().unwrap(), "a", "--stage", "--distributed-id", "e", "--run", "r"]);
    test_store.ok(&["umount", mnt.to_str().unwrap()]);
    assert!(left(&test_store).is_empty(), "{:?}", left(&test_store));
    drop(shared);
}
