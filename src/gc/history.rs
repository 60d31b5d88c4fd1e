//! What a store had when it was last collected. If it shows less now, the collection ends (L18).
//!
//! A cluster file system with a failed brick, a replica that is behind, or a restored backup with holes lists less than
//! there is. A collection would free the content of what is not listed.

use crate::catalog::given;
use crate::disk;
use crate::error::{Error, Result, show_list, show_path};
use crate::record;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The highest number of each artifact's versions and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    artifacts: BTreeMap<ArtifactName, Known>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The highest version number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The highest number of each log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    logs: BTreeMap<String, u64>,
}

impl History {
    pub(super) fn versions(&mut self, name: &ArtifactName, highest: u64) {
        self.artifacts.entry(name.clone()).or_default().version = Some(highest);
    }

    pub(super) fn log(&mut self, name: &ArtifactName, log: &str, last: u64) {
        self.artifacts.entry(name.clone()).or_default().logs.insert(log.to_owned(), last);
    }

    /// What the last collection saw; `None` before the first.
    pub(super) fn read(store: &Store) -> Result<Option<History>> {
        let path = store.layout().gc_history();
        let Some(bytes) = disk::read_small(&path, 1 << 30)? else { return Ok(None) };
        record::decode(&bytes, &show_path(&path)).map(Some)
    }

    /// Leaves marks of the highest numbers: their artifacts' next versions get higher ones, also if links are lost.
    pub(super) fn leave_marks(&self, store: &Store) -> Result<()> {
        let highest = self.artifacts.iter().filter_map(|(name, known)| Some((name, VersionNumber(known.version?))));
        highest.into_iter().try_for_each(|(name, number)| given::leave_collected(store, name, number))
    }

    /// Replaces what the last collection saw. `temporary` is a path on the same file system; the file is written there
    /// first.
    pub(super) fn write(&self, store: &Store, temporary: PathBuf) -> Result<()> {
        let file = store.disk().write_file(temporary, &record::encode(self)?)?;
        store.disk().sync_file(&file)?;
        store.disk().rename(file.path(), &store.layout().gc_history())
    }

    /// Compares what there is now with what there was.
    ///
    /// # Errors
    /// A conflict, if something is missing.
    pub(super) fn check(&self, now: &History, store: &Store) -> Result<()> {
        let mut missing = Vec::new();
        for (name, known) in &self.artifacts {
            let Some(found) = now.artifacts.get(name) else {
                missing.push(format!("artifact {name}"));
                continue;
            };
            if found.version < known.version {
                missing.extend(known.version.map(|highest| format!("{name}:v{highest}")));
            }
            let lost = known.logs.iter().filter(|(log, last)| found.logs.get(*log) < Some(last));
            missing.extend(lost.map(|(log, last)| format!("number {last} of {log} of {name}")));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "the store shows less than when it was last collected: {} missing",
            show_list(&missing)
        ))
        .with_cause("nothing was freed: content of what is not listed would be lost")
        .with_hint(format!(
            "check the file system; if an older copy of the store was restored on purpose, remove {}",
            show_path(&store.layout().gc_history())
        )))
    }
}
