//! A pack being written: a temporary file that blobs are appended to, then closed with its footer and so named.

use super::large::OBJECT_MODE;
use super::pack::{self, BLOB_HEADER, Blob, HEAD, Kind, MAX_BLOB, MAX_BLOBS};
use crate::disk::{Disk, NewFile};
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;
/// Bytes written before the kernel is asked to begin writing them out.
const WRITEBACK: u64 = 8 << 20;

/// An open pack.
#[derive(Debug)]
pub(super) struct PackWriter {
    file: NewFile,
    opened: Instant,
    number: PackRef,
    limit: u64,
    buffer: Vec<u8>,
    written: u64,
    started: u64,
    blobs: Vec<Blob>,
    /// A write failed: what the file holds is not known.
    broken: bool,
}

/// A closed pack that is not visible yet.
#[derive(Debug)]
pub(super) struct ClosedPack {
    pub file: NewFile,
    pub name: Digest,
}

impl PackWriter {
    /// Opens one at `path`, for at most `limit` bytes of blobs unless it is one blob.
    pub(super) fn create(disk: &Disk, path: PathBuf, number: PackRef, limit: u64) -> Result<PackWriter> {
        Ok(PackWriter {
            file: disk.create_file(path)?,
            opened: Instant::now(),
            number,
            limit,
            buffer: HEAD.to_vec(),
            written: 0,
            started: 0,
            blobs: Vec::new(),
            broken: false,
        })
    }

    /// Its number in the pack table.
    pub(super) fn number(&self) -> PackRef {
        self.number
    }

    /// How long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The temporary file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes of blobs in it.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a blob of `len` bytes still goes into it.
    pub(super) fn takes(&self, len: usize) -> bool {
        self.blobs.is_empty() || (self.blobs.len() < MAX_BLOBS && self.len() + (BLOB_HEADER + len) as u64 <= self.limit)
    }

    /// Appends a blob that is not in it yet.
    ///
    /// # Errors
    /// Usage: too long for a pack. I/O: the pack can't be closed then.
    pub(super) fn append(&mut self, digest: Digest, kind: Kind, bytes: &[u8]) -> Result<Location> {
        let len = u32::try_from(bytes.len()).ok().filter(|n| *n <= MAX_BLOB);
        let len = len.ok_or_else(|| {
            Error::usage(format!("{kind} {digest} has {} bytes: at most {MAX_BLOB} go into a pack", bytes.len()))
        })?;
        let offset = u32::try_from(self.len()).map_err(|_| Error::usage("a pack would grow beyond 4 GiB"))?;
        let blob = Blob { digest, kind, offset, len };
        self.buffer.extend_from_slice(&blob.header());
        self.buffer.extend_from_slice(bytes);
        self.blobs.push(blob);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(Location { pack: self.number, offset })
    }

    fn flush(&mut self) -> Result<()> {
        self.broken = true; // until the write succeeded
        self.file.write_all(&self.buffer)?;
        self.broken = false;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.started >= WRITEBACK {
            self.file.start_writeback(self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(())
    }

    /// Writes the footer; what comes out has a name, and is not durable.
    ///
    /// # Errors
    /// I/O, also when an earlier write failed.
    pub(super) fn close(mut self) -> Result<ClosedPack> {
        if self.broken {
            return Err(Error::io_message("a write to a pack failed before"));
        }
        let end = self.len();
        let (footer, name) = pack::footer(&mut self.blobs, end);
        self.buffer.extend_from_slice(&footer);
        self.flush()?;
        self.file.set_mode(OBJECT_MODE)?;
        self.file.start_writeback(self.started, 0);
        Ok(ClosedPack { file: self.file, name })
    }
}
