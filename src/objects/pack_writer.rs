//! Writing a pack: blobs are appended to a temporary file; closing it adds the footer, whose digest is the pack's name.

use super::codec::StoredBytes;
use super::object_file::OBJECT_MODE;
use super::pack::{self, BLOB_HEADER, Blob, BlobKind, HEAD, MAX_BLOB, MAX_BLOBS};
use crate::disk::{Disk, NewFile};
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that are buffered before a write.
const BUFFER: usize = 1 << 20;
/// After this many bytes the kernel is asked to begin writeback.
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
    /// A write failed, so the file's content is unknown.
    broken: bool,
}

/// A closed pack that is not visible yet.
#[derive(Debug)]
pub(super) struct ClosedPack {
    pub file: NewFile,
    pub name: Digest,
}

impl PackWriter {
    /// A new pack at `path`, for at most `limit` bytes of blobs, or one blob of any size.
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

    /// Whether there is room for a blob of `len` bytes.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.blobs.is_empty() || (self.blobs.len() < MAX_BLOBS && self.len() + (BLOB_HEADER + len) as u64 <= self.limit)
    }

    /// Appends a blob. It must not be in the pack already.
    ///
    /// # Errors
    /// Usage: it is too long for a pack. I/O: then the pack cannot be closed.
    pub(super) fn append(&mut self, digest: Digest, kind: BlobKind, stored: StoredBytes<'_>) -> Result<Location> {
        let StoredBytes { codec, bytes } = stored;
        let len = u32::try_from(bytes.len()).ok().filter(|n| *n <= MAX_BLOB);
        let len = len.ok_or_else(|| {
            Error::usage(format!("{kind} {digest} has {} bytes: a pack's blobs have at most {MAX_BLOB}", bytes.len()))
        })?;
        let offset = u32::try_from(self.len()).map_err(|_| Error::usage("a pack would grow beyond 4 GiB"))?;
        let blob = Blob { digest, kind, offset, len, codec };
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

    /// Writes the footer. The pack then has a name, but is not durable.
    ///
    /// # Errors
    /// I/O, also when an earlier write failed.
    pub(super) fn close(mut self) -> Result<ClosedPack> {
        if self.broken {
            return Err(Error::io_message("a write to the pack failed earlier"));
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
