//! Appending to a draft's log (L11), and the two ways back: a run's part taken out, the draft given up.

use crate::catalog::artifact::{check_type, ensure, ensure_dir};
use crate::catalog::draft::{Draft, DraftRecord, Head};
use crate::catalog::numbers;
use crate::clock;
use crate::disk::NewFile;
use crate::error::{Detail, Error, Result};
use crate::record;
use crate::txn::claim::{self, Claimed};
use crate::txn::{Outcome, Txn};
use crate::types::{ArtifactType, Token, VersionNumber};
use std::path::Path;
use std::time::Duration;

/// How long appenders wait for a finisher, and finishers for each other, before they go on beside them.
pub(in crate::commit) const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a committed record came to stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::commit) enum Placed {
    /// At this number.
    At(u64),
    /// Nowhere: it met the finish.
    Finished,
    /// Nowhere: it met a discard that it did not know of.
    Discarded,
    /// Nowhere: the one number that it may have is another's.
    Taken,
}

/// Step 6 for a record of a log: contributions and drops walk up from the number in the record, past what they have
/// read; a finish or a discard on the way ends it. A finish and a discard have one number only, after all that they
/// have read.
pub(in crate::commit) fn place(draft: &Draft, token: &Token, record: &DraftRecord) -> Result<Placed> {
    let dir = draft.log();
    let exact = matches!(record, DraftRecord::Discard(_) | DraftRecord::Finish(_));
    let mut number = record.head().from;
    loop {
        let Claimed::Other(other) = claim::claim(draft.store(), &dir.join(numbers::record_name(number)), token)? else {
            return Ok(Placed::At(number));
        };
        match draft.read_at(number, &other)? {
            DraftRecord::Finish(_) => return Ok(Placed::Finished),
            _ if exact => return Ok(Placed::Taken),
            DraftRecord::Discard(_) => return Ok(Placed::Discarded),
            DraftRecord::Contribution(_) | DraftRecord::Drop(_) => number += 1,
        }
    }
}

/// The first fields of a record that is to stand at `from` or above.
pub(in crate::commit) fn head(draft: &Draft, work: &Txn, from: u64) -> Head {
    Head {
        token: work.token().to_string(),
        artifact: draft.artifact().clone(),
        distributed_id: draft.id().clone(),
        from,
        at: clock::now(),
    }
}

/// The artifact's type, when it and the log's directory are there, durably. Whoever stands at a number has seen to that
/// before.
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

/// Step 3: the record, whole, where its number will stand. Not yet durable.
pub(in crate::commit) fn write(draft: &Draft, work: &Txn, record: &DraftRecord) -> Result<NewFile> {
    draft.store().disk().write_file(draft.log().join(work.token().record_name()), &record::encode(record)?)
}

/// Steps 5 to 7 for a record that is durable: commit, claim, sync. `None` when the token was fenced. What cannot be
/// published is dropped, and the version's directory `with` it. The token is ended, but for that of a finish, whose
/// version comes after.
pub(in crate::commit) fn append(
    draft: &Draft,
    mut work: Txn,
    record: &DraftRecord,
    with: Option<&Path>,
) -> Result<Option<(Placed, Option<Txn>)>> {
    let disk = draft.store().disk();
    let path = draft.log().join(work.token().record_name());
    // Its owner drops it, or a collector.
    let drop_it = || {
        let _ = disk.remove_file(&path);
        let _ = with.map(|dir| disk.remove_tree(dir));
    };
    let token = work.token().clone();
    let numbers = (record.head().from..).map(|n| draft.log().join(numbers::record_name(n)));
    match work.commit(|| claim::is_claimed(&token, numbers))? {
        Outcome::Committed => {}
        Outcome::Fenced => {
            drop_it();
            return Ok(None);
        }
        Outcome::Revoked => return Ok(None),
    }
    let placed = place(draft, &token, record)?;
    let Placed::At(_) = placed else {
        drop_it();
        return Ok(Some((placed, Some(work))));
    };
    disk.sync_dir(&draft.log()).map_err(|e| {
        e.context("it is recorded, but may not outlast a loss of power")
            .with_hint("look at the disk and the kernel's log, then say it again")
    })?;
    if matches!(record, DraftRecord::Finish(_)) {
        return Ok(Some((placed, Some(work))));
    }
    work.end();
    Ok(Some((placed, None)))
}

/// The error for a draft that has come to its end.
pub(in crate::commit) fn finished(draft: &Draft) -> Result<Error> {
    let version = draft.version(&draft.state()?)?;
    let shown = version.map(|number| format!(" as {}:{number}", draft.artifact())).unwrap_or_default();
    Ok(Error::conflict(format!("{draft} is finished{shown}"))
        .with_detail(is_finished(draft, version))
        .with_hint("a finished id stays closed for ever: choose another"))
}

pub(in crate::commit) fn is_finished(draft: &Draft, version: Option<VersionNumber>) -> Detail {
    Detail::Finished { artifact: draft.artifact().clone(), distributed_id: draft.id().clone(), version }
}

/// The error for a draft that was given up under an appender.
pub(in crate::commit) fn discarded(draft: &Draft) -> Error {
    Error::conflict(format!("{draft} was discarded meanwhile: nothing was recorded"))
        .with_hint("say it again to begin anew under the same id")
}
