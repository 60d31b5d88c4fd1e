//! What is in place, and what of it is needed where: which packs and objects may go, and which packs are rewritten.
//!
//! If a needed blob is stored several times, one copy is its *home*; the others count as not needed. The first pack
//! that has it is the home, the largest packs first, so that small packs become empty. A copy that is known to be
//! damaged is not a home. Before a copy is freed, another one is read and hashed (`Batch::empty`), whatever is decided
//! here.

use super::batch::Item;
use super::marks::{Digests, Marks};
use super::report::GcReport;
use crate::disk::{self, Dir, FsKind};
use crate::error::Result;
use crate::objects::{
    BlobKind, BlobSet, Damage, DamagedItem, KnownDamage, MAX_BLOBS, PackBlobs, RecipesInPacks, SMALL_MAX, StoredFile,
};
use crate::progress::Progress;
use crate::store::Store;
use crate::threads;
use crate::types::Digest;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Bytes of a pack for each blob besides the blob's own: its header and its footer entry.
const PER_BLOB: u64 = 84;
/// Packs are in size classes: up to this size, and each eight times as large as the one before. Larger packs than the
/// last class are not merged.
const SMALLEST_CLASS: u64 = 32 << 10;
const CLASSES: usize = 4;
/// If a size class has more packs than this, they become one.
const MAX_PER_CLASS: usize = 8;
/// From this many objects on they are moved at once. Each takes about 400 bytes of memory until it is moved. Where each
/// group is synced, groups are large.
const GROUP: usize = 1 << 10;
const SYNCED_GROUP: usize = 1 << 16;
/// How many directories of objects are listed before the items are handed on, and how many footers are in memory.
const SHARDS_AT_ONCE: usize = 32;
const PACKS_AT_ONCE: usize = 8;

/// A pack in place whose footer is right.
pub(super) struct PackUse {
    pub name: Digest,
    pub size: u64,
    /// When it was written, by its modification time. It only decides the order in which packs are rewritten.
    written: i64,
    /// The blobs whose home it is, and their bytes with headers and entries.
    pub blobs: BlobSet,
    pub kept: u64,
    /// It has the only copy of something that is needed, and that copy is damaged.
    damaged: bool,
    /// It is small because its blobs are: a pack has room for no more than [`MAX_BLOBS`].
    has_many_blobs: bool,
}

/// All packs in place, and which contents have their home in one.
pub(super) struct Survey {
    packs: Vec<PackUse>,
    homes: Homes,
}

/// What is to be done with packs.
#[derive(Default)]
pub(super) struct Plan {
    /// No needed blob has its home in them.
    pub dead: Vec<PackUse>,
    /// Little of them is needed, or there are many small ones. The oldest first.
    pub rewrite: Vec<PackUse>,
}

/// What is needed, and which copies of it are.
struct Wanted<'a> {
    marks: &'a Marks,
    /// Of contents with several recipes, the pack whose recipe is kept.
    best_recipes: HashMap<Digest, Digest>,
    damage: KnownDamage,
}

/// The needed blobs that have a home so far.
struct Homes {
    /// A bit for each content that is needed.
    content: Vec<u64>,
    recipes: Vec<u64>,
    nodes: Digests,
}

impl Homes {
    fn new(marks: &Marks) -> Homes {
        let none = vec![0; marks.contents().div_ceil(64)];
        Homes { content: none.clone(), recipes: none, nodes: Digests::default() }
    }

    fn has_content(&self, number: usize) -> bool {
        self.content[number / 64] >> (number % 64) & 1 == 1
    }

    /// Makes a blob's copy its home, unless it is not needed or has one.
    fn claim(&mut self, marks: &Marks, digest: &Digest, kind: BlobKind) -> bool {
        let homes = match kind {
            BlobKind::Node => return marks.needs(digest, kind) && self.nodes.insert(*digest),
            BlobKind::Content => &mut self.content,
            // A recipe has the digest of the content that it composes.
            BlobKind::Recipe => &mut self.recipes,
        };
        let Some(number) = marks.content_number(digest) else { return false };
        let is_new = homes[number / 64] >> (number % 64) & 1 == 0;
        homes[number / 64] |= 1 << (number % 64);
        is_new
    }
}

impl Survey {
    /// Reads the footers of all packs in place.
    ///
    /// # Errors
    /// I/O. A conflict, if it was cancelled.
    pub(super) fn of_packs(
        store: &Store,
        marks: &Marks,
        recipes: &RecipesInPacks,
        report: &mut GcReport,
        progress: &Progress,
    ) -> Result<Survey> {
        let mut survey = Survey { packs: Vec::new(), homes: Homes::new(marks) };
        let best_recipes = store.objects().best_recipes(recipes, |digest| marks.needs(digest, BlobKind::Recipe))?;
        let wanted = Wanted { marks, best_recipes, damage: store.objects().known_damage()? };
        let mut suspect = Vec::new();
        let packs = packs_in_place(store, report)?;
        packs.iter().for_each(|(file, _)| progress.add_total(1, file.size));
        for some in packs.chunks(PACKS_AT_ONCE) {
            progress.check_cancelled()?;
            let read = |(file, written): &(StoredFile, i64)| read_pack(store, recipes, file, *written);
            for pack in threads::map(threads::count(), some, read)? {
                progress.add_done(1, pack.size);
                survey.add(store, &wanted, pack, &mut suspect, report)?;
            }
        }
        for (pack, digest, kind) in suspect {
            // No other pack has it. A damaged copy is better than none: it may be mended.
            if !is_repaired(store, &wanted.damage, &digest, kind)? && survey.homes.claim(marks, &digest, kind) {
                survey.packs[pack].damaged = true;
            }
        }
        Ok(survey)
    }

    /// The packs come in the order in which they become homes.
    fn add(
        &mut self,
        store: &Store,
        wanted: &Wanted<'_>,
        pack: PackRead,
        suspect: &mut Vec<(usize, Digest, BlobKind)>,
        report: &mut GcReport,
    ) -> Result<()> {
        let Some(name) = pack.name else { return Ok(()) };
        let Wanted { marks, best_recipes, damage } = wanted;
        let found = match pack.found {
            Found::Blobs(found) => found,
            Found::Gone => return Ok(()),
            Found::Damaged(why) => {
                report.damaged.push(format!("packs/{name}: {why}"));
                return Ok(());
            }
        };
        let blobs = BlobSet::new(found.len());
        let has_many_blobs = found.len() > MAX_BLOBS / 2;
        let (size, written) = (pack.size, pack.written);
        let mut pack = PackUse { name, size, written, blobs, kept: 0, damaged: false, has_many_blobs };
        for (i, (digest, kind, len)) in found.iter().enumerate() {
            if damage.has_blob(digest, *kind, &name) {
                suspect.push((self.packs.len(), *digest, *kind));
            } else if *kind == BlobKind::Recipe
                && marks.needs(digest, *kind)
                && best_recipes.get(digest).is_some_and(|best| *best != name)
            {
                // Recipes of one content can differ: the one that can be read is kept.
            } else if !is_object(store, digest, *kind, *len)? && self.homes.claim(marks, digest, *kind) {
                pack.blobs.insert(i);
                pack.kept += PER_BLOB + u64::from(*len);
            }
        }
        self.packs.push(pack);
        Ok(())
    }

    /// What is to be done with the packs. Counts what goes and what stays unused.
    pub(super) fn plan(&mut self, report: &mut GcReport) -> Plan {
        let mut plan = Plan::default();
        let mut classes: [Vec<PackUse>; CLASSES] = Default::default();
        for pack in std::mem::take(&mut self.packs) {
            let class = (0..CLASSES).find(|class| pack.size <= SMALLEST_CLASS << (3 * class));
            match class {
                _ if pack.damaged => report.unused_in_packs += pack.size.saturating_sub(pack.kept),
                _ if pack.blobs.is_empty() => {
                    report.moved.add(pack.size);
                    plan.dead.push(pack);
                }
                _ if pack.kept * 2 < pack.size => plan.rewrite.push(pack),
                Some(class) if !pack.has_many_blobs => classes[class].push(pack),
                _ => report.unused_in_packs += pack.size.saturating_sub(pack.kept),
            }
        }
        // What a class becomes counts in the class of its size.
        let mut merged = 0;
        for (class, packs) in classes.into_iter().enumerate() {
            let joins = usize::from(merged > 0 && merged <= SMALLEST_CLASS << (3 * class));
            if packs.len() + joins > MAX_PER_CLASS {
                merged = packs.iter().map(|pack| pack.kept).sum::<u64>() + if joins > 0 { merged } else { 0 };
                plan.rewrite.extend(packs);
            } else {
                report.unused_in_packs += packs.iter().map(|pack| pack.size.saturating_sub(pack.kept)).sum::<u64>();
            }
        }
        plan.rewrite.sort_unstable_by_key(|pack| (pack.written, pack.name));
        plan
    }

    /// Calls `found` with objects that nothing needs, or whose content has its home in a pack, in groups; those of one
    /// directory follow each other.
    ///
    /// # Errors
    /// I/O; those of `found`. A conflict, if it was cancelled.
    pub(super) fn unneeded_objects(
        &self,
        store: &Store,
        marks: &Marks,
        report: &mut GcReport,
        progress: &Progress,
        found: &mut dyn FnMut(Vec<Item>) -> Result<()>,
    ) -> Result<()> {
        let objects = store.layout().objects();
        let shards = disk::list_types(&objects)?;
        progress.add_total(shards.len() as u64, 0);
        let mut items = Vec::new();
        let group = if store.disk().kind() == FsKind::Ordered { GROUP } else { SYNCED_GROUP };
        for some in shards.chunks(SHARDS_AT_ONCE) {
            progress.check_cancelled()?;
            for shard in threads::map(threads::count(), some, |shard| self.in_shard(store, shard, marks))? {
                report.unknown.extend(shard.unknown);
                report.moved.files += shard.items.len() as u64;
                report.moved.bytes += shard.bytes;
                items.extend(shard.items);
                progress.add_done(1, 0);
            }
            if items.len() >= group {
                found(std::mem::take(&mut items))?;
            }
        }
        if items.is_empty() { Ok(()) } else { found(items) }
    }

    fn in_shard(&self, store: &Store, (shard, is_dir): &(OsString, bool), marks: &Marks) -> Result<Shard> {
        let path = store.layout().objects().join(shard);
        let mut out = Shard::default();
        let (Some(shard), true) = (shard.to_str(), is_dir) else {
            out.unknown.push(path);
            return Ok(out);
        };
        let mut checked = Vec::new();
        disk::list_each(&path, &mut |name, is_dir| {
            let digest = object_name(shard.as_bytes(), name);
            // What stays is not looked up.
            let stays = |digest: &Digest| {
                !is_dir && marks.content_number(digest).is_some_and(|number| !self.homes.has_content(number))
            };
            if !digest.as_ref().is_some_and(stays) {
                checked.push((name.to_vec(), digest));
            }
        })?;
        if checked.is_empty() {
            return Ok(out);
        }
        let dir = Dir::open(&path)?;
        for (name, digest) in checked {
            let Some(found) = look(store, &dir, &name)? else { continue };
            match (digest, found) {
                (None, _) | (_, None) => out.unknown.push(dir.path_of(&name)),
                // Large content has its home in its object, also if a pack has it.
                (Some(digest), Some(size)) if size >= SMALL_MAX && marks.needs(&digest, BlobKind::Content) => {}
                (Some(digest), Some(size)) => {
                    out.bytes += size;
                    out.items.push(Item::Object(digest));
                }
            }
        }
        Ok(out)
    }
}

/// What a directory of objects has that may go, and what is not cairn's.
#[derive(Default)]
struct Shard {
    items: Vec<Item>,
    bytes: u64,
    unknown: Vec<PathBuf>,
}

/// The digest of the object with that name in that directory.
fn object_name(shard: &[u8], name: &[u8]) -> Option<Digest> {
    let mut hex = [0; 64];
    let (first, rest) = hex.split_at_mut_checked(shard.len())?;
    if rest.len() != name.len() {
        return None;
    }
    first.copy_from_slice(shard);
    rest.copy_from_slice(name);
    Digest::of_hex(&hex)
}

/// Looks up a name: `None` if it is gone, else the size, if it is a file.
fn look(store: &Store, dir: &Dir, name: &[u8]) -> Result<Option<Option<u64>>> {
    if store.disk().kind().is_local() {
        return Ok(dir.lstat(name)?.map(|found| found.is_file().then(|| found.size())));
    }
    // A lookup by path is repeated if a handle is stale.
    Ok(disk::lstat(&dir.path_of(name))?.map(|meta| meta.is_file().then_some(meta.len())))
}

/// A pack in place and what its footer names.
struct PackRead {
    name: Option<Digest>,
    size: u64,
    written: i64,
    found: Found,
}

enum Found {
    Blobs(PackBlobs),
    /// Another collection moved it.
    Gone,
    Damaged(String),
}

fn read_pack(store: &Store, known: &RecipesInPacks, file: &StoredFile, written: i64) -> Result<PackRead> {
    if let Some(blobs) = file.name.and_then(|name| known.blobs_of(&name)) {
        return Ok(PackRead { name: file.name, size: file.size, written, found: Found::Blobs(blobs.to_vec()) });
    }
    let mut damage = Vec::new();
    let blobs = store.objects().list_pack(file, &mut damage)?.blobs;
    let found = match damage.into_iter().next() {
        Some(damage) => Found::Damaged(text(damage)),
        None if blobs.is_empty() && disk::lstat(&file.path)?.is_none() => Found::Gone,
        None => Found::Blobs(blobs),
    };
    Ok(PackRead { name: file.name, size: file.size, written, found })
}

/// Whether content that another release packed has an object, which is its home.
fn is_object(store: &Store, digest: &Digest, kind: BlobKind, len: u32) -> Result<bool> {
    let large = kind == BlobKind::Content && u64::from(len) >= SMALL_MAX;
    Ok(large && disk::lstat(&store.layout().object(digest))?.is_some_and(|meta| meta.size() == u64::from(len)))
}

/// Whether a long content, of which a pack has a damaged copy, has an object: a repair stores it as one.
fn is_repaired(store: &Store, damage: &KnownDamage, digest: &Digest, kind: BlobKind) -> Result<bool> {
    if kind != BlobKind::Content || damage.has(&DamagedItem::Object(*digest)) {
        return Ok(false);
    }
    let found = disk::lstat(&store.layout().object(digest))?;
    Ok(found.is_some_and(|meta| meta.is_file() && meta.size() >= SMALL_MAX))
}

/// The packs in place with the times when they were written, the largest first.
fn packs_in_place(store: &Store, report: &mut GcReport) -> Result<Vec<(StoredFile, i64)>> {
    let dir = store.layout().packs();
    let mut packs = Vec::new();
    for name in disk::list(&dir)? {
        let path = dir.join(&name);
        let Some(meta) = disk::lstat(&path)? else { continue };
        match name.to_str().and_then(|name| Digest::of_hex(name.as_bytes())).filter(|_| meta.is_file()) {
            None => report.unknown.push(path),
            name => packs.push((StoredFile { path, name, size: meta.size() }, meta.mtime())),
        }
    }
    packs.sort_unstable_by_key(|(file, _)| (std::cmp::Reverse(file.size), file.name));
    Ok(packs)
}

fn text(damage: Damage) -> String {
    match damage {
        Damage::Footer(why) => why,
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_packs_become_one_unless_they_are_full_of_small_blobs() {
        let rewritten = |has_many_blobs: bool| {
            let packs = (0..20u8).map(|n| {
                let mut blobs = BlobSet::new(1);
                blobs.insert(0);
                let name = Digest([n; 32]);
                PackUse { name, size: 7 << 20, written: 0, blobs, kept: 7 << 20, damaged: false, has_many_blobs }
            });
            let mut survey = Survey {
                packs: packs.collect(),
                homes: Homes { content: Vec::new(), nodes: Digests::default(), recipes: Vec::new() },
            };
            survey.plan(&mut GcReport::default()).rewrite.len()
        };
        assert_eq!(rewritten(false), 20);
        assert_eq!(rewritten(true), 0);
    }
}
