//! Logs of records: aliases and notes. A record is appended by the claim of the next number (FORMAT.md, "The claim").

use super::artifact::ensure_dir;
use super::numbers::{self, Numbered};
use crate::error::{Error, Result, show_path};
use crate::lock::Purpose;
use crate::record;
use crate::store::Store;
use crate::txn::{self, AttemptOutcome, Commit, OnePlace, Place, Prepared, Txn, claim};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Appends what `decide` makes of the last record and of the number that the new one will have; `None` from it means
/// that there is nothing to do. Returns whether a record was appended. It comes directly after the one that was read,
/// or nowhere: when another record takes the number, or the token is fenced, `decide` is asked again. So a helper that
/// comes late cannot undo a newer record.
///
/// # Errors
/// Those of `decide`; damaged; I/O.
pub fn append<T: Serialize + DeserializeOwned + Numbered>(
    store: &Store,
    dir: &Path,
    purpose: &Purpose<'_>,
    mut decide: impl FnMut(Option<T>, u64) -> Result<Option<T>>,
) -> Result<bool> {
    txn::retry(|| {
        let txn = Txn::begin(store, purpose, dir)?; // what follows is looked up after it
        let last = numbers::highest_record(dir)?;
        if last == 0 {
            ensure_dir(store, dir)?; // where there is a number, its writer has done so
        }
        let before = if last == 0 { None } else { Some(read::<T>(dir, last)?) };
        let Some(record) = decide(before, last + 1)? else {
            if last > 0 {
                store.disk().sync_dir(dir)?; // the last record may have been claimed a moment ago, and not be durable
            }
            return Ok(AttemptOutcome::Done(false));
        };
        let place = OnePlace::<false>::at(dir.join(numbers::record_name(last + 1)));
        let durable = Prepared::one_file(store, txn, place, &record::encode(&record)?)?.durable()?;
        Ok(match durable.commit()? {
            Commit::Fenced => AttemptOutcome::Again,
            Commit::Committed(committed) => match committed.place()?.end() {
                Place::At(_) => AttemptOutcome::Done(true),
                Place::Refused(()) => AttemptOutcome::Again,
            },
        })
    })
}

/// Record `number` of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn read<T: DeserializeOwned + Numbered>(dir: &Path, number: u64) -> Result<T> {
    let path = dir.join(numbers::record_name(number));
    let token = claim::holder(&path)?
        .ok_or_else(|| Error::damaged(format!("{} is missing, and later numbers exist", show_path(&path))))?;
    let record = claim::read_record(&dir.join(token.record_name()))?;
    numbers::check_number(&record, number, &path)?;
    Ok(record)
}

/// The last record of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn last<T: DeserializeOwned + Numbered>(dir: &Path) -> Result<Option<T>> {
    match numbers::highest_record(dir)? {
        0 => Ok(None),
        n => read(dir, n).map(Some),
    }
}
