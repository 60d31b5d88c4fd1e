//! In which packs the nodes of a transaction's version lie, and which packs may keep them. Keeps a version's nodes in
//! few packs. No I/O.

use crate::types::{Digest, Location, PackRef};
use std::collections::{HashMap, HashSet};

/// At most this many packs hold the nodes of a version that is put. (Patches add packs, up to 16.)
const MAX_NODE_PACKS: usize = 12;
/// If there would be more, at most this many old packs are kept.
const KEPT_NODE_PACKS: usize = 7;

/// The packs that hold a version's nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePacks {
    /// Their names. Those that patches added come last, oldest first.
    pub names: Vec<Digest>,
    /// How many of them patches added.
    pub chained: usize,
}

/// For a patch: the packs whose nodes stay.
struct KeptPacks {
    /// In the order of the version's list.
    packs: Vec<PackRef>,
    /// How many of them patches added.
    chained: usize,
}

/// What a writer knows of its version's nodes.
#[derive(Default)]
pub(super) struct NodeTracker {
    /// How many nodes of this version each pack holds.
    packs: HashMap<PackRef, usize>,
    /// Nodes in other packs are stored again.
    kept: Option<KeptPacks>,
    /// Packs whose nodes are stored again.
    rejected: HashSet<PackRef>,
    seen: HashMap<Digest, Location>,
    /// Packs made by this writer.
    own: HashSet<PackRef>,
}

impl NodeTracker {
    /// A new build of the manifest begins.
    pub(super) fn begin_build(&mut self) {
        self.packs.clear();
    }

    /// From now on nodes count as stored only in these packs.
    pub(super) fn keep(&mut self, packs: Vec<PackRef>, chained: usize) {
        self.kept = Some(KeptPacks { packs, chained });
    }

    /// Whether the packs to keep are given.
    pub(super) fn keeps_packs(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether a node may stay in this pack.
    pub(super) fn accepts(&self, pack: PackRef) -> bool {
        match &self.kept {
            Some(kept) => kept.packs.contains(&pack),
            None => !self.rejected.contains(&pack),
        }
    }

    /// Where this writer stored or found a node.
    pub(super) fn seen(&self, digest: &Digest) -> Option<Location> {
        self.seen.get(digest).copied()
    }

    /// Records a node of the version; `own` if this writer stored it.
    pub(super) fn record(&mut self, digest: Digest, place: Location, own: bool) {
        if own {
            self.own.insert(place.pack);
        }
        self.seen.insert(digest, place);
        *self.packs.entry(place.pack).or_default() += 1;
    }

    /// The packs that hold the nodes built last.
    pub(super) fn node_packs(&self, name: impl Fn(&PackRef) -> Option<Digest>) -> NodePacks {
        let Some(kept) = &self.kept else {
            let mut names: Vec<Digest> = self.packs.keys().filter_map(name).collect();
            names.sort_unstable();
            names.dedup();
            return NodePacks { names, chained: 0 };
        };
        // Packs are numbered in the order in which they are begun, and a node names no pack begun after its own.
        let mut new: Vec<PackRef> = self.packs.keys().filter(|p| !kept.packs.contains(p)).copied().collect();
        new.sort_unstable();
        let names = kept.packs.iter().chain(&new).filter_map(name).collect();
        NodePacks { names, chained: kept.chained + new.len() }
    }

    /// If the nodes built last lie in too many packs: rejects the old packs with the fewest of them and returns `true`.
    pub(super) fn reject_sparse_packs(&mut self) -> bool {
        if self.packs.len() <= MAX_NODE_PACKS {
            return false;
        }
        let mut old: Vec<(usize, PackRef)> =
            self.packs.iter().filter(|(p, _)| !self.own.contains(p)).map(|(p, n)| (*n, *p)).collect();
        old.sort_unstable_by(|a, b| b.cmp(a));
        let keep = KEPT_NODE_PACKS.min(MAX_NODE_PACKS.saturating_sub(self.own.len() + 1));
        let before = self.rejected.len();
        self.rejected.extend(old.iter().skip(keep).map(|(_, p)| *p));
        let rejected = &self.rejected;
        self.seen.retain(|_, place| !rejected.contains(&place.pack));
        // If all packs are this writer's own, building again does not help.
        self.rejected.len() > before
    }
}
