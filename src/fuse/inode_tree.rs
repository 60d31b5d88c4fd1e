//! The interface of what a read-only mount shows: inodes, the names in directories, and the content of files.

use super::attributes::{Attributes, ListedName, Looked};
use super::errno::FuseResult;
use crate::types::{Digest, Location};
use std::ops::ControlFlow;

/// Where the content of a file is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readable {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) place: Option<Location>,
    /// The inode of its directory.
    pub(super) directory: u64,
}

/// A read-only tree of inodes. Many threads may call its methods at once, and each method may read the store.
pub(super) trait InodeTree: Send + Sync {
    /// Whether listings can change while the mount exists.
    fn grows(&self) -> bool {
        false
    }

    /// The attributes of an inode.
    fn attributes(&self, ino: u64) -> FuseResult<Attributes>;

    /// Looks up `name` in directory `parent`. The result counts as known to the kernel until [`InodeTree::forget`].
    fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked>;

    /// The target of a symbolic link.
    fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>>;

    /// Passes the names in directory `ino` from `offset` on to `show`, until that breaks.
    fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>) -> FuseResult<()>;

    /// Where the content of a file is.
    fn readable(&self, ino: u64) -> FuseResult<Readable>;

    /// Counts an inode as looked up, because the kernel got it in a listing with attributes.
    fn listed(&self, _ino: u64) {}

    /// Subtracts `times` from the kernel's look-up count of `ino`. Never waits.
    fn forget(&self, _ino: u64, _times: u64) {}

    /// The inode's path from the mount's root, for the log.
    fn path(&self, ino: u64) -> Option<String>;
}
