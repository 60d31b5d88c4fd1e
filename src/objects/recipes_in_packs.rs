//! The recipes that the packs of a store have, by the packs' own footers: for a garbage collector, which needs all of
//! them, and for a restore.

use super::composed::read_recipe;
use super::content_store::Objects;
use super::damage::{DamagedItem, KnownDamage, StoredFile};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::object_file::has_object_time;
use super::pack::BlobKind;
use super::pack_file::PackFile;
use super::recipe::RecipeSource;
use super::recipe_table::{FoundRecipe, RecipeTable};
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::threads;
use crate::types::{Digest, PackRef};
use std::collections::{HashMap, HashSet};

/// How often the packs are listed, if another collection moves them meanwhile.
const LISTINGS: usize = 16;
/// How many blobs of packs in place are kept: 20 MiB.
const MAX_KEPT: usize = 1 << 19;

/// What a pack has: digest, kind and stored length of each blob, in the order of its footer.
pub type PackBlobs = Vec<(Digest, BlobKind, u32)>;

/// The recipes of packs in place and in the trash. It grows: packs that were read are not read again.
#[derive(Debug, Default)]
pub struct RecipesInPacks {
    /// The packs that were read, and whether they were in place.
    packs: HashMap<PackRef, bool>,
    table: RecipeTable,
    /// The blobs of packs in place, so that their footers are not read again, up to [`MAX_KEPT`] blobs.
    blobs: HashMap<Digest, PackBlobs>,
    kept: usize,
}

/// What is in one pack: its recipes, each with what it takes parts of, or why it cannot be read.
struct PackRecipes {
    recipes: Vec<(Digest, std::result::Result<Vec<RecipeSource>, String>)>,
    blobs: PackBlobs,
}

impl RecipesInPacks {
    /// The blobs of a pack, if it was in place when its footer was read and they were kept. A pack's name decides what
    /// is in it.
    pub fn blobs_of(&self, pack: &Digest) -> Option<&[(Digest, BlobKind, u32)]> {
        self.blobs.get(pack).map(Vec::as_slice)
    }

    /// Keeps no blobs any more.
    pub fn forget_blobs(&mut self) {
        self.blobs = HashMap::new();
        self.kept = MAX_KEPT;
    }

    fn add(&mut self, number: PackRef, name: Digest, is_in_place: bool, found: PackRecipes) {
        self.packs.insert(number, is_in_place);
        found.recipes.into_iter().for_each(|(content, sources)| self.table.add(content, number, sources));
        if is_in_place && self.kept + found.blobs.len() <= MAX_KEPT {
            self.kept += found.blobs.len();
            self.blobs.insert(name, found.blobs);
        }
    }

    /// The contents that are composed.
    pub fn contents(&self) -> impl Iterator<Item = &Digest> {
        self.table.by_content().map(|recipes| &recipes[0].content)
    }

    /// What all readable recipes of a content take parts of.
    ///
    /// # Errors
    /// Why none of them can be read.
    pub fn sources(&self, digest: &Digest) -> std::result::Result<impl Iterator<Item = &RecipeSource>, &str> {
        let recipes = self.table.of(digest);
        let why = |recipe: &FoundRecipe| self.table.sources(recipe).err();
        if let Some(why) = recipes.iter().map(why).reduce(Option::and).flatten() {
            return Err(why);
        }
        Ok(recipes.iter().filter_map(|recipe| self.table.sources(recipe).ok()).flatten())
    }
}

impl Objects {
    /// Adds the recipes of all packs that were not read before. In the end, `known` has those of every pack that was in
    /// place or in the trash all the time. Without `all`, packs that cannot be read have none.
    ///
    /// # Errors
    /// Damaged: a pack cannot be read, so it is not known which recipes it has. I/O.
    pub fn read_recipes(&self, known: &mut RecipesInPacks, all: bool) -> Result<()> {
        for _ in 0..LISTINGS {
            let mut is_complete = true;
            // A collection may move a pack to the trash or back while they are listed.
            let mut packs = self.stored_packs()?;
            packs.extend(self.packs_in_place()?);
            packs.retain(|file| file.name.is_some_and(|name| !known.packs.contains_key(&self.pack_number(&name))));
            // What a pack has takes more memory than in the table.
            for some in packs.chunks(threads::count()) {
                let read = |file: &StoredFile| {
                    let Some(name) = file.name else { return Ok(Ok(None)) };
                    match self.recipes_of(file, &name, &|_| true) {
                        Err(Miss::Io(e)) if !is_unreadable(&e) => Err(e),
                        found => Ok(found.map(|found| Some((name, file.path == self.layout().pack(&name), found)))),
                    }
                };
                for (file, found) in some.iter().zip(threads::map(threads::count(), some, read)?) {
                    match found {
                        Ok(Some((name, is_in_place, found))) => {
                            let number = self.pack_number(&name);
                            // It may be in the trash too.
                            if !known.packs.contains_key(&number) {
                                known.add(number, name, is_in_place, found);
                            }
                        }
                        Ok(None) => {}
                        Err(Miss::Gone) => is_complete = false,
                        Err(_) if !all => {}
                        Err(Miss::Wrong(why) | Miss::Incomplete(why)) => return Err(unknown_recipes(file, why)),
                        Err(Miss::Io(e)) => return Err(unknown_recipes(file, format!("{e:#}"))),
                    }
                }
            }
            known.table.settle();
            if is_complete {
                return Ok(());
            }
        }
        Err(Error::conflict("other processes move packs all the time").with_hint("run the command again"))
    }

    /// Whether there is an object file of that digest, in place.
    ///
    /// # Errors
    /// I/O.
    pub fn has_object_file(&self, digest: &Digest) -> Result<bool> {
        Ok(disk::lstat_revalidated(&self.layout().object(digest))?.is_some_and(|meta| meta.is_file()))
    }

    /// For each of these contents that has several recipes, the pack whose recipe is to be kept: one whose sources are
    /// all in place, else any that can be read. Contents without a readable recipe in place are left out. Lists the
    /// packs at most once.
    ///
    /// # Errors
    /// I/O.
    pub fn best_recipes(
        &self,
        known: &RecipesInPacks,
        is_needed: impl Fn(&Digest) -> bool,
    ) -> Result<HashMap<Digest, Digest>> {
        let damage = self.known_damage()?;
        let mut best = HashMap::new();
        let mut several = Vec::new();
        for recipes in known.table.by_content() {
            let content = recipes[0].content;
            let in_place = || recipes.iter().filter(|found| known.packs.get(&found.pack).is_some_and(|here| *here));
            if in_place().nth(1).is_none() || !is_needed(&content) {
                continue;
            }
            let readable = in_place().filter_map(|found| {
                let pack = self.pack_name(found.pack)?;
                let is_right = !damage.has_blob(&content, BlobKind::Recipe, &pack);
                Some((pack, known.table.sources(found).ok().filter(|_| is_right)?))
            });
            let readable: Vec<_> = readable.collect();
            best.extend(readable.first().map(|(pack, _)| (content, *pack)));
            if readable.len() > 1 {
                several.push((content, readable));
            }
        }
        let all = several.iter().flat_map(|(_, readable)| readable.iter().flat_map(|(_, sources)| sources.clone()));
        let packed = self.packed_in_place(all)?;
        for (digest, readable) in several {
            for (pack, sources) in readable {
                if self.are_in_place(sources, &packed, &damage)? {
                    best.insert(digest, pack);
                    break;
                }
            }
        }
        Ok(best)
    }

    /// What the recipes of these contents take parts of, in place and in the trash. Packs that cannot be read have
    /// none.
    ///
    /// # Errors
    /// I/O.
    pub fn sources_of_all(&self, wanted: &HashSet<Digest>) -> Result<HashSet<Digest>> {
        let recipes = self.readable_recipes(&self.stored_packs()?, wanted)?;
        Ok(recipes.iter().flat_map(|(_, sources)| sources).map(|source| source.digest).collect())
    }

    /// Those of these contents that have a recipe in place whose sources are all in place.
    ///
    /// # Errors
    /// I/O.
    pub fn composed_in_place(&self, wanted: &HashSet<Digest>) -> Result<HashSet<Digest>> {
        let mut out = HashSet::new();
        if wanted.is_empty() {
            return Ok(out);
        }
        let recipes = self.readable_recipes(&self.packs_in_place()?, wanted)?;
        let packed = self.packed_in_place(recipes.iter().flat_map(|(_, sources)| sources))?;
        let damage = self.known_damage()?;
        for (digest, sources) in recipes {
            if self.are_in_place(&sources, &packed, &damage)? {
                out.insert(digest);
            }
        }
        Ok(out)
    }

    /// The recipes of these contents that can be read, with what they take parts of.
    fn readable_recipes(
        &self,
        packs: &[StoredFile],
        wanted: &HashSet<Digest>,
    ) -> Result<Vec<(Digest, Vec<RecipeSource>)>> {
        let mut out = Vec::new();
        for file in packs {
            let Some(name) = file.name else { continue };
            match self.recipes_of(file, &name, &|digest| wanted.contains(digest)) {
                Ok(found) => {
                    out.extend(found.recipes.into_iter().filter_map(|(digest, sources)| Some((digest, sources.ok()?))))
                }
                Err(Miss::Io(e)) if !is_unreadable(&e) => return Err(e),
                Err(_) => {}
            }
        }
        Ok(out)
    }

    /// Those of these sources that are packed, and are in a pack in place by its footer.
    fn packed_in_place<'a>(&self, sources: impl Iterator<Item = &'a RecipeSource>) -> Result<HashSet<Digest>> {
        let small: HashSet<Digest> = sources.filter(|source| source.is_packed()).map(|source| source.digest).collect();
        if small.is_empty() { Ok(small) } else { self.in_packs_in_place(&small) }
    }

    /// Whether contents are in place: objects with their sizes and times, packed ones by `packed`. Not known to be
    /// damaged.
    fn are_in_place<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a RecipeSource>,
        packed: &HashSet<Digest>,
        damage: &KnownDamage,
    ) -> Result<bool> {
        for source in sources {
            let is_packed = source.is_packed() && packed.contains(&source.digest);
            let is_there = is_packed || (source.may_be_object() && self.has_object_of(source, damage)?);
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the object of a source is in place, with its size and time, and not known to be damaged.
    pub(super) fn has_object_of(&self, source: &RecipeSource, damage: &KnownDamage) -> Result<bool> {
        let found = disk::lstat_revalidated(&self.layout().object(&source.digest))?;
        let is_right =
            found.is_some_and(|meta| meta.is_file() && meta.len() == source.size() && has_object_time(&meta));
        Ok(is_right && !damage.has(&DamagedItem::Object(source.digest)))
    }

    /// What is in a pack. Reads the recipes of wanted contents.
    fn recipes_of(
        &self,
        pack: &StoredFile,
        name: &Digest,
        is_wanted: &dyn Fn(&Digest) -> bool,
    ) -> ReadAttempt<PackRecipes> {
        let file = PackFile::open(pack.path.clone())?;
        let (footer, _) = file.footer(name)?;
        let mut out = Vec::new();
        for blob in footer.blobs.iter().filter(|blob| blob.kind == BlobKind::Recipe && is_wanted(&blob.digest)) {
            let sources = match read_recipe(&file, &blob.digest, blob.offset, blob.len) {
                Ok(recipe) => Ok(recipe.sources),
                Err(Miss::Io(e)) if !is_unreadable(&e) => return Err(Miss::Io(e)),
                Err(Miss::Io(e)) => Err(format!("{e:#}")),
                Err(Miss::Wrong(why) | Miss::Incomplete(why)) => Err(why),
                Err(Miss::Gone) => return Err(Miss::Gone),
            };
            out.push((blob.digest, sources));
        }
        let blobs = footer.blobs.iter().map(|blob| (blob.digest, blob.kind, blob.len)).collect();
        Ok(PackRecipes { recipes: out, blobs })
    }
}

fn unknown_recipes(pack: &StoredFile, why: String) -> Error {
    let pack = pack.name.map_or_else(|| show_path(&pack.path), |name| name.to_string());
    Error::damaged(format!("pack {pack} cannot be read, and it may have recipes of composed content"))
        .with_cause(why)
        .with_hint("`cairn verify --repair` stores again what it has")
}

/// The error for content that is needed and whose only recipes cannot be read: what it takes parts of is not known.
pub fn unreadable_recipe(objects: &Objects, digest: &Digest, why: &str) -> Error {
    Error::damaged(format!("the recipe of {digest} in {} cannot be read", show_path(objects.layout().root())))
        .with_cause(why)
        .with_hint("`cairn verify` lists the versions that need it; `cairn verify --repair` stores it again")
}
