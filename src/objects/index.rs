//! Which packs there are, and what they hold: runs over many packs, footers of those that no run covers yet. A cache over the packs.
//!
//! Readers never change `index/`. A writer, after its packs are visible, makes a run of what has gathered, and one of many runs of a size.

use super::Objects;
use super::merge::{self, Merge};
use super::pack::Kind;
use super::pack_file::{Miss, Tried, read_footer};
use super::run::{self, Run, RunEntry};
use super::table::PackTable;
use crate::disk::{self, FsKind, NewFile};
use crate::error::{Kind as ErrorKind, Result};
use crate::layout::Layout;
use crate::words::{Digest, PackRef, Place, Token};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// With more packs or entries than this that no run covers, a writer makes a run of them.
const LOOSE_PACKS: usize = 64;
const LOOSE_ENTRIES: usize = 8_192;
/// Entries of uncovered packs that are kept in memory. Packs beyond are searched where they lie; a writer makes runs of all of them first.
const MEMORY_ENTRIES: usize = if cfg!(test) { 200 } else { 1 << 18 };
/// A run made of footers has about this many entries at most: they are sorted in memory.
const RUN_ENTRIES: usize = if cfg!(test) { 500 } else { 1 << 19 };
/// With more runs of one size class than this, a writer merges them.
const RUNS_OF_A_TIER: usize = 8;

/// The packs and what they hold, as they were when it was made.
pub(super) struct Index {
    /// Names of the packs in place, sorted: there may be many, and a process may have only one question.
    packs: Vec<Digest>,
    runs: Vec<View>,
    /// What the uncovered packs hold, sorted by digest and kind. Their footers were checked.
    loose: Vec<(Digest, Kind, Place)>,
    /// Names of the uncovered packs whose entries these are; those with a damaged footer too.
    loose_packs: Vec<Digest>,
    /// Uncovered packs beyond [`MEMORY_ENTRIES`].
    unread: Vec<Digest>,
}

/// A run, and which of its packs were in place.
struct View {
    run: Arc<Run>,
    in_place: Vec<bool>,
}

impl Index {
    /// Lists packs and runs FRESH, and reads the footers of packs that no run covers. What `before` has is not read again.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn load(layout: &Layout, table: &PackTable, kind: FsKind, before: Option<&Index>) -> Result<Index> {
        let mut packs: Vec<Digest> = disk::list(&layout.packs())?.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes())).collect();
        packs.sort_unstable();
        let known: HashMap<Digest, Arc<Run>> = before.into_iter().flat_map(|b| b.runs()).map(|r| (r.name, r.clone())).collect();
        let mut runs: Vec<Arc<Run>> = Vec::new();
        for name in disk::list(&layout.index())?.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes())) {
            let path = layout.index().join(name.hex());
            // One that was found damaged may have been made anew, with the same content and so the same name.
            let run = known.get(&name).filter(|r| !r.is_damaged() || r.is_at(&path)).cloned();
            runs.extend(run.or_else(|| Run::open(&path, name, kind.is_local()).map(Arc::new)));
        }
        runs.sort_by_key(|r| (std::cmp::Reverse(r.len()), r.name));
        // A damaged run may hide what its packs hold; it is asked all the same, for what it still knows is right.
        let mut covered: Vec<&Digest> = runs.iter().filter(|r| !r.is_damaged()).flat_map(|r| &r.packs).collect();
        covered.sort_unstable();
        let uncovered: Vec<Digest> = packs.iter().filter(|p| covered.binary_search(p).is_err()).copied().collect();
        let kept: HashSet<PackRef> =
            before.into_iter().flat_map(|b| &b.loose_packs).filter(|p| uncovered.binary_search(p).is_ok()).map(|p| table.intern(p)).collect();
        let mut loose: Vec<_> = before.into_iter().flat_map(|b| &b.loose).filter(|(_, _, p)| kept.contains(&p.pack)).copied().collect();
        let (mut loose_packs, mut unread) = (Vec::new(), Vec::new());
        for name in uncovered {
            let number = table.intern(&name);
            if !kept.contains(&number) {
                if loose.len() > MEMORY_ENTRIES {
                    unread.push(name);
                    continue;
                }
                match read_footer(layout.pack(&name), &name) {
                    Ok(footer) => loose.extend(footer.blobs.iter().map(|b| (b.digest, b.kind, Place { pack: number, offset: b.offset }))),
                    // Its pack is unknown here; verify finds it, and hints may still lead into it.
                    Err(e) if e.kind() == ErrorKind::Damaged => {}
                    Err(e) => return Err(e),
                }
            }
            loose_packs.push(name);
        }
        loose.sort_unstable_by_key(|(d, k, p)| (*d, *k, p.pack, p.offset));
        let view = |run: Arc<Run>| View { in_place: run.packs.iter().map(|p| packs.binary_search(p).is_ok()).collect(), run };
        let runs = runs.into_iter().map(view).collect();
        Ok(Index { packs, runs, loose, loose_packs, unread })
    }

    /// The packs that were in place.
    pub(super) fn packs(&self) -> impl Iterator<Item = &Digest> {
        self.packs.iter()
    }

    fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.iter().map(|v| &v.run)
    }

    /// Whether the pack was in place.
    pub(super) fn has_pack(&self, name: &Digest) -> bool {
        self.packs.binary_search(name).is_ok()
    }

    /// Whether questions to it are slow, or worse: a writer then tidies first.
    pub(super) fn is_poor(&self) -> bool {
        !self.unread.is_empty() || self.runs().any(|r| r.is_damaged())
    }

    /// Whether there is something to tidy once so many packs and entries have come.
    pub(super) fn wants_tidying(&self, packs: usize, entries: usize) -> bool {
        self.is_poor() || self.loose_packs.len() + packs > LOOSE_PACKS || self.loose.len() + entries > LOOSE_ENTRIES
    }

    fn loose(&self, digest: &Digest, kind: Kind) -> impl Iterator<Item = Place> {
        let at = self.loose.partition_point(|(d, k, _)| (d, k) < (digest, &kind));
        self.loose[at..].iter().take_while(move |(d, k, _)| (*d, *k) == (*digest, kind)).map(|(_, _, p)| *p)
    }

    /// Calls `see` for each place that the runs name in a pack that was in place, until it says that it has enough.
    fn in_runs<T>(&self, digest: &Digest, kind: Kind, table: &PackTable, mut see: impl FnMut(Place) -> Option<T>) -> Option<T> {
        let mut found = Vec::new();
        self.runs.iter().find_map(|view| {
            view.run.find(digest, kind, &mut found);
            found.drain(..).find_map(|e| {
                let name = view.run.packs.get(e.pack as usize).filter(|_| view.in_place[e.pack as usize])?;
                see(Place { pack: table.intern(name), offset: e.offset })
            })
        })
    }

    /// All places in packs that were in place where the blob is said to be, for its own header to confirm.
    pub(super) fn find_all(&self, digest: &Digest, kind: Kind, table: &PackTable) -> Vec<Place> {
        let mut out: Vec<Place> = self.loose(digest, kind).collect();
        self.in_runs(digest, kind, table, |place| {
            out.push(place);
            None::<()>
        });
        out
    }
}

impl Objects {
    /// Where a blob lies, by `index` and, where a run says so, by its own header.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find(&self, index: &Index, digest: &Digest, kind: Kind) -> Result<Option<Place>> {
        if let Some(place) = index.loose(digest, kind).next() {
            return Ok(Some(place));
        }
        let confirmed = |place: Place| -> Tried<bool> {
            let blob = self.open_pack(place.pack)?.header(place.offset)?;
            Ok(blob.digest == *digest && blob.kind == kind)
        };
        let mut failed = None;
        let found = index.in_runs(digest, kind, &self.table, |place| match confirmed(place) {
            Ok(agrees) => agrees.then_some(place),
            Err(Miss::Io(e)) => {
                failed = Some(e);
                None
            }
            Err(Miss::Gone | Miss::Wrong(_)) => None,
        });
        match (found, failed) {
            (Some(place), _) => return Ok(Some(place)),
            (None, Some(e)) => return Err(e),
            (None, None) => {}
        }
        for name in &index.unread {
            let pack = self.table.intern(name);
            let searched = self.open_pack(pack).and_then(|file| {
                let Some(blob) = file.search(digest, kind)? else { return Ok(None) };
                Ok((file.header(blob.offset)? == blob).then_some(Place { pack, offset: blob.offset }))
            });
            match searched {
                Ok(Some(place)) => return Ok(Some(place)),
                Err(Miss::Io(e)) => return Err(e),
                Ok(None) | Err(Miss::Gone | Miss::Wrong(_)) => {}
            }
        }
        Ok(None)
    }

    /// Where a blob lies in a pack that `takes` takes: of several, in the one made last, where the nodes of a version were gathered. Confirmed
    /// by the blob's own header.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find_newest(&self, index: &Index, digest: &Digest, kind: Kind, takes: impl Fn(PackRef) -> bool) -> Result<Option<Place>> {
        let places = index.find_all(digest, kind, &self.table);
        if places.len() <= 1 || !index.unread.is_empty() {
            return Ok(self.find(index, digest, kind)?.filter(|p| takes(p.pack)));
        }
        let mut newest = None;
        for place in places.into_iter().filter(|p| takes(p.pack)) {
            let looked = self.open_pack(place.pack).and_then(|file| Ok((file.header(place.offset)?, file.made())));
            match looked {
                Ok((blob, made)) if blob.digest == *digest && blob.kind == kind => newest = newest.max(Some((made, place.pack, place.offset))),
                Err(Miss::Io(e)) => return Err(e),
                Ok(_) | Err(Miss::Gone | Miss::Wrong(_)) => {}
            }
        }
        Ok(newest.map(|(_, pack, offset)| Place { pack, offset }))
    }

    /// Makes runs of what no run covers, and merges runs, where there is enough of either; drops what helps nobody. For writers: `work`
    /// takes the temporary files.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn tidy(&self, work: &Path) -> Result<()> {
        let index = self.fresh_index()?;
        let useful: HashSet<String> = index.runs().filter(|r| !r.is_damaged() && r.packs.iter().any(|p| index.has_pack(p))).map(|r| r.name.hex()).collect();
        for file in disk::list(&self.layout.index())? {
            let path = self.layout.index().join(&file);
            let another = || Digest::from_hex(file.as_encoded_bytes()).filter(|n| index.runs().all(|r| r.name != *n));
            // Not among those that were listed: another writer's, made since, or damaged.
            let stays = file.to_str().is_some_and(|n| useful.contains(n)) || another().is_some_and(|n| Run::open(&path, n, false).is_some());
            if !stays {
                self.disk.remove_tree(&path)?;
            }
        }
        if index.wants_tidying(0, 0) {
            self.cover(&index, work)?;
        }
        loop {
            let index = self.fresh_index()?;
            let mut tiers: HashMap<u32, Vec<Arc<Run>>> = HashMap::new();
            for run in index.runs().filter(|r| !r.is_damaged()) {
                tiers.entry((run.len() as u64).max(1).ilog2() / 3).or_default().push(run.clone());
            }
            let Some(runs) = tiers.into_values().find(|t| t.len() > RUNS_OF_A_TIER) else { return Ok(()) };
            self.merge(&index, &runs, work)?;
        }
    }

    /// Runs over the packs that no run covers.
    fn cover(&self, index: &Index, work: &Path) -> Result<()> {
        let mut names: Vec<Digest> = Vec::new();
        let mut entries: Vec<RunEntry> = Vec::new();
        for name in index.loose_packs.iter().chain(&index.unread) {
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
            entries.extend(footer.blobs.iter().map(|b| RunEntry { digest: b.digest, kind: b.kind, pack, offset: b.offset }));
            names.push(*name);
        }
        if names.is_empty() { Ok(()) } else { self.make_run(work, &names, &mut entries) }
    }

    fn make_run(&self, work: &Path, packs: &[Digest], entries: &mut Vec<RunEntry>) -> Result<()> {
        entries.sort_unstable_by_key(|e| (e.digest, e.kind, e.pack));
        let count = entries.len();
        self.put_run(work, |file| run::write(file, packs, count, &mut entries.drain(..).map(Ok)))?;
        Ok(())
    }

    /// One run in place of several; packs that are gone are left out.
    fn merge(&self, index: &Index, runs: &[Arc<Run>], work: &Path) -> Result<()> {
        let packs = merge::packs_of(runs, |p| index.has_pack(p));
        let drop_them = |but: Option<Digest>| runs.iter().filter(|r| Some(r.name) != but).try_for_each(|r| self.disk.remove_file(&self.layout.index().join(r.name.hex())));
        // Gone through twice, so that as little is in memory as can be: to count, and to write.
        let mut count = 0;
        for entry in Merge::new(runs, &packs) {
            if entry.is_err() {
                return drop_them(None); // damaged: made anew from the footers
            }
            count += 1;
        }
        let name = self.put_run(work, |file| run::write(file, &packs, count, &mut Merge::new(runs, &packs)))?;
        drop_them(Some(name))
    }

    /// Puts a run into place. Not synced: one that a power cut tore is noticed by its checksums and made anew.
    fn put_run(&self, work: &Path, write: impl FnOnce(&mut NewFile) -> Result<Digest>) -> Result<Digest> {
        let mut file = self.disk.create_file(work.join(format!("run-{}", Token::fresh())))?;
        let put = write(&mut file).and_then(|name| self.disk.rename(file.path(), &self.layout.index().join(name.hex())).map(|()| name));
        if put.is_err() {
            let _: Result<()> = self.disk.remove_file(file.path());
        }
        put
    }
}
