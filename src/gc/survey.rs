//! What is in place, and what of it is needed where: which packs and objects may go, and which packs are rewritten.
//!
//! If a needed blob is stored several times, one copy is its *home*; the others count as not needed. The first pack
//! that has it is the home, the largest packs first, so that small packs become empty. A copy that is known to be
//! damaged is not a home. Before a copy is freed, another one is read and hashed (`Batch::empty`), whatever is decided
//! here.

use super::batch::Item;
use super::marks::{Digests, Marks};
use super::report::GcReport;
use crate::disk;
use crate::error::Result;
use crate::objects::{BlobKind, BlobSet, Damage, KnownDamage, SMALL_MAX, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::types::Digest;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a pack for each blob besides the blob's own: its header and its footer entry.
const PER_BLOB: u64 = 84;
/// Packs are in size classes: up to this size, and each eight times as large as the one before. Larger packs than the
/// last class are not merged.
const SMALLEST_CLASS: u64 = 32 << 10;
const CLASSES: usize = 4;
/// If a size class has more packs than this, they become one.
const MAX_PER_CLASS: usize = 8;
/// From this many objects on they are moved at once.
const GROUP: usize = 4096;

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

/// The needed blobs that have a home so far.
struct Homes {
    content: Vec<u64>,
    nodes: Digests,
}

impl Homes {
    fn has_content(&self, number: usize) -> bool {
        self.content[number / 64] >> (number % 64) & 1 == 1
    }

    /// Makes a blob's copy its home, unless it is not needed or has one.
    fn claim(&mut self, marks: &Marks, digest: &Digest, kind: BlobKind) -> bool {
        match (kind, marks.content_number(digest)) {
            (BlobKind::Node, _) => marks.needs(digest, kind) && self.nodes.insert(*digest),
            (BlobKind::Content, Some(number)) if !self.has_content(number) => {
                self.content[number / 64] |= 1 << (number % 64);
                true
            }
            _ => false,
        }
    }
}

impl Survey {
    /// Reads the footers of all packs in place.
    ///
    /// # Errors
    /// I/O. A conflict, if it was cancelled.
    pub(super) fn of_packs(store: &Store, marks: &Marks, report: &mut GcReport, progress: &Progress) -> Result<Survey> {
        let homes = Homes { content: vec![0; marks.contents().div_ceil(64)], nodes: Digests::default() };
        let mut survey = Survey { packs: Vec::new(), homes };
        let damage = store.objects().known_damage()?;
        let mut suspect = Vec::new();
        let packs = packs_in_place(store, report)?;
        packs.iter().for_each(|(file, _)| progress.add_total(1, file.size));
        for (file, written) in packs {
            progress.check_cancelled()?;
            progress.add_done(1, file.size);
            survey.add(store, marks, &damage, &file, written, &mut suspect, report)?;
        }
        for (pack, digest, kind) in suspect {
            // No other pack has it. A damaged copy is better than none: it may be mended.
            if survey.homes.claim(marks, &digest, kind) {
                survey.packs[pack].damaged = true;
            }
        }
        Ok(survey)
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        store: &Store,
        marks: &Marks,
        damage: &KnownDamage,
        file: &StoredFile,
        written: i64,
        suspect: &mut Vec<(usize, Digest, BlobKind)>,
        report: &mut GcReport,
    ) -> Result<()> {
        let Some(name) = file.name else { return Ok(()) };
        let mut found = Vec::new();
        let contents = store.objects().list_pack(file, &mut found)?;
        if let Some(found) = found.into_iter().next() {
            report.damaged.push(format!("packs/{name}: {}", text(found)));
            return Ok(());
        }
        let mut pack = PackUse {
            name,
            size: file.size,
            written,
            blobs: BlobSet::new(contents.blobs.len()),
            kept: 0,
            damaged: false,
        };
        for (i, (digest, kind, len)) in contents.blobs.iter().enumerate() {
            if damage.has_blob(digest, *kind, &name) {
                suspect.push((self.packs.len(), *digest, *kind));
            } else if !is_object(store, digest, *kind, *len)? && self.homes.claim(marks, digest, *kind) {
                pack.blobs.insert(i);
                pack.kept += PER_BLOB + u64::from(*len);
            }
        }
        self.packs.push(pack);
        Ok(())
    }

    /// Whether the home of a needed content is in a pack.
    fn has_content(&self, marks: &Marks, digest: &Digest) -> bool {
        marks.content_number(digest).is_some_and(|number| self.homes.has_content(number))
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
                Some(class) => classes[class].push(pack),
                None => report.unused_in_packs += pack.size.saturating_sub(pack.kept),
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

    /// Calls `found` with objects that nothing needs, or whose content has its home in a pack, in groups.
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
        for (shard, is_dir) in shards {
            progress.check_cancelled()?;
            progress.add_done(1, 0);
            let dir = objects.join(&shard);
            match shard.to_str() {
                Some(shard) if is_dir => self.in_shard(&dir, shard, marks, report, &mut items)?,
                _ => report.unknown.push(dir),
            }
            // In large groups, because on some file systems each group is synced.
            if items.len() >= GROUP {
                found(std::mem::take(&mut items))?;
            }
        }
        if items.is_empty() { Ok(()) } else { found(items) }
    }

    fn in_shard(
        &self,
        dir: &Path,
        shard: &str,
        marks: &Marks,
        report: &mut GcReport,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        for (name, is_dir) in disk::list_types(dir)? {
            let digest = name.to_str().and_then(|name| Digest::of_hex(format!("{shard}{name}").as_bytes()));
            // What stays is not looked up.
            if let (Some(digest), false) = (&digest, is_dir)
                && marks.needs(digest, BlobKind::Content)
                && !self.has_content(marks, digest)
            {
                continue;
            }
            let path = dir.join(&name);
            let Some(meta) = disk::lstat(&path)? else { continue };
            match digest.filter(|_| meta.is_file()) {
                None => report.unknown.push(path),
                // Large content has its home in its object, also if a pack has it.
                Some(digest) if marks.needs(&digest, BlobKind::Content) && meta.size() >= SMALL_MAX => {}
                Some(digest) => {
                    report.moved.add(meta.size());
                    items.push(Item::Object(digest));
                }
            }
        }
        Ok(())
    }
}

/// Whether content that another release packed has an object, which is its home.
fn is_object(store: &Store, digest: &Digest, kind: BlobKind, len: u32) -> Result<bool> {
    let large = kind == BlobKind::Content && u64::from(len) >= SMALL_MAX;
    Ok(large && disk::lstat(&store.layout().object(digest))?.is_some_and(|meta| meta.size() == u64::from(len)))
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
