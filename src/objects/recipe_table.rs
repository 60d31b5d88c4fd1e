//! Many recipes in little memory: which contents they compose, in which packs they are, and what they take parts of. A
//! store may have millions: each takes 44 bytes and 4 for each source, and each different source takes about 60.

use super::recipe::RecipeSource;
use crate::types::{Digest, PackRef};

/// A slot without a number.
const FREE: u32 = u32::MAX;
/// The count of a recipe that cannot be read.
const UNREADABLE: u32 = u32::MAX;

/// A recipe in a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundRecipe {
    /// What it composes.
    pub content: Digest,
    pub pack: PackRef,
    /// Where its sources begin in the table's list, and how many they are. If it cannot be read, the number of the
    /// reason, and [`UNREADABLE`].
    from: u32,
    count: u32,
}

/// The recipes. What was added is found after [`RecipeTable::settle`].
#[derive(Debug, Default)]
pub(super) struct RecipeTable {
    /// Sorted by content and pack.
    recipes: Vec<FoundRecipe>,
    /// The sources of all recipes, by their numbers.
    sources: Vec<u32>,
    /// Each source once. Its number is its position.
    names: Vec<RecipeSource>,
    /// The numbers of the sources: a hash table by the first bytes of their digests, with linear probing.
    slots: Vec<u32>,
    /// Why recipes cannot be read.
    reasons: Vec<String>,
}

impl RecipeTable {
    /// Adds a recipe: what it takes parts of, or why it cannot be read.
    pub(super) fn add(&mut self, content: Digest, pack: PackRef, sources: Result<Vec<RecipeSource>, String>) {
        let (from, count) = match sources {
            Ok(sources) => {
                let from = self.sources.len();
                for source in &sources {
                    let number = self.number(source);
                    self.sources.push(number);
                }
                (from, sources.len() as u32)
            }
            Err(why) => {
                self.reasons.push(why);
                (self.reasons.len() - 1, UNREADABLE)
            }
        };
        let from = u32::try_from(from).expect("16 GiB of numbers do not fit into memory");
        self.recipes.push(FoundRecipe { content, pack, from, count });
    }

    /// Sorts in what was added.
    pub(super) fn settle(&mut self) {
        self.recipes.sort_unstable_by_key(|recipe| (recipe.content, recipe.pack));
    }

    /// All recipes, those of one content together.
    pub(super) fn by_content(&self) -> impl Iterator<Item = &[FoundRecipe]> {
        self.recipes.chunk_by(|a, b| a.content == b.content)
    }

    /// The recipes of a content.
    pub(super) fn of(&self, content: &Digest) -> &[FoundRecipe] {
        let from = self.recipes.partition_point(|recipe| recipe.content < *content);
        let rest = &self.recipes[from..];
        &rest[..rest.iter().take_while(|recipe| recipe.content == *content).count()]
    }

    /// What a recipe of this table takes parts of.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn sources(&self, recipe: &FoundRecipe) -> Result<impl Iterator<Item = &RecipeSource> + Clone, &str> {
        let from = recipe.from as usize;
        if recipe.count == UNREADABLE {
            return Err(&self.reasons[from]);
        }
        let numbers = &self.sources[from..from + recipe.count as usize];
        Ok(numbers.iter().map(|number| &self.names[*number as usize]))
    }

    /// The number of a source, which may be new.
    fn number(&mut self, source: &RecipeSource) -> u32 {
        if (self.names.len() + 1) * 4 > self.slots.len() * 3 {
            self.slots = vec![FREE; (self.slots.len() * 2).max(1 << 10)];
            for (number, name) in self.names.iter().enumerate() {
                let slot = self.slot(name);
                self.slots[slot] = number as u32;
            }
        }
        let slot = self.slot(source);
        if self.slots[slot] == FREE {
            self.slots[slot] = self.names.len() as u32;
            self.names.push(*source);
        }
        self.slots[slot]
    }

    /// The slot of a source, or the free one that it gets.
    fn slot(&self, source: &RecipeSource) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = source.digest.prefix() as usize & mask;
        while self.slots[at] != FREE && self.names.get(self.slots[at] as usize) != Some(source) {
            at = (at + 1) & mask;
        }
        at
    }

    /// What the table takes, without what its lists have in reserve.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        size_of_val(&self.recipes[..])
            + size_of_val(&self.sources[..])
            + size_of_val(&self.names[..])
            + size_of_val(&self.slots[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn digest(kind: u8, n: u32) -> Digest {
        Digest::of(&[&[kind][..], &n.to_le_bytes()].concat())
    }

    fn source(kind: u8, n: u32) -> RecipeSource {
        RecipeSource::new(digest(kind, n), u64::from(n))
    }

    /// What the readable recipes of a content take parts of.
    fn found(table: &RecipeTable, content: &Digest) -> Vec<Result<Vec<RecipeSource>, String>> {
        let sources = |recipe| table.sources(recipe).map(|found| found.copied().collect()).map_err(str::to_owned);
        table.of(content).iter().map(sources).collect()
    }

    #[test]
    fn each_recipe_is_found_with_its_sources_or_why_it_cannot_be_read() {
        let mut table = RecipeTable::default();
        let mut model: BTreeMap<Digest, Vec<(PackRef, Result<Vec<RecipeSource>, String>)>> = BTreeMap::new();
        for n in 0..5000u32 {
            // Some contents have two recipes, and all share some sources.
            let content = digest(b'c', n % 4500);
            let sources = match n % 50 {
                49 => Err(format!("damaged {n}")),
                few => Ok((0..few % 7).map(|i| source(b's', (n * (i + 1)) % 3000)).collect()),
            };
            let pack = PackRef(n / 100);
            table.add(content, pack, sources.clone());
            model.entry(content).or_default().push((pack, sources));
            if n == 2000 {
                table.settle(); // more may follow
            }
        }
        table.settle();
        for (content, recipes) in &model {
            let expected: Vec<_> = recipes.iter().map(|(_, sources)| sources.clone()).collect();
            assert_eq!(found(&table, content), expected);
        }
        assert_eq!(table.by_content().map(|recipes| recipes[0].content).collect::<Vec<_>>(), {
            model.keys().copied().collect::<Vec<_>>()
        });
        assert!(found(&table, &digest(b'x', 0)).is_empty());
        let sources = model.values().flatten().filter_map(|(_, sources)| sources.as_ref().ok()).flatten();
        let different: BTreeSet<Digest> = sources.map(|source| source.digest).collect();
        assert_eq!(table.names.len(), different.len(), "each source is kept once");
    }

    #[test]
    fn a_recipe_takes_little_memory_also_at_the_end_of_a_long_chain() {
        // A new file each, changed once: an object and the rest.
        let mut table = RecipeTable::default();
        for n in 0..20_000 {
            table.add(digest(b'c', n), PackRef(n / 1000), Ok(vec![source(b'o', n), source(b'r', n)]));
        }
        assert!(table.bytes() <= 170 * 20_000, "{} bytes a recipe", table.bytes() / 20_000);
        // Files that grow a hundred times: each recipe has the sources of the one before, and one more.
        let mut table = RecipeTable::default();
        for n in 0..20_000 {
            let first = n / 100 * 100;
            table.add(digest(b'c', n), PackRef(n / 1000), Ok((first..=n).map(|n| source(b'r', n)).collect()));
        }
        assert!(table.bytes() <= 310 * 20_000, "{} bytes a recipe", table.bytes() / 20_000);
    }
}
