//! Files outside stores: devices, logs, the kernel's settings. Their changes are not counted as steps, since no store
//! depends on them. Also the system calls, missing in `std`, that the counted steps use.

use super::umask::{self, Access};
use crate::error::{Error, Result};
use crate::types::Token;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Opens a device for reading and writing.
///
/// # Errors
/// The system's, without context: callers give it a meaning.
pub fn open_device(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens a log for appending; creates a missing one.
///
/// # Errors
/// I/O.
pub fn open_log(path: &Path) -> Result<File> {
    let mode = Access::Umask.wanted(0o666, umask::of_the_user());
    OpenOptions::new().append(true).create(true).mode(mode).open(path).map_err(|e| Error::io("open", path, e))
}

/// A temporary file without a name on the file system of `dir`. Nothing of it is left when the process ends.
///
/// # Errors
/// The system's, without context.
pub fn unnamed_file(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOSYS)) => {
            let path = dir.join(format!(".spool-{}", Token::fresh()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        opened => opened,
    }
}

/// Writes a kernel setting below `/sys` or `/proc`.
///
/// # Errors
/// The system's, without context.
pub fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    std::fs::write(path, value)
}

/// Creates a directory to mount over, with those above it except the first.
///
/// # Errors
/// The system's, without context; an existing one is an error too.
pub fn create_mount_place(path: &Path) -> io::Result<()> {
    if let Some(base) = path.parent()
        && !base.is_dir()
    {
        std::fs::DirBuilder::new()
            .mode(Access::Umask.wanted(0o755, umask::of_the_user()))
            .create(base)
            .or_else(|e| if base.is_dir() { Ok(()) } else { Err(e) })?;
    }
    std::fs::DirBuilder::new().mode(Access::Umask.wanted(0o755, umask::of_the_user())).create(path)
}

/// Removes a directory that was mounted over, if it is empty.
///
/// # Errors
/// The system's, without context.
pub fn remove_mount_place(path: &Path) -> io::Result<()> {
    std::fs::remove_dir(path)
}

/// Gives an open file another name.
pub(super) fn link_descriptor(file: &File, to: &Path) -> io::Result<()> {
    let from = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(to.as_os_str()))?;
    // SAFETY: valid C strings.
    let result =
        unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Renames, unless `to` exists.
pub(super) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let text = |path: &Path| std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    let (from, to) = (text(from)?, text(to)?);
    // SAFETY: valid C strings.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::RENAME_NOREPLACE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes a file of an open directory.
pub(super) fn remove_in(directory: &File, name: &std::ffi::OsStr) -> io::Result<()> {
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    // SAFETY: an open descriptor and a valid C string.
    let removed = unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) };
    if removed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a file's modification time.
pub(super) fn set_mtime(path: &Path, seconds: i64, nanos: i64) -> io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    let times =
        [libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT }, libc::timespec { tv_sec: seconds, tv_nsec: nanos }];
    // SAFETY: a valid C string and two times.
    let result = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an open file's access and modification time.
pub(super) fn set_open_mtime(file: &File, seconds: i64) -> io::Result<()> {
    let at = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    // SAFETY: the descriptor is open; the array lives across the call.
    if unsafe { libc::futimens(file.as_raw_fd(), [at, at].as_ptr()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether this process may create entries in a directory, by its effective user and groups.
///
/// # Errors
/// The system's, without context: that it may not, or that the directory cannot be examined.
pub fn may_write(dir: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()))?;
    // SAFETY: a valid C string.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit of open files to `most`, as far as the hard limit allows.
pub fn raise_open_files_limit(most: u64) {
    // SAFETY: the struct is filled by getrlimit before it is read.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max.min(most) {
            limit.rlim_cur = limit.rlim_max.min(most);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The limit of open files of this process.
pub fn open_files_limit() -> usize {
    // SAFETY: the struct is filled by getrlimit before it is read.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 { limit.rlim_cur as usize } else { 1024 }
    }
}
