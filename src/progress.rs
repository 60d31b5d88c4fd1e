//! What a long operation is doing and how far it is, for a progress bar; and, in the other direction, a request to
//! stop.

use crate::error::{Detail, Error, Result};
use crate::locks::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far an operation is. Totals grow while files are still being found.
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

/// What an operation is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// Not set.
    #[default]
    Unknown,
    /// Listing directories.
    Scanning,
    /// Reading, hashing and storing files.
    Storing,
    /// Merging the contributions of several runs.
    Merging,
    /// Syncing what is stored to disk, so that it survives a loss of power.
    MakingDurable,
    /// Waiting for others, such as runs that are still writing. The text names them.
    Waiting(String),
}

/// The values of a [`Progress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// Files found so far.
    pub files_total: u64,
    /// Files done.
    pub files_done: u64,
    /// Bytes found so far.
    pub bytes_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Device nodes, sockets and FIFOs that were skipped because the caller asked for it.
    pub skipped_special: u64,
    /// Symlinks that were stored as they are although they lead out of the directory that was added: they dangle in the
    /// version.
    pub outside_symlinks: u64,
}

impl Progress {
    /// Adds found files and bytes to the totals.
    pub fn add_total(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds finished files and bytes.
    pub fn add_done(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts special files that were skipped.
    pub fn skipped_special(&self, files: u64) {
        self.skipped_special.fetch_add(files, Ordering::Relaxed);
    }

    /// Counts stored symlinks that lead out of the source.
    pub fn outside_symlinks(&self, symlinks: u64) {
        self.outside_symlinks.fetch_add(symlinks, Ordering::Relaxed);
    }

    /// Sets what the operation is doing from now on.
    pub fn set_activity(&self, activity: Activity) {
        *self.activity.lock() = activity;
    }

    /// What the operation is doing.
    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    /// Asks the operation to stop as soon as it can without losing what it has stored. May be called from a signal
    /// handler.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the operation was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Call it between steps of the operation.
    ///
    /// # Errors
    /// A conflict, if the operation was asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::conflict("interrupted").with_detail(Detail::Interrupted).with_hint(
                "the complete files in the store are kept: run the command again, and it stores only the rest",
            ))
        } else {
            Ok(())
        }
    }

    /// Reads all values.
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
