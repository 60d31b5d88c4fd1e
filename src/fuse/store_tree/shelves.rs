//! What stands in the store by name: artifacts, and the versions and aliases of each, as last looked at.
//!
//! Nothing shown is older than the age given. A directory's time changes whenever its listing does, since the kernel
//! keeps a listing until then: its seconds are those of the last change on the disk, its nanoseconds are made of what
//! is listed.

use super::super::attributes::Time;
use crate::catalog::{alias, artifact, version};
use crate::disk;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Artifacts whose listings are kept at a time; each is asked for again within a moment anyway.
const KEPT: usize = 64;

/// The listing of one artifact.
pub(super) struct Shelf {
    /// Not removed, ascending.
    pub(super) versions: Vec<VersionNumber>,
    /// Aliases of those, `latest` among them, by name.
    pub(super) aliases: Vec<(String, VersionNumber)>,
    pub(super) time: Time,
}

/// All artifacts of a store, numbered in the order in which they were seen.
pub(super) struct Shelves {
    store: Store,
    age: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: Vec<ArtifactName>,
    ids: HashMap<ArtifactName, u32>,
    /// When the directory of artifacts was last read, and its time.
    all: Option<(Instant, Time)>,
    shelves: HashMap<u32, (Instant, Arc<Shelf>)>,
}

impl Known {
    fn add(&mut self, name: ArtifactName) -> u32 {
        let next = self.names.len() as u32;
        let id = *self.ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.names.push(name);
        }
        id
    }
}

impl Shelves {
    pub(super) fn new(store: Store, age: Duration) -> Shelves {
        Shelves { store, age, known: Mutex::default() }
    }

    /// The name of an artifact by its number.
    pub(super) fn name(&self, id: u32) -> Option<ArtifactName> {
        self.known.lock().names.get(id as usize).cloned()
    }

    /// An artifact that has, or had, versions.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<u32>> {
        let Some(name) = std::str::from_utf8(name).ok().and_then(|n| ArtifactName::parse(n).ok()) else {
            return Ok(None);
        };
        if let Some(id) = self.known.lock().ids.get(&name) {
            return Ok(Some(*id));
        }
        if !artifact::has_versions(&self.store, &name)? {
            return Ok(None);
        }
        Ok(Some(self.known.lock().add(name)))
    }

    /// All artifacts, in the order of their numbers.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn all(&self) -> Result<Vec<(u32, ArtifactName)>> {
        self.time()?;
        let known = self.known.lock();
        Ok(known.names.iter().enumerate().map(|(id, name)| (id as u32, name.clone())).collect())
    }

    /// The time of the directory of all artifacts.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn time(&self) -> Result<Time> {
        if let Some((when, time)) = self.known.lock().all
            && when.elapsed() < self.age
        {
            return Ok(time);
        }
        let begun = Instant::now();
        let dir = self.store.layout().artifacts();
        let mut names: Vec<ArtifactName> =
            disk::list(&dir)?.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect();
        names.sort();
        // Those that have had a version have it for ever: only new ones are looked at.
        let new: Vec<ArtifactName> = {
            let known = self.known.lock();
            names.into_iter().filter(|n| !known.ids.contains_key(n)).collect()
        };
        let mut found = Vec::new();
        for name in new {
            if artifact::has_versions(&self.store, &name)? {
                found.push(name);
            }
        }
        let seconds = changed(&dir)?;
        let mut known = self.known.lock();
        for name in found {
            known.add(name);
        }
        // InodeTree never go, so their number says it all.
        let time = (seconds, listed(&known.names.len()));
        known.all = Some((begun, time));
        Ok(time)
    }

    /// What stands in an artifact now.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn shelf(&self, id: u32) -> Result<Arc<Shelf>> {
        if let Some((when, shelf)) = self.known.lock().shelves.get(&id)
            && when.elapsed() < self.age
        {
            return Ok(shelf.clone());
        }
        let begun = Instant::now();
        let name = self.name(id).ok_or_else(|| Error::not_found("no such artifact in this mount"))?;
        let shelf = Arc::new(self.read(&name)?);
        let mut known = self.known.lock();
        if known.shelves.len() >= KEPT {
            known.shelves.clear();
        }
        known.shelves.insert(id, (begun, shelf.clone()));
        Ok(shelf)
    }

    fn read(&self, name: &ArtifactName) -> Result<Shelf> {
        let layout = self.store.layout();
        let versions = version::live_numbers(&self.store, name)?;
        let live = |v: &VersionNumber| versions.binary_search(v).is_ok();
        let mut aliases: Vec<(String, VersionNumber)> = alias::all(&self.store, name)?
            .into_iter()
            .filter(|(_, v)| live(v))
            .map(|(a, v)| (a.as_str().to_owned(), v))
            .collect();
        aliases.extend(versions.last().map(|v| ("latest".to_owned(), *v)));
        aliases.sort();
        let mut seconds = 0;
        for dir in [layout.versions(name), layout.removed(name), layout.aliases(name)] {
            seconds = seconds.max(changed(&dir)?);
        }
        for alias in disk::list(&layout.aliases(name))? {
            seconds = seconds.max(changed(&layout.aliases(name).join(alias))?);
        }
        let time = (seconds, listed(&(&versions, &aliases)));
        Ok(Shelf { versions, aliases, time })
    }
}

/// When a directory of the store was last changed; 0 when it is not there.
fn changed(dir: &Path) -> Result<i64> {
    Ok(disk::lstat(dir)?.map_or(0, |m| m.mtime()))
}

/// Nanoseconds that differ between listings.
fn listed(what: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    (hasher.finish() % 1_000_000_000) as u32
}
