//! A file that is being written, in counted steps; [`Disk`](super::Disk) makes it durable; at the end it is read-only.

use super::explain::failed_with;
use super::fault;
use super::reserve::Reserve;
use crate::error::{Error, Result};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that this process created and has open for reading and writing. Its steps go to the open file, wherever its
/// name leads by now: so they need no check of the path, which its creation passed.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    /// What is used if a write finds no space.
    reserve: Option<Arc<Reserve>>,
}

impl NewFile {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        NewFile { file, path, reserve: None }
    }

    pub(super) fn use_reserve(&mut self, reserve: Option<Arc<Reserve>>) {
        self.reserve = reserve;
    }

    /// The open file, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name under which it was created.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A counted step of this open file.
    pub(super) fn step(&self, action: &str) -> Result<()> {
        fault::step().map_err(|e| Error::io(action, &self.path, e))
    }

    /// Appends bytes at the file's position.
    ///
    /// # Errors
    /// I/O.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.step("write")?;
        self.write_or_use_reserve(bytes).map_err(|e| failed_with("write", &self.path, e, Some(bytes.len() as u64)))
    }

    fn write_or_use_reserve(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut rest, mut has_released) = (bytes, false);
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if !has_released && self.reserve.as_ref().is_some_and(|r| r.release_after(&e)) => {
                    has_released = true;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes bytes at `offset`.
    ///
    /// # Errors
    /// I/O.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.step("write")?;
        let needed = Some(bytes.len() as u64);
        self.file.write_all_at(bytes, offset).map_err(|e| failed_with("write", &self.path, e, needed))
    }

    /// Writes bytes at `offset` without counting a step: for a lock's heartbeat, which changes with time and decides
    /// nothing.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn write_at_uncounted(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Sends writes to the disk, or to the server of a shared one, without counting a step: for a lock's heartbeat. A
    /// failure concerns only that heartbeat.
    pub(crate) fn write_through_uncounted(&self) {
        let _ = self.file.sync_data();
    }

    /// Sets the length; new bytes read as zeros and take no space.
    ///
    /// # Errors
    /// I/O.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.step("set the length of")?;
        self.file.set_len(len).map_err(|e| Error::io("set the length of", &self.path, e))
    }

    /// Shares `source`'s blocks with this file (FICLONE). `false` if the file system cannot.
    ///
    /// # Errors
    /// I/O other than "not possible here".
    pub fn reflink_from(&self, source: &File) -> Result<bool> {
        self.step("reflink to")?;
        // SAFETY: both descriptors are open; FICLONE takes the source descriptor by value.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), libc::FICLONE as _, source.as_raw_fd()) } == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(
                libc::EOPNOTSUPP
                | libc::ENOTTY
                | libc::EXDEV
                | libc::EINVAL
                | libc::ENOSYS
                | libc::EPERM
                | libc::ETXTBSY,
            ) => Ok(false),
            _ => Err(failed_with("reflink to", &self.path, e, None)),
        }
    }

    /// Copies `len` bytes from `source` at the same offset inside the kernel. Returns how many were copied, 0 if that
    /// is not possible.
    ///
    /// # Errors
    /// I/O other than "not possible here".
    pub fn copy_range_from(&self, source: &File, offset: u64, len: usize) -> Result<usize> {
        self.copy_part_from(source, offset, offset, len)
    }

    /// As [`NewFile::copy_range_from`], to another offset.
    ///
    /// # Errors
    /// As [`NewFile::copy_range_from`].
    pub fn copy_part_from(&self, source: &File, offset: u64, to: u64, len: usize) -> Result<usize> {
        self.step("copy to")?;
        let (mut from, mut to) = (offset as libc::off64_t, to as libc::off64_t);
        // SAFETY: both descriptors are open and the offsets live across the call.
        let n = unsafe { libc::copy_file_range(source.as_raw_fd(), &mut from, self.file.as_raw_fd(), &mut to, len, 0) };
        if n >= 0 {
            return Ok(n as usize);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EXDEV | libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::ETXTBSY) => Ok(0),
            _ => Err(failed_with("copy to", &self.path, e, Some(len as u64))),
        }
    }

    /// Asks the kernel to start writing out a range (everything from `offset` if `len` is 0), so that a later sync
    /// waits less. Only a hint: it never fails.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        // SAFETY: the descriptor is open.
        unsafe {
            libc::sync_file_range(self.file.as_raw_fd(), offset as i64, len as i64, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    /// Starts to write out all of the file and waits for that. It makes nothing durable. A later sync then waits only
    /// for the file system's own records, so several files share one commit of the journal.
    ///
    /// # Errors
    /// A failed write-back: no later sync of this descriptor reports it again. Where the call does not exist, nothing
    /// is waited for.
    pub(super) fn write_out(&self) -> io::Result<()> {
        let whole = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: the descriptor is open.
        if unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, whole) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::ESPIPE)) => Ok(()),
            e => Err(e),
        }
    }

    /// Sets the modification time, in seconds since 1970.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mtime(&self, seconds: i64) -> Result<()> {
        self.step("set the time of")?;
        super::untracked::set_open_mtime(&self.file, seconds).map_err(|e| Error::io("set the time of", &self.path, e))
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        self.step("set the mode of")?;
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(|e| Error::io("set the mode of", &self.path, e))
    }
}
