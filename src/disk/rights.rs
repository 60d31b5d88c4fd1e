//! What this process may do with a file or directory, by its effective user.

use crate::error::{Error, Result};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A right on a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read it; for a directory, list it and look up names in it.
    Read,
    /// Read and change it.
    ReadAndWrite,
}

/// Whether this process has that right. A directory needs more permissions than a file.
///
/// # Errors
/// I/O; usage: a path that no system call takes.
pub fn may(right: Right, path: &Path, is_directory: bool) -> Result<bool> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|e| Error::usage("a path has a zero byte in it").with_source(e))?;
    let read = libc::R_OK | if is_directory { libc::X_OK } else { 0 };
    let mode = match right {
        Right::Read => read,
        Right::ReadAndWrite => read | libc::W_OK,
    };
    // SAFETY: a valid C string.
    if unsafe { libc::faccessat(libc::AT_FDCWD, text.as_ptr(), mode, libc::AT_EACCESS) } == 0 {
        return Ok(true);
    }
    let e = std::io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Ok(false),
        _ => Err(Error::io("look at", path, e)),
    }
}
