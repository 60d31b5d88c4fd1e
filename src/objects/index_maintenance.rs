//! Tending `index/`: a run over each new pack, runs of a size merged, what helps nobody dropped. Writers do it, after
//! their packs are visible.

use super::Objects;
use super::index::{Index, Look};
use super::index_segment::{self, Opened, Segment, SegmentEntry};
use super::merge::{self, Merge};
use super::pack_file::read_footer;
use crate::disk::{self, Created, NewFile};
use crate::error::{Kind as ErrorKind, Result};
use crate::types::{Digest, Token};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A run made of footers has about this many entries at most: they are sorted in memory.
const RUN_ENTRIES: usize = if cfg!(test) { 500 } else { 1 << 19 };
/// With more runs of one size class than this, a writer merges them.
const RUNS_OF_A_TIER: usize = 8;
/// From this size class on (512 entries) merging is so rare that `packs/` is listed for it, and packs that are gone are
/// left out.
const LISTING_TIER: u32 = 3;

/// A size class: powers of eight.
fn tier(run: &Segment) -> u32 {
    (run.len() as u64).max(1).ilog2() / 3
}

/// The runs of a size class that has too many.
fn crowded(runs: impl Iterator<Item = Arc<Segment>>) -> Option<(u32, Vec<Arc<Segment>>)> {
    let mut tiers: HashMap<u32, Vec<Arc<Segment>>> = HashMap::new();
    for run in runs.filter(|r| !r.is_damaged()) {
        tiers.entry(tier(&run)).or_default().push(run);
    }
    tiers.into_iter().filter(|(_, runs)| runs.len() > RUNS_OF_A_TIER).min_by_key(|(tier, _)| *tier)
}

impl Objects {
    /// Makes a run over packs that were made visible a moment ago, and merges runs where there are many of a size;
    /// `seen` is the index as their writer saw it, and what it showed to be wrong is mended. `work` takes the temporary
    /// files.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn tend(&self, seen: &Index, new: &[Digest], work: &Path) -> Result<()> {
        self.cover(new.iter(), work)?;
        if seen.wants_mending() {
            return self.mend(work);
        }
        // What others made meanwhile counts when the next writer comes.
        if crowded(seen.runs().cloned()).is_some() { self.merge_crowded(work) } else { Ok(()) }
    }

    /// Drops what helps nobody, makes runs of what no run covers, and merges.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn mend(&self, work: &Path) -> Result<()> {
        let index = self.load_index(Look::Packs)?;
        let useful: HashSet<String> = index
            .runs()
            .filter(|r| !r.is_damaged() && r.packs().iter().any(|p| index.has_pack(p)))
            .map(|r| r.name.hex())
            .collect();
        for name in disk::list(&self.layout.index())? {
            let path = self.layout.index().join(&name);
            let is_run = Digest::from_hex(name.as_encoded_bytes()).is_some();
            if is_run && !name.to_str().is_some_and(|n| useful.contains(n)) && Segment::is_ours(&path) {
                self.disk.remove_file(&path)?;
            }
        }
        self.cover(index.uncovered(), work)?;
        self.merge_crowded(work)
    }

    fn merge_crowded(&self, work: &Path) -> Result<()> {
        loop {
            let mut index = self.load_index(Look::Runs)?;
            let Some((tier, runs)) = crowded(index.runs().cloned()) else { return Ok(()) };
            if tier >= LISTING_TIER {
                index = self.load_index(Look::Packs)?;
            }
            if !self.merge(&index, &runs, work)? {
                self.cover(self.load_index(Look::Packs)?.uncovered(), work)?;
            }
        }
    }

    /// Runs over packs that no run covers.
    fn cover<'a>(&self, packs: impl Iterator<Item = &'a Digest>, work: &Path) -> Result<()> {
        let mut names: Vec<Digest> = Vec::new();
        let mut entries: Vec<SegmentEntry> = Vec::new();
        for name in packs {
            let footer = match read_footer(self.layout.pack(name), name) {
                Ok(footer) => footer,
                Err(e) if e.kind() == ErrorKind::Damaged => continue,
                Err(e) => return Err(e),
            };
            if entries.len() + footer.blobs.len() > RUN_ENTRIES && !names.is_empty() {
                self.make_run(work, &names, &mut entries)?;
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
        if names.is_empty() { Ok(()) } else { self.make_run(work, &names, &mut entries) }
    }

    fn make_run(&self, work: &Path, packs: &[Digest], entries: &mut Vec<SegmentEntry>) -> Result<()> {
        entries.sort_unstable_by_key(|e| (e.digest, e.kind, e.pack));
        let count = entries.len();
        self.put_run(work, |file| index_segment::write(file, packs, count, &mut entries.drain(..).map(Ok)))?;
        Ok(())
    }

    /// One run in place of several; packs that are known to be gone are left out. `false`: one was damaged, and they
    /// were dropped.
    fn merge(&self, index: &Index, runs: &[Arc<Segment>], work: &Path) -> Result<bool> {
        let packs = merge::packs_of(runs, |p| !index.lacks_pack(p));
        let drop_them = |but: Option<Digest>| {
            runs.iter()
                .filter(|r| Some(r.name) != but)
                .try_for_each(|r| self.disk.remove_file(&self.layout.index().join(r.name.hex())))
        };
        // Gone through twice, so that as little is in memory as can be: to count, and to write.
        let mut count = 0;
        for entry in Merge::new(runs, &packs) {
            if entry.is_err() {
                drop_them(None)?;
                return Ok(false);
            }
            count += 1;
        }
        let name =
            self.put_run(work, |file| index_segment::write(file, &packs, count, &mut Merge::new(runs, &packs)))?;
        drop_them(Some(name))?;
        Ok(true)
    }

    /// Puts a run into place. Not synced: one that a power cut tore is noticed by its checksums and made anew.
    fn put_run(&self, work: &Path, write: impl FnOnce(&mut NewFile) -> Result<Digest>) -> Result<Digest> {
        let mut file = self.disk.create_file(work.join(format!("run-{}", Token::fresh())))?;
        let put = write(&mut file).and_then(|name| {
            let to = self.layout.index().join(name.hex());
            if self.disk.rename_if_absent(file.path(), &to)? == Created::Exists {
                match Segment::open(&to, name) {
                    Opened::Segment(_) => self.disk.remove_file(file.path())?,
                    Opened::Damaged | Opened::Gone => self.disk.rename(file.path(), &to)?,
                }
            }
            Ok(name)
        });
        if put.is_err() {
            let _: Result<()> = self.disk.remove_file(file.path());
        }
        put
    }
}
