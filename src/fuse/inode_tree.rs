//! What a mount is made of, whatever it shows: inodes with names below them, and content behind some.

use super::attributes::{Attributes, Item, Looked};
use super::errno::FuseResult;
use crate::types::{Digest, Location};
use std::ops::ControlFlow;

/// What a file entry says of its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readable {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) place: Option<Location>,
    /// The directory that it is in.
    pub(super) directory: u64,
}

/// A read-only tree of inodes. Every method may be called from many threads at once, and may read the store.
pub(super) trait InodeTree: Send + Sync {
    /// Whether listings can change while the mount stands.
    fn grows(&self) -> bool {
        false
    }

    /// What `stat` shows of an inode.
    fn attributes(&self, ino: u64) -> FuseResult<Attributes>;

    /// What stands in directory `parent` under `name`. What is found counts as known to the kernel until
    /// [`InodeTree::forget`].
    fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked>;

    /// A symbolic link's target.
    fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>>;

    /// Shows the names of directory `ino` from `offset` on, until `show` has enough.
    fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> FuseResult<()>;

    /// What is behind a file.
    fn readable(&self, ino: u64) -> FuseResult<Readable>;

    /// The kernel was told of these by a listing with attributes: they count as looked up.
    fn listed(&self, _ino: u64) {}

    /// The kernel no longer knows `ino`, which it was told of `times` times. Never waits for anything.
    fn forget(&self, _ino: u64, _times: u64) {}

    /// The inode's path from the mount's root, for the log.
    fn path(&self, ino: u64) -> Option<String>;
}
