//! Finishing a draft: all contributions become one version, and the id is closed for ever (L12).
//!
//! 1. A token; the log is read to its end, what counts is merged in the order of the log, and the version's directory
//!    is written whole.
//! 2. The finish record, which names it, claims the number after the last record read: exactly that one, or all is done
//!    again.
//! 3. The version's number is claimed, walking up from the one in its record. From 2 on anyone may do this, any number
//!    of times.

use super::artifact::Artifact;
use super::collect::{collect, collect_or_keep};
use super::content_check::{self, ContentCheck};
use super::draft::{self, Placed, TIMEOUT};
use super::help::{self, help};
use super::publish::{self, Published, SaveOptions, VersionDraft};
use super::stage::listed;
use super::survey;
use crate::catalog::artifact as catalog_artifact;
use crate::catalog::draft::{
    AliasMove, Contribution, Draft, DraftRecord, DraftState, FinishRecord, NoteAfter, OnConflict,
};
use crate::catalog::stage::stages;
use crate::catalog::{Metadata, Mode, Note, RunRecord, Version, alias, note, numbers, removal, version};
use crate::error::{Error, Kind, Result, show_list};
use crate::ingest;
use crate::lock::{AdvisoryTurn, LockRecord, Purpose};
use crate::manifest::{
    self, Choice, Conflict, Entry, Layered, MemoryNodes, NodeRef, NodeRelocator, NodeSource, Part, Root, Tree,
};
use crate::objects::{NodePacks, ObjectWriter};
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::{self, Outcome, Txn, claim};
use crate::types::{RelPath, RunId, Token, VersionNumber};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often one who waits for runs looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Contributions' nodes stay in their packs when these are at most so many; else they are stored again, together:
/// patches add theirs.
const KEPT_PACKS: usize = 7;
/// How many conflicts are listed, and of each how many that say something.
const LISTED: usize = 50;
const SIDES: usize = 8;

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
    /// [`Run::finish_artifact`](super::Run::finish_artifact) for whom nobody named a run: the version says of none that
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

    /// The number of the version that came of it; `None` while it is not finished, or finished and not numbered yet
    /// (the next finish sees to that).
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn version(&self, state: &DraftState) -> Result<Option<VersionNumber>> {
        let Some((token, record)) = &state.finish else { return Ok(None) };
        if record.same_as.is_some() {
            return Ok(record.same_as);
        }
        let mut number = version::read_record(self.store(), self.artifact(), token)?.from;
        while let Some(there) = claim::holder(&self.store().layout().version(self.artifact(), number))? {
            if there == *token {
                return Ok(Some(number));
            }
            number.0 += 1;
        }
        Ok(None)
    }
}

/// Finishes `draft`, with what `artifact` holds as the last word.
pub(super) fn finish(
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
        help(store, &artifact.name)?;
        let state = draft.state()?;
        if let Some((token, record)) = &state.finish {
            let unmet = unmet(&state, own_run(run, artifact), options);
            if !unmet.is_empty() {
                let error = draft::finished(draft)?;
                return Err(unmet.into_iter().fold(error, Error::with_cause));
            }
            return again(draft, run, artifact, token, record, &options.progress);
        }
        let mut missing = unmet(&state, own_run(run, artifact), options);
        if !options.skip_open {
            missing.extend(draft.open_runs()?.iter().map(OpenRun::to_string));
        }
        if !missing.is_empty() {
            if over() {
                let error = Error::conflict(format!("{draft} cannot be finished yet"));
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
                return Err(survey::no_draft(draft)?);
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
fn again(
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
        return Err(draft::finished(draft)?.with_cause("what was to be added is not in it"));
    }
    if removal::is_removed(draft.store(), draft.artifact(), number)? {
        return Err(Error::conflict(format!("{draft} was finished as {version}, which is removed"))
            .with_hint("a finished id stays closed for ever: choose another"));
    }
    let mut published = Published::new(version, false, 0);
    publish::annotate(
        draft.store(),
        artifact,
        &SaveOptions { run: run.cloned(), ..SaveOptions::default() },
        &mut published,
    )?;
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

/// A run whose part of a draft is not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The run, if it said which.
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
    /// The runs that are writing to this draft, and those that left a staging directory open: a finish waits for them,
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
        // Written to and not sealed, and mounted by nobody: a run that died, or will be resumed.
        out.extend(left.filter(|r| !at_work.contains(r.run.id.as_str())).map(|r| OpenRun {
            run: Some(r.run.id.to_string()),
            state: format!("has left its staging directory open (since {})", r.at),
        }));
        Ok(out)
    }
}

/// What is expected and not there, by the log alone.
fn unmet(state: &DraftState, own: Option<&RunRecord>, options: &FinishOptions) -> Vec<String> {
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
    draft::prepare(draft, seen, artifact.kind.as_ref())?;
    let writer = store.objects().writer(&work.dir())?;
    let (own, writer) = own_tree(store, artifact, writer, &options.progress)?;
    let _turn = AdvisoryTurn::exclusive(&draft.log(), TIMEOUT);
    let state = draft.state()?; // to its end, after the token
    // It may have been finished, discarded or dropped from since the first look.
    let nothing = state.contributions.is_empty() && artifact.adds.is_empty();
    if state.finish.is_some() || nothing || !unmet(&state, own_run(run, artifact), options).is_empty() {
        return Ok(None);
    }
    let said = words(draft, &state, artifact)?;
    let merged = Merging { draft, state: &state, own: own.as_ref(), run, options };
    let root = merged.root(&writer)?;
    // The number first, then the newest: whoever publishes in between is passed on the walk.
    let (highest, newest) = publish::newest(store, name, None, &work)?;
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
        files.extend(publish::write_version(store, &work, &writer, &root, &record)?);
        dirs.push(version_dir.clone());
    }
    let record = DraftRecord::Finish(Box::new(FinishRecord {
        head: draft::head(draft, &work, state.last + 1),
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
    files.push(draft::write(draft, &work, &record)?);
    let dirs: Vec<_> = dirs.iter().map(|d| d.as_path()).collect();
    let sealed = writer.seal(&files, &dirs)?;
    let token = work.token().clone();
    let Some((placed, work)) = draft::append(draft, work, &record, Some(&version_dir))? else { return Ok(None) };
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

/// The contributions, and what the finisher adds, on their way to one manifest.
struct Merging<'a> {
    draft: &'a Draft,
    state: &'a DraftState,
    own: Option<&'a Tree>,
    run: Option<&'a RunRecord>,
    options: &'a FinishOptions,
}

impl Merging<'_> {
    /// Merges into the store, streaming: what is new is written, and what is below a directory that one contribution
    /// alone has stays where it lies, if the packs are few enough.
    fn root(&self, writer: &ObjectWriter) -> Result<Root> {
        let parts = self.parts()?;
        self.check_whole(writer, &parts)?;
        let packs: BTreeSet<_> = self.state.contributions.iter().flat_map(|c| &c.record.packs).copied().collect();
        let mut kept = NodePacks::default();
        if packs.len() <= KEPT_PACKS {
            for pack in packs {
                // Of a pack that is gone, the nodes were found elsewhere, and are stored again.
                if writer.has_pack_named(&pack)? {
                    kept.names.push(pack);
                }
            }
        }
        writer.keep_nodes_in(&kept);
        let source = self.source();
        let is_new = |at: &NodeRef| self.own.is_some() && at.place.is_none();
        let home = |at: &NodeRef| if is_new(at) { Ok(None) } else { writer.node_home(&at.digest, at.place) };
        let mut lane = writer.nodes()?;
        let mut conflicts = Conflicts::default();
        let mut decide = |conflict: &Conflict| match self.options.on_conflict {
            OnConflict::Latest => Choice::Later,
            OnConflict::Refuse => {
                conflicts.see(conflict);
                Choice::Refuse
            }
        };
        let mut carrier = NodeRelocator::new(&*source, &home, &mut lane);
        let root = manifest::merge(&parts, &mut decide, &mut carrier)?;
        let root = root.map(|root| carrier.settled(&root)).transpose()?;
        lane.close()?;
        root.ok_or_else(|| conflicts.error(self))
    }

    /// Refuses when content of a contribution is known to be damaged, or missing, unless a later one says something
    /// else about its path.
    fn check_whole(&self, writer: &ObjectWriter, parts: &[Part]) -> Result<()> {
        let mut whole = ContentCheck::new(writer);
        let mut lost = Vec::new();
        for (i, part) in parts.iter().enumerate().take(self.state.contributions.len()) {
            self.options.progress.check_cancelled()?;
            if whole.is_whole(&part.tree)? {
                continue;
            }
            whole.lost(&part.tree, &mut |path| {
                if !parts[i + 1..].iter().any(|later| is_replaced(&part.tree, &later.tree, path)) {
                    lost.push(format!("{path}, by {}", self.who(i)));
                }
            });
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(content_check::damaged(&format!("{} is not finished", self.draft), lost).with_hint(self.again_hint()))
    }

    fn again_hint(&self) -> String {
        let (name, id) = (self.draft.artifact(), self.draft.id());
        format!(
            "let the run upsert the same files again, which stores them again: `cairn upsert {name} SRC --distributed-id {id} --run RUN`; the draft stays open"
        )
    }

    fn source(&self) -> Arc<dyn NodeSource> {
        self.own
            .map_or_else(|| -> Arc<dyn NodeSource> { self.draft.store().objects().clone() }, |own| own.source().clone())
    }

    /// The trees in the order of the log, each with its run; the finisher's last.
    fn parts(&self) -> Result<Vec<Part>> {
        let mut numbers: HashMap<&RunId, usize> = HashMap::new();
        let mut parts = Vec::with_capacity(self.state.contributions.len() + 1);
        for contribution in &self.state.contributions {
            let next = numbers.len();
            let author = *numbers.entry(&contribution.record.run.id).or_insert(next);
            let tree = contribution.tree(self.draft.store()).map_err(|e| {
                let e = e.context(format!(
                    "{} is not finished: what run {} contributed cannot be read",
                    self.draft, contribution.record.run.id
                ));
                if e.kind() == Kind::Damaged { e.with_hint(self.again_hint()) } else { e }
            })?;
            parts.push(Part { tree, author });
        }
        if let Some(own) = self.own {
            let author = self.run.and_then(|run| numbers.get(&run.id)).copied().unwrap_or(numbers.len());
            parts.push(Part { tree: own.clone(), author });
        }
        Ok(parts)
    }

    /// Who said part `i`.
    fn who(&self, i: usize) -> String {
        match self.state.contributions.get(i) {
            Some(Contribution { number, record }) => format!("run {} (number {number} of the log)", record.run.id),
            None => "this finish".to_owned(),
        }
    }
}

/// Whether a later part says something else about a path, or about a directory above it. What cannot be read says
/// nothing.
fn is_replaced(earlier: &Tree, later: &Tree, path: &RelPath) -> bool {
    let mut at = RelPath::root();
    for name in path.parts() {
        let Ok(here) = at.join(name) else { return false };
        at = here;
        let Ok(Some(said)) = later.lookup(&at) else { return false };
        if !said.entry.is_directory() {
            return !matches!(earlier.lookup(&at), Ok(Some(first)) if first.entry.same(&said.entry));
        }
    }
    // A directory over a file; over a directory it unites.
    matches!(earlier.lookup(path), Ok(Some(first)) if !first.entry.is_directory())
}

/// The paths in conflict: how many there are, and of the first ones who says what.
#[derive(Default)]
struct Conflicts {
    first: Vec<Conflicting>,
    paths: u64,
    last: Option<RelPath>,
}

/// One of them: what each part says, by its number.
struct Conflicting {
    path: RelPath,
    said: Vec<(usize, Entry)>,
}

impl Conflicts {
    /// The conflicts of one path come one after the other, a pair each: what was said first, and what differs.
    fn see(&mut self, conflict: &Conflict) {
        if self.last.as_ref() != Some(&conflict.path) {
            self.last = Some(conflict.path.clone());
            self.paths += 1;
            if self.first.len() < LISTED {
                self.first.push(Conflicting { path: conflict.path.clone(), said: vec![conflict.earlier.clone()] });
            }
        }
        if let Some(listed) = self.first.last_mut().filter(|listed| listed.path == conflict.path) {
            listed.said.push(conflict.later.clone());
        }
    }

    fn error(&self, merging: &Merging<'_>) -> Error {
        let s = if self.paths == 1 { "" } else { "s" };
        let error =
            Error::conflict(format!("{} is not finished: runs differ at {} path{s}", merging.draft, self.paths));
        let line = |c: &Conflicting| {
            let mut said: Vec<_> = c
                .said
                .iter()
                .take(SIDES)
                .map(|(i, entry)| format!("{} by {}", describe(entry), merging.who(*i)))
                .collect();
            said.extend(c.said.len().checked_sub(SIDES + 1).map(|more| format!("and {} more", more + 1)));
            format!("{}: {}", c.path, said.join("; "))
        };
        let error = self.first.iter().map(line).fold(error, Error::with_cause);
        let more = self.paths - self.first.len() as u64;
        let error = if more > 0 { error.with_cause(format!("and {more} more")) } else { error };
        error.with_hint(
            "let a run upsert again what it means, `cairn draft drop` one, or finish with --on-conflict latest",
        )
    }
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::File { digest, exec: false, .. } => format!("sha256 {digest}"),
        Entry::File { digest, exec: true, .. } => format!("executable, sha256 {digest}"),
        Entry::Symlink { target } => format!("symlink to {}", crate::error::show_bytes(target)),
        Entry::Reference(reference) => format!("reference to {}", reference.uri),
        Entry::Directory(_) => "a directory".to_owned(),
    }
}

/// What is said of the version: aliases and tags unite, description and the keys of metadata are the last that were
/// given.
fn words(draft: &Draft, state: &DraftState, artifact: &Artifact) -> Result<Artifact> {
    let mut said = Artifact::new(artifact.name.as_str(), artifact.kind.as_ref().map(|k| k.as_str()))?;
    let mut metadata = Metadata::new();
    let contributed = state
        .contributions
        .iter()
        .map(|c| &*c.record)
        .map(|r| (&r.description, Some(&r.metadata), &r.tags, &r.aliases));
    let own = (&artifact.description, artifact.metadata.as_ref(), &artifact.tags, &artifact.aliases);
    for (description, more, tags, aliases) in contributed.chain([own]) {
        if let Some(text) = description {
            said.description = Some(text.clone());
        }
        metadata.extend(more.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        said.tags.extend(tags.iter().filter(|t| !said.tags.contains(t)).cloned().collect::<Vec<_>>());
        said.aliases.extend(aliases.iter().filter(|a| !said.aliases.contains(a)).cloned().collect::<Vec<_>>());
    }
    match said.set_metadata(metadata) {
        Ok(_) => Ok(said),
        Err(e) => Err(too_much_said(draft, state, artifact, &e)),
    }
}

/// Each contribution's metadata is within its bound, all of it together is not: who says most, in the order in which
/// less is to be said.
fn too_much_said(draft: &Draft, state: &DraftState, artifact: &Artifact, why: &Error) -> Error {
    let size = |m: &Metadata| serde_json::to_vec(m).map_or(0, |json| json.len());
    let mut by_run: BTreeMap<String, Metadata> = BTreeMap::new();
    for record in state.contributions.iter().map(|c| &c.record).filter(|r| !r.metadata.is_empty()) {
        by_run.entry(format!("run {}", record.run.id)).or_default().extend(record.metadata.clone());
    }
    by_run.extend(artifact.metadata.clone().filter(|m| !m.is_empty()).map(|m| ("this finish".to_owned(), m)));
    let mut said: Vec<_> = by_run.into_iter().map(|(who, m)| (size(&m), m.len(), who)).collect();
    said.sort_by_key(|(bytes, keys, _)| Reverse((*bytes, *keys)));
    let lines = said.into_iter().map(|(bytes, keys, who)| format!("{who} says {keys} keys, {bytes} bytes"));
    let error = Error::conflict(format!(
        "{draft} is not finished: what its runs say of the version is too much together: {}",
        why.message()
    ));
    let hint = format!(
        "let a run say its part again with less: `cairn upsert {} SRC --replace --metadata JSON`; or `cairn draft drop` one",
        artifact.name
    );
    listed(error, lines).with_hint(hint)
}

/// The same words for a version that stands already.
fn note_of(said: &Artifact, run: Option<&RunRecord>) -> Note {
    let metadata = said.metadata.clone().filter(|m| !m.is_empty());
    Note {
        description: said.description.clone(),
        metadata,
        add_tags: said.tags.clone(),
        produced_by: run.cloned(),
        ..Note::default()
    }
}

/// The number of a finished draft's version, claimed now if nobody has done so yet.
pub(super) fn number_of(draft: &Draft, token: &Token, record: &FinishRecord) -> Result<VersionNumber> {
    if let Some(number) = record.same_as {
        return Ok(number);
    }
    let store = draft.store();
    let made = version::read_record(store, draft.artifact(), token)?;
    match help::place(store, token, &made)? {
        help::Placed::At(number) => Ok(number),
        _ => Err(Error::damaged(format!("the version of {draft} says that it may not be published"))),
    }
}

/// Step 3, and what was said of the version beside its content. While the token is there this may not have been done:
/// whoever comes does it.
pub(super) fn complete(draft: &Draft, token: &Token, record: &FinishRecord) -> Result<VersionNumber> {
    let store = draft.store();
    let number = number_of(draft, token, record)?;
    store.disk().sync_dir(&store.layout().versions(draft.artifact()))?;
    if txn::read_outcome(store, token)? != Some(Outcome::Committed) {
        return Ok(number);
    }
    let version = version_at(draft, number)?;
    if version.digest() != record.digest {
        return Err(Error::damaged(format!(
            "{draft} came to content with digest {}, {version} has {}",
            record.digest,
            version.digest()
        )));
    }
    // Of a version that was removed since, nothing more is said.
    if !removal::is_removed(store, draft.artifact(), number)? {
        if let Some(NoteAfter { note, after }) = &record.note {
            note::add_after(&version, note, *after)?;
        }
        for AliasMove { alias, after } in &record.aliases {
            alias::set_after(store, draft.artifact(), alias, *after, number)
                .map_err(|e| e.context(format!("{version} stands, but alias {alias} did not move to it")))?;
        }
    }
    let _ = txn::remove_ended(store, token); // else its owner does, or a collector
    Ok(number)
}

fn version_at(draft: &Draft, number: VersionNumber) -> Result<Version> {
    let version = Version::read(draft.store(), draft.artifact(), number)?;
    version.ok_or_else(|| Error::damaged(format!("{}:{number}, the version of {draft}, is missing", draft.artifact())))
}
