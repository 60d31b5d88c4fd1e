//! The format of recipes: how a large content is composed of parts of other contents. See FORMAT.md, "Recipes".

use super::pack::{SMALL_MAX, digest_at, u32_at, u64_at};
use crate::types::{Digest, Hasher};

/// Content of this many bytes or more is compared with others, and may be composed of parts of them.
pub const COMPOSED_MIN: u64 = 1 << 20;
/// Content of this many bytes or more may have a recipe.
pub const RECIPE_MIN: u64 = SMALL_MAX;
/// A recipe has at most this many sources, because a reader has all of them open.
pub(super) const MAX_SOURCES: usize = 1 << 14;
/// The same of recipes of the first two versions.
const FEW_SOURCES: usize = 256;
/// A recipe has at most this many extents.
pub(super) const MAX_EXTENTS: usize = 1 << 16;

/// The bytes of the version, the counts and the size.
const HEAD: usize = 20;
const SOURCE: usize = 40;
const EXTENT: usize = 20;
/// Of a recipe whose packed sources are all small.
const VERSION: u32 = 1;
/// Of one with longer packed sources.
const VERSION_PACKED: u32 = 2;
/// Of one with more sources than [`FEW_SOURCES`].
const VERSION_MANY: u32 = 3;
/// This bit of the size of a source says that it is packed, whatever its size.
const PACKED: u64 = 1 << 63;
/// What the checksum of a recipe begins with.
const DOMAIN: &[u8] = b"cairn-recipe-1\n";

/// A content that a recipe takes parts of. It is an object file, or packed; never composed itself. A collection has
/// those of all recipes in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecipeSource {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, and [`PACKED`] if it is packed although it is long.
    size: u64,
}

impl RecipeSource {
    /// A source that is packed if it is small, else an object.
    pub fn new(digest: Digest, size: u64) -> RecipeSource {
        RecipeSource { digest, size: size & !PACKED }
    }

    /// A long source that is packed, in compressed frames.
    pub(super) fn framed(digest: Digest, size: u64) -> RecipeSource {
        RecipeSource { digest, size: if size >= SMALL_MAX { size | PACKED } else { size } }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size & !PACKED
    }

    /// Whether it is packed.
    pub fn is_packed(&self) -> bool {
        self.is_framed() || self.size < SMALL_MAX
    }

    /// Whether it is packed although it is long.
    pub fn is_framed(&self) -> bool {
        self.size & PACKED != 0
    }

    /// Whether readers also take an object for it: one that is packed although it is long may have been damaged, and
    /// a repair stores it as an object.
    pub fn may_be_object(&self) -> bool {
        self.size() >= SMALL_MAX
    }
}

/// A part of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// The number of the source.
    pub source: u32,
    pub offset: u64,
    pub len: u64,
}

/// How a content is composed: its bytes are those of the extents, one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Recipe {
    /// The size of the content.
    pub size: u64,
    pub sources: Vec<RecipeSource>,
    pub extents: Vec<Extent>,
}

impl Recipe {
    /// Its bytes in a pack, for the content with that digest.
    pub(super) fn encode(&self, digest: &Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.sources.len() * SOURCE + self.extents.len() * EXTENT + 32);
        let version = match self.sources.len() {
            0..=FEW_SOURCES if !self.sources.iter().any(RecipeSource::is_framed) => VERSION,
            0..=FEW_SOURCES => VERSION_PACKED,
            _ => VERSION_MANY,
        };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&(self.sources.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.extents.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        for source in &self.sources {
            out.extend_from_slice(&source.digest.0);
            out.extend_from_slice(&source.size.to_le_bytes());
        }
        for extent in &self.extents {
            out.extend_from_slice(&extent.source.to_le_bytes());
            out.extend_from_slice(&extent.offset.to_le_bytes());
            out.extend_from_slice(&extent.len.to_le_bytes());
        }
        let sum = checksum(digest, &out);
        out.extend_from_slice(&sum.0);
        out
    }

    /// Parses and checks the bytes of a recipe for the content with that digest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8], digest: &Digest) -> Result<Recipe, String> {
        if bytes.len() < HEAD + 32 || !(VERSION..=VERSION_MANY).contains(&u32_at(bytes, 0)) {
            return Err(format!("the recipe of {digest} is too short, or of an unknown version"));
        }
        let (sources, extents) = (u32_at(bytes, 4) as usize, u32_at(bytes, 8) as usize);
        let most = if u32_at(bytes, 0) == VERSION_MANY { MAX_SOURCES } else { FEW_SOURCES };
        if sources > most || extents > MAX_EXTENTS {
            return Err(format!("the recipe of {digest} has {sources} sources and {extents} extents: too many"));
        }
        let end = HEAD + sources * SOURCE + extents * EXTENT;
        if bytes.len() != end + 32 {
            return Err(format!("the recipe of {digest} has {} bytes, expected {}", bytes.len(), end + 32));
        }
        if checksum(digest, &bytes[..end]) != digest_at(bytes, end) {
            return Err(format!("the recipe of {digest} differs from its checksum"));
        }
        let packed = if u32_at(bytes, 0) == VERSION { 0 } else { PACKED };
        let source = |at: usize| {
            let (digest, size) = (digest_at(bytes, at), u64_at(bytes, at + 32));
            match size & packed {
                0 => RecipeSource::new(digest, size),
                _ => RecipeSource::framed(digest, size & !packed),
            }
        };
        let extent = |at: usize| Extent {
            source: u32_at(bytes, at),
            offset: u64_at(bytes, at + 4),
            len: u64_at(bytes, at + 12),
        };
        let first = HEAD + sources * SOURCE;
        let recipe = Recipe {
            size: u64_at(bytes, 12),
            sources: (0..sources).map(|i| source(HEAD + i * SOURCE)).collect(),
            extents: (0..extents).map(|i| extent(first + i * EXTENT)).collect(),
        };
        if recipe.fits(digest) { Ok(recipe) } else { Err(format!("the recipe of {digest} has an impossible extent")) }
    }

    /// Whether its extents are inside their sources and add up to the content, and it is not a source of itself.
    fn fits(&self, digest: &Digest) -> bool {
        let inside = |extent: &Extent| {
            let source = self.sources.get(extent.source as usize);
            let end = extent.offset.checked_add(extent.len).filter(|_| extent.len > 0);
            source.zip(end).is_some_and(|(source, end)| end <= source.size())
        };
        let sum = self.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len));
        self.extents.iter().all(inside)
            && sum == Some(self.size)
            && self.sources.iter().all(|source| source.digest != *digest)
    }
}

fn checksum(digest: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(&digest.0);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Recipe, Digest) {
        let source = |bytes: &[u8], size| RecipeSource::new(Digest::of(bytes), size);
        let recipe = Recipe {
            size: 30,
            sources: vec![source(b"a", 100), source(b"b", 10)],
            extents: vec![
                Extent { source: 0, offset: 80, len: 20 },
                Extent { source: 1, offset: 0, len: 5 },
                Extent { source: 0, offset: 0, len: 5 },
            ],
        };
        (recipe, Digest::of(b"whole"))
    }

    #[test]
    fn a_recipe_is_read_as_it_was_written() {
        let (recipe, digest) = example();
        assert_eq!(Recipe::parse(&recipe.encode(&digest), &digest).unwrap(), recipe);
    }

    #[test]
    fn a_recipe_says_which_long_sources_are_packed_and_only_then_it_has_the_second_version() {
        let (mut recipe, digest) = example();
        assert_eq!(recipe.encode(&digest)[0], 1);
        recipe.sources[0] = RecipeSource::framed(recipe.sources[0].digest, 1 << 20);
        let bytes = recipe.encode(&digest);
        assert_eq!(bytes[0], 2);
        let read = Recipe::parse(&bytes, &digest).unwrap();
        assert_eq!(read, recipe);
        assert!(read.sources[0].is_packed() && read.sources[0].size() == 1 << 20);
        assert!(!RecipeSource::new(digest, 1 << 20).is_packed() && RecipeSource::new(digest, 1 << 10).is_packed());
    }

    #[test]
    fn a_recipe_of_many_sources_has_the_third_version() {
        let source = |n: usize| RecipeSource::framed(Digest::of(&n.to_le_bytes()), if n == 0 { 1 << 20 } else { 7 });
        for (sources, version) in [(FEW_SOURCES, 2), (FEW_SOURCES + 1, 3), (MAX_SOURCES, 3)] {
            let recipe = Recipe {
                size: 7 * sources as u64,
                sources: (0..sources).map(source).collect(),
                extents: (0..sources as u32).map(|source| Extent { source, offset: 0, len: 7 }).collect(),
            };
            let digest = Digest::of(b"whole");
            let mut bytes = recipe.encode(&digest);
            assert_eq!(bytes[0], version);
            assert_eq!(Recipe::parse(&bytes, &digest).unwrap(), recipe);
            if sources > FEW_SOURCES {
                bytes[0] = 2;
                let end = bytes.len() - 32;
                let sum = checksum(&digest, &bytes[..end]);
                bytes[end..].copy_from_slice(&sum.0);
                assert!(Recipe::parse(&bytes, &digest).unwrap_err().contains("too many"));
            }
        }
    }

    #[test]
    fn a_recipe_with_any_changed_byte_or_another_digest_is_refused() {
        let (recipe, digest) = example();
        let bytes = recipe.encode(&digest);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Recipe::parse(&changed, &digest).is_err(), "byte {at}");
            assert!(Recipe::parse(&bytes[..at], &digest).is_err(), "cut at {at}");
        }
        assert!(Recipe::parse(&bytes, &Digest::of(b"other")).is_err());
    }

    #[test]
    fn a_recipe_with_a_right_checksum_and_impossible_extents_is_refused() {
        let (recipe, digest) = example();
        let refused = |change: &dyn Fn(&mut Recipe)| {
            let mut changed = recipe.clone();
            change(&mut changed);
            assert!(Recipe::parse(&changed.encode(&digest), &digest).is_err(), "{changed:?}");
        };
        refused(&|r| r.size = 31);
        refused(&|r| r.extents[0].source = 2);
        refused(&|r| r.extents[0].offset = 81);
        refused(&|r| r.extents[0].offset = u64::MAX);
        refused(&|r| r.sources[1].digest = digest);
        refused(&|r| r.extents[1] = Extent { source: 1, offset: 0, len: 0 });
    }
}
