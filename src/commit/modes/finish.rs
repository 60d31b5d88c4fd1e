//! Finishing a draft: all contributions become one version, and the id stays closed (L12).
//!
//! Under a token, the log is read to its end, what counts is merged in the order of the log, and the version's
//! directory is written. The finish record, which names it, claims exactly the number after the last record that was
//! read; if that is taken, everything is done again. Then the version's number is claimed. From then on any process can
//! complete the finish (FORMAT.md, "Finish").

use super::annotations::{annotate, merged_annotations, note_of};
use super::conflicts::listed;
use super::merging::Merging;
use super::open_drafts::{OpenRun, no_draft};
use crate::catalog::artifact as catalog_artifact;
use crate::catalog::draft::{AliasMove, Draft, DraftRecord, DraftState, FinishRecord, Head, NoteAfter, OnConflict};
use crate::catalog::{Mode, RunRecord, Version, numbers, removal};
use crate::commit::artifact::{Artifact, collect_or_keep};
use crate::commit::publication::draft_log::{self, TIMEOUT};
use crate::commit::publication::{
    self, Published, SaveOptions, VersionDraft, complete, retry_with_recovery, version_at,
};
use crate::disk::NewFile;
use crate::error::{Detail, Error, Result, shell_word, show_list};
use crate::ingest::NewNodes;
use crate::lock::{AdvisoryTurn, Purpose};
use crate::manifest::{NodeSource, RootNode, Tree};
use crate::objects::ObjectWriter;
use crate::progress::{Activity, Progress};
use crate::setters::setters;
use crate::store::Store;
use crate::txn::{AttemptOutcome, Commit, Place, Txn};
use crate::types::{AliasName, RunId, Token, VersionNumber};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a finish that waits for runs checks again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How a draft is finished.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FinishOptions {
    /// How many runs must have contributed.
    pub expect: Option<u64>,
    /// Runs that must have contributed.
    pub expect_runs: Vec<RunId>,
    /// How long to wait for these, and for runs that are writing. `None`: check once.
    pub wait: Option<Duration>,
    /// Don't wait for runs that are writing. What they append before the finish is included anyway.
    pub skip_open: bool,
    /// What is done when runs have different entries at a path.
    pub on_conflict: OnConflict,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

setters! {
    FinishOptions {
        expect: u64 => Some(expect),
        expect_runs: impl Into<Vec<RunId>> => expect_runs.into(),
        wait: Duration => Some(wait),
        skip_open: bool,
        on_conflict: OnConflict,
        progress: Arc<Progress>,
    }
}

impl Draft {
    /// [`Run::finish_artifact`](crate::Run::finish_artifact) without a run: the version
    /// records no run that finished it.
    ///
    /// # Errors
    /// As there; usage when `artifact` has another name.
    pub fn finish(&self, artifact: &Artifact, options: &FinishOptions) -> Result<Published> {
        if artifact.name != *self.artifact() {
            return Err(Error::usage(format!("{self} cannot be finished with what {} holds", artifact.name)));
        }
        finish(self, None, artifact, options)
    }
}

/// Finishes `draft`, with what `artifact` holds as the last contribution.
pub(in crate::commit) fn finish(
    draft: &Draft,
    run: Option<&RunRecord>,
    artifact: &Artifact,
    options: &FinishOptions,
) -> Result<Published> {
    let store = draft.store();
    store.check_writable()?;
    artifact.refuse_patch("finished with")?;
    catalog_artifact::check_type(store, &artifact.name, artifact.kind.as_ref())?;
    let finisher = Finisher { draft, run, artifact, options };
    // Without a wait it checks once; a wait that is too long for the clock has no end.
    let until = options.wait.map(|wait| Instant::now().checked_add(wait));
    let is_over = || until.is_none_or(|until| until.is_some_and(|until| Instant::now() >= until));
    let mut known = DraftState::default();
    retry_with_recovery(store, &artifact.name, || {
        options.progress.check_cancelled()?;
        known = draft.state_from(std::mem::take(&mut known))?;
        let state = &known;
        if let Some((token, record)) = &state.finish {
            return finisher.repeat_finish(state, token, record).map(AttemptOutcome::Done);
        }
        let missing = finisher.missing(state)?;
        if !missing.is_empty() {
            if is_over() {
                let is_open = missing.len() > unmet_expectations(state, finisher.own_run(), options).len();
                return Err(finisher.not_yet(missing, is_open));
            }
            options.progress.set_activity(Activity::Waiting(waiting_for(state, options, &missing)));
            std::thread::sleep(POLL_INTERVAL);
            return Ok(AttemptOutcome::Again);
        }
        options.progress.set_activity(Activity::Merging);
        if state.contributions.is_empty() && artifact.adds.is_empty() {
            return Err(finisher.nothing_to_finish(state)?);
        }
        finisher.attempt(state)
    })
}

/// Who finishes a draft, with what, and how.
struct Finisher<'a> {
    draft: &'a Draft,
    run: Option<&'a RunRecord>,
    artifact: &'a Artifact,
    options: &'a FinishOptions,
}

impl Finisher<'_> {
    /// The finisher's run, if it adds something itself.
    fn own_run(&self) -> Option<&RunRecord> {
        self.run.filter(|_| !self.artifact.adds.is_empty())
    }

    /// What the finish has to wait for.
    fn missing(&self, state: &DraftState) -> Result<Vec<String>> {
        let mut missing = unmet_expectations(state, self.own_run(), self.options);
        if !self.options.skip_open {
            missing.extend(self.draft.open_runs()?.iter().map(OpenRun::to_string));
        }
        Ok(missing)
    }

    /// The error for a draft with something missing. `is_open`: runs are writing or left a staging directory open.
    fn not_yet(&self, missing: Vec<String>, is_open: bool) -> Error {
        let longer = if self.options.wait.is_some() {
            "--wait with more seconds waits longer"
        } else {
            "--wait SECONDS waits for them"
        };
        let hint = if is_open {
            format!(
                "{longer}; `cairn upsert {} --distributed-id {} --run RUN` seals what a run left open; --skip-open \
                 finishes without what is not sealed, and it can't be added later",
                self.draft.artifact(),
                shell_word(self.draft.id())
            )
        } else {
            format!("{longer}; without --expect and --expect-run, finish publishes what is there")
        };
        let error = Error::conflict(format!("{} cannot be finished yet", self.draft))
            .with_detail(Detail::NotReady { waiting_for: missing.clone() });
        listed(error, missing.into_iter()).with_hint(hint)
    }

    fn nothing_to_finish(&self, state: &DraftState) -> Result<Error> {
        if state.last == 0 {
            return no_draft(self.draft);
        }
        let hint = format!(
            "`cairn upsert {} SRC --distributed-id {}` contributes",
            self.artifact.name,
            shell_word(self.draft.id())
        );
        Ok(Error::not_found(format!(
            "{} has nothing in it to finish: what was contributed was dropped or discarded",
            self.draft
        ))
        .with_hint(hint))
    }

    /// The draft is finished already: returns its version, unless something is expected or added that is not in it. (A
    /// finish that was killed is run again with its files.)
    fn repeat_finish(&self, state: &DraftState, token: &Token, record: &FinishRecord) -> Result<Published> {
        let Finisher { draft, artifact, .. } = self;
        let unmet = unmet_expectations(state, self.own_run(), self.options);
        if !unmet.is_empty() {
            let error = draft_log::finished(draft)?;
            return Err(unmet.into_iter().fold(error, Error::with_cause));
        }
        let number = complete(draft, token, record)?;
        let version = version_at(draft, number)?;
        if !artifact.adds.is_empty() && !holds(&version, artifact, &self.options.progress)? {
            return Err(draft_log::finished(draft)?.with_cause("what was to be added is not in it"));
        }
        if removal::is_removed(draft.store(), draft.artifact(), number)? {
            return Err(Error::conflict(format!("{draft} was finished as {version}, which is removed"))
                .with_detail(draft_log::is_finished(draft, Some(number)))
                .with_hint("a finished id stays closed: choose another"));
        }
        let mut published = Published::new(version, false, 0);
        let save = SaveOptions { run: self.run.cloned(), ..SaveOptions::default() };
        annotate(draft.store(), artifact, &save, &mut published)?;
        Ok(published)
    }

    /// One attempt, under one token. The log added up to `known` before.
    fn attempt(&self, known: &DraftState) -> Result<AttemptOutcome<Published>> {
        let Finisher { draft, run, artifact, options } = *self;
        let (store, name) = (draft.store(), draft.artifact());
        let purpose = Purpose {
            purpose: "finish",
            artifact: Some(name.as_str()),
            draft: Some(draft.id().as_str()),
            run: run.map(|r| r.id.as_str()),
            ..Purpose::default()
        };
        let txn = Txn::begin(store, &purpose, &draft.log())?;
        draft_log::prepare(draft, known.last, artifact.kind.as_ref())?;
        let writer = store.objects().writer(&txn.dir())?;
        let (own, writer) = own_tree(store, artifact, writer, &options.progress)?;
        let _turn = AdvisoryTurn::exclusive(&draft.log(), TIMEOUT);
        let state = draft.state_from(known.clone())?; // to its end, after the token
        // It may have been finished, discarded or dropped from since the first check.
        let nothing = state.contributions.is_empty() && artifact.adds.is_empty();
        if state.finish.is_some() || nothing || !unmet_expectations(&state, self.own_run(), options).is_empty() {
            return Ok(AttemptOutcome::Again);
        }
        let annotations = merged_annotations(draft, &state, artifact)?;
        let (on_conflict, progress) = (options.on_conflict, &*options.progress);
        let root = Merging { draft, state: &state, own: own.as_ref(), run, on_conflict, progress }.root(&writer)?;
        // The number first, then the newest: what is published in between is passed on the walk.
        let (highest, newest) = publication::newest(store, name, None, &txn)?;
        let newest = newest.and_then(Result::ok);
        let same_as = match &newest {
            Some(newest) if newest.is_readable_as(&root.digest())? => Some(newest.number()),
            _ => None,
        };
        let merged = Merged {
            annotations,
            root,
            from: VersionNumber::after(highest),
            newest,
            same_as,
            own_files: own.as_ref().map_or(0, |t| t.totals().files),
        };
        drop(own);
        self.publish(txn, writer, &state, &merged)
    }

    /// Publishes what was merged: the finish record, and the version unless there is one with the same content.
    fn publish(
        &self,
        txn: Txn,
        writer: ObjectWriter,
        state: &DraftState,
        merged: &Merged,
    ) -> Result<AttemptOutcome<Published>> {
        let (draft, store) = (self.draft, self.draft.store());
        let (log, versions) = (draft.log(), store.layout().versions(draft.artifact()));
        let token = txn.token().clone();
        let version_dir = versions.join(token.record_name());
        let files = if merged.same_as.is_none() { self.write_version(&txn, &writer, merged)?.into() } else { vec![] };
        let finish = self.record(draft_log::head(draft, &txn, state.last + 1), merged)?;
        let record = DraftRecord::Finish(Box::new(finish));
        let prepared = draft_log::write(draft, txn, &record)?.with(files, version_dir.clone());
        // A version that is named instead of a new one must be as durable as a new one.
        let dirs: &[&Path] =
            if merged.same_as.is_none() { &[&log, &versions, &version_dir] } else { &[&log, &versions] };
        let (durable, new_bytes) = prepared.durable_with(writer, dirs)?;
        let Commit::Committed(committed) = durable.commit()? else { return Ok(AttemptOutcome::Again) };
        let placed = committed.place()?;
        let (Place::At(_), DraftRecord::Finish(finish)) = (placed.place(), &record) else {
            // Another record came first. The next attempt merges it in, or takes the other finish's version.
            let _ = placed.end();
            return Ok(AttemptOutcome::Again);
        };
        let number = complete(draft, &token, finish)?; // removes the token
        let version = version_at(draft, number)?;
        Ok(AttemptOutcome::Done(Published::new(version, merged.same_as.is_none(), new_bytes)))
    }

    fn write_version(&self, txn: &Txn, writer: &ObjectWriter, merged: &Merged) -> Result<[NewFile; 2]> {
        let store = self.draft.store();
        let progress = self.options.progress.clone();
        let save = SaveOptions { run: self.run.cloned(), progress, ..SaveOptions::default() };
        let version = VersionDraft {
            distributed_id: Some(self.draft.id()),
            known_version: merged.newest.as_ref(),
            ..VersionDraft::new(&merged.annotations, &save, Mode::Collaborative, merged.from)
        };
        let record = version.record(store, txn, &merged.root, writer)?;
        publication::write_version(store, txn, writer, &merged.root, &record)
    }

    fn record(&self, head: Head, merged: &Merged) -> Result<FinishRecord> {
        let (layout, name) = (self.draft.store().layout(), self.draft.artifact());
        let after_alias = |alias: &AliasName| {
            Ok(AliasMove { alias: alias.clone(), after: numbers::highest_record(&layout.alias(name, alias))? })
        };
        let after_note = |number| {
            let note = note_of(&merged.annotations, self.run);
            Ok(NoteAfter { note, after: numbers::highest_record(&layout.notes(name, number))? })
        };
        Ok(FinishRecord {
            head,
            run: self.run.cloned(),
            digest: merged.root.digest(),
            on_conflict: self.options.on_conflict,
            own_files: merged.own_files,
            compared_with: merged.newest.as_ref().map(Version::number),
            same_as: merged.same_as,
            aliases: merged.annotations.aliases.iter().map(after_alias).collect::<Result<_>>()?,
            note: merged.same_as.map(after_note).transpose()?,
        })
    }
}

/// What the contributions and the finisher's own files come to.
struct Merged {
    annotations: Artifact,
    root: RootNode,
    /// The number after the highest one when `newest` was looked up.
    from: VersionNumber,
    newest: Option<Version>,
    /// The newest version, if it has the same content.
    same_as: Option<VersionNumber>,
    own_files: u64,
}

/// Whether a version has everything that an artifact has.
fn holds(version: &Version, artifact: &Artifact, progress: &Progress) -> Result<bool> {
    let own = artifact.preview(version.store(), progress)?;
    let tree = version.tree()?;
    for visit in own.walk() {
        let visit = visit?;
        let there = tree.lookup(&visit.path)?;
        let same =
            there.is_some_and(|f| f.entry.same(&visit.entry) || (f.entry.is_directory() && visit.entry.is_directory()));
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `runs, 15 of 16: run rank-5 is writing on host2`
fn waiting_for(state: &DraftState, options: &FinishOptions, missing: &[String]) -> String {
    let of = options.expect.map_or(String::new(), |expected| format!(", {} of {expected}", state.runs().len()));
    let named: Vec<_> = missing.iter().filter(|what| !what.starts_with("expected ")).collect();
    if named.is_empty() { format!("runs{of}") } else { format!("runs{of}: {}", show_list(&named)) }
}

/// What is expected and not there, by the log alone.
fn unmet_expectations(state: &DraftState, own: Option<&RunRecord>, options: &FinishOptions) -> Vec<String> {
    let mut out = Vec::new();
    let runs: BTreeSet<&RunId> = state.runs().into_iter().chain(own.map(|run| &run.id)).collect();
    if let Some(expected) = options.expect.filter(|n| (runs.len() as u64) < *n) {
        let names: Vec<_> = runs.iter().collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", show_list(&names)) };
        out.push(format!("expected {expected} runs, found {}{names}", runs.len()));
    }
    out.extend(
        options
            .expect_runs
            .iter()
            .filter(|run| !runs.contains(run))
            .map(|run| format!("run {run} has not contributed")),
    );
    out
}

/// What the finisher adds itself: its content is stored, its nodes stay in memory until they are merged.
fn own_tree(
    store: &Store,
    artifact: &Artifact,
    writer: ObjectWriter,
    progress: &Progress,
) -> Result<(Option<Tree>, ObjectWriter)> {
    if artifact.adds.is_empty() {
        return Ok((None, writer));
    }
    let (sources, writer) = collect_or_keep(store, artifact, writer, progress)?;
    let below: Arc<dyn NodeSource> = store.objects().clone();
    let mut nodes = NewNodes::new(writer.directory(), Some(below));
    let root = sources.build(&mut nodes)?;
    Ok((Some(Tree::of(&root, Arc::new(nodes))), writer))
}
