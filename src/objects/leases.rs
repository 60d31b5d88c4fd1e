//! The files adopted while a stage is sealed, each under a read lease.

use crate::disk;
use crate::locks::{Mutex, MutexGuard};
use crate::types::{Digest, Token};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Descriptors that are reserved for other uses.
const SPARE_DESCRIPTORS: usize = 256;

/// The files adopted while one stage is sealed, each under its lease until this is dropped.
#[derive(Debug)]
pub struct Leases {
    held: Mutex<HeldLeases>,
    /// The beginning of the names of copies.
    copy_prefix: PathBuf,
    /// If more files than this are under lease, the rest is copied: each lease holds a descriptor.
    max: usize,
    /// Whether a file of the stage was linked into the store.
    linked: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct HeldLeases {
    pub files: Vec<AdoptedFile>,
    /// An object whose hashed bytes are lost.
    pub lost: Option<PathBuf>,
}

/// A file of a stage that is also an object.
#[derive(Debug)]
pub(super) struct AdoptedFile {
    pub file: File,
    pub digest: Digest,
    pub size: u64,
    /// Its name in the store until the object is visible.
    pub temp: PathBuf,
    /// Mode and modification time before.
    pub before: (u32, i64, i64),
}

impl AdoptedFile {
    /// Its digest and size.
    pub(super) fn content(&self) -> (Digest, u64) {
        (self.digest, self.size)
    }
}

/// Which other names the adopted files may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherNames {
    /// Those in the stage still exist.
    Staged,
    /// None: the stage is removed.
    Gone,
}

impl Leases {
    /// Ready to adopt files. The names of copies begin with `copy_prefix`. From now on this process ignores SIGIO, with
    /// which the kernel reports that a process waits for a lease to end.
    pub fn new(copy_prefix: PathBuf) -> Leases {
        disk::ignore_lease_breaks();
        Leases {
            held: Mutex::default(),
            copy_prefix,
            max: disk::open_files_limit().saturating_sub(SPARE_DESCRIPTORS) / 2,
            linked: AtomicBool::new(false),
        }
    }

    /// Whether no file was adopted, so that the stage is unchanged.
    pub fn adopted_none(&self) -> bool {
        !self.linked.load(Ordering::Relaxed)
    }

    /// A file of the stage is about to be linked into the store.
    pub(super) fn note_link(&self) {
        self.linked.store(true, Ordering::Relaxed);
    }

    /// How many files are held.
    pub fn len(&self) -> usize {
        self.held.lock().files.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    pub(super) fn hold(&self, file: AdoptedFile) {
        self.held.lock().files.push(file);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HeldLeases> {
        self.held.lock()
    }

    /// A new name for a copy.
    pub(super) fn copy_path(&self) -> PathBuf {
        let mut path = self.copy_prefix.clone().into_os_string();
        path.push(Token::fresh().as_str());
        path.into()
    }
}
