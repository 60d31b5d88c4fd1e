//! Taking a large file in: its blocks shared, or its bytes copied, holes as holes; and what was stored hashed.

use super::large::hash_file;
use crate::disk::{NewFile, read_full_at};
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::path::Path;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

const CHUNK: usize = 1 << 20;
/// Files from this size on are hashed by a thread beside the one that copies.
const BESIDE: u64 = 16 << 20;
/// Chunks between the two.
const AHEAD: usize = 4;
/// Zeros of this length become a hole.
const PAGE: usize = 64 << 10;
/// Bytes written before the kernel is asked to begin writing them out.
const WRITEBACK: u64 = 8 << 20;

/// Told of bytes as they are read; its error stops the copy.
pub(super) type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// Fills `to` with what `source` holds, from its beginning; the digest and length of what `to` holds then.
pub(super) fn copy_in(
    source: &File,
    path: &Path,
    to: &mut NewFile,
    no_reflink: &AtomicBool,
    chunk: &mut Vec<u8>,
    tick: Tick<'_>,
) -> Result<(Digest, u64)> {
    if !no_reflink.load(Ordering::Relaxed) {
        if to.reflink_from(source)? {
            return hash_file(to.file(), to.path(), tick);
        }
        no_reflink.store(true, Ordering::Relaxed); // one try tells, all sources of a put tend to be alike
    }
    let size = source.metadata().map_err(|e| Error::io("look at", path, e))?.len();
    if size < BESIDE { alone(source, path, to, chunk, tick) } else { beside(source, path, to, tick) }
}

/// Hashes between reading and writing.
fn alone(source: &File, path: &Path, to: &NewFile, chunk: &mut Vec<u8>, tick: Tick<'_>) -> Result<(Digest, u64)> {
    chunk.resize(CHUNK, 0);
    let mut hasher = Hasher::new();
    let mut out = Out { to, at: 0, started: 0, end: 0 };
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

/// Hashes in a thread of its own while this one reads and writes: for one large file it is hashing that takes longest.
fn beside(source: &File, path: &Path, to: &NewFile, tick: Tick<'_>) -> Result<(Digest, u64)> {
    let (full, to_hash) = mpsc::sync_channel::<(Vec<u8>, usize)>(AHEAD);
    let (empty, hashed) = mpsc::sync_channel::<Vec<u8>>(AHEAD);
    (0..AHEAD).try_for_each(|_| empty.send(vec![0; CHUNK])).expect("the channel has room for as many");
    std::thread::scope(|s| {
        let hasher = s.spawn(move || {
            let mut hasher = Hasher::new();
            for (chunk, n) in to_hash {
                hasher.update(&chunk[..n]);
                let _ = empty.send(chunk); // the other end may have stopped on an error
            }
            hasher.finish()
        });
        let mut out = Out { to, at: 0, started: 0, end: 0 };
        let copied = loop {
            let mut chunk = hashed.recv().expect("the hashing thread gives each chunk back");
            let n = match read_full_at(source, &mut chunk, out.at) {
                Ok(n) => n,
                Err(e) => break Err(Error::io("read", path, e)),
            };
            if let Err(e) = out.write(&chunk[..n]).and_then(|()| tick(n as u64)) {
                break Err(e);
            }
            full.send((chunk, n)).expect("the hashing thread takes all");
            if n < CHUNK {
                break out.finish();
            }
        };
        drop(full);
        let digest = hasher.join().expect("hashing does not panic");
        copied.map(|size| (digest, size))
    })
}

/// A copy in the making.
struct Out<'a> {
    to: &'a NewFile,
    at: u64,
    /// Where the kernel was not yet asked to write out.
    started: u64,
    /// The end of what was written; holes are not.
    end: u64,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.end = write_sparse(self.to, bytes, self.at)?.unwrap_or(self.end);
        self.at += bytes.len() as u64;
        if self.at - self.started >= WRITEBACK {
            self.to.start_writeback(self.started, self.at - self.started);
            self.started = self.at;
        }
        Ok(())
    }

    fn finish(self) -> Result<u64> {
        if self.end < self.at {
            self.to.set_len(self.at)?; // it ends with a hole
        }
        Ok(self.at)
    }
}

/// Writes bytes at `at`, but for pages of zeros; the end of the last page written.
fn write_sparse(to: &NewFile, bytes: &[u8], at: u64) -> Result<Option<u64>> {
    let mut end = None;
    let mut from = 0;
    let pages: Vec<bool> = bytes.chunks(PAGE).map(|p| p.iter().all(|b| *b == 0)).collect();
    for (i, zero) in pages.iter().chain([&true]).enumerate() {
        let here = (i * PAGE).min(bytes.len());
        if *zero {
            if from < here {
                to.write_at(&bytes[from..here], at + from as u64)?;
                end = Some(at + here as u64);
            }
            from = (here + PAGE).min(bytes.len());
        }
    }
    Ok(end)
}
