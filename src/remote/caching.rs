//! The cache of references of this process: blocks of remote objects, and what local files were found to hold.

use crate::cache::{Cache, cache_directory};
use crate::locks::RwLock;
use std::sync::Arc;

/// How many bytes the user's cache may have, unless `CAIRN_CACHE_SIZE` says otherwise.
const LIMIT: u64 = 10 << 30;

/// The cache in use. The outer option is empty until it is first needed. (`mount --cache` would set it.)
static CACHE: RwLock<Option<Option<Arc<Cache>>>> = RwLock::table(None);

/// The cache: by default `references` in the directory of the user's caches. `None` if there is none, or if it cannot
/// be made, or if every user may write to it and so decide what others read.
pub(super) fn cache() -> Option<Arc<Cache>> {
    if let Some(cache) = &*CACHE.read() {
        return cache.clone();
    }
    let made = cache_directory()
        .and_then(|dir| Cache::open(&dir.join("references"), limit()).ok())
        .filter(|cache| !cache.is_open_to_all())
        .map(Arc::new);
    CACHE.write().get_or_insert(made).clone()
}

fn limit() -> u64 {
    let given = std::env::var("CAIRN_CACHE_SIZE").ok().and_then(|size| size.parse::<u64>().ok());
    given.unwrap_or(LIMIT)
}
