//! System calls on an open file of a staging directory.

use super::{SetTime, Stat, check, timespec};
use std::fs::File;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// The attributes of an open file.
///
/// # Errors
/// I/O.
pub fn stat_open(file: &File) -> Result<Stat> {
    let mut out = MaybeUninit::<Stat>::uninit();
    // SAFETY: an open descriptor and room for the answer.
    check(unsafe { libc::fstat(file.as_raw_fd(), out.as_mut_ptr()) })?;
    // SAFETY: filled by the call.
    Ok(unsafe { out.assume_init() })
}

/// Makes an open file durable: its data, and unless `data_only` its times and other attributes.
///
/// # Errors
/// I/O.
pub fn sync_open(file: &File, data_only: bool) -> Result<()> {
    if data_only { file.sync_data() } else { file.sync_all() }
}

/// fallocate(2).
///
/// # Errors
/// I/O.
pub fn allocate(file: &File, mode: i32, offset: i64, length: i64) -> Result<()> {
    // SAFETY: an open descriptor.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) })
}

/// lseek(2) for data and holes.
///
/// # Errors
/// I/O.
pub fn seek(file: &File, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: an open descriptor.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    if at < 0 { Err(Error::last_os_error()) } else { Ok(at) }
}

/// copy_file_range(2) between two open files.
///
/// # Errors
/// I/O.
pub fn copy_range(from: &File, from_at: i64, to: &File, to_at: i64, length: usize) -> Result<usize> {
    let (mut a, mut b) = (from_at, to_at);
    // SAFETY: open descriptors, and offsets that live across the call.
    let n = unsafe { libc::copy_file_range(from.as_raw_fd(), &mut a, to.as_raw_fd(), &mut b, length, 0) };
    if n < 0 { Err(Error::last_os_error()) } else { Ok(n as usize) }
}

/// Sets an open file's length.
///
/// # Errors
/// I/O.
pub fn set_length(file: &File, size: u64) -> Result<()> {
    file.set_len(size)
}

/// Sets an open file's mode.
///
/// # Errors
/// I/O.
pub fn set_mode(file: &File, mode: u32) -> Result<()> {
    // SAFETY: an open descriptor.
    check(unsafe { libc::fchmod(file.as_raw_fd(), mode as libc::mode_t) })
}

/// Sets an open file's owner and group; `u32::MAX` keeps one.
///
/// # Errors
/// I/O.
pub fn set_owner(file: &File, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: an open descriptor.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) })
}

/// Sets an open file's times.
///
/// # Errors
/// I/O.
pub fn set_times_open(file: &File, accessed: Option<SetTime>, modified: Option<SetTime>) -> Result<()> {
    let times = [timespec(accessed), timespec(modified)];
    // SAFETY: an open descriptor and two times.
    check(unsafe { libc::futimens(file.as_raw_fd(), times.as_ptr()) })
}
