//! Stores the nodes of a manifest that are not yet in the wanted packs: new nodes, and old ones that move to a newer
//! pack.

use super::build::RootNode;
use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::{NodeSink, NodeSource};
use crate::error::Result;
use crate::types::{Digest, Location};
use std::collections::HashMap;
use std::sync::Arc;

/// Stores every node of the manifest that may not stay where it is, children first, with hints to where each child now
/// lies. `home` returns where a node lies if it may stay; such a node and everything below it is not read. So the cost
/// depends on what moves.
///
/// # Errors
/// Those of source and sink; damaged.
pub fn carry(
    root: &RootNode,
    source: &dyn NodeSource,
    home: &dyn Fn(&NodeRef) -> Result<Option<Location>>,
    sink: &mut dyn NodeSink,
) -> Result<RootNode> {
    let mut carrier = NodeRelocator::new(source, home, sink);
    let node = carrier.carried(&root.node)?;
    let place = match home(&root.node_ref())? {
        Some(place) => Some(place),
        None => carrier.sink.store(&node)?,
    };
    Ok(RootNode { node: Arc::new(node), place })
}

/// As [`carry`], for nodes as they are made: a sink that stores, before each node, the nodes below it that may not stay
/// and were not stored here.
pub struct NodeRelocator<'a> {
    source: &'a dyn NodeSource,
    home: &'a dyn Fn(&NodeRef) -> Result<Option<Location>>,
    sink: &'a mut dyn NodeSink,
    /// Where the nodes that were stored here lie.
    places: HashMap<Digest, Option<Location>>,
}

impl std::fmt::Debug for NodeRelocator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeRelocator").finish_non_exhaustive()
    }
}

impl<'a> NodeRelocator<'a> {
    /// Stores into `sink`. Old nodes come from `source`.
    pub fn new(
        source: &'a dyn NodeSource,
        home: &'a dyn Fn(&NodeRef) -> Result<Option<Location>>,
        sink: &'a mut dyn NodeSink,
    ) -> Self {
        NodeRelocator { source, home, sink, places: HashMap::new() }
    }

    /// A manifest that was built into this sink: its root, with hints to where the nodes below it lie now.
    ///
    /// # Errors
    /// Those of source and sink; damaged.
    pub fn settled(&mut self, root: &RootNode) -> Result<RootNode> {
        Ok(RootNode { node: Arc::new(self.carried(&root.node)?), place: root.place })
    }

    /// Stores the children as needed; returns the node with hints to them. Recursion is as deep as the directories
    /// nest.
    fn carried(&mut self, node: &Node) -> Result<Node> {
        let mut places = HashMap::new();
        for child in node.children() {
            if places.contains_key(&child.digest) {
                continue;
            }
            let known = self.places.get(&child.digest).copied();
            let place = match known {
                Some(place) => place,
                None => match (self.home)(&child)? {
                    Some(place) => Some(place),
                    None => {
                        let below = self.source.load(&child)?;
                        self.store(&below)?
                    }
                },
            };
            places.insert(child.digest, place);
        }
        node.with_child_places(&places)
    }
}

impl NodeSink for NodeRelocator<'_> {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let node = self.carried(node)?;
        let place = self.sink.store(&node)?;
        self.places.insert(node.digest(), place);
        Ok(place)
    }
}
