//! Stages: the staging directories in the store, and whose they are. (`staging` works with them.)

use super::draft::Draft;
use super::version_record::RunRecord;
use crate::disk;
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, ArtifactType, DistributedId, RunId, Token};
use serde::{Deserialize, Serialize};

/// `staging/T.json`: which run's stage it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage: the name of its directory.
    pub stage: String,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The draft.
    pub distributed_id: DistributedId,
    /// The run.
    pub run: RunRecord,
    /// The artifact's type, if the run gave one.
    #[serde(rename = "type")]
    pub kind: Option<ArtifactType>,
    /// When it was made, by the maker's clock.
    pub at: String,
}

/// A stage in the store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageInfo {
    /// Its record.
    pub record: StageRecord,
    /// Its state.
    pub state: StageState,
    token: Token,
}

/// The state of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageState {
    /// It takes writes.
    Open,
    /// A process began to seal it.
    Sealing,
    /// A process began to discard it.
    Dropped,
}

/// The marker's content for a stage that is discarded.
pub const DROPPED: &[u8] = b"dropped\n";
/// The longest marker, in bytes: it has a token for each attempt to record the stage.
const MARKER_MAX: u64 = 1 << 16;

impl StageInfo {
    /// The stage.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Whether it belongs to this run of this draft.
    pub fn is_of(&self, draft: &Draft, run: &RunId) -> bool {
        (&self.record.artifact, &self.record.distributed_id, &self.record.run.id) == (draft.artifact(), draft.id(), run)
    }
}

/// All stages, oldest first. A stage without a whole record belongs to no run, and is omitted.
///
/// # Errors
/// I/O.
pub fn stages(store: &Store) -> Result<Vec<StageInfo>> {
    let mut out = Vec::new();
    for name in disk::list(&store.layout().staging())? {
        let Some(token) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(Token::of_text) else {
            continue;
        };
        let record: StageRecord = match claim::read_record(&store.layout().stage_record(&token)) {
            Err(e) if e.kind() == Kind::Damaged => continue,
            other => other?,
        };
        let marker = store.layout().stage_sealing(&token);
        let state = match disk::lstat_revalidated(&marker)? {
            None => StageState::Open,
            Some(_) if disk::read_small(&marker, MARKER_MAX)?.as_deref() == Some(DROPPED) => StageState::Dropped,
            Some(_) => StageState::Sealing,
        };
        out.push(StageInfo { record, state, token });
    }
    out.sort_by(|a, b| (&a.record.at, &a.token).cmp(&(&b.record.at, &b.token)));
    Ok(out)
}
