//! One version as a read-only tree of inodes. Plain Rust: a mount is one way to look at it, a test another.
//!
//! An inode number is the entry's pre-order rank plus one, so there is no table, nothing to forget, and every host sees the same numbers.
//! What is shown is exactly the version's entries (L15); memory does not grow with the version or with what was looked at (L16).

use super::errno::{Answer, Failure};
use super::files::{Blob, Files};
use super::{VerifyMode, VersionView};
use crate::disk;
use crate::error::show_bytes;
use crate::manifest::{Dir, Entry, Tree};
use crate::words::MAX_NAME;
use parking_lot::Mutex;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The root's inode number.
pub(super) const ROOT: u64 = 1;
/// What a directory's own size is said to be.
const DIRECTORY_SIZE: u64 = 4096;
/// The same file failing again within this time is not logged again: a reader in a loop must not fill the disk.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What kind of file the kernel is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
}

/// What `stat` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub(super) ino: u64,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) mode: u16,
    /// User and group of the mounter.
    pub(super) owner: (u32, u32),
    /// All three times, in seconds since 1970: the version's commit.
    pub(super) time: i64,
}

impl Attributes {
    /// Inode 0: there is nothing.
    pub(super) fn nothing() -> Attributes {
        Attributes { ino: 0, kind: FileKind::File, size: 0, mode: 0, owner: (0, 0), time: 0 }
    }
}

/// One name of a directory listing.
pub(super) struct Item<'a> {
    pub(super) name: &'a [u8],
    pub(super) attributes: Attributes,
    /// The offset at which the listing goes on after this one.
    pub(super) next: u64,
}

/// How things are told that no program's error number can say.
pub(super) enum Log {
    Stderr,
    File(std::fs::File),
}

/// A version's tree, as one mount shows it.
pub(super) struct ReadTree {
    tree: Tree,
    files: Files,
    label: String,
    owner: (u32, u32),
    time: i64,
    store: PathBuf,
    log: Mutex<(Log, Option<(u64, Instant)>)>,
}

/// An inode that was looked up: what it is, and where.
struct Node {
    rank: u64,
    entry: Entry,
    /// Rank of the directory that holds it.
    parent: u64,
}

impl ReadTree {
    pub(super) fn new(view: VersionView, store: PathBuf, owner: (u32, u32), verify: VerifyMode, log: Log) -> ReadTree {
        ReadTree {
            tree: view.tree,
            files: Files::new(view.objects, verify),
            label: view.label,
            owner,
            time: view.commit_time,
            store,
            log: Mutex::new((log, None)),
        }
    }

    /// 32 bits that differ between versions.
    pub(super) fn generation(&self) -> u32 {
        (self.tree.digest().prefix() >> 32) as u32
    }

    pub(super) fn attributes(&self, ino: u64) -> Answer<Attributes> {
        let node = self.node(ino)?;
        Ok(self.attributes_of(node.rank, &node.entry))
    }

    /// The entry called `name` in directory `parent`; `.` and `..` too, as NFS exports ask for them.
    pub(super) fn lookup(&self, parent: u64, name: &[u8]) -> Answer<Option<Attributes>> {
        if name.len() > MAX_NAME {
            return Err(Failure::NameTooLong);
        }
        let node = self.node(parent)?;
        match name {
            // Asked of a file too: that is how a handle is turned into an inode.
            b"." => return Ok(Some(self.attributes_of(node.rank, &node.entry))),
            b".." => return self.attributes(node.parent + 1).map(Some),
            _ => {}
        }
        let dir = directory(&node.entry)?;
        Ok(self.tree.child(dir, node.rank, name)?.map(|found| self.attributes_of(found.rank, &found.entry)))
    }

    pub(super) fn read_link(&self, ino: u64) -> Answer<Vec<u8>> {
        match self.node(ino)?.entry {
            Entry::Symlink { target } => Ok(target),
            Entry::File { .. } | Entry::Reference(_) | Entry::Directory(_) => Err(Failure::WrongKind),
        }
    }

    /// Shows the names of directory `ino` from `offset` on, until `show` has enough. Offset 0 is `.`, 1 is `..`, then the entries by position.
    pub(super) fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Answer<()> {
        let node = self.node(ino)?;
        let dir = directory(&node.entry)?;
        if offset == 0 {
            let attributes = self.attributes_of(node.rank, &node.entry);
            if show(Item { name: b".", attributes, next: 1 }).is_break() {
                return Ok(());
            }
        }
        if offset <= 1 {
            let attributes = Attributes { ino: node.parent + 1, ..self.attributes_of(node.rank, &node.entry) };
            if show(Item { name: b"..", attributes, next: 2 }).is_break() {
                return Ok(());
            }
        }
        let mut listing = self.tree.list(dir, node.rank)?;
        if offset > 2 {
            listing.seek_index(offset - 2)?;
        }
        for listed in listing {
            let listed = listed?;
            let attributes = self.attributes_of(listed.rank, &listed.entry);
            if show(Item { name: &listed.name, attributes, next: listed.index + 3 }).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Opens a file; nothing of its content is looked at yet.
    pub(super) fn open(&self, ino: u64) -> Answer<u64> {
        match self.node(ino)?.entry {
            Entry::File { digest, size, place, .. } => Ok(self.files.open(Blob { digest, size, place })),
            // Read without a handle, and refused there.
            Entry::Reference(_) => Ok(0),
            Entry::Directory(_) => Err(Failure::IsADirectory),
            Entry::Symlink { .. } => Err(Failure::WrongKind),
        }
    }

    /// Puts into `out` what the file holds at `offset`: `length` bytes, or all up to its end. After an error `out` holds nothing of meaning.
    pub(super) fn read(&self, ino: u64, handle: u64, offset: u64, length: u32, out: &mut Vec<u8>) -> Answer<()> {
        if let Some(answer) = self.files.read_open(handle, offset, length, out) {
            return answer;
        }
        match self.node(ino)?.entry {
            Entry::File { digest, size, place, .. } => self.files.read(Blob { digest, size, place }, offset, length, out),
            Entry::Reference(reference) => Err(Failure::NotFetched(reference.uri)),
            Entry::Directory(_) => Err(Failure::IsADirectory),
            Entry::Symlink { .. } => Err(Failure::WrongKind),
        }
    }

    pub(super) fn release(&self, handle: u64) {
        self.files.release(handle);
    }

    /// The space of the file system that holds the store.
    pub(super) fn space(&self) -> Answer<disk::Space> {
        Ok(disk::space(&self.store)?)
    }

    /// Writes a line about a failure that a user should know of, naming the path.
    pub(super) fn log_failure(&self, doing: &str, ino: u64, failure: &Failure) {
        let Some(what) = failure.log_line() else { return };
        {
            let last = &mut self.log.lock().1;
            if last.is_some_and(|(who, when)| who == ino && when.elapsed() < LOG_AGAIN_AFTER) {
                return;
            }
            *last = Some((ino, Instant::now()));
        }
        let path = match self.tree.by_rank(ino.wrapping_sub(1)) {
            Ok(Some(at)) => format!("/{}", show_bytes(at.path.as_bytes()).trim_start_matches("``")),
            _ => format!("inode {ino}"),
        };
        let line = format!("{} cairnfs {}: cannot {doing} {path}: {what}\n", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"), self.label);
        let mut log = self.log.lock();
        // A log that cannot be written must not fail the mount.
        drop(match &mut log.0 {
            Log::Stderr => std::io::stderr().write_all(line.as_bytes()),
            Log::File(file) => file.write_all(line.as_bytes()),
        });
    }

    fn node(&self, ino: u64) -> Answer<Node> {
        let rank = ino.checked_sub(1).ok_or(Failure::Stale)?;
        let at = self.tree.by_rank(rank)?.ok_or(Failure::Stale)?;
        Ok(Node { rank, entry: at.entry, parent: at.parent })
    }

    fn attributes_of(&self, rank: u64, entry: &Entry) -> Attributes {
        let (kind, size, mode) = match entry {
            Entry::File { size, exec, .. } => (FileKind::File, *size, if *exec { 0o755 } else { 0o644 }),
            Entry::Symlink { target } => (FileKind::Symlink, target.len() as u64, 0o777),
            Entry::Reference(reference) => (FileKind::File, reference.size.unwrap_or(0), 0o444),
            Entry::Directory(_) => (FileKind::Directory, DIRECTORY_SIZE, 0o755),
        };
        Attributes { ino: rank + 1, kind, size, mode, owner: self.owner, time: self.time }
    }
}

fn directory(entry: &Entry) -> Answer<&Dir> {
    match entry {
        Entry::Directory(dir) => Ok(dir),
        Entry::File { .. } | Entry::Symlink { .. } | Entry::Reference(_) => Err(Failure::NotADirectory),
    }
}
