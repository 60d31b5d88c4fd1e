//! Blocks of remote objects: what was read is kept in memory and in the node's cache, so that it is fetched once.
//!
//! A block is 1 MiB of an object in one state. In memory its key is the digest of URI, tag, size and number.

use super::caching::cache;
use crate::cache::Item;
use crate::recent_cache::RecentCache;
use crate::types::{Digest, Hasher};
use std::sync::{Arc, LazyLock};

pub(super) use crate::cache::BLOCK;

/// How many bytes of blocks are kept in memory.
const MEMORY: usize = 128 << 20;

static MEMORY_BLOCKS: LazyLock<RecentCache<Vec<u8>>> = LazyLock::new(|| RecentCache::new(MEMORY));

/// The bytes of a block.
pub(super) type Block = Arc<Vec<u8>>;

/// The key of block `number` of an object.
pub(super) fn key(object: &Digest, number: u64) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"cairn-block-1\n");
    hasher.update(&object.0);
    hasher.update(&number.to_le_bytes());
    hasher.finish()
}

/// An object in one state.
pub(super) fn object(uri: &str, size: u64, tag: Option<&str>) -> Item {
    let mut hasher = Hasher::new();
    for part in [uri.as_bytes(), tag.unwrap_or_default().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&size.to_le_bytes());
    Item { key: hasher.finish(), size }
}

/// A block that this process has in memory.
pub(super) fn in_memory(key: &Digest) -> Option<Block> {
    MEMORY_BLOCKS.get(key)
}

/// Block `number` of an object, from memory or from the cache.
pub(super) fn get(object: &Item, number: u64) -> Option<Block> {
    let key = key(&object.key, number);
    if let Some(block) = in_memory(&key) {
        return Some(block);
    }
    let block = Arc::new(cache()?.block(object, number)?);
    keep(&key, &block);
    Some(block)
}

/// Keeps a block in memory.
pub(super) fn keep(key: &Digest, block: &Block) {
    MEMORY_BLOCKS.put(*key, block.clone(), block.len());
}
