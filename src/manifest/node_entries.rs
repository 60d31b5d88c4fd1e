//! The entries of a node: made from items, unpacked, and walked.

use super::encode::{NodeItem, encode};
use super::entry::{DirAt, Entry, Subtree};
use super::format::kind;
use super::node::{Node, unpack_place};
use super::node_ref::NodeRef;
use super::parse::{LeafIndex, parse, read_reference, u16_at, u64_at};
use crate::error::{Error, Result};
use crate::types::{Digest, Location};
use std::collections::HashMap;
use std::sync::Arc;

impl Node {
    /// The node of these items. The items' names are in order and their weight is within the bound.
    pub(super) fn of(level: u8, items: &[NodeItem]) -> Result<Node> {
        let (bytes, places) = encode(level, items);
        // Decoding costs little, and ensures that only what this release can read is ever stored.
        Node::decode(bytes, places)
            .map_err(|e| Error::usage("these entries are not valid in one manifest").with_source(e))
    }

    /// Entry `i` of a leaf, unpacked.
    pub fn entry(&self, i: usize) -> Entry {
        let (payload, slot) = self.payload[i];
        let (at, slot) = (self.start + usize::from(payload), usize::from(slot));
        let kind = self.bytes[self.body + i];
        match kind {
            kind::FILE | kind::EXECUTABLE => Entry::File {
                digest: self.digest_at(at),
                size: u64_at(&self.bytes, at + 32),
                exec: kind == kind::EXECUTABLE,
                place: unpack_place(self.places[slot]),
            },
            kind::SYMLINK => {
                let len = u16_at(&self.bytes, at);
                Entry::Symlink { target: self.bytes[at + 2..at + 2 + len].to_vec() }
            }
            kind::REFERENCE => {
                let (reference, _) =
                    read_reference(&self.bytes[at..]).expect("it was read once, when the node was checked");
                Entry::Reference(Box::new(reference))
            }
            kind::DIRECTORY => Entry::Directory(Subtree(DirAt::Stored(self.stored_at(at, slot)))),
            _ => Entry::Directory(Subtree(DirAt::Inline(Arc::new(self.inlined(at, slot))))),
        }
    }

    /// The entry of this leaf that is, or contains, its file `at` (from 0, less than the leaf's total), and the file's
    /// number in it.
    pub(super) fn file_at(&self, mut at: u64) -> (usize, u64) {
        for i in 0..self.len() {
            let files = self.files_in(i);
            if at < files {
                return (i, at);
            }
            at -= files;
        }
        (self.len(), 0)
    }

    /// How many files entry `i` of a leaf is or contains.
    fn files_in(&self, i: usize) -> u64 {
        match self.bytes[self.body + i] {
            kind::FILE | kind::EXECUTABLE | kind::REFERENCE => 1,
            kind::SYMLINK => 0,
            _ => match self.entry(i) {
                Entry::Directory(dir) => dir.totals().files,
                _ => 0,
            },
        }
    }

    /// The inlined directory whose length is at `at`, as a node that shares these bytes.
    fn inlined(&self, at: usize, slot: usize) -> Node {
        let (start, len) = (at + 2, u16_at(&self.bytes, at));
        let mut index = LeafIndex::default();
        let shape =
            parse(&self.bytes[start..start + len], Some(&mut index)).expect("it was checked with the leaf around it");
        let places = self.places[slot..slot + shape.slots].into();
        Self::assemble(self.bytes.clone(), start, len, shape, index, places)
    }

    /// Entry or child `i` as an item of its level.
    pub(super) fn item(&self, i: usize) -> NodeItem {
        if self.is_leaf() {
            NodeItem::new(self.name(i), self.entry(i))
        } else {
            NodeItem::child(self.name(i), self.child(i))
        }
    }

    /// The nodes that this one names: an inner node's children, or the roots of a leaf's directories, also of those
    /// inside inlined directories.
    pub fn children(&self) -> Vec<NodeRef> {
        let mut out = Vec::new();
        self.collect(&mut |entry| {
            if let Entry::Directory(Subtree(DirAt::Stored(s))) = entry {
                out.push(s.at);
            }
        });
        out
    }

    /// The blobs that this leaf's files name, also inside inlined directories: digest, size, place.
    pub fn blobs(&self) -> Vec<(Digest, u64, Option<Location>)> {
        let mut out = Vec::new();
        if self.is_leaf() {
            self.collect(&mut |entry| {
                if let Entry::File { digest, size, place, .. } = entry {
                    out.push((*digest, *size, *place));
                }
            });
        }
        out
    }

    /// This node with other hints for the child nodes that `places` names; those of blobs stay.
    pub(super) fn with_child_places(&self, places: &HashMap<Digest, Option<Location>>) -> Result<Node> {
        let mut slots = Vec::with_capacity(self.places.len());
        self.collect(&mut |entry| match entry {
            Entry::File { place, .. } => slots.push(*place),
            Entry::Directory(Subtree(DirAt::Stored(s))) => {
                slots.push(places.get(&s.at.digest).copied().unwrap_or(s.at.place))
            }
            _ => {}
        });
        Node::decode(self.bytes(), slots)
    }

    /// This node with other hints for the blobs that its files name; those of child nodes stay.
    ///
    /// # Errors
    /// Those of `place`, which gets a blob's digest and size.
    pub fn with_blob_places(&self, place: &mut dyn FnMut(&Digest, u64) -> Result<Option<Location>>) -> Result<Node> {
        let mut slots: Vec<Result<Option<Location>>> = Vec::with_capacity(self.places.len());
        self.collect(&mut |entry| match entry {
            Entry::File { digest, size, .. } => slots.push(place(digest, *size)),
            Entry::Directory(Subtree(DirAt::Stored(s))) => slots.push(Ok(s.at.place)),
            _ => {}
        });
        Node::decode(self.bytes(), slots.into_iter().collect::<Result<_>>()?)
    }

    /// This node with other hints. `place` gets the digest of each blob or child node that it names, whether it is a
    /// node, and the hint so far.
    ///
    /// # Errors
    /// None for a node that was decoded.
    pub fn with_places(
        &self,
        place: &mut dyn FnMut(&Digest, bool, Option<Location>) -> Option<Location>,
    ) -> Result<Node> {
        let mut slots = Vec::with_capacity(self.places.len());
        self.collect(&mut |entry| match entry {
            Entry::File { digest, place: old, .. } => slots.push(place(digest, false, *old)),
            Entry::Directory(Subtree(DirAt::Stored(s))) => slots.push(place(&s.at.digest, true, s.at.place)),
            _ => {}
        });
        Node::decode(self.bytes(), slots)
    }

    fn collect(&self, see: &mut dyn FnMut(&Entry)) {
        for i in 0..self.len() {
            let entry = self.item(i).entry;
            see(&entry);
            if let Entry::Directory(Subtree(DirAt::Inline(node))) = &entry {
                // No deeper than inlined directories nest.
                node.collect(see);
            }
        }
    }
}
