//! A run's staging directory, mounted, and taken away at the end, also of a test that fails.

use crate::support::{TestStore, daemons, snapshot, text};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// From this size on a file is an object of its own.
pub const LARGE: usize = 200_000;

/// A run's staging directory, mounted. Its draft is `d` of `a`.
pub struct Staged<'a> {
    pub test_store: &'a TestStore,
    pub run: String,
    pub mnt: PathBuf,
}

pub fn stage<'a>(test_store: &'a TestStore, run: &str) -> Staged<'a> {
    stage_with(test_store, run, &[])
}

pub fn stage_with<'a>(test_store: &'a TestStore, run: &str, more: &[&str]) -> Staged<'a> {
    let mnt = test_store.path(&format!("mnt-{run}"));
    fs::create_dir_all(&mnt).unwrap();
    let staged = Staged { test_store, run: run.to_owned(), mnt };
    let output = staged.mount(more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    staged
}

impl Staged<'_> {
    /// Mounts it (again).
    pub fn mount(&self, more: &[&str]) -> Output {
        let mnt = self.mnt.to_str().unwrap();
        let args = ["mount", mnt, "a", "--stage", "--distributed-id", "d", "--run", &self.run];
        self.test_store.cairn(&[&args[..], more].concat()).output().unwrap()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.mnt.join(name)
    }

    pub fn seal(&self) -> Output {
        self.test_store.cairn(&["seal", self.mnt.to_str().unwrap()]).output().unwrap()
    }

    /// Seals, which succeeds.
    pub fn sealed(&self) {
        let output = self.seal();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// The stage's directory in the store.
    pub fn backing(&self) -> PathBuf {
        backing(self.test_store, &self.run)
    }

    /// The daemon.
    pub fn daemon(&self) -> u32 {
        let found = daemons(&self.mnt);
        assert_eq!(found.len(), 1, "one daemon serves {}", self.mnt.display());
        found[0]
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if is_mounted(&self.mnt) {
            drop(Command::new("umount").arg("-l").arg(&self.mnt).output());
        }
    }
}

pub fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Ends a daemon of this test's, and waits until it is gone.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a daemon that this test started.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    for _ in 0..1000 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {pid} does not end");
}

/// The directory of a run's stage in the store.
pub fn backing(test_store: &TestStore, run: &str) -> PathBuf {
    let staging = test_store.store_path().join("staging");
    let record = fs::read_dir(&staging).unwrap().flatten().map(|e| e.path()).find(|p| {
        p.extension().is_some_and(|e| e == "json")
            && fs::read_to_string(p).unwrap().contains(&format!("\"id\": \"{run}\""))
    });
    record.expect("the run has a stage").with_extension("")
}

/// What is left in the store's `staging/`.
pub fn left(test_store: &TestStore) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(test_store.store_path().join("staging"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// How many contributions of a run count.
pub fn contributions(test_store: &TestStore, run: &str) -> usize {
    let id = cairn::types::DistributedId::parse("d").unwrap();
    let draft = cairn::catalog::Draft::new(&test_store.store(), &cairn::types::ArtifactName::parse("a").unwrap(), &id);
    draft.state().unwrap().contributions.iter().filter(|c| c.record.run.id.as_str() == run).count()
}

/// Finishes the draft and gives what the version holds.
pub fn finished(test_store: &TestStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    assert_eq!(test_store.ok(&["finish", "a", "--distributed-id", "d"]), "a:v0");
    test_store.ok(&["get", "a:v0", "got"]);
    snapshot(&test_store.path("got"))
}

/// The store verifies, and no stage shares an inode with an object.
pub fn whole(test_store: &TestStore, label: &str) {
    test_store.clean(label);
    for entry in walkdir::WalkDir::new(test_store.store_path())
        .into_iter()
        .filter_entry(|e| e.file_name() != "staging")
        .flatten()
        .filter(|e| !e.path_is_symlink())
    {
        assert_eq!(
            entry.metadata().unwrap().mode() & 0o002,
            0,
            "{label}: {} may be written by all users",
            entry.path().display()
        );
    }
    let inodes = |dir: &str| -> Vec<(u64, PathBuf)> {
        let files = walkdir::WalkDir::new(test_store.store_path().join(dir))
            .into_iter()
            .flatten()
            .filter(|e| e.file_type().is_file());
        files.map(|e| (e.metadata().unwrap().ino(), e.into_path())).collect()
    };
    let objects = inodes("objects");
    for (inode, path) in inodes("staging") {
        assert!(!objects.iter().any(|(i, _)| *i == inode), "{label}: {} is an object too", path.display());
    }
}
