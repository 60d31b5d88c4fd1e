//! The record of a version that people and tools read: `version.json`.

use super::numbers::{Numbered, unless_exactly, unless_from};
use super::origin::Origin;
use super::shared::{SharedRecord, SourceRecord};
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, ArtifactType, Digest, DistributedId, RunId, Tag, Token, VersionNumber};
use serde::{Deserialize, Serialize};

/// The run that made a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// The group it belongs to: one experiment, one batch job.
    pub group: Option<String>,
    /// What kind of work it is.
    pub job_type: Option<String>,
}

/// In which of the three ways a version was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// One run added all files.
    Simple,
    /// Several runs contributed parts.
    Collaborative,
    /// A difference on a prior version.
    Patch,
}

impl Mode {
    /// `simple`, `collaborative` or `patch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Simple => "simple",
            Mode::Collaborative => "collaborative",
            Mode::Patch => "patch",
        }
    }
}

/// The content of `version.json`. It does not contain the version's number, which is claimed afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The token under which it was written.
    pub token: String,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The artifact's type.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// The digest of the root node: the same for the same entries (L2).
    pub digest: Digest,
    /// All entries, directories included.
    pub entries: u64,
    /// Files and references among them.
    pub files: u64,
    /// Sum of the files' sizes in bytes.
    pub bytes: u64,
    /// Bytes of content that this version brought into the store.
    pub new_bytes: u64,
    /// When it was committed, by the writer's clock.
    pub created_at: String,
    /// How it was made.
    pub mode: Mode,
    /// Which run made it.
    pub run: Option<RunRecord>,
    /// Who committed it, and where.
    #[serde(flatten)]
    pub origin: Origin,
    /// A text for people.
    pub description: Option<String>,
    /// A JSON object of the user's.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Tags given at the commit.
    pub tags: Vec<Tag>,
    /// The version whose content was patched; none for other modes, and for a patch of an empty version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<VersionNumber>,
    /// Of a collaborative version: the id under which it was made. Its runs are in that draft's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributed_id: Option<DistributedId>,
    /// Of a copy: what it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// What was added from other versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedRecord>,
    /// The number from which the claim walks up.
    pub from: VersionNumber,
    /// Whether `from` is the only number that it may have (L9).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Whether it is published although its content equals that of a version met on the walk.
    pub always_new: bool,
}

impl Numbered for VersionRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        if self.exact { unless_exactly(self.from.0, number) } else { unless_from(self.from.0, number) }
    }
}

/// The `version.json` of a token's version, published or not, checked against its place.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn read_record(store: &Store, name: &ArtifactName, token: &Token) -> Result<VersionRecord> {
    let path = store.layout().versions(name).join(token.record_name()).join("version.json");
    let record: VersionRecord = claim::read_record(&path)?;
    if record.artifact != *name || record.token != token.as_str() {
        return Err(Error::damaged(format!(
            "{} names {} and token {}",
            show_path(&path),
            record.artifact,
            record.token
        )));
    }
    Ok(record)
}

/// The record of the version that has claimed `number`, and its token; `None` when that number was never claimed.
///
/// # Errors
/// Damaged; I/O.
pub(super) fn read_record_at(
    store: &Store,
    name: &ArtifactName,
    number: VersionNumber,
) -> Result<Option<(Token, VersionRecord)>> {
    let Some(token) = claim::holder(&store.layout().version(name, number))? else { return Ok(None) };
    let record = read_record(store, name, &token)?;
    Ok(Some((token, record)))
}
