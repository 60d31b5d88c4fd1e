//! Notes: what may change after the commit (description, metadata, tags), each change a record in the version's log.

use super::log;
use super::note_log::NoteLog;
use super::note_record::NoteSummary;
pub use super::note_record::{Metadata, Note};
use super::noted_runs;
use super::origin::Actor;
use super::version::Version;
use super::version_record::RunRecord;
use crate::clock;
use crate::disk;
use crate::error::{Error, Result};
use crate::lock::Purpose;
use crate::record;
use crate::store::Store;
use crate::types::{AliasName, Tag};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// A version's changeable part as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// For people.
    pub description: Option<String>,
    /// The user's JSON object.
    pub metadata: Metadata,
    /// Tags in the order they were given.
    pub tags: Vec<Tag>,
    /// The runs that made this content, the first one first.
    pub runs: Vec<RunRecord>,
    /// How long after its commit the version expires; `rm --expired` removes it then.
    pub ttl_seconds: Option<u64>,
}

impl Annotations {
    /// Applies `changes`, the oldest one first.
    fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a NoteSummary>) {
        let before = std::mem::take(&mut self.runs);
        let (mut runs, mut added): (HashSet<&RunRecord>, _) = (before.iter().collect(), Vec::new());
        for change in changes {
            self.description = change.description.clone().or(self.description.take());
            if let Some(ttl) = change.ttl_seconds {
                self.ttl_seconds = (ttl > 0).then_some(ttl);
            }
            if let Some(metadata) = &change.metadata {
                self.metadata = metadata.clone();
            }
            self.tags.retain(|t| !change.remove_tags.contains(t));
            for tag in &change.add_tags {
                if !self.tags.contains(tag) {
                    self.tags.push(tag.clone());
                }
            }
            added.extend(change.runs.iter().filter(|run| runs.insert(*run)));
        }
        let added: Vec<RunRecord> = added.into_iter().cloned().collect();
        self.runs = before;
        self.runs.extend(added);
    }

    /// These without the runs, of which there may be many.
    fn without_runs(&self) -> Annotations {
        let Annotations { description, metadata, tags, runs: _, ttl_seconds } = self;
        Annotations {
            description: description.clone(),
            metadata: metadata.clone(),
            tags: tags.clone(),
            runs: Vec::new(),
            ttl_seconds: *ttl_seconds,
        }
    }
}

impl Version {
    /// Description, metadata and tags as they are now.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn annotations(&self) -> Result<Annotations> {
        NotedVersion::read(self).map(|noted| noted.annotations)
    }
}

/// A version's annotations, and the notes that they come from.
struct NotedVersion {
    annotations: Annotations,
    notes: NoteLog,
}

impl NotedVersion {
    /// The commit's annotations, then those of every note in order.
    fn read(version: &Version) -> Result<NotedVersion> {
        let (store, record) = (version.store(), version.record());
        let mut annotations = Annotations {
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            tags: record.tags.clone(),
            runs: record.run.clone().into_iter().collect(),
            ttl_seconds: None,
        };
        let dir = store.layout().notes(version.artifact(), version.number());
        let notes = if has_notes(&dir)? { NoteLog::read(&dir)? } else { NoteLog::new(&dir, 0) };
        annotations.apply(notes.pieces());
        Ok(NotedVersion { annotations, notes })
    }

    /// The note that `change` makes, and what it changes; `None` if that is nothing.
    fn changed_by(&self, change: &dyn Fn(&Annotations) -> Result<Note>) -> Result<Option<(Note, Recorded)>> {
        let note = change(&self.annotations)?;
        let is_new_run = note.produced_by.as_ref().is_some_and(|run| !self.annotations.runs.contains(run));
        let before = self.annotations.without_runs();
        let mut after = before.clone();
        after.apply([&NoteSummary::of(0, Note { produced_by: None, ..note.clone() })]);
        Ok((is_new_run || after != before).then(|| (note, Recorded::between(&before, &after))))
    }

    /// The note that gets this number. With a summary only if it comes directly after those that were read.
    fn next(&mut self, store: &Store, note: &Note, number: u64) -> Result<Note> {
        if number == self.notes.last + 1 {
            next_note(store, note, &mut self.notes)
        } else {
            Ok(as_recorded(store, note))
        }
    }
}

/// A note as it is recorded.
fn as_recorded(store: &Store, note: &Note) -> Note {
    Note { at: clock::now(), by: Actor::of(store), ..note.clone() }
}

/// A note as it is recorded directly after `notes`, with a summary if it is time for one.
fn next_note(store: &Store, note: &Note, notes: &mut NoteLog) -> Result<Note> {
    let next = as_recorded(store, note);
    let with_summary = Note { before: notes.summary()?, ..next.clone() };
    // Metadata may be so large that both do not fit into a record.
    Ok(if with_summary.before.is_none() || record::encode(&with_summary).is_err() { next } else { with_summary })
}

/// Whether a version has a log of notes. Most have none: one lookup shows it.
fn has_notes(dir: &Path) -> Result<bool> {
    Ok(disk::lstat_revalidated(dir)?.is_some())
}

/// What a note changed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Recorded {
    /// Aliases that moved to the version.
    pub aliases: Vec<AliasName>,
    /// Tags that the version did not have.
    pub tags: Vec<Tag>,
    /// Whether the description changed.
    pub description: bool,
    /// Whether the metadata changed.
    pub metadata: bool,
    /// Whether the time to live changed.
    pub ttl: bool,
    /// The metadata keys that the version had and has no longer.
    pub dropped_keys: Vec<String>,
}

impl Recorded {
    fn between(before: &Annotations, after: &Annotations) -> Recorded {
        Recorded {
            aliases: Vec::new(),
            tags: after.tags.iter().filter(|t| !before.tags.contains(t)).cloned().collect(),
            description: before.description != after.description,
            metadata: before.metadata != after.metadata,
            ttl: before.ttl_seconds != after.ttl_seconds,
            dropped_keys: before.metadata.keys().filter(|k| !after.metadata.contains_key(*k)).cloned().collect(),
        }
    }
}

/// Records a change, if it changes anything, and returns what it changed.
///
/// # Errors
/// Damaged; I/O.
pub fn add(version: &Version, note: Note) -> Result<Recorded> {
    let note = without_noted_run(version, note)?;
    let run = note.produced_by.clone();
    let recorded = add_if(version, note, |_| true)?;
    if let Some(run) = run {
        noted_runs::add(version, &run);
    }
    Ok(recorded)
}

/// Adds a note with the number after `after`, and not at all if that number is taken.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn add_after(version: &Version, note: &Note, after: u64) -> Result<()> {
    add_if(version, without_noted_run(version, note.clone())?, |number| number == after + 1).map(drop)
}

/// The note without its run if that is marked as noted, which is durable then.
fn without_noted_run(version: &Version, note: Note) -> Result<Note> {
    let is_noted = note.produced_by.as_ref().map(|run| noted_runs::has(version, run)).transpose()?;
    Ok(if is_noted == Some(true) { Note { produced_by: None, ..note } } else { note })
}

/// Records a change if it changes anything and may have the next number. What all earlier notes come to is read only
/// if it changes more than which runs made the content.
fn add_if(version: &Version, note: Note, may_have: impl Fn(u64) -> bool) -> Result<Recorded> {
    let is_run_alone = note == Note { produced_by: note.produced_by.clone(), ..Note::default() };
    match &note.produced_by {
        None if is_run_alone => Ok(Recorded::default()),
        Some(run) if is_run_alone => add_run(version, &note, run, may_have).map(|()| Recorded::default()),
        _ => change_if(version, &|_| Ok(note.clone()), may_have),
    }
}

/// Adds a note that only names a run, unless one of the last notes names it.
fn add_run(version: &Version, note: &Note, run: &RunRecord, may_have: impl Fn(u64) -> bool) -> Result<()> {
    let store = version.store();
    let dir = store.layout().notes(version.artifact(), version.number());
    log::append(store, &dir, &purpose(version), |_: Option<Note>, number| {
        let mut notes = NoteLog::new(&dir, number - 1);
        let next = next_note(store, note, &mut notes)?;
        Ok((may_have(number) && !notes.names(run)).then_some(next))
    })
    .map(drop)
}

fn purpose(version: &Version) -> Purpose<'_> {
    Purpose { purpose: "note", artifact: Some(version.artifact().as_str()), ..Purpose::default() }
}

/// Records what `change` makes of the annotations, if it changes anything, and returns what it changed. If another note
/// is recorded at the same moment, `change` is asked again with that one applied, so it never undoes it.
///
/// # Errors
/// Those of `change`; damaged; I/O.
pub fn edit(version: &Version, change: impl Fn(&Annotations) -> Result<Note>) -> Result<Recorded> {
    change_if(version, &change, |_| true)
}

fn change_if(
    version: &Version,
    change: &dyn Fn(&Annotations) -> Result<Note>,
    may_have: impl Fn(u64) -> bool,
) -> Result<Recorded> {
    let store = version.store();
    let noted = NotedVersion::read(version)?;
    let is_empty = change(&noted.annotations)? == Note::default();
    if let Some(recorded) = append(version, change, noted, may_have)? {
        return Ok(recorded);
    }
    // Recorded before, perhaps a moment ago and not durable yet.
    let dir = store.layout().notes(version.artifact(), version.number());
    if !is_empty && has_notes(&dir)? {
        store.disk().sync_dir(&dir)?;
    }
    Ok(Recorded::default())
}

/// Adds a note to a version that was read a moment ago, if it changes anything and may have the next number. Returns
/// what it changed, if it was added.
fn append(
    version: &Version,
    change: &dyn Fn(&Annotations) -> Result<Note>,
    mut noted: NotedVersion,
    may_have: impl Fn(u64) -> bool,
) -> Result<Option<Recorded>> {
    let store = version.store();
    if noted.changed_by(change)?.is_none() {
        return Ok(None);
    }
    let dir = store.layout().notes(version.artifact(), version.number());
    let mut recorded = None;
    log::append(store, &dir, &purpose(version), |_: Option<Note>, number| {
        if number != noted.notes.last + 1 {
            noted = NotedVersion::read(version)?; // another note was added
        }
        recorded = None;
        let Some((note, found)) = noted.changed_by(change)?.filter(|_| may_have(number)) else { return Ok(None) };
        recorded = Some(found);
        noted.next(store, &note, number).map(Some)
    })?;
    Ok(recorded)
}

/// How deep metadata may nest: JSON readers have a bound, and records add levels of their own.
const MAX_DEPTH: usize = 64;

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Checks a user's metadata: an object of at most 100 top-level keys, 64 KiB, and less than 64 nested objects or lists.
///
/// # Errors
/// Usage: a bound is exceeded; the message says which.
pub fn check_metadata(metadata: &Metadata) -> Result<()> {
    let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |v| v.len());
    if metadata.len() > 100 {
        return Err(Error::usage(format!("metadata has {} top-level keys: at most 100", metadata.len())));
    }
    if metadata.values().map(depth).max().unwrap_or(0) >= MAX_DEPTH {
        return Err(Error::usage(format!(
            "metadata nests too deep: less than {MAX_DEPTH} levels of objects and lists are allowed"
        )));
    }
    if bytes > 64 << 10 {
        return Err(Error::usage(format!("metadata takes {bytes} bytes: at most 65,536"))
            .with_hint("put large values into a file of the version"));
    }
    Ok(())
}

/// An integer that is neither an `i64` nor a `u64`: readers of JSON would make it a rounded float.
fn is_large_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

/// Parses metadata as people and Python write it: a JSON object in which `NaN` counts as null; infinities are refused.
///
/// # Errors
/// Usage: it is not a JSON object, or has an infinity or an integer beyond 64 bits, or exceeds a bound.
///
/// # Example
/// ```
/// let m = cairn::catalog::parse_metadata(r#"{"loss": NaN, "note": "NaN stays in strings"}"#).unwrap();
/// assert!(m["loss"].is_null());
/// assert!(cairn::catalog::parse_metadata(r#"{"loss": -Infinity}"#).is_err());
/// assert!(cairn::catalog::parse_metadata(r#"{"id": 18446744073709551616}"#).is_err(), "it would be rounded");
/// ```
pub fn parse_metadata(text: &str) -> Result<Metadata> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let mut take = c.len_utf8();
        match c {
            '\\' if in_string => take += rest[1..].chars().next().map_or(0, char::len_utf8),
            '"' => in_string = !in_string,
            'N' if !in_string && rest.starts_with("NaN") => {
                plain.push_str("null");
                rest = &rest[3..];
                continue;
            }
            'I' if !in_string && rest.starts_with("Infinity") => {
                return Err(
                    Error::usage("metadata has an infinite number: JSON has none").with_hint("use null or a string")
                );
            }
            '-' | '0'..='9' if !in_string => {
                let part_of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                take = rest.find(|c| !part_of_number(c)).unwrap_or(rest.len());
                if rest[..take].ends_with("Infinity") {
                    take = 1; // what follows the sign is refused next
                } else if is_large_integer(&rest[..take]) {
                    let why = format!(
                        "metadata has the integer {}, which does not fit into 64 bits and would be rounded",
                        &rest[..take]
                    );
                    return Err(Error::usage(why).with_hint("write it as a string"));
                }
            }
            _ => {}
        }
        plain.push_str(&rest[..take]);
        rest = &rest[take..];
    }
    let value: Value = serde_json::from_str(&plain).map_err(|e| Error::usage("metadata is not JSON").with_source(e))?;
    let Value::Object(metadata) = value else {
        return Err(
            Error::usage("metadata must be a JSON object").with_hint(r#"for example --metadata '{"source": "scan"}'"#)
        );
    };
    check_metadata(&metadata)?;
    Ok(metadata)
}
