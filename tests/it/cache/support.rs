//! A store with small and large files, which is mounted through a cache.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const MIB: usize = 1 << 20;

pub struct Cached {
    pub test: TestStore,
    pub dir: PathBuf,
}

impl Cached {
    /// A store with the version `x`: 300 small files, three large ones.
    pub fn new() -> Cached {
        let test = TestStore::new();
        for n in 0..300 {
            make_tree(
                &test.path("d"),
                &[(&format!("small/{:02}/{n}", n % 7), &random_bytes(n, 2_000 + n as usize * 11))],
            );
        }
        let large = [("large/a", 5 * MIB + 3), ("large/b", 200_000), ("large/c", 3 * MIB)];
        for (n, (name, len)) in large.into_iter().enumerate() {
            make_tree(&test.path("d"), &[(name, &random_bytes(1000 + n as u64, len))]);
        }
        test.ok(&["put", "x", "d"]);
        let dir = test.path("node cache");
        Cached { test, dir }
    }

    pub fn dir(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Mounts the version `x` at `at`, through the cache.
    pub fn mount(&self, at: &str, more: &[&str]) -> Mounted<'_> {
        self.mount_with(&[&["mount", at, "x", "--cache", self.dir()], more].concat())
    }

    pub fn mount_with(&self, args: &[&str]) -> Mounted<'_> {
        let at = self.test.path(args[1]);
        std::fs::create_dir_all(&at).unwrap();
        let log = self.test.path(&format!("{}.log", args[1]));
        self.test.ok(&[args, &["--log", log.to_str().unwrap()]].concat());
        Mounted { cached: self, at }
    }

    /// What the version has.
    pub fn wanted(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        snapshot(&self.test.path("d"))
    }

    /// Takes the content out of the store: what is read then comes from the cache.
    pub fn hide_store(&self) {
        self.move_store("objects", "objects away");
        self.move_store("packs", "packs away");
    }

    pub fn show_store(&self) {
        self.move_store("objects away", "objects");
        self.move_store("packs away", "packs");
    }

    fn move_store(&self, from: &str, to: &str) {
        let root = self.test.store_path();
        std::fs::rename(root.join(from), root.join(to)).unwrap();
        if !to.ends_with("away") {
            return;
        }
        std::fs::create_dir(root.join(from)).unwrap();
    }

    /// The files of the cache with the bytes of contents, or with their sums.
    pub fn files_named(&self, name: &str) -> Vec<PathBuf> {
        files(&self.dir).into_iter().filter(|path| path.file_name().is_some_and(|n| n == name)).collect()
    }

    pub fn show(&self) -> serde_json::Value {
        self.test.json(&["cache", "show", self.dir()])
    }
}

pub struct Mounted<'a> {
    cached: &'a Cached,
    pub at: PathBuf,
}

impl Mounted<'_> {
    /// Reads everything, and compares.
    #[track_caller]
    pub fn is_right(&self) {
        let found = snapshot(&self.at);
        let wanted = self.cached.wanted();
        assert!(found.keys().eq(wanted.keys()));
        for (path, content) in &wanted {
            assert!(found[path] == *content, "{}", text(path));
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.at.with_extension("log")).unwrap_or_default());
        }
        drop(self.cached.test.cairn(&["umount", self.at.to_str().unwrap()]).output());
        wait_for_daemons(&self.at);
    }
}

/// Changes a byte of a file.
pub fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
