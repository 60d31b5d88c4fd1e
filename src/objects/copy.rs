//! Taking a large file in: its blocks shared, or its bytes copied, holes as holes; and what was stored hashed.

use super::large::hash_file;
use crate::disk::{NewFile, read_full_at};
use crate::error::{Error, Result};
use crate::words::{Digest, Hasher};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const CHUNK: usize = 1 << 20;
/// Zeros of this length become a hole.
const PAGE: usize = 64 << 10;
/// Bytes written before the kernel is asked to begin writing them out.
const WRITEBACK: u64 = 8 << 20;

/// Told of bytes as they are read; its error stops the copy.
pub(super) type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// Fills `to` with what `source` holds, from its beginning; the digest and length of what `to` holds then.
pub(super) fn copy_in(source: &File, path: &Path, to: &mut NewFile, no_reflink: &AtomicBool, chunk: &mut Vec<u8>, tick: Tick<'_>) -> Result<(Digest, u64)> {
    if !no_reflink.load(Ordering::Relaxed) {
        if to.reflink_from(source)? {
            return hash_file(to.file(), to.path(), tick);
        }
        no_reflink.store(true, Ordering::Relaxed); // one try tells, all sources of a put tend to be alike
    }
    chunk.resize(CHUNK, 0);
    let mut hasher = Hasher::new();
    let (mut at, mut started, mut end) = (0u64, 0u64, 0u64);
    loop {
        let n = read_full_at(source, chunk, at).map_err(|e| Error::io("read", path, e))?;
        let bytes = &chunk[..n];
        hasher.update(bytes);
        end = write_sparse(to, bytes, at)?.unwrap_or(end);
        at += n as u64;
        tick(n as u64)?;
        if at - started >= WRITEBACK {
            to.start_writeback(started, at - started);
            started = at;
        }
        if n < CHUNK {
            break;
        }
    }
    if end < at {
        to.set_len(at)?; // it ends with a hole
    }
    Ok((hasher.finish(), at))
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
