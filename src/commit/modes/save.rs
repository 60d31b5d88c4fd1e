//! Saving an artifact: the way from what was added to a version, in the mode that the artifact asks for.

use super::{patch, put};
use crate::commit::artifact::Artifact;
use crate::commit::publication::{Published, SaveOptions};
use crate::error::Result;
use crate::store::Store;

impl Artifact {
    /// Publishes this as the next version, without saying which run made it; see [`Run`](crate::Run) for that.
    /// When the newest version has the same content there is no new one: it is returned, and aliases and tags become
    /// changes of it.
    ///
    /// # Errors
    /// Usage: conflicting additions. Refused: another type. I/O: a source that vanished, changed or cannot be read; the
    /// disk. After any of them nothing is published, unless it says that this is unknown.
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
