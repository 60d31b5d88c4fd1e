//! What long work is doing and how far it is, for a progress bar; and, the other way round, a request to stop.

use crate::error::{Detail, Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a piece of work is. Totals grow while the work is still being found.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    skipped_special: AtomicU64,
    outside_symlinks: AtomicU64,
    cancelled: AtomicBool,
    activity: Mutex<Activity>,
}

/// What a piece of work is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It has not said.
    #[default]
    Unknown,
    /// Listing directories.
    Scanning,
    /// Reading, hashing and storing files.
    Storing,
    /// Putting the contributions of several runs together.
    Merging,
    /// Writing what is stored to disk, so that it outlasts a loss of power.
    MakingDurable,
    /// Waiting for others, such as runs that are still writing: for whom.
    Waiting(String),
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
    /// Device nodes, sockets and FIFOs that were left out because the caller asked for it.
    pub skipped_special: u64,
    /// Symlinks that were stored as they are although they lead out of the directory that was added: they dangle in the
    /// version.
    pub outside_symlinks: u64,
}

impl Progress {
    /// More work was found.
    pub fn add_total(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Work was done.
    pub fn add_done(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Special files were left out.
    pub fn skipped_special(&self, files: u64) {
        self.skipped_special.fetch_add(files, Ordering::Relaxed);
    }

    /// Symlinks that lead out of the source were stored.
    pub fn outside_symlinks(&self, symlinks: u64) {
        self.outside_symlinks.fetch_add(symlinks, Ordering::Relaxed);
    }

    /// Says what the work is doing from now on.
    pub fn set_activity(&self, activity: Activity) {
        *self.activity.lock() = activity;
    }

    /// What the work is doing.
    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    /// Asks the work to stop as soon as it can without losing what it has stored. May be called from a signal handler.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// To be called between pieces of work.
    ///
    /// # Errors
    /// A conflict, if the work was asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::conflict("interrupted").with_detail(Detail::Interrupted).with_hint(
                "the complete files in the store are kept: run the command again, and it stores only the rest",
            ))
        } else {
            Ok(())
        }
    }

    /// How far the work is.
    pub fn read(&self) -> Reading {
        Reading {
            files_total: self.files_total.load(Ordering::Relaxed),
            files_done: self.files_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            skipped_special: self.skipped_special.load(Ordering::Relaxed),
            outside_symlinks: self.outside_symlinks.load(Ordering::Relaxed),
        }
    }
}
