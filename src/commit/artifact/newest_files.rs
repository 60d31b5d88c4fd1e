//! The files of an artifact's newest version: what a new file at the same path or a similar one probably resembles.
//!
//! They only propose what to compare. Content that a version relies on is looked up after its writer's token was made.

use super::similar_paths::similar_files;
use crate::catalog::Version;
use crate::clock;
use crate::commit::content_writer::collectors_know;
use crate::error::Result;
use crate::ingest::EarlierFiles;
use crate::manifest::{Entry, Tree};
use crate::objects::Earlier;
use crate::store::{COMPOSED_FILES, COMPRESSED_PARTS, Store};
use crate::types::{ArtifactName, RelPath};
use std::sync::OnceLock;

/// Looks up files in the newest version, which is read when the first file is looked up.
pub(super) struct NewestFiles<'a> {
    store: &'a Store,
    name: &'a ArtifactName,
    /// Its tree, and when it was made.
    newest: OnceLock<Option<(Tree, i64)>>,
    may_compose: OnceLock<bool>,
    may_pack_parts: OnceLock<bool>,
}

impl NewestFiles<'_> {
    pub(super) fn new<'a>(store: &'a Store, name: &'a ArtifactName) -> NewestFiles<'a> {
        let (may_compose, may_pack_parts) = (OnceLock::new(), OnceLock::new());
        NewestFiles { store, name, newest: OnceLock::new(), may_compose, may_pack_parts }
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

    /// Whether this writer may use a feature, which is found out once.
    fn may(&self, known: &OnceLock<bool>, feature: &str) -> Result<bool> {
        if let Some(known) = known.get() {
            return Ok(*known);
        }
        let may = self.prepare_store(feature)?;
        Ok(*known.get_or_init(|| may))
    }

    /// The store gets the feature that keeps older releases from opening it. A collector of such a release that began
    /// before may still be at work: it would free what recipes name.
    fn prepare_store(&self, feature: &str) -> Result<bool> {
        match self.store.add_incompatible_feature(feature) {
            Err(e) if matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) => return Ok(false),
            added => added?,
        }
        collectors_know(self.store, feature)
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
        self.may(&self.may_compose, COMPOSED_FILES)
    }

    fn may_pack_parts(&self) -> Result<bool> {
        self.may(&self.may_pack_parts, COMPRESSED_PARTS)
    }
}
