//! Dropping a run's contributions from a draft, and discarding a draft.

use super::open_drafts::no_draft;
use crate::catalog::draft::{DiscardRecord, Draft, DraftRecord, DropRecord};
use crate::commit::publication::draft_log::{self, TIMEOUT};
use crate::commit::publication::retry_with_recovery;
use crate::disk::ReserveUse;
use crate::error::{Error, Result, show_list};
use crate::lock::{AdvisoryTurn, Purpose};
use crate::txn::{AttemptOutcome, Commit, Txn};
use crate::types::RunId;

impl Draft {
    /// Drops a run's contributions: they no longer count. What it contributes from now on does.
    ///
    /// # Errors
    /// Not found: the run has no contribution that counts. Conflict: the draft is finished or was discarded meanwhile.
    /// Damaged; I/O.
    pub fn drop_run(&self, run: &RunId) -> Result<()> {
        self.record("draft drop", |work| {
            let state = self.state()?;
            if state.last == 0 {
                return Err(no_draft(self)?);
            }
            if !state.contributions.iter().any(|c| c.record.run.id == *run) {
                let runs: Vec<_> = state.runs().into_iter().map(RunId::to_string).collect();
                let hint = if runs.is_empty() {
                    "no run contributed to it".to_owned()
                } else {
                    format!("these runs contributed: {}", show_list(&runs))
                };
                return Err(Error::not_found(format!("{self} has no contribution of run {run}")).with_hint(hint));
            }
            Ok(DraftRecord::Drop(DropRecord {
                head: draft_log::head(self, work, state.last + 1),
                run: run.clone(),
                through: state.last,
            }))
        })
    }

    /// Discards the draft: nothing contributed so far counts, and the id can be used again.
    ///
    /// # Errors
    /// Not found: it has no contribution. Conflict: it is finished. Damaged; I/O.
    pub fn discard(&self) -> Result<()> {
        self.record("draft discard", |work| {
            let state = self.state()?;
            if state.contributions.is_empty() {
                return Err(no_draft(self)?);
            }
            Ok(DraftRecord::Discard(DiscardRecord { head: draft_log::head(self, work, state.last + 1) }))
        })
    }

    /// Appends the record that `decide` makes of what it reads, until it has a number.
    fn record(&self, purpose: &str, decide: impl Fn(&Txn) -> Result<DraftRecord>) -> Result<()> {
        self.store().check_writable()?;
        let _reserve = self.store().disk().use_reserve(ReserveUse::Removal);
        let purpose = Purpose {
            purpose,
            artifact: Some(self.artifact().as_str()),
            draft: Some(self.id().as_str()),
            ..Purpose::default()
        };
        let attempt = || {
            let txn = Txn::begin(self.store(), &purpose, &self.log())?;
            if self.is_finished()? {
                let version = self.version(&self.state()?)?;
                let named = version.map_or("NAME:vN".to_owned(), |number| format!("{}:{number}", self.artifact()));
                return Err(draft_log::finished(self)?.with_hint(format!("`cairn rm {named}` removes the version")));
            }
            let record = decide(&txn)?;
            let durable = draft_log::write(self, txn, &record)?.durable()?;
            let _turn = AdvisoryTurn::shared(&self.log(), TIMEOUT);
            let Commit::Committed(committed) = durable.commit()? else { return Ok(AttemptOutcome::Again) };
            draft_log::appended(self, committed.place()?.end())
        };
        retry_with_recovery(self.store(), self.artifact(), attempt).map(drop)
    }
}
