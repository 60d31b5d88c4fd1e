//! Counts of the manifest nodes read and written, for benchmarks and diagnosis.

use std::sync::atomic::{AtomicU64, Ordering};

/// Manifest nodes read and written since the store was opened, and their bytes as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Nodes read from packs, without those from a cache.
    pub read: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Nodes written to packs.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
}

/// The counters behind [`NodeCounts`].
#[derive(Default, Debug)]
pub(super) struct NodeCounters {
    read: AtomicU64,
    read_bytes: AtomicU64,
    written: AtomicU64,
    written_bytes: AtomicU64,
}

impl NodeCounters {
    /// A node was read.
    pub(super) fn add_read(&self, bytes: usize) {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A node was written.
    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The counts so far.
    pub(super) fn now(&self) -> NodeCounts {
        let [read, read_bytes, written, written_bytes] =
            [&self.read, &self.read_bytes, &self.written, &self.written_bytes].map(|n| n.load(Ordering::Relaxed));
        NodeCounts { read, read_bytes, written, written_bytes }
    }
}
