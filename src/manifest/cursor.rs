//! A position in one directory's tree, reached by name, by index or by rank, and moved forward and back. A node is
//! loaded when the cursor steps into it.

use super::entry::{Entry, Subtree};
use super::node::Node;
use super::node_store::{NodeSource, load_checked};
use super::totals::Totals;
use crate::error::{Error, Result, show_bytes};
use crate::types::Digest;
use std::cell::Cell;
use std::sync::Arc;

/// A position: an entry of a leaf, a child of an inner node that was not stepped into, or the end.
#[derive(Clone)]
pub(super) struct Cursor {
    stack: Vec<(Arc<Node>, usize)>,
}

impl Cursor {
    /// At the beginning of `root`. Loads nothing.
    pub fn new(root: Arc<Node>) -> Cursor {
        let mut cursor = Cursor { stack: vec![(root, 0)] };
        cursor.settle();
        cursor
    }

    /// The node and the position in it; `None` at the end.
    pub fn here(&self) -> Option<(&Arc<Node>, usize)> {
        self.stack.last().map(|(node, i)| (node, *i))
    }

    /// How many nodes the path to this position has, including the root.
    pub fn depth(&self) -> usize {
        self.stack.len()
    }

    /// The name at this position.
    pub fn name(&self) -> Option<&[u8]> {
        self.here().map(|(node, i)| node.name(i))
    }

    /// Moves past this position without stepping into it.
    pub fn advance(&mut self) {
        if let Some((_, i)) = self.stack.last_mut() {
            *i += 1;
            self.settle();
        }
    }

    /// Leaves nodes whose end is reached.
    fn settle(&mut self) {
        while let Some((node, i)) = self.stack.last() {
            if *i < node.len() {
                return;
            }
            self.stack.pop();
            if let Some((_, i)) = self.stack.last_mut() {
                *i += 1;
            }
        }
    }

    /// Steps into the child at this position, to its first entry.
    pub fn expand(&mut self, source: &dyn NodeSource) -> Result<()> {
        let Some((parent, i)) = self.here() else { return Ok(()) };
        let (parent, i) = (parent.clone(), i);
        let want = parent.child(i);
        let child = load_checked(source, &want)?;
        let fault = |what: String| Error::damaged(format!("manifest node {}: {what}", want.at.digest));
        if child.level() + 1 != parent.level() || child.is_empty() {
            return Err(fault(format!("a level {} node has it, of level {}, as child", parent.level(), child.level())));
        }
        if child.name(0) != parent.name(i) {
            return Err(fault(format!(
                "begins at `{}`, its parent records `{}`",
                show_bytes(child.name(0)),
                show_bytes(parent.name(i))
            )));
        }
        let bound = self.stack.iter().rev().find(|(node, i)| i + 1 < node.len()).map(|(node, i)| node.name(i + 1));
        if bound.is_some_and(|bound| child.name(child.len() - 1) >= bound) {
            return Err(fault("reaches into the next node's names".into()));
        }
        self.stack.push((child, 0));
        Ok(())
    }

    /// Steps down to a node of `level`. `false` at the end.
    pub fn down_to(&mut self, level: u8, source: &dyn NodeSource) -> Result<bool> {
        loop {
            match self.here() {
                None => return Ok(false),
                Some((node, _)) if node.level() <= level => return Ok(true),
                Some(_) => self.expand(source)?,
            }
        }
    }

    /// Moves to the first entry that is not before `name`, from the root.
    pub fn seek(&mut self, root: Arc<Node>, name: &[u8], source: &dyn NodeSource) -> Result<()> {
        self.seek_node(root, name, 0, source)?;
        if let Some((node, i)) = self.stack.last_mut() {
            *i = node.find(name).unwrap_or_else(|at| at);
        }
        self.settle();
        Ok(())
    }

    /// Moves to the beginning of the node of `level` to which `name` belongs.
    pub fn seek_node(&mut self, root: Arc<Node>, name: &[u8], level: u8, source: &dyn NodeSource) -> Result<()> {
        self.stack.clear();
        self.stack.push((root, 0));
        while let Some((node, i)) = self.stack.last_mut() {
            if node.level() <= level {
                break;
            }
            *i = node.child_for(name);
            self.expand(source)?;
        }
        Ok(())
    }

    /// Moves to entry `index` of the directory, from the root. Returns how many pre-order entries come before it; past
    /// the end, the number of all entries.
    pub fn seek_index(&mut self, root: Arc<Node>, index: u64, source: &dyn NodeSource) -> Result<u64> {
        if index >= root.totals().own {
            self.stack.clear();
            return Ok(root.totals().entries);
        }
        let in_leaf = |_: &Node, index| usize::try_from(index).expect("smaller than a leaf's entries");
        self.seek_counted(root, index, source, |totals| totals.own, in_leaf)
    }

    /// Moves to the entry that contains pre-order entry `at` (from 0, less than the total). Returns how many pre-order
    /// entries come before it.
    pub fn seek_rank(&mut self, root: Arc<Node>, at: u64, source: &dyn NodeSource) -> Result<u64> {
        self.seek_counted(root, at, source, |totals| totals.entries, |leaf, at| leaf.entry_at(at))
    }

    /// Moves to the entry that is, or contains, file `at` (from 0, less than the total). Returns how many pre-order
    /// entries come before it, and the file's number in it.
    pub fn seek_file(&mut self, root: Arc<Node>, at: u64, source: &dyn NodeSource) -> Result<(u64, u64)> {
        let rest = Cell::new(0);
        let in_leaf = |leaf: &Node, at| {
            let (i, left) = leaf.file_at(at);
            rest.set(left);
            i
        };
        let before = self.seek_counted(root, at, source, |totals| totals.files, in_leaf)?;
        Ok((before, rest.get()))
    }

    /// Moves to entry `at`, from the root, where `count` says how many entries a child has, and `in_leaf` where an
    /// entry is in a leaf. Returns how many pre-order entries come before it.
    fn seek_counted(
        &mut self,
        root: Arc<Node>,
        mut at: u64,
        source: &dyn NodeSource,
        count: impl Fn(Totals) -> u64,
        in_leaf: impl Fn(&Node, u64) -> usize,
    ) -> Result<u64> {
        self.stack.clear();
        self.stack.push((root, 0));
        let mut before = 0;
        while let Some((node, i)) = self.stack.last_mut() {
            if node.is_leaf() {
                *i = in_leaf(node, at);
                before += node.before(*i);
                break;
            }
            loop {
                let totals = node.child_totals(*i);
                let Some(rest) = at.checked_sub(count(totals)) else { break };
                at = rest;
                before += totals.entries;
                *i += 1;
            }
            self.expand(source)?;
        }
        Ok(before)
    }

    /// How many entries come before this position: of the directory itself, and in pre-order.
    pub fn before(&self) -> (u64, u64) {
        let (mut own, mut entries) = (0, 0);
        for (node, i) in &self.stack {
            if node.is_leaf() {
                own += *i as u64;
                entries += node.before(*i);
            } else {
                for child in 0..*i {
                    let totals = node.child_totals(child);
                    own += totals.own;
                    entries += totals.entries;
                }
            }
        }
        (own, entries)
    }

    /// The digest of the node at this position, as its parent records it.
    pub fn digest(&self) -> Digest {
        match self.stack.len() {
            0 => Digest::default(),
            1 => self.stack[0].0.digest(),
            n => self.stack[n - 2].0.child(self.stack[n - 2].1).at.digest,
        }
    }

    /// Whether this node is the first of its level.
    pub fn at_first_node(&self) -> bool {
        self.stack.iter().rev().skip(1).all(|(_, i)| *i == 0)
    }

    /// Moves from a node to the next one of its level. If there is none, moves to the end and returns `false`.
    pub fn next_node(&mut self, source: &dyn NodeSource) -> Result<bool> {
        let Some((node, _)) = self.stack.pop() else { return Ok(false) };
        if let Some((_, i)) = self.stack.last_mut() {
            *i += 1;
        }
        self.settle();
        self.down_to(node.level(), source)
    }

    /// Moves from a node to the previous one of its level. If there is none, does not move and returns `false`.
    pub fn previous_node(&mut self, source: &dyn NodeSource) -> Result<bool> {
        let Some(level) = self.here().map(|(node, _)| node.level()) else { return Ok(false) };
        let Some(turn) = self.stack[..self.stack.len() - 1].iter().rposition(|(_, i)| *i > 0) else { return Ok(false) };
        self.stack.truncate(turn + 1);
        self.stack[turn].1 -= 1;
        loop {
            self.expand(source)?;
            let (node, i) = self.stack.last_mut().expect("a node was just stepped into");
            if node.level() == level {
                return Ok(true);
            }
            *i = node.len() - 1;
        }
    }
}

/// An entry of a directory and its position.
#[derive(Clone, Debug)]
pub struct ListedEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub entry: Entry,
    /// Its pre-order rank in the version.
    pub rank: u64,
    /// Its position in its directory, from 0.
    pub index: u64,
}

/// The entries of one directory in order, one leaf in memory at a time.
#[derive(Clone)]
pub struct Listing {
    source: Arc<dyn NodeSource>,
    root: Arc<Node>,
    cursor: Cursor,
    /// Rank of the directory itself.
    base: u64,
    index: u64,
    before: u64,
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").finish_non_exhaustive()
    }
}

impl Listing {
    /// Begins at the first entry of `dir`, whose rank is `rank`.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn new(source: Arc<dyn NodeSource>, dir: &Subtree, rank: u64) -> Result<Listing> {
        let root = dir.open(&*source)?;
        Ok(Self::of_root(source, root, rank))
    }

    pub(super) fn of_root(source: Arc<dyn NodeSource>, root: Arc<Node>, rank: u64) -> Listing {
        Listing { source, cursor: Cursor::new(root.clone()), root, base: rank, index: 0, before: 0 }
    }

    /// A listing of a directory that this listing returned.
    pub(super) fn within(&self, dir: &Subtree, rank: u64) -> Result<Listing> {
        Listing::new(self.source.clone(), dir, rank)
    }

    /// How many entries the directory has.
    pub fn total(&self) -> u64 {
        self.root.totals().own
    }

    /// How many entries are below the directory, at any depth.
    pub(super) fn entries(&self) -> u64 {
        self.root.totals().entries
    }

    /// Continues at the entry with that index, in O(log n); at the end if there is none.
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn seek_index(&mut self, index: u64) -> Result<()> {
        self.before = self.cursor.seek_index(self.root.clone(), index, &*self.source)?;
        self.index = index.min(self.total());
        Ok(())
    }

    /// Continues at the first entry that is not before `name`, in O(log n).
    ///
    /// # Errors
    /// Those of the source; damaged.
    pub fn seek_name(&mut self, name: &[u8]) -> Result<()> {
        self.cursor.seek(self.root.clone(), name, &*self.source)?;
        (self.index, self.before) = match self.cursor.here() {
            Some(_) => self.cursor.before(),
            None => (self.total(), self.root.totals().entries),
        };
        Ok(())
    }

    fn step(&mut self) -> Result<Option<ListedEntry>> {
        if !self.cursor.down_to(0, &*self.source)? {
            return Ok(None);
        }
        let Some((leaf, i)) = self.cursor.here() else { return Ok(None) };
        let entry = leaf.entry(i);
        let listed =
            ListedEntry { name: leaf.name(i).to_vec(), rank: self.base + 1 + self.before, index: self.index, entry };
        self.index += 1;
        self.before += 1 + if let Entry::Directory(dir) = &listed.entry { dir.totals().entries } else { 0 };
        self.cursor.advance();
        Ok(Some(listed))
    }
}

impl Iterator for Listing {
    type Item = Result<ListedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
