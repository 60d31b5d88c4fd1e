//! A pack being written: a temporary file that blobs are appended to, then closed with its footer and so named.

use super::pack::{self, BLOB_HEADER, Blob, HEAD, Kind, MAX_BLOBS, MAX_PACK};
use crate::disk::{Disk, NewFile};
use crate::error::Result;
use crate::words::{Digest, PackRef, Place};
use std::path::PathBuf;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;
/// Bytes written before the kernel is asked to begin writing them out.
const WRITEBACK: u64 = 8 << 20;

/// An open pack.
#[derive(Debug)]
pub(super) struct PackWriter {
    file: NewFile,
    number: PackRef,
    buffer: Vec<u8>,
    written: u64,
    started: u64,
    blobs: Vec<Blob>,
}

/// A closed pack that is not visible yet.
#[derive(Debug)]
pub(super) struct ClosedPack {
    pub temp: PathBuf,
    pub name: Digest,
}

impl PackWriter {
    /// Opens one at `path`.
    pub(super) fn create(disk: &Disk, path: PathBuf, number: PackRef) -> Result<PackWriter> {
        let mut buffer = Vec::with_capacity(64 << 10);
        buffer.extend_from_slice(HEAD);
        Ok(PackWriter { file: disk.create_file(path)?, number, buffer, written: 0, started: 0, blobs: Vec::new() })
    }

    /// Its number in the pack table.
    pub(super) fn number(&self) -> PackRef {
        self.number
    }

    /// Bytes of blobs in it.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a blob of `len` bytes still goes into it.
    pub(super) fn takes(&self, len: usize) -> bool {
        self.blobs.len() < MAX_BLOBS && self.len() + (BLOB_HEADER + len) as u64 <= MAX_PACK
    }

    /// Appends a blob.
    pub(super) fn append(&mut self, digest: Digest, kind: Kind, bytes: &[u8]) -> Result<Place> {
        let blob = Blob { digest, kind, offset: self.len() as u32, len: bytes.len() as u32 };
        self.buffer.extend_from_slice(&blob.header());
        self.buffer.extend_from_slice(bytes);
        self.blobs.push(blob);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(Place { pack: self.number, offset: blob.offset })
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.started >= WRITEBACK {
            self.file.start_writeback(self.started, self.written - self.started);
            self.started = self.written;
        }
        Ok(())
    }

    /// Writes the footer; what comes out has a name, and is not durable.
    pub(super) fn close(mut self) -> Result<ClosedPack> {
        let end = self.len();
        let (footer, name) = pack::footer(&mut self.blobs, end);
        self.buffer.extend_from_slice(&footer);
        self.flush()?;
        self.file.set_mode(0o444)?;
        self.file.start_writeback(self.started, 0);
        Ok(ClosedPack { temp: self.file.path().to_path_buf(), name })
    }
}
