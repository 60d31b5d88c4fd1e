//! Logs of records: aliases and notes. A record is appended by the claim of the next number (FORMAT.md, "The claim").

use super::artifact::ensure_dir;
use super::numbers;
use crate::error::{Error, Result, show_path};
use crate::lock::Purpose;
use crate::record;
use crate::store::Store;
use crate::work::claim::{self, Claimed};
use crate::work::{Outcome, Work};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A record about to be appended.
pub struct Entry<T> {
    /// What is written.
    pub record: T,
    /// Whether it must stand directly after the last record that was read: taken by another, everything is looked at again.
    pub exact: bool,
}

/// Appends what `decide` makes of the last record; `None` from it means there is nothing to do. Returns whether one was appended.
/// `decide` gets the last record and the number that the new one's walk begins at, and is asked again whenever its view may be stale.
///
/// # Errors
/// Those of `decide`; damaged; I/O.
pub fn append<T: Serialize + DeserializeOwned>(
    store: &Store,
    dir: &Path,
    purpose: &Purpose<'_>,
    mut decide: impl FnMut(Option<T>, u64) -> Result<Option<Entry<T>>>,
) -> Result<bool> {
    ensure_dir(store, dir)?;
    loop {
        let mut work = Work::begin(store, purpose)?; // looks come after it
        let last = numbers::last_record(dir)?;
        let mut number = last + 1;
        let before = if last == 0 { None } else { Some(read::<T>(dir, last)?) };
        let Some(entry) = decide(before, number)? else { return Ok(false) };
        let path = dir.join(work.token().record_name());
        let file = store.disk().write_file(path.clone(), &record::encode(&entry.record)?)?;
        store.disk().sync_file(&file)?;
        work.note_record(&path)?;
        if work.commit()? == Outcome::Fenced {
            store.disk().remove_file(&path)?;
            continue;
        }
        loop {
            match claim::claim(store, &dir.join(numbers::record_name(number)), work.token())? {
                Claimed::Own => {
                    store.disk().sync_dir(dir)?;
                    work.end()?;
                    return Ok(true);
                }
                Claimed::Other(_) if entry.exact => break, // refused: the record is dropped by its owner
                Claimed::Other(token) => {
                    claim::read_record::<serde_json::Value>(&dir.join(token.record_name()))?;
                    number += 1;
                }
            }
        }
        store.disk().remove_file(&path)?;
        work.end()?;
    }
}

/// Record `number` of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn read<T: DeserializeOwned>(dir: &Path, number: u64) -> Result<T> {
    let path = dir.join(numbers::record_name(number));
    let token = claim::holder(&path)?.ok_or_else(|| Error::damaged(format!("{} is missing, numbers after it stand", show_path(&path))))?;
    claim::read_record(&dir.join(token.record_name()))
}

/// The last record of a log.
///
/// # Errors
/// Damaged; I/O.
pub fn last<T: DeserializeOwned>(dir: &Path) -> Result<Option<T>> {
    match numbers::last_record(dir)? {
        0 => Ok(None),
        n => read(dir, n).map(Some),
    }
}
