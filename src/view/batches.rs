//! Work on the entries of a version, handed out in batches while it is walked.

use crate::disk::{self, Dir};
use crate::threads::{self, Feeder};
use std::sync::Arc;

/// Entries handed to a worker at once.
const BATCH: usize = 64;

/// A piece of work: entries with the directories that they are in.
pub(super) type Batch<T> = Vec<(Arc<Dir>, T)>;

/// Hands out batches.
pub(super) struct Batches<'a, T> {
    feeder: Feeder<'a, Batch<T>>,
    batch: Batch<T>,
    /// How many directories are in the batch: each is an open file.
    dirs: usize,
    most_dirs: usize,
}

impl<'a, T> Batches<'a, T> {
    pub(super) fn new(feeder: Feeder<'a, Batch<T>>) -> Batches<'a, T> {
        let at_once = threads::count() * 5 + 1;
        let most_dirs = (disk::open_files_limit() / 4 / at_once).clamp(1, BATCH);
        Batches { feeder, batch: Vec::with_capacity(BATCH), dirs: 0, most_dirs }
    }

    /// Whether there was an error: then no more entries are wanted.
    pub(super) fn has_failed(&self) -> bool {
        self.feeder.has_failed()
    }

    /// Adds an entry of `dir`.
    pub(super) fn add(&mut self, dir: Arc<Dir>, entry: T) {
        self.dirs += usize::from(self.batch.last().is_none_or(|(last, _)| !Arc::ptr_eq(last, &dir)));
        self.batch.push((dir, entry));
        if self.batch.len() == BATCH || self.dirs == self.most_dirs {
            self.dirs = 0;
            self.feeder.send(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH)));
        }
    }

    /// Hands out the rest.
    pub(super) fn end(self) {
        self.feeder.send(self.batch);
    }
}
