//! Which file system a path is on, and what follows from that.

use super::mountinfo::{MOUNT_TABLE, mount_entries, unescape};
use crate::error::{Error, Result};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How a file system behaves, by its statfs type. An unknown type counts as shared, which is the safe side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsKind {
    /// ext3 and ext4 with a journal, xfs: local, and metadata reaches the disk in the order of its changes.
    Ordered,
    /// Other local file systems: btrfs, zfs, tmpfs, overlayfs, ext2 and ext4 without a journal, …
    Local,
    /// NFS, cluster and FUSE-based file systems, and everything unknown.
    Shared,
}

impl FsKind {
    /// The kind of the file system that holds `path`.
    ///
    /// # Errors
    /// I/O if the type of `path`'s file system cannot be read.
    pub fn of(path: &Path) -> Result<FsKind> {
        Ok(FsKind::and_needs_whole_syncs(path)?.0)
    }

    /// The kind, and whether syncing a directory must sync the whole file system. On ext file systems without a journal
    /// a directory's sync writes its entries, but not the inode of a symlink that was made in it (measured: power cuts
    /// lose claims). The same holds for an overlay whose upper directory is on such a file system, or on an unknown
    /// one: in a container, the host's paths mean nothing.
    ///
    /// # Errors
    /// I/O when `path` cannot be asked.
    pub(super) fn and_needs_whole_syncs(path: &Path) -> Result<(FsKind, bool)> {
        let kind = match magic(path)? {
            EXT if !has_journal(path)? => return Ok((FsKind::Local, true)),
            EXT | 0x5846_5342 => FsKind::Ordered,
            OVERLAY => {
                let upper = upper_directory(path).map(|upper| FsKind::and_needs_whole_syncs(&upper));
                // Not as ordered as the upper one: an overlay's own directories must be synced.
                return Ok((FsKind::Local, !matches!(upper, Some(Ok((FsKind::Ordered | FsKind::Local, false))))));
            }
            // btrfs, zfs, tmpfs, ramfs, f2fs, bcachefs, jfs, reiserfs
            0x9123_683E | 0x2FC1_2FC1 | 0x0102_1994 | 0x8584_58F6 | 0xF2F5_2010 | 0xCA45_1A4E | 0x3153_464A
            | 0x5265_4973 => FsKind::Local,
            _ => FsKind::Shared,
        };
        Ok((kind, false))
    }

    /// Whether only this host uses the file system.
    pub fn is_local(self) -> bool {
        self != FsKind::Shared
    }
}

/// The statfs type of ext2, ext3 and ext4.
const EXT: u32 = 0xEF53;
const OVERLAY: u32 = 0x794C_7630;

/// The directory where an overlay keeps the changes at `path`, if that is certain: the mount's options name its upper
/// directory, and that directory shows the same file. In another mount namespace the name may lead nowhere, or
/// elsewhere.
fn upper_directory(path: &Path) -> Option<PathBuf> {
    let path = std::fs::canonicalize(path).ok()?;
    let shown = std::fs::metadata(&path).ok()?;
    let table = std::fs::read(MOUNT_TABLE).ok()?;
    let (below, upper) = overlay_line(&table, libc::major(shown.dev()), libc::minor(shown.dev()), &path)?;
    let there = upper.join(below);
    let found = std::fs::symlink_metadata(&there).ok()?;
    let state =
        |m: &std::fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    (state(&found) == state(&shown) && found.is_dir()).then_some(there)
}

/// For the overlay with that device: `path` below its root, and its upper directory.
fn overlay_line(table: &[u8], major: u32, minor: u32, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let device = format!("{major}:{minor}");
    mount_entries(table).filter(|mount| mount.device == device && mount.kind == "overlay").find_map(|mount| {
        let upper = mount.values("upperdir").next()?;
        let below = path.strip_prefix(&mount.at).ok()?;
        let upper = PathBuf::from(OsString::from_vec(unescape(upper.as_bytes())));
        Some((mount.root.strip_prefix("/").ok()?.join(below), upper))
    })
}

fn magic(path: &Path) -> Result<u32> {
    let c = cstring(path);
    // SAFETY: statfs fills the zeroed struct; the path is a valid C string.
    unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        if libc::statfs(c.as_ptr(), &mut s) != 0 {
            return Err(Error::io("ask for the file system of", path, std::io::Error::last_os_error()));
        }
        Ok(s.f_type as u32)
    }
}

/// Whether the ext file system that holds `path` is known to have a journal: its thread is named below `/sys/fs/ext4`.
/// Unknown counts as none, which is the safe side.
fn has_journal(path: &Path) -> Result<bool> {
    let dev = std::fs::metadata(path).map_err(|e| Error::io("look at", path, e))?.dev();
    let device = std::fs::read_link(format!("/sys/dev/block/{}:{}", libc::major(dev), libc::minor(dev)));
    let task = device.ok().and_then(|d| {
        std::fs::read_to_string(Path::new("/sys/fs/ext4").join(d.file_name()?).join("journal_task")).ok()
    });
    Ok(task.is_some_and(|t| t.trim().parse::<u32>().is_ok()))
}

/// Bytes free for ordinary users on the file system of `path`, if known.
pub fn free_bytes(path: &Path) -> Option<u64> {
    Some(space(path).ok()?.available_bytes())
}

/// A path as a C string. Paths from `std` have no NUL; a path that has one is cut there.
fn cstring(path: &Path) -> CString {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).expect("cut before the first NUL")
}

/// The space of a file system, as statvfs reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Blocks in all, in units of `fragment_size`.
    pub blocks: u64,
    /// Blocks free.
    pub blocks_free: u64,
    /// Blocks free for ordinary users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes free.
    pub files_free: u64,
    /// The preferred size of a transfer.
    pub block_size: u32,
    /// The unit of the blocks.
    pub fragment_size: u32,
}

impl Space {
    /// Bytes free for ordinary users.
    pub fn available_bytes(&self) -> u64 {
        self.blocks_available.saturating_mul(self.fragment_size.into())
    }
}

/// The space of the file system that holds `path`.
///
/// # Errors
/// I/O if statvfs fails.
pub fn space(path: &Path) -> Result<Space> {
    let c = cstring(path);
    // SAFETY: statvfs fills the zeroed struct; the path is a valid C string.
    let s = unsafe {
        let mut s: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(c.as_ptr(), &mut s) != 0 {
            return Err(Error::io("ask for the space of", path, std::io::Error::last_os_error()));
        }
        s
    };
    Ok(Space {
        blocks: s.f_blocks,
        blocks_free: s.f_bfree,
        blocks_available: s.f_bavail,
        files: s.f_files,
        files_free: s.f_ffree,
        block_size: s.f_bsize as u32,
        fragment_size: s.f_frsize as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_of_an_overlay_is_read_from_the_mount_table() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     40 22 0:35 / /m/a\\040b rw,relatime shared:1 - overlay overlay \
                     rw,lowerdir=/l,upperdir=/u\\040p,workdir=/w\n\
                     41 22 0:35 /sub /n rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n\
                     42 22 0:36 / /ro ro - overlay overlay ro,lowerdir=/l:/k\n";
        let line = |major, minor, path: &str| overlay_line(table, major, minor, Path::new(path));
        assert_eq!(line(0, 35, "/m/a b/store"), Some(("store".into(), "/u p".into())));
        assert_eq!(line(0, 35, "/n/store"), Some(("sub/store".into(), "/u".into())));
        assert_eq!(line(0, 36, "/ro/store"), None);
        assert_eq!(line(8, 1, "/store"), None);
    }
}
