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
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many whole files wait for their check at most.
const WAITING_CHECKS: usize = 4096;

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

/// Checks of whole files of a cache, after which the kernel can read them by itself. A thread does one after the other.
#[derive(Default)]
pub(super) struct WholeChecks {
    queue: Arc<Mutex<CheckQueue>>,
}

#[derive(Default)]
struct CheckQueue {
    waiting: VecDeque<WholeCheck>,
    /// What the thread checks now.
    at_work: Option<Digest>,
    has_thread: bool,
}

/// A content of a cache, with its digest if that is known.
struct WholeCheck {
    cache: Arc<Cache>,
    item: Item,
    digest: Option<Digest>,
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
        if !cache.may_be_whole(&item) {
            return;
        }
        let mut queue = self.queue.lock();
        let is_known = queue.at_work == Some(item.key) || queue.waiting.iter().any(|check| check.item.key == item.key);
        if is_known || queue.waiting.len() >= WAITING_CHECKS {
            return; // if the queue is full, a later open adds the file
        }
        queue.waiting.push_back(WholeCheck { cache: cache.clone(), item, digest });
        if queue.has_thread {
            return;
        }
        let ending = Checking(self.queue.clone());
        queue.has_thread = start_thread("cairn-check", move || ending.check_all()).is_ok();
        if !queue.has_thread {
            queue.waiting.clear();
        }
    }
}

impl WholeCheck {
    /// One process of the node does it.
    fn run(&self) {
        let lock = self.cache.lock(&self.item.key, Duration::ZERO);
        if lock.is_some() {
            self.cache.check_whole(&self.item, self.digest.as_ref());
        }
    }
}

/// The queue of the thread that checks, which ends with it, also after a panic.
struct Checking(Arc<Mutex<CheckQueue>>);

impl Checking {
    fn check_all(&self) {
        while let Some(check) = self.next() {
            check.run();
        }
    }

    fn next(&self) -> Option<WholeCheck> {
        let mut queue = self.0.lock();
        let next = queue.waiting.pop_front();
        queue.at_work = next.as_ref().map(|check| check.item.key);
        // Under the same lock as the look for more: a check that is added afterwards starts a thread.
        queue.has_thread = next.is_some();
        next
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.lock() = CheckQueue::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_that_become_whole_at_once_are_checked() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(tmp.path(), Some(1 << 30)).unwrap());
        let bytes = |n: u8| vec![n; 3 << 20];
        let items: Vec<Item> = (0..9).map(|n| Item { key: Digest::of(&bytes(n)), size: 3 << 20 }).collect();
        for (n, item) in items.iter().enumerate() {
            let fetch = |range: Range<u64>| Ok(bytes(n as u8)[range.start as usize..range.end as usize].to_vec());
            cache.read_through(item, 0, &mut bytes(0), &fetch).unwrap();
        }
        let checks = WholeChecks::default();
        items.iter().for_each(|item| checks.start(&cache, *item, Some(item.key)));
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !items.iter().all(|item| cache.whole(item).is_some()) {
            assert!(std::time::Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
