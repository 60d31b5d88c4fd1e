//! What a read-only mount shows: its inodes, the content of its files, and its log. The adapter's requests go here.

use super::attributes::{Attributes, ListedName, Looked, Page};
use super::errno::{FuseResult, RequestFailure};
use super::files::{Backing, Files};
use super::inode_tree::{InodeTree, Readable};
use super::log::Log;
use crate::disk;
use crate::objects::SMALL_MAX;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// A mount's tree. Many threads may call its methods at once.
pub(super) struct ReadTree {
    names: Arc<dyn InodeTree>,
    files: Arc<Files>,
    store: PathBuf,
    log: Log,
}

impl ReadTree {
    pub(super) fn new(names: Arc<dyn InodeTree>, files: Arc<Files>, store: PathBuf, log: Log) -> ReadTree {
        ReadTree { names, files, store, log }
    }

    pub(super) fn grows(&self) -> bool {
        self.names.grows()
    }

    pub(super) fn attributes(&self, ino: u64) -> FuseResult<Attributes> {
        self.names.attributes(ino)
    }

    pub(super) fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked> {
        self.names.lookup(parent, name)
    }

    pub(super) fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>> {
        self.names.read_link(ino)
    }

    /// Adds the names in directory `ino` from `offset` on to `page`, until it is full.
    pub(super) fn list(&self, ino: u64, offset: u64, mut page: Page) -> FuseResult<Page> {
        let mut show = |item: ListedName<'_>| {
            if page.is_full_for(&item) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.names.list(ino, offset, &mut show)?;
        Ok(page)
    }

    pub(super) fn listed(&self, ino: u64) {
        self.names.listed(ino);
    }

    pub(super) fn forget(&self, ino: u64, times: u64) {
        self.names.forget(ino, times);
    }

    /// Checks that a file may be opened, without its content.
    pub(super) fn open(&self, ino: u64) -> FuseResult<()> {
        match self.names.readable(ino) {
            // It is opened when it is read.
            Err(RequestFailure::Elsewhere(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// How the content of a large file can be read; `None` for a packed file.
    pub(super) fn backing(&self, ino: u64) -> FuseResult<Option<Backing>> {
        match self.names.readable(ino) {
            Err(RequestFailure::Elsewhere(_)) => Ok(None),
            Err(e) => Err(e),
            Ok(readable) => self.files.backing(&readable),
        }
    }

    /// Reads `length` bytes of a file at `offset` into `out`, fewer only at its end. After an error the content of
    /// `out` is undefined.
    pub(super) fn read(&self, ino: u64, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        self.files.read(&self.names.readable(ino)?, offset, length, out)
    }

    /// Where the content of a packed file is; `None` for empty and large files, other inodes, and after an error.
    pub(super) fn small(&self, ino: u64) -> Option<Readable> {
        self.names.readable(ino).ok().filter(|file| (1..SMALL_MAX).contains(&file.size))
    }

    /// Reads a whole file into `out`.
    pub(super) fn read_whole(&self, file: &Readable, out: &mut Vec<u8>) -> FuseResult<()> {
        self.files.read(file, 0, file.size as u32, out)
    }

    /// The space of the file system that holds the store.
    pub(super) fn space(&self) -> FuseResult<disk::Space> {
        Ok(disk::space(&self.store)?)
    }

    /// Logs a failure that a user should know of, with the path.
    pub(super) fn log_failure(&self, doing: &str, ino: u64, failure: &RequestFailure) {
        let Some(what) = failure.log_line() else { return };
        if self.log.is_due(ino) {
            // The path cannot be found: that would read the store, which did not answer.
            let path = if matches!(failure, RequestFailure::TooSlow(_)) { None } else { self.names.path(ino) };
            let path = path.unwrap_or_else(|| format!("inode {ino}"));
            self.log.line(&format!("cannot {doing} {path}: {what}"));
        }
    }

    /// Logs a line about the mount itself.
    pub(super) fn say(&self, text: &str) {
        self.log.line(text);
    }
}
