//! Composed content as files that the kernel can read by itself. They share the blocks of the objects, so they exist
//! only where the file system can do that and this user may write to the store.

use crate::objects::{ComposedFile, Objects, OneFile};
use crate::recent_cache::RecentCache;
use crate::types::Digest;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many files are kept. The kernel keeps those that programs have open.
const KEPT: usize = 128;

/// The files of one mount.
pub(super) struct SharedFiles {
    files: RecentCache<File>,
    /// What was too costly, so that it is not tried at each open.
    costly: RecentCache<()>,
    is_impossible: AtomicBool,
}

impl SharedFiles {
    pub(super) fn new() -> SharedFiles {
        SharedFiles {
            files: RecentCache::new(KEPT),
            costly: RecentCache::new(KEPT),
            is_impossible: AtomicBool::new(false),
        }
    }

    /// The file that was made of a content.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<File>> {
        self.files.get(digest)
    }

    /// Makes a file of a content. `None`: it must be read through the daemon, which reports what is wrong with it.
    pub(super) fn make(&self, objects: &Objects, digest: &Digest, composed: &ComposedFile) -> Option<Arc<File>> {
        if self.is_impossible.load(Ordering::Relaxed) || self.costly.get(digest).is_some() {
            return None;
        }
        match objects.one_file(composed) {
            Ok(OneFile::File(file)) => {
                let file = Arc::new(file);
                self.files.put(*digest, file.clone(), 1);
                return Some(file);
            }
            Ok(OneFile::Impossible) => self.is_impossible.store(true, Ordering::Relaxed),
            Ok(OneFile::Costly) | Err(_) => self.costly.put(*digest, Arc::new(()), 1),
        }
        None
    }

    /// Forgets what was not opened since the last but one call.
    pub(super) fn close_idle(&self) {
        self.files.turn();
        self.costly.turn();
    }
}
