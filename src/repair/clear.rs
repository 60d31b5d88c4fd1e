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
    let removed = move_aside(store, work, &path, &aside)? && wrong(&aside)?;
    end_aside(store, work, &path, &aside, removed)?;
    if removed {
        store.objects().unlist(&DamagedItem::Object(*digest));
    }
    Ok(removed)
}

/// Stores the right blobs of a damaged pack again and removes the pack.
fn clear_pack(store: &Store, pack: &Digest, work: &Txn, progress: &Progress) -> Result<bool> {
    let objects = store.objects();
    let path = store.layout().pack(pack);
    let Some(meta) = disk::lstat(&path)?.filter(std::fs::Metadata::is_file) else { return Ok(false) };
    let stored = StoredFile { path: path.clone(), name: Some(*pack), size: meta.len() };
    let mut damage = Vec::new();
    let right: HashSet<(Digest, BlobKind)> = match objects.check_pack(&stored, &mut damage) {
        Ok(contents) => contents.blobs.iter().map(|(digest, kind, _)| (*digest, *kind)).collect(),
        Err(e) if e.is_about_one_file() => return Ok(false),
        Err(e) => return Err(e),
    };
    let is_damage = |d: &Damage| matches!(d, Damage::Footer(_) | Damage::Blob { .. });
    if !damage.iter().any(is_damage) {
        return Ok(false);
    }
    let mut footer = Vec::new();
    let all = objects.list_pack(&stored, &mut footer)?.blobs;
    let mut wanted = BlobSet::new(all.len());
    all.iter().enumerate().filter(|(_, b)| right.contains(&(b.0, b.1))).for_each(|(i, _)| wanted.insert(i));
    if !wanted.is_empty() && !objects.rewrite_packs(&work.dir(), &[(*pack, &wanted)], progress)?.complete.contains(pack)
    {
        return Ok(false);
    }
    let aside = store.layout().trashed_pack(OsStr::new(work.token().as_str()), pack);
    let removed = move_aside(store, work, &path, &aside)?;
    end_aside(store, work, &path, &aside, removed)?;
    if removed {
        objects.known_damage()?.of(pack).iter().for_each(|item| objects.unlist(item));
    }
    Ok(removed)
}

fn move_aside(store: &Store, work: &Txn, path: &Path, aside: &Path) -> Result<bool> {
    store.disk().create_dir(&store.layout().trash())?;
    store.disk().create_dir(&store.layout().trash().join(work.token().as_str()))?;
    store.disk().rename(path, aside)?;
    Ok(true)
}

/// Removes what was moved aside, or puts it back.
fn end_aside(store: &Store, work: &Txn, path: &Path, aside: &Path, remove: bool) -> Result<()> {
    if !remove {
        store.disk().rename_if_absent(aside, path)?;
    }
    store.disk().remove_file(aside)?;
    let _: Result<()> = store.disk().remove_dir(&store.layout().trash().join(work.token().as_str()));
    Ok(())
}
