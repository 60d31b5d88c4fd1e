//! Drafts: collaborative versions in the making, each a numbered log of records. The log is the order (L11).
//!
//! A record is appended by the claim of a number, after everything below that number was read. After a finish no number
//! can be taken, so if the last record is not a finish, there is none. What counts is a function of the records alone:
//! [`DraftState`].

use super::note::{Metadata, Note};
use super::numbers::{self, Numbered, unless_exactly, unless_from};
use super::origin::Origin;
use super::shared::SharedRecord;
use super::version_record::RunRecord;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::manifest::{NodeRef, Tree};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{AliasName, ArtifactName, ArtifactType, Digest, DistributedId, RunId, Tag, Token, VersionNumber};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One record of a draft's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum DraftRecord {
    /// A run's part.
    Contribution(Box<ContributionRecord>),
    /// A run's contributions so far no longer count.
    Drop(DropRecord),
    /// No contribution so far counts; the log continues.
    Discard(DiscardRecord),
    /// The end: one version. The draft stays closed.
    Finish(Box<FinishRecord>),
}

/// The fields that every record begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The token under which it was written.
    pub token: String,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The draft's id. (The name of its directory can be an encoding of it.)
    pub distributed_id: DistributedId,
    /// The number from which the claim walks up; of a discard and a finish, the only one it may have.
    pub from: u64,
    /// When it was written, by the writer's clock.
    pub at: String,
    /// Who wrote it, and where. Of a contribution: who ran the upsert, or owned the staging directory. Records of older
    /// releases have no host, and of records other than contributions no user.
    #[serde(flatten)]
    pub origin: Origin,
}

/// A run's part: what it adds, as a manifest of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContributionRecord {
    /// The common fields.
    #[serde(flatten)]
    pub head: Head,
    /// The run.
    pub run: RunRecord,
    /// Whether it replaces the run's earlier ones. Else it overrides them path by path.
    pub replace: bool,
    /// The artifact's type.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// The root node of its manifest.
    pub root: RootRecord,
    /// The packs that hold its nodes.
    pub packs: Vec<Digest>,
    /// All entries, directories included.
    pub entries: u64,
    /// Files and references.
    pub files: u64,
    /// Sum of the files' sizes in bytes.
    pub bytes: u64,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
    /// A text for people; the last one counts.
    pub description: Option<String>,
    /// A JSON object of the user's; keys unite, the last value of each counts.
    pub metadata: Metadata,
    /// Tags for the version.
    pub tags: Vec<Tag>,
    /// Aliases for the version.
    pub aliases: Vec<AliasName>,
    /// What was added from other versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedRecord>,
}

/// A root node, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// Its digest.
    pub digest: Digest,
    /// The pack it lies in.
    pub pack: Digest,
    /// The offset of its header there.
    pub offset: u32,
}

/// That a run's contributions don't count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRecord {
    /// The common fields.
    #[serde(flatten)]
    pub head: Head,
    /// The run that is dropped.
    pub run: RunId,
    /// Contributions up to this number of the log are dropped. Later ones were not known, and count.
    pub through: u64,
}

/// That nothing so far counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardRecord {
    /// The common fields.
    #[serde(flatten)]
    pub head: Head,
}

/// The end of a draft. The version is the one that was written under the same token, or `same_as`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishRecord {
    /// The common fields.
    #[serde(flatten)]
    pub head: Head,
    /// The run that finished.
    pub run: Option<RunRecord>,
    /// The digest of what was merged.
    pub digest: Digest,
    /// What was done about conflicts.
    pub on_conflict: OnConflict,
    /// How many files the finisher added itself, after all contributions.
    pub own_files: u64,
    /// The newest version that it was compared with.
    pub compared_with: Option<VersionNumber>,
    /// That version, if it has the same content: the draft then makes no other version.
    pub same_as: Option<VersionNumber>,
    /// Aliases for the version, each with the last number of its log: only the next number moves it, so a process that
    /// completes a finish late undoes nothing.
    pub aliases: Vec<AliasMove>,
    /// Annotations for a version that existed already, with the last number of its notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<NoteAfter>,
}

/// An alias that is to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasMove {
    /// Which.
    pub alias: AliasName,
    /// The last number of its log when this was written.
    pub after: u64,
}

/// A note that is to be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteAfter {
    /// What it says.
    pub note: Note,
    /// The last number of the version's notes when this was written.
    pub after: u64,
}

/// What a finish does when runs have different entries at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnConflict {
    /// Nothing; the draft stays open.
    #[default]
    Refuse,
    /// Takes the entry that was appended last.
    Latest,
}

impl DraftRecord {
    /// What every record begins with.
    pub fn head(&self) -> &Head {
        match self {
            DraftRecord::Contribution(r) => &r.head,
            DraftRecord::Drop(r) => &r.head,
            DraftRecord::Discard(r) => &r.head,
            DraftRecord::Finish(r) => &r.head,
        }
    }
}

impl Numbered for DraftRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        match self {
            DraftRecord::Contribution(_) | DraftRecord::Drop(_) => unless_from(self.head().from, number),
            DraftRecord::Discard(_) | DraftRecord::Finish(_) => unless_exactly(self.head().from, number),
        }
    }
}

/// A contribution that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Its number in the log.
    pub number: u64,
    /// What it says.
    pub record: Box<ContributionRecord>,
}

impl Contribution {
    /// Its entries.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn tree(&self, store: &Store) -> Result<Tree> {
        let RootRecord { digest, pack, offset } = self.record.root;
        let at = NodeRef { digest, place: Some(store.objects().place_of(&pack, offset)) };
        Tree::open(at, store.objects().clone())
    }
}

/// What a draft's log adds up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DraftState {
    /// The contributions that count, in the order of the log.
    pub contributions: Vec<Contribution>,
    /// The highest number.
    pub last: u64,
    /// The finish, and its token.
    pub finish: Option<(Token, Box<FinishRecord>)>,
}

impl DraftState {
    /// The runs that count, in the order in which they first contributed.
    pub fn runs(&self) -> Vec<&RunId> {
        let mut seen = std::collections::HashSet::new();
        self.contributions.iter().map(|c| &c.record.run.id).filter(|run| seen.insert(*run)).collect()
    }

    /// Whether there is something to finish.
    pub fn is_open(&self) -> bool {
        self.finish.is_none() && !self.contributions.is_empty()
    }

    fn take(&mut self, number: u64, token: Token, record: DraftRecord) {
        match record {
            DraftRecord::Contribution(record) => {
                if record.replace {
                    self.contributions.retain(|c| c.record.run.id != record.run.id);
                }
                self.contributions.push(Contribution { number, record });
            }
            DraftRecord::Drop(DropRecord { run, through, .. }) => {
                self.contributions.retain(|c| c.record.run.id != run || c.number > through)
            }
            DraftRecord::Discard(_) => self.contributions.clear(),
            DraftRecord::Finish(record) => self.finish = Some((token, record)),
        }
        self.last = number;
    }
}

/// One collaborative version by its id.
#[derive(Clone)]
pub struct Draft {
    store: Store,
    name: ArtifactName,
    id: DistributedId,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "draft {} of {}", self.id, self.name)
    }
}

impl Draft {
    /// The draft with that id, whether anything was contributed yet or not.
    pub fn new(store: &Store, name: &ArtifactName, id: &DistributedId) -> Draft {
        Draft { store: store.clone(), name: name.clone(), id: id.clone() }
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The artifact.
    pub fn artifact(&self) -> &ArtifactName {
        &self.name
    }

    /// The distributed id.
    pub fn id(&self) -> &DistributedId {
        &self.id
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.store.layout().draft_log(&self.name, &self.id)
    }

    /// Reads the log to its end, with revalidated lookups, and returns what it adds up to.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn state(&self) -> Result<DraftState> {
        self.state_from(DraftState::default())
    }

    /// [`Draft::state`], where `state` is what it was earlier: only what came after that is read.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn state_from(&self, mut state: DraftState) -> Result<DraftState> {
        let dir = self.log();
        loop {
            while let Some(token) = claim::holder(&dir.join(numbers::record_name(state.last + 1)))? {
                if state.finish.is_some() {
                    return Err(Error::damaged(format!(
                        "{}: number {} comes after the finish",
                        show_path(&dir),
                        state.last + 1
                    )));
                }
                let record = self.read_at(state.last + 1, &token)?;
                state.take(state.last + 1, token, record);
            }
            // The log ends where nothing comes after, not where one number cannot be seen (L10).
            let listed = numbers::last_record(&dir)?;
            if listed <= state.last {
                return Ok(state);
            }
            let next = dir.join(numbers::record_name(state.last + 1));
            claim::retry_until_consistent(&next, || {
                claim::holder(&next)?.ok_or_else(|| {
                    Error::damaged(format!("{} is missing, and number {listed} exists", show_path(&next)))
                })
            })?;
        }
    }

    /// The last record and its number; 0 and none where there is no record yet.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn last(&self) -> Result<(u64, Option<DraftRecord>)> {
        let dir = self.log();
        let last = numbers::highest_record(&dir)?;
        if last == 0 {
            return Ok((0, None));
        }
        let path = dir.join(numbers::record_name(last));
        let token = claim::holder(&path)?.ok_or_else(|| Error::damaged(format!("{} vanished", show_path(&path))))?;
        Ok((last, Some(self.read_at(last, &token)?)))
    }

    /// Whether it is finished. Reads its last record alone.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn is_finished(&self) -> Result<bool> {
        Ok(matches!(self.last()?, (_, Some(DraftRecord::Finish(_)))))
    }

    /// The record whose token is at a number, compared with that number.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn read_at(&self, number: u64, token: &Token) -> Result<DraftRecord> {
        let record = self.read(token)?;
        numbers::check_number(&record, number, &self.log().join(numbers::record_name(number)))?;
        Ok(record)
    }

    /// A record by its token, published or not, checked against its place.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn read(&self, token: &Token) -> Result<DraftRecord> {
        let path = self.log().join(token.record_name());
        let record: DraftRecord = claim::read_record(&path)?;
        let Head { token: named, artifact, distributed_id, .. } = record.head();
        self.check_place(&path, token, (named, artifact, distributed_id))?;
        Ok(record)
    }

    /// Compares what a record says of itself with its place.
    pub(super) fn check_place(
        &self,
        path: &Path,
        token: &Token,
        (named, artifact, id): (&String, &ArtifactName, &DistributedId),
    ) -> Result<()> {
        if (named.as_str(), artifact, id) == (token.as_str(), &self.name, &self.id) {
            return Ok(());
        }
        let path = show_path(path);
        Err(Error::damaged(format!("{path} names draft {id} of {artifact} and token {named}")))
    }
}

/// The drafts of an artifact, finished ones too; an error, which names it, for each whose id cannot be read.
///
/// # Errors
/// I/O.
pub fn all(store: &Store, name: &ArtifactName) -> Result<Vec<Result<Draft>>> {
    let dir = store.layout().drafts(name);
    let each = disk::list(&dir)?.into_iter().filter_map(|entry| {
        let id = id_of(&dir.join(&entry).join("log")).transpose()?;
        let damaged =
            |e: Error| e.context(format!("the draft of {name} in {} cannot be read", show_path(&dir.join(&entry))));
        Some(id.map(|id| Draft::new(store, name, &id)).map_err(damaged))
    });
    Ok(each.collect())
}

/// The id of a draft, from its log: the directory's name need not contain it. `None` while nothing is recorded.
fn id_of(log: &Path) -> Result<Option<DistributedId>> {
    let Some(token) = claim::holder(&log.join(numbers::record_name(1)))? else { return Ok(None) };
    let record: DraftRecord = claim::read_record(&log.join(token.record_name()))?;
    Ok(Some(record.head().distributed_id.clone()))
}
