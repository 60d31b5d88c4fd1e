//! Moving and freeing many files quickly on a local file system: their directories are opened once, and several threads
//! work. What does not succeed here is done by the careful way, one file after another.

use super::report::Amount;
use crate::disk::{self, Dir, Disk, FsKind};
use crate::error::Result;
use crate::locks::Mutex;
use crate::progress::Progress;
use crate::threads;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// From this many files on, several threads work.
pub(super) const MANY: usize = 512;

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quick {
    /// It has its new name only.
    Renamed,
    /// It has both names.
    Linked,
    /// Nothing: another way must be tried.
    Not,
}

/// A path as its directory and its name.
fn split(path: &Path) -> (&[u8], &[u8]) {
    let bytes = path.as_os_str().as_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    bytes.split_at(at)
}

/// Whether the old paths of both pairs are in one directory.
pub(super) fn is_same_directory((a, _): &(PathBuf, PathBuf), (b, _): &(PathBuf, PathBuf)) -> bool {
    split(a).0 == split(b).0
}

/// Moves files to the directory `to`, as pairs of old and new paths; those of one directory follow each other. If file
/// names can reach the disk out of order, they are linked only. One thread works: in the kernel, all moves to one
/// directory wait for each other. What fails here is tried again by the caller.
pub(super) fn quickly(disk: &Disk, pairs: &[(PathBuf, PathBuf)], to: &Path) -> Vec<Quick> {
    let opened = Some(disk).filter(|disk| disk.kind().is_local()).and_then(|_| Dir::open_in_store(to).ok());
    let Some(to) = opened else { return vec![Quick::Not; pairs.len()] };
    let mut out = Vec::with_capacity(pairs.len());
    for group in pairs.chunk_by(is_same_directory) {
        let from = group[0].0.parent().and_then(|from| Dir::open_in_store(from).ok());
        out.extend(group.iter().map(|(old, new)| {
            let (Some(from), old, new) = (&from, split(old).1, split(new).1) else { return Quick::Not };
            let moved = match disk.kind() {
                FsKind::Ordered => from.rename_to(old, &to, new).map(|()| Quick::Renamed),
                FsKind::Local => from.link_to(old, &to, new).map(|()| Quick::Linked),
                FsKind::Shared => return Quick::Not,
            };
            moved.unwrap_or(Quick::Not)
        }));
    }
    out
}

/// Removes the old names of linked files of one directory. A file that lost its new name meanwhile keeps the old one:
/// another collection has taken it over.
///
/// # Errors
/// I/O.
pub(super) fn remove_old_names(pairs: &[(PathBuf, PathBuf)], to: &Path) -> Result<()> {
    let Some(from) = pairs.first().and_then(|(old, _)| old.parent()) else { return Ok(()) };
    let (Some(from), Some(to)) = (open(from)?, open(to)?) else { return Ok(()) };
    for (old, new) in pairs {
        if let (Some(old), Some(new)) = (old.file_name(), new.file_name())
            && to.lstat(new.as_bytes())?.is_some()
        {
            from.remove_file(old.as_bytes())?;
        }
    }
    Ok(())
}

/// Removes files of a directory that nothing needs.
///
/// # Errors
/// I/O. A conflict, if it was cancelled.
pub(super) fn free(disk: &Disk, dir: &Path, names: &[OsString], progress: &Progress) -> Result<Amount> {
    let freed = Mutex::new(Amount::default());
    let threads = if names.len() >= MANY && disk.kind().is_local() { threads::count() } else { 1 };
    let groups: Vec<_> = names.chunks(MANY).collect();
    threads::for_each(threads, &groups, |group| {
        progress.check_cancelled()?;
        let part = free_some(disk, dir, group)?;
        let mut freed = freed.lock();
        freed.files += part.files;
        freed.bytes += part.bytes;
        Ok(())
    })?;
    Ok(freed.into_inner())
}

fn free_some(disk: &Disk, dir: &Path, names: &[OsString]) -> Result<Amount> {
    let mut freed = Amount::default();
    if !disk.kind().is_local() {
        // A lookup by path is repeated if a handle is stale.
        for path in names.iter().map(|name| dir.join(name)) {
            let Some(meta) = disk::lstat(&path)? else { continue };
            disk.remove_file(&path)?;
            freed.add(meta.len());
        }
        return Ok(freed);
    }
    let Some(dir) = open(dir)? else { return Ok(freed) };
    for name in names {
        let Some(found) = dir.lstat(name.as_bytes())? else { continue };
        dir.remove_file(name.as_bytes())?;
        freed.add(found.size());
    }
    Ok(freed)
}

/// `None`: another collection removed the directory, a batch.
fn open(dir: &Path) -> Result<Option<Dir>> {
    match Dir::open_in_store(dir) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        opened => opened.map(Some),
    }
}
