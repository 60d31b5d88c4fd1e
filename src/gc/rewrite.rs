//! Rewriting packs: what is needed of them goes into new packs, which are in place before the old ones leave.

use super::batch::Item;
use super::report::GcReport;
use super::survey::PackUse;
use super::tokens::purpose;
use crate::disk;
use crate::error::{Error, Result};
use crate::objects::Rewritten;
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::Txn;
use crate::types::Digest;
use std::collections::HashMap;

/// So much is rewritten at once: where each blob went is remembered until then, and space is taken twice.
const GROUP_BYTES: u64 = 4 << 30;
const GROUP_BLOBS: usize = 1 << 20;
/// Space that is left free.
const SPARE: u64 = 1 << 20;

/// Rewrites packs. Calls `done` with those that may leave their place.
///
/// # Errors
/// I/O, except that there is no space: then what is left is not rewritten. Those of `done`. A conflict, if it was
/// cancelled.
pub(super) fn rewrite(
    store: &Store,
    packs: &[PackUse],
    report: &mut GcReport,
    progress: &Progress,
    done: &mut dyn FnMut(Vec<Item>) -> Result<()>,
) -> Result<()> {
    let mut rest = packs;
    while !rest.is_empty() {
        let (group, after) = rest.split_at(first_group(rest));
        rest = after;
        let bytes: u64 = group.iter().map(|pack| pack.kept).sum();
        let rewritten = match disk::free_bytes(store.root()) {
            Some(free) if free < bytes + bytes / 8 + SPARE => None,
            _ => without_full_disk(rewrite_group(store, group, progress))?,
        };
        let Some(rewritten) = rewritten else {
            report.not_rewritten = after.len() as u64 + group.len() as u64;
            return Ok(());
        };
        report.written.files += rewritten.packs;
        report.written.bytes += rewritten.bytes;
        report.damaged.extend(rewritten.damaged);
        let sizes: HashMap<&Digest, u64> = group.iter().map(|pack| (&pack.name, pack.size)).collect();
        rewritten.complete.iter().for_each(|name| report.rewritten.add(sizes[name]));
        done(rewritten.complete.into_iter().map(Item::Pack).collect())?;
    }
    Ok(())
}

/// How many of these packs make a group, at least one.
fn first_group(packs: &[PackUse]) -> usize {
    let (mut bytes, mut blobs) = (0, 0);
    let fits = packs.iter().take_while(|pack| {
        bytes += pack.kept;
        blobs += pack.blobs.len();
        bytes <= GROUP_BYTES && blobs <= GROUP_BLOBS
    });
    fits.count().max(1)
}

/// The token names the temporary files, so that another collection removes them if this process dies.
fn rewrite_group(store: &Store, group: &[PackUse], progress: &Progress) -> Result<Rewritten> {
    let work = Txn::begin(store, &purpose(), &store.layout().trash())?;
    let packs: Vec<_> = group.iter().map(|pack| (pack.name, &pack.blobs)).collect();
    store.objects().rewrite_packs(&work.dir(), &packs, progress)
}

fn without_full_disk<T>(result: Result<T>) -> Result<Option<T>> {
    let is_full = |e: &Error| matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT));
    match result {
        Err(e) if is_full(&e) => Ok(None),
        result => result.map(Some),
    }
}

/// Writes index segments for packs that none covers, and removes entries of packs that are gone.
///
/// # Errors
/// I/O. A conflict, if it was cancelled.
pub(super) fn tidy_index(store: &Store) -> Result<()> {
    if !store.objects().index_needs_tidying()? {
        return Ok(());
    }
    let work = Txn::begin(store, &purpose(), &store.layout().trash())?;
    without_full_disk(store.objects().tidy_index(&work.dir())).map(drop)
}
