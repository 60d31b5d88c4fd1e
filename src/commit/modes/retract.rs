//! The two ways back of a draft: a run's contributions dropped, the draft discarded.

use super::open_drafts::no_draft;
use crate::catalog::draft::{DiscardRecord, Draft, DraftRecord, DropRecord};
use crate::commit::publication::draft_log::{self, Placed, TIMEOUT};
use crate::commit::publication::recover;
use crate::error::{Error, Result, show_list};
use crate::lock::{AdvisoryTurn, Purpose};
use crate::txn::Txn;
use crate::types::RunId;

impl Draft {
    /// Takes a run's contributions out: they don't count any more. What it contributes from now on does.
    ///
    /// # Errors
    /// Not found: the run has none that count. Refused: the draft is finished or was discarded meanwhile. Damaged; I/O.
    pub fn drop_run(&self, run: &RunId) -> Result<()> {
        self.record("draft drop", |work| {
            let state = self.state()?;
            if state.last == 0 {
                return Err(no_draft(self)?);
            }
            if !state.contributions.iter().any(|c| c.record.run.id == *run) {
                let runs: Vec<_> = state.runs().into_iter().map(RunId::to_string).collect();
                let hint = if runs.is_empty() {
                    "nobody contributed to it".to_owned()
                } else {
                    format!("contributions are there of {}", show_list(&runs))
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

    /// Gives the draft up: nothing contributed so far counts, and the id can begin again.
    ///
    /// # Errors
    /// Not found: nothing is there to be given up. Refused: it is finished. Damaged; I/O.
    pub fn discard(&self) -> Result<()> {
        self.record("draft discard", |work| {
            let state = self.state()?;
            if state.last == 0 {
                return Err(no_draft(self)?);
            }
            if state.contributions.is_empty() {
                return Err(Error::not_found(format!("{self} has nothing in it"))
                    .with_hint(format!("`cairn drafts {}` lists those that have", self.artifact())));
            }
            Ok(DraftRecord::Discard(DiscardRecord { head: draft_log::head(self, work, state.last + 1) }))
        })
    }

    /// Appends the record that `decide` makes of what it reads, until it stands.
    fn record(&self, purpose: &str, decide: impl Fn(&Txn) -> Result<DraftRecord>) -> Result<()> {
        self.store().check_writable()?;
        loop {
            recover(self.store(), self.artifact())?;
            let purpose = Purpose {
                purpose,
                artifact: Some(self.artifact().as_str()),
                draft: Some(self.id().as_str()),
                ..Purpose::default()
            };
            let work = Txn::begin(self.store(), &purpose, &self.log())?;
            if let (_, Some(DraftRecord::Finish(_))) = self.last()? {
                return Err(draft_log::finished(self)?);
            }
            let record = decide(&work)?;
            let file = draft_log::write(self, &work, &record)?;
            self.store().disk().publish_barrier(None).record(&file)?;
            let _turn = AdvisoryTurn::shared(&self.log(), TIMEOUT);
            match draft_log::append(self, work, &record, None)? {
                Some((Placed::At(_), _)) => return Ok(()),
                Some((Placed::Finished, work)) => {
                    if let Some(work) = work {
                        work.end();
                    }
                    return Err(draft_log::finished(self)?);
                }
                Some((Placed::Discarded, work)) => {
                    if let Some(work) = work {
                        work.end();
                    }
                    return Err(draft_log::discarded(self));
                }
                Some((Placed::Taken, work)) => drop(work.map(Txn::end)),
                None => {}
            }
        }
    }
}
