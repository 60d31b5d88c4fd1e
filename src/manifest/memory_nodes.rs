//! A store of nodes in memory.

use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::{NodeSink, NodeSource};
use crate::error::{Error, Result};
use crate::locks::Mutex;
use crate::types::{Digest, Location};
use std::collections::HashMap;
use std::sync::Arc;

/// Nodes in memory: for tests, and to learn a directory's digest without a store. Clones share the nodes.
#[derive(Clone, Default)]
pub struct MemoryNodes(Arc<Mutex<SharedNodes>>);

impl std::fmt::Debug for MemoryNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryNodes").field("counts", &self.0.lock().counts).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct SharedNodes {
    nodes: HashMap<Digest, Arc<Node>>,
    counts: MemoryNodeCounts,
}

/// What went through a [`MemoryNodes`].
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct MemoryNodeCounts {
    /// Nodes loaded, the same one twice counted twice.
    pub loads: u64,
    /// Nodes stored that were not there yet.
    pub stored: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Nodes offered, those already there included.
    pub offered: u64,
}

impl MemoryNodes {
    /// No nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts since the beginning or the last [`MemoryNodes::reset`].
    pub fn counts(&self) -> MemoryNodeCounts {
        self.0.lock().counts
    }

    /// MemoryNodeCounts from zero again.
    pub fn reset(&self) {
        self.0.lock().counts = MemoryNodeCounts::default();
    }

    /// A node that is there; not counted.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Node>> {
        self.0.lock().nodes.get(digest).cloned()
    }

    /// Puts bytes under a digest without any check: for tests of damage.
    pub fn insert(&self, digest: Digest, node: Node) {
        self.0.lock().nodes.insert(digest, Arc::new(node));
    }
}

impl NodeSource for MemoryNodes {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        let mut kept = self.0.lock();
        kept.counts.loads += 1;
        let missing = || Error::damaged(format!("manifest node {} is missing", at.digest));
        kept.nodes.get(&at.digest).cloned().ok_or_else(missing)
    }
}

impl NodeSink for MemoryNodes {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let mut kept = self.0.lock();
        kept.counts.offered += 1;
        if !kept.nodes.contains_key(&node.digest()) {
            kept.counts.stored += 1;
            kept.counts.stored_bytes += node.bytes().len() as u64;
            kept.nodes.insert(node.digest(), Arc::new(node.clone()));
        }
        Ok(None)
    }
}
