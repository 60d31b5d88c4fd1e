//! The cache of references of this process: blocks of remote objects, and what local files were found to hold.

use crate::cache::{Cache, cache_directory, parse_size};
use crate::locks::RwLock;
use std::sync::Arc;

/// The cache in use. The outer option is empty until it is first needed.
static CACHE: RwLock<Option<Option<Arc<Cache>>>> = RwLock::table(None);

/// The cache: the one that was chosen, else `references` in the directory of the user's caches. `None` if there is
/// none, or if it cannot be made, or if every user may write to it and so decide what others read.
pub(super) fn cache() -> Option<Arc<Cache>> {
    if let Some(cache) = &*CACHE.read() {
        return cache.clone();
    }
    let made = references_directory()
        .and_then(|dir| Cache::open(&dir, limit()).ok())
        .filter(|cache| !cache.is_open_to_all())
        .map(Arc::new);
    CACHE.write().get_or_insert(made).clone()
}

/// Uses this cache for references from now on.
pub(crate) fn use_cache(cache: Arc<Cache>) {
    *CACHE.write() = Some(Some(cache));
}

/// Where the cache of references is, unless another one is chosen.
pub fn references_directory() -> Option<std::path::PathBuf> {
    cache_directory().map(|dir| dir.join("references"))
}

/// The limit for this process.
fn limit() -> Option<u64> {
    std::env::var("CAIRN_CACHE_SIZE").ok().and_then(|size| parse_size(&size).ok())
}
