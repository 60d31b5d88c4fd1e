//! When a file's time stamps prove that its content is unchanged, so that it need not be read again.
//!
//! A change through write(2), truncate(2) or a similar call moves ctime on every file system of this list. A store
//! through a shared map does so only in the file system's `page_mkwrite`, which the kernel calls for the first store
//! into a clean page. Later stores into that page move nothing until the kernel has written it back: for that it marks
//! the page clean and removes the write permission from every map. So a stat is proof only
//! 1. on a file system that does this. The list names file systems that are known to: **ext2, ext3 and ext4**
//!    (`ext4_page_mkwrite`, `filemap_page_mkwrite`), **xfs** (`xfs_write_fault`) and **btrfs** (`btrfs_page_mkwrite`),
//!    all by `file_update_time` before the page becomes dirty. **NFS** is on it under three more conditions: the server
//!    is asked again, past this host's attribute cache (a stat of a file that is dirty here flushes it first); the
//!    last change is long past, since the server's clock and its own dirty pages are not visible here; and the bytes
//!    were read from the server ([`read_from_server`]). Not on it: tmpfs and ramfs (no `page_mkwrite`), FUSE (also
//!    ours; its daemon decides), squashfs, erofs, iso9660 (images with fixed times replace each other), overlayfs
//!    (depends on the lower file system), zfs and cluster file systems (not examined);
//! 2. of a file whose map had no writable page when it was read: no page was dirty or under writeback
//!    ([`pages_are_clean`]), or no process had it open for writing, and so mapped ([`has_no_writer`]), or its last
//!    change is older than a dirty page can be ([`max_dirty_page_age`]);
//! 3. that does not bypass the page cache (DAX);
//! 4. whose ctime has a fraction of a second. Tools that build images with fixed times write whole seconds. So do file
//!    systems with stamps of one second (ext with inodes of 128 bytes), where two changes in one second look alike.
//!
//! Not covered: a change that the kernel stamped and then delayed, before its first byte reached the page cache, for
//! longer than callers wait between the stamp and the read; and a page that is the target of another file's direct
//! read (`get_user_pages`) at that moment.

use super::handle::{DirHandle, FileStat};
use crate::types::Digest;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// One file system, for which stats of files can be proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Made from its UUID, or for NFS from its server and the server's id for it: another image at the same place is
    /// another volume. It does not contain the device number, which the next mount may reuse.
    pub id: u64,
    /// Other hosts change it too, and its attributes are cached here.
    pub network: bool,
}

/// Their statfs types.
const EXT: u32 = 0xEF53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683E;
const NFS: u32 = 0x6969;

/// The volume of an open directory; `None` if a stat is not proof there. `stat` is the directory's.
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

/// A file system's UUID, if the kernel shows it to every user (since Linux 6.9).
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

/// The UUID of xfs, by its own, older ioctl.
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

/// Whether no page of a file is dirty or under writeback. `None` if the kernel does not say: cachestat(2) came with
/// Linux 6.5, and newer kernels answer only a user who owns the file or may write to it.
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

/// Whether no process has a file of a local file system open for writing (a shared map keeps it open). `false` also if
/// that is unknown: only the owner can take a lease. A process that opens the file for writing at this moment waits
/// until the check is over.
pub fn has_no_writer(file: &File) -> bool {
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // SAFETY: an open descriptor; no memory is involved. SIGURG announces a process that opens the file meanwhile; it
    // does nothing unless it is caught. The default, SIGIO, would end this process.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) == 0
    }
}

/// From now on, reads of a file on NFS get its bytes from the server. `false` where that is not possible.
///
/// A client that has a file open for writing keeps its cached pages when another host changes the file, and shows them
/// with the new ctime. Bytes from its cache don't prove what the file had at that ctime.
pub fn read_from_server(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: an open descriptor; no memory is involved.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags != -1 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_DIRECT) == 0
    }
}

/// The highest age of a dirty page on this host, in nanoseconds: older changes have been written back. Twice the
/// kernel's aim, since disks can be slow. `None` if the kernel does not write back by itself, or does not say.
pub fn max_dirty_page_age() -> Option<i64> {
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
        assert!(!has_no_writer(&reader), "open for writing");
        // SAFETY: nothing truncates the file.
        let map = unsafe { memmap2::MmapMut::map_mut(file.as_file()) }.unwrap();
        let path = file.into_temp_path(); // closes it
        assert!(!has_no_writer(&reader), "mapped");
        drop(map);
        let local = super::super::FsKind::of(&path).unwrap().is_local();
        assert!(has_no_writer(&reader) || !local);
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
