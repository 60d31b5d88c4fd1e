//! Removing what the version does not have, except what a put would leave out.

use crate::disk::Dir;
use crate::error::Result;
use crate::ingest::{Filter, IGNORE_FILE};
use crate::progress::Progress;
use crate::types::RelPath;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The patterns in force in one directory; more than one where `.cairnignore` was another before.
pub(super) type Filters = Vec<Arc<Filter>>;

/// Something in a directory of the version that the version does not have.
#[derive(Debug)]
pub(super) struct Extra {
    pub dir: RelPath,
    pub name: Vec<u8>,
    /// The patterns in force before anything was written.
    pub before: Arc<Filter>,
}

/// What a removal came to.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Entries removed: a directory that went with all in it is one.
    pub removed: u64,
    /// What was left alone, in path order, so that the first of it in a directory is found quickly.
    pub protected: BTreeSet<PathBuf>,
}

impl Pruned {
    /// Whether something in `dir` was left alone.
    fn protects_in(&self, dir: &Path) -> bool {
        let from = (Bound::Included(dir), Bound::Unbounded);
        self.protected.range::<Path, _>(from).next().is_some_and(|p| p.starts_with(dir))
    }
}

/// Whether something is not removed.
fn is_protected(dir: &Dir, name: &[u8], filters: &Filters) -> Result<bool> {
    let Some(found) = dir.lstat(name)? else { return Ok(false) };
    let path = dir.path_of(name);
    if name == b".git" || filters.iter().any(|f| f.leaves_out(&path, found.is_dir())) {
        return Ok(true);
    }
    // Another file system, or a store that something else uses.
    Ok(found.is_dir() && (found.id().0 != dir.stat_self()?.id().0 || is_store(dir, name)))
}

fn is_store(dir: &Dir, name: &[u8]) -> bool {
    let file = |d: &Dir| d.lstat(b"cairn.json").ok().flatten().is_some_and(|l| l.is_file());
    let artifacts = |d: &Dir| d.lstat(b"artifacts").ok().flatten().is_some_and(|l| l.is_dir());
    dir.dir(name).is_ok_and(|d| file(&d) && artifacts(&d))
}

/// The patterns in a directory below.
fn enter(filters: &Filters, below: &Dir) -> Result<Filters> {
    filters.iter().map(|f| Filter::enter(f, below.handle(), below.path())).collect()
}

/// What of `name` would be left alone: the first such path.
pub(super) fn first_protected(
    dir: &Dir,
    name: &[u8],
    filters: &Filters,
    progress: &Progress,
) -> Result<Option<PathBuf>> {
    progress.check_cancelled()?;
    if is_protected(dir, name, filters)? {
        return Ok(Some(dir.path_of(name)));
    }
    if !dir.lstat(name)?.is_some_and(|l| l.is_dir()) {
        return Ok(None);
    }
    let below = dir.dir(name)?;
    let filters = enter(filters, &below)?;
    for entry in below.names()? {
        if let Some(found) = first_protected(&below, &entry, &filters, progress)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Removes extras below `target`.
pub(super) fn prune(
    target: &Arc<Dir>,
    exclude: &Arc<Filter>,
    extras: Vec<Extra>,
    progress: &Progress,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut at: Option<(RelPath, Arc<Dir>, Option<Arc<Filter>>)> = None;
    // What hides something goes last, and stays while something that it hides does.
    let (ignore_files, others): (Vec<_>, Vec<_>) = extras.into_iter().partition(|e| e.name == IGNORE_FILE.to_bytes());
    for extra in others.into_iter().chain(ignore_files) {
        let (_, dir, now) = match &at {
            Some(found) if found.0 == extra.dir => found,
            _ => {
                let (dir, filter) = open_below(target, exclude, &extra.dir)?;
                at.insert((extra.dir.clone(), dir, filter))
            }
        };
        match now {
            Some(now) => drop(remove(dir, &extra.name, &vec![now.clone(), extra.before], &mut pruned, progress)?),
            None => drop(pruned.protected.insert(dir.path_of(&extra.name))), // in a directory that a put leaves out
        }
    }
    Ok(pruned)
}

/// A directory of the version as it is now, and the patterns in it; none in a directory that is left out.
fn open_below(target: &Arc<Dir>, root: &Arc<Filter>, path: &RelPath) -> Result<(Arc<Dir>, Option<Arc<Filter>>)> {
    let mut dir = target.clone();
    let mut filter = Some(Filter::enter(root, dir.handle(), dir.path())?);
    for name in path.parts() {
        let below = Arc::new(dir.dir(name)?);
        filter = match filter {
            Some(f) if !f.leaves_out(below.path(), true) => Some(Filter::enter(&f, below.handle(), below.path())?),
            _ => None,
        };
        dir = below;
    }
    Ok((dir, filter))
}

/// Whether all of it went.
fn remove(dir: &Dir, name: &[u8], filters: &Filters, pruned: &mut Pruned, progress: &Progress) -> Result<bool> {
    progress.check_cancelled()?;
    let still_hides = name == IGNORE_FILE.to_bytes() && pruned.protects_in(dir.path());
    if still_hides || is_protected(dir, name, filters)? {
        pruned.protected.insert(dir.path_of(name));
        return Ok(false);
    }
    let before = pruned.removed;
    if dir.lstat(name)?.is_some_and(|l| l.is_dir()) {
        let below = dir.dir_to_empty(name)?;
        let filters = enter(filters, &below)?;
        let mut whole = true;
        let mut names = below.names()?;
        names.sort_by_key(|n| n == IGNORE_FILE.to_bytes());
        for entry in names {
            whole &= remove(&below, &entry, &filters, pruned, progress)?;
        }
        if !whole {
            return Ok(false); // what went from it is counted entry by entry
        }
        dir.remove_dir(name)?;
    } else {
        dir.remove_file(name)?;
    }
    pruned.removed = before + 1;
    Ok(true)
}

/// Whether extras in `dir` are to be pruned when only `path` was asked for.
pub(super) fn is_in_scope(dir: &RelPath, path: Option<&RelPath>) -> bool {
    path.is_none_or(|path| dir == path || is_below(dir, path))
}

pub(super) fn is_below(path: &RelPath, dir: &RelPath) -> bool {
    dir.is_root() || path.is_inside(dir)
}
