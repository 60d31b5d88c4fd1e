//! Logs of records: aliases and notes. A record is appended by the claim of the next number (FORMAT.md, "The claim").

use super::artifact::ensure_dir;
use super::numbers::{self, Numbered};
use crate::error::{Error, Result, show_path};
use crate::lock::Purpose;
use crate::record;
use crate::store::Store;
use crate::txn::claim::{self, Claimed};
use crate::txn::{Outcome, Txn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Appends what `decide` makes of the last record and of the number it will stand at; `None` from it means there is
/// nothing to do. Returns whether one was appended. A record stands directly after the one that was read, or nowhere:
/// when another takes the number, or the token is fenced, `decide` is asked again. So a helper that comes late cannot
/// undo a newer record.
///
/// # Errors
/// Those of `decide`; damaged; I/O.
pub fn append<T: Serialize + DeserializeOwned + Numbered>(
    store: &Store,
    dir: &Path,
    purpose: &Purpose<'_>,
    mut decide: impl FnMut(Option<T>, u64) -> Result<Option<T>>,
) -> Result<bool> {
    loop {
        let mut work = Txn::begin(store, purpose, dir)?; // looks come after it
        let last = numbers::last_record(dir)?;
        if last == 0 {
            ensure_dir(store, dir)?; // whoever stands at a number has seen to that before
        }
        let before = if last == 0 { None } else { Some(read::<T>(dir, last)?) };
        let Some(record) = decide(before, last + 1)? else {
            if last > 0 {
                store.disk().sync_dir(dir)?; // what it relies on may have been claimed a moment ago, and not be durable yet
            }
            return Ok(false);
        };
        let path = dir.join(work.token().record_name());
        let file = store.disk().write_file(path.clone(), &record::encode(&record)?)?;
        store.disk().publish_barrier(None).record(&file)?;
        let number = dir.join(numbers::record_name(last + 1));
        let token = work.token().clone();
        let outcome = work.commit(|| claim::is_claimed(&token, std::iter::once(number.clone())))?;
        if outcome == Outcome::Committed && claim::claim(store, &number, &token)? == Claimed::Own {
            store.disk().sync_dir(dir)?;
            work.end();
            return Ok(true);
        }
        // Fenced, or its one number is taken: it can never be published, and its owner drops it.
        if outcome != Outcome::Revoked {
            let _ = store.disk().remove_file(&path); // else a collector does
        }
        if outcome == Outcome::Committed {
            work.end();
        }
    }
}

/// Record `number` of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn read<T: DeserializeOwned + Numbered>(dir: &Path, number: u64) -> Result<T> {
    let path = dir.join(numbers::record_name(number));
    let token = claim::holder(&path)?
        .ok_or_else(|| Error::damaged(format!("{} is missing, numbers after it stand", show_path(&path))))?;
    let record = claim::read_record(&dir.join(token.record_name()))?;
    numbers::check_number(&record, number, &path)?;
    Ok(record)
}

/// The last record of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn last<T: DeserializeOwned + Numbered>(dir: &Path) -> Result<Option<T>> {
    match numbers::last_record(dir)? {
        0 => Ok(None),
        n => read(dir, n).map(Some),
    }
}
