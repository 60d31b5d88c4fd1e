//! What happened to an artifact, the newest first: from the records of its versions, removals, aliases, notes and
//! drafts.
//!
//! Each log is read from its end, one record at a time, and the logs are merged by the times in their records. So the
//! newest events cost little, however long the logs are. Times are by the writers' clocks: they order the events of
//! different logs, and nothing else depends on them.

use super::alias::AliasRecord;
use super::draft::{self, Draft, DraftRecord};
use super::note::Note;
use super::origin::Actor;
use super::removal::{self, State};
use super::version_record::{self, Mode};
use super::{artifact, log, numbers};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{AliasName, ArtifactName, DistributedId, RunId, Tag, VersionNumber};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::PathBuf;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// When, by the clock of who did it.
    pub at: String,
    /// To which artifact.
    pub artifact: ArtifactName,
    /// What.
    pub what: Happening,
    /// Who did it, as far as the record says.
    pub by: Actor,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A version was published.
    Published {
        /// Which.
        version: VersionNumber,
        /// How it was made.
        mode: Mode,
    },
    /// A version was removed.
    Removed(VersionNumber),
    /// A removed version was restored.
    Restored(VersionNumber),
    /// An alias moved.
    Alias {
        /// Which.
        alias: AliasName,
        /// Where it pointed before.
        from: Option<VersionNumber>,
        /// Where it points then.
        to: Option<VersionNumber>,
    },
    /// A version was annotated, or a run made its content again.
    Annotated {
        /// Which version.
        version: VersionNumber,
        /// The tags that were added.
        tags: Vec<Tag>,
        /// The tags that were removed.
        removed_tags: Vec<Tag>,
        /// Whether the description was set.
        description: bool,
        /// Whether the metadata was set.
        metadata: bool,
        /// The time to live that was set; 0: it was removed.
        ttl_seconds: Option<u64>,
    },
    /// Something was recorded in a draft.
    Draft {
        /// Its id.
        id: DistributedId,
        /// What.
        change: DraftChange,
    },
}

/// What was recorded in a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DraftChange {
    /// A run contributed.
    Contributed,
    /// A run's contributions were dropped.
    Dropped,
    /// It was discarded.
    Discarded,
    /// It was finished.
    Finished,
}

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
    let mut sources = Sources { store: store.clone(), name: name.clone(), heap: BinaryHeap::new() };
    match only {
        Some(alias) => sources.add_log(LogKind::Alias, store.layout().alias(name, alias))?,
        None => sources.add_all()?,
    }
    Ok(Events(vec![sources]))
}

/// The events of all artifacts.
///
/// # Errors
/// I/O.
pub fn all(store: &Store) -> Result<Events> {
    let mut out = Vec::new();
    for name in artifact::all_with_drafts(store)? {
        let mut sources = Sources { store: store.clone(), name, heap: BinaryHeap::new() };
        sources.add_all()?;
        out.push(sources);
    }
    Ok(Events(out))
}

/// Events, the newest first.
pub struct Events(Vec<Sources>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        let newest = self.0.iter_mut().filter(|sources| !sources.heap.is_empty());
        newest.max_by(|a, b| a.heap.peek().cmp(&b.heap.peek()))?.next()
    }
}

/// The logs of one artifact. Each is in the heap with its newest event that was not given out.
struct Sources {
    store: Store,
    name: ArtifactName,
    heap: BinaryHeap<Pending>,
}

/// The newest event of a log, and where the log continues.
struct Pending {
    /// The time; of a damaged record none, so that it comes first.
    at: Option<String>,
    event: Result<Event>,
    log: Log,
}

#[derive(Clone)]
struct Log {
    kind: LogKind,
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
    fn add_all(&mut self) -> Result<()> {
        let (store, name) = (self.store.clone(), self.name.clone());
        let layout = store.layout();
        let versions = numbers::versions(&layout.versions(&name))?;
        if let Some(highest) = versions.last() {
            self.add(Log { kind: LogKind::Versions, dir: layout.versions(&name), next: highest.0 + 1 });
        }
        for (version, changes) in removal::all_changes(&store, &name)? {
            let kind = LogKind::Removal(version);
            self.add(Log { kind, dir: layout.removed(&name), next: changes + 1 });
        }
        for alias in disk::list(&layout.aliases(&name))? {
            self.add_log(LogKind::Alias, layout.aliases(&name).join(alias))?;
        }
        let notes = layout.all_notes(&name);
        for entry in disk::list(&notes)? {
            if let Some(version) = entry.to_str().and_then(VersionNumber::of_text) {
                self.add_log(LogKind::Notes(version), notes.join(entry))?;
            }
        }
        for draft in draft::all(&store, &name)? {
            let draft = draft?;
            let dir = draft.log();
            self.add_log(LogKind::Draft(draft), dir)?;
        }
        Ok(())
    }

    fn add_log(&mut self, kind: LogKind, dir: PathBuf) -> Result<()> {
        let next = numbers::last_record(&dir)?;
        self.add(Log { kind, dir, next });
        Ok(())
    }

    /// Reads the next event of a log, and puts both into the heap.
    fn add(&mut self, log: Log) {
        if log.next == 0 {
            return;
        }
        let event = self.read(&log);
        let at = event.as_ref().ok().map(|event| event.at.clone());
        self.heap.push(Pending { at, event, log });
    }

    fn next(&mut self) -> Option<Result<Event>> {
        let Pending { event, log, .. } = self.heap.pop()?;
        let continues = !matches!(&event, Err(e) if e.kind() != Kind::Damaged);
        if continues {
            self.add(Log { next: log.next - 1, ..log });
        } else {
            self.heap.clear();
        }
        Some(event)
    }

    fn read(&self, log: &Log) -> Result<Event> {
        let (at, what, by) = match &log.kind {
            LogKind::Versions => self.published(VersionNumber(log.next - 1))?,
            LogKind::Alias => self.moved(log)?,
            LogKind::Notes(version) => annotated(*version, log::read(&log.dir, log.next)?),
            LogKind::Draft(draft) => in_draft(draft, log)?,
            LogKind::Removal(version) => self.removal(*version, log)?,
        };
        Ok(Event { at, artifact: self.name.clone(), what, by })
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

fn in_draft(draft: &Draft, log: &Log) -> Result<(String, Happening, Actor)> {
    let link = log.dir.join(numbers::record_name(log.next));
    let lost = || Error::damaged(format!("number {} of the log of {draft} is missing", log.next));
    let record = draft.read_at(log.next, &claim::holder(&link)?.ok_or_else(lost)?)?;
    let head = record.head().clone();
    let (change, run): (DraftChange, Option<RunId>) = match record {
        DraftRecord::Contribution(record) => (DraftChange::Contributed, Some(record.run.id)),
        DraftRecord::Drop(record) => (DraftChange::Dropped, Some(record.run)),
        DraftRecord::Discard(_) => (DraftChange::Discarded, None),
        DraftRecord::Finish(record) => (DraftChange::Finished, record.run.map(|run| run.id)),
    };
    Ok((head.at, Happening::Draft { id: draft.id().clone(), change }, Actor { origin: head.origin, run }))
}
