//! Object files that were hashed and are right although their time is not the fixed one: a read of such a file does not
//! hash all of it again.

use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// At most this many are remembered; beyond that some are hashed again.
const MAX_REMEMBERED: usize = 1 << 14;

/// A file and its last change. Another file, or a changed one, has another.
type FileVersion = (u64, u64, i64, i64);

fn version(meta: &Metadata) -> FileVersion {
    (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
}

/// See the module.
#[derive(Debug)]
pub(super) struct VerifiedObjects(Mutex<HashMap<Digest, FileVersion>>);

impl Default for VerifiedObjects {
    fn default() -> Self {
        VerifiedObjects(Mutex::cache())
    }
}

impl VerifiedObjects {
    pub(super) fn contains(&self, digest: &Digest, meta: &Metadata) -> bool {
        self.0.lock().get(digest) == Some(&version(meta))
    }

    pub(super) fn insert(&self, digest: Digest, meta: &Metadata) {
        let mut known = self.0.lock();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(digest, version(meta));
    }

    /// Forgets all but these.
    pub(super) fn retain(&self, is_kept: impl Fn(&Digest) -> bool) {
        self.0.lock().retain(|digest, _| is_kept(digest));
    }
}
