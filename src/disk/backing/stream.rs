//! Listing a directory at any position.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A directory that is being listed. Positions are the file system's own, and stay valid while entries come and go.
pub struct DirStream {
    stream: *mut libc::DIR,
    at: i64,
}

impl std::fmt::Debug for DirStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirStream").finish_non_exhaustive()
    }
}

// SAFETY: a stream may be used by any thread, one at a time, which `&mut` sees to.
unsafe impl Send for DirStream {}

/// One entry of a listing.
#[derive(Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: OsString,
    /// Its inode.
    pub ino: u64,
    /// `DT_REG` or another type; `DT_UNKNOWN` if the file system does not say.
    pub kind: u8,
    /// The position after this entry.
    pub next: i64,
}

impl DirStream {
    /// Lists an open directory.
    ///
    /// # Errors
    /// I/O.
    pub fn of(directory: File) -> Result<DirStream> {
        use std::os::fd::IntoRawFd;
        let fd = directory.into_raw_fd();
        // SAFETY: an open descriptor, which the stream owns from here on.
        let stream = unsafe { libc::fdopendir(fd) };
        if stream.is_null() {
            let e = Error::last_os_error();
            // SAFETY: the stream did not take it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return Err(e);
        }
        Ok(DirStream { stream, at: 0 })
    }

    /// The entry at `offset`: 0, or the `next` of an earlier entry. `None` at the end.
    ///
    /// # Errors
    /// I/O.
    pub fn read(&mut self, offset: i64) -> Result<Option<DirEntry>> {
        // SAFETY: the stream is open; the entry is copied before the next call.
        unsafe {
            if offset == 0 && self.at != 0 {
                libc::rewinddir(self.stream);
            } else if offset != self.at {
                libc::seekdir(self.stream, offset);
            }
            *libc::__errno_location() = 0;
            let entry = libc::readdir64(self.stream);
            if entry.is_null() {
                let e = Error::last_os_error();
                self.at = -1; // wherever it is: the next read seeks
                return if e.raw_os_error() == Some(0) { Ok(None) } else { Err(e) };
            }
            let name = std::ffi::CStr::from_ptr((*entry).d_name.as_ptr());
            self.at = (*entry).d_off;
            Ok(Some(DirEntry {
                name: OsStr::from_bytes(name.to_bytes()).to_owned(),
                ino: (*entry).d_ino,
                kind: (*entry).d_type,
                next: self.at,
            }))
        }
    }
}

impl Drop for DirStream {
    fn drop(&mut self) {
        // SAFETY: the stream is open, and closed once.
        unsafe { libc::closedir(self.stream) };
    }
}
