//! Maintaining `index/`: a segment for new packs, segments of similar size merged, useless ones removed. Writers do it
//! after their packs are visible.

use super::content_store::Objects;
use super::index::{Index, IndexScope};
use super::index_segment::{OpenedSegment, Segment, SegmentEntry};
use super::pack_file::read_footer;
use super::segment_merge::{SegmentMerge, packs_of};
use super::segment_writer::write_segment;
use crate::disk::{self, Created, NewFile};
use crate::error::{Kind as ErrorKind, Result};
use crate::types::{Digest, Token};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A segment made from footers has about this many entries at most, because they are sorted in memory.
const MAX_NEW_ENTRIES: usize = if cfg!(test) { 500 } else { 1 << 19 };
/// If a size class has more segments than this, a writer merges them.
const MAX_SEGMENTS_PER_TIER: usize = 8;
/// From this size class on (512 entries) merges are so rare that each lists `packs/` and omits packs that are gone.
const LISTING_TIER: u32 = 3;

/// A size class: powers of eight.
fn tier(segment: &Segment) -> u32 {
    (segment.len() as u64).max(1).ilog2() / 3
}

/// The lowest size class that has too many segments, and these.
fn overfull_tier(segments: impl Iterator<Item = Arc<Segment>>) -> Option<(u32, Vec<Arc<Segment>>)> {
    let mut tiers: HashMap<u32, Vec<Arc<Segment>>> = HashMap::new();
    for segment in segments.filter(|s| !s.is_damaged()) {
        tiers.entry(tier(&segment)).or_default().push(segment);
    }
    tiers.into_iter().filter(|(_, segments)| segments.len() > MAX_SEGMENTS_PER_TIER).min_by_key(|(tier, _)| *tier)
}

fn names_lost_packs(index: &Index, segment: &Segment) -> bool {
    segment.packs().iter().any(|name| index.lacks_pack(name))
}

impl Objects {
    /// Writes a segment for packs that were just made visible, merges segments if a size class has too many, and
    /// repairs what `seen`, the index as their writer saw it, showed to be wrong. Temporary files go to `work`.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn maintain_index(&self, seen: &Index, new: &[Digest], work: &Path) -> Result<()> {
        self.index_packs(new.iter(), work)?;
        if seen.is_incomplete() {
            return self.repair_index(work);
        }
        // What others wrote meanwhile is handled by the next writer.
        if overfull_tier(seen.segments().cloned()).is_some() { self.merge_tiers(work) } else { Ok(()) }
    }

    /// Removes useless segments, writes segments for packs that none covers, and merges.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn repair_index(&self, work: &Path) -> Result<()> {
        let index = self.load_index(IndexScope::Packs)?;
        let useful: HashSet<String> = index
            .segments()
            .filter(|s| !s.is_damaged() && s.packs().iter().any(|p| index.has_pack(p)))
            .map(|s| s.name.hex())
            .collect();
        for name in disk::list(&self.layout().index())? {
            let path = self.layout().index().join(&name);
            let is_segment = Digest::of_hex(name.as_encoded_bytes()).is_some();
            if is_segment && !name.to_str().is_some_and(|n| useful.contains(n)) && Segment::is_ours(&path) {
                self.disk().remove_file(&path)?;
            }
        }
        self.index_packs(index.uncovered(), work)?;
        self.merge_tiers(work)
    }

    /// Whether the index names packs that are gone, or does not cover one that is in place.
    ///
    /// # Errors
    /// I/O.
    pub fn index_needs_tidying(&self) -> Result<bool> {
        let index = self.load_index(IndexScope::Packs)?;
        Ok(index.is_incomplete() || index.segments().any(|segment| names_lost_packs(&index, segment)))
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

    /// As [`Objects::repair_index`], and removes what the segments say of packs that are gone.
    ///
    /// # Errors
    /// I/O.
    pub fn tidy_index(&self, work: &Path) -> Result<()> {
        self.repair_index(work)?;
        let index = self.load_index(IndexScope::Packs)?;
        let stale: Vec<_> =
            index.segments().filter(|s| !s.is_damaged() && names_lost_packs(&index, s)).cloned().collect();
        if stale.is_empty() || self.merge_segments(&index, &stale, work)? {
            return Ok(());
        }
        self.repair_index(work)
    }

    fn merge_tiers(&self, work: &Path) -> Result<()> {
        loop {
            let mut index = self.load_index(IndexScope::Segments)?;
            let Some((tier, segments)) = overfull_tier(index.segments().cloned()) else { return Ok(()) };
            if tier >= LISTING_TIER {
                index = self.load_index(IndexScope::Packs)?;
            }
            if !self.merge_segments(&index, &segments, work)? {
                self.index_packs(self.load_index(IndexScope::Packs)?.uncovered(), work)?;
            }
        }
    }

    /// Writes segments that cover these packs.
    fn index_packs<'a>(&self, packs: impl Iterator<Item = &'a Digest>, work: &Path) -> Result<()> {
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
            entries.extend(footer.blobs.iter().map(|b| SegmentEntry {
                digest: b.digest,
                kind: b.kind,
                pack,
                offset: b.offset,
            }));
            names.push(*name);
        }
        if names.is_empty() { Ok(()) } else { self.write_new_segment(work, &names, &mut entries) }
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
