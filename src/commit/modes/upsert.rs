//! A run's contribution to a draft: stored and recorded like a version, but in the draft's log.

use super::put::build_nodes;
use crate::catalog::artifact as catalog_artifact;
use crate::catalog::draft::{ContributionRecord, Draft, DraftRecord, RootRecord};
use crate::catalog::origin::UserRecord;
use crate::catalog::{RunRecord, numbers};
use crate::commit::artifact::{Artifact, collect_or_keep};
use crate::commit::content_writer::content_writer;
use crate::commit::publication::draft_log::{self, TIMEOUT};
use crate::commit::publication::{recover, recover_abandoned};
use crate::disk;
use crate::error::{Detail, Error, Result};
use crate::lock::{self, AdvisoryTurn, LockRecord, Purpose};
use crate::manifest::RootNode;
use crate::objects::{Leases, OtherNames};
use crate::progress::Progress;
use crate::setters::setters;
use crate::store::Store;
use crate::txn::{self, AttemptOutcome, Commit, Txn, claim};
use crate::types::{RunId, Token};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The purposes in the lock files of processes that write to a draft.
pub(in crate::commit) const WRITING: [&str; 2] = ["upsert", "stage"];

/// How a contribution is made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct UpsertOptions {
    /// Replace the run's earlier contributions. Without this they are overridden path by path.
    pub replace: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
    /// For a stage that is sealed.
    pub(crate) sealing: Option<Sealing>,
}

setters! {
    UpsertOptions {
        replace: bool,
        progress: Arc<Progress>,
    }
}

/// The stage that an upsert seals.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The leases that protect its large files while the store adopts them.
    pub leases: Arc<Leases>,
    /// The stage's marker: the contribution's token is written there before it is committed, so that a stage is
    /// contributed once.
    pub marker: PathBuf,
    /// The user who owns it.
    pub owner: u32,
}

/// A contribution that was recorded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upserted {
    /// The draft it belongs to.
    pub draft: Draft,
    /// The run.
    pub run: RunId,
    /// Its number in the draft's log.
    pub number: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
}

/// Records what `artifact` holds as a contribution of `run`.
pub(in crate::commit) fn upsert(
    draft: &Draft,
    run: &RunRecord,
    artifact: &Artifact,
    options: &UpsertOptions,
) -> Result<Upserted> {
    let store = draft.store();
    check(draft, artifact)?;
    // What this run committed before and did not live to claim comes first: its later contribution is to count.
    txn::retry(|| {
        recover_abandoned(store, &artifact.name)?;
        attempt(draft, run, artifact, options)
    })
}

/// One token's try; `None` when it was fenced.
fn attempt(
    draft: &Draft,
    run: &RunRecord,
    artifact: &Artifact,
    options: &UpsertOptions,
) -> Result<AttemptOutcome<Upserted>> {
    let begun = UpsertInProgress::begin(draft, run, options.sealing.is_none())?;
    contribute(begun, artifact, options)
}

/// An upsert that has begun: `finish`, and a second process of the same run, see that the run is writing while its
/// files are still being read. If it is dropped, nothing is recorded.
#[derive(Debug)]
pub struct UpsertInProgress {
    draft: Draft,
    run: RunRecord,
    work: Txn,
    /// The last number of the draft's log when it began.
    last: u64,
}

impl UpsertInProgress {
    fn begin(draft: &Draft, run: &RunRecord, alone: bool) -> Result<UpsertInProgress> {
        let purpose = Purpose {
            purpose: WRITING[0],
            artifact: Some(draft.artifact().as_str()),
            draft: Some(draft.id().as_str()),
            run: Some(run.id.as_str()),
            ..Purpose::default()
        };
        let work = Txn::begin(draft.store(), &purpose, &draft.log())?;
        if alone {
            refuse_second_holder(draft, &run.id, &work)?;
        }
        // Before anything is stored: a discard that comes later is found by the claim.
        match draft.last()? {
            (_, Some(DraftRecord::Finish(_))) => Err(draft_log::finished(draft)?),
            (last, _) => Ok(UpsertInProgress { draft: draft.clone(), run: run.clone(), work, last }),
        }
    }

    /// Records what `artifact` holds as the run's contribution.
    ///
    /// # Errors
    /// As [`Run::upsert_artifact`](crate::Run::upsert_artifact).
    pub fn save(self, artifact: &Artifact, options: &UpsertOptions) -> Result<Upserted> {
        let (draft, run) = (self.draft.clone(), self.run.clone());
        check(&draft, artifact)?;
        match txn::once(|| contribute(self, artifact, options))? {
            AttemptOutcome::Done(done) => Ok(done),
            AttemptOutcome::Again => upsert(&draft, &run, artifact, options),
        }
    }
}

/// Begins an upsert of what `artifact` will hold.
pub(in crate::commit) fn begin(draft: &Draft, run: &RunRecord, artifact: &Artifact) -> Result<UpsertInProgress> {
    check(draft, artifact)?;
    recover_abandoned(draft.store(), draft.artifact())?;
    UpsertInProgress::begin(draft, run, true)
}

fn check(draft: &Draft, artifact: &Artifact) -> Result<()> {
    draft.store().check_writable()?;
    artifact.refuse_patch("upserted")?;
    catalog_artifact::check_type(draft.store(), &artifact.name, artifact.kind.as_ref()).map(drop)
}

/// One attempt after it has begun.
fn contribute(
    begun: UpsertInProgress,
    artifact: &Artifact,
    options: &UpsertOptions,
) -> Result<AttemptOutcome<Upserted>> {
    let UpsertInProgress { draft, run, work, last } = begun;
    let (draft, run) = (&draft, &run);
    let store = draft.store();
    let mut writer = content_writer(store, &work.dir())?;
    if let Some(sealing) = &options.sealing {
        writer.adopt_files_with(sealing.leases.clone());
    }
    let (sources, writer) = collect_or_keep(store, artifact, writer, &options.progress)?;
    let root = build_nodes(&sources, &writer)?;
    drop(sources); // its temporary file is in the token's directory, which the commit removes
    let kind = draft_log::prepare(draft, last, artifact.kind.as_ref())?;
    writer.close_packs()?; // gives the packs their names, which the record lists
    let totals = root.totals();
    let mut head = draft_log::head(draft, &work, last + 1);
    if let Some(sealing) = &options.sealing {
        head.origin.user = Some(UserRecord::of(sealing.owner));
    }
    let contribution = ContributionRecord {
        head,
        run: run.clone(),
        replace: options.replace,
        kind,
        root: root_record(store, &root)?,
        packs: writer.node_packs().names,
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        new_bytes: writer.new_bytes(),
        description: artifact.description.clone(),
        metadata: artifact.metadata.clone().unwrap_or_default(),
        tags: artifact.tags.clone(),
        aliases: artifact.aliases.clone(),
        shared: artifact.shared(store),
    };
    let record = DraftRecord::Contribution(Box::new(contribution));
    let (durable, new_bytes) = draft_log::write(draft, work, &record)?.durable_with(writer, &[&draft.log()])?;
    if let Some(sealing) = &options.sealing
        && let Some(done) = note_sealing(draft, &run.id, durable.token(), sealing)?
    {
        durable.withdraw()?;
        return Ok(AttemptOutcome::Done(done));
    }
    let _turn = AdvisoryTurn::shared(&draft.log(), TIMEOUT);
    let Commit::Committed(committed) = durable.commit()? else { return Ok(AttemptOutcome::Again) };
    Ok(match draft_log::appended(draft, committed.place()?.end())? {
        AttemptOutcome::Again => AttemptOutcome::Again,
        AttemptOutcome::Done(number) => AttemptOutcome::Done(Upserted {
            draft: draft.clone(),
            run: run.id.clone(),
            number,
            files: totals.files,
            bytes: totals.bytes,
            new_bytes,
        }),
    })
}

/// The last steps before the commit of a stage's contribution. `Some`: another process has recorded it meanwhile.
fn note_sealing(draft: &Draft, run: &RunId, own: &Token, sealing: &Sealing) -> Result<Option<Upserted>> {
    draft.store().objects().protect_adopted(&sealing.leases, OtherNames::Staged)?;
    draft.store().disk().append_line(&sealing.marker, own.as_str())?;
    sealed(draft, run, &sealing.marker, Some(own))
}

/// The contribution of this run that was recorded for the stage with this marker, durably. The token `own` is ignored.
///
/// # Errors
/// Damaged; I/O.
pub fn sealed(draft: &Draft, run: &RunId, marker: &Path, own: Option<&Token>) -> Result<Option<Upserted>> {
    let text = disk::read_small(marker, 1 << 16)?.unwrap_or_default();
    let mut tokens: Vec<Token> = String::from_utf8_lossy(&text).lines().filter_map(Token::of_text).collect();
    tokens.retain(|t| Some(t) != own);
    if tokens.is_empty() {
        return Ok(None);
    }
    let store = draft.store();
    recover(store, draft.artifact())?; // the process that sealed it may have died before the claim
    for number in 1..=draft.last()?.0 {
        let holder = claim::holder(&draft.log().join(numbers::record_name(number)))?;
        let Some(token) = holder.filter(|t| tokens.contains(t)) else { continue };
        let DraftRecord::Contribution(record) = draft.read_at(number, &token)? else { continue };
        if record.run.id != *run {
            continue; // the marker is damaged: `verify` reports it
        }
        store.disk().sync_dir(&draft.log())?;
        let (files, bytes, new_bytes) = (record.files, record.bytes, record.new_bytes);
        return Ok(Some(Upserted { draft: draft.clone(), run: record.run.id, number, files, bytes, new_bytes }));
    }
    Ok(None)
}

/// Checks that a draft is not finished.
///
/// # Errors
/// Conflict: it is finished. Damaged; I/O.
pub fn refuse_if_finished(draft: &Draft) -> Result<()> {
    match draft.last()? {
        (_, Some(DraftRecord::Finish(_))) => Err(draft_log::finished(draft)?),
        _ => Ok(()),
    }
}

fn root_record(store: &Store, root: &RootNode) -> Result<RootRecord> {
    let at = root.place.and_then(|place| store.objects().place_in_pack(place));
    let (pack, offset) =
        at.ok_or_else(|| Error::usage("a contribution's root was not stored before its record was written"))?;
    Ok(RootRecord { digest: root.digest(), pack, offset })
}

/// A run has one writer at a time: a second process is refused, such as a requeued job while the first one still runs.
/// (Advisory: it would only break the order of the run's own contributions.) If two begin at once, one continues.
fn refuse_second_holder(draft: &Draft, run: &RunId, work: &Txn) -> Result<()> {
    let holder = work
        .lock()
        .competing_holder(|r| writes_to(draft, r) && r.run.as_deref() == Some(run.as_str()) && !r.is_own())?;
    let Some(holder) = holder else { return Ok(()) };
    let why = format!(
        "run {run} is already writing to {draft}: process {} on {} ({}, since {})",
        holder.pid, holder.host, holder.purpose, holder.since
    );
    Err(Error::conflict(why).with_detail(Detail::Locked { holder: holder.holder() }).with_hint(
        "wait for it, or end it; `cairn locks` shows its lock, and --break ID removes the lock if the process is gone",
    ))
}

impl Draft {
    /// The processes that are writing to it, by their lock files. Takes some seconds if one of them is on another host
    /// and seems dead.
    ///
    /// # Errors
    /// I/O.
    pub fn writers(&self) -> Result<Vec<LockRecord>> {
        lock::live(self.store(), |r| writes_to(self, r))
    }
}

fn writes_to(draft: &Draft, r: &LockRecord) -> bool {
    WRITING.contains(&r.purpose.as_str())
        && r.artifact.as_deref() == Some(draft.artifact().as_str())
        && r.draft.as_deref() == Some(draft.id().as_str())
}
