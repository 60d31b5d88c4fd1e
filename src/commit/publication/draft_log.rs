//! Appending to a draft's log (L11).

use crate::catalog::artifact::{check_type, ensure, ensure_dir};
use crate::catalog::draft::{Draft, DraftRecord, Head};
use crate::catalog::numbers;
use crate::catalog::origin::Origin;
use crate::catalog::passed_record::RecordKind;
use crate::clock;
use crate::error::{Detail, Error, Result};
use crate::record;
use crate::txn::{AttemptOutcome, Numbers, Pass, Place, Prepared, Txn};
use crate::types::{ArtifactType, Token, VersionNumber};
use std::path::PathBuf;
use std::time::Duration;

/// How long appenders wait for a finisher, and finishers for each other, before they continue concurrently.
pub(in crate::commit) const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a record of a draft's log gets no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::commit) enum DraftLogRefusal {
    /// The draft was finished meanwhile.
    Finished,
    /// The draft was discarded meanwhile.
    Discarded,
    /// The one number that it may have belongs to another record.
    Taken,
}

/// The numbers of a draft's log, for one record. Contributions and drops walk up from the number in the record, past
/// what they have read; a finish or a discard on the way ends the walk. A finish and a discard have one number only,
/// after all that they have read.
pub(in crate::commit) struct LogNumbers<'a> {
    pub(in crate::commit) draft: &'a Draft,
    pub(in crate::commit) record: &'a DraftRecord,
}

impl Numbers for LogNumbers<'_> {
    type Refusal = DraftLogRefusal;

    const RELIES_ON_WINNER: bool = false;

    fn done(&self) -> &'static str {
        "it is recorded"
    }

    fn dir(&self) -> PathBuf {
        self.draft.log()
    }

    fn first(&self) -> u64 {
        self.record.head().from
    }

    fn is_exact(&self) -> bool {
        matches!(self.record, DraftRecord::Discard(_) | DraftRecord::Finish(_))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.draft.log().join(numbers::record_name(number))
    }

    fn passed(&self, number: u64, other: &Token) -> Result<Pass<DraftLogRefusal>> {
        Ok(match self.draft.pass(number, other)? {
            RecordKind::Finish => Pass::Refused(DraftLogRefusal::Finished),
            _ if self.is_exact() => Pass::Refused(DraftLogRefusal::Taken),
            RecordKind::Discard => Pass::Refused(DraftLogRefusal::Discarded),
            RecordKind::Contribution | RecordKind::Drop => Pass::Next,
        })
    }
}

/// The first fields of a record that will have the number `from` or a higher one.
pub(in crate::commit) fn head(draft: &Draft, work: &Txn, from: u64) -> Head {
    Head {
        token: work.token().to_string(),
        artifact: draft.artifact().clone(),
        distributed_id: draft.id().clone(),
        from,
        at: clock::now(),
        origin: Origin::here(),
    }
}

/// The artifact's type; the artifact and the log's directory exist then, durably. If the log has a number (`last`), its
/// writer has done that.
pub(in crate::commit) fn prepare(draft: &Draft, last: u64, wanted: Option<&ArtifactType>) -> Result<ArtifactType> {
    let (store, name) = (draft.store(), draft.artifact());
    if last > 0
        && let Some(kind) = check_type(store, name, wanted)?
    {
        return Ok(kind);
    }
    let kind = ensure(store, name, wanted)?;
    ensure_dir(store, &draft.log())?;
    Ok(kind)
}

/// Writes a record, whole, where its number will be. Not yet durable.
pub(in crate::commit) fn write<'a>(
    draft: &'a Draft,
    txn: Txn,
    record: &'a DraftRecord,
) -> Result<Prepared<LogNumbers<'a>>> {
    Prepared::one_file(draft.store(), txn, LogNumbers { draft, record }, &record::encode(record)?)
}

/// What came of a record that was appended, or was not.
pub(in crate::commit) fn appended(draft: &Draft, place: Place<DraftLogRefusal>) -> Result<AttemptOutcome<u64>> {
    match place {
        Place::At(number) => Ok(AttemptOutcome::Done(number)),
        Place::Refused(DraftLogRefusal::Taken) => Ok(AttemptOutcome::Again),
        Place::Refused(DraftLogRefusal::Finished) => Err(finished(draft)?),
        Place::Refused(DraftLogRefusal::Discarded) => Err(discarded(draft)),
    }
}

/// The error for a finished draft.
pub(in crate::commit) fn finished(draft: &Draft) -> Result<Error> {
    let version = draft.version(&draft.state()?)?;
    let shown = version.map(|number| format!(" as {}:{number}", draft.artifact())).unwrap_or_default();
    Ok(Error::conflict(format!("{draft} is finished{shown}"))
        .with_detail(is_finished(draft, version))
        .with_hint("a finished id stays closed: choose another"))
}

/// What an error tells programs about a finished draft.
pub(in crate::commit) fn is_finished(draft: &Draft, version: Option<VersionNumber>) -> Detail {
    Detail::Finished { artifact: draft.artifact().clone(), distributed_id: draft.id().clone(), version }
}

/// The error for a draft that was discarded while a record was written.
fn discarded(draft: &Draft) -> Error {
    Error::conflict(format!("{draft} was discarded meanwhile: nothing was recorded"))
        .with_hint("run the command again to start a new draft with the same id")
}
