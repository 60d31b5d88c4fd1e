//! Edits on a version's manifest before it is stored: removals and renames, a difference from elsewhere, additions.
//! Only the nodes on the way to an edit are read and changed.

use super::checked_changes::{CheckedChanges, PlaceOf};
use crate::commit::artifact::{BaseOp, Changes};
use crate::error::{Error, Result};
use crate::ingest::{Body, FileBody, NewNodes, SourceTree};
use crate::manifest::{self, Edit, Entry, Subtree, Tree, path_order};
use crate::types::RelPath;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A manifest being changed: new nodes apart, old ones where they were.
pub(in crate::commit) struct EditSession {
    pub nodes: NewNodes,
    pub tree: Tree,
}

impl EditSession {
    /// Begins with `base`. New nodes are kept on the file system of `dir` if they are many.
    pub(in crate::commit) fn new(base: &Tree, dir: &Path) -> EditSession {
        let nodes = NewNodes::new(dir, Some(base.source().clone()));
        EditSession { tree: Tree::of(&base.as_root(), Arc::new(nodes.clone())), nodes }
    }

    /// Continues with another manifest, over the same nodes.
    pub(in crate::commit) fn turn_to(&mut self, tree: &Tree) {
        self.tree = Tree::of(&tree.as_root(), Arc::new(self.nodes.clone()));
    }

    /// Applies edits that come in path order.
    pub(in crate::commit) fn apply(&mut self, edits: impl IntoIterator<Item = Result<Edit>>) -> Result<()> {
        let root = manifest::apply_sorted(&self.tree, edits, &mut self.nodes.clone())?;
        self.tree = Tree::of(&root, Arc::new(self.nodes.clone()));
        Ok(())
    }

    /// Removals and renames, in this order; returns the removed paths that existed.
    pub(in crate::commit) fn base_ops(&mut self, ops: &[BaseOp]) -> Result<HashSet<RelPath>> {
        let mut found = HashSet::new();
        let mut batch = Batch::default();
        for op in ops {
            let paths: Vec<&RelPath> = match op {
                BaseOp::Remove(path) => vec![path],
                BaseOp::Rename(old, new) => vec![old, new],
            };
            if paths.iter().any(|p| batch.is_near(p)) {
                self.flush(&mut batch)?;
            }
            match op {
                BaseOp::Remove(path) => {
                    if self.tree.lookup(path)?.is_some() {
                        found.insert(path.clone());
                        batch.push(Edit::remove(path.clone()));
                    }
                }
                BaseOp::Rename(old, new) => self.rename(old, new, &mut batch)?,
            }
        }
        self.flush(&mut batch)?;
        Ok(found)
    }

    fn rename(&self, old: &RelPath, new: &RelPath, batch: &mut Batch) -> Result<()> {
        if new.is_inside(old) {
            return Err(Error::usage(format!("{old} cannot be renamed to {new}, which is inside it")));
        }
        let Some(entry) = self.tree.lookup(old)? else {
            return Err(Error::not_found(format!("{old} cannot be renamed: it is not in the version")));
        };
        if old == new {
            return Ok(());
        }
        if self.tree.lookup(new)?.is_some() {
            return Err(Error::conflict(format!("{old} cannot be renamed to {new}: it exists already"))
                .with_hint("remove it first"));
        }
        batch.push(Edit::remove(old.clone()));
        batch.push(Edit::put(new.clone(), entry.entry));
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<()> {
        let mut edits = std::mem::take(batch).edits;
        edits.sort_by(|a, b| path_order(&a.path, &b.path));
        if edits.is_empty() { Ok(()) } else { self.apply(edits.into_iter().map(Ok)) }
    }

    /// Additions: they replace files that exist.
    pub(in crate::commit) fn add(&mut self, sources: &SourceTree) -> Result<()> {
        self.apply(Additions { sources, open: vec![(0, 0, RelPath::root())] })
    }

    /// A difference that was made elsewhere. Each path must be as the difference says it was. `place` looks up where
    /// content is stored.
    pub(in crate::commit) fn change(&mut self, changes: &Changes, place: &mut PlaceOf<'_>) -> Result<()> {
        let mut edits = CheckedChanges::new(self.tree.clone(), changes, place)?;
        let applied = self.apply(&mut edits);
        edits.refuse()?;
        applied
    }
}

/// Edits of unrelated paths, applied at once.
#[derive(Default)]
struct Batch {
    edits: Vec<Edit>,
    paths: BTreeSet<Vec<u8>>,
}

impl Batch {
    fn push(&mut self, edit: Edit) {
        self.paths.insert(edit.path.as_bytes().to_vec());
        self.edits.push(edit);
    }

    /// Whether there is an edit at this path, above it or below it.
    fn is_near(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(here) = at {
            if self.paths.contains(here.as_bytes()) {
                return true;
            }
            at = here.parent();
        }
        let inside = [path.as_bytes(), b"/"].concat();
        self.paths.range(inside.clone()..).next().is_some_and(|p| p.starts_with(&inside))
    }
}

/// Stored sources as edits, in path order: files replace what exists, directories unite with it.
struct Additions<'a> {
    sources: &'a SourceTree,
    /// Open directories: number, next item, path.
    open: Vec<(u32, usize, RelPath)>,
}

impl Additions<'_> {
    fn step(&mut self) -> Result<Option<Edit>> {
        while let Some((dir, next, path)) = self.open.last_mut() {
            let Some(item) = self.sources.dirs[*dir as usize].items.get(*next) else {
                self.open.pop();
                continue;
            };
            *next += 1;
            let path = path.join(&item.name)?;
            let entry = match &item.body {
                Body::Directory(child) if !self.sources.dirs[*child as usize].items.is_empty() => {
                    self.open.push((*child, 0, path));
                    continue;
                }
                Body::Directory(_) => Entry::Directory(Subtree::empty()),
                Body::File { exec, body: FileBody::Stored(s) } => {
                    Entry::File { digest: s.digest, size: s.size, exec: *exec, place: s.place }
                }
                Body::File { .. } => return Err(Error::usage("a file was not stored before its manifest was built")),
                Body::Symlink(target) => Entry::Symlink { target: target.to_vec() },
                Body::Reference(reference) => Entry::Reference(reference.clone()),
            };
            return Ok(Some(Edit::put(path, entry)));
        }
        Ok(None)
    }
}

impl Iterator for Additions<'_> {
    type Item = Result<Edit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
