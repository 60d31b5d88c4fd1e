//! Marks of versions that aliases and collections name: `given/vN`, empty files, of which the highest counts.
//!
//! A new version gets a number above the highest mark, also if the links of the numbers up to it are lost. So a writer
//! lists one small directory; it does not read every alias, nor what the last collection saw of all artifacts. What
//! names a version leaves its mark first.

use super::numbers;
use crate::error::Result;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use crate::{disk, record};
use serde::Deserialize;
use std::collections::HashMap;

/// A damaged record, or a stray file, may name any number. Higher ones than this show nothing.
pub(super) const MAX_GIVEN: u64 = 1 << 40;

/// The part of `gc.json` that is about numbers of versions.
#[derive(Deserialize)]
struct Collected {
    artifacts: HashMap<String, CollectedArtifact>,
}

#[derive(Deserialize)]
struct CollectedArtifact {
    #[serde(default)]
    version: Option<u64>,
}

/// The marks of an artifact, ascending. None: an earlier release made what names its versions, or nothing names them.
///
/// # Errors
/// I/O.
pub(super) fn marks(store: &Store, name: &ArtifactName) -> Result<Vec<VersionNumber>> {
    let mut marks = numbers::versions(&store.layout().given(name))?;
    marks.retain(|mark| mark.0 <= MAX_GIVEN);
    Ok(marks)
}

/// Leaves a mark of `number`, and then removes `lower`, the marks that were there: all are of lower numbers. It is not
/// synced: a mark matters only if the link of its number is lost, which was synced.
///
/// # Errors
/// I/O.
pub(super) fn leave(
    store: &Store,
    name: &ArtifactName,
    number: VersionNumber,
    lower: Vec<VersionNumber>,
) -> Result<()> {
    let (disk, dir) = (store.disk(), store.layout().given(name));
    let path = |number: VersionNumber| dir.join(number.to_string());
    disk.create_marker(&path(number))?;
    for number in lower {
        let _: Result<()> = disk.remove_file(&path(number)); // another process may have removed it
    }
    Ok(())
}

/// Leaves a mark of the highest number that a collection saw, unless there is one of it or of a higher number.
///
/// # Errors
/// I/O.
pub(crate) fn leave_collected(store: &Store, name: &ArtifactName, highest: VersionNumber) -> Result<()> {
    if disk::lstat(&store.layout().given(name).join(highest.to_string()))?.is_some() {
        return Ok(());
    }
    let lower = marks(store, name)?;
    if lower.last() >= Some(&highest) {
        return Ok(());
    }
    leave(store, name, highest, lower)
}

/// The highest number of an artifact that the last collection saw, from `gc.json`.
///
/// # Errors
/// I/O.
pub(super) fn collected(store: &Store, name: &ArtifactName) -> Result<Option<VersionNumber>> {
    let Some(bytes) = disk::read_small(&store.layout().gc_history(), 1 << 30)? else { return Ok(None) };
    let quoted = format!("\"{name}\"");
    if !bytes.windows(quoted.len()).any(|found| found == quoted.as_bytes()) {
        return Ok(None); // a new artifact: most of a large list need not be decoded for it
    }
    // A damaged list shows nothing; the next collection reports it.
    let Ok(collected) = record::decode::<Collected>(&bytes, "gc.json") else { return Ok(None) };
    let version = collected.artifacts.get(name.as_str()).and_then(|artifact| artifact.version);
    Ok(version.filter(|number| *number <= MAX_GIVEN).map(VersionNumber))
}
