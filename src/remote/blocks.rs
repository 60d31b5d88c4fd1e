//! Blocks of remote objects: what was read is kept in memory and in the node's cache, so that it is fetched once.
//!
//! A block is 1 MiB of an object in one state: its key is the digest of URI, tag, size and number. In the cache a block
//! has a sum behind it, so that a torn or damaged one is noticed, removed and fetched again.

use super::caching::cache;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::recent_cache::RecentCache;
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

/// The size of a block: what a random read of a few bytes fetches.
pub(super) const BLOCK: u64 = 1 << 20;
/// How many bytes of blocks are kept in memory.
const MEMORY: usize = 128 << 20;
/// Behind the bytes of a cached block: their number, and their sum.
const TRAILER: usize = 8;

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

/// The key of an object in one state.
pub(super) fn object_key(uri: &str, size: u64, tag: Option<&str>) -> Digest {
    let mut hasher = Hasher::new();
    for part in [uri.as_bytes(), tag.unwrap_or_default().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&size.to_le_bytes());
    hasher.finish()
}

/// A block that this process has in memory.
pub(super) fn in_memory(key: &Digest) -> Option<Block> {
    MEMORY_BLOCKS.get(key)
}

/// A block of `length` bytes, from memory or from the cache.
pub(super) fn get(key: &Digest, length: usize) -> Option<Block> {
    if let Some(block) = in_memory(key) {
        return Some(block);
    }
    let cache = cache()?;
    let file = cache.get(key)?;
    match checked(&file, key, length) {
        Some(bytes) => {
            let block = Arc::new(bytes);
            keep(key, &block);
            Some(block)
        }
        None => {
            cache.remove(key);
            None
        }
    }
}

/// Keeps a block in memory.
pub(super) fn keep(key: &Digest, block: &Block) {
    MEMORY_BLOCKS.put(*key, block.clone(), block.len());
}

fn sum(key: &Digest, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&key.0);
    sum.update(bytes);
    sum.finalize()
}

fn checked(file: &File, key: &Digest, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length + TRAILER];
    if file.metadata().ok()?.len() != bytes.len() as u64 {
        return None;
    }
    file.read_exact_at(&mut bytes, 0).ok()?;
    let trailer = bytes.split_off(length);
    let wanted = [(length as u32).to_le_bytes(), sum(key, &bytes).to_le_bytes()].concat();
    (trailer == wanted).then_some(bytes)
}

/// Writes a block to the cache. Without space, it is fetched again when it is needed.
pub(super) fn store(cache: &Cache, key: &Digest, block: &[u8]) {
    let trailer = [(block.len() as u32).to_le_bytes(), sum(key, block).to_le_bytes()].concat();
    let failed = |e| Error::io("write to", cache.path(), e);
    let mut write = |file: &mut File| -> Result<()> {
        file.write_all(block).and_then(|()| file.write_all(&trailer)).map_err(failed)
    };
    drop(cache.put(key, &mut write));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_block_that_is_not_what_was_written_is_not_believed() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = Cache::open(tmp.path(), 1 << 20).unwrap();
        let (one, two) = (key(&object_key("a", 1, None), 0), key(&object_key("a", 1, Some("x")), 0));
        assert_ne!(one, two);
        store(&cache, &one, b"hello");
        let file = cache.get(&one).unwrap();
        assert_eq!(checked(&file, &one, 5).unwrap(), b"hello");
        assert!(checked(&file, &two, 5).is_none() && checked(&file, &one, 4).is_none());
        let mut bytes = vec![0; 13];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            let path = tmp.path().join("bad");
            std::fs::write(&path, bad).unwrap();
            assert!(checked(&File::open(&path).unwrap(), &one, 5).is_none(), "byte {i}");
        }
    }
}
