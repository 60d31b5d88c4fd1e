//! Which packs there are, and what they hold: runs over many packs, footers of those that no run covers yet. A cache over the packs.

use super::pack::{self, Footer, Kind, TRAILER};
use super::run::{self, Run, RunEntry};
use super::table::PackTable;
use crate::disk::{self, Disk, FsKind};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::words::{Digest, PackRef, Place, Token};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// With more packs or entries than this that no run covers, a writer makes a run of them.
pub(super) const LOOSE_PACKS: usize = 64;
pub(super) const LOOSE_ENTRIES: usize = 50_000;
/// With more runs of one size class than this, a writer merges them.
const RUNS_OF_A_TIER: usize = 8;

/// The packs and what they hold, as they were when it was made.
pub(super) struct Index {
    /// Names of the packs in place.
    packs: HashSet<Digest>,
    runs: Vec<Arc<Run>>,
    /// What the uncovered packs hold, sorted by digest and kind.
    loose: Vec<(Digest, Kind, Place)>,
    /// Names of the uncovered packs.
    loose_packs: Vec<Digest>,
}

impl Index {
    /// Lists packs and runs FRESH, and reads the footers of packs that no run covers. What `before` has is not read again.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn load(layout: &Layout, table: &PackTable, kind: FsKind, before: Option<&Index>) -> Result<Index> {
        let packs: HashSet<Digest> = disk::list(&layout.packs())?.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes())).collect();
        let known: HashMap<Digest, Arc<Run>> = before.into_iter().flat_map(|b| &b.runs).map(|r| (r.name, r.clone())).collect();
        let mut runs = Vec::new();
        for name in disk::list(&layout.index())?.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes())) {
            let run = known.get(&name).cloned().or_else(|| Run::open(&layout.index().join(name.hex()), name, kind.is_local()).map(Arc::new));
            runs.extend(run);
        }
        runs.sort_by_key(|r| std::cmp::Reverse(r.len()));
        let covered: HashSet<&Digest> = runs.iter().flat_map(|r| &r.packs).collect();
        let mut loose_packs: Vec<Digest> = packs.iter().filter(|p| !covered.contains(p)).copied().collect();
        loose_packs.sort();
        let same = before.filter(|b| b.loose_packs == loose_packs);
        let mut loose = same.map(|b| b.loose.clone()).unwrap_or_default();
        if same.is_none() {
            for name in &loose_packs {
                // A damaged footer makes its pack unknown here; verify finds it, and hints may still lead into it.
                let Ok(footer) = read_footer(&layout.pack(name), name) else { continue };
                let number = table.intern(name);
                loose.extend(footer.blobs.iter().map(|b| (b.digest, b.kind, Place { pack: number, offset: b.offset })));
            }
            loose.sort_unstable_by_key(|(d, k, p)| (*d, *k, p.pack, p.offset));
        }
        Ok(Index { packs, runs, loose, loose_packs })
    }

    /// How many packs no run covers, and how many entries they have.
    pub(super) fn loose_counts(&self) -> (usize, usize) {
        (self.loose_packs.len(), self.loose.len())
    }

    /// Where a blob lies, in a pack that was in place.
    pub(super) fn find(&self, digest: &Digest, kind: Kind, table: &PackTable) -> Option<Place> {
        let at = self.loose.partition_point(|(d, k, _)| (d, k) < (digest, &kind));
        if let Some((_, _, place)) = self.loose.get(at).filter(|(d, k, _)| (d, k) == (digest, &kind)) {
            return Some(*place);
        }
        let mut found = Vec::new();
        for run in &self.runs {
            run.find(digest, kind, &mut found);
            let here = found.drain(..).find_map(|e| {
                let name = run.packs.get(e.pack as usize).filter(|n| self.packs.contains(n))?;
                Some(Place { pack: table.intern(name), offset: e.offset })
            });
            if here.is_some() {
                return here;
            }
        }
        None
    }

    /// Everywhere a blob may lie, packs that are not in place included: a reader finds them in the trash.
    pub(super) fn find_all(&self, digest: &Digest, kind: Kind, table: &PackTable) -> Vec<Place> {
        let at = self.loose.partition_point(|(d, k, _)| (d, k) < (digest, &kind));
        let mut out: Vec<Place> = self.loose[at..].iter().take_while(|(d, k, _)| (d, k) == (digest, &kind)).map(|(_, _, p)| *p).collect();
        for run in &self.runs {
            let mut found = Vec::new();
            run.find(digest, kind, &mut found);
            out.extend(found.iter().filter_map(|e| Some(Place { pack: table.intern(run.packs.get(e.pack as usize)?), offset: e.offset })));
        }
        out
    }

    /// Makes a run of what no run covers, and merges runs, where there is enough of either. For writers; `work` takes the temporary file.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn tidy(&self, layout: &Layout, table: &PackTable, disk: &Disk, work: &Path) -> Result<()> {
        let mut runs = self.runs.clone();
        for name in disk::list(&layout.index())? {
            if !runs.iter().any(|r| name.as_encoded_bytes() == r.name.hex().as_bytes()) {
                // Damaged, or made by another writer since: in either case it can be made anew.
                let damaged = Digest::from_hex(name.as_encoded_bytes()).is_none_or(|n| Run::open(&layout.index().join(&name), n, false).is_none());
                if damaged {
                    disk.remove_file(&layout.index().join(&name))?;
                }
            }
        }
        if self.loose_packs.len() > LOOSE_PACKS || self.loose.len() > LOOSE_ENTRIES {
            let number: HashMap<PackRef, u32> = self.loose_packs.iter().enumerate().map(|(i, n)| (table.intern(n), i as u32)).collect();
            let entries: Vec<RunEntry> =
                self.loose.iter().filter_map(|(digest, kind, p)| Some(RunEntry { digest: *digest, kind: *kind, pack: *number.get(&p.pack)?, offset: p.offset })).collect();
            runs.extend(write_run(layout, disk, work, &self.loose_packs, &entries)?);
        }
        let mut tiers: HashMap<u32, Vec<Arc<Run>>> = HashMap::new();
        for run in runs {
            tiers.entry((run.len() as u64).max(1).ilog2() / 3).or_default().push(run);
        }
        for tier in tiers.into_values().filter(|t| t.len() > RUNS_OF_A_TIER) {
            self.merge(layout, disk, work, &tier)?;
        }
        Ok(())
    }

    /// One run in place of several; packs that are gone are left out.
    fn merge(&self, layout: &Layout, disk: &Disk, work: &Path, runs: &[Arc<Run>]) -> Result<()> {
        let mut packs: Vec<Digest> = runs.iter().flat_map(|r| &r.packs).filter(|p| self.packs.contains(p)).copied().collect();
        packs.sort();
        packs.dedup();
        let mut entries = Vec::with_capacity(runs.iter().map(|r| r.len()).sum());
        for run in runs {
            let Some(all) = run.all() else { continue };
            entries.extend(all.into_iter().filter_map(|e| {
                let pack = packs.binary_search(run.packs.get(e.pack as usize)?).ok()? as u32;
                Some(RunEntry { pack, ..e })
            }));
        }
        entries.sort_unstable_by_key(|e| (e.digest, e.kind, e.pack, e.offset));
        entries.dedup();
        let new = write_run(layout, disk, work, &packs, &entries)?;
        for old in runs.iter().filter(|r| new.as_ref().is_none_or(|n| n.name != r.name)) {
            disk.remove_file(&layout.index().join(old.name.hex()))?;
        }
        Ok(())
    }
}

/// Writes a run; not synced, since a torn one is noticed and made anew.
fn write_run(layout: &Layout, disk: &Disk, work: &Path, packs: &[Digest], entries: &[RunEntry]) -> Result<Option<Arc<Run>>> {
    let (bytes, name) = run::encode(packs, entries);
    let temp = disk.write_file(work.join(format!("run-{}", Token::fresh())), &bytes)?;
    let path = layout.index().join(name.hex());
    disk.rename(temp.path(), &path)?;
    Ok(Run::open(&path, name, false).map(Arc::new))
}

/// Reads and checks a pack's footer.
///
/// # Errors
/// Damaged; I/O.
pub(super) fn read_footer(path: &Path, name: &Digest) -> Result<Footer> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let len = file.metadata().map_err(|e| Error::io("look at", path, e))?.len();
    footer_of(&file, len, path, name).map(|(footer, _)| footer)
}

/// The footer of an open pack, and where it begins.
///
/// # Errors
/// Damaged; I/O.
pub(super) fn footer_of(file: &File, len: u64, path: &Path, name: &Digest) -> Result<(Footer, u64)> {
    let read = |bytes: &mut [u8], at: u64| file.read_exact_at(bytes, at).map_err(|e| Error::io("read", path, e));
    let bad = || Error::damaged(format!("pack {name}: it has no footer that fits its {len} bytes"));
    let trailer_at = len.checked_sub(TRAILER as u64).ok_or_else(bad)?;
    let mut trailer = [0; TRAILER];
    read(&mut trailer, trailer_at)?;
    let start = pack::footer_start(&trailer, len).ok_or_else(bad)?;
    let mut bytes = vec![0; (len - start) as usize];
    read(&mut bytes, start)?;
    Ok((Footer::parse(&bytes, start, name)?, start))
}
