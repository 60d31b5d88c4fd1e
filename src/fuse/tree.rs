//! What one mount shows, with its files' bytes and its log: what the adapter asks.

use super::attributes::{Attributes, Item, Looked, Page};
use super::errno::{Failure, FuseResult};
use super::files::{Checked, Files};
use super::inode_tree::{InodeTree, Readable};
use super::log::Log;
use crate::disk;
use crate::objects::SMALL_MAX;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// A mount's tree. Every method may be called from many threads at once.
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

    /// As many names of directory `ino` from `offset` on as fit into `page`.
    pub(super) fn list(&self, ino: u64, offset: u64, mut page: Page) -> FuseResult<Page> {
        let mut show =
            |item: Item<'_>| if page.is_full_for(&item) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.names.list(ino, offset, &mut show)?;
        Ok(page)
    }

    pub(super) fn listed(&self, ino: u64) {
        self.names.listed(ino);
    }

    pub(super) fn forget(&self, ino: u64, times: u64) {
        self.names.forget(ino, times);
    }

    /// Checks that a file may be opened; nothing of its content is looked at.
    pub(super) fn open(&self, ino: u64) -> FuseResult<()> {
        match self.names.readable(ino) {
            // Refused when it is read.
            Err(Failure::NotFetched(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The object file behind a large file, open and checked; `None` for what is packed.
    pub(super) fn object(&self, ino: u64) -> FuseResult<Option<Arc<Checked>>> {
        match self.names.readable(ino) {
            Err(Failure::NotFetched(_)) => Ok(None),
            Err(e) => Err(e),
            Ok(readable) => self.files.object(&readable),
        }
    }

    /// Puts into `out` what the file holds at `offset`: `length` bytes, or all up to its end. After an error `out`
    /// holds nothing of meaning.
    pub(super) fn read(&self, ino: u64, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        self.files.read(&self.names.readable(ino)?, offset, length, out)
    }

    /// What is behind a file that is packed and not empty; `None` for all else, also for what cannot be read.
    pub(super) fn small(&self, ino: u64) -> Option<Readable> {
        self.names.readable(ino).ok().filter(|file| (1..SMALL_MAX).contains(&file.size))
    }

    /// Puts the whole of a file into `out`.
    pub(super) fn read_whole(&self, file: &Readable, out: &mut Vec<u8>) -> FuseResult<()> {
        self.files.read(file, 0, file.size as u32, out)
    }

    /// The space of the file system that holds the store.
    pub(super) fn space(&self) -> FuseResult<disk::Space> {
        Ok(disk::space(&self.store)?)
    }

    /// Writes a line about a failure that a user should know of, naming the path.
    pub(super) fn log_failure(&self, doing: &str, ino: u64, failure: &Failure) {
        let Some(what) = failure.log_line() else { return };
        if self.log.is_due(ino) {
            // Naming the path reads the store, which did not answer.
            let path = if matches!(failure, Failure::TooSlow(_)) { None } else { self.names.path(ino) };
            let path = path.unwrap_or_else(|| format!("inode {ino}"));
            self.log.line(&format!("cannot {doing} {path}: {what}"));
        }
    }

    /// Writes a line about the mount itself.
    pub(super) fn say(&self, text: &str) {
        self.log.line(text);
    }
}
