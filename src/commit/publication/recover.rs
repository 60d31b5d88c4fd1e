//! Helping: numbers are claimed for committed tokens whose owners may be dead (FORMAT.md, "Helping"). It is harmless if
//! they live: every process walks up from the number in the record, by rules that depend on published, immutable
//! records alone, and passes only what it has read.

use super::completion::complete;
use super::dead_writers;
use super::draft_log::LogNumbers;
use super::version_numbers::VersionNumbers;
use crate::catalog::draft::{self as draft_records, Draft, DraftRecord};
use crate::catalog::removal::{self, ChangeRecord};
use crate::catalog::version_record;
use crate::disk;
use crate::error::{Error, Result};
use crate::lock;
use crate::store::Store;
use crate::txn::{self, AttemptOutcome, Numbers, Outcome, Place, claim};
use crate::types::{ArtifactName, Token, VersionNumber};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Calls `attempt` until it is done, each time after [`recover`]: what other writers of the artifact committed and did
/// not live to publish comes first.
pub(in crate::commit) fn retry_with_recovery<T>(
    store: &Store,
    name: &ArtifactName,
    mut attempt: impl FnMut() -> Result<AttemptOutcome<T>>,
) -> Result<T> {
    txn::retry(|| {
        recover(store, name)?;
        attempt()
    })
}

/// Claims the numbers of all committed tokens of an artifact: of versions, of records in its drafts' logs, and of
/// restores. Clears what dead writers of this host left, if there is much. Returns the tokens whose records can never
/// be published, because another record has their number: their owners remove them, or a garbage collector.
///
/// # Errors
/// Damaged; I/O.
pub fn recover(store: &Store, name: &ArtifactName) -> Result<Vec<Token>> {
    recover_those(store, name, |_| true)
}

/// [`recover`] without the tokens whose owners are seen at work: they claim their numbers themselves. With many writers
/// of one draft, each of them would else read the log for each of the others.
///
/// # Errors
/// As [`recover`].
pub(in crate::commit) fn recover_abandoned(store: &Store, name: &ArtifactName) -> Result<()> {
    recover_those(store, name, |token| !lock::is_at_work(store, token)).map(drop)
}

fn recover_those(store: &Store, name: &ArtifactName, wanted: impl Fn(&Token) -> bool) -> Result<Vec<Token>> {
    let (mut refused, mut uncommitted) = (Vec::new(), Vec::new());
    for token in txn::tokens(store)? {
        match txn::read_outcome(store, &token) {
            Ok(Some(Outcome::Committed)) if wanted(&token) => {}
            Ok(Some(Outcome::Committed)) => continue,
            Ok(_) => {
                uncommitted.push(token);
                continue;
            }
            // A token that cannot be read is skipped: its record is not acknowledged, and a collector checks it again.
            Err(_) => continue,
        }
        let Ok(Some(at)) = txn::record_path(store, &token) else { continue };
        let helped = if at == store.layout().versions(name).join(token.record_name()) {
            recover_version(store, name, &token)
        } else if at.starts_with(store.layout().drafts(name)) {
            recover_record(store, name, &token, &at)
        } else if at == store.layout().removed(name).join(token.record_name()) {
            recover_restore(store, name, &token, &at)
        } else {
            Ok(true)
        };
        match helped {
            Ok(true) => {}
            Ok(false) => refused.push(token),
            // The error concerns this token alone. If the record is missing or incomplete, its owner is removing it, or
            // died while doing so. If something on its way is damaged, no process passes that (L10). If it belongs to
            // another user and cannot be read or changed, other processes help it.
            Err(_) if store.disk().is_sound() => {}
            Err(e) => return Err(e),
        }
    }
    dead_writers::clear(store, uncommitted);
    Ok(refused)
}

/// Claims a number again for each finished draft whose version has none: its link is lost, and no other version may
/// take that number. Returns whether any was claimed. `highest` is the highest number that was seen. What cannot be
/// read is skipped; `verify` reports it.
///
/// On file systems whose directories count their subdirectories, one lookup shows that every version has a number; else
/// the drafts' logs are read.
pub(in crate::commit) fn recover_finished(
    store: &Store,
    name: &ArtifactName,
    highest: Option<VersionNumber>,
) -> Result<bool> {
    let layout = store.layout();
    if disk::lstat(&layout.drafts(name))?.is_none() {
        return Ok(false);
    }
    let numbers = highest.map_or(0, |n| n.0 + 1);
    if disk::lstat(&layout.versions(name))?.is_some_and(|m| m.nlink() == numbers + 2) {
        return Ok(false); // as many directories as numbers
    }
    let mut helped = false;
    for draft in draft_records::all(store, name)?.into_iter().flatten() {
        let Ok((_, Some(DraftRecord::Finish(finish)))) = draft.last() else { continue };
        let (None, Some(token)) = (finish.same_as, Token::of_text(&finish.head.token)) else { continue };
        let Ok(record) = version_record::read_record(store, name, &token) else { continue };
        let numbers = VersionNumbers { store, record: &record };
        if !txn::is_claimed(&token, &numbers).unwrap_or(true) && recover_version(store, name, &token).is_ok_and(|at| at)
        {
            helped = true;
        }
    }
    Ok(helped)
}

/// Returns whether it has its number now.
fn recover_version(store: &Store, name: &ArtifactName, token: &Token) -> Result<bool> {
    let record = version_record::read_record(store, name, token)?;
    publish_and_end(store, token, &VersionNumbers { store, record: &record })
}

/// Returns whether it has its number now.
fn recover_restore(store: &Store, name: &ArtifactName, token: &Token, at: &Path) -> Result<bool> {
    let record: ChangeRecord = claim::read_record(at)?;
    publish_and_end(store, token, &removal::place_of_change(&store.layout().removed(name), record.version, record.from))
}

/// For a record of which nothing else follows. Returns whether it has its number now.
fn publish_and_end(store: &Store, token: &Token, numbers: &impl Numbers) -> Result<bool> {
    let Place::At(_) = txn::help(store, token, numbers)? else { return Ok(false) };
    let _ = txn::remove_ended(store, token); // else its owner does, or a collector
    Ok(true)
}

/// Returns whether it has its number now.
fn recover_record(store: &Store, name: &ArtifactName, token: &Token, at: &Path) -> Result<bool> {
    let record: DraftRecord = claim::read_record(at)?;
    let draft = Draft::new(store, name, &record.head().distributed_id);
    let expected: PathBuf = draft.log().join(token.record_name());
    if at != expected {
        return Err(Error::damaged(format!(
            "{} is not at the place of a record of {draft}",
            crate::error::show_path(at)
        )));
    }
    let place = txn::help(store, token, &LogNumbers { draft: &draft, record: &record })?;
    let Place::At(_) = place else { return Ok(false) };
    match &record {
        DraftRecord::Finish(record) => complete(&draft, token, record).map(drop)?,
        _ => drop(txn::remove_ended(store, token)), // else its owner does, or a collector
    }
    Ok(true)
}
