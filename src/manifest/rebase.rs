//! Rebasing: applies the difference between a base and one manifest to another manifest with the same base. Where both
//! changed a path, they must agree (L9).

use super::apply::Edit;
use super::diff::{Change, diff};
use super::entry::{Entry, Subtree};
use super::node_ref::NodeRef;
use super::node_store::NodeSource;
use super::path::path_order;
use super::tree::Tree;
use crate::error::Result;
use crate::types::RelPath;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The result of a [`rebase`].
#[derive(Debug)]
pub enum Rebased {
    /// The edits that apply one side's changes to the other, in path order.
    Edits(Vec<Edit>),
    /// Paths that both sides changed differently, in path order, each once.
    Conflicts(Vec<RelPath>),
}

/// The changes from `base` to `mine` as edits of `theirs`, which is also derived from `base`. A path that both changed
/// is a conflict, and so is a change inside a directory that the other removed, unless both made the same change.
/// Directories that both created unite. Equal subtrees are not read, so the cost depends on the changes.
///
/// # Errors
/// Those of the sources; damaged.
pub fn rebase(base: &Tree, mine: &Tree, theirs: &Tree) -> Result<Rebased> {
    let mut own: Vec<OurChange> = diff(base, mine)
        .whole_directories()
        .map(|c| c.map(|change| OurChange { change, fate: Fate::Apply }))
        .collect::<Result<_>>()?;
    let mut conflicts = BTreeSet::new();
    for change in diff(base, theirs).whole_directories() {
        let their = change?;
        meet(&mut own, &their, mine, theirs, &mut conflicts)?;
    }
    if !conflicts.is_empty() {
        let mut paths: Vec<RelPath> = conflicts.into_iter().collect();
        paths.sort_by(path_order);
        return Ok(Rebased::Conflicts(paths));
    }
    let mut edits = Vec::with_capacity(own.len());
    for OurChange { change: Change { path, old, new }, fate } in own {
        match (fate, new) {
            (Fate::Done, _) => {}
            (Fate::Unite(more), _) => edits.extend(more),
            (Fate::Apply, None) => edits.push(Edit::remove(path)),
            (Fate::Apply, Some(new)) if old.is_some() => edits.push(Edit::replace(path, new)),
            (Fate::Apply, Some(new)) => edits.push(Edit::put(path, new)),
        }
    }
    Ok(Rebased::Edits(edits))
}

/// One of our changes.
struct OurChange {
    change: Change,
    fate: Fate,
}

/// What to do with it.
enum Fate {
    /// Apply it.
    Apply,
    /// The other side did the same.
    Done,
    /// Both created a directory: what ours adds to theirs.
    Unite(Vec<Edit>),
}

/// Compares one of their changes with ours at its path, above it, and below it.
fn meet(
    own: &mut [OurChange],
    their: &Change,
    mine: &Tree,
    theirs: &Tree,
    conflicts: &mut BTreeSet<RelPath>,
) -> Result<()> {
    let mut above = Some(their.path.clone());
    while let Some(path) = above {
        if let Ok(i) = own.binary_search_by(|o| path_order(&o.change.path, &path)) {
            let ours = &mut own[i];
            if path == their.path {
                at_one_path(ours, their, mine, theirs, conflicts)?;
            } else if their.new.is_some() || ours.change.new.is_some() {
                conflicts.insert(their.path.clone()); // we took away or replaced what they changed
            }
        }
        above = path.parent();
    }
    // A change of theirs above ours is a directory that they removed or replaced. Then our change is lost, unless it
    // was a removal too.
    let from = own.partition_point(|o| path_order(&o.change.path, &their.path).is_le());
    for ours in own[from..].iter_mut().take_while(|o| o.change.path.is_inside(&their.path)) {
        if their.new.is_none() && ours.change.new.is_none() {
            ours.fate = Fate::Done;
        } else {
            conflicts.insert(ours.change.path.clone());
        }
    }
    Ok(())
}

fn at_one_path(
    ours: &mut OurChange,
    their: &Change,
    mine: &Tree,
    theirs: &Tree,
    conflicts: &mut BTreeSet<RelPath>,
) -> Result<()> {
    let path = &their.path;
    match (&ours.change.new, &their.new) {
        (None, None) => ours.fate = Fate::Done,
        (Some(a), Some(b)) if a.same(b) => ours.fate = Fate::Done,
        (Some(Entry::Directory(a)), Some(Entry::Directory(b))) => {
            let mut more = Vec::new();
            let (a, b) = (subtree(mine, a)?, subtree(theirs, b)?);
            for change in diff(&b, &a).whole_directories() {
                let Change { path: below, old, new } = change?;
                match (old, new) {
                    (_, None) => {} // theirs alone
                    (None, Some(new)) => more.push(Edit::put(below.below(path)?, new)),
                    (Some(_), Some(_)) => drop(conflicts.insert(below.below(path)?)),
                }
            }
            ours.fate = Fate::Unite(more);
        }
        _ => drop(conflicts.insert(path.clone())),
    }
    Ok(())
}

/// A directory of a manifest as a manifest of its own.
fn subtree(tree: &Tree, dir: &Subtree) -> Result<Tree> {
    let source: Arc<dyn NodeSource> = tree.source().clone();
    let node = dir.open(&*source)?;
    let at = NodeRef { digest: node.digest(), place: None };
    Ok(Tree::over(node, at, source))
}
