//! Writing a manifest's nodes into packs. A node that is stored already, in a pack that may keep it, is not stored
//! again. The nodes of patches are compressed: a chain of patches stores little else.

use super::codec::{BlobCompressor, StoredBytes};
use super::hints;
use super::node_tracker::NodePacks;
use super::pack::{BlobKind, MAX_NODE_PACK};
use super::pack_writer::PackWriter;
use super::writer::ObjectWriter;
use crate::error::Result;
use crate::manifest::{Node, NodeRef, NodeSink};
use crate::types::{Digest, Location, PackRef};
use std::collections::HashMap;

/// With more new content than this, nodes go into packs of their own. Otherwise listing a version would read between
/// its files.
const SEPARATE_NODES_FROM: u64 = 4 << 20;

/// The sink for a manifest's nodes.
pub struct NodeThreadWriter<'a> {
    writer: &'a ObjectWriter,
    pack: Option<PackWriter>,
    /// `None`: nodes are stored as they are.
    compressor: Option<BlobCompressor>,
}

impl std::fmt::Debug for NodeThreadWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeThreadWriter").finish_non_exhaustive()
    }
}

impl ObjectWriter {
    /// A sink for a manifest's nodes. Create it after all thread writers are closed.
    ///
    /// # Errors
    /// I/O.
    pub fn node_writer(&self) -> Result<NodeThreadWriter<'_>> {
        let mut idle = self.take_packs();
        let pack = if self.new_bytes() <= SEPARATE_NODES_FROM { idle.pop() } else { None };
        // The others get their names now: hints into them need these.
        idle.into_iter().try_for_each(|pack| self.close_pack(pack))?;
        let mut nodes = self.nodes().lock();
        nodes.begin_build();
        let compresses = nodes.keeps_packs() && self.objects().compresses();
        let compressor = compresses.then(BlobCompressor::default);
        drop(nodes);
        Ok(NodeThreadWriter { writer: self, pack, compressor })
    }

    /// The packs that hold the nodes built last. Call it after all packs are closed.
    pub fn node_packs(&self) -> NodePacks {
        self.nodes().lock().node_packs(|pack| self.objects().pack_name(*pack))
    }

    /// From now on nodes count as stored only in these packs. These packs stay in the version's list, and new packs are
    /// appended.
    pub fn keep_nodes_in(&self, packs: &NodePacks) {
        let numbers = packs.names.iter().map(|name| self.objects().pack_number(name)).collect();
        self.nodes().lock().keep(numbers, packs.chained);
    }

    /// Where a node lies in one of the kept packs. `hint` is where it probably lies.
    ///
    /// # Errors
    /// I/O.
    pub fn find_kept_node(&self, digest: &Digest, hint: Option<Location>) -> Result<Option<Location>> {
        let nodes = self.nodes().lock();
        if !nodes.keeps_packs() {
            return Ok(None);
        }
        let dedup = self.dedup();
        match hint.filter(|p| nodes.accepts(p.pack) && !dedup.is_damaged(digest, BlobKind::Node, p.pack)) {
            Some(place) => Ok(Some(place)),
            None => dedup.find(digest, BlobKind::Node, |pack| nodes.accepts(pack)),
        }
    }

    /// The packs in place that have these nodes: by their hints, else by the index. Those with most of them come first.
    ///
    /// # Errors
    /// I/O.
    pub fn packs_of_nodes(&self, nodes: &[NodeRef]) -> Result<Vec<Digest>> {
        let mut counts: HashMap<PackRef, usize> = HashMap::new();
        for at in nodes {
            let hinted = match at.place {
                Some(place) if self.dedup().has_pack(place.pack)? => Some(place),
                _ => self.dedup().find(&at.digest, BlobKind::Node, |_| true)?,
            };
            if let Some(place) = hinted {
                *counts.entry(place.pack).or_default() += 1;
            }
        }
        let mut packs: Vec<(usize, Digest)> = Vec::new();
        packs.extend(counts.into_iter().filter_map(|(pack, n)| Some((n, self.objects().pack_name(pack)?))));
        packs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(packs.into_iter().map(|(_, name)| name).collect())
    }

    /// Whether a node is in a pack in place: by its hint, else by the index. Reads no node.
    ///
    /// # Errors
    /// I/O.
    pub fn has_node(&self, at: &NodeRef) -> Result<bool> {
        let dedup = self.dedup();
        Ok(match at.place {
            Some(place) if dedup.has_pack(place.pack)? => true,
            _ => dedup.find(&at.digest, BlobKind::Node, |_| true)?.is_some(),
        })
    }

    /// Whether the nodes built last lie in too many packs. If so, build the manifest once more: the nodes in the old
    /// packs with the fewest of them are then stored again, in one pack. A node is thus stored again only after the
    /// version has grown by packs as large as its own, as in any merge by size.
    pub fn spread_too_far(&self) -> bool {
        self.nodes().lock().reject_sparse_packs()
    }
}

impl NodeThreadWriter<'_> {
    /// Hands the open pack back.
    ///
    /// # Errors
    /// None yet.
    pub fn close(self) -> Result<()> {
        drop(self);
        Ok(())
    }

    fn append(&mut self, node: &Node, digest: Digest) -> Result<Location> {
        // Hints into the node's own pack say "self", so the pack must be known before the bytes are: it needs room for
        // the longest possible hints.
        let max_len = hints::max_len(node);
        if let Some(full) = self.pack.take_if(|p| !p.has_room_for(max_len)) {
            self.writer.close_pack(full)?;
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(self.writer.create_pack(MAX_NODE_PACK)?),
        };
        let bytes = self.writer.objects().encode_stored_node(node, pack.number())?;
        pack.append(digest, BlobKind::Node, StoredBytes::by(&mut self.compressor, &bytes))
    }
}

impl NodeSink for NodeThreadWriter<'_> {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let writer = self.writer;
        let digest = node.digest();
        let mut nodes = writer.nodes().lock();
        let mut known = nodes.seen(&digest);
        if known.is_none() {
            known = writer.dedup().find(&digest, BlobKind::Node, |pack| nodes.accepts(pack))?;
            if known.is_some() {
                writer.dedup().rely_on_packs();
            }
        }
        let place = match known {
            Some(place) => place,
            None => writer.fail_on_error(self.append(node, digest))?,
        };
        nodes.record(digest, place, known.is_none());
        Ok(Some(place))
    }
}

impl Drop for NodeThreadWriter<'_> {
    fn drop(&mut self) {
        self.writer.return_pack(self.pack.take());
    }
}
