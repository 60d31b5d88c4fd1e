//! Finding a readable copy: by the hint, by the index, in the packs themselves, in the trash; the first that is right.
//!
//! One pass looks in place, then in each batch of the trash. Between two looks a collector can have moved what is
//! wanted from one to the other, so a reader makes one pass more than there are batches before it says that something
//! is missing (FORMAT.md, "Readers").

use super::Objects;
use super::index::{Index, Look};
use super::known_damage::Damaged;
use super::pack::Kind;
use super::pack_file::{Miss, PackFile, Tried, is_unreadable};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::types::{Digest, Location, PackRef};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

/// More reasons than these are not listed in an error.
const MAX_REASONS: usize = 8;

/// What is looked for.
pub(super) struct Want<'a> {
    pub digest: &'a Digest,
    pub kind: Kind,
    pub hint: Option<Location>,
    /// How long it probably is.
    pub guess: u32,
    /// Where it is looked for first.
    pub first: First,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Packs,
    Objects,
    /// And nowhere else: packs are not asked.
    OnlyObjects,
}

/// Reads it from a pack: the pack, its number, offset, and how long it probably is.
pub(super) type FromPack<'a, T> = &'a mut dyn FnMut(&PackFile, PackRef, u32, u32) -> Tried<T>;
/// Reads it from an object file; `None` when it can be none.
pub(super) type FromObject<'a, T> = Option<&'a mut dyn FnMut(PathBuf) -> Tried<T>>;

/// A search under way: what was tried in this pass, and how it failed.
struct Search<'a, T> {
    objects: &'a Objects,
    want: Want<'a>,
    from_pack: FromPack<'a, T>,
    from_object: FromObject<'a, T>,
    tried: Vec<Location>,
    /// Where it was to be and was not right, and whether the bytes could be read at all.
    bad: Vec<(Location, bool)>,
    reasons: Vec<String>,
    io: Option<Error>,
    /// Only where hints, the index as it was last loaded, and the name say.
    shallow: bool,
}

impl Objects {
    /// The first copy that can be read.
    ///
    /// # Errors
    /// Damaged: none anywhere, with what was wrong with each. I/O.
    pub(super) fn search<'a, T>(
        &'a self,
        want: Want<'a>,
        from_pack: FromPack<'a, T>,
        from_object: FromObject<'a, T>,
    ) -> Result<T> {
        Search {
            objects: self,
            want,
            from_pack,
            from_object,
            tried: Vec::new(),
            bad: Vec::new(),
            reasons: Vec::new(),
            io: None,
            shallow: false,
        }
        .run()
    }

    /// [`Objects::search`] that asks no pack but those which hints and the index name: who has much to look for looks
    /// through all packs once.
    ///
    /// # Errors
    /// As [`Objects::search`].
    pub(super) fn search_shallow<'a, T>(
        &'a self,
        want: Want<'a>,
        from_pack: FromPack<'a, T>,
        from_object: FromObject<'a, T>,
    ) -> Result<T> {
        Search {
            objects: self,
            want,
            from_pack,
            from_object,
            tried: Vec::new(),
            bad: Vec::new(),
            reasons: Vec::new(),
            io: None,
            shallow: true,
        }
        .run()
    }

    /// A pack that is in place, open.
    pub(super) fn open_pack(&self, pack: PackRef) -> Tried<Arc<PackFile>> {
        if let Some(file) = self.open_packs.get(pack) {
            return Ok(file);
        }
        let name = self.table.name(pack).ok_or(Miss::Gone)?;
        let file = Arc::new(PackFile::open(self.layout.pack(&name))?);
        self.open_packs.put(pack, file.clone());
        Ok(file)
    }
}

impl<T> Search<'_, T> {
    fn run(mut self) -> Result<T> {
        let found = self.look();
        self.list_damage();
        found?.ok_or_else(|| self.failed())
    }

    /// `None`: it is nowhere.
    fn look(&mut self) -> Result<Option<T>> {
        let mut pass = 0;
        loop {
            self.tried.clear();
            if let Some(found) = self.in_place(pass)? {
                return Ok(Some(found));
            }
            if self.shallow {
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
        let objects = self.objects;
        if self.want.first != First::Packs
            && let Some(found) = self.object(objects.layout.object(self.want.digest))?
        {
            return Ok(Some(found));
        }
        if self.want.first == First::OnlyObjects {
            return Ok(None);
        }
        if let Some(place) = self.want.hint
            && let Some(found) = self.packed(place, self.want.guess)?
        {
            return Ok(Some(found));
        }
        // The last look often has the answer, and costs no listing.
        if pass == 0
            && let Some(found) = self.by_index(&*objects.index()?)?
        {
            return Ok(Some(found));
        }
        let index = if self.shallow { objects.index()? } else { objects.load_index(Look::Packs)? };
        if !self.shallow
            && let Some(found) = self.by_index(&index)?
        {
            return Ok(Some(found));
        }
        if self.want.first == First::Packs
            && let Some(found) = self.object(objects.layout.object(self.want.digest))?
        {
            return Ok(Some(found));
        }
        if self.shallow {
            return Ok(None);
        }
        // Nothing says where it is, and the index is but a cache: ask the packs themselves.
        for name in index.packs() {
            let pack = objects.table.intern(name);
            let found = objects.open_pack(pack).and_then(|file| file.search(self.want.digest, self.want.kind));
            match found {
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

    fn by_index(&mut self, index: &Index) -> Result<Option<T>> {
        for place in index.find_all(self.want.digest, self.want.kind, &self.objects.table) {
            if let Some(found) = self.packed(place, self.want.guess)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_batch(&mut self, batch: &OsStr) -> Result<Option<T>> {
        let layout = &self.objects.layout;
        if let Some(found) = self.object(layout.trashed_object(batch, self.want.digest))? {
            return Ok(Some(found));
        }
        if self.want.first == First::OnlyObjects {
            return Ok(None);
        }
        let names = disk::list(&layout.trash().join(batch))?;
        let mut packs: Vec<Digest> =
            names.iter().filter_map(|n| Digest::from_hex(n.as_encoded_bytes().strip_prefix(b"pack-")?)).collect();
        let hinted = self.want.hint.and_then(|p| self.objects.table.name(p.pack));
        packs.sort_unstable_by_key(|p| (Some(*p) != hinted, *p));
        for name in packs {
            match self.trashed(layout.trashed_pack(batch, &name), self.objects.table.intern(&name)) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(miss) => self.note(miss)?,
            }
        }
        Ok(None)
    }

    fn trashed(&mut self, path: PathBuf, pack: PackRef) -> Tried<Option<T>> {
        let file = Arc::new(PackFile::open(path)?);
        let Some(blob) = file.search(self.want.digest, self.want.kind)? else { return Ok(None) };
        let found = (self.from_pack)(&file, pack, blob.offset, blob.len)?;
        // Its other blobs will be wanted too, by the same hints.
        self.objects.open_packs.put(pack, file);
        Ok(Some(found))
    }

    fn packed(&mut self, place: Location, guess: u32) -> Result<Option<T>> {
        if self.tried.contains(&place) {
            return Ok(None);
        }
        self.tried.push(place);
        if let Some(file) = self.objects.open_packs.get(place.pack) {
            if let Ok(found) = (self.from_pack)(&file, place.pack, place.offset, guess) {
                return Ok(Some(found));
            }
            // What is open may be a stale handle, or what a repair has replaced.
            self.objects.open_packs.forget(place.pack);
        }
        match self
            .objects
            .open_pack(place.pack)
            .and_then(|file| (self.from_pack)(&file, place.pack, place.offset, guess))
        {
            Ok(found) => Ok(Some(found)),
            Err(miss) => {
                match &miss {
                    Miss::Wrong(_) => self.bad.push((place, true)),
                    Miss::Io(e) if is_unreadable(e) => self.bad.push((place, false)),
                    Miss::Gone | Miss::Io(_) => {}
                }
                self.note(miss).map(|()| None)
            }
        }
    }

    /// Puts copies that were not right on the list of known damage, unless it was the hint that was wrong: the pack's
    /// own footer decides.
    fn list_damage(&mut self) {
        let (objects, digest, kind) = (self.objects, self.want.digest, self.want.kind);
        for (place, read) in std::mem::take(&mut self.bad) {
            let Some(pack) = objects.table.name(place.pack) else { continue };
            let searched = objects.open_pack(place.pack).and_then(|file| file.search(digest, kind));
            match searched {
                Ok(Some(blob)) if blob.offset == place.offset => {
                    let damaged = Damaged::Blob { digest: *digest, kind, pack };
                    if read { objects.list_as_damaged(damaged) } else { objects.list_unreadable(damaged) }
                }
                Err(Miss::Wrong(_)) => objects.list_as_damaged(Damaged::Pack(pack)),
                Err(Miss::Io(e)) if is_unreadable(&e) => objects.list_unreadable(Damaged::Pack(pack)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn object(&mut self, path: PathBuf) -> Result<Option<T>> {
        let Some(from_object) = &mut self.from_object else { return Ok(None) };
        let in_place = path == self.objects.layout.object(self.want.digest);
        match from_object(path) {
            Ok(found) => Ok(Some(found)),
            Err(miss) => {
                let damaged = Damaged::Object(*self.want.digest);
                match &miss {
                    Miss::Wrong(_) if in_place => self.objects.list_as_damaged(damaged),
                    Miss::Io(e) if in_place && is_unreadable(e) => self.objects.list_unreadable(damaged),
                    _ => {}
                }
                self.note(miss).map(|()| None)
            }
        }
    }

    /// Remembers why a copy could not be had. What would fail in the same way for every copy ends the search.
    fn note(&mut self, miss: Miss) -> Result<()> {
        match miss {
            Miss::Gone => {}
            Miss::Wrong(reason) => {
                if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
            }
            Miss::Io(e)
                if matches!(
                    e.errno(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EACCES | libc::EPERM)
                ) =>
            {
                return Err(e);
            }
            Miss::Io(e) => self.io = self.io.take().or(Some(e)),
        }
        Ok(())
    }

    fn failed(&mut self) -> Error {
        if let Some(e) = self.io.take() {
            return e;
        }
        let (kind, digest, root) = (self.want.kind, self.want.digest, show_path(self.objects.layout.root()));
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
