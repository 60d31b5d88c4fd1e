//! Builds one directory's tree from its items in order: cut, encode, pass up, level by level.

use super::cut::Cutter;
use super::encode::NodeItem;
use super::entry::{DirAt, Subtree};
use super::node::Node;
use super::node_store::NodeSink;
use crate::error::Result;
use crate::types::Location;
use std::sync::Arc;

/// Builds the levels from `base` upwards. Holds back the first node of each level: if no second one comes, it is the
/// root, and may be inlined in its parent's leaf.
pub(super) struct Levels {
    base: u8,
    levels: Vec<LevelBuilder>,
}

struct LevelBuilder {
    cutter: Cutter,
    held: Option<Node>,
    /// There is more than one node.
    many: bool,
}

impl Levels {
    /// Accepts items of level `base`: entries for 0, otherwise nodes of the level below.
    pub fn new(base: u8) -> Levels {
        Levels { base, levels: vec![LevelBuilder::new(base)] }
    }

    /// The next item.
    pub fn push(&mut self, item: NodeItem, sink: &mut dyn NodeSink) -> Result<()> {
        let mut cut = Vec::new();
        self.levels[0].cutter.push(item, &mut cut);
        if cut.is_empty() { Ok(()) } else { self.nodes(0, cut, sink) }
    }

    /// Nodes of level `at` are complete.
    fn nodes(&mut self, at: usize, cut: Vec<Vec<NodeItem>>, sink: &mut dyn NodeSink) -> Result<()> {
        let mut up = Vec::new();
        for items in cut {
            let level = &mut self.levels[at];
            let node = Node::of(self.base + at as u8, &items)?;
            if level.many {
                up.push(store(&node, sink)?);
            } else if let Some(first) = level.held.take() {
                level.many = true;
                up.push(store(&first, sink)?);
                up.push(store(&node, sink)?);
            } else {
                level.held = Some(node);
            }
        }
        if up.is_empty() {
            return Ok(());
        }
        if self.levels.len() == at + 1 {
            self.levels.push(LevelBuilder::new(self.base + at as u8 + 1));
        }
        let mut cut = Vec::new();
        for item in up {
            self.levels[at + 1].cutter.push(item, &mut cut);
        }
        // Recursion is as deep as the tree is high.
        self.nodes(at + 1, cut, sink)
    }

    /// The root, not stored yet; `None` if there were no items.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<Option<Node>> {
        let mut at = 0;
        loop {
            let mut cut = Vec::new();
            self.levels[at].cutter.finish(&mut cut);
            self.nodes(at, cut, sink)?;
            if !self.levels[at].many {
                return Ok(self.levels[at].held.take());
            }
            at += 1;
        }
    }
}

impl LevelBuilder {
    fn new(level: u8) -> LevelBuilder {
        LevelBuilder { cutter: Cutter::new(level), held: None, many: false }
    }
}

/// Stores a node. Returns its item for the level above.
pub(super) fn store(node: &Node, sink: &mut dyn NodeSink) -> Result<NodeItem> {
    let place = sink.store(node)?;
    Ok(NodeItem::child(node.name(0), node.stored(place)))
}

/// A directory with this root: inlined in the parent's leaf if it is small, otherwise stored.
pub(super) fn directory(root: Arc<Node>, sink: &mut dyn NodeSink) -> Result<Subtree> {
    Ok(Subtree(if root.fits_inline() {
        DirAt::Inline(root)
    } else {
        let place: Option<Location> = sink.store(&root)?;
        DirAt::Stored(root.stored(place))
    }))
}
