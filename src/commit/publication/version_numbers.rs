//! The numbers of versions: which one a committed version gets.

use crate::catalog::{Mode, VersionRecord, numbers, version_record};
use crate::error::Result;
use crate::store::Store;
use crate::txn::{Numbers, Pass};
use crate::types::{Token, VersionNumber};
use std::path::PathBuf;

/// Why a version gets no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::commit) enum VersionRefusal {
    /// This version, found on the way up, has the same content.
    SameAs(VersionNumber),
    /// The one number that it may have belongs to another version.
    Taken,
}

/// The numbers of an artifact's versions, for one record. It walks up from the number in the record, past what it has
/// read; an exact record has one number only (L9).
pub(in crate::commit) struct VersionNumbers<'a> {
    pub(in crate::commit) store: &'a Store,
    pub(in crate::commit) record: &'a VersionRecord,
}

impl Numbers for VersionNumbers<'_> {
    type Refusal = VersionRefusal;

    /// The version that took the number is the answer, or the next attempt is rebased on it.
    const RELIES_ON_WINNER: bool = true;

    fn dir(&self) -> PathBuf {
        self.store.layout().versions(&self.record.artifact)
    }

    fn first(&self) -> u64 {
        self.record.from.0
    }

    fn is_exact(&self) -> bool {
        self.record.exact
    }

    fn path(&self, number: u64) -> PathBuf {
        self.store.layout().version(&self.record.artifact, VersionNumber(number))
    }

    fn passed(&self, number: u64, other: &Token) -> Result<Pass<VersionRefusal>> {
        if self.record.exact {
            return Ok(Pass::Refused(VersionRefusal::Taken));
        }
        // A walk that does not depend on content needs the token alone: it passes a damaged record.
        if self.record.mode == Mode::Simple && !self.record.always_new {
            let other = version_record::read_record(self.store, &self.record.artifact, other)?;
            numbers::check_number(&other, number, &self.path(number))?;
            if other.digest == self.record.digest {
                return Ok(Pass::Refused(VersionRefusal::SameAs(VersionNumber(number))));
            }
        }
        Ok(Pass::Next)
    }
}
