//! Every entry in pre-order, with its path and rank.

use super::cursor::{ListedEntry, Listing};
use super::entry::{Entry, Subtree};
use super::path::path_error;
use crate::error::{Error, Result};
use crate::types::RelPath;

/// The maximum number of entries of a walk: as many as file systems have inodes. A manifest of a few kilobytes can have
/// far more, because it can name one directory many times, level upon level, and such a walk would not end. Parts of it
/// can still be read.
pub(super) const MAX_WALK: u64 = 1 << 32;

/// Refuses a walk that would not end.
pub(super) fn check_walk(entries: u64) -> Result<()> {
    if entries <= MAX_WALK {
        return Ok(());
    }
    let e = Error::conflict(format!("there are {entries} entries to go through: at most {MAX_WALK}"));
    Err(e.with_hint("read a part of it: `cairn ls` of a directory, `cairn get` of a path"))
}

/// An entry seen on a walk.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Its path from the version's root.
    pub path: RelPath,
    /// What it is.
    pub entry: Entry,
    /// Its pre-order rank.
    pub rank: u64,
}

/// A streaming pre-order walk: one leaf for each open directory in memory.
pub struct Walk {
    stack: Vec<(RelPath, Listing)>,
    /// The directory returned last: entered by the next step, unless it is skipped.
    enter: Option<(RelPath, Subtree, u64)>,
    /// How many entries lie below it, until the first step.
    below: u64,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

impl Walk {
    pub(super) fn new(path: RelPath, listing: Listing) -> Walk {
        let below = listing.entries();
        Walk { stack: vec![(path, listing)], enter: None, below }
    }

    pub(super) fn empty() -> Walk {
        Walk { stack: Vec::new(), enter: None, below: 0 }
    }

    /// Skips what is below the directory that was returned last.
    pub fn skip(&mut self) {
        self.enter = None;
    }

    /// Moves from the root to the first entry that is not before `path`.
    pub(super) fn seek(&mut self, path: &RelPath) -> Result<()> {
        for name in path.parts() {
            let Some((at, listing)) = self.stack.last_mut() else { return Ok(()) };
            listing.seek_name(name)?;
            let mut peek = listing.clone();
            let Some(listed) = peek.next().transpose()? else { return Ok(()) };
            let here = at.join(&listed.name).map_err(path_error)?;
            if listed.name != name {
                return Ok(());
            }
            if here.as_bytes().len() == path.as_bytes().len() {
                return Ok(());
            }
            let Entry::Directory(dir) = &listed.entry else {
                // What is below it would come right after it.
                *listing = peek;
                return Ok(());
            };
            let inner = listing.within(dir, listed.rank)?;
            *listing = peek;
            self.stack.push((here, inner));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Visit>> {
        if let Err(e) = check_walk(std::mem::take(&mut self.below)) {
            self.stack.clear();
            return Err(e);
        }
        if let (Some((path, dir, rank)), Some((_, listing))) = (self.enter.take(), self.stack.last()) {
            let inner = listing.within(&dir, rank)?;
            self.stack.push((path, inner));
        }
        while let Some((at, listing)) = self.stack.last_mut() {
            let Some(ListedEntry { name, entry, rank, .. }) = listing.next().transpose()? else {
                self.stack.pop();
                continue;
            };
            let visit = Visit { path: at.join(&name).map_err(path_error)?, entry, rank };
            if let Entry::Directory(dir) = &visit.entry {
                self.enter = Some((visit.path.clone(), dir.clone(), rank));
            }
            return Ok(Some(visit));
        }
        Ok(None)
    }
}

impl Iterator for Walk {
    type Item = Result<Visit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
