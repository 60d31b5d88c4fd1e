//! A directory by its descriptor. Its entries are listed, looked up and opened by name in this very directory, so that
//! a path component that becomes a symlink leads nowhere.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An open directory.
#[derive(Debug)]
pub struct DirHandle {
    fd: OwnedFd,
}

/// Whether a symlink in the last component is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// Not followed: an error if it would have to be opened.
    No,
    /// Followed.
    Yes,
}

/// What statx(2) returns for a file. Times are nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// Kind and permissions.
    pub mode: u32,
    /// The device number.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of the content; users can set it.
    pub mtime: i64,
    /// Time of the last change of content or inode; only the kernel sets it.
    pub ctime: i64,
    /// The mount it was reached through; 0 before Linux 5.8.
    pub mount: u64,
    /// Memory maps of it bypass the page cache.
    pub dax: bool,
}

impl FileStat {
    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// A symlink.
    pub fn is_symlink(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }
}

impl DirHandle {
    /// A handle for an open directory.
    pub(super) fn of(fd: OwnedFd) -> DirHandle {
        DirHandle { fd }
    }

    /// Opens a directory by its path; symlinks are followed.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<DirHandle> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        Ok(DirHandle { fd: open_at(libc::AT_FDCWD, &path, libc::O_DIRECTORY)? })
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// The system's; ENOTDIR or ELOOP for a symlink that is not followed.
    pub fn dir_at(&self, name: &CStr, follow: Follow) -> io::Result<DirHandle> {
        Ok(DirHandle { fd: open_at(self.fd.as_raw_fd(), name, libc::O_DIRECTORY | no_follow(follow))? })
    }

    /// Opens a file in this directory for reading, without waiting if it is a FIFO.
    ///
    /// # Errors
    /// The system's; ELOOP for a symlink that is not followed.
    pub fn file_at(&self, name: &CStr, follow: Follow) -> io::Result<File> {
        Ok(File::from(open_at(self.fd.as_raw_fd(), name, libc::O_NONBLOCK | no_follow(follow))?))
    }

    /// [`DirHandle::file_at`] for a file that is removed once it is read: where the user may do that, reading it does
    /// not set its access time, which would write its inode.
    ///
    /// # Errors
    /// The system's; ELOOP for a symlink that is not followed.
    pub fn file_at_before_removal(&self, name: &CStr, follow: Follow) -> io::Result<File> {
        let flags = libc::O_NONBLOCK | libc::O_NOATIME | no_follow(follow);
        match open_at(self.fd.as_raw_fd(), name, flags) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => self.file_at(name, follow),
            opened => Ok(File::from(opened?)),
        }
    }

    /// The attributes of this directory.
    ///
    /// # Errors
    /// The system's.
    pub fn stat(&self) -> io::Result<FileStat> {
        stat_at(self.fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// The attributes of `name` in this directory.
    ///
    /// # Errors
    /// The system's.
    pub fn stat_at(&self, name: &CStr, follow: Follow) -> io::Result<FileStat> {
        stat_at(self.fd.as_raw_fd(), name, if follow == Follow::Yes { 0 } else { libc::AT_SYMLINK_NOFOLLOW })
    }

    /// [`DirHandle::stat_at`] that asks the server of a network file system, instead of this host's attribute cache.
    ///
    /// # Errors
    /// The system's.
    pub fn stat_at_server(&self, name: &CStr, follow: Follow) -> io::Result<FileStat> {
        let flags = if follow == Follow::Yes { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        stat_at(self.fd.as_raw_fd(), name, flags | libc::AT_STATX_FORCE_SYNC)
    }

    /// The text of the symlink `name`.
    ///
    /// # Errors
    /// The system's; EINVAL if it is not a symlink.
    pub fn read_link_at(&self, name: &CStr) -> io::Result<Vec<u8>> {
        let mut text = vec![0u8; libc::PATH_MAX as usize + 1];
        // SAFETY: the buffer is exclusively borrowed and its length is passed.
        let n = unsafe { libc::readlinkat(self.fd.as_raw_fd(), name.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        text.truncate(usize::try_from(n).map_err(|_| io::Error::last_os_error())?);
        Ok(text)
    }

    /// Calls `each` for every name in the directory except `.` and `..`. Call it once for each handle: it continues
    /// where it ended.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self, each: &mut dyn FnMut(&CStr)) -> io::Result<()> {
        self.list_kinds(&mut |name, _| each(name))
    }

    /// [`DirHandle::list`] with the kind of each entry, such as `DT_DIR`; `DT_UNKNOWN` if the file system does not say.
    ///
    /// # Errors
    /// The system's.
    pub fn list_kinds(&self, each: &mut dyn FnMut(&CStr, u8)) -> io::Result<()> {
        /// struct linux_dirent64: inode, offset, length of the record (at 16), kind (at 18), name.
        const NAME: usize = 19;
        let mut buffer = vec![0u8; 1 << 15];
        loop {
            // SAFETY: the buffer is exclusively borrowed and its length is passed.
            let n =
                unsafe { libc::syscall(libc::SYS_getdents64, self.fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
            let n = match usize::try_from(n) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(_) => return Err(io::Error::last_os_error()),
            };
            let mut rest = &buffer[..n];
            while rest.len() > NAME {
                let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
                let (record, tail) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
                let name = record
                    .get(NAME..)
                    .and_then(|n| CStr::from_bytes_until_nul(n).ok())
                    .ok_or(io::ErrorKind::InvalidData)?;
                if !matches!(name.to_bytes(), b"." | b"..") {
                    each(name, record[NAME - 1]);
                }
                rest = tail;
            }
        }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The attributes of an open file.
///
/// # Errors
/// The system's.
pub fn stat_file(file: &File) -> io::Result<FileStat> {
    stat_at(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// A name as a path, for messages.
pub fn name_path(name: &CStr) -> PathBuf {
    OsString::from_vec(name.to_bytes().to_vec()).into()
}

fn no_follow(follow: Follow) -> libc::c_int {
    if follow == Follow::Yes { 0 } else { libc::O_NOFOLLOW }
}

/// Opens a file in an open directory, for reading if `flags` do not say more.
pub(super) fn open_at(dir: RawFd, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    loop {
        // SAFETY: a valid C string; nothing else owns the new descriptor.
        let fd = unsafe { libc::openat(dir, name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | flags) };
        if fd >= 0 {
            // SAFETY: as above.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

fn stat_at(dir: RawFd, name: &CStr, flags: libc::c_int) -> io::Result<FileStat> {
    // SAFETY: a valid C string; statx fills the zeroed struct.
    let (result, s) = unsafe {
        let mut s: libc::statx = std::mem::zeroed();
        let wanted = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
        (libc::statx(dir, name.as_ptr(), flags | libc::AT_NO_AUTOMOUNT, wanted, &mut s), s)
    };
    if result != 0 {
        let e = io::Error::last_os_error();
        // Linux before 4.11, and containers whose filter of system calls is older than statx.
        return if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
            old_stat_at(dir, name, flags)
        } else {
            Err(e)
        };
    }
    Ok(FileStat {
        mode: u32::from(s.stx_mode),
        dev: libc::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        size: s.stx_size,
        mtime: nanoseconds(s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec.into()),
        ctime: nanoseconds(s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec.into()),
        mount: if s.stx_mask & libc::STATX_MNT_ID != 0 { s.stx_mnt_id } else { 0 },
        dax: s.stx_attributes & libc::STATX_ATTR_DAX as u64 != 0,
    })
}

fn old_stat_at(dir: RawFd, name: &CStr, flags: libc::c_int) -> io::Result<FileStat> {
    // SAFETY: a valid C string; fstatat fills the zeroed struct.
    let (result, s) = unsafe {
        let mut s: libc::stat64 = std::mem::zeroed();
        (libc::fstatat64(dir, name.as_ptr(), &mut s, flags & (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)), s)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(FileStat {
        mode: s.st_mode,
        dev: s.st_dev,
        ino: s.st_ino,
        size: s.st_size as u64,
        mtime: nanoseconds(s.st_mtime, s.st_mtime_nsec),
        ctime: nanoseconds(s.st_ctime, s.st_ctime_nsec),
        mount: 0,
        dax: false,
    })
}

fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}
