//! Marks of runs that notes of a version name: `made/vN/HEX`, empty files. With them a run that puts the same content
//! again learns that it is noted, and reads no notes.
//!
//! A mark is made after its note is durable, and is not synced: if it is missing, the run may be noted a second time,
//! which changes nothing.

use super::numbers;
use super::version::Version;
use super::version_record::RunRecord;
use crate::disk;
use crate::error::Result;
use crate::store::Store;
use crate::types::{ArtifactName, Digest, VersionNumber};
use std::collections::HashSet;
use std::path::PathBuf;

/// The mark of a run: named by the digest of its record, so runs that differ in any field have different marks.
fn mark(version: &Version, run: &RunRecord) -> Option<PathBuf> {
    let record = serde_json::to_vec(run).ok()?;
    let dir = version.store().layout().noted_runs(version.artifact(), version.number());
    Some(dir.join(Digest::of(&record).hex()))
}

/// Whether the version's record or one of its notes certainly names the run.
///
/// # Errors
/// I/O.
pub(super) fn has(version: &Version, run: &RunRecord) -> Result<bool> {
    if version.record().run.as_ref() == Some(run) {
        return Ok(true);
    }
    Ok(mark(version, run).map(|mark| disk::lstat_revalidated(&mark)).transpose()?.flatten().is_some())
}

/// Marks a run that a durable note names. It is only a shortcut: an error leaves it out.
pub(super) fn add(version: &Version, run: &RunRecord) {
    if let Some(mark) = mark(version, run) {
        let _: Result<()> = version.store().disk().create_marker(&mark);
    }
}

/// Removes the marks of these versions, which are removed. If one is restored, a run may be noted a second time. Best
/// effort: a run may leave a mark at the same moment.
pub(crate) fn remove(store: &Store, name: &ArtifactName, removed: &HashSet<VersionNumber>) {
    let layout = store.layout();
    let Ok(marked) = numbers::versions(&layout.all_noted_runs(name)) else { return };
    for number in marked.into_iter().filter(|number| removed.contains(number)) {
        let _: Result<()> = store.disk().remove_tree(&layout.noted_runs(name, number));
    }
}
