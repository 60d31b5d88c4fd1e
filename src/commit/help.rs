//! Helping: step 6 for committed tokens whose holders may be dead (FORMAT.md, "Helping"). Harmless beside living ones:
//! everyone walks up from the number in the record, by rules that depend on published, immutable records alone, and
//! passes only what it has read.

use super::{draft, finish};
use crate::catalog::draft::{self as draft_records, Draft, DraftRecord};
use crate::catalog::{Mode, VersionRecord, numbers, version};
use crate::disk;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::txn::claim::{self, Claimed};
use crate::txn::{self, Outcome};
use crate::types::{ArtifactName, Token, VersionNumber};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a committed version came to stand.
pub(super) enum Placed {
    /// At this number.
    At(VersionNumber),
    /// Nowhere: on its way up it met this version with the same content (case 12).
    SameAs(VersionNumber),
    /// Nowhere: the one number it may have is another's.
    Taken,
}

/// Step 6 for a version: walks up from the number in the record, past what it has read, and claims the first free one;
/// an exact record has one number only (L9). The rule for equal content depends on published, immutable records alone,
/// so every helper comes to the same end.
pub(super) fn place(store: &Store, token: &Token, record: &VersionRecord) -> Result<Placed> {
    let name = &record.artifact;
    let mut number = record.from;
    loop {
        match claim::claim(store, &store.layout().version(name, number), token)? {
            Claimed::Own => return Ok(Placed::At(number)),
            Claimed::Other(other) => {
                if record.exact {
                    return Ok(Placed::Taken);
                }
                // Whose walk does not depend on content needs the token alone: a damaged record is passed.
                if record.mode == Mode::Simple && !record.always_new {
                    let other = version::read_record(store, name, &other)?;
                    numbers::check_number(&other, number.0, &store.layout().version(name, number))?;
                    if other.digest == record.digest {
                        return Ok(Placed::SameAs(number));
                    }
                }
                number.0 += 1;
            }
        }
    }
}

/// Does step 6 for every committed token of an artifact: versions, and what is appended to its drafts.
///
/// # Errors
/// Damaged; I/O.
pub fn help(store: &Store, name: &ArtifactName) -> Result<()> {
    for token in txn::tokens(store)? {
        // What cannot be read here is not this writer's to judge: its record is not acknowledged, and a collector looks
        // at it again.
        if !txn::read_outcome(store, &token).is_ok_and(|o| o == Some(Outcome::Committed)) {
            continue;
        }
        let Ok(Some(at)) = claim::read_link_revalidated(&store.layout().token_record(&token)) else { continue };
        let at = store.root().join(Path::new(OsStr::from_bytes(&at)));
        let helped = if at == store.layout().versions(name).join(token.record_name()) {
            help_version(store, name, &token)
        } else if at.starts_with(store.layout().drafts(name)) {
            help_draft(store, name, &token, &at)
        } else {
            Ok(())
        };
        match helped {
            // What went wrong concerns this token alone. Missing or in part only: its owner drops it, or did until it
            // died. Something on its way is damaged: nobody gets past that (L10). Another user's, not to be read or
            // changed: others help it.
            Err(_) if store.disk().is_sound() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Claims a number again for each finished draft whose version has none: its link is lost, and nobody else may take
/// that number. Whether any was claimed. `highest` is the highest number that was seen. Best effort: what cannot be
/// read is `verify`'s to tell.
///
/// Where directories count those in them, one look tells that no version lacks a number; else the drafts' logs do.
pub(super) fn help_finished(store: &Store, name: &ArtifactName, highest: Option<VersionNumber>) -> Result<bool> {
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
        let (None, Some(token)) = (finish.same_as, Token::from_text(&finish.head.token)) else { continue };
        let Ok(record) = version::read_record(store, name, &token) else { continue };
        let numbers = (record.from.0..).map(|n| layout.version(name, VersionNumber(n)));
        if !claim::is_claimed(&token, numbers).unwrap_or(true) && help_version(store, name, &token).is_ok() {
            helped = true;
        }
    }
    Ok(helped)
}

fn help_version(store: &Store, name: &ArtifactName, token: &Token) -> Result<()> {
    let record = version::read_record(store, name, token)?;
    if let Placed::At(_) = place(store, token, &record)? {
        store.disk().sync_dir(&store.layout().versions(name))?;
        let _ = txn::remove_ended(store, token); // else its owner does, or a collector
    }
    Ok(())
}

fn help_draft(store: &Store, name: &ArtifactName, token: &Token, at: &Path) -> Result<()> {
    let record: DraftRecord = claim::read_record(at)?;
    let draft = Draft::new(store, name, &record.head().distributed_id);
    let expected: PathBuf = draft.log().join(token.record_name());
    if at != expected {
        return Err(Error::damaged(format!("{} is not where a record of {draft} stands", crate::error::show_path(at))));
    }
    if let draft::Placed::At(_) = draft::place(&draft, token, &record)? {
        store.disk().sync_dir(&draft.log())?;
        match &record {
            DraftRecord::Finish(record) => finish::complete(&draft, token, record).map(drop)?,
            _ => drop(txn::remove_ended(store, token)), // else its owner does, or a collector
        }
    }
    Ok(())
}
