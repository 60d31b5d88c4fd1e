//! The way of a manifest's nodes into the store, and keeping a version's nodes in few packs.

use super::hints;
use super::pack::{Kind, MAX_NODE_PACK};
use super::pack_writer::PackWriter;
use super::write::ObjectWriter;
use crate::error::Result;
use crate::manifest::{Node, NodeSink};
use crate::types::{Digest, Location, PackRef};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// With more new content than this, nodes go into packs of their own: listing a version would else read between its
/// files.
const NODES_APART: u64 = 4 << 20;
/// At most this many packs hold the nodes of a version that is put (patches add theirs, up to 16), and when they would
/// be more, at most this many old ones go on.
const MAX_NODE_PACKS: usize = 12;
const KEPT_NODE_PACKS: usize = 7;

/// The packs that hold a version's nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePacks {
    /// Their names; those that patches added come last, in order of age.
    pub names: Vec<Digest>,
    /// How many patches added.
    pub chained: usize,
}

/// What a writer knows of the nodes of its version.
#[derive(Default)]
pub(super) struct Nodes {
    /// How many nodes each pack holds of this version.
    packs: HashMap<PackRef, usize>,
    /// For a patch: the packs whose nodes stay, in order, and how many of them patches added. Nodes elsewhere are
    /// stored again.
    kept: Option<(Vec<PackRef>, usize)>,
    /// Packs whose nodes are stored again.
    passed_over: HashSet<PackRef>,
    seen: HashMap<Digest, Location>,
    /// Packs made by this writer.
    own: HashSet<PackRef>,
}

/// Where nodes go. Nodes that are stored already, in packs that are not passed over, are not stored again.
pub struct NodeThreadWriter<'a> {
    writer: &'a ObjectWriter,
    pack: Option<PackWriter>,
}

impl ObjectWriter {
    /// The packs that hold the nodes built last, once all are closed.
    pub fn node_packs(&self) -> NodePacks {
        let nodes = self.nodes.lock();
        let name = |p: &PackRef| self.objects.table.name(*p);
        let Some((kept, chained)) = &nodes.kept else {
            let mut names: Vec<Digest> = nodes.packs.keys().filter_map(name).collect();
            names.sort_unstable();
            names.dedup();
            return NodePacks { names, chained: 0 };
        };
        // Numbers are given in the order in which packs are begun, and a node names none in a pack begun after its own.
        let mut new: Vec<PackRef> = nodes.packs.keys().filter(|p| !kept.contains(p)).copied().collect();
        new.sort_unstable();
        NodePacks { names: kept.iter().chain(&new).filter_map(name).collect(), chained: chained + new.len() }
    }

    /// From now on nodes are taken to be stored only where they lie in these packs: they stay in the version's list,
    /// and new packs join them.
    pub fn keep_nodes_in(&self, packs: &NodePacks) {
        self.nodes.lock().kept =
            Some((packs.names.iter().map(|p| self.objects.table.intern(p)).collect(), packs.chained));
    }

    /// Where a node lies in one of the packs that are kept, `hint` being where it is thought to.
    ///
    /// # Errors
    /// I/O.
    pub fn node_home(&self, digest: &Digest, hint: Option<Location>) -> Result<Option<Location>> {
        let nodes = self.nodes.lock();
        let Some((kept, _)) = &nodes.kept else { return Ok(None) };
        match hint.filter(|p| kept.contains(&p.pack) && !self.is_damaged(digest, Kind::Node, p.pack)) {
            Some(place) => Ok(Some(place)),
            None => self.find(digest, Kind::Node, |pack| kept.contains(&pack)),
        }
    }

    /// Whether the nodes built last lie in too many packs. The old packs with the fewest of them are passed over from
    /// now on: building the manifest once more stores their nodes again, in one pack. A node is so stored again only
    /// when the version has grown by packs as large as its own, as in any merge by size.
    pub fn spread_too_far(&self) -> bool {
        let mut nodes = self.nodes.lock();
        if nodes.packs.len() <= MAX_NODE_PACKS {
            return false;
        }
        let mut old: Vec<(usize, PackRef)> =
            nodes.packs.iter().filter(|(p, _)| !nodes.own.contains(p)).map(|(p, n)| (*n, *p)).collect();
        old.sort_unstable_by(|a, b| b.cmp(a));
        let keep = KEPT_NODE_PACKS.min(MAX_NODE_PACKS.saturating_sub(nodes.own.len() + 1));
        let before = nodes.passed_over.len();
        nodes.passed_over.extend(old.iter().skip(keep).map(|(_, p)| *p));
        let Nodes { passed_over, seen, .. } = &mut *nodes;
        seen.retain(|_, place| !passed_over.contains(&place.pack));
        nodes.passed_over.len() > before // else all are this writer's own: building once more would not help
    }
}

impl<'a> NodeThreadWriter<'a> {
    pub(super) fn new(writer: &'a ObjectWriter) -> Result<Self> {
        let mut idle = std::mem::take(&mut writer.state.lock().idle);
        let pack = if writer.new_bytes() <= NODES_APART { idle.pop() } else { None };
        // The others get their names now, which hints into them need.
        idle.into_iter().try_for_each(|pack| writer.close(pack))?;
        writer.nodes.lock().packs.clear();
        Ok(NodeThreadWriter { writer, pack })
    }

    /// Hands the open pack back.
    ///
    /// # Errors
    /// None yet.
    pub fn close(self) -> Result<()> {
        drop(self);
        Ok(())
    }

    fn append(&mut self, node: &Node, digest: Digest) -> Result<Location> {
        // The pack must be known before the bytes are: hints into it say "self". So there is to be room whatever the
        // hints take.
        let most = node.bytes().len() + 64 + node.places().len() * (hints::HINT + 32);
        if let Some(full) = self.pack.take_if(|p| !p.takes(most)) {
            self.writer.close(full)?;
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(self.writer.open_pack(MAX_NODE_PACK)?),
        };
        let bytes = hints::encode(node, Some(pack.number()), &self.writer.objects.table)?;
        self.writer.objects.counts.written(bytes.len());
        pack.append(digest, Kind::Node, &bytes)
    }
}

impl NodeSink for NodeThreadWriter<'_> {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let writer = self.writer;
        let digest = node.digest();
        let mut nodes = writer.nodes.lock();
        let mut known = nodes.seen.get(&digest).copied();
        if known.is_none() {
            known = writer.find(&digest, Kind::Node, |pack| match &nodes.kept {
                Some((kept, _)) => kept.contains(&pack),
                None => !nodes.passed_over.contains(&pack),
            })?;
            if known.is_some() {
                writer.relies_on_packs.store(true, Ordering::Relaxed);
            }
        }
        let place = match known {
            Some(place) => place,
            None => {
                let appended = self.append(node, digest);
                let place = writer.or_fail(appended)?;
                nodes.own.insert(place.pack);
                place
            }
        };
        nodes.seen.insert(digest, place);
        *nodes.packs.entry(place.pack).or_default() += 1;
        Ok(Some(place))
    }
}

impl Drop for NodeThreadWriter<'_> {
    fn drop(&mut self) {
        self.writer.state.lock().idle.extend(self.pack.take());
    }
}
