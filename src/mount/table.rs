//! The mount table: what is mounted at a path, according to `/proc/self/mountinfo`.

use crate::disk::{MOUNT_TABLE, MountEntry, mount_entries};
use crate::error::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The topmost mount at exactly `path`, which must be canonical.
pub(super) fn top_at(path: &Path) -> Result<Option<MountEntry>> {
    let text = std::fs::read(MOUNT_TABLE).map_err(|e| Error::io("read", Path::new(MOUNT_TABLE), e))?;
    Ok(mount_entries(&text).filter(|m| m.at == path).last())
}

/// The cairn mount that contains `path`, for a hint.
pub(super) fn ours_above(path: &Path) -> Option<PathBuf> {
    let text = std::fs::read(MOUNT_TABLE).ok()?;
    mount_entries(&text)
        .filter(|m| m.is_ours() && path.starts_with(&m.at))
        .map(|m| m.at)
        .max_by_key(|at| at.as_os_str().len())
}

/// The cairn mounts in the mount namespace of a process (`self` is this one), lowest first; none if this user may not
/// read its mount table.
pub(super) fn ours_of(process: &str) -> Vec<MountEntry> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    mount_entries(&text).filter(MountEntry::is_ours).collect()
}

impl MountEntry {
    /// Whether it is a mount of cairn. Its source is the store then.
    pub(super) fn is_ours(&self) -> bool {
        self.kind == super::TYPE
    }
}

/// The canonical path of a mount point, also if its daemon is dead: then only the parent's entry can be read.
pub(super) fn canonical(path: &Path) -> Result<PathBuf> {
    let mut path = std::path::absolute(path).map_err(|e| Error::io("resolve", path, e))?;
    for _ in 0..40 {
        match path.canonicalize() {
            Ok(found) => return Ok(found),
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) || e.raw_os_error() == Some(libc::EACCES) => {
                // It cannot be read itself, but a link to it can.
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Error::io("resolve", &path, e));
                };
                let parent = parent.canonicalize().map_err(|e| Error::io("resolve", parent, e))?;
                match std::fs::read_link(parent.join(name)) {
                    Ok(target) => path = parent.join(target),
                    Err(_) => return Ok(parent.join(name)),
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("{} does not exist", crate::error::show_path(&path))));
            }
            Err(e) => return Err(Error::io("resolve", &path, e)),
        }
    }
    Err(Error::io("resolve", &path, std::io::Error::from_raw_os_error(libc::ELOOP)))
}

/// Whether the daemon of the mount at `path` has ended. Calls statfs, because the kernel always asks the daemon for
/// that; it may have attributes cached.
pub(super) fn is_dead(path: &Path) -> bool {
    matches!(crate::disk::space(path), Err(e) if matches!(e.errno(), Some(libc::ENOTCONN | libc::ECONNABORTED)))
}

/// A path for fusermount3's option parser: commas and backslashes are escaped.
pub(super) fn escape_option(path: &Path) -> Vec<u8> {
    path.as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|b| if matches!(b, b',' | b'\\') { vec![b'\\', *b] } else { vec![*b] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_at_a_path_is_found_and_a_plain_directory_is_none() {
        assert!(top_at(Path::new("/proc")).unwrap().is_some_and(|m| !m.is_ours()));
        assert_eq!(top_at(Path::new("/proc/self")).unwrap(), None);
    }
}
