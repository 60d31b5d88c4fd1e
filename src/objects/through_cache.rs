//! Reading packs through a node-local cache.

use super::cached_pack::CachedPack;
use super::content_store::Objects;
use crate::cache::Cache;
use crate::types::Digest;
use std::sync::Arc;

impl Objects {
    /// Reads packs through this cache from now on. Only for a handle that is not used for writing: a writer must see
    /// what the store has, and a cache may have a pack that the store has no more.
    pub(crate) fn read_through(&self, cache: Arc<Cache>) {
        drop(self.cache_slot().set(cache)); // the first one is kept
        self.open_packs().clear();
    }

    /// The cache through which this handle reads.
    pub(crate) fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache_slot().get()
    }

    /// Removes a pack from the cache, if there is one, because what it says of the pack is wrong.
    pub(super) fn forget_cached_pack(&self, name: &Digest) -> bool {
        let Some(cache) = self.cache() else { return false };
        cache.remove(&CachedPack::key(name));
        true
    }
}
