//! What happened to an artifact, the newest first: from the records of its versions, removals, aliases, notes and
//! drafts.
//!
//! Each log is read from its end, one second at a time, and the logs are merged by the times in their records. So the
//! newest events cost little, however long the logs are. Times are by the writers' clocks: they order the events of
//! different logs, and nothing else depends on them. Within a second, `event` says what is known to have come first.

use super::alias::AliasRecord;
use super::draft::{self, Draft, DraftRecord};
use super::event::{self, Leaves, Place, Placed};
pub use super::event::{DraftChange, Event, Happening};
use super::note::Note;
use super::origin::Actor;
use super::removal::{self, State};
use super::version_record;
use super::{artifact, log, numbers};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{AliasName, ArtifactName, RunId, VersionNumber};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::path::PathBuf;

/// The events of an artifact, or, with `only`, the moves of one alias. An event whose record is damaged is an error
/// amid the others.
///
/// # Errors
/// Not found: the artifact. I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// let mut artifact = cairn::Artifact::new("images", "dataset")?;
/// artifact.add_bytes("a.txt", "a")?;
/// artifact.save(&store)?.version.add_alias("prod")?;
/// let events: Vec<_> = cairn::catalog::history::of(&store, &"images".parse()?, None)?.collect();
/// assert_eq!(events.len(), 2);
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn of(store: &Store, name: &ArtifactName, only: Option<&AliasName>) -> Result<Events> {
    if !artifact::has_versions(store, name)? && draft::all(store, name)?.is_empty() {
        return Err(artifact::no_artifact(store, name)?);
    }
    let mut sources = Sources::new(store, name.clone());
    match only {
        Some(alias) => sources.add_records(LogKind::Alias, store.layout().alias(name, alias))?,
        None => sources.add_all()?,
    }
    Ok(Events::of(vec![sources]))
}

/// The events of all artifacts.
///
/// # Errors
/// I/O.
pub fn all(store: &Store) -> Result<Events> {
    let mut out = Vec::new();
    for name in artifact::all_with_drafts(store)? {
        let mut sources = Sources::new(store, name);
        sources.add_all()?;
        out.push(sources);
    }
    Ok(Events::of(out))
}

/// Events, the newest first.
pub struct Events {
    artifacts: Vec<Sources>,
    /// The artifacts that have more events, by the time of the next one.
    next: BinaryHeap<(Time, Reverse<usize>)>,
}

/// The time of an event; of a damaged record none, so that it comes first.
type Time = (bool, Option<String>);

impl Events {
    fn of(artifacts: Vec<Sources>) -> Events {
        let times = artifacts.iter().enumerate().filter_map(|(i, sources)| Some((sources.time()?, Reverse(i))));
        Events { next: times.collect(), artifacts }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let (_, Reverse(i)) = self.next.pop()?;
        let event = self.artifacts[i].next();
        self.next.extend(self.artifacts[i].time().map(|time| (time, Reverse(i))));
        event
    }
}

/// The logs of one artifact. Each is in the heap with its newest event that is not ready yet.
struct Sources {
    store: Store,
    name: ArtifactName,
    heap: BinaryHeap<Pending>,
    logs: u64,
    /// The events of a second, in their order, the newest last.
    ready: Vec<Result<Event>>,
}

/// The newest event of a log, and where the log continues.
struct Pending {
    /// The time; of a damaged record none, so that it comes first.
    at: Option<String>,
    event: Result<(Event, Place)>,
    log: Log,
}

#[derive(Clone)]
struct Log {
    kind: LogKind,
    /// Its number among the logs of the artifact.
    id: u64,
    dir: PathBuf,
    /// The number that is read next; 0: there is none.
    next: u64,
}

#[derive(Clone)]
enum LogKind {
    Versions,
    Alias,
    Notes(VersionNumber),
    Draft(Draft),
    /// The removal and the changes of one version.
    Removal(VersionNumber),
}

impl Pending {
    fn key(&self) -> (bool, Option<&str>, u64) {
        (self.at.is_none(), self.at.as_deref(), self.log.next)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Pending) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Pending) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Pending) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Sources {
    fn new(store: &Store, name: ArtifactName) -> Sources {
        Sources { store: store.clone(), name, heap: BinaryHeap::new(), logs: 0, ready: Vec::new() }
    }

    /// The time of the next event.
    fn time(&self) -> Option<Time> {
        let at = match self.ready.last() {
            Some(event) => event.as_ref().ok().map(|event| event.at.clone()),
            None => self.heap.peek()?.at.clone(),
        };
        Some((at.is_none(), at))
    }

    fn add_all(&mut self) -> Result<()> {
        let (store, name) = (self.store.clone(), self.name.clone());
        let layout = store.layout();
        let versions = numbers::versions(&layout.versions(&name))?;
        if let Some(highest) = versions.last() {
            self.add_log(LogKind::Versions, layout.versions(&name), highest.0 + 1);
        }
        for (version, changes) in removal::all_changes(&store, &name)? {
            self.add_log(LogKind::Removal(version), layout.removed(&name), changes + 1);
        }
        for alias in disk::list(&layout.aliases(&name))? {
            self.add_records(LogKind::Alias, layout.aliases(&name).join(alias))?;
        }
        let notes = layout.all_notes(&name);
        for entry in disk::list(&notes)? {
            if let Some(version) = entry.to_str().and_then(VersionNumber::of_text) {
                self.add_records(LogKind::Notes(version), notes.join(entry))?;
            }
        }
        for draft in draft::all(&store, &name)? {
            let draft = draft?;
            let dir = draft.log();
            self.add_records(LogKind::Draft(draft), dir)?;
        }
        Ok(())
    }

    fn add_records(&mut self, kind: LogKind, dir: PathBuf) -> Result<()> {
        let last = numbers::last_record(&dir)?;
        self.add_log(kind, dir, last);
        Ok(())
    }

    fn add_log(&mut self, kind: LogKind, dir: PathBuf, next: u64) {
        self.logs += 1;
        self.add(Log { kind, id: self.logs, dir, next });
    }

    /// Reads the next event of a log, and puts both into the heap.
    fn add(&mut self, log: Log) {
        if log.next == 0 {
            return;
        }
        let event = self.read(&log);
        let at = event.as_ref().ok().map(|(event, _)| event.at.clone());
        self.heap.push(Pending { at, event, log });
    }

    fn next(&mut self) -> Option<Result<Event>> {
        if self.ready.is_empty() {
            self.take_second();
        }
        self.ready.pop()
    }

    /// Takes the events of the newest second from the heap, and puts them in order.
    fn take_second(&mut self) {
        let Some(at) = self.heap.peek().map(|pending| pending.at.clone()) else { return };
        let mut second = Vec::new();
        while self.heap.peek().is_some_and(|newest| newest.at == at) {
            let Some(Pending { event, log, .. }) = self.heap.pop() else { return };
            match event {
                Ok((event, place)) => {
                    let leaves = Leaves::of(&event.what);
                    second.push(Placed { log: log.id, place, leaves, event: Ok(event) });
                }
                Err(e) => {
                    let continues = e.kind() == Kind::Damaged;
                    self.ready = vec![Err(e)];
                    if continues {
                        self.add(Log { next: log.next - 1, ..log });
                    } else {
                        self.heap.clear();
                    }
                    return;
                }
            }
            self.add(Log { next: log.next - 1, ..log });
        }
        event::order(&mut second);
        self.ready = second.into_iter().rev().map(|placed| placed.event).collect();
    }

    fn read(&self, log: &Log) -> Result<(Event, Place)> {
        let (at, what, by) = match &log.kind {
            LogKind::Versions => self.published(VersionNumber(log.next - 1))?,
            LogKind::Alias => self.moved(log)?,
            LogKind::Notes(version) => annotated(*version, log::read(&log.dir, log.next)?),
            LogKind::Draft(draft) => return in_draft(draft, log),
            LogKind::Removal(version) => self.removal(*version, log)?,
        };
        let place = what.place();
        Ok((Event { at, artifact: self.name.clone(), what, by }, place))
    }

    fn published(&self, version: VersionNumber) -> Result<(String, Happening, Actor)> {
        let lost = || Error::damaged(format!("{}:{version} is missing, and later versions exist", self.name));
        let (_, record) = version_record::read_record_at(&self.store, &self.name, version)?.ok_or_else(lost)?;
        let by = Actor { origin: record.origin, run: record.run.map(|run| run.id) };
        Ok((record.created_at, Happening::Published { version, mode: record.mode }, by))
    }

    fn moved(&self, log: &Log) -> Result<(String, Happening, Actor)> {
        let record: AliasRecord = log::read(&log.dir, log.next)?;
        let before = match log.next {
            1 => None,
            n => log::read::<AliasRecord>(&log.dir, n - 1)?.version,
        };
        let what = Happening::Alias { alias: record.alias, from: before, to: record.version };
        Ok((record.at, what, record.by))
    }

    fn removal(&self, version: VersionNumber, log: &Log) -> Result<(String, Happening, Actor)> {
        let changes = log.next - 1;
        let (at, by) = removal::change(&log.dir, version, changes)?;
        let what = match State::after(changes) {
            State::Removed => Happening::Removed(version),
            State::Restored => Happening::Restored(version),
        };
        Ok((at, what, by))
    }
}

fn annotated(version: VersionNumber, note: Note) -> (String, Happening, Actor) {
    let what = Happening::Annotated {
        version,
        tags: note.add_tags,
        removed_tags: note.remove_tags,
        description: note.description.is_some(),
        metadata: note.metadata.is_some(),
        ttl_seconds: note.ttl_seconds,
    };
    let by = Actor { run: note.produced_by.map(|run| run.id).or(note.by.run.clone()), ..note.by };
    (note.at, what, by)
}

fn in_draft(draft: &Draft, log: &Log) -> Result<(Event, Place)> {
    let link = log.dir.join(numbers::record_name(log.next));
    let lost = || Error::damaged(format!("number {} of the log of {draft} is missing", log.next));
    let record = draft.read_at(log.next, &claim::holder(&link)?.ok_or_else(lost)?)?;
    let head = record.head().clone();
    let mut place = None;
    let (change, run): (DraftChange, Option<RunId>) = match record {
        DraftRecord::Contribution(record) => (DraftChange::Contributed, Some(record.run.id)),
        DraftRecord::Drop(record) => (DraftChange::Dropped, Some(record.run)),
        DraftRecord::Discard(_) => (DraftChange::Discarded, None),
        DraftRecord::Finish(record) => {
            place = Some(event::place_of_finish(record.compared_with));
            (DraftChange::Finished, record.run.map(|run| run.id))
        }
    };
    let what = Happening::Draft { id: draft.id().clone(), change };
    let place = place.unwrap_or_else(|| what.place());
    let by = Actor { origin: head.origin, run };
    Ok((Event { at: head.at, artifact: draft.artifact().clone(), what, by }, place))
}
