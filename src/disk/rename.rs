//! Renaming files, with lost replies recognized.

use super::lookup::is_listed;
use super::untracked::rename_noreplace;
use super::{Created, Disk, FsKind, confine, explain, lstat, lstat_revalidated, step};
use crate::error::Result;
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a link is tried while its name is only in the client's cache, and the first pause; the n-th is n times as
/// long. Together they are longer than the second for which clients cache names.
const LINKS: u32 = 8;
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

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
    /// hard links either, the file is renamed after a lookup. A lost reply to a successful step is recognized (L10). On
    /// a shared file system a name counts as taken only if the directory's listing has it.
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
        let link = || {
            if !self.kind().is_local() {
                drop(lstat_revalidated(to));
            }
            self.with_reserve(|| std::fs::hard_link(from, to))
        };
        let is_listed = || is_listed(to);
        match if self.kind().is_local() { link() } else { unless_only_cached(link, is_listed) } {
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

/// Calls `link` until it succeeds, or its error is not that the name exists, or the directory's listing has that name.
/// A client of Gluster reports that a name exists which another host has removed, for as long as it has the file in its
/// cache under that name; a lookup then finds the file too. To believe that would be to remove the file's only name.
/// The server makes the listing, and a lookup before the link makes the client forget the name.
fn unless_only_cached(link: impl Fn() -> io::Result<()>, is_listed: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    for attempt in 1..=LINKS {
        match link() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !is_listed()? => {
                std::thread::sleep(RETRY_INTERVAL * attempt);
            }
            done => return done,
        }
    }
    Err(io::Error::other("the client reports that the name exists, and its directory does not list it"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A client that has a removed name in its cache for this many links.
    fn link_with_stale_name(stale: u32, is_listed: bool) -> (io::Result<()>, u32) {
        let links = Cell::new(0);
        let linked = unless_only_cached(
            || {
                links.set(links.get() + 1);
                if links.get() <= stale { Err(io::Error::from_raw_os_error(libc::EEXIST)) } else { Ok(()) }
            },
            || Ok(is_listed),
        );
        (linked, links.get())
    }

    #[test]
    fn a_name_that_only_the_clients_cache_has_is_linked_again_and_never_counts_as_taken() {
        let (linked, links) = link_with_stale_name(2, false);
        assert!(linked.is_ok() && links == 3);
        let (linked, links) = link_with_stale_name(u32::MAX, false);
        assert!(links == LINKS && linked.unwrap_err().kind() != io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_name_that_the_directory_lists_counts_as_taken_at_once() {
        let (linked, links) = link_with_stale_name(u32::MAX, true);
        assert!(links == 1 && linked.unwrap_err().kind() == io::ErrorKind::AlreadyExists);
    }
}
