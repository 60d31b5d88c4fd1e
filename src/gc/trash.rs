//! The batches of other collections in the trash: which may be taken over, and what the others hold.

use super::report::{Amount, GcReport};
use crate::disk;
use crate::error::Result;
use crate::lock::{self, HolderStatus, LockRecord};
use crate::store::Store;
use crate::types::Token;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Adds everything in a directory to `amount`.
pub(super) fn add_all(dir: &Path, amount: &mut Amount) -> Result<()> {
    for name in disk::list(dir)? {
        amount.add(disk::lstat(&dir.join(name))?.map_or(0, |meta| meta.size()));
    }
    Ok(())
}

/// The batches of the trash that are at least this old at `now`, the time of the store's own clock, and whose
/// collections do not live; and what the others hold. Other collections that live are reported.
pub(super) fn older(
    store: &Store,
    now: i64,
    min_age: Duration,
    own: &[&OsString],
    report: &mut GcReport,
) -> Result<Vec<OsString>> {
    let trash = store.layout().trash();
    let mut tokens = Vec::new();
    for batch in disk::list(&trash)? {
        tokens.extend(batch.to_str().and_then(Token::of_text).filter(|_| !own.contains(&&batch)));
    }
    let live = live(store, &tokens)?;
    let mut out = Vec::new();
    for token in tokens {
        let batch = OsString::from(token.to_string());
        let dir = trash.join(&batch);
        let Some(meta) = disk::lstat(&dir)?.filter(std::fs::Metadata::is_dir) else { continue };
        match live.iter().find(|(of, _)| *of == token) {
            Some((_, holder)) => report.other_collections.extend(holder.clone()),
            None if now - meta.mtime() >= min_age.as_secs() as i64 => out.push(batch),
            None => add_all(&dir, &mut report.in_trash)?,
        }
    }
    Ok(out)
}

/// The tokens whose locks have live holders.
fn live(store: &Store, tokens: &[Token]) -> Result<Vec<(Token, Option<LockRecord>)>> {
    let paths: Vec<_> = tokens.iter().map(|token| store.layout().lock(token)).collect();
    let mut out = Vec::new();
    for lock in lock::judge(store, &paths)?.into_iter().filter(|lock| lock.status == HolderStatus::Live) {
        out.extend(Token::of_text(&lock.id).map(|token| (token, lock.record)));
    }
    Ok(out)
}
