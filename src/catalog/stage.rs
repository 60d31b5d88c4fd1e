//! Stages: whose staging directories lie in the store. (What is done with one: `staging`.)

use super::draft::Draft;
use super::version::RunRecord;
use crate::disk;
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, ArtifactType, DistributedId, RunId, Token};
use serde::{Deserialize, Serialize};

/// `staging/T.json`: whose stage it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage, as its directory is called.
    pub stage: String,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The draft.
    pub distributed_id: DistributedId,
    /// The run.
    pub run: RunRecord,
    /// The artifact's type, if the run said it.
    #[serde(rename = "type")]
    pub kind: Option<ArtifactType>,
    /// When it was made, by the maker's clock.
    pub at: String,
}

/// A stage as it lies in the store.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// Whose it is.
    pub record: StageRecord,
    /// What is being done with it.
    pub state: StageState,
    token: Token,
}

/// What is being done with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    /// It takes writes.
    Open,
    /// Somebody began to seal it.
    Sealing,
    /// Somebody began to throw it away.
    Dropped,
}

/// What the marker says of a stage that is thrown away.
pub const DROPPED: &[u8] = b"dropped\n";
/// A marker holds a token for each time that its stage was about to be recorded.
const MARKER_MAX: u64 = 1 << 16;

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
