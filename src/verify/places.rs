//! Where packed blobs are: whether location hints lead to what they say (F11), and whether a version lists packs that
//! have all its nodes, in the order that it says (F16).

use super::report::{Finding, VerifyReport, code};
use super::root::ManifestOwner;
use crate::manifest::Node;
use crate::objects::{BlobKind, Objects};
use crate::types::{Digest, Location, PackRef};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The blobs of packs that have no damage.
#[derive(Default)]
pub(super) struct Places {
    /// Each pack's number here.
    numbers: HashMap<Digest, u32>,
    /// Each pack's blobs, ascending: the offset of the header, and the first bytes of the digest.
    blobs: Vec<Box<[(u32, u32)]>>,
    /// The packs that have a node.
    of_node: HashMap<Digest, Vec<u32>>,
}

impl Places {
    /// Adds a pack with all its blobs.
    pub fn add(&mut self, pack: Digest, found: &[(Digest, BlobKind, u32)]) {
        if found.is_empty() || self.numbers.contains_key(&pack) {
            return; // a garbage collector removed it, or it is in the trash too
        }
        let number = self.blobs.len() as u32;
        let mut blobs: Box<[(u32, u32)]> = found.iter().map(|(digest, _, at)| (*at, prefix(digest))).collect();
        blobs.sort_unstable();
        self.blobs.push(blobs);
        self.numbers.insert(pack, number);
        for (digest, ..) in found.iter().filter(|(_, kind, _)| *kind == BlobKind::Node) {
            self.of_node.entry(*digest).or_default().push(number);
        }
    }

    /// What is wrong with a hint, if its pack has no damage.
    fn fault(&self, pack: u32, offset: u32, digest: &Digest) -> Option<&'static str> {
        let blobs = self.blobs.get(pack as usize)?;
        match blobs.binary_search_by_key(&offset, |(at, _)| *at) {
            Ok(i) if blobs[i].1 == prefix(digest) => None,
            Ok(_) => Some("which is another blob"),
            Err(_) => Some("where no blob begins"),
        }
    }
}

fn prefix(digest: &Digest) -> u32 {
    (digest.prefix() >> 32) as u32
}

/// Sets of packs: of each, one must be listed.
type PackSets = Arc<[u32]>;

/// The check of the places that nodes and versions record.
#[derive(Default)]
pub(super) struct PlaceCheck {
    /// The numbers of packs here, by what hints call them.
    packs: HashMap<PackRef, Option<u32>>,
    /// The distinct sets of packs that have one node.
    sets: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
    /// Which of the sets the nodes of each subtree have.
    below: HashMap<Digest, PackSets>,
    /// Of each pack, the sets of packs that have a node which a node of it names.
    named: HashMap<u32, BTreeSet<u32>>,
    /// Nodes with wrong hints.
    wrong: HashSet<Digest>,
}

impl PlaceCheck {
    /// Checks a node's hints, and remembers where the nodes of its subtree are. Those below it come first.
    pub fn node(
        &mut self,
        objects: &Objects,
        places: &Places,
        digest: &Digest,
        node: &Node,
        owner: &ManifestOwner,
        report: &mut VerifyReport,
    ) {
        let (children, blobs) = (node.children(), node.blobs());
        let hints = children.iter().map(|child| (child.digest, child.place, "manifest node"));
        let hints = hints.chain(blobs.iter().map(|(digest, _, place)| (*digest, *place, "content")));
        let mut faults = hints.filter_map(|(digest, place, kind)| {
            let (place, why) = place.and_then(|place| Some((place, self.fault(objects, places, place, &digest)?)))?;
            let (pack, offset) = objects.place_in_pack(place)?;
            Some(format!("the hint of {kind} {digest} leads to offset {offset} of packs/{pack}, {why}"))
        });
        if let Some(mut why) = faults.next() {
            let more = faults.count();
            if more > 0 {
                why.push_str(&format!("; {more} more of its hints are wrong"));
            }
            if self.wrong.insert(*digest) {
                let (what, affects) = (format!("manifest node {digest}"), vec![owner.to_string()]);
                report.findings.push(Finding { code: code::HINTS, what, why, affects });
            }
        }
        let below = self.sets_below(places, digest, children.iter().map(|child| &child.digest));
        self.below.insert(*digest, below);
    }

    fn fault(&mut self, objects: &Objects, places: &Places, at: Location, digest: &Digest) -> Option<&'static str> {
        let number = self.packs.entry(at.pack).or_insert_with(|| {
            let (name, _) = objects.place_in_pack(at)?;
            places.numbers.get(&name).copied()
        });
        places.fault((*number)?, at.offset, digest)
    }

    /// The sets of a node and of those below it. Most nodes share theirs with a child.
    fn sets_below<'a>(
        &mut self,
        places: &Places,
        digest: &Digest,
        children: impl Iterator<Item = &'a Digest>,
    ) -> PackSets {
        let own = places.of_node.get(digest).map(|packs| self.number(packs));
        let mut all: BTreeSet<u32> = own.into_iter().collect();
        let mut shared: Option<PackSets> = None;
        let children: Vec<_> = children.collect();
        for packs in children.iter().filter_map(|child| places.of_node.get(child)) {
            let set = self.number(packs);
            for pack in places.of_node.get(digest).into_iter().flatten() {
                self.named.entry(*pack).or_default().insert(set);
            }
        }
        for below in children.into_iter().filter_map(|child| self.below.get(child)) {
            if shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, below)) {
                continue;
            }
            all.extend(below.iter());
            shared.get_or_insert_with(|| below.clone());
        }
        match shared {
            Some(shared) if shared.len() == all.len() => shared,
            _ => all.into_iter().collect(),
        }
    }

    fn number(&mut self, packs: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(packs) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(packs.to_vec());
        self.numbers.insert(packs.to_vec(), number);
        number
    }

    /// Checks that each node of a manifest is in one of the packs that are listed for it, and that each of the last
    /// `chained` packs names nodes in itself and in packs before it only. If one of the packs is missing or damaged, it
    /// reports nothing: a garbage collector has rewritten that pack, or it is a finding of its own.
    pub fn listed(
        &self,
        places: &Places,
        root: &Digest,
        (listed, chained): (&[Digest], usize),
        owner: &ManifestOwner,
        report: &mut VerifyReport,
    ) {
        let Some(below) = self.below.get(root) else { return };
        let Some(listed) = listed.iter().map(|pack| places.numbers.get(pack)).collect::<Option<Vec<_>>>() else {
            return;
        };
        let sets = below.iter().filter_map(|set| self.sets.get(*set as usize));
        let unlisted: BTreeSet<u32> = sets
            .filter(|set| !set.iter().any(|p| listed.contains(&p)))
            .filter_map(|set| set.first().copied())
            .collect();
        let why = if unlisted.is_empty() {
            let Some(at) = self.first_out_of_order(&listed, chained) else { return };
            let of = places.numbers.iter().find(|(_, number)| *number == listed[at]).map(|(name, _)| name.to_string());
            let of = of.unwrap_or_default();
            format!(
                "it says that patches added the last {chained} of its packs; one of them, packs/{of}, names nodes in \
                 later packs"
            )
        } else {
            let names = places.numbers.iter().filter(|(_, number)| unlisted.contains(number));
            let mut names: Vec<String> = names.map(|(name, _)| format!("packs/{name}")).collect();
            names.sort();
            format!("nodes of its manifest are in {}, which it does not list", names.join(", "))
        };
        let (what, affects) = (owner.to_string(), vec![owner.to_string()]);
        report.findings.push(Finding { code: code::UNLISTED, what, why, affects });
    }

    /// The first of the last `chained` packs with a node that names one which no pack up to there has, but a later one.
    fn first_out_of_order(&self, listed: &[&u32], chained: usize) -> Option<usize> {
        (listed.len().saturating_sub(chained)..listed.len()).find(|at| {
            let has = |packs: &[&u32], set: &[u32]| packs.iter().any(|pack| set.contains(pack));
            let named = self.named.get(listed[*at]).into_iter().flatten();
            let mut sets = named.filter_map(|set| self.sets.get(*set as usize));
            sets.any(|set| !has(&listed[..=*at], set) && has(&listed[*at + 1..], set))
        })
    }
}
