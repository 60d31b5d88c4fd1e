//! Where the bytes of a file being written are kept until they are stored.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use tempfile::NamedTempFile;

/// Bytes until they are stored. It is removed when it is dropped.
#[derive(Debug)]
pub(in crate::commit) enum Spool {
    Named(NamedTempFile),
    Unnamed(File),
}

impl Spool {
    pub(super) fn file(&self) -> &File {
        match self {
            Spool::Named(file) => file.as_file(),
            Spool::Unnamed(file) => file,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Spool::Named(file) => file.path().to_path_buf(),
            Spool::Unnamed(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
