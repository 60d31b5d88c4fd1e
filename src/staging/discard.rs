//! Discarding the staging directories of runs, and listing those that no draft needs.

use super::holders::{hold, holders, refuse_second_holder};
use super::removal::{discard_files, is_orphan};
use super::seal::Sealer;
use crate::catalog::Draft;
use crate::catalog::stage::{StageInfo, StageRecord, StageState, stages};
use crate::clock;
use crate::commit::refuse_if_finished;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::types::RunId;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A directory in the store's `staging/` that no draft needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leftover {
    /// The run it belongs to; `None` if a crash left a directory without a record.
    pub record: Option<StageRecord>,
    /// Its directory.
    pub directory: PathBuf,
    /// When it was made.
    pub since: String,
}

/// The staging directories of finished drafts, and those that do not belong to a run.
///
/// # Errors
/// I/O.
pub fn leftovers(store: &Store) -> Result<Vec<Leftover>> {
    let mut left = Vec::new();
    for stage in stages(store)? {
        let draft = Draft::new(store, &stage.record.artifact, &stage.record.distributed_id);
        let is_finished = refuse_if_finished(&draft).is_err_and(|e| e.kind() == Kind::Conflict);
        if is_finished && holders(&draft, &stage.record.run.id)?.is_empty() {
            let (directory, since) = (store.layout().stage(stage.token()), stage.record.at.clone());
            left.push(Leftover { record: Some(stage.record), directory, since });
        }
    }
    for name in disk::list(&store.layout().staging())? {
        let directory = store.layout().staging().join(&name);
        let Some(meta) = disk::lstat(&directory)? else { continue };
        if is_orphan(store, &name)? {
            left.push(Leftover { record: None, directory, since: clock::show(meta.mtime()) });
        }
    }
    Ok(left)
}

/// Discards a draft: its contributions, and the staging directories of its runs that are not mounted. Returns the runs
/// whose directories it removed.
///
/// # Errors
/// Not found: the draft has neither. Refused: it is finished, or has only mounted runs, or files of another user.
/// Damaged; I/O.
pub fn discard_draft(draft: &Draft) -> Result<Vec<RunId>> {
    let left = stages_of(draft)?;
    let state = draft.state()?;
    if !state.contributions.is_empty() || state.finish.is_some() || left.is_empty() {
        draft.discard()?;
        // A mounted run can contribute again.
        return discard_stages(draft, left, |e| if e.kind() == Kind::Conflict { Ok(()) } else { Err(e) });
    }
    discard_stages(draft, left, Err)
}

/// Drops the contributions of a run in a draft, and its staging directory if that is not mounted. If the draft is
/// finished, removes only the directory. Returns whether a directory was removed.
///
/// # Errors
/// Not found: the run has neither. Refused: there is only a mounted directory; files of another user. As
/// [`Draft::drop_run`].
pub fn drop_run(draft: &Draft, run: &RunId) -> Result<bool> {
    let mut left = stages_of(draft)?;
    left.retain(|s| s.record.run.id == *run);
    let state = draft.state()?;
    let contributed = state.contributions.iter().any(|c| c.record.run.id == *run);
    if left.is_empty() || (contributed && state.finish.is_none()) {
        draft.drop_run(run)?;
        return Ok(
            !discard_stages(draft, left, |e| if e.kind() == Kind::Conflict { Ok(()) } else { Err(e) })?.is_empty()
        );
    }
    Ok(!discard_stages(draft, left, Err)?.is_empty())
}

fn stages_of(draft: &Draft) -> Result<Vec<StageInfo>> {
    let mut all = stages(draft.store())?;
    all.retain(|s| s.record.artifact == *draft.artifact() && s.record.distributed_id == *draft.id());
    Ok(all)
}

/// Removes these stages; `failed` decides whether an error ends this.
fn discard_stages(draft: &Draft, left: Vec<StageInfo>, failed: impl Fn(Error) -> Result<()>) -> Result<Vec<RunId>> {
    draft.store().check_writable()?;
    let mut discarded = Vec::new();
    for stage in left {
        match discard_stage(draft, &stage) {
            Ok(()) => discarded.push(stage.record.run.id),
            Err(e) => failed(e)?,
        }
    }
    Ok(discarded)
}

fn discard_stage(draft: &Draft, stage: &StageInfo) -> Result<()> {
    let run = &stage.record.run.id;
    let lock = hold(draft, run)?;
    refuse_second_holder(draft, run, &lock)?;
    let sealer = Sealer::of(draft, &stage.record, stage.token());
    sealer.check_owner()?;
    if stage.state == StageState::Sealing {
        sealer.make_harmless()?; // files that are also objects
    }
    discard_files(draft.store(), stage.token())
}
