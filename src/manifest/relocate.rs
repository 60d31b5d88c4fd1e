//! Storing what of a manifest is not yet where it shall be: new nodes, and old ones that move into a younger pack.

use super::build::Root;
use super::memory_nodes::MemoryNodes;
use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::{NodeSink, NodeSource};
use crate::error::Result;
use crate::types::{Digest, Location};
use std::collections::HashMap;
use std::sync::Arc;

/// Nodes in memory over those of a store: where edits are tried before anything is written.
pub struct Layered {
    /// The new nodes.
    pub memory: MemoryNodes,
    /// The old ones.
    pub below: Arc<dyn NodeSource>,
}

impl NodeSource for Layered {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        match self.memory.get(&at.digest) {
            Some(node) => Ok(node),
            None => self.below.load(at),
        }
    }
}

/// Stores every node of the manifest that is not at home, children first, with hints that say where each child now
/// lies. `home` says where a node lies that may stay; such a node is not read, and nothing below it is looked at. So
/// this costs what moves.
///
/// # Errors
/// What source and sink say; damage.
pub fn carry(
    root: &Root,
    source: &dyn NodeSource,
    home: &dyn Fn(&NodeRef) -> Result<Option<Location>>,
    sink: &mut dyn NodeSink,
) -> Result<Root> {
    let mut carrier = NodeRelocator::new(source, home, sink);
    let node = carrier.carried(&root.node)?;
    let place = match home(&root.node_ref())? {
        Some(place) => Some(place),
        None => carrier.sink.store(&node)?,
    };
    Ok(Root { node: Arc::new(node), place })
}

/// [`carry`] for nodes as they are made: a sink that stores, before each node, what is below it and neither came
/// through here nor is at home.
pub struct NodeRelocator<'a> {
    source: &'a dyn NodeSource,
    home: &'a dyn Fn(&NodeRef) -> Result<Option<Location>>,
    sink: &'a mut dyn NodeSink,
    /// Where what came through here lies.
    places: HashMap<Digest, Option<Location>>,
}

impl<'a> NodeRelocator<'a> {
    /// Into `sink`; what is not new comes from `source`.
    pub fn new(
        source: &'a dyn NodeSource,
        home: &'a dyn Fn(&NodeRef) -> Result<Option<Location>>,
        sink: &'a mut dyn NodeSink,
    ) -> Self {
        NodeRelocator { source, home, sink, places: HashMap::new() }
    }

    /// A manifest that was built into this: its root with hints that say where what is below it lies by now.
    ///
    /// # Errors
    /// What source and sink say; damage.
    pub fn settled(&mut self, root: &Root) -> Result<Root> {
        Ok(Root { node: Arc::new(self.carried(&root.node)?), place: root.place })
    }

    /// The node with its children carried. As deep as the directories nest.
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
