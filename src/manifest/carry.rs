//! Storing what of a manifest is not yet where it shall be: new nodes, and old ones that move into a younger pack.

use super::build::Root;
use super::node::Node;
use super::nodes::{MemoryNodes, NodeRef, NodeSink, NodeSource};
use crate::error::Result;
use crate::words::{Digest, Place};
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

/// Stores every node of the manifest that is not at home, children first, with hints that say where each child now lies. `home` says where
/// a node lies that may stay; such a node is not read, and nothing below it is looked at. So this costs what moves.
///
/// # Errors
/// What source and sink say; damage.
pub fn carry(root: &Root, source: &dyn NodeSource, home: &dyn Fn(&NodeRef) -> Result<Option<Place>>, sink: &mut dyn NodeSink) -> Result<Root> {
    let node = carried(&root.node, source, home, sink)?;
    let place = match home(&root.node_ref())? {
        Some(place) => Some(place),
        None => sink.store(&node)?,
    };
    Ok(Root { node: Arc::new(node), place })
}

/// The node with its children carried. As deep as the directories nest.
fn carried(node: &Node, source: &dyn NodeSource, home: &dyn Fn(&NodeRef) -> Result<Option<Place>>, sink: &mut dyn NodeSink) -> Result<Node> {
    let mut places: HashMap<Digest, Option<Place>> = HashMap::new();
    for child in node.children() {
        if places.contains_key(&child.digest) {
            continue;
        }
        let place = match home(&child)? {
            Some(place) => Some(place),
            None => {
                let below = carried(&*source.load(&child)?, source, home, sink)?;
                sink.store(&below)?
            }
        };
        places.insert(child.digest, place);
    }
    node.with_child_places(&places)
}
