//! Checks that a directory's tree is cut by the rule (M10): it is built again from its entries, and compared.

use super::cursor::Cursor;
use super::cut::reach;
use super::levels::Levels;
use super::node::Node;
use super::node_store::{NodeSink, NodeSource};
use crate::error::Result;
use crate::types::{Digest, Location};
use std::sync::Arc;

/// Takes nodes, and keeps none.
struct Nowhere;

impl NodeSink for Nowhere {
    fn store(&mut self, _: &Node) -> Result<Option<Location>> {
        Ok(None)
    }
}

/// The digest of the root that the entries of the directory `root` have if they are cut by the rule. It is the root's
/// own digest, unless the tree was cut otherwise. Reads the directory's own nodes, not those of the directories in it.
///
/// # Errors
/// Damaged: a node cannot be read, or does not belong where it is.
pub fn digest_by_the_rule(root: &Arc<Node>, source: &dyn NodeSource) -> Result<Digest> {
    if root.is_leaf() && root.len() <= 2 * reach(0) {
        return Ok(root.digest()); // so few that they are one node
    }
    let (mut levels, mut cursor) = (Levels::new(0), Cursor::new(root.clone()));
    while cursor.down_to(0, source)? {
        if let Some((leaf, i)) = cursor.here() {
            levels.push(leaf.item(i), &mut Nowhere)?;
        }
        cursor.advance();
    }
    Ok(levels.finish(&mut Nowhere)?.map_or_else(|| Node::empty().digest(), |node| node.digest()))
}

#[cfg(test)]
mod tests {
    use super::super::encode::NodeItem;
    use super::super::entry::Entry;
    use super::super::memory_nodes::MemoryNodes;
    use super::*;

    fn items(range: std::ops::Range<u32>) -> Vec<NodeItem> {
        let entry = |i: u32| Entry::Symlink { target: i.to_string().into_bytes() };
        range.map(|i| NodeItem::new(format!("{i:05}").as_bytes(), entry(i))).collect()
    }

    /// A tree whose leaves have these entries.
    fn tree(leaves: &[std::ops::Range<u32>], nodes: &mut MemoryNodes) -> Arc<Node> {
        let mut children = Vec::new();
        for leaf in leaves {
            let node = Node::of(0, &items(leaf.clone())).unwrap();
            nodes.store(&node).unwrap();
            children.push(NodeItem::child(node.name(0), node.stored(None)));
        }
        Arc::new(Node::of(1, &children).unwrap())
    }

    #[test]
    fn a_tree_that_is_cut_otherwise_has_another_digest_by_the_rule() {
        let mut nodes = MemoryNodes::new();
        let mut levels = Levels::new(0);
        for item in items(0..3000) {
            levels.push(item, &mut nodes).unwrap();
        }
        let right = Arc::new(levels.finish(&mut nodes).unwrap().unwrap());
        assert!(right.level() > 0 && right.len() > 3);
        assert_eq!(digest_by_the_rule(&right, &nodes).unwrap(), right.digest());
        // The same entries, divided evenly.
        let wrong = tree(&[0..500, 500..1000, 1000..1500, 1500..2000, 2000..2500, 2500..3000], &mut nodes);
        assert_ne!(wrong.digest(), right.digest());
        assert_eq!(digest_by_the_rule(&wrong, &nodes).unwrap(), right.digest());
        // Two leaves where one must be, and one where there must be more.
        let two = tree(&[0..5, 5..10], &mut nodes);
        let one = Arc::new(Node::of(0, &items(0..10)).unwrap());
        assert_eq!(digest_by_the_rule(&two, &nodes).unwrap(), one.digest());
        let long = Arc::new(Node::of(0, &items(0..1000)).unwrap());
        assert_ne!(digest_by_the_rule(&long, &nodes).unwrap(), long.digest());
        assert_eq!(digest_by_the_rule(&Arc::new(Node::empty()), &nodes).unwrap(), Node::empty().digest());
    }
}
