//! Searching a readable copy: by the hint, by the index, in the packs themselves, in the trash. The first right copy
//! counts.
//!
//! One pass checks the content in place, then each batch of the trash. Between two checks a collector may move the copy
//! from one to the other. So a reader makes one pass more than there are batches before it reports that something is
//! missing (FORMAT.md, "Readers").

use super::content_store::Objects;
use super::damage::DamagedItem;
use super::index::{Index, IndexScope};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::pack::BlobKind;
use super::pack_file::PackFile;
use super::recent_misses::{resolution, stamp};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::types::{Digest, Location, PackRef};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// An error lists at most this many reasons.
const MAX_REASONS: usize = 8;

/// What is searched.
pub(super) struct Query<'a> {
    pub digest: &'a Digest,
    pub kind: BlobKind,
    pub hint: Option<Location>,
    /// Its probable length.
    pub guess: u32,
    pub order: SearchOrder,
    pub depth: SearchDepth,
}

/// Where to search first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchOrder {
    PacksFirst,
    ObjectsFirst,
    /// Packs are not searched.
    OnlyObjects,
}

/// How far to search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SearchDepth {
    /// Everywhere.
    Full,
    /// Only the locations from the hint, the index as it was last loaded, and the object's name. For a caller with much
    /// to search, which reads the footers of all packs once itself.
    Known,
}

/// Reads it from a pack. Gets the pack, its number, the offset and the probable length.
pub(super) type FromPack<'a, T> = &'a mut dyn FnMut(&Arc<PackFile>, PackRef, u32, u32) -> ReadAttempt<T>;
/// Reads it from an object file; `None` if it cannot be one.
pub(super) type FromObject<'a, T> = Option<&'a mut dyn FnMut(PathBuf) -> ReadAttempt<T>>;

/// A search in progress: what this pass has tried, and why it failed.
struct Search<'a, T> {
    objects: &'a Objects,
    query: Query<'a>,
    from_pack: FromPack<'a, T>,
    from_object: FromObject<'a, T>,
    tried: Vec<Location>,
    /// Locations of wrong copies, and whether the bytes could be read.
    bad: Vec<(Location, bool)>,
    reasons: Vec<String>,
    io: Option<Error>,
}

impl Objects {
    /// The first copy that can be read.
    ///
    /// # Errors
    /// Damaged: there is none; says what is wrong with each copy. I/O.
    pub(super) fn search<'a, T>(
        &'a self,
        query: Query<'a>,
        from_pack: FromPack<'a, T>,
        from_object: FromObject<'a, T>,
    ) -> Result<T> {
        Search {
            objects: self,
            query,
            from_pack,
            from_object,
            tried: Vec::new(),
            bad: Vec::new(),
            reasons: Vec::new(),
            io: None,
        }
        .run()
    }

    /// The index with a listing of the packs, for a reader that did not find a blob. Lists nothing if nothing changed.
    fn index_after_miss(&self) -> Result<Arc<Index>> {
        let load = || self.load_index(IndexScope::Packs);
        match (stamp(&self.layout().packs()), stamp(&self.layout().index())) {
            (Some(packs), Some(index)) => {
                let stamps = [packs, index];
                self.recent_misses().index(stamps, resolution(self.disk().kind().is_local(), &stamps), load)
            }
            _ => load(),
        }
    }

    /// Searches again for what was missing a moment ago.
    pub fn forget_misses(&self) {
        self.recent_misses().forget();
    }
}

impl<T> Search<'_, T> {
    fn run(mut self) -> Result<T> {
        if self.objects.recent_misses().has(self.query.digest, self.query.kind) {
            self.query.depth = SearchDepth::Known;
        }
        let found = self.all_passes();
        let searched_all = !self.is_shallow() && self.query.order != SearchOrder::OnlyObjects;
        if searched_all && matches!(found, Ok(None)) && self.reasons.is_empty() && self.io.is_none() {
            self.objects.recent_misses().insert(self.query.digest, self.query.kind);
        }
        self.list_damage();
        found?.ok_or_else(|| self.failed())
    }

    fn is_shallow(&self) -> bool {
        self.query.depth == SearchDepth::Known
    }

    /// `None`: there is no copy.
    fn all_passes(&mut self) -> Result<Option<T>> {
        let mut pass = 0;
        loop {
            self.tried.clear();
            if let Some(found) = self.in_place(pass)? {
                return Ok(Some(found));
            }
            if self.is_shallow() {
                return Ok(None);
            }
            let batches = self.objects.batches()?;
            for batch in &batches {
                if let Some(found) = self.in_batch(batch)? {
                    return Ok(Some(found));
                }
            }
            pass += 1;
            if pass > batches.len() {
                return Ok(None);
            }
        }
    }

    fn in_place(&mut self, pass: usize) -> Result<Option<T>> {
        if self.query.order != SearchOrder::PacksFirst
            && let Some(found) = self.object_in_place()?
        {
            return Ok(Some(found));
        }
        if self.query.order == SearchOrder::OnlyObjects {
            return Ok(None);
        }
        if let Some(place) = self.query.hint
            && let Some(found) = self.packed(place, self.query.guess)?
        {
            return Ok(Some(found));
        }
        // The index as it was last loaded often has the answer, and costs no listing.
        if pass == 0
            && let Some(found) = self.by_index(&*self.objects.index()?)?
        {
            return Ok(Some(found));
        }
        let listed = if self.is_shallow() { None } else { Some(self.objects.index_after_miss()?) };
        if let Some(index) = &listed
            && let Some(found) = self.by_index(index)?
        {
            return Ok(Some(found));
        }
        if self.query.order == SearchOrder::PacksFirst
            && let Some(found) = self.object_in_place()?
        {
            return Ok(Some(found));
        }
        listed.map_or(Ok(None), |index| self.in_all_packs(&index))
    }

    fn object_in_place(&mut self) -> Result<Option<T>> {
        self.object(self.objects.layout().object(self.query.digest))
    }

    fn by_index(&mut self, index: &Index) -> Result<Option<T>> {
        for place in index.all_locations(self.query.digest, self.query.kind, self.objects.table()) {
            if let Some(found) = self.packed(place, self.query.guess)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The index does not know it, but it is only a cache: searches the packs themselves. Those that a segment covers
    /// are searched in a part of the time only (see `recent_misses.rs`).
    fn in_all_packs(&mut self, index: &Index) -> Result<Option<T>> {
        let misses = self.objects.recent_misses();
        if !misses.may_search() {
            return self.in_packs(&mut index.unread().iter());
        }
        let begun = Instant::now();
        let found = self.in_packs(&mut index.packs());
        misses.searched_for(begun.elapsed());
        found
    }

    fn in_packs(&mut self, names: &mut dyn Iterator<Item = &Digest>) -> Result<Option<T>> {
        let objects = self.objects;
        for name in names {
            let pack = objects.pack_number(name);
            match objects.open_pack(pack).and_then(|file| file.search(self.query.digest, self.query.kind)) {
                Ok(Some(blob)) => {
                    if let Some(found) = self.packed(Location { pack, offset: blob.offset }, blob.len)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None) => {}
                Err(miss) => self.note(miss)?,
            }
        }
        Ok(None)
    }

    fn in_batch(&mut self, batch: &OsStr) -> Result<Option<T>> {
        let layout = self.objects.layout();
        if let Some(found) = self.object(layout.trashed_object(batch, self.query.digest))? {
            return Ok(Some(found));
        }
        if self.query.order == SearchOrder::OnlyObjects {
            return Ok(None);
        }
        let names = disk::list(&layout.trash().join(batch))?;
        let mut packs: Vec<Digest> =
            names.iter().filter_map(|n| Digest::of_hex(n.as_encoded_bytes().strip_prefix(b"pack-")?)).collect();
        let hinted = self.query.hint.and_then(|p| self.objects.pack_name(p.pack));
        packs.sort_unstable_by_key(|p| (Some(*p) != hinted, *p));
        for name in packs {
            match self.trashed(layout.trashed_pack(batch, &name), self.objects.pack_number(&name)) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(miss) => self.note(miss)?,
            }
        }
        Ok(None)
    }

    fn trashed(&mut self, path: PathBuf, pack: PackRef) -> ReadAttempt<Option<T>> {
        let file = Arc::new(PackFile::open(path)?);
        let Some(blob) = file.search(self.query.digest, self.query.kind)? else { return Ok(None) };
        let found = (self.from_pack)(&file, pack, blob.offset, blob.len)?;
        // Its other blobs will probably be read too, by the same hints.
        self.objects.open_packs().put(pack, file);
        Ok(Some(found))
    }

    fn packed(&mut self, place: Location, guess: u32) -> Result<Option<T>> {
        if self.tried.contains(&place) {
            return Ok(None);
        }
        self.tried.push(place);
        let objects = self.objects;
        if let Some(file) = objects.open_packs().get(place.pack) {
            if let Ok(found) = (self.from_pack)(&file, place.pack, place.offset, guess) {
                return Ok(Some(found));
            }
            // The handle may be stale, or a repair has replaced the file.
            objects.open_packs().forget(place.pack);
        }
        let mut read =
            objects.open_pack(place.pack).and_then(|f| (self.from_pack)(&f, place.pack, place.offset, guess));
        // A cache may have what the store had before it was repaired: the store decides.
        if matches!(read, Err(Miss::Wrong(_))) {
            match objects.open_pack_in_store(place.pack) {
                Ok(Some(file)) => read = (self.from_pack)(&file, place.pack, place.offset, guess),
                Ok(None) => {}
                Err(miss) => read = Err(miss),
            }
        }
        let miss = match read {
            Ok(found) => return Ok(Some(found)),
            Err(miss) => miss,
        };
        match &miss {
            Miss::Wrong(_) => self.bad.push((place, true)),
            Miss::Io(e) if is_unreadable(e) => self.bad.push((place, false)),
            Miss::Gone | Miss::Incomplete(_) | Miss::Io(_) => {}
        }
        self.note(miss).map(|()| None)
    }

    /// Puts wrong copies on the list of known damage, unless only the hint was wrong: the pack's own footer decides.
    fn list_damage(&mut self) {
        let (objects, digest, kind) = (self.objects, self.query.digest, self.query.kind);
        for (place, read) in std::mem::take(&mut self.bad) {
            let Some(pack) = objects.pack_name(place.pack) else { continue };
            if objects.reported_damage().has(&DamagedItem::Blob { digest: *digest, kind, pack }) {
                continue;
            }
            let searched = objects.open_pack(place.pack).and_then(|file| file.search(digest, kind));
            match searched {
                Ok(Some(blob)) if blob.offset == place.offset => {
                    let damaged = DamagedItem::Blob { digest: *digest, kind, pack };
                    if read { objects.list_as_damaged(damaged) } else { objects.list_unreadable(damaged) }
                }
                Err(Miss::Wrong(_)) => objects.list_as_damaged(DamagedItem::Pack(pack)),
                Err(Miss::Io(e)) if is_unreadable(&e) => objects.list_unreadable(DamagedItem::Pack(pack)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn object(&mut self, path: PathBuf) -> Result<Option<T>> {
        let Some(from_object) = &mut self.from_object else { return Ok(None) };
        let in_place = path == self.objects.layout().object(self.query.digest);
        match from_object(path) {
            Ok(found) => Ok(Some(found)),
            Err(miss) => {
                let damaged = DamagedItem::Object(*self.query.digest);
                match &miss {
                    Miss::Wrong(_) if in_place => self.objects.list_as_damaged(damaged),
                    Miss::Io(e) if in_place && is_unreadable(e) => self.objects.list_unreadable(damaged),
                    _ => {}
                }
                self.note(miss).map(|()| None)
            }
        }
    }

    /// Remembers why a copy cannot be read. An error that every copy would meet ends the search.
    fn note(&mut self, miss: Miss) -> Result<()> {
        match miss {
            Miss::Gone => {}
            Miss::Wrong(reason) | Miss::Incomplete(reason) => {
                if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
            }
            Miss::Io(e) if concerns_every_copy(&e) => return Err(e),
            Miss::Io(e) => self.io = self.io.take().or(Some(e)),
        }
        Ok(())
    }

    fn failed(&mut self) -> Error {
        if let Some(e) = self.io.take() {
            return e;
        }
        let (kind, digest, root) = (self.query.kind, self.query.digest, show_path(self.objects.layout().root()));
        if self.reasons.is_empty() {
            return Error::damaged(format!(
                "{kind} {digest} is missing: neither the packs nor the objects of {root} have it, nor its trash"
            ));
        }
        std::mem::take(&mut self.reasons)
            .into_iter()
            .fold(Error::damaged(format!("{kind} {digest} cannot be read from {root}")), Error::with_cause)
    }
}

fn concerns_every_copy(e: &Error) -> bool {
    matches!(e.errno(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EACCES | libc::EPERM))
}
