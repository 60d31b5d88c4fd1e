//! Changing one directory's tree: level by level, cutting again only where the cut can have moved.
//!
//! A change at key k can move cuts only between w keys and [`MAX_WEIGHT`] before the key w before k, and the same
//! behind it (see `cut`). So each level is read from a node start that cannot have moved up to the first node start
//! behind the change that old and new cut agree on, and the nodes that differ become changes of the level above.
//! A change that keeps name and weight moves no cut at all.

use super::cursor::Cursor;
use super::cut::{Cutter, key_hash, reach};
use super::encode::NodeItem;
use super::entry::Entry;
use super::format::MAX_WEIGHT;
use super::levels::{Levels, store};
use super::node::Node;
use super::node_ref::NodeRef;
use super::node_store::{NodeSink, NodeSource};
use crate::error::Result;
use crate::types::Digest;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

type Name = Box<[u8]>;

/// What a name of a level shall have: an entry, or nothing.
#[derive(Debug)]
pub(super) struct ItemEdit {
    pub name: Name,
    pub to: Option<Entry>,
    /// Name and weight stay, so no cut moves. Set by [`LevelEdit::classify`].
    still: bool,
}

impl ItemEdit {
    pub fn new(name: &[u8], to: Option<Entry>) -> ItemEdit {
        ItemEdit { name: name.into(), to, still: false }
    }
}

/// The root of the directory `root` after `edits`, which are in order of their names. Nodes below the root are stored,
/// the root is not; without any change it is `root` itself.
pub(super) fn edit(
    root: &Arc<Node>,
    mut edits: Vec<ItemEdit>,
    source: &dyn NodeSource,
    sink: &mut dyn NodeSink,
) -> Result<Arc<Node>> {
    let mut fresh = Vec::new();
    for level in 0..=root.level() {
        let mut work = LevelEdit { level, root, source, edits, up: Vec::new(), last: None };
        work.classify()?;
        if work.edits.is_empty() {
            return Ok(root.clone());
        }
        if level == root.level() {
            return whole(root, work.edits, &fresh, source, sink);
        }
        work.run(sink)?;
        edits = work.up;
        fresh.extend(work.last);
    }
    unreachable!("the loop ends at the root's level")
}

/// The root's own level: cuts all of it, and builds further levels if needed.
fn whole(
    root: &Node,
    edits: Vec<ItemEdit>,
    fresh: &[Node],
    source: &dyn NodeSource,
    sink: &mut dyn NodeSink,
) -> Result<Arc<Node>> {
    let mut levels = Levels::new(root.level());
    let mut edits = edits.into_iter().peekable();
    for i in 0..root.len() {
        let name = root.name(i);
        while let Some(edit) = edits.next_if(|e| *e.name < *name) {
            push(&mut levels, edit, sink)?;
        }
        match edits.next_if(|e| *e.name == *name) {
            Some(edit) => push(&mut levels, edit, sink)?,
            None => levels.push(root.item(i), sink)?,
        }
    }
    for edit in edits {
        push(&mut levels, edit, sink)?;
    }
    let mut node = Arc::new(levels.finish(sink)?.unwrap_or_else(Node::empty));
    // The tree has become lower. The child is an old node, or the last one made of its level.
    while !node.is_leaf() && node.len() == 1 {
        let at: NodeRef = node.child(0).at;
        node = match fresh.iter().find(|n| n.digest() == at.digest) {
            Some(made) => Arc::new(made.clone()),
            None => source.load(&at)?,
        };
    }
    Ok(node)
}

fn push(levels: &mut Levels, edit: ItemEdit, sink: &mut dyn NodeSink) -> Result<()> {
    edit.to.map_or(Ok(()), |entry| levels.push(NodeItem::new(&edit.name, entry), sink))
}

/// One level below the root's, being changed.
struct LevelEdit<'a> {
    level: u8,
    root: &'a Arc<Node>,
    source: &'a dyn NodeSource,
    edits: Vec<ItemEdit>,
    /// What changes in the level above.
    up: Vec<ItemEdit>,
    /// The last node made.
    last: Option<Node>,
}

/// A node start where cutting can begin again.
struct Restart {
    cursor: Cursor,
    /// Hashes of the w items before it; none at the beginning of the level.
    before: Option<Vec<u64>>,
    /// The key before it, if it is in the same run.
    previous: Option<Name>,
}

/// Where the next change that can move a cut begins.
enum NextCut {
    /// There is none.
    Done,
    /// Cutting begins again here.
    At(Restart),
    /// It is too near to the current position: continue.
    GoOn,
}

impl LevelEdit<'_> {
    fn seek(&self, name: &[u8]) -> Result<Cursor> {
        let mut cursor = Cursor::new(self.root.clone());
        cursor.seek_node(self.root.clone(), name, self.level, self.source)?;
        Ok(cursor)
    }

    /// Drops edits that change nothing, and finds those that move no cut.
    fn classify(&mut self) -> Result<()> {
        let mut kept = Vec::with_capacity(self.edits.len());
        for mut edit in std::mem::take(&mut self.edits) {
            let cursor = self.seek(&edit.name)?;
            let Some((node, _)) = cursor.here() else {
                kept.extend(edit.to.is_some().then_some(edit));
                continue;
            };
            let changes = match (node.find(&edit.name), &edit.to) {
                (Err(_), to) => to.is_some(),
                (Ok(_), None) => true,
                (Ok(i), Some(entry)) => {
                    let item = NodeItem::new(&edit.name, entry.clone());
                    edit.still = item.weight(self.level) == node.weight(i);
                    !node.item(i).entry.same(entry)
                }
            };
            if changes {
                kept.push(edit);
            }
        }
        self.edits = kept;
        Ok(())
    }

    /// All regions, in order, and between them the nodes whose entries change in place.
    fn run(&mut self, sink: &mut dyn NodeSink) -> Result<()> {
        let mut next = 0;
        let mut plan = self.plan(0, None)?;
        loop {
            let stop = match &plan {
                NextCut::At(restart) => restart.cursor.here().map(|(node, _)| node.name(0).to_vec()),
                _ => None,
            };
            // A new first name of the level comes before the node where cutting begins; it is not handled here.
            while self.edits.get(next).is_some_and(|e| e.still && stop.as_ref().is_none_or(|stop| *e.name < **stop)) {
                next = self.in_place(next, stop.as_deref(), sink)?;
            }
            let NextCut::At(restart) = plan else { return Ok(()) };
            (next, plan) = self.region(next, restart, sink)?;
        }
    }

    /// Changes the entries of one node in place. Returns the index of the next edit.
    fn in_place(&mut self, mut next: usize, stop: Option<&[u8]>, sink: &mut dyn NodeSink) -> Result<usize> {
        let cursor = self.seek(&self.edits[next].name)?;
        let Some((node, _)) = cursor.here() else { return Ok(next + 1) };
        let mut items: Vec<NodeItem> = (0..node.len()).map(|i| node.item(i)).collect();
        while let Some(edit) = self.edits.get(next).filter(|e| stop.is_none_or(|stop| *e.name < *stop)) {
            let Ok(i) = node.find(&edit.name) else { break };
            if let Some(entry) = &edit.to {
                items[i].entry = entry.clone();
            }
            next += 1;
        }
        let made = Node::of(self.level, &items)?;
        let item = store(&made, sink)?;
        self.up.push(ItemEdit::new(&item.name, Some(item.entry)));
        self.last = Some(made);
        Ok(next)
    }

    /// Where to begin for the first edit from `from` on that can move a cut. Everything before the node start
    /// `standing` is done.
    fn plan(&self, from: usize, standing: Option<&[u8]>) -> Result<NextCut> {
        let Some(edit) = self.edits[from..].iter().find(|e| !e.still) else { return Ok(NextCut::Done) };
        let w = reach(self.level);
        let mut cursor = self.seek(&edit.name)?;
        // Hash and weight of the keys from the node start to the edit.
        let mut keys: VecDeque<(u64, usize)> = VecDeque::new();
        loop {
            let Some((node, _)) = cursor.here() else { return Ok(NextCut::Done) };
            let node = node.clone();
            // Of the first node the part before the edit, then all.
            let end = node.find(&edit.name).unwrap_or_else(|at| at);
            for i in (0..end).rev() {
                keys.push_front((key_hash(self.level, node.name(i)), node.weight(i)));
            }
            if standing == Some(node.name(0)) {
                return Ok(NextCut::GoOn);
            }
            if cursor.at_first_node() {
                return Ok(NextCut::At(Restart { cursor, before: None, previous: None }));
            }
            if keys.len() > w {
                let (before, previous) = self.before(&cursor)?;
                if before.len() == w {
                    let hash = keys[0].0;
                    let begins_run =
                        before.iter().chain(keys.iter().skip(1).take(w).map(|(h, _)| h)).all(|h| hash < *h);
                    let far: usize = keys.iter().take(keys.len() - w).map(|(_, weight)| weight).sum();
                    if begins_run || far > MAX_WEIGHT {
                        let previous = previous.filter(|_| !begins_run);
                        return Ok(NextCut::At(Restart { cursor, before: Some(before), previous }));
                    }
                }
            }
            cursor.previous_node(self.source)?;
        }
    }

    /// Hashes of up to w keys before the node of `cursor`, in order, and the last of these keys.
    fn before(&self, cursor: &Cursor) -> Result<(Vec<u64>, Option<Name>)> {
        let w = reach(self.level);
        let mut cursor = cursor.clone();
        let mut hashes = VecDeque::new();
        let mut previous = None;
        while hashes.len() < w && cursor.previous_node(self.source)? {
            let Some((node, _)) = cursor.here() else { break };
            if previous.is_none() {
                previous = Some(node.name(node.len() - 1).into());
            }
            for i in (0..node.len()).rev().take(w - hashes.len()) {
                hashes.push_front(key_hash(self.level, node.name(i)));
            }
        }
        Ok((hashes.into(), previous))
    }

    /// Cuts again from `restart` until the old cut is met after all changes so far. Returns the index of the next edit
    /// and the next cut.
    fn region(&mut self, mut next: usize, restart: Restart, sink: &mut dyn NodeSink) -> Result<(usize, NextCut)> {
        let w = reach(self.level) as u32;
        let Restart { mut cursor, before, previous } = restart;
        let mut region = Region { level: self.level, old: BTreeMap::new(), up: BTreeMap::new(), last: None };
        let mut cutter = match before {
            Some(before) => Cutter::resume(self.level, &before, previous),
            None => Cutter::new(self.level),
        };
        // Unchanged items since the last change, and the number of the item at that change.
        let (mut since, mut changed) = (0u32, 0);
        let mut cut = Vec::new();
        while let Some((node, _)) = cursor.here() {
            let node = node.clone();
            region.old.insert(node.name(0).into(), cursor.digest());
            for i in 0..node.len() {
                let name = node.name(i);
                while self.edits.get(next).is_some_and(|e| *e.name < *name) {
                    (since, changed) = (0, cutter.next_number());
                    self.feed(next, &mut cutter, &mut cut);
                    next += 1;
                }
                if self.edits.get(next).is_some_and(|e| *e.name == *name) {
                    (since, changed) = (0, cutter.next_number());
                    self.feed(next, &mut cutter, &mut cut);
                    next += 1;
                } else {
                    let mut item = node.item(i);
                    item.mark = (i == 0).then_some(since);
                    since = since.saturating_add(1);
                    cutter.push(item, &mut cut);
                }
                if cut.is_empty() {
                    continue;
                }
                region.made(std::mem::take(&mut cut), sink)?;
                let Some((number, item)) = cutter.first_pending() else { continue };
                if item.mark.is_some_and(|since| since >= w) && changed <= number {
                    let met = item.name.clone();
                    match self.plan(next, Some(&met))? {
                        NextCut::GoOn => {}
                        plan => {
                            region.close(Some(&met), self);
                            return Ok((next, plan));
                        }
                    }
                }
            }
            if !cursor.next_node(self.source)? {
                break;
            }
        }
        while next < self.edits.len() {
            self.feed(next, &mut cutter, &mut cut);
            next += 1;
        }
        cutter.finish(&mut cut);
        region.made(cut, sink)?;
        region.close(None, self);
        Ok((next, NextCut::Done))
    }

    fn feed(&mut self, edit: usize, cutter: &mut Cutter, cut: &mut Vec<Vec<NodeItem>>) {
        let edit = &mut self.edits[edit];
        if let Some(entry) = edit.to.take() {
            cutter.push(NodeItem::new(&edit.name, entry), cut);
        }
    }
}

/// Old and new nodes of a stretch of a level.
struct Region {
    level: u8,
    old: BTreeMap<Name, Digest>,
    up: BTreeMap<Name, Option<Entry>>,
    last: Option<Node>,
}

impl Region {
    /// Makes nodes of what was cut, and stores those that are not old ones.
    fn made(&mut self, cut: Vec<Vec<NodeItem>>, sink: &mut dyn NodeSink) -> Result<()> {
        for items in cut {
            let node = Node::of(self.level, &items)?;
            match self.old.remove(node.name(0)) {
                Some(old) if old == node.digest() => {}
                _ => {
                    let item = store(&node, sink)?;
                    self.up.insert(item.name, Some(item.entry));
                    self.last = Some(node);
                }
            }
        }
        Ok(())
    }

    /// The stretch ends at `met`: old nodes before it that no new node has replaced are gone.
    fn close(mut self, met: Option<&[u8]>, level: &mut LevelEdit<'_>) {
        for name in self.old.into_keys() {
            if met.is_none_or(|met| *name < *met) {
                self.up.insert(name, None);
            }
        }
        level.up.extend(self.up.into_iter().map(|(name, to)| ItemEdit::new(&name, to)));
        level.last = self.last.or(level.last.take());
    }
}
