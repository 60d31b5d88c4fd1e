//! Finding an entry by its rank, from a directory on its path that was passed a moment ago. So the cost of a request
//! for an inode does not grow with its depth.

use super::cursor::Cursor;
use super::entry::{DirAt, Entry, Subtree};
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::locks::Mutex;
use std::collections::BTreeMap;

/// What the remembered directories may hold of memory, in bytes. When it is reached, all of them are dropped: then one
/// lookup begins at the root again.
const MAX_WEIGHT: usize = 4 << 20;
/// What a directory holds that is not inlined in its parent's leaf.
const STORED_WEIGHT: usize = 256;
/// How many remembered directories one lookup considers.
const MAX_STEPS: usize = 4096;

/// An entry found by its rank, without its path.
#[derive(Clone, Debug)]
pub struct EntryAtRank {
    /// What it is.
    pub entry: Entry,
    /// The rank of its directory; 0 for the root.
    pub parent: u64,
}

/// Directories that lookups by rank passed. Several trees may share it, if each adds an offset of its own to its ranks.
#[derive(Debug, Default)]
pub struct PassedDirectories(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    /// By rank, with the tree's offset.
    directories: BTreeMap<u64, PassedDirectory>,
    weight: usize,
}

#[derive(Clone, Debug)]
struct PassedDirectory {
    dir: Subtree,
    /// The rank of its parent, with the offset; its own for a root.
    parent: u64,
}

impl PassedDirectories {
    /// The deepest remembered directory that is the entry `at` or contains it, with its rank.
    fn around(&self, at: u64) -> Option<(u64, PassedDirectory)> {
        let passed = self.0.lock();
        let before = |rank: u64| passed.directories.range(..rank).next_back();
        let (mut rank, mut found) = before(at + 1)?;
        for _ in 0..MAX_STEPS {
            if at <= rank + found.dir.totals().entries {
                return Some((*rank, found.clone()));
            }
            // A remembered directory around `at` is also around this one. So nothing between this one and its parent
            // needs a check.
            (rank, found) = match passed.directories.get_key_value(&found.parent) {
                Some(parent) if parent.0 < rank => parent,
                _ => before(*rank)?,
            };
        }
        None
    }

    fn add(&self, rank: u64, dir: &Subtree, parent: u64) {
        let weight = STORED_WEIGHT + if let DirAt::Inline(node) = &dir.0 { node.memory() } else { 0 };
        let mut passed = self.0.lock();
        let dropped =
            if passed.weight + weight > MAX_WEIGHT { std::mem::take(&mut *passed) } else { Passed::default() };
        if passed.directories.insert(rank, PassedDirectory { dir: dir.clone(), parent }).is_none() {
            passed.weight += weight;
        }
        drop(passed);
        drop(dropped);
    }
}

impl Tree {
    /// The entry of pre-order rank `rank`; `None` past the last. Begins at the deepest directory in `passed` that
    /// contains it, and adds the directories that it passes. `offset` distinguishes this tree in `passed`: no other
    /// tree may have ranks in the same range.
    ///
    /// # Errors
    /// Those of the source; damaged.
    #[doc(hidden)]
    pub fn by_rank_from(&self, passed: &PassedDirectories, offset: u64, rank: u64) -> Result<Option<EntryAtRank>> {
        if rank > self.totals().entries {
            return Ok(None);
        }
        let (mut at, begin) = passed.around(offset + rank).filter(|(found, _)| *found >= offset).unwrap_or_else(|| {
            let dir = self.dir();
            passed.add(offset, &dir, offset);
            (offset, PassedDirectory { dir, parent: offset })
        });
        at -= offset;
        let mut found = EntryAtRank { entry: Entry::Directory(begin.dir), parent: begin.parent - offset };
        while at < rank {
            let Entry::Directory(dir) = &found.entry else {
                return Err(Error::damaged("manifest: a rank leads below something that is not a directory"));
            };
            let root = if at == 0 { self.root().clone() } else { self.open_dir(dir)? };
            let mut cursor = Cursor::new(root.clone());
            let before = cursor.seek_rank(root, rank - at - 1, &**self.source())?;
            let (leaf, i) = cursor.here().ok_or_else(|| Error::damaged("manifest: a rank leads past the end"))?;
            found = EntryAtRank { entry: leaf.entry(i), parent: at };
            at += 1 + before;
            if let Entry::Directory(dir) = &found.entry {
                passed.add(offset + at, dir, offset + found.parent);
            }
        }
        Ok(Some(found))
    }
}
