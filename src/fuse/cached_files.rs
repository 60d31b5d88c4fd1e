//! Large files that are read through the node's cache.

use super::VerifyMode;
use super::errno::{FuseResult, RequestFailure};
use super::inode_tree::Readable;
use super::lifecycle::start_thread;
use crate::cache::{BLOCK, Cache, Item};
use crate::error::Error;
use crate::objects::cached_object;
use crate::types::{Digest, Hasher};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads a number of bytes of the file at an offset from the store.
type FromStore<'a> = &'a dyn Fn(u64, usize, &mut Vec<u8>) -> FuseResult<()>;

/// The cache of a mount, for large files.
pub(super) struct CachedFiles {
    cache: Arc<Cache>,
    verify: VerifyMode,
    /// With `--verify all`: what was hashed since the mount.
    hashed: Mutex<HashSet<Digest>>,
    checks: WholeChecks,
}

/// Checks of whole files of a cache, after which the kernel can read them by itself.
#[derive(Default)]
pub(super) struct WholeChecks {
    /// Whether a thread is at it.
    checking: Arc<AtomicBool>,
}

impl CachedFiles {
    pub(super) fn new(cache: Arc<Cache>, verify: VerifyMode) -> CachedFiles {
        CachedFiles { cache, verify, hashed: Mutex::default(), checks: WholeChecks::default() }
    }

    /// Reads `wanted` bytes at `offset` into `out`, from the cache, and what it lacks from the store. `false`: the
    /// store must be read, because what the cache has of it was wrong.
    pub(super) fn read(
        &self,
        of: &Readable,
        offset: u64,
        wanted: usize,
        out: &mut Vec<u8>,
        store: FromStore<'_>,
    ) -> FuseResult<bool> {
        if self.verify == VerifyMode::All && !self.is_hashed(of, store)? {
            return Ok(false);
        }
        // The buffer is not cleared first, because zeros would only be overwritten.
        out.resize(wanted, 0);
        if self.read_through(of, offset, out, store)? {
            self.checks.start(&self.cache, cached_object(&of.digest, of.size), Some(of.digest));
        }
        Ok(true)
    }

    /// Returns whether a block was fetched from the store.
    fn read_through(&self, of: &Readable, offset: u64, out: &mut [u8], store: FromStore<'_>) -> FuseResult<bool> {
        let item = cached_object(&of.digest, of.size);
        // Threads that wait for the same block get an `Error`; the reader itself gets what the store said.
        let (failure, fetched) = (Mutex::new(None), AtomicBool::new(false));
        let fetch = |range: Range<u64>| {
            fetched.store(true, Ordering::Relaxed);
            let mut bytes = Vec::new();
            let read = store(range.start, (range.end - range.start) as usize, &mut bytes);
            read.map(|()| bytes).map_err(|e| {
                let error = Error::io_message(e.log_line().unwrap_or_default());
                *failure.lock() = Some(e);
                error
            })
        };
        let read = self.cache.read_through(&item, offset, out, &fetch);
        read.map_err(|e| failure.into_inner().unwrap_or(RequestFailure::Store(e)))?;
        Ok(fetched.into_inner())
    }

    /// Whether the content was hashed since the mount, and what is read through the cache is right. Hashes it if not.
    fn is_hashed(&self, of: &Readable, store: FromStore<'_>) -> FuseResult<bool> {
        if self.hashed.lock().contains(&of.digest) {
            return Ok(true);
        }
        let (mut hasher, mut block) = (Hasher::new(), Vec::new());
        for at in (0..of.size).step_by(BLOCK as usize) {
            block.resize((of.size - at).min(BLOCK) as usize, 0);
            self.read_through(of, at, &mut block, store)?;
            hasher.update(&block);
        }
        if hasher.finish() == of.digest {
            self.hashed.lock().insert(of.digest);
            return Ok(true);
        }
        self.cache.remove(&cached_object(&of.digest, of.size).key);
        Ok(false)
    }

    /// The file of the cache that has all of it, checked.
    pub(super) fn whole(&self, of: &Readable) -> Option<File> {
        let file = self.checks.file(&self.cache, cached_object(&of.digest, of.size), Some(of.digest));
        file.filter(|_| self.verify != VerifyMode::All || self.hashed.lock().contains(&of.digest))
    }

    pub(super) fn close_idle(&self) {
        self.cache.close_idle();
    }
}

impl WholeChecks {
    /// The file with all of an item, if it was checked. If not, and all blocks are there, a check is started.
    pub(super) fn file(&self, cache: &Arc<Cache>, item: Item, digest: Option<Digest>) -> Option<File> {
        let file = cache.whole(&item);
        if file.is_none() {
            self.start(cache, item, digest);
        }
        file
    }

    /// If all blocks are in the cache, a thread checks them as a whole, so that later opens can leave reading to the
    /// kernel.
    pub(super) fn start(&self, cache: &Arc<Cache>, item: Item, digest: Option<Digest>) {
        if !cache.may_be_whole(&item) || self.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (cache, checking) = (cache.clone(), Checking(self.checking.clone()));
        let check = move || {
            let _checking = checking;
            check_whole(&cache, &item, digest.as_ref());
        };
        drop(start_thread("cairn-check", check)); // without a thread, the next open tries again
    }
}

/// Checks a content of the cache as a whole; one process of the node does.
fn check_whole(cache: &Cache, item: &Item, digest: Option<&Digest>) {
    let lock = cache.lock(&item.key, std::time::Duration::ZERO);
    if lock.is_some() {
        cache.check_whole(item, digest);
    }
}

/// Ends a check, also after a panic.
struct Checking(Arc<AtomicBool>);

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
