//! A directory whose contents users change through this process: the system calls of a staging mount, each on a path
//! below one open directory.
//!
//! These changes are the users', not the store's, so no step is counted. Paths come from the mount's own table, part by
//! part, so none leads out, and only the last part can be a symlink. An empty path is the open file itself: a file or
//! directory that is kept open (`Backing::keep`) can be used after its last name is gone.

mod open_file;
mod stream;

pub use open_file::{
    allocate, copy_range, seek, set_length, set_mode, set_owner, set_times_open, stat_open, sync_open,
};
pub use stream::{DirEntry, DirStream};

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// An open directory with everything below it; or any file, kept by a descriptor that cannot read or write.
#[derive(Debug)]
pub struct Backing {
    root: OwnedFd,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub enum SetTime {
    /// Now.
    Now,
    /// Seconds and nanoseconds since 1970.
    At(i64, i64),
}

/// The attributes of a name; a symlink is not followed.
pub type Stat = libc::stat;

/// The user who asked: new entries belong to that user, if this process can arrange that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

fn check(result: libc::c_int) -> Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

fn text(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn is_itself(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// The flags that `*at` calls need for a path that may be empty.
fn empty_flag(path: &Path) -> libc::c_int {
    libc::AT_SYMLINK_NOFOLLOW | if is_itself(path) { libc::AT_EMPTY_PATH } else { 0 }
}

impl Backing {
    /// Opens a directory.
    ///
    /// # Errors
    /// I/O.
    pub fn open(path: &Path) -> Result<Backing> {
        let path = text(path)?;
        // SAFETY: a valid C string; the descriptor is owned from here on.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_RDONLY) };
        check(fd)?;
        // SAFETY: just opened.
        Ok(Backing { root: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    fn fd(&self) -> libc::c_int {
        self.root.as_raw_fd()
    }

    /// Keeps the file at `path` (a symlink itself, too): it can be used by an empty path as long as this value lives,
    /// with or without a name. This needs only permission to reach it.
    ///
    /// # Errors
    /// I/O.
    pub fn keep(&self, path: &Path) -> Result<Backing> {
        let path = text(path)?;
        // SAFETY: a valid C string; the descriptor is owned from here on.
        let fd = unsafe { libc::openat(self.fd(), path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) };
        check(fd)?;
        // SAFETY: just opened.
        Ok(Backing { root: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// # Errors
    /// I/O.
    pub fn stat(&self, path: &Path) -> Result<Stat> {
        let (path, flags) = (text(path)?, empty_flag(path));
        let mut out = MaybeUninit::<Stat>::uninit();
        // SAFETY: a valid C string and room for the answer.
        check(unsafe { libc::fstatat(self.fd(), path.as_ptr(), out.as_mut_ptr(), flags) })?;
        // SAFETY: filled by the call.
        Ok(unsafe { out.assume_init() })
    }

    /// access(2) with this process's rights, for a file or a symlink itself.
    ///
    /// # Errors
    /// I/O; EACCES if it may not.
    pub fn access(&self, path: &Path, mode: i32) -> Result<()> {
        let (path, flags) = (text(path)?, empty_flag(path) | libc::AT_EACCESS);
        // SAFETY: a valid C string.
        check(unsafe { libc::faccessat(self.fd(), path.as_ptr(), mode, flags) })
    }

    /// Opens a file or directory; a symlink is not followed. The flags may contain `O_CREAT` and `O_EXCL`.
    ///
    /// # Errors
    /// I/O.
    pub fn open_at(&self, path: &Path, flags: i32, mode: u32) -> Result<File> {
        let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        let (path, flags) = match is_itself(path) {
            false => (text(path)?, flags | libc::O_NOFOLLOW),
            true if flags & libc::O_DIRECTORY != 0 => (c".".to_owned(), flags),
            // A descriptor's link in /proc leads to the file itself, so the file is not a symlink.
            true => (self.through_proc(path)?, flags & !(libc::O_CREAT | libc::O_EXCL)),
        };
        // SAFETY: a valid C string; the descriptor is owned from here on.
        let fd = unsafe { libc::openat(self.fd(), path.as_ptr(), flags, mode as libc::mode_t) };
        check(fd)?;
        // SAFETY: just opened.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    /// # Errors
    /// I/O.
    pub fn mkdir(&self, path: &Path, mode: u32) -> Result<()> {
        let path = text(path)?;
        // SAFETY: a valid C string.
        check(unsafe { libc::mkdirat(self.fd(), path.as_ptr(), mode as libc::mode_t) })
    }

    /// # Errors
    /// I/O.
    pub fn mknod(&self, path: &Path, mode: u32, device: u64) -> Result<()> {
        let path = text(path)?;
        // SAFETY: a valid C string.
        check(unsafe { libc::mknodat(self.fd(), path.as_ptr(), mode as libc::mode_t, device) })
    }

    /// # Errors
    /// I/O.
    pub fn symlink(&self, target: &OsStr, path: &Path) -> Result<()> {
        let (target, path) = (CString::new(target.as_bytes())?, text(path)?);
        // SAFETY: valid C strings.
        check(unsafe { libc::symlinkat(target.as_ptr(), self.fd(), path.as_ptr()) })
    }

    /// # Errors
    /// I/O.
    pub fn read_link(&self, path: &Path) -> Result<OsString> {
        let path = text(path)?;
        let mut out = vec![0u8; libc::PATH_MAX as usize];
        // SAFETY: a valid C string and room for that many bytes.
        let n = unsafe { libc::readlinkat(self.fd(), path.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        if n < 0 {
            return Err(Error::last_os_error());
        }
        out.truncate(n as usize);
        Ok(OsString::from_vec(out))
    }

    /// Removes a file, or with `directory` an empty directory.
    ///
    /// # Errors
    /// I/O.
    pub fn unlink(&self, path: &Path, directory: bool) -> Result<()> {
        let path = text(path)?;
        // SAFETY: a valid C string.
        check(unsafe { libc::unlinkat(self.fd(), path.as_ptr(), if directory { libc::AT_REMOVEDIR } else { 0 }) })
    }

    /// renameat2(2), to a path below `other`.
    ///
    /// # Errors
    /// I/O.
    pub fn rename(&self, from: &Path, other: &Backing, to: &Path, flags: u32) -> Result<()> {
        let (from, to) = (text(from)?, text(to)?);
        // SAFETY: valid C strings.
        check(unsafe { libc::renameat2(self.fd(), from.as_ptr(), other.fd(), to.as_ptr(), flags) })
    }

    /// Creates another name for a file, below `other`.
    ///
    /// # Errors
    /// I/O.
    pub fn link(&self, from: &Path, other: &Backing, to: &Path) -> Result<()> {
        let (old, flags) = match is_itself(from) {
            true => (self.through_proc(from)?, libc::AT_SYMLINK_FOLLOW),
            false => (text(from)?, 0),
        };
        let to = text(to)?;
        // SAFETY: valid C strings.
        check(unsafe { libc::linkat(self.fd(), old.as_ptr(), other.fd(), to.as_ptr(), flags) })
    }

    /// Sets the mode of a file or directory; it must not be a symlink.
    ///
    /// # Errors
    /// I/O.
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        let path = if is_itself(path) { self.through_proc(path)? } else { text(path)? };
        // SAFETY: a valid C string.
        check(unsafe { libc::fchmodat(self.fd(), path.as_ptr(), mode as libc::mode_t, 0) })
    }

    /// Sets owner and group; `u32::MAX` keeps one.
    ///
    /// # Errors
    /// I/O.
    pub fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        let (path, flags) = (text(path)?, empty_flag(path));
        // SAFETY: a valid C string.
        check(unsafe { libc::fchownat(self.fd(), path.as_ptr(), uid, gid, flags) })
    }

    /// Sets access and modification time.
    ///
    /// # Errors
    /// I/O.
    pub fn set_times(&self, path: &Path, accessed: Option<SetTime>, modified: Option<SetTime>) -> Result<()> {
        let (path, flags) = (text(path)?, empty_flag(path));
        let times = [timespec(accessed), timespec(modified)];
        // SAFETY: a valid C string and two times.
        check(unsafe { libc::utimensat(self.fd(), path.as_ptr(), times.as_ptr(), flags) })
    }

    /// The name of a path for calls without an `at` form: through this process's descriptor, with no other symlink.
    fn through_proc(&self, path: &Path) -> Result<CString> {
        let mut out = format!("/proc/self/fd/{}", self.fd()).into_bytes();
        if !is_itself(path) {
            out.push(b'/');
            out.extend_from_slice(path.as_os_str().as_bytes());
        }
        Ok(CString::new(out)?)
    }

    /// # Errors
    /// I/O.
    pub fn set_xattr(&self, path: &Path, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        let itself = is_itself(path);
        let (path, name) = (self.through_proc(path)?, CString::new(name.as_bytes())?);
        // SAFETY: valid C strings, and a value of that length.
        check(unsafe {
            match itself {
                true => libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags),
                false => libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags),
            }
        })
    }

    /// # Errors
    /// I/O; ENODATA when there is none.
    pub fn get_xattr(&self, path: &Path, name: &OsStr) -> Result<Vec<u8>> {
        let itself = is_itself(path);
        let (path, name) = (self.through_proc(path)?, CString::new(name.as_bytes())?);
        // SAFETY: valid C strings, and room for that many bytes.
        grown(|out| unsafe {
            match itself {
                true => libc::getxattr(path.as_ptr(), name.as_ptr(), out.as_mut_ptr().cast(), out.len()),
                false => libc::lgetxattr(path.as_ptr(), name.as_ptr(), out.as_mut_ptr().cast(), out.len()),
            }
        })
    }

    /// The names of all attributes, each ended by a zero byte.
    ///
    /// # Errors
    /// I/O.
    pub fn list_xattr(&self, path: &Path) -> Result<Vec<u8>> {
        let itself = is_itself(path);
        let path = self.through_proc(path)?;
        // SAFETY: a valid C string, and room for that many bytes.
        grown(|out| unsafe {
            match itself {
                true => libc::listxattr(path.as_ptr(), out.as_mut_ptr().cast(), out.len()),
                false => libc::llistxattr(path.as_ptr(), out.as_mut_ptr().cast(), out.len()),
            }
        })
    }

    /// # Errors
    /// I/O.
    pub fn remove_xattr(&self, path: &Path, name: &OsStr) -> Result<()> {
        let itself = is_itself(path);
        let (path, name) = (self.through_proc(path)?, CString::new(name.as_bytes())?);
        // SAFETY: valid C strings.
        check(unsafe {
            match itself {
                true => libc::removexattr(path.as_ptr(), name.as_ptr()),
                false => libc::lremovexattr(path.as_ptr(), name.as_ptr()),
            }
        })
    }

    /// The file system's space.
    ///
    /// # Errors
    /// I/O.
    pub fn room(&self) -> Result<libc::statvfs> {
        let mut out = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: an open descriptor and room for the answer.
        check(unsafe { libc::fstatvfs(self.fd(), out.as_mut_ptr()) })?;
        // SAFETY: filled by the call.
        Ok(unsafe { out.assume_init() })
    }
}

/// Calls with a larger buffer until the answer fits.
fn grown(call: impl Fn(&mut Vec<u8>) -> libc::ssize_t) -> Result<Vec<u8>> {
    let mut out = vec![0u8; 1024];
    loop {
        match call(&mut out) {
            n if n >= 0 => {
                out.truncate(n as usize);
                return Ok(out);
            }
            _ => {
                let e = Error::last_os_error();
                if e.raw_os_error() != Some(libc::ERANGE) || out.len() > 1 << 20 {
                    return Err(e);
                }
                out = vec![0u8; out.len() * 8];
            }
        }
    }
}

fn timespec(time: Option<SetTime>) -> libc::timespec {
    match time {
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        Some(SetTime::Now) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        Some(SetTime::At(seconds, nanos)) => libc::timespec { tv_sec: seconds, tv_nsec: nanos },
    }
}

/// Runs `work` with this thread's file system user and group set to the caller's, if this process is root. If that user
/// may not, though the kernel allowed the request (by a supplementary group, which is not known here), it runs as root,
/// and `own` gives the result to the caller.
///
/// # Errors
/// Those of `work` and `own`.
pub fn with_fs_credentials<T>(
    caller: Caller,
    work: impl Fn() -> Result<T>,
    own: impl Fn(&T) -> Result<()>,
) -> Result<T> {
    // SAFETY: geteuid cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root || (caller.uid == 0 && caller.gid == 0) {
        return work();
    }
    set_fs_ids(caller.uid, caller.gid);
    let done = work();
    set_fs_ids(0, 0);
    match done {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            let made = work()?;
            own(&made)?;
            Ok(made)
        }
        other => other,
    }
}

/// Changes this thread alone: these are the system calls, not the C library's functions. The order of group and user
/// does not matter here, because the needed capabilities stay permitted.
fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: no memory is involved; their failure cannot be observed.
    unsafe {
        if uid == 0 {
            libc::syscall(libc::SYS_setfsuid, uid);
            libc::syscall(libc::SYS_setfsgid, gid);
        } else {
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        }
    }
}
