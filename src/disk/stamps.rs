//! When a file's time stamps show each change of its content, so that a file that looks as before need not be read
//! again.
//!
//! A change through write(2), truncate(2) and the like moves ctime on every file system that this list has. A store
//! through a shared map does so only in the file system's `page_mkwrite`, which the kernel calls for the first store
//! into a page that is clean. Later stores into that page move nothing until the kernel has written it back: for that
//! it marks the page clean and takes the write permission from every map. So a stat is proof only
//! 1. on a file system that does this. It is a list of those that are known to do so, not of exceptions: **ext2,
//!    ext3 and ext4** (`ext4_page_mkwrite`, `filemap_page_mkwrite`), **xfs** (`xfs_write_fault`), **btrfs**
//!    (`btrfs_page_mkwrite`), all by `file_update_time` before the page becomes dirty. **NFS** is on it under two
//!    conditions more: the server is asked anew, past the attributes this host has cached (a stat of a file that is
//!    dirty here flushes it first), and the last change is long past, since the server's clock and its own dirty
//!    pages are not seen from here. Not on it: tmpfs and ramfs (no `page_mkwrite`), FUSE (ours too; what the daemon
//!    says), squashfs, erofs, iso9660 (images with fixed times take each other's place), overlayfs (of whatever is
//!    below), zfs and cluster file systems (not looked into, not tested);
//! 2. of a file whose map had no writable page when it was read: no page was dirty or being written
//!    ([`pages_are_clean`]), or nobody had it open for writing, and so not mapped either ([`nobody_writes`]), or it
//!    is older than dirty pages get ([`oldest_dirty_page`]);
//! 3. that does not go past the page cache (DAX);
//! 4. whose ctime has a fraction of a second. Tools that build images with fixed times write whole seconds, and so do
//!    file systems that have no better ones (ext with inodes of 128 bytes), where two changes in one second look
//!    alike.
//!
//! What is left: a change that the kernel stamped and then held up, before the first byte reached the page cache, for
//! longer than callers leave between the stamp and the read; and a page that is the target of another file's direct
//! read (`get_user_pages`) at that moment.

use super::handle::{DirHandle, FileStat};
use crate::types::Digest;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// One file system, as far as stats of its files are proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Made of its UUID, or for NFS of its server and the server's id for it: another image at the same place is
    /// another volume. The device number is not in it, which the next mount may give to another one.
    pub id: u64,
    /// Other hosts change it too, and its attributes are cached.
    pub network: bool,
}

/// What statfs calls them.
const EXT: u32 = 0xEF53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683E;
const NFS: u32 = 0x6969;

/// The volume that holds an open directory; `None` where a stat is no proof. `stat` is the directory's.
pub fn volume(dir: &DirHandle, stat: &FileStat) -> Option<Volume> {
    // SAFETY: fstatfs fills the zeroed struct; the descriptor is open.
    let found = unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(dir.raw(), &mut s) != 0 {
            return None;
        }
        s
    };
    let kind = found.f_type as u32;
    // SAFETY: two integers, in C an array of two; it has no padding.
    let fsid: [u8; 8] = unsafe { std::mem::transmute(found.f_fsid) };
    let identity = match kind {
        // ext derives f_fsid from the UUID, btrfs from the UUID and the subvolume, xfs from the device number.
        EXT => uuid(dir).map(Vec::from).or_else(|| (fsid != [0; 8]).then(|| fsid.to_vec())),
        BTRFS => Some([&fsid[..], &uuid(dir).unwrap_or_default()].concat()).filter(|_| fsid != [0; 8]),
        XFS => uuid(dir).or_else(|| xfs_uuid(dir)).map(Vec::from),
        NFS => {
            let text = std::fs::read_to_string("/proc/fs/nfsfs/volumes").ok()?;
            nfs_identity(&text, libc::major(stat.dev), libc::minor(stat.dev)).map(String::into_bytes)
        }
        _ => None,
    }?;
    let digest = Digest::of(&[&kind.to_le_bytes()[..], &identity].concat());
    Some(Volume { id: u64::from_le_bytes(digest.0[..8].try_into().ok()?), network: kind == NFS })
}

/// A file system's UUID, where the kernel tells it to everyone (since Linux 6.9).
fn uuid(dir: &DirHandle) -> Option<[u8; 16]> {
    #[repr(C)]
    struct Uuid {
        len: u8,
        uuid: [u8; 16],
    }
    let mut found = Uuid { len: 0, uuid: [0; 16] };
    // SAFETY: FS_IOC_GETFSUUID fills this struct.
    let result = unsafe { libc::ioctl(dir.raw(), libc::_IOR::<Uuid>(0x15, 0), &mut found) };
    (result == 0 && found.len == 16 && found.uuid != [0; 16]).then_some(found.uuid)
}

/// The same of xfs, by its own ioctl, which is older.
fn xfs_uuid(dir: &DirHandle) -> Option<[u8; 16]> {
    /// struct xfs_fsop_geom_v1.
    #[repr(C)]
    struct Geometry {
        sizes: [u32; 8],
        blocks: [u64; 4],
        uuid: [u8; 16],
        more: [u32; 8],
    }
    let mut found = Geometry { sizes: [0; 8], blocks: [0; 4], uuid: [0; 16], more: [0; 8] };
    // SAFETY: XFS_IOC_FSGEOMETRY_V1 fills this struct.
    let result = unsafe { libc::ioctl(dir.raw(), libc::_IOR::<Geometry>(u32::from(b'X'), 100), &mut found) };
    (result == 0 && found.uuid != [0; 16]).then_some(found.uuid)
}

/// The server of an NFS mount and its id for the file system, from `/proc/fs/nfsfs/volumes`: `NV SERVER PORT DEV FSID
/// FSC`.
fn nfs_identity(volumes: &str, major: u32, minor: u32) -> Option<String> {
    let dev = format!("{major}:{minor}");
    volumes.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (server, port, fsid) = (fields.get(1)?, fields.get(2)?, fields.get(4)?);
        (fields.get(3) == Some(&dev.as_str()) && *fsid != "0:0").then(|| format!("{server} {port} {fsid}"))
    })
}

/// Whether no page of a file is dirty or being written. `None` where the kernel does not tell: cachestat(2) came with
/// Linux 6.5, and newer kernels answer only those who own the file or may write to it.
pub fn pages_are_clean(file: &File) -> Option<bool> {
    const SYS_CACHESTAT: libc::c_long = 451; // the same number everywhere but on alpha
    if cfg!(target_arch = "mips") || cfg!(target_arch = "mips64") {
        return None;
    }
    let range = [0u64, 0]; // all of it
    let mut found = [0u64; 5]; // cached, dirty, being written, evicted, recently evicted
    // SAFETY: both structs consist of these integers; cachestat reads the one and fills the other.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), found.as_mut_ptr(), 0) };
    (result == 0).then(|| found[1] == 0 && found[2] == 0)
}

/// Whether nobody has a file of a local file system open for writing, whose shared maps keep it open. `false` too
/// where it cannot be told: a lease is the owner's to take. Whoever opens it for writing in this moment waits for it
/// to be over.
pub fn nobody_writes(file: &File) -> bool {
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // SAFETY: an open descriptor; no memory is involved. Who comes meanwhile is made known by SIGURG, which does
    // nothing unless it is caught: the SIGIO that it would be without ends the process.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) == 0
    }
}

/// How old the oldest dirty page of this host may be, in nanoseconds: what is older has been written back. Twice what
/// the kernel aims at, since disks can be slow. `None` when it writes nothing back by itself, or does not say.
pub fn oldest_dirty_page() -> Option<i64> {
    static AGE: OnceLock<Option<i64>> = OnceLock::new();
    let setting = |name| std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse::<i64>().ok();
    *AGE.get_or_init(|| {
        let (expire, interval) = (setting("dirty_expire_centisecs")?, setting("dirty_writeback_centisecs")?);
        (interval > 0).then(|| 2 * (expire + interval) * 10_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_nfs_volume_is_its_server_and_the_servers_id() {
        let text = "NV SERVER   PORT DEV          FSID                              FSC\n\
                    v4 0a000001  801 0:52         8f3e11c2d4a7:9b20                 no\n\
                    v3 0a000002  801 0:53         0:0                               no\n";
        assert_eq!(nfs_identity(text, 0, 52).as_deref(), Some("0a000001 801 8f3e11c2d4a7:9b20"));
        assert_eq!(nfs_identity(text, 0, 53), None, "an id of zero names nothing");
        assert_eq!(nfs_identity(text, 0, 54), None);
    }

    #[test]
    fn a_file_that_is_open_for_writing_or_mapped_has_a_writer() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello").unwrap();
        let reader = File::open(file.path()).unwrap();
        assert!(!nobody_writes(&reader), "open for writing");
        // SAFETY: nobody cuts the file.
        let map = unsafe { memmap2::MmapMut::map_mut(file.as_file()) }.unwrap();
        let path = file.into_temp_path(); // closes it
        assert!(!nobody_writes(&reader), "mapped");
        drop(map);
        let local = super::super::FsKind::of(&path).unwrap().is_local();
        assert!(nobody_writes(&reader) || !local);
    }

    #[test]
    fn pages_are_clean_after_a_sync() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let dir = DirHandle::open(file.path().parent().unwrap()).unwrap();
        if volume(&dir, &dir.stat().unwrap()).is_none() {
            return; // on a tmpfs, say, no page is ever written back
        }
        file.write_all(b"hello").unwrap();
        file.as_file().sync_all().unwrap();
        assert_ne!(pages_are_clean(file.as_file()), Some(false));
        file.write_all(b"hello").unwrap();
        assert_ne!(pages_are_clean(file.as_file()), Some(true));
    }
}
