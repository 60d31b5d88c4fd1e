//! The writer for what a version gets, and whether the store may get content of a kind now.

use crate::error::Result;
use crate::lock::{self, LockRecord};
use crate::objects::ObjectWriter;
use crate::store::{COMPRESSED_FILES, Compression, Store};
use std::path::Path;

/// A writer that stores content as the store's configuration says. `dir` is the token's directory.
///
/// # Errors
/// I/O.
pub(super) fn content_writer(store: &Store, dir: &Path) -> Result<ObjectWriter> {
    let mut writer = store.objects().writer(dir)?;
    if store.config().compression() == Compression::All && collectors_know(store, COMPRESSED_FILES)? {
        writer.compress_large_files();
    }
    Ok(writer)
}

/// Whether all collectors at work know this feature of the store. One of a release that does not know it may have begun
/// before the store got it, and would free what is needed.
///
/// # Errors
/// I/O.
pub(super) fn collectors_know(store: &Store, feature: &str) -> Result<bool> {
    let knows = |lock: &LockRecord| lock.features.iter().any(|known| known == feature);
    Ok(lock::live(store, |lock| lock.purpose == "gc" && !knows(lock))?.is_empty())
}
