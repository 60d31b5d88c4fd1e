//! Damage that nothing needs any more: index segments, objects that nothing names, packs whose right blobs are kept.

use super::report::Repaired;
use crate::disk::{self, hash_file};
use crate::error::Result;
use crate::objects::{BlobKind, BlobSet, Damage, DamagedItem, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::{self, Txn};
use crate::types::Digest;
use crate::verify::{VerifyReport, code};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes damaged index segments and writes new ones.
///
/// # Errors
/// I/O.
pub(super) fn index(store: &Store, found: &VerifyReport, dir: &Path, done: &mut Repaired) -> Result<()> {
    for note in found.notes.iter().filter(|note| note.code == code::INDEX) {
        done.segments += u64::from(store.objects().remove_segment(Path::new(&note.what))?);
    }
    if done.segments > 0 { store.objects().tidy_index(dir) } else { Ok(()) }
}

/// Removes damaged objects and packs that nothing needs: nothing is affected by the damage. Right blobs of such a pack
/// are stored in new packs first. Does nothing while other tokens are at work, which may rely on what is removed.
///
/// # Errors
/// I/O.
pub(super) fn unneeded(
    store: &Store,
    found: &VerifyReport,
    work: &Txn,
    progress: &Progress,
    done: &mut Repaired,
) -> Result<()> {
    if txn::tokens(store)?.iter().any(|token| token != work.token()) || !found.lost().is_empty() {
        return Ok(());
    }
    let affected: HashSet<&str> =
        found.findings.iter().filter(|f| !f.affects.is_empty()).map(|f| f.what.as_str()).collect();
    let (mut objects, mut packs) = (BTreeSet::new(), BTreeSet::new());
    for item in store.objects().known_damage()?.iter() {
        match item {
            DamagedItem::Object(digest) => drop(objects.insert(*digest)),
            DamagedItem::Pack(pack) | DamagedItem::Blob { pack, .. } => drop(packs.insert(*pack)),
        }
    }
    let show = |path: &Path| path.strip_prefix(store.root()).unwrap_or(path).to_string_lossy().into_owned();
    objects.retain(|digest| !affected.contains(show(&store.layout().object(digest)).as_str()));
    packs.retain(|pack| !affected.contains(show(&store.layout().pack(pack)).as_str()));
    for digest in objects {
        done.cleared += u64::from(clear_object(store, &digest, work)?);
    }
    for pack in packs {
        done.cleared += u64::from(clear_pack(store, &pack, work, progress)?);
    }
    Ok(())
}

/// Removes an object whose bytes are wrong. It goes through the trash, where readers look too: if a writer has replaced
/// it meanwhile, it is put back.
fn clear_object(store: &Store, digest: &Digest, work: &Txn) -> Result<bool> {
    let path = store.layout().object(digest);
    let wrong = |path: &Path| match disk::open_file(path)? {
        Some((file, _)) => Ok(hash_file(&file, path, &mut |_| Ok(())).map_or(true, |(found, _)| found != *digest)),
        None => Ok(false),
    };
    if !wrong(&path)? {
        return Ok(false);
    }
    let aside = store.layout().trashed_object(OsStr::new(work.token().as_str()), digest);
    if !move_aside(store, work, &path, &aside)? {
        return Ok(false);
    }
    let removed = wrong(&aside)?;
    end_aside(store, work, &path, &aside, removed)?;
    if removed {
        store.objects().unlist(&DamagedItem::Object(*digest));
    }
    Ok(removed)
}

/// Stores again what packs with a damaged footer have and no other place does.
///
/// # Errors
/// I/O.
pub(super) fn salvage(store: &Store, dir: &Path, progress: &Progress, done: &mut Repaired) -> Result<()> {
    let packs: BTreeSet<Digest> =
        store.objects().known_damage()?.iter().filter_map(DamagedItem::pack).copied().collect();
    for pack in packs {
        let Some((stored, _)) = stored(store, &pack)? else { continue };
        if store.objects().has_damaged_footer(&stored)? {
            let salvaged = store.objects().salvage(dir, &stored, progress)?;
            done.contents += salvaged.contents;
            done.nodes += salvaged.nodes;
        }
    }
    Ok(())
}

/// A pack in its place, with what tells it from another file of the same name.
fn stored(store: &Store, pack: &Digest) -> Result<Option<(StoredFile, (u64, u64))>> {
    let path = store.layout().pack(pack);
    let meta = disk::lstat(&path)?.filter(Metadata::is_file);
    Ok(meta.map(|meta| (StoredFile { path, name: Some(*pack), size: meta.len() }, (meta.dev(), meta.ino()))))
}

/// Stores the right blobs of a damaged pack again and removes the pack. It stays if it is not known that all of them
/// were found.
fn clear_pack(store: &Store, pack: &Digest, work: &Txn, progress: &Progress) -> Result<bool> {
    let objects = store.objects();
    let Some((stored, id)) = stored(store, pack)? else { return Ok(false) };
    let kept = if objects.has_damaged_footer(&stored)? {
        objects.salvage(&work.dir(), &stored, progress)?.is_all
    } else {
        keep_right_blobs(store, pack, &stored, work, progress)?
    };
    if !kept {
        return Ok(false);
    }
    let aside = store.layout().trashed_pack(OsStr::new(work.token().as_str()), pack);
    if !move_aside(store, work, &stored.path, &aside)? {
        return Ok(false);
    }
    // A writer that stores the same pack replaces a damaged one: what was moved may be another file.
    let removed = disk::lstat(&aside)?.is_some_and(|meta| (meta.dev(), meta.ino()) == id);
    end_aside(store, work, &stored.path, &aside, removed)?;
    if removed {
        objects.known_damage()?.of(pack).iter().for_each(|item| objects.unlist(item));
    }
    Ok(removed)
}

/// Stores the right blobs of a pack with a right footer again, if others are damaged. Returns whether that was done.
fn keep_right_blobs(
    store: &Store,
    pack: &Digest,
    stored: &StoredFile,
    work: &Txn,
    progress: &Progress,
) -> Result<bool> {
    let objects = store.objects();
    let mut damage = Vec::new();
    let right: HashSet<(Digest, BlobKind)> = match objects.check_pack(stored, &mut damage) {
        Ok(contents) => contents.blobs.iter().map(|(digest, kind, _)| (*digest, *kind)).collect(),
        Err(e) if e.is_about_one_file() => return Ok(false),
        Err(e) => return Err(e),
    };
    if !damage.iter().any(|d| matches!(d, Damage::Footer(_) | Damage::Blob { .. })) {
        return Ok(false);
    }
    let mut footer = Vec::new();
    let all = objects.list_pack(stored, &mut footer)?.blobs;
    if !footer.is_empty() {
        return Ok(false); // it became damaged meanwhile
    }
    let mut wanted = BlobSet::new(all.len());
    all.iter().enumerate().filter(|(_, b)| right.contains(&(b.0, b.1))).for_each(|(i, _)| wanted.insert(i));
    if wanted.is_empty() {
        return Ok(true);
    }
    Ok(objects.rewrite_packs(&work.dir(), &[(*pack, &wanted)], progress)?.complete.contains(pack))
}

/// Returns whether it was moved: a collector may have done so before.
fn move_aside(store: &Store, work: &Txn, path: &Path, aside: &Path) -> Result<bool> {
    store.disk().create_dir(&store.layout().trash())?;
    store.disk().create_dir(&store.layout().trash().join(work.token().as_str()))?;
    match store.disk().rename(path, aside) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
        moved => moved.map(|()| true),
    }
}

/// Removes what was moved aside, or puts it back.
fn end_aside(store: &Store, work: &Txn, path: &Path, aside: &Path, remove: bool) -> Result<()> {
    if !remove {
        match store.disk().rename_if_absent(aside, path) {
            Err(e) if e.errno() == Some(libc::ENOENT) => {} // a collector took it over
            done => drop(done?),
        }
    }
    store.disk().remove_file(aside)?;
    let _: Result<()> = store.disk().remove_dir(&store.layout().trash().join(work.token().as_str()));
    Ok(())
}
