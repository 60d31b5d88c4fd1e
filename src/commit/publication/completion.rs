//! The end of a finished draft: its version gets its number, then its annotations.

use super::version_numbers::VersionNumbers;
use crate::catalog::draft::{AliasMove, Draft, DraftState, FinishRecord, NoteAfter};
use crate::catalog::{Version, alias, note, removal, version_record};
use crate::error::{Error, Result};
use crate::txn::{self, Outcome, Place, claim};
use crate::types::{Token, VersionNumber};

impl Draft {
    /// The number of the version that came of it; `None` while it is not finished, or finished and not numbered yet
    /// (the next finish does that).
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn version(&self, state: &DraftState) -> Result<Option<VersionNumber>> {
        let Some((token, record)) = &state.finish else { return Ok(None) };
        if record.same_as.is_some() {
            return Ok(record.same_as);
        }
        let mut number = version_record::read_record(self.store(), self.artifact(), token)?.from;
        while let Some(there) = claim::holder(&self.store().layout().version(self.artifact(), number))? {
            if there == *token {
                return Ok(Some(number));
            }
            number.0 += 1;
        }
        Ok(None)
    }
}

/// The number of a finished draft's version, claimed now if no process has done so yet, and durable.
pub(in crate::commit) fn number_of(draft: &Draft, token: &Token, record: &FinishRecord) -> Result<VersionNumber> {
    if let Some(number) = record.same_as {
        draft.store().disk().sync_dir(&draft.store().layout().versions(draft.artifact()))?;
        return Ok(number);
    }
    let store = draft.store();
    let made = version_record::read_record(store, draft.artifact(), token)?;
    match txn::help(store, token, &VersionNumbers { store, record: &made })? {
        Place::At(number) => Ok(VersionNumber(number)),
        Place::Refused(_) => {
            Err(Error::damaged(format!("the version of {draft} contradicts its own record: it may not be published")))
        }
    }
}

/// Gives a finished draft's version its number, and its aliases and notes. As long as the token exists these may be
/// missing: any process completes them.
pub(in crate::commit) fn complete(draft: &Draft, token: &Token, record: &FinishRecord) -> Result<VersionNumber> {
    let store = draft.store();
    let number = number_of(draft, token, record)?;
    if txn::read_outcome(store, token)? != Some(Outcome::Committed) {
        return Ok(number);
    }
    let version = version_at(draft, number)?;
    if version.digest() != record.digest {
        return Err(Error::damaged(format!(
            "{draft} came to content with digest {}, {version} has {}",
            record.digest,
            version.digest()
        )));
    }
    // A version that was removed since gets no more annotations.
    if !removal::is_removed(store, draft.artifact(), number)? {
        if let Some(NoteAfter { note, after }) = &record.note {
            note::add_after(&version, note, *after)?;
        }
        for AliasMove { alias, after } in &record.aliases {
            alias::set_after(store, draft.artifact(), alias, *after, number)
                .map_err(|e| e.context(format!("{version} is published, but alias {alias} did not move to it")))?;
        }
    }
    let _ = txn::remove_ended(store, token); // else its owner does, or a collector
    Ok(number)
}

pub(in crate::commit) fn version_at(draft: &Draft, number: VersionNumber) -> Result<Version> {
    let version = Version::read(draft.store(), draft.artifact(), number)?;
    version.ok_or_else(|| Error::damaged(format!("{}:{number}, the version of {draft}, is missing", draft.artifact())))
}
