//! As what the content of files is stored, to count what the store needs for it: composed content by what it takes
//! parts of.

use crate::error::Result;
use crate::objects::{RECIPE_MIN, RecipesInPacks};
use crate::store::Store;
use crate::types::Digest;

/// The recipes of a store, if it can have some.
pub(super) struct StoredAs<'a> {
    store: &'a Store,
    recipes: Option<RecipesInPacks>,
}

impl StoredAs<'_> {
    /// Reads the recipes of a store that has composed content. Packs that cannot be read have none.
    ///
    /// # Errors
    /// Damaged: the store's configuration. I/O.
    pub(super) fn read(store: &Store) -> Result<StoredAs<'_>> {
        let mut recipes = store.has_composed_files()?.then(RecipesInPacks::default);
        if let Some(recipes) = &mut recipes {
            store.objects().read_recipes(recipes, false)?;
        }
        Ok(StoredAs { store, recipes })
    }

    /// Calls `each` with everything that is kept in the store for a content, and its size.
    pub(super) fn each(&self, digest: &Digest, size: u64, each: &mut dyn FnMut(&Digest, u64)) {
        let recipes = self.recipes.as_ref().filter(|_| size >= RECIPE_MIN);
        let mut sources = recipes.and_then(|recipes| recipes.sources(digest).ok()).into_iter().flatten().peekable();
        // If it is an object too, a collection keeps both.
        if sources.peek().is_none() || self.store.objects().has_object_file(digest).unwrap_or(false) {
            each(digest, size);
        }
        sources.for_each(|source| each(&source.digest, source.size()));
    }
}
