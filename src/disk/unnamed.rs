//! Files without a name that share blocks with others. They end with the process that made them, and nothing else ever
//! sees them, so their changes are not counted as steps.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The request to share a range. `libc` has only FICLONE, whose number differs in the length of the argument and in the
/// number of the call.
const FICLONERANGE: libc::c_ulong = libc::FICLONE as libc::c_ulong + (13 - 9) + ((32 - 4) << 16);

/// `struct file_clone_range`.
#[repr(C)]
struct SharedRange {
    source: i64,
    offset: u64,
    len: u64,
    at: u64,
}

/// A new file without a name.
#[derive(Debug)]
pub struct UnnamedFile(File);

impl UnnamedFile {
    /// A file of `size` zeros on the file system of `dir`.
    ///
    /// # Errors
    /// The system's, without context: this user may not write there, or the file system has no such files.
    pub fn make(dir: &Path, size: u64) -> io::Result<UnnamedFile> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).mode(0o400).custom_flags(libc::O_TMPFILE).open(dir)?;
        file.set_len(size)?;
        Ok(UnnamedFile(file))
    }

    /// Shares a range of whole blocks of `source`. It may end inside a block if both files end there.
    ///
    /// # Errors
    /// The system's, without context: the file system cannot share these blocks.
    pub fn share(&self, at: u64, source: &File, offset: u64, len: u64) -> io::Result<()> {
        let range = SharedRange { source: i64::from(source.as_raw_fd()), offset, len, at };
        // SAFETY: both descriptors are open, and the range lives across the call.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), FICLONERANGE as _, &range) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    /// The file.
    pub fn into_file(self) -> File {
        self.0
    }
}
