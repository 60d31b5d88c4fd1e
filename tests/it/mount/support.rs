//! A store with versions in it, mounts that go away with their test, and directories to compare with.

use super::build::{self};
pub use crate::support::{copy_program, daemons, random_bytes, wait_for_daemons, wait_until};
use cairn::manifest::Reference;
use cairn::types::Digest;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The commit time of everything mounted here.
pub const TIME: i64 = 1_700_000_000;
/// An unprivileged user.
pub const NOBODY: u32 = 65_534;

/// One entry of a version to be.
#[derive(Clone)]
pub enum Thing {
    File(Vec<u8>),
    Exec(Vec<u8>),
    Link(Vec<u8>),
    Dir,
    Reference(Reference),
}

/// Path → entry.
pub type Things = BTreeMap<Vec<u8>, Thing>;

pub fn things<const N: usize>(list: [(&[u8], Thing); N]) -> Things {
    list.into_iter().map(|(path, thing)| (path.to_vec(), thing)).collect()
}

pub fn file(text: &str) -> Thing {
    Thing::File(text.as_bytes().to_vec())
}

/// A directory of its own with a store in it.
pub struct Location {
    dir: tempfile::TempDir,
}

impl Location {
    pub fn new() -> Location {
        let dir = tempfile::tempdir().unwrap();
        // Other users' daemons read the store.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Location { dir };
        build::init(&place.store());
        place
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new empty directory.
    pub fn empty(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// A version of these things: its root digest.
    pub fn version(&self, things: &Things) -> Digest {
        build::version(&self.store(), things)
    }

    /// Runs cairnfs on that version; `more` is appended to its options.
    pub fn cairnfs(&self, tree: Digest, mnt: &Path, more: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnfs"));
        command
            .arg(self.store())
            .arg(mnt)
            .arg("-o")
            .arg(format!("tree={tree},time={TIME},log={}{more}", self.log().display()));
        command
    }

    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What the daemons have logged.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Mounts, and takes the mount away when the value goes.
    pub fn mount(&self, tree: Digest) -> Mounted {
        self.mount_with(tree, "")
    }

    pub fn mount_with(&self, tree: Digest, more: &str) -> Mounted {
        let mnt = self.path(format!("mnt-{}", &tree.hex()[..8]));
        fs::create_dir_all(&mnt).unwrap();
        let output = self.cairnfs(tree, &mnt, more).output().unwrap();
        let mounted = Mounted(mnt);
        assert!(output.status.success(), "{}", stderr_of(&output));
        mounted
    }
}

/// A mount that is taken away at the end, also of a test that fails.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    pub fn at_bytes(&self, name: &[u8]) -> PathBuf {
        self.0.join(OsStr::from_bytes(name))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.0) && cairn::fuse::unmount(&self.0).is_err() {
            drop(Command::new("umount").arg("-l").arg(&self.0).output());
        }
        wait_for_daemons(&self.0);
    }
}

pub fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str() && line.contains("fuse.cairnfs"))
}

pub fn stderr_of(output: &Output) -> String {
    format!(
        "{:?}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: sends a signal to a daemon that this test started.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// A stopped process. It continues when this is dropped, also if the test fails: else a process that waits for it would
/// never end.
pub struct Stopped(u32);

impl Stopped {
    pub fn new(pid: u32) -> Stopped {
        kill(pid, libc::SIGSTOP);
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, libc::SIGCONT);
    }
}

/// `command` as an unprivileged user.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY).current_dir("/")
}

/// What the things look like in a directory: path → (kind and mode, size, content or target).
pub fn expected(things: &Things) -> BTreeMap<Vec<u8>, (String, u64, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for (path, thing) in things {
        for (i, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            out.insert(path[..i].to_vec(), ("d755".into(), 0, Vec::new()));
        }
        let entry = match thing {
            Thing::File(bytes) => ("f644".to_string(), bytes.len() as u64, bytes.clone()),
            Thing::Exec(bytes) => ("f755".into(), bytes.len() as u64, bytes.clone()),
            Thing::Link(target) => ("l777".into(), target.len() as u64, target.clone()),
            Thing::Dir => ("d755".into(), 0, Vec::new()),
            Thing::Reference(r) => ("f444".into(), r.size.unwrap_or(1), Vec::new()),
        };
        out.insert(path.clone(), entry);
    }
    out
}

/// The same of a directory that is there, and a check of what all entries have in common.
pub fn seen(root: &Path) -> BTreeMap<Vec<u8>, (String, u64, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let mode = meta.mode() & 0o7777;
        assert_eq!((meta.mtime(), meta.ctime(), meta.atime(), meta.mtime_nsec()), (TIME, TIME, TIME, 0), "{path:?}");
        assert_eq!((meta.nlink(), meta.blksize()), (1, 4096));
        assert_eq!(meta.blocks(), meta.size().div_ceil(512));
        assert_eq!(Some(meta.ino()), entry_inode(&entry), "d_ino is st_ino");
        let kind = meta.file_type();
        let value = if kind.is_dir() {
            (format!("d{mode:o}"), 0, Vec::new())
        } else if kind.is_symlink() {
            (format!("l{mode:o}"), meta.size(), fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
        } else {
            (
                format!("f{mode:o}"),
                meta.size(),
                if mode == 0o444 { Vec::new() } else { fs::read(entry.path()).unwrap() },
            )
        };
        out.insert(path, value);
    }
    out
}

fn entry_inode(entry: &walkdir::DirEntry) -> Option<u64> {
    use walkdir::DirEntryExt;
    Some(entry.ino())
}
