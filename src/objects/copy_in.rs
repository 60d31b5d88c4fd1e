//! Copies a large file into the store and hashes what was stored. Shares blocks where the file system can; otherwise
//! copies the bytes, holes as holes.

use crate::disk::{NewFile, hash_file, read_full_at};
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

pub(super) const CHUNK: usize = 1 << 20;
/// From this size on, another thread hashes while this one copies.
const PARALLEL_FROM: u64 = 16 << 20;
/// Chunks that may wait between the two threads.
const QUEUED_CHUNKS: usize = 4;
/// Zeros of this length become a hole.
const HOLE: usize = 64 << 10;
/// After this many bytes the kernel is asked to begin writeback.
const WRITEBACK: u64 = 8 << 20;

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// What one writer has learnt about sharing blocks (reflink) of its source files with the store.
#[derive(Default)]
pub(super) struct ReflinkSupport {
    supported: AtomicBool,
    ruled_out: AtomicBool,
}

impl ReflinkSupport {
    /// Whether an attempt has failed.
    pub(super) fn is_ruled_out(&self) -> bool {
        self.ruled_out.load(Ordering::Relaxed)
    }

    /// An attempt has failed. The others would too: the sources of one put usually lie on one file system.
    pub(super) fn rule_out(&self) {
        self.ruled_out.store(true, Ordering::Relaxed);
    }

    /// Whether the blocks of `source` can be shared. The first call tries it with a temporary file.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn probe(
        &self,
        source: &File,
        create: impl FnOnce() -> Result<NewFile>,
        remove: impl FnOnce(&NewFile) -> Result<()>,
    ) -> Result<bool> {
        if self.is_ruled_out() || self.supported.load(Ordering::Relaxed) {
            return Ok(!self.is_ruled_out());
        }
        let temp = create()?;
        let shared = temp.reflink_from(source);
        remove(&temp)?;
        let shared = shared?;
        self.ruled_out.store(!shared, Ordering::Relaxed);
        self.supported.store(shared, Ordering::Relaxed);
        Ok(shared)
    }
}

/// Fills `to` with the content of `source`, from its beginning. Returns the digest and length of what `to` then has.
pub(super) fn copy_in(
    source: &File,
    path: &Path,
    to: &mut NewFile,
    reflink: &ReflinkSupport,
    chunk: &mut Vec<u8>,
    tick: Tick<'_>,
) -> Result<(Digest, u64)> {
    if !reflink.is_ruled_out() {
        if to.reflink_from(source)? {
            return hash_file(to.file(), to.path(), tick);
        }
        reflink.rule_out();
    }
    let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
    if size < PARALLEL_FROM {
        copy_and_hash(source, path, to, chunk, tick)
    } else {
        copy_and_hash_in_parallel(source, path, to, tick)
    }
}

/// Hashes between reading and writing.
fn copy_and_hash(
    source: &File,
    path: &Path,
    to: &NewFile,
    chunk: &mut Vec<u8>,
    tick: Tick<'_>,
) -> Result<(Digest, u64)> {
    chunk.resize(CHUNK, 0);
    let mut hasher = Hasher::new();
    let mut out = SparseCopy::new(to);
    loop {
        let n = read_full_at(source, chunk, out.at).map_err(|e| Error::io("read", path, e))?;
        hasher.update(&chunk[..n]);
        out.write(&chunk[..n])?;
        tick(n as u64)?;
        if n < CHUNK {
            return Ok((hasher.finish(), out.finish()?));
        }
    }
}

/// Hashes in another thread while this one reads and writes: for a large file, hashing takes longest.
fn copy_and_hash_in_parallel(source: &File, path: &Path, to: &NewFile, tick: Tick<'_>) -> Result<(Digest, u64)> {
    let mut out = SparseCopy::new(to);
    let digest = hash_in_parallel(&mut |chunk| {
        let n = read_full_at(source, chunk, out.at).map_err(|e| Error::io("read", path, e))?;
        out.write(&chunk[..n])?;
        tick(n as u64)?;
        Ok(n)
    })?;
    Ok((digest, out.finish()?))
}

/// The digest of what `next` puts into chunks, hashed in another thread. `next` returns how many bytes it put there. A
/// chunk that is not full is the last one.
///
/// # Errors
/// Those of `next`.
pub(super) fn hash_in_parallel(next: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<Digest> {
    let (full, to_hash) = mpsc::sync_channel::<(Vec<u8>, usize)>(QUEUED_CHUNKS);
    let (empty, hashed) = mpsc::sync_channel::<Vec<u8>>(QUEUED_CHUNKS);
    (0..QUEUED_CHUNKS).try_for_each(|_| empty.send(vec![0; CHUNK])).expect("the channel has room for all chunks");
    std::thread::scope(|s| {
        let hasher = s.spawn(move || {
            let mut hasher = Hasher::new();
            for (chunk, n) in to_hash {
                hasher.update(&chunk[..n]);
                let _ = empty.send(chunk); // the other thread may have stopped on an error
            }
            hasher.finish()
        });
        let read = loop {
            let mut chunk = hashed.recv().expect("the hashing thread returns each chunk");
            let n = match next(&mut chunk) {
                Ok(n) => n,
                Err(e) => break Err(e),
            };
            full.send((chunk, n)).expect("the hashing thread accepts all chunks");
            if n < CHUNK {
                break Ok(());
            }
        };
        drop(full);
        let digest = hasher.join().expect("hashing does not panic");
        read.map(|()| digest)
    })
}

/// A copy in progress.
pub(super) struct SparseCopy<'a> {
    to: &'a NewFile,
    at: u64,
    /// Writeback was requested up to here.
    started: u64,
    /// The end of the last bytes written. Holes are not written.
    end: u64,
}

impl<'a> SparseCopy<'a> {
    pub(super) fn new(to: &'a NewFile) -> SparseCopy<'a> {
        SparseCopy { to, at: 0, started: 0, end: 0 }
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, len: u64) {
        self.at += len;
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.end = write_sparse(self.to, bytes, self.at)?.unwrap_or(self.end);
        self.at += bytes.len() as u64;
        if self.at - self.started >= WRITEBACK {
            self.to.start_writeback(self.started, self.at - self.started);
            self.started = self.at;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<u64> {
        if self.end < self.at {
            self.to.set_len(self.at)?; // it ends with a hole
        }
        Ok(self.at)
    }
}

/// Writes `bytes` at `at` without stretches of zeros. Returns the end of what was written last.
pub(super) fn write_sparse(to: &NewFile, bytes: &[u8], at: u64) -> Result<Option<u64>> {
    let mut end = None;
    let mut from = 0;
    let pages: Vec<bool> = bytes.chunks(HOLE).map(|p| p.iter().all(|b| *b == 0)).collect();
    for (i, zero) in pages.iter().chain([&true]).enumerate() {
        let here = (i * HOLE).min(bytes.len());
        if *zero {
            if from < here {
                to.write_at(&bytes[from..here], at + from as u64)?;
                end = Some(at + here as u64);
            }
            from = (here + HOLE).min(bytes.len());
        }
    }
    Ok(end)
}
