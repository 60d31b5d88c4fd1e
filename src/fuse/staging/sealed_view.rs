//! What a run's directory shows after it was sealed: the contribution, read-only.

use super::attributes;
use crate::clock;
use crate::commit::Upserted;
use crate::disk::backing::Stat;
use crate::error::Result;
use crate::fuse::errno::{ErrnoResult, Subject, errno_of};
use crate::manifest::{Builder, Entry, FoundEntry, Listing, MemoryNodes, RootNode, Tree};
use crate::objects::Content;
use crate::store::Store;
use crate::types::RelPath;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The device number of what a sealed run shows. No file of a stage has it, so that a rank is never taken for the inode
/// number of a stage's file.
pub(super) const SEALED: u64 = u64::MAX;

/// A sealed contribution.
pub(super) struct SealedView {
    tree: Tree,
    time: i64,
    pub(super) done: Upserted,
    store: Store,
    /// The last number of the draft's log at which the contribution was seen to count; 0 before that.
    counted_at: AtomicU64,
}

impl SealedView {
    /// The view of a contribution. It is empty if the contribution was dropped or discarded since, or cannot be read.
    pub(super) fn of(store: &Store, done: &Upserted) -> SealedView {
        let state = done.draft.state().ok();
        let contribution = state.as_ref().and_then(|s| s.contributions.iter().find(|c| c.number == done.number));
        let tree = contribution.and_then(|c| c.tree(store).ok());
        let empty = || Tree::of(&empty_root(), store.objects().clone());
        SealedView {
            tree: tree.unwrap_or_else(empty),
            time: clock::unix_now(),
            done: done.clone(),
            store: store.clone(),
            counted_at: AtomicU64::new(0),
        }
    }

    /// Whether the contribution was dropped or discarded since, so that no version will contain it. The log is read in
    /// full only when it has grown.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn is_withdrawn(&self) -> Result<bool> {
        let (last, _) = self.done.draft.last()?;
        if self.counted_at.load(Ordering::Relaxed) == last {
            return Ok(false);
        }
        let state = self.done.draft.state()?;
        let counts = state.contributions.iter().any(|c| c.number == self.done.number);
        if counts {
            self.counted_at.store(state.last, Ordering::Relaxed);
        }
        Ok(!counts)
    }

    fn find(&self, path: &Path) -> ErrnoResult<FoundEntry> {
        let path = RelPath::parse_or_root(path.as_os_str().as_bytes()).map_err(|_| libc::ENOENT)?;
        self.tree.lookup(&path).map_err(|e| errno_of(&e, Subject::Version))?.ok_or(libc::ENOENT)
    }

    /// The attributes of what is at `path`; `owner` is who it belongs to.
    pub(super) fn stat(&self, path: &Path, owner: (u32, u32)) -> ErrnoResult<Stat> {
        let found = self.find(path)?;
        let mut stat = attributes::sealed(&found.entry, owner, self.time);
        (stat.st_dev, stat.st_ino) = (SEALED, found.rank + 1);
        Ok(stat)
    }

    /// The target of the symlink at `path`.
    pub(super) fn read_link(&self, path: &Path) -> ErrnoResult<OsString> {
        match self.find(path)?.entry {
            Entry::Symlink { target } => Ok(OsStr::from_bytes(&target).to_owned()),
            _ => Err(libc::EINVAL),
        }
    }

    /// The content of the file at `path`.
    pub(super) fn content(&self, path: &Path) -> ErrnoResult<Content> {
        match self.find(path)?.entry {
            Entry::File { digest, size, place, .. } => {
                self.store.objects().content(&digest, size, place).map_err(|e| errno_of(&e, Subject::Version))
            }
            Entry::Directory(_) => Err(libc::EISDIR),
            _ => Err(libc::EIO),
        }
    }

    /// The listing of the directory at `path`.
    pub(super) fn list(&self, path: &Path) -> ErrnoResult<Listing> {
        let found = self.find(path)?;
        let Entry::Directory(directory) = found.entry else { return Err(libc::ENOTDIR) };
        self.tree.list(&directory, found.rank).map_err(|e| errno_of(&e, Subject::Version))
    }
}

fn empty_root() -> RootNode {
    Builder::new(&mut MemoryNodes::new()).finish().expect("nothing is in it")
}
