//! Right copies of blobs in place, for a garbage collector that frees another copy.

use super::content_store::Objects;
use super::damage::{DamagedItem, KnownDamage};
use super::hints;
use super::index::{Index, IndexScope};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::pack::BlobKind;
use super::pack_file::PackFile;
use super::recipe::{Recipe, RecipeSource};
use crate::disk::{self, hash_file};
use crate::error::Result;
use crate::types::{Digest, Location, PackRef};
use std::collections::HashSet;
use std::sync::Arc;

/// Finds right copies in the packs and objects that were in place when it was made, by reading and hashing them.
pub struct Copies<'a> {
    objects: &'a Objects,
    index: Arc<Index>,
    damage: KnownDamage,
    /// Packed sources of recipes that were found right. The recipes of a file that grows have the same ones.
    sources: HashSet<Digest>,
    /// The pack that was read last, opened by its name after the listing.
    open: Option<(PackRef, PackFile)>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Copies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copies").finish_non_exhaustive()
    }
}

impl Objects {
    /// For what is in place now.
    ///
    /// # Errors
    /// I/O.
    pub fn copies(&self) -> Result<Copies<'_>> {
        let index = self.load_index(IndexScope::Packs)?;
        let (damage, sources) = (self.known_damage()?, HashSet::new());
        Ok(Copies { objects: self, index, damage, sources, open: None, buffer: Vec::new() })
    }
}

impl Copies<'_> {
    /// Whether a right copy of a blob is in place. For a recipe, the object of the content that it composes is one.
    ///
    /// # Errors
    /// I/O, except for a copy that is damaged or cannot be read: it does not count.
    pub fn has(&mut self, digest: &Digest, kind: BlobKind) -> Result<bool> {
        for place in self.index.all_locations(digest, kind, self.objects.table()) {
            if self.is_right_at(digest, kind, place)? {
                return Ok(true);
            }
        }
        for name in self.index.unread().to_vec() {
            let number = self.objects.pack_number(&name);
            let searched = self.opened(number, &name).and_then(|file| file.search(digest, kind));
            if let Ok(Some(blob)) = searched
                && self.is_right_at(digest, kind, Location { pack: number, offset: blob.offset })?
            {
                return Ok(true);
            }
        }
        Ok(kind != BlobKind::Node && self.has_object(digest)?)
    }

    /// Whether the object of this digest is in place and right.
    ///
    /// # Errors
    /// As [`Copies::has`].
    pub fn has_object(&self, digest: &Digest) -> Result<bool> {
        let path = self.objects.layout().object(digest);
        let item = DamagedItem::Object(*digest);
        if self.damage.has(&item) || disk::lstat_revalidated(&path)?.is_none() {
            return Ok(false);
        }
        let Some((file, _)) = disk::open_file(&path)? else { return Ok(false) };
        match hash_file(&file, &path, &mut |_| Ok(())) {
            Ok((found, _)) if found == *digest => Ok(true),
            Ok(_) => {
                self.objects.list_as_damaged(item);
                Ok(false)
            }
            Err(e) if is_unreadable(&e) => {
                self.objects.list_unreadable(item);
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn is_right_at(&mut self, digest: &Digest, kind: BlobKind, place: Location) -> Result<bool> {
        let Some(name) = self.objects.pack_name(place.pack) else { return Ok(false) };
        if !self.index.has_pack(&name) || self.damage.has_blob(digest, kind, &name) {
            return Ok(false);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.opened(place.pack, &name).and_then(|file| {
            file.read(digest, kind, place.offset, 0, &mut buffer)?;
            Ok(())
        });
        let right = read.and_then(|()| self.compare(&buffer, digest, kind));
        self.buffer = buffer;
        match right {
            Ok(sources) => self.has_all(&sources),
            Err(Miss::Gone | Miss::Incomplete(_)) => Ok(false),
            Err(Miss::Wrong(_)) => {
                self.objects.list_as_damaged(DamagedItem::Blob { digest: *digest, kind, pack: name });
                Ok(false)
            }
            Err(Miss::Io(e)) if is_unreadable(&e) => Ok(false),
            Err(Miss::Io(e)) => Err(e),
        }
    }

    /// Whether the sources of a recipe are in place: packed ones are read, each once; of objects, the size and time
    /// count. They are needed too, so a collector does not free them.
    fn has_all(&mut self, sources: &[RecipeSource]) -> Result<bool> {
        for source in sources {
            let found = if source.is_packed() {
                self.sources.contains(&source.digest) || self.has(&source.digest, BlobKind::Content)?
            } else {
                self.objects.has_object_of(source, &self.damage)?
            };
            if !found {
                return Ok(false);
            }
            if source.is_packed() {
                self.sources.insert(source.digest);
            }
        }
        Ok(true)
    }

    /// Compares a blob with its digest. Returns what it needs besides itself.
    fn compare(&self, bytes: &[u8], digest: &Digest, kind: BlobKind) -> ReadAttempt<Vec<RecipeSource>> {
        let found = match kind {
            BlobKind::Content => Digest::of(bytes),
            BlobKind::Recipe => return Ok(Recipe::parse(bytes, digest).map_err(Miss::Wrong)?.sources),
            BlobKind::Node => hints::decode(bytes, None, self.objects.table())?.0.digest(),
        };
        if found == *digest { Ok(Vec::new()) } else { Err(Miss::Wrong(format!("{kind} {digest} has digest {found}"))) }
    }

    fn opened(&mut self, number: PackRef, name: &Digest) -> ReadAttempt<&PackFile> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = Some((number, PackFile::open(self.objects.layout().pack(name))?));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or(Miss::Gone)
    }
}
