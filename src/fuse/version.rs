//! One version as a tree of inodes.
//!
//! An inode number consists of the version's slot in the mount (0 in a mount of one version) and the entry's pre-order
//! rank plus one. So there is no table of inodes, and all hosts that mount only this version see the same numbers. The
//! tree shows exactly the version's entries (L15). Its memory grows neither with the version nor with the files that
//! were read (L16).

use super::VersionView;
use super::attributes::{
    Attributes, DIRECTORY_SIZE, FOREVER, FileKind, ListedName, Looked, RANK_BITS, ROOT, ROOT_FOR, UNKNOWN_SIZE,
};
use super::errno::{FuseResult, RequestFailure};
use super::inode_tree::{InodeTree, Readable};
use crate::error::show_bytes;
use crate::manifest::{Entry, PassedDirectories, Subtree, Tree};
use crate::types::MAX_NAME;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// A version's tree in a mount.
pub(super) struct VersionTree {
    tree: Tree,
    /// Directories that requests passed, of all versions in the mount.
    passed: Arc<PassedDirectories>,
    owner: (u32, u32),
    time: i64,
    /// Added to ranks to make inode numbers.
    base: u64,
    /// The inode of `..` in the version's root; 0 means the root itself.
    above: u64,
    generation: u32,
}

/// An inode that was looked up: its entry and where it is.
struct RankedInode {
    rank: u64,
    entry: Entry,
    /// The rank of its directory.
    parent: u64,
}

impl VersionTree {
    /// The tree for a mount of one version.
    pub(super) fn alone(view: &VersionView, owner: (u32, u32)) -> VersionTree {
        let generation = (view.tree.digest().prefix() >> 32) as u32;
        VersionTree {
            tree: view.tree.clone(),
            passed: Arc::default(),
            owner,
            time: view.commit_time,
            base: 0,
            above: 0,
            generation,
        }
    }

    /// The tree for a slot in a mount of many versions; `above` is the inode of the artifact's directory.
    pub(super) fn in_slot(
        tree: Tree,
        passed: Arc<PassedDirectories>,
        time: i64,
        slot: u64,
        generation: u32,
        above: u64,
        owner: (u32, u32),
    ) -> VersionTree {
        VersionTree { tree, passed, owner, time, base: slot << RANK_BITS, above, generation }
    }

    fn node(&self, ino: u64) -> FuseResult<RankedInode> {
        let rank = ino.checked_sub(self.base + 1).ok_or(RequestFailure::Stale)?;
        let at = self.tree.by_rank_from(&self.passed, self.base, rank)?.ok_or(RequestFailure::Stale)?;
        Ok(RankedInode { rank, entry: at.entry, parent: at.parent })
    }

    fn attributes_of(&self, rank: u64, entry: &Entry) -> Attributes {
        let (kind, size, mode) = match entry {
            Entry::File { size, exec, .. } => (FileKind::File, *size, if *exec { 0o755 } else { 0o644 }),
            Entry::Symlink { target } => (FileKind::Symlink, target.len() as u64, 0o777),
            Entry::Reference(reference) => (FileKind::File, reference.size.unwrap_or(UNKNOWN_SIZE), 0o444),
            Entry::Directory(_) => (FileKind::Directory, DIRECTORY_SIZE, 0o755),
        };
        let ino = self.base + rank + 1;
        let generation = if ino == ROOT { 0 } else { self.generation };
        let attributes_for = match entry {
            Entry::Reference(reference) if reference.size.is_none() => Duration::ZERO,
            _ if ino == ROOT => ROOT_FOR,
            _ => FOREVER,
        };
        Attributes {
            ino,
            generation,
            kind,
            size,
            mode,
            owner: self.owner,
            time: (self.time, 0),
            name_for: FOREVER,
            attributes_for,
        }
    }

    /// The inode of `..` in a node.
    fn above(&self, node: &RankedInode) -> u64 {
        if node.rank == 0 && self.above != 0 { self.above } else { self.base + node.parent + 1 }
    }
}

impl InodeTree for VersionTree {
    fn attributes(&self, ino: u64) -> FuseResult<Attributes> {
        let node = self.node(ino)?;
        Ok(self.attributes_of(node.rank, &node.entry))
    }

    /// Also looks up `.` and `..`, which NFS exports need.
    fn lookup(&self, parent: u64, name: &[u8]) -> FuseResult<Looked> {
        if name.len() > MAX_NAME {
            return Err(RequestFailure::NameTooLong);
        }
        let node = self.node(parent)?;
        match name {
            // Also for a file: this is how the kernel turns a handle into an inode.
            b"." => return Ok(Looked::Found(self.attributes_of(node.rank, &node.entry))),
            b".." => return self.attributes(self.base + node.parent + 1).map(Looked::Found),
            _ => {}
        }
        let dir = directory(&node.entry)?;
        Ok(match self.tree.child(dir, node.rank, name)? {
            Some(found) => Looked::Found(self.attributes_of(found.rank, &found.entry)),
            None => Looked::Nothing(FOREVER),
        })
    }

    fn read_link(&self, ino: u64) -> FuseResult<Vec<u8>> {
        match self.node(ino)?.entry {
            Entry::Symlink { target } => Ok(target),
            Entry::File { .. } | Entry::Reference(_) | Entry::Directory(_) => Err(RequestFailure::WrongKind),
        }
    }

    /// Offset 0 is `.`, offset 1 is `..`, then come the entries by position.
    fn list(&self, ino: u64, offset: u64, show: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>) -> FuseResult<()> {
        let node = self.node(ino)?;
        let dir = directory(&node.entry)?;
        let own = self.attributes_of(node.rank, &node.entry);
        if offset == 0 && show(ListedName { name: b".", attributes: own, next: 1 }).is_break() {
            return Ok(());
        }
        if offset <= 1
            && show(ListedName { name: b"..", attributes: Attributes { ino: self.above(&node), ..own }, next: 2 })
                .is_break()
        {
            return Ok(());
        }
        let mut listing = self.tree.list(dir, node.rank)?;
        if offset > 2 {
            listing.seek_index(offset - 2)?;
        }
        for listed in listing {
            let listed = listed?;
            let attributes = self.attributes_of(listed.rank, &listed.entry);
            if show(ListedName { name: &listed.name, attributes, next: listed.index + 3 }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn readable(&self, ino: u64) -> FuseResult<Readable> {
        let node = self.node(ino)?;
        match node.entry {
            Entry::File { digest, size, place, .. } => {
                Ok(Readable { digest, size, place, directory: self.base + node.parent + 1 })
            }
            Entry::Reference(reference) => Err(RequestFailure::Elsewhere(reference)),
            Entry::Directory(_) => Err(RequestFailure::IsADirectory),
            Entry::Symlink { .. } => Err(RequestFailure::WrongKind),
        }
    }

    fn path(&self, ino: u64) -> Option<String> {
        let at = self.tree.by_rank(ino.checked_sub(self.base + 1)?).ok()??;
        Some(format!("/{}", show_bytes(at.path.as_bytes()).trim_start_matches("\"\"")))
    }
}

fn directory(entry: &Entry) -> FuseResult<&Subtree> {
    match entry {
        Entry::Directory(dir) => Ok(dir),
        Entry::File { .. } | Entry::Symlink { .. } | Entry::Reference(_) => Err(RequestFailure::NotADirectory),
    }
}
