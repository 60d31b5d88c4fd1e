//! Files that are no store's: devices, logs, the kernel's settings. Not counted as steps, since no store depends on them.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a device for reading and writing.
///
/// # Errors
/// The system's, bare: callers tell apart what it means for them.
pub fn open_device(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens a log, to be appended to; made when missing.
///
/// # Errors
/// I/O.
pub fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io("open", path, e))
}

/// Writes a setting of the kernel's below `/sys` or `/proc`.
///
/// # Errors
/// The system's, bare.
pub fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    std::fs::write(path, value)
}
