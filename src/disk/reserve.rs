//! The reserve: files in the store that hold some space and some inodes, so that versions can be removed and garbage be
//! collected on a full disk. They are removed when a step of such a command finds no space. They have no meaning
//! otherwise; a collector makes them again.

use super::{confine, fault};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The reserve of one store.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    /// How many of its files the running commands may remove.
    allowed: AtomicUsize,
}

impl Reserve {
    pub(super) fn of(dir: PathBuf) -> Reserve {
        Reserve { dir, allowed: AtomicUsize::new(0) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets running commands use this many of its files, until the result is dropped.
    pub(super) fn allow(&self, files: usize) -> UsesReserve<'_> {
        UsesReserve { before: self.allowed.swap(files, Ordering::SeqCst), reserve: Some(self) }
    }

    /// Frees what a running command may use of it, if `e` says that there is no space. Returns whether anything was
    /// freed, so that a failed step is worth another try.
    pub(super) fn release_after(&self, e: &io::Error) -> bool {
        matches!(e.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) && self.release()
    }

    /// Frees what a running command may use of it. Returns whether anything was freed.
    pub(super) fn release(&self) -> bool {
        let files = 0..self.allowed.load(Ordering::SeqCst);
        let freed = files.filter(|n| remove(&self.file(*n))).count();
        if freed > 0
            && let Ok(dir) = std::fs::File::open(&self.dir)
        {
            // Some file systems give the space back when their transaction is committed.
            // SAFETY: an open descriptor.
            unsafe { libc::syncfs(dir.as_raw_fd()) };
        }
        freed > 0
    }

    pub(super) fn file(&self, n: usize) -> PathBuf {
        self.dir.join(format!("{n:02}"))
    }
}

/// While it exists, steps of this store that find no space use the reserve.
#[derive(Debug)]
pub struct UsesReserve<'a> {
    reserve: Option<&'a Reserve>,
    before: usize,
}

impl UsesReserve<'_> {
    /// Of a directory that has no reserve.
    pub(super) fn none() -> Self {
        UsesReserve { reserve: None, before: 0 }
    }
}

impl Drop for UsesReserve<'_> {
    fn drop(&mut self) {
        if let Some(reserve) = self.reserve {
            reserve.allowed.store(self.before, Ordering::SeqCst);
        }
    }
}

fn remove(path: &Path) -> bool {
    confine::check(path).is_ok() && fault::step().is_ok() && std::fs::remove_file(path).is_ok()
}
