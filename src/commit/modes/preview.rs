//! What a version would have, without storing anything.

use super::edit_session::EditSession;
use super::patch::tree_of;
use crate::commit::artifact::{Artifact, collect};
use crate::error::Result;
use crate::ingest::{NewNodes, Sink};
use crate::manifest::Tree;
use crate::progress::Progress;
use crate::store::Store;
use std::collections::HashSet;
use std::sync::Arc;

impl Artifact {
    /// The entries that a version of this would have if it were saved in `store` now. Files are read and hashed, and
    /// nothing is stored. The digest of a patch is that of its changes on its own base.
    ///
    /// # Errors
    /// Those of a save that concern the sources. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut artifact = cairn::Artifact::new("images", None)?;
    /// artifact.add_bytes("a.txt", "a")?;
    /// let tree = artifact.preview(&store, &Default::default())?;
    /// assert_eq!(tree.totals().files, 1);
    /// assert_eq!(tree.digest(), artifact.save(&store)?.version.digest());
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn preview(&self, store: &Store, progress: &Progress) -> Result<Tree> {
        let temporary = Sink::Nowhere.temporary();
        let Some(basis) = &self.basis else {
            let added = collect(store, self, &HashSet::new(), &Sink::Nowhere, progress)?;
            let mut nodes = NewNodes::new(&temporary, None);
            let root = added.build(&mut nodes)?;
            return Ok(Tree::of(&root, Arc::new(nodes)));
        };
        let mut stage = EditSession::new(&tree_of(basis.base.as_ref(), store)?, &temporary);
        let removed = stage.base_ops(&basis.ops)?;
        for changes in &basis.changes {
            stage.change(changes, &mut |_, _| Ok(Some(None)))?;
        }
        stage.add(&collect(store, self, &removed, &Sink::Nowhere, progress)?.into_tree()?)?;
        Ok(stage.tree)
    }
}
