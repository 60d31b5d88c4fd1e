//! When a long transaction publishes what it has stored so far.

use crate::locks::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A checkpoint is due after this many new bytes, or after this time: an interrupted put then stores only the rest when
/// it runs again.
const CHECKPOINT_BYTES: u64 = 1 << 30;
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// Counts new bytes and says when a checkpoint is due.
pub(super) struct Checkpoints {
    begun: Instant,
    /// When the next one is due, in seconds after `begun`.
    due: AtomicU64,
    new_bytes: AtomicU64,
    unpublished: AtomicU64,
    running: Mutex<()>,
}

impl Checkpoints {
    pub(super) fn begin() -> Checkpoints {
        Checkpoints {
            begun: Instant::now(),
            due: AtomicU64::new(CHECKPOINT_INTERVAL.as_secs()),
            new_bytes: AtomicU64::new(0),
            unpublished: AtomicU64::new(0),
            running: Mutex::default(),
        }
    }

    /// All new bytes.
    pub(super) fn new_bytes(&self) -> u64 {
        self.new_bytes.load(Ordering::Relaxed)
    }

    /// Counts `bytes`. `Some` if the caller must publish now; while it holds the guard, no other thread must.
    pub(super) fn count(&self, bytes: u64) -> Option<MutexGuard<'_, ()>> {
        self.new_bytes.fetch_add(bytes, Ordering::Relaxed);
        let many = self.unpublished.fetch_add(bytes, Ordering::Relaxed) + bytes >= CHECKPOINT_BYTES;
        let now = self.begun.elapsed().as_secs();
        if !many && now < self.due.load(Ordering::Relaxed) {
            return None;
        }
        let guard = self.running.try_lock()?;
        self.unpublished.store(0, Ordering::Relaxed);
        self.due.store(now + CHECKPOINT_INTERVAL.as_secs(), Ordering::Relaxed);
        Some(guard)
    }
}
