//! Reads that `std` does not have.

use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::cell::RefCell;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file for reading and returns its metadata; a symlink is not followed. `None` if it does not exist or
/// its handle is stale.
///
/// # Errors
/// I/O; damaged if it is not a regular file.
pub fn open_file(path: &Path) -> Result<Option<(File, Metadata)>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path) {
        Ok(file) => {
            let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
            if meta.is_file() { Ok(Some((file, meta))) } else { Err(not_a_file(path)) }
        }
        Err(e)
            if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                || e.raw_os_error() == Some(libc::ESTALE) =>
        {
            Ok(None)
        }
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Err(not_a_file(path)),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

fn not_a_file(path: &Path) -> Error {
    Error::damaged(format!("{} is not a regular file", crate::error::show_path(path)))
}

/// Reads at `offset` into `head` and then into `body`, normally in one call; returns the number of bytes.
///
/// # Errors
/// The system's.
pub fn read_two_at(file: &File, head: &mut [u8], body: &mut [u8], offset: u64) -> io::Result<usize> {
    let both = [
        libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() },
        libc::iovec { iov_base: body.as_mut_ptr().cast(), iov_len: body.len() },
    ];
    // SAFETY: the descriptor is open; both buffers are exclusively borrowed for the length of the call.
    let n = unsafe { libc::preadv64(file.as_raw_fd(), both.as_ptr(), 2, offset as libc::off64_t) };
    let mut done = match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => {
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
            0
        }
    };
    while done < head.len() + body.len() {
        let rest = if done < head.len() { &mut head[done..] } else { &mut body[done - head.len()..] };
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads at `offset` until `buffer` is full or the file ends; returns the number of bytes.
///
/// # Errors
/// The system's.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Reads a file from its beginning until `buffer` is full or the file ends. If the file has one byte less than
/// `buffer`, as expected, one call reads all of it and shows that it ends there.
///
/// # Errors
/// The system's.
pub fn read_to_expected_end(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let expected = buffer.len().saturating_sub(1);
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                if done == expected {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Hashes a whole file by its descriptor, whose position stays. Returns the digest and the length. `tick` gets the
/// number of bytes as they are read, and may stop it.
///
/// # Errors
/// I/O; those of `tick`.
pub fn hash_file(file: &File, path: &Path, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<(Digest, u64)> {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    read_in_parts(file, path, 1 << 20, &mut |part| {
        hasher.update(part);
        size += part.len() as u64;
        tick(part.len() as u64)
    })?;
    Ok((hasher.finish(), size))
}

/// Reads a whole file by its descriptor, whose position stays, in parts of `length` bytes. `each` gets them in order
/// and may stop it. The last part is shorter, perhaps empty.
///
/// # Errors
/// I/O; those of `each`.
pub fn read_in_parts(file: &File, path: &Path, length: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    thread_local! {
        /// A fresh buffer for each file would be mapped, zeroed and unmapped again.
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take(); // `each` may read another file meanwhile
    buffer.resize(length, 0);
    let mut at = 0;
    let read = loop {
        let n = match read_full_at(file, &mut buffer, at) {
            Ok(n) => n,
            Err(e) => break Err(Error::io("read", path, e)),
        };
        at += n as u64;
        let passed = each(&buffer[..n]);
        if passed.is_err() || n < length {
            break passed;
        }
    };
    BUFFER.set(buffer);
    read
}

/// Asks the kernel to begin reading a range of a file; it does not wait. An empty range asks for nothing.
pub fn advise_needed(file: &File, range: std::ops::Range<u64>) {
    if range.start < range.end {
        let (from, length) = (range.start as libc::off_t, (range.end - range.start) as libc::off_t);
        // SAFETY: the descriptor is open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), from, length, libc::POSIX_FADV_WILLNEED) };
    }
}

/// Tells the kernel that a file will be read sequentially. Only a hint.
pub fn advise_sequential(file: &File) {
    // SAFETY: the descriptor is open.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL);
    }
}
