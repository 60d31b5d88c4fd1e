//! A difference that was made elsewhere as edits of a version, one after the other. Each path must be as the difference
//! says it was, and the content that it names must be in the store.

use super::conflicts::{DETAILED, conflict_at, listed};
use crate::commit::artifact::{ChangeIter, Changes, Side};
use crate::error::{Error, Result};
use crate::manifest::{Action, Edit, Entry, Subtree, Tree};
use crate::types::{Digest, Location, RelPath};
use std::collections::BTreeSet;

/// Where content of a digest and size is stored: `None` if it is not, and a location if it is packed.
pub(in crate::commit) type PlaceOf<'a> = dyn FnMut(&Digest, u64) -> Result<Option<Option<Location>>> + 'a;

/// The edits. What is wrong is gathered, and reported by [`CheckedChanges::refuse`].
pub(super) struct CheckedChanges<'a> {
    /// What the changes are made on.
    tree: Tree,
    changes: ChangeIter<'a>,
    place: &'a mut PlaceOf<'a>,
    /// The directory that is being removed, and how many of its entries were not named yet.
    gone: Option<(RelPath, u64)>,
    /// How many paths are not as the difference says, and the first of them.
    conflicts: usize,
    first: Vec<RelPath>,
    /// Content that is not in the store: the first contents, and whether there is more.
    missing: BTreeSet<Digest>,
    misses_more: bool,
}

impl<'a> CheckedChanges<'a> {
    pub(super) fn new(tree: Tree, changes: &'a Changes, place: &'a mut PlaceOf<'a>) -> Result<CheckedChanges<'a>> {
        let changes = changes.iter()?;
        let (first, missing) = (Vec::new(), BTreeSet::new());
        Ok(CheckedChanges { tree, changes, place, gone: None, conflicts: 0, first, missing, misses_more: false })
    }

    /// Reads to the end, and refuses the difference if anything does not fit.
    ///
    /// # Errors
    /// Conflict: a path is not as the difference says. Not found: content is not in the store. Those of the iteration.
    pub(super) fn refuse(mut self) -> Result<()> {
        while self.step()?.is_some() {}
        if self.conflicts > 0 {
            let why = "the version differs from what the difference was made from";
            return Err(conflict_at(self.conflicts, why, &self.first));
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        let more = if self.misses_more { "more than " } else { "" };
        let what = format!("{more}{} of the difference's contents are not in this store", self.missing.len());
        let lines = self.missing.iter().map(|digest| format!("sha256 {digest}"));
        Err(listed(Error::not_found(what), lines).with_hint(
            "a difference between versions of another store: `cairn copy NAME NEWNAME --to STORE` brings the contents; \
             one against a directory: `cairn put NAME DIR` stores them",
        ))
    }

    fn step(&mut self) -> Result<Option<Edit>> {
        while let Some(change) = self.changes.next().transpose()? {
            let path = change.path;
            let now = self.tree.lookup(&path)?.filter(|_| !path.is_root()).map(|found| found.entry);
            if !fits(now.as_ref(), change.old.as_ref()) {
                self.conflict(path);
                continue;
            }
            if let Some((_, unseen)) = self.gone.as_mut().filter(|(dir, _)| path.is_inside(dir)) {
                match change.new {
                    None => *unseen -= 1,
                    Some(_) => self.conflict(path),
                }
                continue;
            }
            self.end_removed();
            if let Some(Entry::Directory(dir)) = &now {
                self.gone = Some((path.clone(), dir.totals().entries));
            }
            let action = match (&change.new, &now) {
                (None, _) => Action::Remove,
                (Some(new), None) => Action::Put(self.entry(new)?),
                (Some(new), Some(_)) => Action::Replace(self.entry(new)?),
            };
            return Ok(Some(Edit { path, action }));
        }
        self.end_removed();
        Ok(None)
    }

    /// The end of a removed directory: all its entries must have been named.
    fn end_removed(&mut self) {
        if let Some((dir, 1..)) = self.gone.take() {
            self.conflict(dir);
        }
    }

    fn conflict(&mut self, path: RelPath) {
        self.conflicts += 1;
        if self.first.len() < DETAILED {
            self.first.push(path);
        }
    }

    /// As an entry of this store's manifests.
    fn entry(&mut self, side: &Side) -> Result<Entry> {
        Ok(match side {
            Side::Directory => Entry::Directory(Subtree::empty()),
            Side::File { digest, size, exec } => {
                let found = (self.place)(digest, *size)?;
                if found.is_none() {
                    self.lacks(digest);
                }
                Entry::File { digest: *digest, size: *size, exec: *exec, place: found.flatten() }
            }
            Side::Symlink(target) => Entry::Symlink { target: target.clone() },
            Side::Reference(reference) => Entry::Reference(reference.clone()),
        })
    }

    fn lacks(&mut self, digest: &Digest) {
        if self.missing.len() < DETAILED {
            self.missing.insert(*digest);
        } else {
            self.misses_more |= !self.missing.contains(digest);
        }
    }
}

impl Iterator for CheckedChanges<'_> {
    type Item = Result<Edit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn fits(now: Option<&Entry>, old: Option<&Side>) -> bool {
    match (now, old) {
        (None, None) => true,
        (Some(now), Some(old)) => match (now, old) {
            (Entry::Directory(_), Side::Directory) => true,
            (Entry::File { digest, size, exec, .. }, Side::File { digest: d, size: s, exec: e }) => {
                (digest, size, exec) == (d, s, e)
            }
            (Entry::Symlink { target }, Side::Symlink(t)) => target == t,
            (Entry::Reference(a), Side::Reference(b)) => a == b,
            _ => false,
        },
        _ => false,
    }
}
