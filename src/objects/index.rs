//! What the packs hold, as far as runs say it; and, for who lists `packs/`, footers of packs that no run covers. A
//! cache over the packs.
//!
//! Each writer leaves a run over its packs, so the runs alone say nearly all, and reading them costs the same however
//! many packs there are. What they miss (a run that was lost) costs a second copy of a blob at most: who stores much,
//! one writer in many, and whoever sees something wrong lists the packs and mends it. Nothing said here is believed: a
//! pack's own look and the blob's header decide.

use super::Objects;
use super::index_segment::{Opened, Segment};
use super::pack::{Kind, Made};
use super::pack_file::{Miss, is_unreadable, read_footer};
use super::table::PackTable;
use crate::disk;
use crate::error::{Kind as ErrorKind, Result};
use crate::layout::Layout;
use crate::types::{Digest, Location, PackRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Entries of uncovered packs that are kept in memory. Packs beyond are searched where they lie; a writer makes runs of
/// all of them first.
const MEMORY_ENTRIES: usize = if cfg!(test) { 200 } else { 1 << 18 };
/// How often `index/` is listed again because a run vanished in between: merged into another.
const LISTINGS: usize = 4;

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The runs.
    Runs,
    /// The runs, and which packs are in place.
    Packs,
}

/// What was known when it was made.
pub(super) struct Index {
    /// Names of the packs in place, sorted, if they were listed.
    packs: Option<Vec<Digest>>,
    /// The longest first.
    runs: Vec<Arc<Segment>>,
    /// Something in `index/` is a damaged run.
    broken: bool,
    /// What the uncovered packs hold, sorted by digest and kind. Their footers were checked.
    loose: Vec<(Digest, Kind, Location)>,
    /// Names of the uncovered packs whose entries these are; those with a damaged footer too.
    loose_packs: Vec<Digest>,
    /// Uncovered packs beyond [`MEMORY_ENTRIES`].
    unread: Vec<Digest>,
}

impl Index {
    /// Lists runs FRESH; and packs, and reads the footers of those that no run covers, if they are looked at. What
    /// `before` has is not read again.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn load(layout: &Layout, table: &PackTable, before: Option<&Index>, look: Look) -> Result<Index> {
        let (runs, broken) = load_runs(layout, before)?;
        let mut index =
            Index { packs: None, runs, broken, loose: Vec::new(), loose_packs: Vec::new(), unread: Vec::new() };
        if look == Look::Packs {
            index.list_packs(layout, table, before)?;
        }
        Ok(index)
    }

    fn list_packs(&mut self, layout: &Layout, table: &PackTable, before: Option<&Index>) -> Result<()> {
        let mut packs: Vec<Digest> =
            disk::list(&layout.packs())?.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes())).collect();
        packs.sort_unstable();
        // A damaged run may hide what its packs hold; it is asked all the same, for what it still knows is right.
        let mut covered: Vec<&Digest> = self.runs.iter().filter(|r| !r.is_damaged()).flat_map(|r| r.packs()).collect();
        covered.sort_unstable();
        let uncovered: Vec<Digest> = packs.iter().filter(|p| covered.binary_search(p).is_err()).copied().collect();
        let kept: HashSet<PackRef> = before
            .into_iter()
            .flat_map(|b| &b.loose_packs)
            .filter(|p| uncovered.binary_search(p).is_ok())
            .map(|p| table.intern(p))
            .collect();
        let mut loose: Vec<_> =
            before.into_iter().flat_map(|b| &b.loose).filter(|(_, _, p)| kept.contains(&p.pack)).copied().collect();
        for name in uncovered {
            let number = table.intern(&name);
            if !kept.contains(&number) {
                if loose.len() > MEMORY_ENTRIES {
                    self.unread.push(name);
                    continue;
                }
                match read_footer(layout.pack(&name), &name) {
                    Ok(footer) => loose.extend(
                        footer.blobs.iter().map(|b| (b.digest, b.kind, Location { pack: number, offset: b.offset })),
                    ),
                    // Its pack is unknown here; verify finds it, and hints may still lead into it.
                    Err(e) if e.kind() == ErrorKind::Damaged => {}
                    Err(e) => return Err(e),
                }
            }
            self.loose_packs.push(name);
        }
        loose.sort_unstable_by_key(|(d, k, p)| (*d, *k, p.pack, p.offset));
        self.loose = loose;
        self.packs = Some(packs);
        Ok(())
    }

    /// The packs that were in place, if they were listed.
    pub(super) fn packs(&self) -> impl Iterator<Item = &Digest> {
        self.packs.iter().flatten()
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.runs.iter()
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

    /// The packs in place that no run covers, as far as packs were listed.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &Digest> {
        self.loose_packs.iter().chain(&self.unread)
    }

    /// Whether questions to it are slow, or it may miss much: a writer then mends it first.
    pub(super) fn is_poor(&self) -> bool {
        !self.unread.is_empty()
            || self.broken
            || self.runs.iter().any(|r| r.is_damaged())
            || (self.runs.is_empty() && !self.has_listing())
    }

    /// Whether a writer has something to mend when it is done.
    pub(super) fn wants_mending(&self) -> bool {
        self.is_poor() || !self.loose_packs.is_empty()
    }

    fn loose(&self, digest: &Digest, kind: Kind) -> impl Iterator<Item = Location> {
        let at = self.loose.partition_point(|(d, k, _)| (d, k) < (digest, &kind));
        self.loose[at..].iter().take_while(move |(d, k, _)| (*d, *k) == (*digest, kind)).map(|(_, _, p)| *p)
    }

    /// Calls `see` for each place where the blob is said to be, for its own header to confirm, until it says that it
    /// has enough.
    fn places<T>(
        &self,
        digest: &Digest,
        kind: Kind,
        table: &PackTable,
        mut see: impl FnMut(Location) -> Option<T>,
    ) -> Option<T> {
        if let Some(enough) = self.loose(digest, kind).find_map(&mut see) {
            return Some(enough);
        }
        let mut found = Vec::new();
        self.runs.iter().find_map(|run| {
            run.find(digest, kind, &mut found);
            found.drain(..).find_map(|e| {
                let name = run.packs().get(e.pack as usize).filter(|name| !self.lacks_pack(name))?;
                see(Location { pack: table.intern(name), offset: e.offset })
            })
        })
    }

    /// All places where the blob is said to be.
    pub(super) fn find_all(&self, digest: &Digest, kind: Kind, table: &PackTable) -> Vec<Location> {
        let mut out: Vec<Location> = Vec::new();
        self.places(digest, kind, table, |place| {
            out.push(place);
            None::<()>
        });
        out
    }
}

/// The runs there are, the longest first, and whether there are damaged ones beside them. What is not ours is passed
/// over.
fn load_runs(layout: &Layout, before: Option<&Index>) -> Result<(Vec<Arc<Segment>>, bool)> {
    let known: HashMap<Digest, &Arc<Segment>> =
        before.into_iter().flat_map(|b| b.runs()).map(|r| (r.name, r)).collect();
    for listing in 1.. {
        let (mut runs, mut broken, mut vanished) = (Vec::new(), false, false);
        for name in disk::list(&layout.index())? {
            let Some(name) = Digest::from_hex(name.as_encoded_bytes()) else { continue };
            let path = layout.index().join(name.hex());
            // One that was found damaged may have been made anew, with the same content and so the same name.
            if let Some(run) = known.get(&name).filter(|r| !r.is_damaged() || r.is_at(&path)) {
                runs.push(Arc::clone(run));
                continue;
            }
            match Segment::open(&path, name) {
                Opened::Segment(run) => runs.push(Arc::new(run)),
                Opened::Gone => vanished = true,
                Opened::Damaged => broken |= Segment::is_ours(&path),
            }
        }
        if vanished && listing < LISTINGS {
            continue;
        }
        runs.sort_by_key(|r| (std::cmp::Reverse(r.len()), r.name));
        return Ok((runs, broken));
    }
    unreachable!("the last listing returns")
}

/// Says when the pack was made that has a blob at a place; `None`: the blob is not to be taken from there.
pub(super) type Confirm<'a> = &'a dyn Fn(Location) -> Result<Option<Made>>;

impl Objects {
    /// Where a blob lies, by `index`: at a place that `confirm` confirms.
    ///
    /// # Errors
    /// I/O; those of `confirm`.
    pub(super) fn find(
        &self,
        index: &Index,
        digest: &Digest,
        kind: Kind,
        confirm: Confirm<'_>,
    ) -> Result<Option<Location>> {
        let mut failed = None;
        let found = index.places(digest, kind, &self.table, |place| match confirm(place) {
            Ok(agrees) => agrees.map(|_| place),
            Err(e) => {
                failed = Some(e);
                None
            }
        });
        match (found, failed) {
            (Some(place), _) => return Ok(Some(place)),
            (None, Some(e)) => return Err(e),
            (None, None) => {}
        }
        for name in &index.unread {
            let pack = self.table.intern(name);
            let searched = self.open_pack(pack).and_then(|file| file.search(digest, kind));
            match searched {
                Ok(Some(blob)) => {
                    let place = Location { pack, offset: blob.offset };
                    if confirm(place)?.is_some() {
                        return Ok(Some(place));
                    }
                }
                Err(Miss::Io(e)) if !is_unreadable(&e) => return Err(e),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// [`Objects::find`]; of several places, the one in the pack made last, where the nodes of a version were gathered.
    ///
    /// # Errors
    /// As [`Objects::find`].
    pub(super) fn find_newest(
        &self,
        index: &Index,
        digest: &Digest,
        kind: Kind,
        confirm: Confirm<'_>,
    ) -> Result<Option<Location>> {
        let places = index.find_all(digest, kind, &self.table);
        if places.len() <= 1 || !index.unread.is_empty() {
            return self.find(index, digest, kind, confirm);
        }
        let mut newest = None;
        for place in places {
            if let Some(made) = confirm(place)? {
                newest = newest.max(Some((made, place.pack, place.offset)));
            }
        }
        Ok(newest.map(|(_, pack, offset)| Location { pack, offset }))
    }

    /// When the pack was made that has the blob at `place`, by the blob's own header; `None` when it is not there, or
    /// not whole.
    ///
    /// # Errors
    /// I/O, but for a pack that cannot be read.
    pub(super) fn confirmed(&self, place: Location, digest: &Digest, kind: Kind) -> Result<Option<Made>> {
        match self.open_pack(place.pack).and_then(|file| Ok((file.header(place.offset)?, file.made()))) {
            Ok((blob, made)) => Ok((blob.digest == *digest && blob.kind == kind).then_some(made)),
            Err(Miss::Io(e)) if !is_unreadable(&e) => Err(e),
            Err(_) => Ok(None),
        }
    }
}
