//! The index: where blobs lie, according to the index segments, and, if `packs/` was listed, to the footers of packs
//! that no segment covers. A cache over the packs.
//!
//! Each writer leaves a segment that covers its packs. So the segments know nearly everything, and the cost of reading
//! them does not depend on the number of packs. What they miss (a segment that was lost) costs at most a second copy of
//! a blob. Packs are listed, and the index is repaired, by a writer that stores much, by one writer in many, and by
//! each process that finds a damaged segment. No answer is trusted: the pack's own lookup and the blob's header decide.

use super::index_segment::{OpenedSegment, Segment};
use super::pack::BlobKind;
use super::pack_file::read_footer;
use super::pack_table::PackTable;
use crate::disk;
use crate::error::{Kind as ErrorKind, Result};
use crate::layout::Layout;
use crate::types::{Digest, Location, PackRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Entries of uncovered packs that are kept in memory. Further packs are searched in place; a writer first writes
/// segments for all of them.
const MAX_MEMORY_ENTRIES: usize = if cfg!(test) { 200 } else { 1 << 18 };
/// How often `index/` is listed again because a segment vanished meanwhile: it was merged into another.
const MAX_LISTINGS: usize = 4;

/// What is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexScope {
    /// The segments.
    Segments,
    /// The segments, and which packs are in place.
    Packs,
}

/// The state of `index/` and `packs/` when it was loaded.
pub(super) struct Index {
    /// Names of the packs in place, sorted, if they were listed.
    packs: Option<Vec<Digest>>,
    /// The longest first.
    segments: Vec<Arc<Segment>>,
    /// `index/` has a damaged segment.
    broken: bool,
    /// The blobs of uncovered packs, sorted by digest and kind. Their footers were checked.
    uncovered_blobs: Vec<(Digest, BlobKind, Location)>,
    /// Names of these packs, and of those with a damaged footer.
    uncovered_packs: Vec<Digest>,
    /// Uncovered packs beyond [`MAX_MEMORY_ENTRIES`].
    unread: Vec<Digest>,
}

impl Index {
    /// Lists the segments, and depending on `scope` the packs, by revalidated lookups. Reads the footers of listed
    /// packs that no segment covers. Does not read again what `before` has.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn load(layout: &Layout, table: &PackTable, before: Option<&Index>, scope: IndexScope) -> Result<Index> {
        let (segments, broken) = load_segments(layout, before)?;
        segments.iter().for_each(|segment| segment.share_cache(segments.len()));
        let mut index = Index {
            packs: None,
            segments,
            broken,
            uncovered_blobs: Vec::new(),
            uncovered_packs: Vec::new(),
            unread: Vec::new(),
        };
        if scope == IndexScope::Packs {
            index.list_packs(layout, table, before)?;
        }
        Ok(index)
    }

    fn list_packs(&mut self, layout: &Layout, table: &PackTable, before: Option<&Index>) -> Result<()> {
        let mut packs: Vec<Digest> =
            disk::list(&layout.packs())?.iter().filter_map(|n| Digest::of_hex(n.as_encoded_bytes())).collect();
        packs.sort_unstable();
        let uncovered = self.without_segment(&packs);
        let known: HashSet<PackRef> = before
            .into_iter()
            .flat_map(|b| &b.uncovered_packs)
            .filter(|p| uncovered.binary_search(p).is_ok())
            .map(|p| table.intern(p))
            .collect();
        let before_blobs = before.into_iter().flat_map(|b| &b.uncovered_blobs);
        self.uncovered_blobs = before_blobs.filter(|(_, _, p)| known.contains(&p.pack)).copied().collect();
        for name in uncovered {
            self.add_uncovered(layout, name, table.intern(&name), &known)?;
        }
        self.uncovered_blobs.sort_unstable_by_key(|(d, k, p)| (*d, *k, p.pack, p.offset));
        self.packs = Some(packs);
        Ok(())
    }

    /// The packs that no segment covers. A damaged segment covers none, for it may not know all their blobs; lookups
    /// still use it, for what it does know is right.
    fn without_segment(&self, packs: &[Digest]) -> Vec<Digest> {
        let segments = self.segments.iter().filter(|s| !s.is_damaged());
        let mut covered: Vec<&Digest> = segments.flat_map(|s| s.packs()).collect();
        covered.sort_unstable();
        packs.iter().filter(|p| covered.binary_search(p).is_err()).copied().collect()
    }

    fn add_uncovered(
        &mut self,
        layout: &Layout,
        name: Digest,
        number: PackRef,
        known: &HashSet<PackRef>,
    ) -> Result<()> {
        if !known.contains(&number) {
            if self.uncovered_blobs.len() > MAX_MEMORY_ENTRIES {
                self.unread.push(name);
                return Ok(());
            }
            match read_footer(layout.pack(&name), &name) {
                Ok(footer) => self.uncovered_blobs.extend(
                    footer.blobs.iter().map(|b| (b.digest, b.kind, Location { pack: number, offset: b.offset })),
                ),
                // Its blobs are unknown here. `verify` finds it, and hints may still lead into it.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        self.uncovered_packs.push(name);
        Ok(())
    }

    /// The packs that were in place, if they were listed.
    pub(super) fn packs(&self) -> impl Iterator<Item = &Digest> {
        self.packs.iter().flatten()
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter()
    }

    /// How many packs the segments cover; a pack in several of them counts several times.
    pub(super) fn covered_packs(&self) -> usize {
        self.segments.iter().map(|segment| segment.pack_count()).sum()
    }

    /// Whether the packs were listed.
    pub(super) fn has_listing(&self) -> bool {
        self.packs.is_some()
    }

    /// Whether the pack is known to have been in place.
    pub(super) fn has_pack(&self, name: &Digest) -> bool {
        self.packs.as_ref().is_some_and(|packs| packs.binary_search(name).is_ok())
    }

    /// Whether the pack is known not to have been in place.
    pub(super) fn lacks_pack(&self, name: &Digest) -> bool {
        self.packs.as_ref().is_some_and(|packs| packs.binary_search(name).is_err())
    }

    /// The packs in place that no segment covers, if packs were listed.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &Digest> {
        self.uncovered_packs.iter().chain(&self.unread)
    }

    /// Uncovered packs whose footers are not in memory.
    pub(super) fn unread(&self) -> &[Digest] {
        &self.unread
    }

    /// Whether lookups are slow or may miss much: then a writer repairs the index first.
    pub(super) fn needs_repair(&self) -> bool {
        !self.unread.is_empty()
            || self.broken
            || self.segments.iter().any(|s| s.is_damaged())
            || (self.segments.is_empty() && !self.has_listing())
    }

    /// Whether a writer repairs the index when it is done.
    pub(super) fn is_incomplete(&self) -> bool {
        self.needs_repair() || !self.uncovered_packs.is_empty()
    }

    fn in_uncovered_packs(&self, digest: &Digest, kind: BlobKind) -> impl Iterator<Item = Location> {
        let at = self.uncovered_blobs.partition_point(|(d, k, _)| (d, k) < (digest, &kind));
        self.uncovered_blobs[at..].iter().take_while(move |(d, k, _)| (*d, *k) == (*digest, kind)).map(|(_, _, p)| *p)
    }

    /// Calls `check` for each location where the blob may be, until it returns `Some`. The blob's own header must
    /// confirm the location.
    pub(super) fn find_location<T>(
        &self,
        digest: &Digest,
        kind: BlobKind,
        table: &PackTable,
        mut check: impl FnMut(Location) -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = self.in_uncovered_packs(digest, kind).find_map(&mut check) {
            return Some(found);
        }
        let mut entries = Vec::new();
        self.segments.iter().find_map(|segment| {
            segment.find(digest, kind, &mut entries);
            entries.drain(..).find_map(|e| {
                let name = segment.packs().get(e.pack as usize).filter(|name| !self.lacks_pack(name))?;
                check(Location { pack: table.intern(name), offset: e.offset })
            })
        })
    }

    /// All locations where the blob may be.
    pub(super) fn all_locations(&self, digest: &Digest, kind: BlobKind, table: &PackTable) -> Vec<Location> {
        let mut out: Vec<Location> = Vec::new();
        self.find_location(digest, kind, table, |place| {
            out.push(place);
            None::<()>
        });
        out
    }
}

/// The segments, the longest first, and whether there are damaged ones. Ignores files that are not segments.
fn load_segments(layout: &Layout, before: Option<&Index>) -> Result<(Vec<Arc<Segment>>, bool)> {
    let known: HashMap<Digest, &Arc<Segment>> =
        before.into_iter().flat_map(|b| b.segments()).map(|s| (s.name, s)).collect();
    for listing in 1.. {
        let (mut segments, mut broken, mut vanished) = (Vec::new(), false, false);
        for name in disk::list(&layout.index())? {
            let Some(name) = Digest::of_hex(name.as_encoded_bytes()) else { continue };
            let path = layout.index().join(name.hex());
            // One that was found damaged may have been written again, with the same content and so the same name.
            if let Some(segment) = known.get(&name).filter(|s| !s.is_damaged() || s.is_at(&path)) {
                segments.push(Arc::clone(segment));
                continue;
            }
            match Segment::open(&path, name) {
                OpenedSegment::Valid(segment) => segments.push(Arc::new(segment)),
                OpenedSegment::Gone => vanished = true,
                OpenedSegment::Damaged => broken |= Segment::is_ours(&path),
            }
        }
        if vanished && listing < MAX_LISTINGS {
            continue;
        }
        segments.sort_by_key(|s| (std::cmp::Reverse(s.len()), s.name));
        return Ok((segments, broken));
    }
    unreachable!("the last listing returns")
}
