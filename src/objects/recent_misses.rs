//! What keeps the cost of missing content bounded, for a process that reads much of it (a mount, `verify`).
//!
//! Three things, all in memory and bounded:
//!
//! - A blob that was searched everywhere and not found is not searched everywhere again for [`MOMENT`]; a process that
//!   stores something forgets this at once.
//! - A listing of `packs/` and `index/` is used again as long as the times of both directories show that nothing
//!   changed.
//! - The search in the footers of packs that a whole index segment covers, which only finds something if that segment
//!   is wrong, takes at most one part in twenty of the time.

use super::index::Index;
use super::pack::BlobKind;
use crate::disk;
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a blob that was not found is taken as missing.
const MOMENT: Duration = Duration::from_secs(1);
/// At most this many missing blobs are remembered.
const MAX_MISSES: usize = 1 << 14;
/// How many seconds searches in covered packs may take without a pause, and which part of the time after that.
const SEARCH_BUDGET: f64 = 0.5;
const SEARCH_SHARE: f64 = 0.05;
/// A change can follow another one without moving the time of a directory, within the resolution of its time stamps.
const FINE_STAMPS: Duration = Duration::from_millis(50);
const COARSE_STAMPS: Duration = Duration::from_millis(2100);

/// What shows that a directory's names changed: inode, time of modification, time of change.
pub(super) type Stamp = (u64, i64, i64, i64, i64);

pub(super) struct RecentMisses {
    missing: Mutex<HashMap<(Digest, BlobKind), Instant>>,
    listing: Mutex<Option<Listing>>,
    search: Mutex<Option<SearchBudget>>,
}

/// A listing of packs and index segments.
struct Listing {
    stamps: [Stamp; 2],
    /// When these stamps were first seen.
    first_seen: Instant,
    /// The index, if it was loaded long enough after that: no change can have left the same stamps.
    index: Option<Arc<Index>>,
}

struct SearchBudget {
    /// Seconds; below zero after a search that took longer than was left.
    left: f64,
    at: Instant,
}

impl Default for RecentMisses {
    /// A forked child lists again: the segments of the index have locks of their own.
    fn default() -> Self {
        RecentMisses { missing: Mutex::cache(), listing: Mutex::of_process(None, || None), search: Mutex::cache() }
    }
}

impl RecentMisses {
    /// Whether the blob was searched everywhere a moment ago and not found.
    pub(super) fn has(&self, digest: &Digest, kind: BlobKind) -> bool {
        let missing = self.missing.lock();
        !missing.is_empty() && missing.get(&(*digest, kind)).is_some_and(|at| at.elapsed() < MOMENT)
    }

    pub(super) fn insert(&self, digest: &Digest, kind: BlobKind) {
        let mut missing = self.missing.lock();
        if missing.len() >= MAX_MISSES {
            missing.retain(|_, at| at.elapsed() < MOMENT);
        }
        if missing.len() < MAX_MISSES {
            missing.insert((*digest, kind), Instant::now());
        }
    }

    /// Forgets what was missing: something was stored, or is to be searched again.
    pub(super) fn forget(&self) {
        self.missing.lock().clear();
    }

    /// Whether covered packs may be searched now.
    pub(super) fn may_search(&self) -> bool {
        let mut search = self.search.lock();
        let now = Instant::now();
        let budget = search.get_or_insert(SearchBudget { left: SEARCH_BUDGET, at: now });
        budget.left = (budget.left + now.duration_since(budget.at).as_secs_f64() * SEARCH_SHARE).min(SEARCH_BUDGET);
        budget.at = now;
        budget.left > 0.0
    }

    pub(super) fn searched_for(&self, took: Duration) {
        if let Some(budget) = &mut *self.search.lock() {
            budget.left -= took.as_secs_f64();
        }
    }
}

impl RecentMisses {
    /// The index as it was last loaded, if `stamps` (of `packs/` and `index/`, taken now) show that nothing changed
    /// since; else what `load` loads. `resolution`: how far apart two changes are that move the stamps.
    ///
    /// # Errors
    /// Those of `load`.
    pub(super) fn index(
        &self,
        stamps: [Stamp; 2],
        resolution: Duration,
        load: impl FnOnce() -> Result<Arc<Index>>,
    ) -> Result<Arc<Index>> {
        let mut last = self.listing.lock();
        let begun = Instant::now();
        let first_seen = match &*last {
            Some(last) if last.stamps == stamps => match &last.index {
                Some(index) if !index.needs_repair() => return Ok(index.clone()),
                _ => last.first_seen,
            },
            _ => begun,
        };
        let index = load()?;
        let is_settled = begun.duration_since(first_seen) > resolution;
        *last = Some(Listing { stamps, first_seen, index: is_settled.then(|| index.clone()) });
        Ok(index)
    }
}

/// The stamp of a directory. It is opened, so that the client of a shared file system asks its server. `None` if it
/// cannot be opened.
pub(super) fn stamp(dir: &Path) -> Option<Stamp> {
    let meta = disk::open_dir(dir).and_then(|dir| dir.metadata()).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
}

/// How far apart two changes of a directory are that move its stamp.
pub(super) fn resolution(is_local: bool, stamps: &[Stamp]) -> Duration {
    let is_fine = is_local && stamps.iter().all(|(_, _, nsec, ..)| *nsec != 0);
    if is_fine { FINE_STAMPS } else { COARSE_STAMPS }
}
