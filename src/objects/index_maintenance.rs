//! Maintaining `index/`: a segment for new packs, segments of similar size merged, useless ones removed. Writers do it
//! after what they made is published.
//!
//! A writer merges in proportion to what it stored, so that no small commit pays for the growth of the whole store.
//! What is too long for it is left to writers that store more, and to collections.

use super::content_store::Objects;
use super::index::{Index, IndexScope};
use super::index_segment::{OpenedSegment, Segment, SegmentEntry};
use super::pack_file::read_footer;
use super::segment_merge::{SegmentMerge, packs_of};
use super::segment_writer::write_segment;
use crate::disk::{self, Created, NewFile};
use crate::error::{Kind as ErrorKind, Result};
use crate::types::{Digest, Token};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment made from footers has about this many entries at most, because they are sorted in memory.
const MAX_NEW_ENTRIES: usize = if cfg!(test) { 500 } else { 1 << 19 };
/// If a size class has more segments than this, a writer merges them.
const MAX_SEGMENTS_PER_TIER: usize = 8;
/// A writer merges at least this many entries. A merge of them takes about 30 ms.
const MERGE_STEP: usize = if cfg!(test) { 500 } else { 1 << 16 };
/// A writer merges this many entries for each that it added.
const MERGE_RATIO: usize = 8;
/// If a size class has more segments than this, they are merged by the next writer, however long they are: each costs
/// every writer some calls.
const MAX_LONG_SEGMENTS: usize = 64;

/// A size class: powers of eight.
fn tier(segment: &Segment) -> u32 {
    (segment.len() as u64).max(1).ilog2() / 3
}

/// Segments to be merged next: of the lowest size class that has too many, the shortest ones, with at most `budget`
/// entries together.
fn next_merge(segments: impl Iterator<Item = Arc<Segment>>, budget: usize) -> Option<Vec<Arc<Segment>>> {
    let mut tiers: BTreeMap<u32, Vec<Arc<Segment>>> = BTreeMap::new();
    for segment in segments.filter(|s| !s.is_damaged()) {
        tiers.entry(tier(&segment)).or_default().push(segment);
    }
    tiers.into_values().filter(|segments| segments.len() > MAX_SEGMENTS_PER_TIER).find_map(|mut segments| {
        segments.sort_by_key(|s| s.len());
        if segments.len() <= MAX_LONG_SEGMENTS {
            let mut left = budget;
            let fits = |segment: &Arc<Segment>| left.checked_sub(segment.len()).inspect(|rest| left = *rest).is_some();
            segments = segments.into_iter().take_while(fits).collect();
        }
        (segments.len() > 1).then_some(segments)
    })
}

fn names_lost_packs(index: &Index, segment: &Segment) -> bool {
    segment.packs().iter().any(|name| index.lacks_pack(name))
}

/// The maintenance that the packs of one writer need. It is done when this is dropped: after the writer's version is
/// published, and while its token's directory exists.
pub struct IndexUpdate {
    objects: Arc<Objects>,
    seen: Arc<Index>,
    packs: Vec<Digest>,
    work: PathBuf,
}

impl std::fmt::Debug for IndexUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexUpdate").field("packs", &self.packs).finish_non_exhaustive()
    }
}

impl Drop for IndexUpdate {
    fn drop(&mut self) {
        // The index is a cache: an error here does not concern the version.
        let _: Result<()> = self.objects.maintain_index(&self.seen, &self.packs, &self.work);
    }
}

impl Objects {
    /// The maintenance for packs that were just made visible. `seen` is the index as their writer saw it.
    pub(super) fn index_update(self: &Arc<Self>, seen: Arc<Index>, packs: Vec<Digest>, work: &Path) -> IndexUpdate {
        IndexUpdate { objects: self.clone(), seen, packs, work: work.to_path_buf() }
    }

    /// Writes a segment for packs that were just made visible, merges some segments if a size class has too many, and
    /// repairs what `seen`, the index as their writer saw it, showed to be wrong. Temporary files go to `work`.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn maintain_index(&self, seen: &Index, new: &[Digest], work: &Path) -> Result<()> {
        let added = self.index_packs(new.iter(), work)?;
        let budget = MERGE_STEP.max(added.saturating_mul(MERGE_RATIO));
        if seen.is_incomplete() {
            return self.repair_index_with(work, budget);
        }
        // What others wrote meanwhile is handled by the next writer.
        if next_merge(seen.segments().cloned(), budget).is_some() { self.merge_tiers(work, budget) } else { Ok(()) }
    }

    /// Removes useless segments, writes segments for packs that none covers, and merges a few.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn repair_index(&self, work: &Path) -> Result<()> {
        self.repair_index_with(work, MERGE_STEP)
    }

    /// [`Objects::repair_index`], which merges at most `budget` entries.
    fn repair_index_with(&self, work: &Path, budget: usize) -> Result<()> {
        // Listed first: a segment that a writer installs after this is not looked at.
        let names = disk::list(&self.layout().index())?;
        let index = self.load_index(IndexScope::Packs)?;
        let useful: HashSet<String> = index
            .segments()
            .filter(|s| !s.is_damaged() && s.packs().iter().any(|p| index.has_pack(p)))
            .map(|s| s.name.hex())
            .collect();
        for name in names {
            let path = self.layout().index().join(&name);
            let is_segment = Digest::of_hex(name.as_encoded_bytes()).is_some();
            if is_segment && !name.to_str().is_some_and(|n| useful.contains(n)) && Segment::is_ours(&path) {
                self.disk().remove_file(&path)?;
            }
        }
        self.index_packs(index.uncovered(), work)?;
        self.merge_tiers(work, budget)
    }

    /// Whether the index names packs that are gone, does not cover one that is in place, or has too many segments.
    ///
    /// # Errors
    /// I/O.
    pub fn index_needs_tidying(&self) -> Result<bool> {
        let index = self.load_index(IndexScope::Packs)?;
        Ok(index.is_incomplete()
            || next_merge(index.segments().cloned(), usize::MAX).is_some()
            || index.segments().any(|segment| names_lost_packs(&index, segment)))
    }

    /// Removes an index segment, by its path below the store's root, so that it is written again. `false`: it is not a
    /// segment of ours, or gone.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_segment(&self, path: &Path) -> Result<bool> {
        let path = self.layout().root().join(path);
        let is_segment = path.parent() == Some(&self.layout().index())
            && path.file_name().is_some_and(|name| Digest::of_hex(name.as_encoded_bytes()).is_some())
            && Segment::is_ours(&path);
        if is_segment {
            self.disk().remove_file(&path)?;
        }
        Ok(is_segment)
    }

    /// As [`Objects::repair_index`], but merges all that is too much, and removes what the segments say of packs that
    /// are gone.
    ///
    /// # Errors
    /// I/O.
    pub fn tidy_index(&self, work: &Path) -> Result<()> {
        self.repair_index_with(work, usize::MAX)?;
        let index = self.load_index(IndexScope::Packs)?;
        let stale: Vec<_> =
            index.segments().filter(|s| !s.is_damaged() && names_lost_packs(&index, s)).cloned().collect();
        if stale.is_empty() || self.merge_segments(&index, &stale, work)? {
            return Ok(());
        }
        self.repair_index_with(work, usize::MAX)
    }

    /// Merges segments while a size class has too many, at most `budget` entries. Packs that are gone are omitted only
    /// if packs were listed: only a collection frees packs, and it tidies the index then.
    fn merge_tiers(&self, work: &Path, mut budget: usize) -> Result<()> {
        loop {
            let index = self.load_index(IndexScope::Segments)?;
            let Some(segments) = next_merge(index.segments().cloned(), budget) else { return Ok(()) };
            budget = budget.saturating_sub(segments.iter().map(|s| s.len()).sum());
            if !self.merge_segments(&index, &segments, work)? {
                self.index_packs(self.load_index(IndexScope::Packs)?.uncovered(), work)?;
            }
        }
    }

    /// Writes segments that cover these packs. Returns how many entries they have.
    fn index_packs<'a>(&self, packs: impl Iterator<Item = &'a Digest>, work: &Path) -> Result<usize> {
        let mut added = 0;
        let mut names: Vec<Digest> = Vec::new();
        let mut entries: Vec<SegmentEntry> = Vec::new();
        for name in packs {
            let footer = match read_footer(self.layout().pack(name), name) {
                Ok(footer) => footer,
                Err(e) if e.kind() == ErrorKind::Damaged => continue,
                Err(e) => return Err(e),
            };
            if entries.len() + footer.blobs.len() > MAX_NEW_ENTRIES && !names.is_empty() {
                self.write_new_segment(work, &names, &mut entries)?;
                names.clear();
            }
            let pack = names.len() as u32;
            added += footer.blobs.len();
            entries.extend(footer.blobs.iter().map(|b| SegmentEntry {
                digest: b.digest,
                kind: b.kind,
                pack,
                offset: b.offset,
            }));
            names.push(*name);
        }
        if !names.is_empty() {
            self.write_new_segment(work, &names, &mut entries)?;
        }
        Ok(added)
    }

    fn write_new_segment(&self, work: &Path, packs: &[Digest], entries: &mut Vec<SegmentEntry>) -> Result<()> {
        entries.sort_unstable_by_key(|e| (e.digest, e.kind, e.pack));
        let count = entries.len();
        self.install_segment(work, |file| write_segment(file, packs, count, &mut entries.drain(..).map(Ok)))?;
        Ok(())
    }

    /// Replaces several segments by one. Omits packs that are known to be gone. `false`: one was damaged, so all were
    /// removed.
    fn merge_segments(&self, index: &Index, segments: &[Arc<Segment>], work: &Path) -> Result<bool> {
        let packs = packs_of(segments, |p| !index.lacks_pack(p));
        let remove_all_but = |kept: Option<Digest>| {
            segments
                .iter()
                .filter(|s| Some(s.name) != kept)
                .try_for_each(|s| self.disk().remove_file(&self.layout().index().join(s.name.hex())))
        };
        // Two passes, to count and to write, so that little is in memory.
        let mut count = 0;
        for entry in SegmentMerge::new(segments, &packs) {
            if entry.is_err() {
                remove_all_but(None)?;
                return Ok(false);
            }
            count += 1;
        }
        let mut entries = SegmentMerge::new(segments, &packs);
        let name = self.install_segment(work, |file| write_segment(file, &packs, count, &mut entries))?;
        remove_all_but(Some(name))?;
        Ok(true)
    }

    /// Writes a segment and renames it into `index/`. Not synced: its checksums show if a power failure tore it, and
    /// then it is written again.
    fn install_segment(&self, work: &Path, write: impl FnOnce(&mut NewFile) -> Result<Digest>) -> Result<Digest> {
        let mut file = self.disk().create_file(work.join(format!("segment-{}", Token::fresh())))?;
        let installed = write(&mut file).and_then(|name| {
            let to = self.layout().index().join(name.hex());
            if self.disk().rename_if_absent(file.path(), &to)? == Created::Exists {
                match Segment::open(&to, name) {
                    OpenedSegment::Valid(_) => self.disk().remove_file(file.path())?,
                    OpenedSegment::Damaged | OpenedSegment::Gone => self.disk().rename(file.path(), &to)?,
                }
            }
            Ok(name)
        });
        if installed.is_err() {
            let _: Result<()> = self.disk().remove_file(file.path());
        }
        installed
    }
}
