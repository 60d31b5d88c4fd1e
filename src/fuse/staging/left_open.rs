//! Which contributions a mount has open: what an unmount leaves.

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
pub struct LeftOpen {
    /// Whose it is.
    pub record: StageRecord,
    /// Where its files are in the store.
    pub directory: PathBuf,
    /// Whether it is what is mounted there, not one of a whole store's.
    pub is_alone: bool,
    /// Whether its draft is finished, so that it can come into no version.
    pub is_finished: bool,
}

/// The contributions that a mount has open, also if its daemon was killed, as notes in the store say.
///
/// # Errors
/// I/O.
pub fn open_in(mounted: &CairnMount) -> Result<Vec<LeftOpen>> {
    let seconds = match mount::companion_of(&mounted.at) {
        Some((second, _)) => vec![second],
        None if mounted.is_dead => mount::dead_companions(&mounted.at),
        None => Vec::new(),
    };
    let store = Store::open(&mounted.store)?;
    let mut open = Vec::new();
    for stage in stages(&store)?.into_iter().filter(|s| s.state == StageState::Open) {
        let Some(at) = mounted_at(&store, stage.token())? else { continue };
        let is_alone = at == mounted.at;
        let draft = Draft::new(&store, &stage.record.artifact, &stage.record.distributed_id);
        // A note can be older than what is mounted there now.
        let is_served = || Ok(is_held_here(&draft, &stage.record.run.id)? != mounted.is_dead);
        if (is_alone || seconds.iter().any(|second| at.starts_with(second))) && is_served()? {
            let is_finished = refuse_if_finished(&draft).is_err_and(|e| e.kind() == Kind::Conflict);
            let directory = store.layout().stage(stage.token());
            open.push(LeftOpen { record: stage.record, directory, is_alone, is_finished });
        }
    }
    Ok(open)
}
