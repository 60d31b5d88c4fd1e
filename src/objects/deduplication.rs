//! Deduplication: what the store has already, and what this transaction has stored, so that each content is stored
//! once.
//!
//! Each answer holds for the time after the transaction's token was made (L14). Content on the list of known damage
//! counts as absent, so it is stored again, which repairs it. Also collects what the version relies on without having
//! stored it: another writer may have made those names a moment ago, and they may not be durable yet.

use super::content_store::Objects;
use super::damage::{DamagedItem, KnownDamage};
use super::index::{Index, IndexScope};
use super::locate::Wanted;
use super::object_file::has_object_time;
use super::object_sizes::ObjectSizes;
use super::pack::{BlobKind, Footer, SMALL_MAX};
use super::pack_checks::PackChecks;
use super::recipe::{RECIPE_MIN, RecipeSource};
use super::small_contents::{SmallContents, SmallKeys};
use crate::disk;
use crate::error::{Kind, Result};
use crate::locks::{Mutex, MutexGuard, RwLock};
use crate::memory;
use crate::types::{Digest, Location, PackRef};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SHARDS: usize = 64;
/// After this many failed lookups a writer lists the packs: it will store much, compared with which a listing is cheap.
const LIST_AFTER_MISSES: usize = 64;
/// Content that is not found is searched everywhere this often.
const MAX_LOST: usize = 16;
/// One writer in this many, or in more if there are many packs, lists the packs from the beginning, so that packs which
/// no index segment covers are found.
const MIN_LISTING_RATIO: usize = 64;
/// How many packs a writer may list, on average over all writers.
const LISTED_PER_WRITER: usize = 16;

/// What is stored already.
pub(super) struct Deduplication {
    objects: Arc<Objects>,
    index: RwLock<Arc<Index>>,
    /// Failed lookups.
    misses: AtomicUsize,
    /// Checks of packs that others made.
    packs: PackChecks,
    /// What was known to be damaged when this writer began.
    damage: KnownDamage,
    /// Small content that was stored or found.
    small: Vec<Mutex<SmallContents>>,
    small_keys: SmallKeys,
    /// Objects that this transaction stored.
    large: Mutex<HashSet<Digest>>,
    /// Contents that this transaction composed.
    composed: Mutex<HashSet<Digest>>,
    /// Sizes of the objects that were there before.
    sizes: ObjectSizes,
    /// Directories of objects on which the version relies.
    relied_dirs: Mutex<BTreeSet<PathBuf>>,
    /// Whether the version relies on packs that others made.
    relies_on_packs: AtomicBool,
    /// Contents that were searched everywhere in vain.
    lost: AtomicUsize,
}

impl Deduplication {
    /// For the transaction whose token's directory is `dir`. Repairs the index first if lookups in it would be slow or
    /// fail.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn begin(objects: &Arc<Objects>, dir: &Path) -> Result<Deduplication> {
        let mut index = objects.load_index(IndexScope::Segments)?;
        if lists_packs(dir, index.covered_packs()) {
            index = objects.load_index(IndexScope::Packs)?;
        }
        if index.needs_repair() {
            let _: Result<()> = objects.repair_index(dir);
            index = objects.load_index(IndexScope::Packs)?;
        }
        Ok(Deduplication {
            objects: objects.clone(),
            index: RwLock::new(index),
            misses: AtomicUsize::new(0),
            packs: PackChecks::default(),
            damage: objects.known_damage()?,
            small: (0..SHARDS).map(|_| Mutex::default()).collect(),
            small_keys: SmallKeys::default(),
            large: Mutex::default(),
            composed: Mutex::default(),
            sizes: ObjectSizes::default(),
            relied_dirs: Mutex::default(),
            relies_on_packs: AtomicBool::new(false),
            lost: AtomicUsize::new(0),
        })
    }

    /// The index as this transaction saw it.
    pub(super) fn index(&self) -> Arc<Index> {
        self.index.read().clone()
    }

    /// Whether anything in the store is known to be damaged.
    pub(super) fn knows_damage(&self) -> bool {
        !self.damage.is_empty()
    }

    /// Whether a blob's copy in a pack is known to be damaged.
    pub(super) fn is_damaged(&self, digest: &Digest, kind: BlobKind, pack: PackRef) -> bool {
        self.knows_damage()
            && self.objects.pack_name(pack).is_some_and(|name| self.damage.has_blob(digest, kind, &name))
    }

    /// Whether an object is known to be damaged.
    pub(super) fn is_damaged_object(&self, digest: &Digest) -> bool {
        self.damage.has(&DamagedItem::Object(*digest))
    }

    /// Whether a pack of others was in place when this writer first checked.
    pub(super) fn has_pack(&self, pack: PackRef) -> Result<bool> {
        self.packs.is_in_place(&self.objects, |name| self.index().has_pack(name), pack)
    }

    /// Where a blob lies in a pack that was in place when this writer first checked, and that `accepts` accepts. Of
    /// several copies of a node, the one in the newest pack.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find(
        &self,
        digest: &Digest,
        kind: BlobKind,
        accepts: impl Fn(PackRef) -> bool,
    ) -> Result<Option<Location>> {
        let confirm = |place: Location| {
            if !accepts(place.pack) {
                return Ok(None);
            }
            let listed = |name: &Digest| self.index().has_pack(name);
            self.packs.confirm(&self.objects, &self.damage, listed, place, digest, kind)
        };
        self.find_confirmed(&Wanted { digest, kind, confirm: &confirm })
    }

    fn find_confirmed(&self, wanted: &Wanted<'_>) -> Result<Option<Location>> {
        let lookup = |index: &Index| match wanted.kind {
            BlobKind::Content | BlobKind::Recipe => self.objects.find(index, wanted),
            BlobKind::Node => self.objects.find_newest(index, wanted),
        };
        let found = lookup(&self.index())?;
        if found.is_some() || !self.list_packs_after_miss()? {
            return Ok(found);
        }
        lookup(&self.index())
    }

    /// Counts a failed lookup. After [`LIST_AFTER_MISSES`] of them lists the packs. `true` if another lookup can find
    /// more.
    fn list_packs_after_miss(&self) -> Result<bool> {
        let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
        if misses < LIST_AFTER_MISSES || self.index().has_listing() {
            return Ok(false);
        }
        let mut index = self.index.write();
        if !index.has_listing() {
            *index = self.objects.load_index(IndexScope::Packs)?;
        }
        Ok(true)
    }

    /// Small content that was stored or found, of all digests that fall into the same shard. Hold it while storing:
    /// another thread with the same bytes then finds this one's location.
    pub(super) fn small(&self, digest: &Digest) -> KnownSmall<'_> {
        KnownSmall { contents: self.small[usize::from(digest.0[0]) % SHARDS].lock(), keys: &self.small_keys }
    }

    /// Frees what is known of small content. What is stored after this may be stored a second time.
    pub(super) fn forget_small(&self) {
        let freed = self.small.iter().map(|shard| std::mem::take(&mut *shard.lock()).bytes_of_earlier()).sum();
        memory::give_back(freed);
    }

    /// Where small content lay in a pack before this writer. From then on the version relies on packs.
    pub(super) fn find_small(&self, digest: &Digest) -> Result<Option<Location>> {
        let found = self.find(digest, BlobKind::Content, |_| true)?;
        if found.is_some() {
            self.rely_on_packs();
        }
        Ok(found)
    }

    /// The footer of a pack of others in which content was found; `None` if the version may not rely on all of it.
    pub(super) fn whole_footer(&self, pack: PackRef) -> Result<Option<Arc<Footer>>> {
        let listed = |name: &Digest| self.index().has_pack(name);
        self.packs.whole_footer(&self.objects, &self.damage, listed, pack)
    }

    /// The version relies on packs that others made.
    pub(super) fn rely_on_packs(&self) {
        self.relies_on_packs.store(true, Ordering::Relaxed);
    }

    /// Whether content that this writer did not find can be read: a garbage collector may have moved it to another pack
    /// or to the trash after this writer read the index. What is known to be damaged does not count.
    pub(super) fn is_moved(&self, digest: &Digest, size: u64) -> Result<bool> {
        // Each search lists and opens packs. A store that has lost more than this has lost it indeed.
        if self.lost.load(Ordering::Relaxed) >= MAX_LOST || self.damage.has(&DamagedItem::Object(*digest)) {
            return Ok(false);
        }
        if size < SMALL_MAX {
            *self.index.write() = self.objects.load_index(IndexScope::Packs)?;
            if self.find_small(digest)?.is_some() {
                return Ok(true);
            }
        }
        match self.objects.content_into(digest, size, None, &mut Vec::new()) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == Kind::Damaged => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Records an object that this transaction stores. `false` if another thread did so first.
    pub(super) fn insert_large(&self, digest: Digest) -> bool {
        self.large.lock().insert(digest)
    }

    /// Records a content that this transaction composes. `false` if another thread did so first.
    pub(super) fn insert_composed(&self, digest: Digest) -> bool {
        self.composed.lock().insert(digest)
    }

    /// Whether the store has this large content. From then on the version relies on it. Content with a damaged object
    /// does not count, also if it is composed: it is stored again as an object, which replaces the damaged one.
    pub(super) fn has_large(&self, digest: &Digest, size: u64) -> Result<bool> {
        if self.sees_object(digest, size)? {
            self.rely_on_object(digest);
            return Ok(true);
        }
        if self.is_damaged_object(digest) && disk::lstat(&self.objects.layout().object(digest))?.is_some() {
            return Ok(false);
        }
        let Some(sources) = self.composed_of(digest, size)? else { return Ok(false) };
        self.rely_on_packs();
        for source in sources.iter().filter(|source| source.may_be_object()) {
            if !source.is_packed() || self.sees_object(&source.digest, source.size())? {
                self.rely_on_object(&source.digest);
            }
        }
        Ok(true)
    }

    /// Whether large content is stored, as an object or composed. The version does not rely on it by this.
    pub(super) fn sees_large(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(self.sees_object(digest, size)? || self.composed_of(digest, size)?.is_some())
    }

    /// Whether the store has what a recipe takes parts of. From then on the version relies on it.
    pub(super) fn has_source(&self, source: &RecipeSource) -> Result<bool> {
        if source.is_packed() {
            let is_own = self.small(&source.digest).get(&source.digest).is_some();
            if is_own || self.find_small(&source.digest)?.is_some() {
                return Ok(true);
            }
        }
        let found = source.may_be_object() && self.sees_object(&source.digest, source.size())?;
        if found {
            self.rely_on_object(&source.digest);
        }
        Ok(found)
    }

    /// Whether the store has what a recipe takes parts of. The version does not rely on it by this.
    pub(super) fn sees_source(&self, source: &RecipeSource) -> Result<bool> {
        if source.is_packed() {
            let is_own = self.small(&source.digest).get(&source.digest).is_some();
            if is_own || self.find(&source.digest, BlobKind::Content, |_| true)?.is_some() {
                return Ok(true);
            }
        }
        Ok(source.may_be_object() && self.sees_object(&source.digest, source.size())?)
    }

    /// The sources of content that is composed, if its recipe and all of them are in place and not known to be damaged.
    fn composed_of(&self, digest: &Digest, size: u64) -> Result<Option<Vec<RecipeSource>>> {
        if size < RECIPE_MIN {
            return Ok(None);
        }
        if self.composed.lock().contains(digest) {
            return Ok(Some(Vec::new()));
        }
        let complete = RefCell::new(None);
        let confirm = |place: Location| {
            let listed = |name: &Digest| self.index().has_pack(name);
            let kind = BlobKind::Recipe;
            let time = self.packs.confirm(&self.objects, &self.damage, listed, place, digest, kind)?;
            let (Some(time), Some(recipe)) = (time, self.objects.recipe_at(place, digest)?) else { return Ok(None) };
            if recipe.size != size {
                return Ok(None);
            }
            for source in &recipe.sources {
                if !self.sees_source(source)? {
                    return Ok(None);
                }
            }
            *complete.borrow_mut() = Some(recipe.sources);
            Ok(Some(time))
        };
        let found = self.find_confirmed(&Wanted { digest, kind: BlobKind::Recipe, confirm: &confirm })?;
        Ok(found.and(complete.into_inner()))
    }

    fn rely_on_object(&self, digest: &Digest) {
        if !self.objects.disk().keeps_order_of_names() && !self.large.lock().contains(digest) {
            self.relied_dirs.lock().insert(self.objects.layout().object_dir(digest));
        }
    }

    /// Whether an object is stored: this transaction stored it, or it is in place, unchanged, and not known to be
    /// damaged. Any other is stored again, which repairs it. The version does not rely on it by this.
    fn sees_object(&self, digest: &Digest, size: u64) -> Result<bool> {
        if self.large.lock().contains(digest) {
            return Ok(true);
        }
        let path = self.objects.layout().object(digest);
        let found = disk::lstat_revalidated(&path)?
            .filter(|m| m.is_file() && m.len() == size && !self.damage.has(&DamagedItem::Object(*digest)));
        match found {
            Some(meta) => Ok(has_object_time(&meta) || self.objects.verify_touched_object(path, digest, size)?),
            None => Ok(false),
        }
    }

    /// Whether an object with the content of a file of `size` bytes may be in the store.
    pub(super) fn may_have_content(&self, file: &File, size: u64) -> Result<bool> {
        self.sizes.may_have(&self.objects, file, size)
    }

    /// The directories whose entries the version relies on without having made them. They are to be synced before it is
    /// published.
    pub(super) fn take_relied_dirs(&self) -> BTreeSet<PathBuf> {
        let layout = self.objects.layout();
        let mut dirs = std::mem::take(&mut *self.relied_dirs.lock());
        if !dirs.is_empty() {
            dirs.insert(layout.objects());
        }
        if self.relies_on_packs.load(Ordering::Relaxed) {
            dirs.insert(layout.packs());
        }
        dirs
    }
}

/// The small contents of a shard, locked.
pub(super) struct KnownSmall<'a> {
    contents: MutexGuard<'a, SmallContents>,
    keys: &'a SmallKeys,
}

impl KnownSmall<'_> {
    /// Where this content lies, if it was stored or found.
    pub(super) fn get(&self, digest: &Digest) -> Option<Location> {
        self.contents.get(self.keys, digest)
    }

    /// Records that it was found there.
    pub(super) fn found(&mut self, digest: Digest, place: Location) {
        self.contents.insert(self.keys, digest, place, false);
    }

    /// Records that this transaction stored it there.
    pub(super) fn stored(&mut self, digest: Digest, place: Location) {
        self.contents.insert(self.keys, digest, place, true);
    }
}

/// Whether the writer of this token lists the packs if there are about this many. The last digits of the token,
/// which are random, decide it.
fn lists_packs(dir: &Path, packs: usize) -> bool {
    let ratio = MIN_LISTING_RATIO.max(packs / LISTED_PER_WRITER);
    let digits = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.get(n.len().saturating_sub(8)..));
    digits.and_then(|d| usize::from_str_radix(d, 16).ok()).is_none_or(|n| n % ratio == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Token;

    #[test]
    fn the_more_packs_a_store_has_the_fewer_writers_list_them() {
        let listing =
            |packs| (0..20_000).filter(|_| lists_packs(Path::new(&Token::fresh().to_string()), packs)).count();
        assert!((200..450).contains(&listing(0)) && (200..450).contains(&listing(1000)));
        assert!(listing(100_000) < 30);
    }
}
