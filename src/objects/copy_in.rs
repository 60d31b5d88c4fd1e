//! Copies a large file into the store and hashes what was stored. Shares blocks where the file system can; otherwise
//! copies the bytes, holes as holes.

use super::step_hasher::{Hashed, STEP, StepHasher};
use crate::disk::{NewFile, read_full_at, read_in_parts};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

pub(super) const CHUNK: usize = STEP;
/// From this size on, another thread hashes while this one copies.
pub(super) const PARALLEL_FROM: u64 = 16 << 20;
/// Chunks that may wait between the two threads.
const QUEUED_CHUNKS: usize = 4;
/// Zeros of this length become a hole.
const HOLE: usize = 64 << 10;
/// After this many bytes the kernel is asked to begin writeback.
const WRITEBACK: u64 = 8 << 20;

/// Reads a content at a place until the buffer is full or the content ends.
pub(super) type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> Result<usize>;

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

/// Fills `to` with the content of `source`, from its beginning. Returns what `to` then has.
pub(super) fn copy_in(
    source: &File,
    path: &Path,
    to: &mut NewFile,
    reflink: &ReflinkSupport,
    chunk: &mut Vec<u8>,
    tick: Tick<'_>,
) -> Result<Hashed> {
    if !reflink.is_ruled_out() {
        if to.reflink_from(source)? {
            return hash_in_steps(to.file(), to.path(), tick);
        }
        reflink.rule_out();
    }
    let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
    if size < PARALLEL_FROM {
        copy_and_hash(source, path, to, chunk, tick)
    } else {
        let read = &|out: &mut [u8], at| read_full_at(source, out, at).map_err(|e| Error::io("read", path, e));
        copy_read(to, read, tick)
    }
}

/// Hashes between reading and writing.
fn copy_and_hash(source: &File, path: &Path, to: &NewFile, chunk: &mut Vec<u8>, tick: Tick<'_>) -> Result<Hashed> {
    chunk.resize(CHUNK, 0);
    let mut hasher = StepHasher::default();
    let mut out = SparseCopy::new(to);
    loop {
        let n = read_full_at(source, chunk, out.at).map_err(|e| Error::io("read", path, e))?;
        hasher.add(&chunk[..n]);
        out.write(&chunk[..n])?;
        tick(n as u64)?;
        if n < CHUNK {
            out.finish()?;
            return Ok(hasher.finish());
        }
    }
}

/// Hashes a whole file where it is.
///
/// # Errors
/// I/O; those of `tick`.
pub(super) fn hash_in_steps(file: &File, path: &Path, tick: Tick<'_>) -> Result<Hashed> {
    let mut hasher = StepHasher::default();
    read_in_parts(file, path, STEP, &mut |step| {
        hasher.add(step);
        tick(step.len() as u64)
    })?;
    Ok(hasher.finish())
}

/// Copies what `read` reads to `to`. Another thread hashes while this one reads and writes: for a large file, hashing
/// takes longest.
pub(super) fn copy_read(to: &NewFile, read: ReadAt<'_>, tick: Tick<'_>) -> Result<Hashed> {
    let (mut out, mut at) = (SparseCopy::new(to), 0);
    let mut next = |chunk: &mut [u8]| {
        let n = read(chunk, at)?;
        at += n as u64;
        tick(n as u64)?;
        Ok(n)
    };
    let hashed = hash_in_parallel(&[], &mut next, &mut |chunk, _| out.write(chunk))?;
    out.finish()?;
    Ok(hashed)
}

/// Bytes on their way through the hashing thread.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// How many of them are filled.
    filled: usize,
    /// Whether the content is known to begin with all bytes up to the end of this chunk.
    is_known: bool,
}

impl Chunk {
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

/// Hashes, in another thread, what `read` puts into chunks. `read` returns how many bytes it put there. A chunk that is
/// not full is the last one. Each chunk that is not empty is passed to `then`, in order, once it was hashed.
///
/// `known` are digests of the beginnings of another content, after one chunk, two, and so on. `then` gets to know
/// whether both contents are equal up to the end of a chunk.
///
/// # Errors
/// Those of `read` and `then`.
pub(super) fn hash_in_parallel(
    known: &[Digest],
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    then: &mut dyn FnMut(&[u8], bool) -> Result<()>,
) -> Result<Hashed> {
    let (full, to_hash) = mpsc::sync_channel::<Chunk>(QUEUED_CHUNKS);
    let (done, hashed) = mpsc::sync_channel::<Chunk>(QUEUED_CHUNKS);
    for _ in 0..QUEUED_CHUNKS {
        let empty = Chunk { bytes: vec![0; CHUNK], ..Chunk::default() };
        done.send(empty).expect("the channel has room for all chunks");
    }
    std::thread::scope(|s| {
        let hasher = s.spawn(move || {
            let mut hasher = StepHasher::default();
            let mut known = known.iter();
            for mut chunk in to_hash {
                hasher.add(chunk.filled());
                let is_known =
                    chunk.filled == CHUNK && known.next().is_some_and(|known| *known == hasher.digest_so_far());
                if !is_known {
                    known = [].iter(); // what follows a difference is not known, whatever its digest is
                }
                chunk.is_known = is_known;
                let _ = done.send(chunk); // the other thread may have stopped on an error
            }
            hasher.finish()
        });
        let mut pass = |chunk: &Chunk| match chunk.filled {
            0 => Ok(()),
            _ => then(chunk.filled(), chunk.is_known),
        };
        let passed = loop {
            let mut chunk = hashed.recv().expect("the hashing thread returns each chunk");
            match pass(&chunk).and_then(|()| read(&mut chunk.bytes)) {
                Ok(filled) => chunk.filled = filled,
                Err(e) => break Err(e),
            }
            let is_last = chunk.filled < CHUNK;
            full.send(chunk).expect("the hashing thread accepts all chunks");
            if is_last {
                break Ok(());
            }
        };
        drop(full);
        let passed = passed.and_then(|()| hashed.iter().try_for_each(|chunk| pass(&chunk)));
        let content = hasher.join().expect("hashing does not panic");
        passed.map(|()| content)
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
