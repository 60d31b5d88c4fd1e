//! The differences between two manifests, streaming. Equal subtrees are not loaded.

use super::apply::Edit;
use super::cursor::{Cursor, Listing};
use super::entry::{Entry, Subtree};
use super::node_store::NodeSource;
use super::path::path_error;
use super::tree::Tree;
use super::walk::{MAX_WALK, Walk, check_walk};
use crate::error::Result;
use crate::types::RelPath;
use std::cmp::Ordering;
use std::sync::Arc;

/// A path that differs.
#[derive(Clone, Debug)]
pub struct Change {
    /// The path.
    pub path: RelPath,
    /// The entry before; `None`: there was none.
    pub old: Option<Entry>,
    /// The entry now; `None`: there is none.
    pub new: Option<Entry>,
}

/// The changes from `a` to `b` in walk order. A directory in both is not a change itself; one that was added or removed
/// is, and so is each entry below it. Compares kind, exec bit and content, not locations.
pub fn diff(a: &Tree, b: &Tree) -> Diff {
    let mut frames = Vec::new();
    if a.digest() != b.digest() {
        frames.push(DiffFrame {
            path: RelPath::root(),
            a: Cursor::new(a.root().clone()),
            b: Cursor::new(b.root().clone()),
        });
    }
    // If a manifest is too large to walk, only this many changes are returned.
    let entries = a.totals().entries.max(b.totals().entries);
    let left = if entries > MAX_WALK { Some(MAX_CHANGES) } else { None };
    Diff { a: a.source().clone(), b: b.source().clone(), frames, below: None, whole: false, entries, left }
}

/// An iterator of [`Change`]s. See [`diff`].
pub struct Diff {
    a: Arc<dyn NodeSource>,
    b: Arc<dyn NodeSource>,
    frames: Vec<DiffFrame>,
    /// What is below a directory that only one manifest has, and whether that is the new one.
    below: Option<(Walk, bool)>,
    whole: bool,
    entries: u64,
    left: Option<u64>,
}

impl std::fmt::Debug for Diff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diff").finish_non_exhaustive()
    }
}

/// The maximum number of changes between manifests that are too large to walk.
const MAX_CHANGES: u64 = 1 << 22;

/// A directory that both manifests have, and that differs.
struct DiffFrame {
    path: RelPath,
    a: Cursor,
    b: Cursor,
}

impl Diff {
    /// Returns an added or removed directory as one change, without what is below it.
    #[must_use]
    pub fn whole_directories(mut self) -> Diff {
        self.whole = true;
        self
    }

    /// The edits that turn the first manifest into the second, in path order. Added directories come whole, so the
    /// nodes below them must exist where the result is stored.
    #[doc(hidden)]
    pub fn edits(self) -> impl Iterator<Item = Result<Edit>> {
        self.whole_directories().map(|change| {
            let Change { path, old, new } = change?;
            Ok(match new {
                None => Edit::remove(path),
                Some(new) if old.is_some() => Edit::replace(path, new),
                Some(new) => Edit::put(path, new),
            })
        })
    }

    fn step(&mut self) -> Result<Option<Change>> {
        loop {
            if let Some((walk, new)) = &mut self.below {
                if let Some(visit) = walk.next().transpose()? {
                    let (path, entry) = (visit.path, Some(visit.entry));
                    return Ok(Some(if *new {
                        Change { path, old: None, new: entry }
                    } else {
                        Change { path, old: entry, new: None }
                    }));
                }
                self.below = None;
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let order = match (frame.a.name(), frame.b.name()) {
                (None, None) => {
                    self.frames.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.cmp(b),
            };
            let change = match order {
                Ordering::Less => take(&mut frame.a, &*self.a)?.map(|(name, entry)| (name, Some(entry), None)),
                Ordering::Greater => take(&mut frame.b, &*self.b)?.map(|(name, entry)| (name, None, Some(entry))),
                Ordering::Equal => frame.pair(&*self.a, &*self.b)?.map(|(name, old, new)| (name, Some(old), Some(new))),
            };
            if let Some((name, old, new)) = change {
                let path = frame.path.join(&name).map_err(path_error)?;
                if let (Some(Entry::Directory(a)), Some(Entry::Directory(b))) = (&old, &new) {
                    let (a, b) = (a.open(&*self.a)?, b.open(&*self.b)?);
                    self.frames.push(DiffFrame { path, a: Cursor::new(a), b: Cursor::new(b) });
                    continue;
                }
                if !self.whole {
                    self.below = match (&old, &new) {
                        (Some(Entry::Directory(dir)), _) => Some((below(&self.a, &path, dir)?, false)),
                        (_, Some(Entry::Directory(dir))) => Some((below(&self.b, &path, dir)?, true)),
                        _ => None,
                    };
                }
                return Ok(Some(Change { path, old, new }));
            }
        }
    }
}

impl Iterator for Diff {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = match &mut self.left {
            Some(0) => check_walk(self.entries),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        };
        let step = end.and_then(|()| self.step()).transpose();
        if let Some(Err(_)) = &step {
            // Nothing after an error.
            self.frames.clear();
            self.below = None;
        }
        step
    }
}

fn below(source: &Arc<dyn NodeSource>, path: &RelPath, dir: &Subtree) -> Result<Walk> {
    Ok(Walk::new(path.clone(), Listing::new(source.clone(), dir, 0)?))
}

/// The entry at this position, or `None` after a step down.
fn take(cursor: &mut Cursor, source: &dyn NodeSource) -> Result<Option<(Vec<u8>, Entry)>> {
    let Some((node, i)) = cursor.here() else { return Ok(None) };
    if !node.is_leaf() {
        cursor.expand(source)?;
        return Ok(None);
    }
    let taken = (node.name(i).to_vec(), node.entry(i));
    cursor.advance();
    Ok(Some(taken))
}

impl DiffFrame {
    /// Both cursors are at the same name: skips what is equal, steps down where nodes differ, returns entries that
    /// differ.
    fn pair(&mut self, a: &dyn NodeSource, b: &dyn NodeSource) -> Result<Option<(Vec<u8>, Entry, Entry)>> {
        let (Some((x, i)), Some((y, j))) = (self.a.here(), self.b.here()) else { return Ok(None) };
        let (down_a, down_b) = (x.level() >= y.level() && !x.is_leaf(), y.level() >= x.level() && !y.is_leaf());
        let mut found = None;
        if down_a && down_b && x.child(i).at.digest == y.child(j).at.digest {
            self.a.advance();
            self.b.advance();
        } else if down_a || down_b {
            if down_a {
                self.a.expand(a)?;
            }
            if down_b {
                self.b.expand(b)?;
            }
        } else {
            let (old, new) = (x.entry(i), y.entry(j));
            if !old.same(&new) {
                found = Some((x.name(i).to_vec(), old, new));
            }
            self.a.advance();
            self.b.advance();
        }
        Ok(found)
    }
}
