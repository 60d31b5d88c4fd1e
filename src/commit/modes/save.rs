//! Saving an artifact: the way from what was added to a version, in the mode that the artifact asks for.

use super::{patch, put};
use crate::commit::artifact::Artifact;
use crate::commit::publication::{Published, SaveOptions};
use crate::error::Result;
use crate::store::Store;

impl Artifact {
    /// Publishes this as the next version, without recording a run; see [`Run`](crate::Run) for that.
    /// If the newest version has the same content, it is returned and gets the annotations; there is no new version.
    ///
    /// # Errors
    /// Usage: conflicting additions. Conflict: another type; a patch that conflicts with a newer version. I/O: a source
    /// that vanished, changed or cannot be read; the disk. After an error nothing is published, unless the message says
    /// that this is unknown.
    pub fn save(&self, store: &Store) -> Result<Published> {
        self.save_with(store, &SaveOptions::default())
    }

    /// [`Artifact::save`] with options.
    ///
    /// # Errors
    /// As [`Artifact::save`].
    pub fn save_with(&self, store: &Store, options: &SaveOptions) -> Result<Published> {
        match &self.basis {
            None => put::put(store, self, options),
            Some(basis) => patch::patch(store, self, basis, options),
        }
    }
}
