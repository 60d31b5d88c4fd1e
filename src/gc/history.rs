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

    /// Adds what this collection saw to what the ones before it saw. Another one may have ended since this one looked,
    /// and have seen more. `temporary` is a path on the same file system; the file is written there first.
    pub(super) fn write(&self, store: &Store, temporary: PathBuf) -> Result<()> {
        let mut seen = self.clone();
        if let Some(before) = History::read(store)? {
            seen.add(before);
        }
        let file = store.disk().write_file(temporary, &record::encode(&seen)?)?;
        store.disk().sync_file(&file)?;
        store.disk().rename(file.path(), &store.layout().gc_history())
    }

    /// Keeps the higher of two numbers of each artifact and log.
    fn add(&mut self, other: History) {
        for (name, known) in other.artifacts {
            let own = self.artifacts.entry(name).or_default();
            own.version = own.version.max(known.version);
            for (log, last) in known.logs {
                let own = own.logs.entry(log).or_default();
                *own = last.max(*own);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_that_saw_less_than_one_that_ended_before_it_takes_nothing_back() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::init(tmp.path().join("s"), &Default::default()).unwrap();
        let history = |numbers: &[(&str, u64)]| {
            let mut history = History::default();
            for (name, highest) in numbers {
                let name = ArtifactName::parse(name).unwrap();
                history.versions(&name, *highest);
                history.log(&name, "alias x", 10 - *highest);
            }
            history
        };
        for numbers in [&[("a", 3), ("b", 1)][..], &[("a", 2), ("c", 5)]] {
            history(numbers).write(&store, store.root().join("new")).unwrap();
        }
        let read = History::read(&store).unwrap().unwrap();
        let of = |name: &str| {
            let known = &read.artifacts[&ArtifactName::parse(name).unwrap()];
            (known.version, known.logs["alias x"])
        };
        assert_eq!([of("a"), of("b"), of("c")], [(Some(3), 8), (Some(1), 9), (Some(5), 5)]);
    }
}
