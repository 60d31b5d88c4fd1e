//! A record of a draft's log as an appender reads it that only passes it (L11): the whole record, with its sum, but few
//! of its fields are parsed. With many writers each of them passes the records of all others.

use super::draft::Draft;
use super::numbers::{self, Numbered, unless_exactly, unless_from};
use crate::error::Result;
use crate::txn::claim;
use crate::types::{ArtifactName, DistributedId, Token};
use serde::Deserialize;

/// The fields that are parsed.
#[derive(Deserialize)]
struct PassedRecord {
    record: RecordKind,
    token: String,
    artifact: ArtifactName,
    distributed_id: DistributedId,
    from: u64,
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecordKind {
    Contribution,
    Drop,
    Discard,
    Finish,
}

impl Numbered for PassedRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        match self.record {
            RecordKind::Contribution | RecordKind::Drop => unless_from(self.from, number),
            RecordKind::Discard | RecordKind::Finish => unless_exactly(self.from, number),
        }
    }
}

impl Draft {
    /// [`Draft::read_at`] for an appender that only passes the record.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn pass(&self, number: u64, token: &Token) -> Result<RecordKind> {
        let path = self.log().join(token.record_name());
        let passed: PassedRecord = claim::read_record(&path)?;
        self.check_place(&path, token, (&passed.token, &passed.artifact, &passed.distributed_id))?;
        numbers::check_number(&passed, number, &self.log().join(numbers::record_name(number)))?;
        Ok(passed.record)
    }
}
