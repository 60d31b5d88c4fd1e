//! Where nodes come from and go to.

use super::node::Node;
use super::node_ref::{ChildRef, NodeRef};
use crate::error::{Error, Result};
use crate::recent_cache::RecentCache;
use crate::types::Location;
use std::sync::Arc;

/// Gives nodes by digest. Caches, if any, are inside.
pub trait NodeSource: Send + Sync {
    /// The node with that digest. The implementation has checked that the bytes have it.
    ///
    /// # Errors
    /// Damaged: the node is missing, or its bytes do not have the digest.
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>>;
}

/// Takes nodes. Called for children before their parents. A node may come more than once: the sink deduplicates.
pub trait NodeSink {
    /// Stores the node. Returns where it will lie.
    ///
    /// # Errors
    /// What keeps the node from being stored.
    fn store(&mut self, node: &Node) -> Result<Option<Location>>;
}

/// Loads a node and checks it against what its parent records.
pub(super) fn load_checked(source: &dyn NodeSource, want: &ChildRef) -> Result<Arc<Node>> {
    let node = source.load(&want.at)?;
    if *node.totals() != want.totals {
        return Err(Error::damaged(format!(
            "manifest node {}: its sums are {:?}, its parent records {:?}",
            want.at.digest,
            node.totals(),
            want.totals
        )));
    }
    Ok(node)
}

/// A source that keeps the nodes used last, so that a change which goes back and forth between neighbours loads each
/// once.
pub(super) struct CachedNodes<'a> {
    source: &'a dyn NodeSource,
    recent: RecentCache<Node>,
}

/// Nodes that are kept: enough for the paths and neighbours of one edit. At most 4 MiB.
const CACHED_NODES: usize = 128;

impl<'a> CachedNodes<'a> {
    pub fn new(source: &'a dyn NodeSource) -> Self {
        CachedNodes { source, recent: RecentCache::new(CACHED_NODES) }
    }
}

impl NodeSource for CachedNodes<'_> {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.recent.get(&at.digest) {
            return Ok(node);
        }
        let node = self.source.load(at)?;
        self.recent.put(at.digest, node.clone(), 1);
        Ok(node)
    }
}
