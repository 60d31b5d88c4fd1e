//! Finishing a draft: all contributions become one version, and the id is closed for ever (L12).
//!
//! 1. A token; the log is read to its end, what counts is merged in the order of the log, and the version's directory
//!    is written whole.
//! 2. The finish record, which names it, claims the number after the last record read: exactly that one, or all is done
//!    again.
//! 3. The version's number is claimed, walking up from the one in its record. From 2 on anyone may do this, any number
//!    of times.

use super::annotations::{annotate, merged_annotations, note_of};
use super::conflicts::listed;
use super::merging::Merging;
use super::open_drafts::{OpenRun, no_draft};
use crate::catalog::artifact as catalog_artifact;
use crate::catalog::draft::{AliasMove, Draft, DraftRecord, DraftState, FinishRecord, NoteAfter, OnConflict};
use crate::catalog::{Mode, RunRecord, Version, numbers, removal};
use crate::commit::artifact::{Artifact, collect, collect_or_keep};
use crate::commit::publication::draft_log::{self, Placed, TIMEOUT};
use crate::commit::publication::{self, Published, SaveOptions, VersionDraft, complete, recover, version_at};
use crate::error::{Detail, Error, Result, show_list};
use crate::ingest;
use crate::lock::{AdvisoryTurn, Purpose};
use crate::manifest::{Layered, MemoryNodes, NodeSource, Tree};
use crate::objects::ObjectWriter;
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::Txn;
use crate::types::{RunId, Token, VersionNumber};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often one who waits for runs looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How a draft is finished.
#[derive(Clone, Debug, Default)]
pub struct FinishOptions {
    /// How many runs must have contributed.
    pub expect: Option<u64>,
    /// Runs that must have contributed.
    pub expect_runs: Vec<RunId>,
    /// How long to wait for these, and for runs that are writing. Without, it looks once.
    pub wait: Option<Duration>,
    /// Don't wait for runs that are writing. What they append before the finish is in it all the same.
    pub skip_open: bool,
    /// What is done when runs say different things about a path.
    pub on_conflict: OnConflict,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

impl Draft {
    /// [`Run::finish_artifact`](crate::Run::finish_artifact) for whom nobody named a run: the version says of none that
    /// it finished it.
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

/// Finishes `draft`, with what `artifact` holds as the last word.
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
    // Without a wait it looks once; a wait that no clock can tell has no end.
    let until = options.wait.map(|wait| Instant::now().checked_add(wait));
    let over = || until.is_none_or(|until| until.is_some_and(|until| Instant::now() >= until));
    loop {
        options.progress.check_cancelled()?;
        recover(store, &artifact.name)?;
        let state = draft.state()?;
        if let Some((token, record)) = &state.finish {
            let unmet = unmet_expectations(&state, own_run(run, artifact), options);
            if !unmet.is_empty() {
                let error = draft_log::finished(draft)?;
                return Err(unmet.into_iter().fold(error, Error::with_cause));
            }
            return repeat_finish(draft, run, artifact, token, record, &options.progress);
        }
        let mut missing = unmet_expectations(&state, own_run(run, artifact), options);
        if !options.skip_open {
            missing.extend(draft.open_runs()?.iter().map(OpenRun::to_string));
        }
        if !missing.is_empty() {
            if over() {
                let error = Error::conflict(format!("{draft} cannot be finished yet"))
                    .with_detail(Detail::NotReady { waiting_for: missing.clone() });
                let longer = if options.wait.is_some() {
                    "--wait with more seconds waits longer"
                } else {
                    "--wait SECONDS waits for them"
                };
                let hint = format!(
                    "{longer}; `cairn upsert {} --distributed-id {} --run RUN` seals what a run left open; \
                     --skip-open finishes without what is not sealed, and it can't be added later",
                    draft.artifact(),
                    draft.id()
                );
                return Err(listed(error, missing.into_iter()).with_hint(hint));
            }
            std::thread::sleep(POLL_INTERVAL);
            continue;
        }
        if state.contributions.is_empty() && artifact.adds.is_empty() {
            if state.last == 0 {
                return Err(no_draft(draft)?);
            }
            let hint = format!("`cairn upsert {} SRC --distributed-id {}` contributes", artifact.name, draft.id());
            return Err(Error::not_found(format!(
                "{draft} has nothing in it to finish: what was contributed was dropped or discarded"
            ))
            .with_hint(hint));
        }
        if let Some(published) = attempt(draft, run, artifact, options, state.last)? {
            return Ok(published);
        }
    }
}

/// The finisher's run, if it brings something itself.
fn own_run<'a>(run: Option<&'a RunRecord>, artifact: &Artifact) -> Option<&'a RunRecord> {
    run.filter(|_| !artifact.adds.is_empty())
}

/// It is finished: the same version again, if nothing is added to it that is not in it. (A finish that was killed is
/// said again with its files.)
fn repeat_finish(
    draft: &Draft,
    run: Option<&RunRecord>,
    artifact: &Artifact,
    token: &Token,
    record: &FinishRecord,
    progress: &Progress,
) -> Result<Published> {
    let number = complete(draft, token, record)?;
    let version = version_at(draft, number)?;
    if !artifact.adds.is_empty() && !holds(&version, artifact, progress)? {
        return Err(draft_log::finished(draft)?.with_cause("what was to be added is not in it"));
    }
    if removal::is_removed(draft.store(), draft.artifact(), number)? {
        return Err(Error::conflict(format!("{draft} was finished as {version}, which is removed"))
            .with_detail(draft_log::is_finished(draft, Some(number)))
            .with_hint("a finished id stays closed for ever: choose another"));
    }
    let mut published = Published::new(version, false, 0);
    annotate(draft.store(), artifact, &SaveOptions { run: run.cloned(), ..SaveOptions::default() }, &mut published)?;
    Ok(published)
}

/// Whether a version has everything that an artifact in the making holds.
fn holds(version: &Version, artifact: &Artifact, progress: &Progress) -> Result<bool> {
    let sources = collect(version.store(), artifact, &HashSet::new(), &ingest::Sink::Nowhere, progress)?;
    let mut memory = MemoryNodes::new();
    let own = Tree::of(&ingest::build(&sources, &mut memory)?, Arc::new(memory));
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

/// One token's try; `None` when it was fenced, or lost its number to another record. A record with the number `seen`
/// was seen to stand.
fn attempt(
    draft: &Draft,
    run: Option<&RunRecord>,
    artifact: &Artifact,
    options: &FinishOptions,
    seen: u64,
) -> Result<Option<Published>> {
    let store = draft.store();
    let name = draft.artifact();
    let purpose = Purpose {
        purpose: "finish",
        artifact: Some(name.as_str()),
        draft: Some(draft.id().as_str()),
        run: run.map(|r| r.id.as_str()),
        ..Purpose::default()
    };
    let work = Txn::begin(store, &purpose, &draft.log())?;
    draft_log::prepare(draft, seen, artifact.kind.as_ref())?;
    let writer = store.objects().writer(&work.dir())?;
    let (own, writer) = own_tree(store, artifact, writer, &options.progress)?;
    let _turn = AdvisoryTurn::exclusive(&draft.log(), TIMEOUT);
    let state = draft.state()?; // to its end, after the token
    // It may have been finished, discarded or dropped from since the first look.
    let nothing = state.contributions.is_empty() && artifact.adds.is_empty();
    if state.finish.is_some() || nothing || !unmet_expectations(&state, own_run(run, artifact), options).is_empty() {
        return Ok(None);
    }
    let said = merged_annotations(draft, &state, artifact)?;
    let merged = Merging {
        draft,
        state: &state,
        own: own.as_ref(),
        run,
        on_conflict: options.on_conflict,
        progress: &options.progress,
    };
    let root = merged.root(&writer)?;
    // The number first, then the newest: whoever publishes in between is passed on the walk.
    let (highest, newest) = publication::newest(store, name, None, &work)?;
    let from = highest.map_or(VersionNumber(0), |n| VersionNumber(n.0 + 1));
    let newest = newest.and_then(Result::ok);
    let same_as = match &newest {
        Some(newest) if newest.is_readable_as(&root.digest())? => Some(newest.number()),
        _ => None,
    };
    let mut files = Vec::new();
    // A version that is named instead must be as durable as one of its own.
    let mut dirs = vec![draft.log(), store.layout().versions(name)];
    let version_dir = store.layout().versions(name).join(work.token().record_name());
    if same_as.is_none() {
        let save = SaveOptions { run: run.cloned(), progress: options.progress.clone(), ..SaveOptions::default() };
        let making = VersionDraft {
            artifact: &said,
            options: &save,
            mode: Mode::Collaborative,
            base: None,
            from,
            exact: false,
            kind: None,
            distributed_id: Some(draft.id()),
            known_version: newest.as_ref(),
        };
        let record = making.record(store, &work, &root, &writer)?;
        files.extend(publication::write_version(store, &work, &writer, &root, &record)?);
        dirs.push(version_dir.clone());
    }
    let record = DraftRecord::Finish(Box::new(FinishRecord {
        head: draft_log::head(draft, &work, state.last + 1),
        run: run.cloned(),
        digest: root.digest(),
        on_conflict: options.on_conflict,
        own_files: own.as_ref().map_or(0, |t| t.totals().files),
        compared_with: newest.as_ref().map(Version::number),
        same_as,
        aliases: said
            .aliases
            .iter()
            .map(|alias| {
                Ok(AliasMove { alias: alias.clone(), after: numbers::last_record(&store.layout().alias(name, alias))? })
            })
            .collect::<Result<_>>()?,
        note: same_as
            .map(|number| {
                Ok(NoteAfter {
                    note: note_of(&said, run),
                    after: numbers::last_record(&store.layout().notes(name, number))?,
                })
            })
            .transpose()?,
    }));
    files.push(draft_log::write(draft, &work, &record)?);
    let dirs: Vec<_> = dirs.iter().map(|d| d.as_path()).collect();
    let sealed = writer.seal(&files, &dirs)?;
    let token = work.token().clone();
    let Some((placed, work)) = draft_log::append(draft, work, &record, Some(&version_dir))? else { return Ok(None) };
    let (Placed::At(_), DraftRecord::Finish(record)) = (placed, &record) else {
        if let Some(work) = work {
            work.end();
        }
        return Ok(None); // another record came first: it is merged in, or helped, or heeded
    };
    let number = complete(draft, &token, record)?;
    Ok(Some(Published::new(version_at(draft, number)?, same_as.is_none(), sealed.new_bytes)))
}

/// What the finisher brings itself, stored, its nodes in memory: they are merged with the others before they are
/// written.
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
    let mut memory = MemoryNodes::new();
    let root = ingest::build(&sources, &mut memory)?;
    let source: Arc<dyn NodeSource> = Arc::new(Layered { memory, below: store.objects().clone() });
    Ok((Some(Tree::of(&root, source)), writer))
}
