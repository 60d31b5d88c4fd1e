//! Which runs used a version. A use is recorded once for each version and run; nothing else depends on it.

use super::artifact::ensure_dir;
use super::origin::Origin;
use super::removed_version::removed_error;
use super::version::Version;
use super::version_record::RunRecord;
use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::store::Store;
use crate::txn::{OnePlace, Place, Prepared, Unfenced, claim};
use crate::types::{ArtifactName, RunId, VersionNumber};
use crate::{clock, record};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// That a run used a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseRecord {
    /// The version.
    pub version: VersionNumber,
    /// The run.
    pub run: RunRecord,
    /// When it was recorded first, by the clock of the host that did it.
    pub at: String,
    /// Who recorded it.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Records that a run uses a version. Returns whether this is new.
///
/// # Errors
/// Not found: the version is removed. Damaged; I/O.
pub fn record(version: &Version, run: &RunRecord) -> Result<bool> {
    let (store, name, number) = (version.store(), version.artifact(), version.number());
    if let Some(e) = removed_error(store, name, number)? {
        return Err(e);
    }
    let dir = store.layout().uses(name, number);
    let link = store.layout().used_by(name, number, &run.id);
    if claim::holder(&link)?.is_some() {
        store.disk().sync_dir(&dir)?; // it may have been recorded a moment ago, and not be durable
        return Ok(false);
    }
    store.check_writable()?;
    ensure_dir(store, &dir)?;
    let place = OnePlace::<true>::at(link);
    let used = UseRecord { version: number, run: run.clone(), at: clock::now(), origin: Origin::here() };
    let prepared = Prepared::one_file(store, Unfenced::begin(), place, &record::encode(&used)?)?;
    Ok(matches!(prepared.durable()?.place()?.end(), Place::At(_)))
}

/// The record at `link`, compared with its place.
///
/// # Errors
/// Damaged; I/O.
pub(crate) fn read(link: &Path, number: VersionNumber) -> Result<UseRecord> {
    let dir = link.parent().unwrap_or(link);
    let token = claim::holder(link)?.ok_or_else(|| Error::damaged(format!("{} vanished", show_path(link))))?;
    let used: UseRecord = claim::read_record(&dir.join(token.record_name()))?;
    let name = link.file_name().unwrap_or_default();
    if used.version != number || used.run.id.file_name().as_bytes() != name.as_encoded_bytes() {
        let why = format!("its record says that run {} used {}", used.run.id, used.version);
        return Err(Error::damaged(format!("{}: {why}", show_path(link))));
    }
    Ok(used)
}

/// The runs that used a version, sorted, and the errors of those that cannot be read. A run whose id is its file's name
/// is not read.
///
/// # Errors
/// I/O.
pub fn runs(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<(Vec<RunId>, Vec<Error>)> {
    let dir = store.layout().uses(name, number);
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for entry in disk::list(&dir)?.iter().filter(|entry| !entry.as_encoded_bytes().starts_with(b".")) {
        let of_name = entry.to_str().and_then(RunId::of_file_name);
        match of_name.map_or_else(|| read(&dir.join(entry), number).map(|used| used.run.id), Ok) {
            Ok(run) => found.push(run),
            Err(e) if e.kind() == crate::error::Kind::Damaged => damaged.push(e),
            Err(e) => return Err(e),
        }
    }
    found.sort();
    Ok((found, damaged))
}

/// Every version of an artifact that has a use.
///
/// # Errors
/// I/O.
pub(super) fn used_versions(store: &Store, name: &ArtifactName) -> Result<Vec<VersionNumber>> {
    super::numbers::versions(&store.layout().all_uses(name))
}
