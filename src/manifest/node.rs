//! One node of a directory's tree: its bytes, read without unpacking them.

use super::format::{CHILD_LEN, FILE_LEN, MAX_INLINE, kind};
use super::node_ref::{ChildRef, NodeRef};
use super::parse::{LeafIndex, NodeShape, damaged, parse, read_reference, u16_at};
use super::totals::Totals;
use crate::error::Result;
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
    pub(super) bytes: Arc<[u8]>,
    /// Where this node begins in `bytes`: an inlined directory shares the bytes of the leaf around it.
    pub(super) start: usize,
    length: usize,
    level: u8,
    count: usize,
    ends: usize,
    names: usize,
    pub(super) body: usize,
    totals: Totals,
    pub(super) payload: Box<[(u16, u16)]>,
    before: Box<[u64]>,
    pub(super) places: Box<[u64]>,
    digest: OnceLock<Digest>,
}

const NOWHERE: u64 = u64::MAX;

fn pack_place(place: Option<Location>) -> u64 {
    place.map_or(NOWHERE, |p| u64::from(p.pack.0) << 32 | u64::from(p.offset))
}

pub(super) fn unpack_place(place: u64) -> Option<Location> {
    (place != NOWHERE).then_some(Location { pack: PackRef((place >> 32) as u32), offset: place as u32 })
}

impl Node {
    /// Checks `bytes` and makes a node of them. Whether they have the digest they should is the caller's to compare.
    ///
    /// `places` has one slot for each file and each child node, in the order of [`Node::places`]; where it is too short
    /// or too long (it is only a hint) it is filled up or cut.
    ///
    /// # Errors
    /// Damaged: the bytes are not the one encoding of a list of valid entries in order.
    pub fn decode(bytes: impl Into<Arc<[u8]>>, places: Vec<Option<Location>>) -> Result<Node> {
        let bytes = bytes.into();
        let len = bytes.len();
        let mut index = LeafIndex::default();
        let shape = parse(&bytes, Some(&mut index))?;
        let mut places: Vec<u64> = places.into_iter().map(pack_place).collect();
        places.resize(shape.slots, NOWHERE);
        Ok(Self::assemble(bytes, 0, len, shape, index, places.into()))
    }

    pub(super) fn assemble(
        bytes: Arc<[u8]>,
        start: usize,
        len: usize,
        shape: NodeShape,
        index: LeafIndex,
        places: Box<[u64]>,
    ) -> Node {
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

    /// The leaf without entries: the root of the empty version, and an empty directory.
    pub fn empty() -> Node {
        Node::decode([0u8; 4], Vec::new()).expect("four zero bytes are the empty leaf")
    }

    /// The hashed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// The digest, computed on the first call.
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

    /// The locations, in order: one for each file and each child node. Those of an inlined directory are at the
    /// directory's position.
    pub fn places(&self) -> impl ExactSizeIterator<Item = Option<Location>> + '_ {
        self.places.iter().map(|p| unpack_place(*p))
    }

    /// The name of entry `i`; of a child, the first name below it.
    pub(super) fn name(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { u16_at(&self.bytes, self.ends + 2 * i - 2) };
        let end = u16_at(&self.bytes, self.ends + 2 * i);
        &self.bytes[self.names + start..self.names + end]
    }

    /// The position of the entry with that name, or where it would be inserted.
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

    /// The child of an inner node to which `name` belongs.
    pub(super) fn child_for(&self, name: &[u8]) -> usize {
        self.find(name).unwrap_or_else(|at| at.saturating_sub(1))
    }

    /// Pre-order entries below this leaf before its entry `i`.
    pub(super) fn before(&self, i: usize) -> u64 {
        self.before.get(i).copied().unwrap_or(i as u64)
    }

    /// The entry of this leaf that contains the pre-order entry `at`, counted from 0 in this leaf.
    pub(super) fn entry_at(&self, at: u64) -> usize {
        if self.before.is_empty() {
            // Only the last entry can be a directory with something in it.
            usize::try_from(at).unwrap_or(usize::MAX).min(self.count - 1)
        } else {
            self.before.partition_point(|b| *b <= at) - 1
        }
    }

    /// Child `i` of an inner node.
    pub(super) fn child(&self, i: usize) -> ChildRef {
        self.stored_at(self.body + CHILD_LEN * i, i)
    }

    /// Where child `i` of an inner node is.
    pub fn child_ref(&self, i: usize) -> NodeRef {
        self.child(i).at
    }

    /// The sums of child `i` of an inner node.
    pub(super) fn child_totals(&self, i: usize) -> Totals {
        let at = self.body + CHILD_LEN * i + 32;
        Totals::read(&self.bytes[at..])
    }

    pub(super) fn digest_at(&self, at: usize) -> Digest {
        Digest(self.bytes[at..at + 32].try_into().expect("32 bytes were asked for"))
    }

    pub(super) fn stored_at(&self, at: usize, slot: usize) -> ChildRef {
        ChildRef {
            at: NodeRef { digest: self.digest_at(at), place: unpack_place(self.places[slot]) },
            totals: Totals::read(&self.bytes[at + 32..]),
        }
    }

    /// What entry or child `i` weighs, as [`NodeItem::weight`].
    pub(super) fn weight(&self, i: usize) -> usize {
        let name = 2 + self.name(i).len();
        if !self.is_leaf() {
            return name + CHILD_LEN;
        }
        let at = self.start + usize::from(self.payload[i].0);
        name + 1
            + match self.bytes[self.body + i] {
                kind::FILE | kind::EXECUTABLE => FILE_LEN,
                kind::DIRECTORY => CHILD_LEN,
                kind::REFERENCE => read_reference(&self.bytes[at..]).map_or(0, |(_, len)| len),
                _ => 2 + u16_at(&self.bytes, at),
            }
    }

    /// This node as its parent would name it.
    pub(super) fn stored(&self, place: Option<Location>) -> ChildRef {
        ChildRef { at: NodeRef { digest: self.digest(), place }, totals: self.totals }
    }

    /// Whether, as a directory's root, it must be inlined in the parent's leaf.
    pub(super) fn fits_inline(&self) -> bool {
        self.is_leaf() && self.length <= MAX_INLINE
    }

    /// Refuses a node that cannot be the root of a directory's tree.
    ///
    /// # Errors
    /// Damaged: it is an inner node with a single child.
    pub fn check_root(&self) -> Result<()> {
        if !self.is_leaf() && self.count < 2 { Err(damaged("a root has a single child")) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node {{ level {}, {} entries, {} bytes }}", self.level, self.count, self.length)
    }
}
