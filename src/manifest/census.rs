//! Visits every node of many manifests once, for a check of a whole store. A manifest can name one directory many
//! times, level upon level, so that a walk by path would not end. A census costs what the distinct nodes cost (L5).

use super::entry::{DirAt, Entry, Subtree};
use super::node::Node;
use super::node_ref::ChildRef;
use super::node_store::NodeSource;
use super::totals::Totals;
use super::tree::Tree;
use crate::error::{Error, Result, show_bytes};
use crate::types::{Digest, Location, RelPath};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is remembered of a node, to compare it with what each of its parents records.
struct NodeSummary {
    level: u8,
    totals: Totals,
    first: Box<[u8]>,
    /// The last name below it.
    last: Box<[u8]>,
    inline: bool,
    root: bool,
    marked: bool,
}

/// Gets what a census finds.
pub trait Visitor {
    /// A file that a node names. Returns whether to mark it: [`Census::marked`] then finds the nodes above it.
    ///
    /// # Errors
    /// What ends the census.
    fn file(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool>;

    /// A node that is not inlined, once, after all nodes below it.
    ///
    /// # Errors
    /// What ends the census.
    fn node(&mut self, _digest: &Digest, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// The root of a directory that is not inlined, after all nodes below it. `distinct` is the number of distinct
    /// entries that were met so far.
    ///
    /// # Errors
    /// What ends the census.
    fn directory(&mut self, _root: &Arc<Node>, _source: &dyn NodeSource, _distinct: u64) -> Result<()> {
        Ok(())
    }

    /// A node that cannot be read, or differs from what a parent records. It is marked.
    ///
    /// # Errors
    /// What ends the census.
    fn fault(&mut self, digest: &Digest, error: Error) -> Result<()>;
}

/// The nodes visited so far; `None` for one that cannot be read.
#[derive(Default)]
pub struct Census {
    seen: HashMap<Digest, Option<NodeSummary>>,
    /// Entries of the leaves visited so far.
    entries: u64,
}

impl std::fmt::Debug for Census {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

/// A node that is being visited. An inlined directory does not have a digest here.
struct VisitFrame {
    node: Arc<Node>,
    digest: Option<Digest>,
    /// It is the root of a directory.
    root: bool,
    next: usize,
    last: Box<[u8]>,
    marked: bool,
}

impl VisitFrame {
    fn new(node: Arc<Node>, digest: Option<Digest>, root: bool) -> VisitFrame {
        VisitFrame { node, digest, root, next: 0, last: Box::default(), marked: false }
    }
}

impl Census {
    /// An empty census.
    pub fn new() -> Census {
        Census::default()
    }

    /// Visits all nodes of a manifest that were not visited before. Returns whether something in it is marked, now or
    /// earlier.
    ///
    /// # Errors
    /// Those of the visitor.
    pub fn visit(&mut self, tree: &Tree, visitor: &mut dyn Visitor) -> Result<bool> {
        if let Some(Some(seen)) = self.seen.get(&tree.digest()) {
            return Ok(seen.marked);
        }
        let mut stack = vec![VisitFrame::new(tree.root().clone(), Some(tree.digest()), true)];
        let mut marked = false;
        while let Some(frame) = stack.last_mut() {
            if frame.next == frame.node.len() {
                marked = self.leave(&mut stack, &**tree.source(), visitor)?;
                continue;
            }
            let i = frame.next;
            let down = if frame.node.is_leaf() {
                frame.last = frame.node.name(i).into();
                match frame.node.entry(i) {
                    Entry::File { digest, size, place, .. } => {
                        frame.marked |= visitor.file(&digest, size, place)?;
                        None
                    }
                    Entry::Directory(Subtree(DirAt::Inline(node))) => Some(VisitFrame::new(node, None, true)),
                    Entry::Directory(Subtree(DirAt::Stored(want))) => {
                        self.edge(frame, &want, None, &**tree.source(), visitor)?
                    }
                    Entry::Symlink { .. } | Entry::Reference(_) => None,
                }
            } else {
                let want = frame.node.child(i);
                self.edge(frame, &want, Some(i), &**tree.source(), visitor)?
            };
            match down {
                // A stored node is compared with its parent's record after it was visited. An inlined one was checked
                // with its parent.
                Some(below) => {
                    frame.next += usize::from(below.digest.is_none());
                    stack.push(below);
                }
                None => frame.next += 1,
            }
        }
        Ok(marked)
    }

    /// Finishes a node: remembers its summary. Returns whether it is marked.
    fn leave(
        &mut self,
        stack: &mut Vec<VisitFrame>,
        source: &dyn NodeSource,
        visitor: &mut dyn Visitor,
    ) -> Result<bool> {
        let Some(done) = stack.pop() else { return Ok(false) };
        self.entries += if done.node.is_leaf() { done.node.len() as u64 } else { 0 };
        match done.digest {
            Some(digest) => {
                let node = &done.node;
                let first = if node.is_empty() { Box::default() } else { node.name(0).into() };
                let seen = NodeSummary {
                    level: node.level(),
                    totals: *node.totals(),
                    first,
                    last: done.last,
                    inline: node.fits_inline(),
                    root: node.check_root().is_ok(),
                    marked: done.marked,
                };
                self.seen.insert(digest, Some(seen));
                visitor.node(&digest, &done.node)?;
                if done.root {
                    visitor.directory(&done.node, source, self.entries)?;
                }
            }
            None => {
                if let Some(parent) = stack.last_mut() {
                    parent.marked |= done.marked;
                }
            }
        }
        Ok(done.marked)
    }

    /// Checks a stored node against what `frame` records of it; `inner` is its position if `frame` is an inner node.
    /// Returns the node if it was not visited yet.
    fn edge(
        &mut self,
        frame: &mut VisitFrame,
        want: &ChildRef,
        inner: Option<usize>,
        source: &dyn NodeSource,
        visitor: &mut dyn Visitor,
    ) -> Result<Option<VisitFrame>> {
        let digest = want.at.digest;
        let Some(seen) = self.seen.get(&digest) else {
            match source.load(&want.at) {
                Ok(node) => return Ok(Some(VisitFrame::new(node, Some(digest), inner.is_none()))),
                Err(error) => {
                    self.seen.insert(digest, None);
                    frame.marked = true;
                    visitor.fault(&digest, error)?;
                    return Ok(None);
                }
            }
        };
        let Some(seen) = seen else {
            frame.marked = true;
            return Ok(None);
        };
        frame.marked |= seen.marked;
        let why = match inner {
            Some(i) => {
                frame.last = seen.last.clone();
                child_fault(&frame.node, i, want, seen)
            }
            None => directory_fault(want, seen),
        };
        if let Some(why) = why {
            frame.marked = true;
            visitor.fault(&digest, Error::damaged(format!("manifest node {digest}: {why}")))?;
        }
        Ok(None)
    }

    /// Forgets what is marked and what could not be read, so that it is visited again.
    pub fn forget_marked(&mut self) {
        self.seen.retain(|_, seen| seen.as_ref().is_some_and(|s| !s.marked));
    }

    /// Whether a node is marked, or could not be read.
    pub(super) fn is_marked(&self, digest: &Digest) -> bool {
        !matches!(self.seen.get(digest), Some(Some(NodeSummary { marked: false, .. })))
    }

    /// Reports every path of a manifest that leads to something marked for which `wanted` returns true: a file by its
    /// content's digest, or a directory whose tree has a node with that digest. Walks only marked nodes. A manifest can
    /// have more paths than a walk can visit, so it stops after `left` entries.
    pub fn marked(
        &self,
        tree: &Tree,
        left: &mut u64,
        wanted: &dyn Fn(&Digest) -> bool,
        found: &mut dyn FnMut(&Digest, &RelPath),
    ) -> ControlFlow<()> {
        let mut stack: Vec<(RelPath, Arc<Node>, usize)> = vec![(RelPath::root(), tree.root().clone(), 0)];
        while let Some((at, node, next)) = stack.last_mut() {
            let i = *next;
            if i == node.len() {
                stack.pop();
                continue;
            }
            *next += 1;
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return ControlFlow::Break(()),
            }
            let want = if node.is_leaf() {
                match node.entry(i) {
                    Entry::File { digest, .. } if wanted(&digest) => {
                        if let Ok(path) = at.join(node.name(i)) {
                            found(&digest, &path);
                        }
                        continue;
                    }
                    Entry::Directory(Subtree(DirAt::Inline(inlined))) => {
                        let Ok(path) = at.join(node.name(i)) else { continue };
                        stack.push((path, inlined, 0));
                        continue;
                    }
                    Entry::Directory(Subtree(DirAt::Stored(want))) => want,
                    _ => continue,
                }
            } else {
                node.child(i)
            };
            let marked = self.is_marked(&want.at.digest);
            if !marked && !wanted(&want.at.digest) {
                continue;
            }
            let path = if node.is_leaf() { at.join(node.name(i)) } else { Ok(at.clone()) };
            let Ok(path) = path else { continue };
            if wanted(&want.at.digest) {
                found(&want.at.digest, &path);
            }
            if let (true, Ok(below)) = (marked, tree.source().load(&want.at)) {
                stack.push((path, below, 0));
            }
        }
        ControlFlow::Continue(())
    }
}

/// How a directory's root differs from its entry (M8, M9).
fn directory_fault(want: &ChildRef, seen: &NodeSummary) -> Option<String> {
    if want.totals != seen.totals {
        return Some(format!("its sums are {:?}, its parent records {:?}", seen.totals, want.totals));
    }
    if !seen.root {
        return Some("a root has a single child".into());
    }
    seen.inline.then(|| "a directory that fits into its parent's leaf is a node of its own".into())
}

/// How child `i` differs from what its parent records (M8).
fn child_fault(parent: &Node, i: usize, want: &ChildRef, seen: &NodeSummary) -> Option<String> {
    if want.totals != seen.totals {
        return Some(format!("its sums are {:?}, its parent records {:?}", seen.totals, want.totals));
    }
    if seen.level + 1 != parent.level() || seen.totals.own == 0 {
        return Some(format!("a level {} node has it, of level {}, as child", parent.level(), seen.level));
    }
    if *seen.first != *parent.name(i) {
        return Some(format!(
            "begins at `{}`, its parent records `{}`",
            show_bytes(&seen.first),
            show_bytes(parent.name(i))
        ));
    }
    let reaches = i + 1 < parent.len() && *seen.last >= *parent.name(i + 1);
    reaches.then(|| "it reaches into the next node's names".into())
}
