//! Merging manifests, path by path, in the order of a log.

use super::build::{Builder, RootNode};
use super::cursor::Cursor;
use super::entry::{Entry, Subtree};
use super::node_store::NodeSink;
use super::tree::Tree;
use crate::error::Result;
use crate::types::{Digest, RelPath};
use std::cmp::Reverse;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BinaryHeap, HashMap};

/// One of the manifests to unite.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its entries.
    pub tree: Tree,
    /// The author. Of one author the later entry for a path counts, and this is not a conflict.
    pub author: usize,
}

/// Two authors have different entries for one path: other content, or a directory and something else.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The path.
    pub path: RelPath,
    /// The number of the earlier part and its entry.
    pub earlier: (usize, Entry),
    /// The number of the later part and its entry.
    pub later: (usize, Entry),
}

/// What to do about a [`Conflict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The later one counts and replaces a whole subtree.
    Later,
    /// There will be no merge. The search for conflicts continues.
    Refuse,
}

/// The union of the parts, in log order. An author's later entry replaces its earlier one. Between authors, directories
/// unite, equal entries are one, and for anything else `decide` is called. Returns `None` if it refused. Nodes that are
/// equal at a position are read once there. A directory that only one part has, or that is equal in all parts that have
/// it, is not read. Holds a path of nodes for each part.
///
/// # Errors
/// Those of the sources and the sink; damaged.
pub fn merge(
    parts: &[Part],
    decide: &mut dyn FnMut(&Conflict) -> Choice,
    sink: &mut dyn NodeSink,
) -> Result<Option<RootNode>> {
    let mut union = Union { parts, decide, refused: false };
    let mut standing = Candidates::default();
    for (i, part) in parts.iter().enumerate() {
        standing.unite(i, Entry::Directory(part.tree.dir()), part.tree.digest());
    }
    let mut frames = vec![MergeFrame::open(RelPath::root(), standing, parts)?];
    let mut builder = Builder::new(sink);
    while let Some(frame) = frames.last_mut() {
        let Some((name, here)) = frame.next_name(parts)? else {
            frames.pop();
            if !frames.is_empty() {
                builder.leave()?;
            }
            continue;
        };
        if let &[side] = here.as_slice() {
            let (_, entry) = frame.take(side);
            builder.entry(&name, entry)?;
            continue;
        }
        let path = frame.path.join(&name)?;
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for side in here {
            let (owners, entry) = frame.take(side);
            entries.extend(owners.into_iter().map(|part| (part, entry.clone())));
        }
        let mut standing = union.settle(&path, entries);
        if standing.groups.len() > 1 {
            builder.enter(&name)?;
            frames.push(MergeFrame::open(path, standing, parts)?);
        } else if let Some((_, entry)) = standing.groups.pop() {
            builder.entry(&name, entry)?;
        }
    }
    let refused = union.refused;
    let root = builder.finish()?;
    Ok((!refused).then_some(root))
}

/// The rules by which several entries for one path become one.
struct Union<'a> {
    parts: &'a [Part],
    decide: &'a mut dyn FnMut(&Conflict) -> Choice,
    refused: bool,
}

impl Union<'_> {
    /// The result at `path` of the parts' entries.
    fn settle(&mut self, path: &RelPath, mut entries: Vec<(usize, Entry)>) -> Candidates {
        entries.sort_by_key(|(part, _)| *part);
        let counts = self.last_of_each_part(&entries);
        let mut standing = Candidates::default();
        for ((part, entry), _) in entries.into_iter().zip(counts).filter(|(_, counts)| *counts) {
            let Some((earlier, first)) = standing.groups.first() else {
                standing.add(part, entry);
                continue;
            };
            if first.is_directory() && entry.is_directory() {
                standing.add(part, entry);
            } else if !first.same(&entry) {
                let conflict =
                    Conflict { path: path.clone(), earlier: (earlier[0], first.clone()), later: (part, entry) };
                match (self.decide)(&conflict) {
                    Choice::Later => {
                        standing = Candidates::default();
                        standing.add(part, conflict.later.1);
                    }
                    Choice::Refuse => self.refused = true,
                }
            }
        }
        standing
    }

    /// For each entry, whether it counts given the later ones of its author: directories of one author unite, anything
    /// else replaces all before.
    fn last_of_each_part(&self, entries: &[(usize, Entry)]) -> Vec<bool> {
        let mut counts = vec![false; entries.len()];
        // For each author, from the last entry to the first: whether earlier ones may still be added.
        let mut open: HashMap<usize, bool> = HashMap::new();
        for (i, (part, entry)) in entries.iter().enumerate().rev() {
            match open.entry(self.parts[*part].author) {
                MapEntry::Vacant(slot) => {
                    slot.insert(entry.is_directory());
                    counts[i] = true;
                }
                MapEntry::Occupied(mut slot) if *slot.get() => {
                    counts[i] = entry.is_directory();
                    slot.insert(entry.is_directory());
                }
                MapEntry::Occupied(_) => {}
            }
        }
        counts
    }
}

/// The result at a path: one entry, or directories to unite; each once, with the parts that have it.
#[derive(Default)]
struct Candidates {
    groups: Vec<(Vec<usize>, Entry)>,
    directories: HashMap<Digest, usize>,
}

impl Candidates {
    fn add(&mut self, part: usize, entry: Entry) {
        match &entry {
            Entry::Directory(dir) => {
                let digest = dir.digest();
                self.unite(part, entry, digest);
            }
            _ => self.groups.push((vec![part], entry)),
        }
    }

    fn unite(&mut self, part: usize, directory: Entry, digest: Digest) {
        match self.directories.entry(digest) {
            MapEntry::Occupied(slot) => self.groups[*slot.get()].0.push(part),
            MapEntry::Vacant(slot) => {
                slot.insert(self.groups.len());
                self.groups.push((vec![part], directory));
            }
        }
    }
}

/// A directory that is made of several.
struct MergeFrame {
    path: RelPath,
    sides: Vec<MergeSide>,
    /// The sides that are not at their end, by their current name.
    order: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

/// One of these directories.
struct MergeSide {
    /// The parts that have it.
    owners: Vec<usize>,
    /// For nodes that were stepped into, from that depth on: parts that have the same node and skipped it.
    guests: Vec<(usize, Vec<usize>)>,
    cursor: Cursor,
}

impl MergeSide {
    /// The parts that have the current entry.
    fn all_owners(&self) -> Vec<usize> {
        self.owners.iter().chain(self.guests.iter().flat_map(|(_, g)| g)).copied().collect()
    }

    fn advance(&mut self) {
        self.cursor.advance();
        while self.guests.pop_if(|(depth, _)| *depth > self.cursor.depth()).is_some() {}
    }
}

impl MergeFrame {
    fn open(path: RelPath, standing: Candidates, parts: &[Part]) -> Result<MergeFrame> {
        let mut frame = MergeFrame { path, sides: Vec::with_capacity(standing.groups.len()), order: BinaryHeap::new() };
        for (owners, entry) in standing.groups {
            let Entry::Directory(dir) = entry else { continue };
            let tree = &parts[owners[0]].tree;
            let root = if frame.path.is_root() { tree.root().clone() } else { Subtree::open(&dir, &**tree.source())? };
            frame.sides.push(MergeSide { owners, guests: Vec::new(), cursor: Cursor::new(root) });
            frame.queue(frame.sides.len() - 1);
        }
        Ok(frame)
    }

    fn queue(&mut self, side: usize) {
        if let Some(name) = self.sides[side].cursor.name() {
            self.order.push(Reverse((name.to_vec(), side)));
        }
    }

    /// Takes a side's current entry, with the parts that have it, and advances the side.
    fn take(&mut self, side: usize) -> (Vec<usize>, Entry) {
        let at = &mut self.sides[side];
        let (leaf, i) = at.cursor.here().expect("a side that was queued is not at its end");
        let taken = (at.all_owners(), leaf.entry(i));
        at.advance();
        self.queue(side);
        taken
    }

    /// The smallest current name, and the sides that are at it, each at its entry. The caller must take these.
    fn next_name(&mut self, parts: &[Part]) -> Result<Option<(Vec<u8>, Vec<usize>)>> {
        loop {
            let Some(Reverse((name, first))) = self.order.pop() else { return Ok(None) };
            let mut here = vec![first];
            while let Some(Reverse((_, side))) = self.order.peek().filter(|Reverse((n, _))| *n == name) {
                here.push(*side);
                self.order.pop();
            }
            let level = |side: usize| self.sides[side].cursor.here().map_or(0, |(node, _)| node.level());
            let highest = here.iter().map(|side| level(*side)).max().unwrap_or(0);
            if highest == 0 {
                return Ok(Some((name, here)));
            }
            let (down, stay): (Vec<usize>, Vec<usize>) = here.into_iter().partition(|side| level(*side) == highest);
            self.step_down(&down, parts)?;
            down.into_iter().chain(stay).for_each(|side| self.queue(side));
        }
    }

    /// Steps into the current nodes of these sides. If several have the same node, one of them steps into it for all.
    fn step_down(&mut self, sides: &[usize], parts: &[Part]) -> Result<()> {
        let mut first: HashMap<Digest, usize> = HashMap::new();
        let mut guests: HashMap<usize, Vec<usize>> = HashMap::new();
        for &i in sides {
            let side = &mut self.sides[i];
            let digest = side
                .cursor
                .here()
                .map(|(node, at)| node.child(at).at.digest)
                .expect("a side that was queued is not at its end");
            match first.entry(digest) {
                MapEntry::Vacant(slot) => {
                    slot.insert(i);
                }
                MapEntry::Occupied(slot) => {
                    guests.entry(*slot.get()).or_default().extend(side.all_owners());
                    side.advance();
                }
            }
        }
        for i in first.into_values() {
            let side = &mut self.sides[i];
            side.cursor.expand(&**parts[side.owners[0]].tree.source())?;
            if let Some(guests) = guests.remove(&i) {
                side.guests.push((side.cursor.depth(), guests));
            }
        }
        Ok(())
    }
}
