//! Renaming files, with lost replies recognized.

use super::untracked::rename_noreplace;
use super::{Created, Disk, FsKind, confine, explain, lstat, lstat_revalidated, step};
use crate::error::Result;
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

/// What a move did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The file has both names. The old one is to be removed when the new one is durable.
    Linked,
    /// The file has the new name alone.
    Renamed,
    /// The name was taken, and nothing changed.
    Exists,
}

impl Disk {
    /// Moves a file of the store to another directory, unless its new name is taken. On local file systems that may
    /// write the old directory before the new one, the file keeps its old name too, so that a power cut never takes
    /// both. A file of another user is renamed there, because the kernel lets only its owner link a read-only file
    /// (`fs.protected_hardlinks`).
    ///
    /// # Errors
    /// I/O.
    pub fn move_if_absent(&self, from: &Path, to: &Path) -> Result<Moved> {
        if self.kind() == FsKind::Local {
            match self.hard_link(from, to) {
                Ok(()) => return Ok(Moved::Linked),
                Err(e) if e.errno() == Some(libc::EEXIST) => return Ok(Moved::Exists),
                Err(e) if e.errno() == Some(libc::EPERM) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(match self.rename_if_absent(from, to)? {
            Created::New => Moved::Renamed,
            Created::Exists => Moved::Exists,
        })
    }

    /// Renames one file and replaces `to`. If the reply to a successful rename is lost, the error "missing" is
    /// recognized as success (L10).
    ///
    /// # Errors
    /// I/O.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        step("rename", from)?;
        confine::check(to)?;
        let before = std::fs::symlink_metadata(from).ok().map(file_id);
        match self.with_reserve(|| std::fs::rename(from, to)) {
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && before.is_some()
                    && lstat_revalidated(to)?.map(file_id) == before =>
            {
                Ok(())
            }
            other => other.map_err(|e| {
                explain::failed("rename", to, e).with_cause(format!("to {}", crate::error::show_path(to)))
            }),
        }
    }

    /// Renames a complete file to its place, unless something is there; then nothing changes, `from` included. If the
    /// file system has no `RENAME_NOREPLACE`, the file is linked to its place and its first name removed; if it has no
    /// hard links either, the file is renamed after a lookup. A lost reply to a successful step is recognized (L10).
    ///
    /// # Errors
    /// I/O.
    pub fn rename_if_absent(&self, from: &Path, to: &Path) -> Result<Created> {
        step("rename", from)?;
        confine::check(to)?;
        let before = std::fs::symlink_metadata(from).ok().map(file_id);
        let is_there = || -> Result<bool> { Ok(before.is_some() && lstat_revalidated(to)?.map(file_id) == before) };
        let failed =
            |e: io::Error| explain::failed("rename", to, e).with_cause(format!("to {}", crate::error::show_path(to)));
        if !self.no_noreplace.load(Ordering::Relaxed) {
            match self.with_reserve(|| rename_noreplace(from, to)) {
                Ok(()) => return Ok(Created::New),
                Err(e) if e.kind() == io::ErrorKind::NotFound && is_there()? => return Ok(Created::New),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let renamed = lstat(from)?.is_none() && is_there()?;
                    return Ok(if renamed { Created::New } else { Created::Exists });
                }
                Err(e) if is_unsupported(&e) => self.no_noreplace.store(true, Ordering::Relaxed),
                Err(e) => return Err(failed(e)),
            }
        }
        match self.with_reserve(|| std::fs::hard_link(from, to)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !is_there()? {
                    return Ok(Created::Exists);
                }
            }
            Err(e) if is_unsupported(&e) || matches!(e.raw_os_error(), Some(libc::EPERM | libc::EMLINK)) => {
                if lstat_revalidated(to)?.is_some() {
                    return Ok(Created::Exists);
                }
                return self.rename(from, to).map(|()| Created::New);
            }
            Err(e) => return Err(failed(e)),
        }
        self.remove_file(from).map(|()| Created::New)
    }
}

/// Device and inode.
fn file_id(meta: Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Whether a call failed because the file system does not support it.
fn is_unsupported(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY))
}
