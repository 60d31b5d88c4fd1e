//! Removed versions: a marker under `removed/`. The number is never given again; a collector frees the space.

use super::numbers::{self, Numbered, unless_exactly};
use crate::disk;
use crate::error::Result;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use serde::{Deserialize, Serialize};

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    /// The version removed.
    pub version: VersionNumber,
    /// When, by the remover's clock.
    pub at: String,
    /// The remover's host.
    pub host: String,
}

impl Numbered for RemovalRecord {
    fn contradicts(&self, number: u64) -> Option<String> {
        unless_exactly(self.version.0, number)
    }
}

/// Whether a version is removed, by a revalidated lookup.
///
/// # Errors
/// I/O.
pub fn is_removed(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<bool> {
    Ok(disk::lstat_revalidated(&store.layout().removed(name).join(number.to_string()))?.is_some())
}

/// The numbers of all removed versions, ascending.
///
/// # Errors
/// I/O.
pub fn removed(store: &Store, name: &ArtifactName) -> Result<Vec<VersionNumber>> {
    numbers::versions(&store.layout().removed(name))
}
