//! Finding where a blob lies: the index proposes locations, a check of the pack confirms one.

use super::content_store::Objects;
use super::index::Index;
use super::miss::{Miss, ReadAttempt, readable};
use super::pack::{BlobKind, PackTime};
use super::pack_file::PackFile;
use crate::error::Result;
use crate::types::{Digest, Location, PackRef};
use std::sync::Arc;

/// Says when the pack was written that has a blob at a location; `None` if the blob must not be used from there.
pub(super) type Confirm<'a> = &'a dyn Fn(Location) -> Result<Option<PackTime>>;

/// A blob that is looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub digest: &'a Digest,
    pub kind: BlobKind,
    pub confirm: Confirm<'a>,
}

impl Objects {
    /// A pack that is in place, open.
    pub(super) fn open_pack(&self, pack: PackRef) -> ReadAttempt<Arc<PackFile>> {
        if let Some(file) = self.open_packs().get(pack) {
            return Ok(file);
        }
        let name = self.pack_name(pack).ok_or(Miss::Gone)?;
        let path = self.layout().pack(&name);
        let file = Arc::new(match self.cache() {
            Some(cache) => PackFile::open_cached(path, &name, cache)?,
            None => PackFile::open(path)?,
        });
        self.open_packs().put(pack, file.clone());
        Ok(file)
    }

    /// A pack that is in place, open without the cache, whose content is wrong and is removed. `None` without a cache.
    pub(super) fn open_pack_in_store(&self, pack: PackRef) -> ReadAttempt<Option<Arc<PackFile>>> {
        let name = self.pack_name(pack).ok_or(Miss::Gone)?;
        if !self.forget_cached_pack(&name) {
            return Ok(None);
        }
        self.open_packs().forget(pack);
        PackFile::open(self.layout().pack(&name)).map(|file| Some(Arc::new(file)))
    }

    /// Where a blob lies: a location from `index` that `confirm` confirms.
    ///
    /// # Errors
    /// I/O; those of `confirm`.
    pub(super) fn find(&self, index: &Index, wanted: &Wanted<'_>) -> Result<Option<Location>> {
        let mut failed = None;
        let Wanted { digest, kind, confirm } = *wanted;
        let found = index.find_location(digest, kind, self.table(), |place| match confirm(place) {
            Ok(confirmed) => confirmed.map(|_| place),
            Err(e) => {
                failed = Some(e);
                None
            }
        });
        match (found, failed) {
            (Some(place), _) => Ok(Some(place)),
            (None, Some(e)) => Err(e),
            (None, None) => self.find_in_unread_packs(index, wanted),
        }
    }

    fn find_in_unread_packs(&self, index: &Index, wanted: &Wanted<'_>) -> Result<Option<Location>> {
        for name in index.unread() {
            let pack = self.pack_number(name);
            let searched = readable(self.open_pack(pack).and_then(|file| file.search(wanted.digest, wanted.kind)))?;
            if let Some(Some(blob)) = searched {
                let place = Location { pack, offset: blob.offset };
                if (wanted.confirm)(place)?.is_some() {
                    return Ok(Some(place));
                }
            }
        }
        Ok(None)
    }

    /// As [`Objects::find`]. Of several locations, returns the one in the newest pack, where a version's nodes were
    /// gathered.
    ///
    /// # Errors
    /// As [`Objects::find`].
    pub(super) fn find_newest(&self, index: &Index, wanted: &Wanted<'_>) -> Result<Option<Location>> {
        let places = index.all_locations(wanted.digest, wanted.kind, self.table());
        if places.len() <= 1 || !index.unread().is_empty() {
            return self.find(index, wanted);
        }
        let mut newest = None;
        for place in places {
            if let Some(time) = (wanted.confirm)(place)? {
                newest = newest.max(Some((time, place.pack, place.offset)));
            }
        }
        Ok(newest.map(|(_, pack, offset)| Location { pack, offset }))
    }

    /// When the pack was written that has the blob at `place`, according to the blob's own header; `None` if the blob
    /// is not there or not whole.
    ///
    /// # Errors
    /// I/O, except for a pack that cannot be read.
    pub(super) fn confirm_by_header(
        &self,
        place: Location,
        digest: &Digest,
        kind: BlobKind,
    ) -> Result<Option<PackTime>> {
        let header = self.open_pack(place.pack).and_then(|file| Ok((file.header(place.offset)?, file.time())));
        let found = readable(header)?.filter(|(blob, _)| blob.digest == *digest && blob.kind == kind);
        Ok(found.map(|(_, time)| time))
    }
}
