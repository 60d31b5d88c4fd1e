//! Removed versions. `removed/v3` is the marker of the first removal of v3. What follows are its *changes*:
//! `removed/v3.000001` restores it, `removed/v3.000002` removes it again, and so on. So a version is removed if it has
//! a marker and an even number of changes. The number of a removed version is never given again; a collector frees the
//! space.

use super::numbers::{self, Numbered, unless_exactly};
use super::origin::Actor;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::txn::{OnePlace, claim};
use crate::types::{ArtifactName, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What is true once a version's marker or its change is there.
const REMOVED: &str = "it is removed";

/// The only place that the marker of a version may have.
pub(crate) fn place_of_marker(dir: &Path, version: VersionNumber) -> OnePlace<true> {
    OnePlace::at(dir.join(version.to_string())).done(REMOVED)
}

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    /// The version removed.
    pub version: VersionNumber,
    /// When, by the remover's clock.
    pub at: String,
    /// Who removed it.
    #[serde(flatten)]
    pub by: Actor,
}

impl Numbered for RemovalRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        unless_exactly(self.version.0, number)
    }
}

/// What a change makes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there again.
    Restored,
    /// It is removed again.
    Removed,
}

impl State {
    /// What change number `n` makes: they alternate.
    pub(crate) fn after(n: u64) -> State {
        if n.is_multiple_of(2) { State::Removed } else { State::Restored }
    }
}

/// A change of a version that was removed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// The version.
    pub version: VersionNumber,
    /// The only number that it may have.
    pub from: u64,
    /// What it makes of the version.
    pub state: State,
    /// When, by the writer's clock.
    pub at: String,
    /// Who did it.
    #[serde(flatten)]
    pub by: Actor,
}

impl Numbered for ChangeRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        let wrong = || format!("it says {:?}, which is not what number {number} says", self.state);
        unless_exactly(self.from, number).or_else(|| (self.state != State::after(number)).then(wrong))
    }
}

/// The only place that change `number` of a version may have.
pub(crate) fn place_of_change(dir: &Path, version: VersionNumber, number: u64) -> OnePlace<true> {
    let done = match State::after(number) {
        State::Restored => "it is restored",
        State::Removed => REMOVED,
    };
    OnePlace::at(dir.join(change_name(version, number))).done(done)
}

/// The name of a change.
pub(crate) fn change_name(version: VersionNumber, number: u64) -> String {
    format!("{version}.{}", numbers::record_name(number))
}

/// A change's version and number, from its name.
pub(crate) fn parse_change(name: &str) -> Option<(VersionNumber, u64)> {
    let (version, number) = name.split_once('.')?;
    Some((VersionNumber::of_text(version)?, numbers::parse_record(number)?))
}

/// Whether a version was ever removed, by a revalidated lookup: it has a marker.
///
/// # Errors
/// I/O.
pub fn was_removed(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<bool> {
    Ok(disk::lstat_revalidated(&store.layout().removed(name).join(number.to_string()))?.is_some())
}

/// How often a version's state changed since its first removal, by revalidated lookups; `None` if it was never removed.
///
/// # Errors
/// I/O.
pub fn changes(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<u64>> {
    if !was_removed(store, name, number)? {
        return Ok(None);
    }
    let of_this = |name: &str| parse_change(name).filter(|(version, _)| *version == number).map(|(_, n)| n);
    let dir = store.layout().removed(name);
    numbers::highest_from(&dir, 1, |n| change_name(number, n), of_this).map(|highest| Some(highest.unwrap_or(0)))
}

/// Whether a version is removed, by revalidated lookups.
///
/// # Errors
/// I/O.
pub fn is_removed(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<bool> {
    Ok(changes(store, name, number)?.is_some_and(is_removed_after))
}

/// Whether a version with a marker is removed after this many changes.
pub(crate) fn is_removed_after(changes: u64) -> bool {
    State::after(changes) == State::Removed
}

/// How often the state of each version that was ever removed changed since. One listing.
///
/// # Errors
/// I/O.
pub fn all_changes(store: &Store, name: &ArtifactName) -> Result<BTreeMap<VersionNumber, u64>> {
    let mut out = BTreeMap::new();
    for entry in disk::list(&store.layout().removed(name))? {
        let Some(text) = entry.to_str() else { continue };
        let found = VersionNumber::of_text(text).map(|version| (version, 0)).or_else(|| parse_change(text));
        if let Some((version, number)) = found {
            let highest: &mut u64 = out.entry(version).or_default();
            *highest = number.max(*highest);
        }
    }
    Ok(out)
}

/// The numbers of all removed versions, ascending.
///
/// # Errors
/// I/O.
pub fn removed(store: &Store, name: &ArtifactName) -> Result<Vec<VersionNumber>> {
    let all = all_changes(store, name)?;
    Ok(all.into_iter().filter(|(_, changes)| is_removed_after(*changes)).map(|(version, _)| version).collect())
}

/// When a removed version was removed, and by whom; `None` if it is not removed.
///
/// # Errors
/// Damaged; I/O.
pub fn last_removal(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<(String, Actor)>> {
    let changes = changes(store, name, number)?.filter(|changes| is_removed_after(*changes));
    changes.map(|changes| change(&store.layout().removed(name), number, changes)).transpose()
}

/// When a version changed its state, and who did it. Change 0 is its first removal.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn change(dir: &Path, version: VersionNumber, number: u64) -> Result<(String, Actor)> {
    if number == 0 {
        let record: RemovalRecord = read(dir, &dir.join(version.to_string()), version.0)?;
        return Ok((record.at, record.by));
    }
    let record: ChangeRecord = read(dir, &dir.join(change_name(version, number)), number)?;
    Ok((record.at, record.by))
}

/// The record that is claimed at `link`, which is number `number`.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn read<T: serde::de::DeserializeOwned + Numbered>(dir: &Path, link: &Path, number: u64) -> Result<T> {
    let token = claim::holder(link)?.ok_or_else(|| Error::damaged(format!("{} is missing", show_path(link))))?;
    let record = claim::read_record(&dir.join(token.record_name()))?;
    numbers::check_number(&record, number, link)?;
    Ok(record)
}
