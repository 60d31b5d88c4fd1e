//! Which drafts are open.

use super::upsert::WRITING;
use crate::catalog::stage::{StageInfo, stages};
use crate::catalog::{Draft, DraftState, artifact as catalog_artifact, distance, draft, no_artifact};
use crate::error::{Error, Kind, Result, shell_word, show_list};
use crate::lock::{self, LockRecord};
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId};
use std::collections::{BTreeMap, BTreeSet};

/// A draft that is not finished: it has contributions, or a run is making one.
#[derive(Debug)]
pub struct OpenDraft {
    /// The draft.
    pub draft: Draft,
    /// What its log adds up to.
    pub state: DraftState,
    /// The processes that write to it. On other hosts also those whose death was not noticed yet.
    pub writers: Vec<LockRecord>,
    /// The staging directories of runs without such a process.
    pub left_open: Vec<StageInfo>,
}

/// The open drafts, by name and id, and the errors of unreadable ones.
#[derive(Debug, Default)]
pub struct Survey {
    /// The open drafts.
    pub open: Vec<OpenDraft>,
    /// An error for each draft that cannot be read; it names the draft.
    pub unreadable: Vec<Error>,
}

/// The open drafts of one artifact, or of all. Locks and staging directories are read once; it waits for no process.
///
/// # Errors
/// Not found: there is no such artifact, and no draft of it. I/O.
pub fn survey(store: &Store, of: Option<&ArtifactName>) -> Result<Survey> {
    let mut found = DraftCollector { store, of, drafts: BTreeMap::new() };
    let mut survey = Survey::default();
    found.at_work()?;
    let names = of.map_or_else(|| catalog_artifact::all_with_drafts(store), |of| Ok(vec![of.clone()]))?;
    for name in &names {
        for draft in draft::all(store, name)? {
            match draft {
                Ok(draft) => drop(found.at(draft.artifact(), draft.id())),
                Err(e) => survey.unreadable.push(e),
            }
        }
    }
    if let Some(name) = of.filter(|_| found.drafts.is_empty() && survey.unreadable.is_empty())
        && catalog_artifact::find(store, name)?.is_none()
    {
        return Err(no_artifact(store, name)?);
    }
    for mut open in found.drafts.into_values() {
        match open.draft.state() {
            Ok(state) => open.state = state,
            Err(e) => {
                survey.unreadable.push(e.context(format!("{} cannot be read", open.draft)));
                continue;
            }
        }
        let coming = !open.writers.is_empty() || !open.left_open.is_empty();
        if open.state.is_open() || (open.state.finish.is_none() && coming) {
            survey.open.push(open);
        }
    }
    Ok(survey)
}

/// The error for a draft without any contribution; the hint names the open drafts, those with the most similar ids
/// first.
///
/// # Errors
/// I/O.
pub fn no_draft(draft: &Draft) -> Result<Error> {
    let name = draft.artifact();
    let survey = match survey(draft.store(), Some(name)) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(e),
        survey => survey?,
    };
    let itself = survey.open.iter().find(|open| open.draft.id() == draft.id());
    if let Some(stage) = itself.and_then(|open| open.left_open.first()) {
        let run = &stage.record.run.id;
        return Ok(Error::not_found(format!("{draft} has no contribution: its files are in staging directories"))
            .with_hint(format!(
                "`cairn upsert {name} --distributed-id {} --run {}` seals that of run {run}",
                shell_word(draft.id()),
                shell_word(run)
            )));
    }
    let mut open: Vec<String> =
        survey.open.iter().map(|o| o.draft.id().to_string()).filter(|id| id != draft.id().as_str()).collect();
    open.sort_by_cached_key(|id| distance(draft.id().as_str(), id));
    let hint = match open.as_slice() {
        [] => format!(
            "no draft of {name} is open; `cairn upsert {name} SRC --distributed-id {}` begins this one",
            shell_word(draft.id())
        ),
        [one] => format!("one draft of {name} is open: {one}"),
        several => format!("open drafts of {name}: {}", show_list(several)),
    };
    Ok(Error::not_found(format!("there is no {draft}")).with_hint(hint))
}

struct DraftCollector<'a> {
    store: &'a Store,
    of: Option<&'a ArtifactName>,
    drafts: BTreeMap<(ArtifactName, DistributedId), OpenDraft>,
}

impl DraftCollector<'_> {
    /// The slot of a draft, if it was asked for.
    fn at(&mut self, name: &ArtifactName, id: &DistributedId) -> Option<&mut OpenDraft> {
        if self.of.is_some_and(|of| of != name) {
            return None;
        }
        let fresh = || OpenDraft {
            draft: Draft::new(self.store, name, id),
            state: DraftState::default(),
            writers: Vec::new(),
            left_open: Vec::new(),
        };
        Some(self.drafts.entry((name.clone(), id.clone())).or_insert_with(fresh))
    }

    /// The processes that write, and the staging directories.
    fn at_work(&mut self) -> Result<()> {
        for lock in lock::held(self.store, |r| WRITING.contains(&r.purpose.as_str()))? {
            let names =
                (lock.artifact.as_deref().map(ArtifactName::parse), lock.draft.as_deref().map(DistributedId::parse));
            let (Some(Ok(name)), Some(Ok(id))) = names else { continue };
            if let Some(open) = self.at(&name, &id) {
                open.writers.push(lock);
            }
        }
        for stage in stages(self.store)? {
            let (name, id) = (stage.record.artifact.clone(), stage.record.distributed_id.clone());
            let Some(open) = self.at(&name, &id) else { continue };
            if open.writers.iter().all(|w| w.run.as_deref() != Some(stage.record.run.id.as_str())) {
                open.left_open.push(stage);
            }
        }
        Ok(())
    }
}

/// A run whose contribution is not recorded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The run, if it is known.
    pub run: Option<String>,
    /// What it is doing, for a message.
    state: String,
}

impl std::fmt::Display for OpenRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} {}", self.run.as_deref().unwrap_or("?"), self.state)
    }
}

impl Draft {
    /// The runs that are writing to this draft, and those with an open staging directory. A finish waits for them
    /// unless it skips them.
    ///
    /// # Errors
    /// I/O.
    pub fn open_runs(&self) -> Result<Vec<OpenRun>> {
        let writers = self.writers()?;
        let at_work: BTreeSet<&str> = writers.iter().filter_map(|w| w.run.as_deref()).collect();
        let left = stages(self.store())?
            .into_iter()
            .map(|s| s.record)
            .filter(|r| r.artifact == *self.artifact() && r.distributed_id == *self.id());
        let writing = |w: &LockRecord| OpenRun {
            run: w.run.clone(),
            state: format!("is writing on {} (process {}, since {})", w.host, w.pid, w.since),
        };
        let mut out: Vec<OpenRun> = writers.iter().map(writing).collect();
        // Not sealed and not mounted: a run that died, or will be resumed.
        out.extend(left.filter(|r| !at_work.contains(r.run.id.as_str())).map(|r| OpenRun {
            run: Some(r.run.id.to_string()),
            state: format!("has left its staging directory open (since {})", r.at),
        }));
        Ok(out)
    }
}
