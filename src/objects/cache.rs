//! Decoded nodes, bounded in bytes. Two generations: what is used while the young one fills survives, the rest goes with the old one.

use crate::manifest::Node;
use crate::words::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 8;

/// A bounded cache of nodes by digest.
#[derive(Debug)]
pub(super) struct NodeCache {
    shards: [Mutex<Shard>; SHARDS],
    /// Bytes that one shard's young generation may take.
    bound: usize,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Digest, Arc<Node>>,
    old: HashMap<Digest, Arc<Node>>,
    bytes: usize,
}

impl NodeCache {
    /// A cache of about `bytes` bytes.
    pub(super) fn new(bytes: usize) -> NodeCache {
        NodeCache { shards: Default::default(), bound: bytes / SHARDS / 2 }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Node>> {
        let mut shard = self.shard(digest).lock();
        if let Some(found) = shard.young.get(digest) {
            return Some(found.clone());
        }
        let found = shard.old.get(digest).cloned()?;
        shard.insert(*digest, found.clone(), self.bound);
        Some(found)
    }

    pub(super) fn insert(&self, digest: Digest, node: Arc<Node>) {
        self.shard(&digest).lock().insert(digest, node, self.bound);
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Shard> {
        &self.shards[usize::from(digest.0[31]) % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, digest: Digest, node: Arc<Node>, bound: usize) {
        let size = node.memory();
        if self.bytes + size > bound {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += size;
        self.young.insert(digest, node);
    }
}
