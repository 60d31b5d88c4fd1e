//! The files of an artifact's newest version: what a new file at the same path or a similar one probably resembles.
//!
//! They only propose what to compare. Content that a version relies on is looked up after its writer's token was made.

use super::similar_paths::similar_files;
use crate::catalog::Version;
use crate::clock;
use crate::error::Result;
use crate::ingest::EarlierFiles;
use crate::lock::{self, LockRecord};
use crate::manifest::{Entry, Tree};
use crate::objects::Earlier;
use crate::store::{COMPOSED_FILES, Store};
use crate::types::{ArtifactName, RelPath};
use std::sync::OnceLock;

/// Looks up files in the newest version, which is read when the first file is looked up.
pub(super) struct NewestFiles<'a> {
    store: &'a Store,
    name: &'a ArtifactName,
    /// Its tree, and when it was made.
    newest: OnceLock<Option<(Tree, i64)>>,
    may_compose: OnceLock<bool>,
}

impl NewestFiles<'_> {
    pub(super) fn new<'a>(store: &'a Store, name: &'a ArtifactName) -> NewestFiles<'a> {
        NewestFiles { store, name, newest: OnceLock::new(), may_compose: OnceLock::new() }
    }

    /// The tree of the newest version, and when it was made.
    fn newest(&self) -> Option<&(Tree, i64)> {
        let read = || {
            let version = Version::newest(self.store, self.name).ok()??;
            let stored_at = clock::parse(&version.record().created_at).unwrap_or(0);
            Some((version.tree().ok()?, stored_at))
        };
        self.newest.get_or_init(read).as_ref()
    }

    /// The store gets the feature that keeps older releases from opening it. A collector of such a release that began
    /// before may still be at work: it would free what recipes name.
    fn prepare_store(&self) -> Result<bool> {
        match self.store.add_composed_files() {
            Err(e) if matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) => return Ok(false),
            added => added?,
        }
        let knows = |lock: &LockRecord| lock.features.iter().any(|feature| feature == COMPOSED_FILES);
        Ok(lock::live(self.store, |lock| lock.purpose == "gc" && !knows(lock))?.is_empty())
    }
}

impl EarlierFiles for NewestFiles<'_> {
    fn content_at(&self, path: &RelPath) -> Option<Earlier> {
        let (tree, stored_at) = self.newest()?;
        match tree.lookup(path).ok()??.entry {
            Entry::File { digest, size, .. } => Some(Earlier { digest, size, stored_at: *stored_at }),
            _ => None,
        }
    }

    fn contents_near(&self, path: &RelPath, size: u64) -> Vec<Earlier> {
        self.newest().map_or_else(Vec::new, |(tree, _)| similar_files(tree, path, size))
    }

    fn may_compose(&self) -> Result<bool> {
        if let Some(known) = self.may_compose.get() {
            return Ok(*known);
        }
        let may = self.prepare_store()?;
        Ok(*self.may_compose.get_or_init(|| may))
    }
}
