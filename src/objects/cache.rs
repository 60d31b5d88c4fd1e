//! What is remembered of reads, within bounds: decoded nodes, and which odd-looking object files were hashed.

use crate::manifest::Node;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHARDS: usize = 8;

/// Nodes by digest, bounded in bytes (L4). Two generations: what is used while the young one fills survives, the rest
/// goes with the old one.
#[derive(Debug)]
pub(super) struct NodeCache {
    shards: [Mutex<Shard>; SHARDS],
    bytes: AtomicUsize,
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
        NodeCache { shards: Default::default(), bytes: AtomicUsize::new(bytes) }
    }

    /// Another bound; what is beyond it goes as new nodes come.
    pub(super) fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that one shard's young generation may take.
    fn bound(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) / SHARDS / 2
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Node>> {
        let mut shard = self.shard(digest).lock();
        if let Some(found) = shard.young.get(digest) {
            return Some(found.clone());
        }
        let found = shard.old.remove(digest)?;
        shard.insert(*digest, found.clone(), self.bound());
        Some(found)
    }

    pub(super) fn insert(&self, digest: Digest, node: Arc<Node>) {
        self.shard(&digest).lock().insert(digest, node, self.bound());
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Shard> {
        &self.shards[usize::from(digest.0[31]) % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, digest: Digest, node: Arc<Node>, bound: usize) {
        let size = node.memory();
        if size > bound {
            return;
        }
        if self.bytes + size > bound {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        if self.young.insert(digest, node).is_none() {
            self.bytes += size;
        }
    }
}

/// More object files than this are not remembered; some are then hashed again.
const MAX_HASHED: usize = 1 << 14;

/// A file and its last change: another file, or a change of this one, has another.
type Identity = (u64, u64, i64, i64);

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
}

/// Object files that were hashed and found right although their time is not as recorded: so that each read of such a
/// file does not hash all of it.
#[derive(Debug, Default)]
pub(super) struct Hashed(Mutex<HashMap<Digest, Identity>>);

impl Hashed {
    pub(super) fn knows(&self, digest: &Digest, meta: &Metadata) -> bool {
        self.0.lock().get(digest) == Some(&identity(meta))
    }

    pub(super) fn remember(&self, digest: Digest, meta: &Metadata) {
        let mut known = self.0.lock();
        if known.len() >= MAX_HASHED {
            known.clear();
        }
        known.insert(digest, identity(meta));
    }
}
