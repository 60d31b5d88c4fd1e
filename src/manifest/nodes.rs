//! Where nodes come from and go to, and a store of nodes in memory.

use super::entry::Stored;
use super::node::Node;
use crate::error::{Error, Result};
use crate::types::{Digest, Location};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A node as its parent names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeRef {
    /// Its digest.
    pub digest: Digest,
    /// Where it is thought to lie.
    pub place: Option<Location>,
}

impl From<Digest> for NodeRef {
    fn from(digest: Digest) -> Self {
        NodeRef { digest, place: None }
    }
}

/// Gives nodes by digest. Caches, if any, are inside.
pub trait NodeSource: Send + Sync {
    /// The node with that digest. The implementation has checked that the bytes have it.
    ///
    /// # Errors
    /// Damage when the node is missing or its bytes are not what the digest says.
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>>;
}

/// Takes nodes. Called for children before their parents. A node may come more than once: the sink deduplicates.
pub trait NodeSink {
    /// Stores the node, and says where it will lie.
    ///
    /// # Errors
    /// What keeps the node from being stored.
    fn store(&mut self, node: &Node) -> Result<Option<Location>>;
}

/// Loads a node and checks it against what its parent says of it.
pub(super) fn load_checked(source: &dyn NodeSource, want: &Stored) -> Result<Arc<Node>> {
    let node = source.load(&want.at)?;
    if *node.totals() != want.totals {
        return Err(Error::damaged(format!(
            "manifest node {}: it adds up to {:?}, its parent says {:?}",
            want.at.digest,
            node.totals(),
            want.totals
        )));
    }
    Ok(node)
}

/// The last few nodes of a source, so that going back and forth between neighbours loads each once.
pub(super) struct Recent<'a> {
    source: &'a dyn NodeSource,
    kept: Mutex<VecDeque<(Digest, Arc<Node>)>>,
}

/// Enough for the paths and neighbours of one edit; at most 2 MiB.
const RECENT: usize = 64;

impl<'a> Recent<'a> {
    pub fn new(source: &'a dyn NodeSource) -> Self {
        Recent { source, kept: Mutex::new(VecDeque::new()) }
    }
}

impl NodeSource for Recent<'_> {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        if let Some((_, node)) = self.kept.lock().iter().rev().find(|(digest, _)| *digest == at.digest) {
            return Ok(node.clone());
        }
        let node = self.source.load(at)?;
        let mut kept = self.kept.lock();
        if kept.len() == RECENT {
            kept.pop_front();
        }
        kept.push_back((at.digest, node.clone()));
        Ok(node)
    }
}

/// Nodes in memory: for tests, and to learn a directory's digest without a store. Clones share the nodes.
#[derive(Clone, Default)]
pub struct MemoryNodes(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    nodes: HashMap<Digest, Arc<Node>>,
    counts: Counts,
}

/// What went through a [`MemoryNodes`].
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
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
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.0.lock().counts = Counts::default();
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
