//! One node of a directory's tree: its bytes, and looking into them without unpacking them.

use super::codec::{self, CHILD_LEN, Index, Item, MAX_INLINE, Shape, damaged, kind, u16_at, u64_at};
use super::entry::{Dir, DirAt, Entry, Stored};
use super::nodes::NodeRef;
use super::totals::Totals;
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher, Location, PackRef};
use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

/// What is hashed before a node's bytes, so that no file's content can pass for a node.
pub const NODE_DOMAIN: &[u8] = b"cairn-node-1\n";

/// A node that has been checked: a leaf, whose entries are a directory's, or an inner node, whose entries are nodes.
///
/// Its digest is SHA-256 over [`NODE_DOMAIN`] and [`Node::bytes`]: `{ printf 'cairn-node-1\n'; cat node; } |
/// sha256sum`.
#[derive(Clone)]
pub struct Node {
    bytes: Arc<[u8]>,
    /// Where this node lies in `bytes`: an inlined directory shares those of the leaf around it.
    start: usize,
    length: usize,
    level: u8,
    count: usize,
    ends: usize,
    names: usize,
    body: usize,
    totals: Totals,
    payload: Box<[(u16, u16)]>,
    before: Box<[u64]>,
    places: Box<[u64]>,
    digest: OnceLock<Digest>,
}

const NOWHERE: u64 = u64::MAX;

fn pack_place(place: Option<Location>) -> u64 {
    place.map_or(NOWHERE, |p| u64::from(p.pack.0) << 32 | u64::from(p.offset))
}

fn unpack_place(place: u64) -> Option<Location> {
    (place != NOWHERE).then_some(Location { pack: PackRef((place >> 32) as u32), offset: place as u32 })
}

impl Node {
    /// Checks `bytes` and makes a node of them. Whether they have the digest they should is the caller's to compare.
    ///
    /// `places` has one slot for each file and each child node, in the order of [`Node::places`]; where it is too short
    /// or too long (it is only a hint) it is filled up or cut.
    ///
    /// # Errors
    /// Damage when the bytes are not the one encoding of a list of legal entries in order.
    pub fn decode(bytes: impl Into<Arc<[u8]>>, places: Vec<Option<Location>>) -> Result<Node> {
        let bytes = bytes.into();
        let len = bytes.len();
        let mut index = Index::default();
        let shape = codec::parse(&bytes, Some(&mut index))?;
        let mut places: Vec<u64> = places.into_iter().map(pack_place).collect();
        places.resize(shape.slots, NOWHERE);
        Ok(Self::assemble(bytes, 0, len, shape, index, places.into()))
    }

    fn assemble(bytes: Arc<[u8]>, start: usize, len: usize, shape: Shape, index: Index, places: Box<[u64]>) -> Node {
        Node {
            bytes,
            start,
            length: len,
            level: shape.level,
            count: shape.count,
            ends: start + shape.ends,
            names: start + shape.names,
            body: start + shape.body,
            totals: shape.totals,
            payload: index.payload.into(),
            before: index.before.into(),
            places,
            digest: OnceLock::new(),
        }
    }

    /// The node of these items. The items' names are in order and their weight is within the bound.
    pub(super) fn of(level: u8, items: &[Item]) -> Result<Node> {
        let (bytes, places) = codec::encode(level, items);
        // Decoding what was just encoded costs little, and nothing that this release can't read is ever stored.
        Node::decode(bytes, places)
            .map_err(|e| Error::usage("these entries cannot stand in one manifest").with_source(e))
    }

    /// The leaf without entries: the root of the empty version, and an empty directory.
    pub fn empty() -> Node {
        Node::decode([0u8; 4], Vec::new()).expect("four zero bytes are the empty leaf")
    }

    /// The hashed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// The digest, computed when first asked for.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| {
            let mut hasher = Hasher::new();
            hasher.update(NODE_DOMAIN);
            hasher.update(self.bytes());
            hasher.finish()
        })
    }

    /// 0 for a leaf; a node's children are one level below it.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// True for a leaf.
    pub fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// How many entries or children it has itself.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True for the empty leaf.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The sums over everything below it.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many bytes of memory it holds, for a cache to count.
    pub fn memory(&self) -> usize {
        size_of::<Node>() + self.bytes.len() + 4 * self.payload.len() + 8 * (self.before.len() + self.places.len())
    }

    /// The places, in order: one for each file and each child node; an inlined directory's stand where it stands.
    pub fn places(&self) -> impl ExactSizeIterator<Item = Option<Location>> + '_ {
        self.places.iter().map(|p| unpack_place(*p))
    }

    /// The name of entry `i`; of a child, the first name below it.
    pub(super) fn name(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { u16_at(&self.bytes, self.ends + 2 * i - 2) };
        let end = u16_at(&self.bytes, self.ends + 2 * i);
        &self.bytes[self.names + start..self.names + end]
    }

    /// The entry with that name, or where it would stand.
    pub(super) fn find(&self, name: &[u8]) -> std::result::Result<usize, usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The child of an inner node below which `name` would stand.
    pub(super) fn child_for(&self, name: &[u8]) -> usize {
        self.find(name).unwrap_or_else(|at| at.saturating_sub(1))
    }

    /// Pre-order entries below this leaf before its entry `i`.
    pub(super) fn before(&self, i: usize) -> u64 {
        self.before.get(i).copied().unwrap_or(i as u64)
    }

    /// The entry of this leaf in which the pre-order entry `at` lies, counted from 0 below this leaf.
    pub(super) fn entry_at(&self, at: u64) -> usize {
        if self.before.is_empty() {
            // Only the last entry can be a directory with something in it.
            usize::try_from(at).unwrap_or(usize::MAX).min(self.count - 1)
        } else {
            self.before.partition_point(|b| *b <= at) - 1
        }
    }

    /// Child `i` of an inner node.
    pub(super) fn child(&self, i: usize) -> Stored {
        self.stored_at(self.body + CHILD_LEN * i, i)
    }

    /// The sums of child `i` of an inner node.
    pub(super) fn child_totals(&self, i: usize) -> Totals {
        let at = self.body + CHILD_LEN * i + 32;
        Totals::read(&self.bytes[at..])
    }

    fn digest_at(&self, at: usize) -> Digest {
        Digest(self.bytes[at..at + 32].try_into().expect("32 bytes were asked for"))
    }

    fn stored_at(&self, at: usize, slot: usize) -> Stored {
        Stored {
            at: NodeRef { digest: self.digest_at(at), place: unpack_place(self.places[slot]) },
            totals: Totals::read(&self.bytes[at + 32..]),
        }
    }

    /// Entry `i` of a leaf, unpacked.
    pub(super) fn entry(&self, i: usize) -> Entry {
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
                    codec::read_reference(&self.bytes[at..]).expect("it was read once, when the node was checked");
                Entry::Reference(Box::new(reference))
            }
            kind::DIRECTORY => Entry::Directory(Dir(DirAt::Stored(self.stored_at(at, slot)))),
            _ => Entry::Directory(Dir(DirAt::Inline(Arc::new(self.inlined(at, slot))))),
        }
    }

    /// The inlined directory whose length stands at `at`, as a node that shares these bytes.
    fn inlined(&self, at: usize, slot: usize) -> Node {
        let (start, len) = (at + 2, u16_at(&self.bytes, at));
        let mut index = Index::default();
        let shape = codec::parse(&self.bytes[start..start + len], Some(&mut index))
            .expect("it was checked with the leaf around it");
        let places = self.places[slot..slot + shape.slots].into();
        Self::assemble(self.bytes.clone(), start, len, shape, index, places)
    }

    /// Entry or child `i` as an item of its level.
    pub(super) fn item(&self, i: usize) -> Item {
        if self.is_leaf() { Item::new(self.name(i), self.entry(i)) } else { Item::child(self.name(i), self.child(i)) }
    }

    /// What entry or child `i` weighs, as [`Item::weight`].
    pub(super) fn weight(&self, i: usize) -> usize {
        let name = 2 + self.name(i).len();
        if !self.is_leaf() {
            return name + CHILD_LEN;
        }
        let at = self.start + usize::from(self.payload[i].0);
        name + 1
            + match self.bytes[self.body + i] {
                kind::FILE | kind::EXECUTABLE => codec::FILE_LEN,
                kind::DIRECTORY => CHILD_LEN,
                kind::REFERENCE => codec::read_reference(&self.bytes[at..]).map_or(0, |(_, len)| len),
                _ => 2 + u16_at(&self.bytes, at),
            }
    }

    /// This node as its parent would name it.
    pub(super) fn stored(&self, place: Option<Location>) -> Stored {
        Stored { at: NodeRef { digest: self.digest(), place }, totals: self.totals }
    }

    /// True when, as a directory's root, it belongs into the parent's leaf.
    pub(super) fn fits_inline(&self) -> bool {
        self.is_leaf() && self.length <= MAX_INLINE
    }

    /// Refuses a node that cannot be the root of a directory's tree.
    ///
    /// # Errors
    /// Damage when it is an inner node with a single child.
    pub fn check_root(&self) -> Result<()> {
        if !self.is_leaf() && self.count < 2 { Err(damaged("a root has a single child")) } else { Ok(()) }
    }

    /// The nodes that this one names: an inner node's children, or the roots of a leaf's directories, also of those
    /// inside inlined directories. For marks and checks.
    pub fn children(&self) -> Vec<NodeRef> {
        let mut out = Vec::new();
        self.collect(&mut |entry| {
            if let Entry::Directory(Dir(DirAt::Stored(s))) = entry {
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
    pub(super) fn with_child_places(
        &self,
        places: &std::collections::HashMap<Digest, Option<Location>>,
    ) -> Result<Node> {
        let mut slots = Vec::with_capacity(self.places.len());
        self.collect(&mut |entry| match entry {
            Entry::File { place, .. } => slots.push(*place),
            Entry::Directory(Dir(DirAt::Stored(s))) => {
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
            Entry::Directory(Dir(DirAt::Stored(s))) => slots.push(Ok(s.at.place)),
            _ => {}
        });
        Node::decode(self.bytes(), slots.into_iter().collect::<Result<_>>()?)
    }

    fn collect(&self, see: &mut dyn FnMut(&Entry)) {
        for i in 0..self.count {
            let entry = self.item(i).entry;
            see(&entry);
            if let Entry::Directory(Dir(DirAt::Inline(node))) = &entry {
                // No deeper than inlined directories nest.
                node.collect(see);
            }
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node {{ level {}, {} entries, {} bytes }}", self.level, self.count, self.length)
    }
}
