//! Which stages there are.

use super::StageRecord;
use crate::catalog::draft::Draft;
use crate::disk;
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::words::{RunId, Token};
use crate::work::claim;

/// A stage as it lies in the store.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// Whose it is.
    pub record: StageRecord,
    /// Whether somebody began to seal it.
    pub sealing: bool,
    token: Token,
}

impl StageInfo {
    /// The stage.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Whether it is this run's, in this draft.
    pub fn is_of(&self, draft: &Draft, run: &RunId) -> bool {
        (&self.record.artifact, &self.record.distributed_id, &self.record.run.id) == (draft.artifact(), draft.id(), run)
    }
}

/// All stages, oldest first. One whose record was never whole is nobody's, and is left out.
///
/// # Errors
/// I/O.
pub fn list(store: &Store) -> Result<Vec<StageInfo>> {
    let mut out = Vec::new();
    for name in disk::list(&store.layout().staging())? {
        let Some(token) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(Token::from_text) else { continue };
        let record: StageRecord = match claim::read_record(&store.layout().stage_record(&token)) {
            Err(e) if e.kind() == Kind::Damaged => continue,
            other => other?,
        };
        let sealing = disk::look_fresh(&store.layout().stage_sealing(&token))?.is_some();
        out.push(StageInfo { record, sealing, token });
    }
    out.sort_by(|a, b| (&a.record.at, &a.token).cmp(&(&b.record.at, &b.token)));
    Ok(out)
}
