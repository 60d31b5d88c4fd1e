//! The open contributions of a mount, which an unmount leaves open.

use crate::catalog::Draft;
use crate::catalog::stage::{StageRecord, StageState, stages};
use crate::commit::refuse_if_finished;
use crate::error::{Kind, Result};
use crate::mount::{self, CairnMount};
use crate::staging::{is_held_here, mounted_at};
use crate::store::Store;
use std::path::PathBuf;

/// A contribution that a mount has open.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeftOpen {
    /// The artifact, draft and run.
    pub record: StageRecord,
    /// Where its files are in the store.
    pub directory: PathBuf,
    /// Whether this run alone is mounted there, not a whole store.
    pub is_alone: bool,
    /// Whether its draft is finished, so that no version can contain it.
    pub is_finished: bool,
}

/// The contributions that a mount has open, according to notes in the store; also if its daemon was killed.
///
/// # Errors
/// I/O.
pub fn open_in(mounted: &CairnMount) -> Result<Vec<LeftOpen>> {
    let companions = match mount::companion_of(&mounted.at) {
        Some((companion, _)) => vec![companion],
        None if mounted.is_dead => mount::dead_companions(&mounted.at),
        None => Vec::new(),
    };
    let store = Store::open(&mounted.store)?;
    let mut open = Vec::new();
    for stage in stages(&store)?.into_iter().filter(|s| s.state == StageState::Open) {
        let Some(at) = mounted_at(&store, stage.token())? else { continue };
        let is_alone = at == mounted.at;
        let draft = Draft::new(&store, &stage.record.artifact, &stage.record.distributed_id);
        // A note can be older than the mount that is there now.
        let is_served = || Ok(is_held_here(&draft, &stage.record.run.id)? != mounted.is_dead);
        if (is_alone || companions.iter().any(|companion| at.starts_with(companion))) && is_served()? {
            let is_finished = refuse_if_finished(&draft).is_err_and(|e| e.kind() == Kind::Conflict);
            let directory = store.layout().stage(stage.token());
            open.push(LeftOpen { record: stage.record, directory, is_alone, is_finished });
        }
    }
    Ok(open)
}
