//! What a read-only mount shows: its inodes, the content of its files, and its log. The adapter's requests go here.

use super::attributes::{Attributes, FOREVER, ListedName, Looked, Page};
use super::errno::{FuseResult, RequestFailure};
use super::far_reads::FarReads;
use super::files::{Backing, Files};
use super::inode_tree::{InodeTree, Readable};
use super::log::Log;
use crate::disk;
use crate::manifest::Reference;
use crate::objects::SMALL_MAX;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// A mount's tree. Many threads may call its methods at once.
pub(super) struct ReadTree {
    names: Arc<dyn InodeTree>,
    files: Arc<Files>,
    far: FarReads,
    store: PathBuf,
    log: Log,
}

/// Attributes, and the reference if they lack a size that its source can tell.
pub(super) type WithReference = (Attributes, Option<Box<Reference>>);

impl ReadTree {
    pub(super) fn new(names: Arc<dyn InodeTree>, files: Arc<Files>, store: PathBuf, log: Log) -> ReadTree {
        ReadTree { names, files, far: FarReads::new(), store, log }
    }

    pub(super) fn grows(&self) -> bool {
        self.names.grows()
    }

    /// What reads references.
    pub(super) fn far(&self) -> &FarReads {
        &self.far
    }

    pub(super) fn attributes(&self, ino: u64) -> FuseResult<WithReference> {
        self.with_size(self.names.attributes(ino)?)
    }

    pub(super) fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked> {
        match self.names.lookup(parent, name)? {
            Looked::Found(found) => Ok(Looked::Found(self.with_size(found)?.0)),
            nothing => Ok(nothing),
        }
    }

    /// Adds the size of a reference that was not recorded, if its source was asked before.
    fn with_size(&self, found: Attributes) -> FuseResult<WithReference> {
        if !found.may_lack_size() {
            return Ok((found, None));
        }
        match self.readable(found.ino) {
            Err(RequestFailure::Elsewhere(reference)) => match reference.size {
                Some(size) => Ok((Attributes { size, attributes_for: FOREVER, ..found }, None)),
                None => Ok((found, Some(reference))),
            },
            Err(e) => Err(e),
            Ok(_) => Ok((found, None)),
        }
    }

    /// Asks the source of a reference for its size. If that fails, the log says why, and the size stays unknown.
    pub(super) fn ask_size(&self, found: Attributes, reference: &Reference) -> Attributes {
        match self.far.identify(reference) {
            Ok(known) => Attributes { size: known.size.unwrap_or(found.size), attributes_for: FOREVER, ..found },
            Err(failure) => {
                self.log_failure("learn the size of", found.ino, &failure);
                found
            }
        }
    }

    /// Where the content of a file is. A reference without a size is the one that its source was found to have.
    fn readable(&self, ino: u64) -> FuseResult<Readable> {
        match self.names.readable(ino) {
            Err(RequestFailure::Elsewhere(reference)) if reference.size.is_none() => {
                Err(RequestFailure::Elsewhere(self.far.known(&reference).unwrap_or(reference)))
            }
            other => other,
        }
    }

    pub(super) fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>> {
        self.names.read_link(ino)
    }

    /// Adds the names in directory `ino` from `offset` on to `page`, until it is full.
    pub(super) fn list(&self, ino: u64, offset: u64, mut page: Page) -> FuseResult<Page> {
        let mut show = |item: ListedName<'_>| {
            // If it cannot be read, it is listed without.
            let attributes = self.with_size(item.attributes).map_or(item.attributes, |(attributes, _)| attributes);
            let item = ListedName { attributes, ..item };
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
        match self.readable(ino) {
            Err(RequestFailure::Elsewhere(reference)) => Ok(Some(self.far.backing(&reference))),
            Err(e) => Err(e),
            Ok(readable) => self.files.backing(&readable),
        }
    }

    /// Reads `length` bytes of a file at `offset` into `out`, fewer only at its end. After an error the content of
    /// `out` is undefined.
    pub(super) fn read(&self, ino: u64, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        self.files.read(&self.readable(ino)?, offset, length, out)
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
