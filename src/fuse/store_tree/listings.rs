//! The names in the store: artifacts, and the versions and aliases of each, cached for a short time.
//!
//! A directory's time changes whenever its listing does, because the kernel caches a listing until then. The seconds
//! are those of the last change on disk; the nanoseconds are a hash of the listing.

use super::super::attributes::Time;
use super::names_read::NamesRead;
use crate::catalog::artifact;
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

/// How many artifacts' listings are cached at a time.
const CACHED: usize = 64;

/// The listing of one artifact.
pub(super) struct ArtifactListing {
    /// Versions that are not removed, ascending.
    pub(super) versions: Vec<VersionNumber>,
    /// Aliases of these versions, `latest` included, ordered by name.
    pub(super) aliases: Vec<(String, VersionNumber)>,
    pub(super) time: Time,
}

/// The artifacts of a store, numbered in the order in which they were first seen, and their listings.
pub(super) struct ArtifactListings {
    store: Store,
    age: Duration,
    cache: Mutex<ListingCache>,
}

#[derive(Default)]
struct ListingCache {
    names: Vec<ArtifactName>,
    ids: HashMap<ArtifactName, u32>,
    /// When the directory of artifacts was last read, and its time.
    all: Option<(Instant, Time)>,
    listings: HashMap<u32, CachedListing>,
}

#[derive(Clone)]
struct CachedListing {
    read: Instant,
    names: Arc<NamesRead>,
    listing: Arc<ArtifactListing>,
}

impl ListingCache {
    fn add(&mut self, name: ArtifactName) -> u32 {
        let next = self.names.len() as u32;
        let id = *self.ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.names.push(name);
        }
        id
    }
}

impl ArtifactListings {
    pub(super) fn new(store: Store, age: Duration) -> ArtifactListings {
        ArtifactListings { store, age, cache: Mutex::default() }
    }

    /// The name of an artifact by its number.
    pub(super) fn name(&self, id: u32) -> Option<ArtifactName> {
        self.cache.lock().names.get(id as usize).cloned()
    }

    /// The number of an artifact that has, or had, versions.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<u32>> {
        let Some(name) = std::str::from_utf8(name).ok().and_then(|n| ArtifactName::parse(n).ok()) else {
            return Ok(None);
        };
        if let Some(id) = self.cache.lock().ids.get(&name) {
            return Ok(Some(*id));
        }
        if !artifact::has_versions(&self.store, &name)? {
            return Ok(None);
        }
        Ok(Some(self.cache.lock().add(name)))
    }

    /// All artifacts, in the order of their numbers.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn all(&self) -> Result<Vec<(u32, ArtifactName)>> {
        self.time()?;
        let cache = self.cache.lock();
        Ok(cache.names.iter().enumerate().map(|(id, name)| (id as u32, name.clone())).collect())
    }

    /// The time of the directory of all artifacts.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn time(&self) -> Result<Time> {
        if let Some((when, time)) = self.cache.lock().all
            && when.elapsed() < self.age
        {
            return Ok(time);
        }
        let begun = Instant::now();
        let dir = self.store.layout().artifacts();
        let mut names: Vec<ArtifactName> =
            disk::list(&dir)?.iter().filter_map(|n| ArtifactName::parse(n.to_str()?).ok()).collect();
        names.sort();
        // An artifact that ever had a version stays, so only new names are checked.
        let new: Vec<ArtifactName> = {
            let cache = self.cache.lock();
            names.into_iter().filter(|n| !cache.ids.contains_key(n)).collect()
        };
        let mut found = Vec::new();
        for name in new {
            if artifact::has_versions(&self.store, &name)? {
                found.push(name);
            }
        }
        let seconds = changed(&dir)?;
        let mut cache = self.cache.lock();
        for name in found {
            cache.add(name);
        }
        // Artifacts are never removed, so their count identifies the listing.
        let time = (seconds, nanoseconds_of(&cache.names.len()));
        cache.all = Some((begun, time));
        Ok(time)
    }

    /// The listing of an artifact.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn of(&self, id: u32) -> Result<Arc<ArtifactListing>> {
        let before = self.cache.lock().listings.get(&id).cloned();
        if let Some(before) = before.as_ref().filter(|before| before.read.elapsed() < self.age) {
            return Ok(before.listing.clone());
        }
        let read = Instant::now();
        let name = self.name(id).ok_or_else(|| Error::not_found("this mount has no such artifact"))?;
        let names = NamesRead::read(&self.store, &name, before.as_ref().map(|before| &*before.names))?;
        let listing = Arc::new(listing_of(&names, names.changed(&self.store, &name)?));
        let mut cache = self.cache.lock();
        if cache.listings.len() >= CACHED {
            cache.listings.clear();
        }
        cache.listings.insert(id, CachedListing { read, names: Arc::new(names), listing: listing.clone() });
        Ok(listing)
    }
}

fn listing_of(names: &NamesRead, seconds: i64) -> ArtifactListing {
    let versions = names.live();
    let mut aliases: Vec<_> = names.aliases().filter(|(_, v)| versions.binary_search(v).is_ok()).collect();
    aliases.extend(versions.last().map(|v| ("latest".to_owned(), *v)));
    aliases.sort();
    let time = (seconds, nanoseconds_of(&(&versions, &aliases)));
    ArtifactListing { versions, aliases, time }
}

/// When a directory of the store was last changed; 0 if it does not exist.
fn changed(dir: &Path) -> Result<i64> {
    Ok(disk::lstat(dir)?.map_or(0, |m| m.mtime()))
}

/// A hash of a listing, as nanoseconds.
fn nanoseconds_of(what: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    (hasher.finish() % 1_000_000_000) as u32
}
