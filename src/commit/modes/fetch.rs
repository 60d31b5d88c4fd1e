//! Makes objects of references: a patch in which files are in their place.

use crate::catalog::Version;
use crate::commit::artifact::{Add, Artifact};
use crate::commit::publication::{Published, SaveOptions};
use crate::error::{Error, Result};
use crate::ingest::{Body, FileBody};
use crate::manifest::Entry;
use crate::store::Store;
use crate::types::RelPath;
use std::sync::Arc;

impl Artifact {
    /// Puts, when this patch is saved, the content of references in their place: of the one at `path` of `version`, or
    /// of all below it. Returns how many there are.
    ///
    /// # Errors
    /// Not found: the path. Damaged; I/O.
    pub fn fetch_references(&mut self, version: &Version, path: impl AsRef<[u8]>) -> Result<u64> {
        let path = RelPath::parse_or_root(path.as_ref())?;
        let tree = version.tree()?;
        let mut found = 0;
        let mut add = |at: RelPath, entry: &Entry| {
            if let Entry::Reference(reference) = entry {
                let body = FileBody::Fetched(Arc::new((**reference).clone()));
                self.adds.push(Add::Entry { at, body: Body::File { exec: false, body }, spool: None });
                found += 1;
            }
        };
        if !path.is_root() {
            let here = tree.lookup(&path)?.ok_or_else(|| {
                Error::not_found(format!("there is no {path} in {version}"))
                    .with_hint(format!("`cairn ls {version}` lists it"))
            })?;
            add(path.clone(), &here.entry);
        }
        for visit in tree.walk_below(&path)? {
            let visit = visit?;
            add(visit.path, &visit.entry);
        }
        Ok(found)
    }
}

impl Version {
    /// Makes a version in which the content of references is stored: all of them, or those at or below `path`. Each is
    /// checked against what was recorded. Without references there is no new version.
    ///
    /// # Errors
    /// Not found: the path. I/O: a source changed, is missing or cannot be reached; nothing is published then. Those of
    /// a patch.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// # std::fs::write(dir.path().join("far"), "many bytes").unwrap();
    /// # let uri = format!("file://{}", dir.path().join("far").display());
    /// let mut artifact = cairn::Artifact::new("corpus", None)?;
    /// artifact.add_reference(&uri, None, &Default::default())?;
    /// let fetched = artifact.save(&store)?.version.fetch_references("", &Default::default())?;
    /// std::fs::remove_file(dir.path().join("far")).unwrap();
    /// assert_eq!(fetched.version.open("far")?.size(), 10);
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn fetch_references(&self, path: impl AsRef<[u8]>, options: &SaveOptions) -> Result<Published> {
        let mut patch = self.new_draft();
        patch.fetch_references(self, path)?;
        let store: Store = self.store().clone();
        patch.save_with(&store, options)
    }
}
