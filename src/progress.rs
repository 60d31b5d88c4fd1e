//! Counters that long work moves and a progress bar reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a piece of work is. Totals grow while the work is still being found.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
}

/// A moment's reading of a [`Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Files known of so far.
    pub files_total: u64,
    /// Files done.
    pub files_done: u64,
    /// Bytes known of so far.
    pub bytes_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
}

impl Progress {
    /// More work was found.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Work was done.
    pub fn done(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Where it stands.
    pub fn read(&self) -> Reading {
        Reading {
            files_total: self.files_total.load(Ordering::Relaxed),
            files_done: self.files_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
        }
    }
}
