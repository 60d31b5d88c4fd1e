//! Opening composed content: its recipe is searched as other packed blobs are, then all its sources are opened.

use super::composed_file::{ComposedFile, OpenSource};
use super::content_store::Objects;
use super::damage::KnownDamage;
use super::framed_source::{FoundAt, FramedSource};
use super::frames::MAX_TABLE;
use super::miss::{Miss, ReadAttempt, readable};
use super::object_file::LargeObject;
use super::pack::BlobKind;
use super::pack_file::PackFile;
use super::read::Content;
use super::recipe::{RECIPE_MIN, Recipe, RecipeSource};
use super::search::{Query, SearchDepth, SearchOrder};
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a recipe that are read at once. Most are shorter.
const RECIPE_GUESS: u32 = 4 << 10;

impl Objects {
    /// Hashes all of a composed content. If it is wrong, hashes its objects too, and puts wrong ones on the list of
    /// known damage.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn verify_composed(&self, composed: &ComposedFile) -> Result<()> {
        let Err(e) = composed.verify() else { return Ok(()) };
        let e = e.with_cause("its recipe, or an object that it names, is wrong");
        for object in composed.objects() {
            if let Err(cause) = self.verify_object(object) {
                return Err(e.with_cause(format!("{cause:#}")));
            }
        }
        Err(e)
    }

    /// Content that is composed by a recipe, with its sources open.
    ///
    /// # Errors
    /// Damaged: there is no recipe, or none whose sources can be read. I/O.
    pub(super) fn composed(&self, digest: &Digest, size: u64, depth: SearchDepth) -> Result<ComposedFile> {
        let mut from_pack = |file: &Arc<PackFile>, _: PackRef, offset: u32, guess: u32| {
            let recipe = read_recipe(file, digest, offset, guess)?;
            if recipe.size != size {
                let why = format!("its recipe is for {} bytes, expected {size}", recipe.size);
                return Err(Miss::Incomplete(why));
            }
            self.open_sources(digest, recipe, depth).map_err(Miss::incomplete)
        };
        let (kind, order) = (BlobKind::Recipe, SearchOrder::PacksFirst);
        self.search(Query { digest, kind, hint: None, guess: RECIPE_GUESS, order, depth }, &mut from_pack, None)
    }

    /// The sources of the recipe of a content, wherever the recipe is. Does not look for the sources.
    ///
    /// # Errors
    /// I/O, except that there is no recipe: then there are no sources.
    pub fn sources_of(&self, digest: &Digest, size: u64) -> Result<Vec<RecipeSource>> {
        if size < RECIPE_MIN {
            return Ok(Vec::new());
        }
        let mut from_pack = |file: &Arc<PackFile>, _: PackRef, offset: u32, guess: u32| {
            Ok(read_recipe(file, digest, offset, guess)?.sources)
        };
        let (kind, order, depth) = (BlobKind::Recipe, SearchOrder::PacksFirst, SearchDepth::Full);
        let query = Query { digest, kind, hint: None, guess: RECIPE_GUESS, order, depth };
        match self.search(query, &mut from_pack, None) {
            Err(e) if e.is_loss() => Ok(Vec::new()),
            sources => sources,
        }
    }

    /// The recipe at a place; `None` if there is none that can be read.
    ///
    /// # Errors
    /// I/O, except for a pack that cannot be read.
    pub(super) fn recipe_at(&self, place: Location, digest: &Digest) -> Result<Option<Recipe>> {
        let read = |file: Arc<PackFile>| read_recipe(&file, digest, place.offset, RECIPE_GUESS);
        readable(self.open_pack(place.pack).and_then(read))
    }

    fn open_sources(&self, digest: &Digest, recipe: Recipe, depth: SearchDepth) -> Result<ComposedFile> {
        let mut sources = Vec::with_capacity(recipe.sources.len());
        let mut damage = None;
        for source in &recipe.sources {
            if source.is_framed() {
                let damage = match &mut damage {
                    Some(damage) => damage,
                    none => none.insert(self.known_damage()?),
                };
                sources.push(self.framed_source(source, damage, depth)?);
                continue;
            }
            let mut bytes = Vec::new();
            sources.push(match self.plain_content(&source.digest, source.size(), None, &mut bytes, depth)? {
                Content::Small(()) => OpenSource::Memory(bytes),
                Content::Large(object) => OpenSource::File(object),
                Content::Composed(_) => {
                    return Err(Error::damaged(format!("source {} is composed itself", source.digest)));
                }
            });
        }
        Ok(ComposedFile::new(*digest, recipe, sources))
    }

    /// Opens a long packed source. Reads only its table. Prefers a copy that is not on the list of known damage. If
    /// there is none, opens a listed one, which may have been repaired since.
    fn framed_source(&self, source: &RecipeSource, damage: &KnownDamage, depth: SearchDepth) -> Result<OpenSource> {
        match self.framed_source_except(source, damage, depth) {
            Err(e) if e.is_loss() && !damage.is_empty() => {
                self.framed_source_except(source, &KnownDamage::default(), depth).map_err(|_| e)
            }
            found => found,
        }
    }

    fn framed_source_except(
        &self,
        source: &RecipeSource,
        damage: &KnownDamage,
        depth: SearchDepth,
    ) -> Result<OpenSource> {
        let (digest, size) = (&source.digest, source.size());
        let kind = BlobKind::Content;
        let mut from_pack = |file: &Arc<PackFile>, number: PackRef, offset: u32, _: u32| {
            let pack = self.pack_name(number);
            if pack.is_some_and(|pack| damage.has_blob(digest, kind, &pack)) {
                return Err(Miss::Incomplete(format!("{kind} {digest} is on the list of known damage")));
            }
            let table = file.read_table(digest, offset)?;
            if table.content_length() != size {
                let found = table.content_length();
                return Err(file.wrong(offset, &format!("{kind} {digest} has {found} bytes, expected {size}")));
            }
            let (open_packs, layout, disk) = (self.open_packs().clone(), self.layout().clone(), self.disk().clone());
            let at = FoundAt { digest: *digest, file: file.clone(), number, pack, offset, open_packs, layout, disk };
            Ok(OpenSource::Framed(FramedSource::new(at, table)))
        };
        let mut from_object = |path: PathBuf| LargeObject::open(self, path, digest, size).map(OpenSource::File);
        let (guess, order) = (MAX_TABLE as u32, SearchOrder::PacksFirst);
        self.search(Query { digest, kind, hint: None, guess, order, depth }, &mut from_pack, Some(&mut from_object))
    }
}

/// Reads and checks a recipe in a pack.
pub(super) fn read_recipe(file: &PackFile, digest: &Digest, offset: u32, guess: u32) -> ReadAttempt<Recipe> {
    let mut bytes = Vec::new();
    file.read(digest, BlobKind::Recipe, offset, guess, &mut bytes)?;
    Recipe::parse(&bytes, digest).map_err(|why| file.wrong(offset, &why))
}
