//! The attributes of nodes that are not files of a stage: directories that exist only in the mount, and sealed entries.

use crate::disk::backing::Stat;
use crate::manifest::Entry;

/// Attributes with a file type, permissions, owner and time.
fn blank(mode: u32, owner: (u32, u32), time: i64) -> Stat {
    // SAFETY: stat is plain old data, for which zeros are valid.
    let mut stat: Stat = unsafe { std::mem::zeroed() };
    stat.st_mode = mode;
    stat.st_nlink = 1;
    (stat.st_uid, stat.st_gid) = owner;
    (stat.st_atime, stat.st_mtime, stat.st_ctime) = (time, time, time);
    stat.st_blksize = 4096;
    stat
}

/// A directory that exists only in the mount.
pub(super) fn directory(mode: u32, owner: (u32, u32), time: i64) -> Stat {
    blank(libc::S_IFDIR | mode, owner, time)
}

/// An entry of a sealed contribution, which is read-only.
pub(super) fn sealed(entry: &Entry, owner: (u32, u32), time: i64) -> Stat {
    let (mode, size) = match entry {
        Entry::Directory(_) => (libc::S_IFDIR | 0o555, 0),
        Entry::File { size, exec, .. } => (libc::S_IFREG | if *exec { 0o555 } else { 0o444 }, *size),
        Entry::Symlink { target } => (libc::S_IFLNK | 0o777, target.len() as u64),
        Entry::Reference(reference) => (libc::S_IFREG | 0o444, reference.size.unwrap_or(0)),
    };
    let mut stat = blank(mode, owner, time);
    stat.st_size = size as i64;
    stat.st_blocks = size.div_ceil(512) as i64;
    stat
}
