//! Removes versions, and brings back those that an alias moved to meanwhile.

use super::restore::restore;
use crate::catalog::alias;
use crate::catalog::remove::{Force, remove_all as mark_all};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::types::{AliasName, ArtifactName, VersionNumber};
use std::time::{Duration, Instant};

/// How long a process that moved an alias to a removed version has to undo the move. The version is restored if it
/// takes longer.
const UNDO: Duration = Duration::from_secs(2);

/// Removes versions of an artifact, as [`crate::catalog::remove::remove_all`]. But a version that an alias names
/// afterwards is restored, unless its removal was forced. `removed` gets what stays removed, also if there is an error.
///
/// # Errors
/// As [`crate::catalog::remove::remove_all`]. Conflict: also for a version that was restored.
pub fn remove_all(
    store: &Store,
    name: &ArtifactName,
    numbers: &[VersionNumber],
    force: Force,
    removed: &mut Vec<VersionNumber>,
) -> Result<()> {
    let mut done = Vec::new();
    let mut result = mark_all(store, name, numbers, force, &mut done);
    if force == Force::No && result.as_ref().is_err_and(|e| e.kind() == Kind::Conflict) && !done.is_empty() {
        result = bring_back_named(store, name, &mut done);
    }
    removed.extend(done);
    result
}

impl Store {
    /// Removes a version. If an alias moves to it at the same moment, it is restored, unless the removal is forced.
    ///
    /// # Errors
    /// Usage: a name that is not allowed. Not found: there is no such version, or it is removed already. Conflict: an
    /// alias names it or a mount uses it, unless forced. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
    /// use cairn::catalog::remove::Force;
    /// let version = cairn::Artifact::new("images", "dataset")?.add_bytes("a.txt", "a")?.save(&store)?.version;
    /// store.remove("images", version.number(), Force::No)?;
    /// assert!(store.version("images:v0").is_err());
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn remove(&self, artifact: &str, number: VersionNumber, force: Force) -> Result<()> {
        remove_all(self, &ArtifactName::parse(artifact)?, &[number], force, &mut Vec::new())
    }
}

/// Restores what was removed although an alias moved to it just before: that was not forced. An alias that moved after
/// the removal is moved back by the process that moved it, and the version stays removed.
fn bring_back_named(store: &Store, name: &ArtifactName, removed: &mut Vec<VersionNumber>) -> Result<()> {
    let begun = Instant::now();
    let named = loop {
        let named: Vec<(AliasName, VersionNumber)> =
            alias::all(store, name)?.into_iter().filter(|(_, version)| removed.contains(version)).collect();
        if named.is_empty() || begun.elapsed() > UNDO {
            break named;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    for (_, version) in &named {
        restore(store, name, *version)?;
        removed.retain(|number| number != version);
    }
    match named.first() {
        None => Ok(()),
        Some((alias, version)) => Err(Error::conflict(format!(
            "{name}:{version} is named by alias {alias}, which moved to it at the same moment: it was not removed"
        ))
        .with_hint("remove the alias first, or use --force")),
    }
}
