//! Object files on the list of known damage, as readers see them: their time and size do not count as a check, so they
//! are hashed before their first byte is served.

use super::composed_file::ComposedFile;
use super::content_store::Objects;
use super::damage::DamagedItem;
use super::object_file::LargeObject;
use crate::error::{Error, Kind, Result, show_path};
use crate::types::Digest;

impl Objects {
    /// Whether an object is on the list of known damage, perhaps as the list was a second ago. No list can be read:
    /// nothing is on it.
    pub fn is_listed(&self, object: &Digest) -> bool {
        let list = self.distrusted().list(|| self.known_damage().unwrap_or_default());
        list.has(&DamagedItem::Object(*object))
    }

    /// Refuses an object that is on the list and has wrong bytes. One that is right is removed from the list.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn refuse_damaged(&self, object: &LargeObject) -> Result<()> {
        let digest = object.digest();
        if !self.is_listed(&digest) || object.path() != self.layout().object(&digest) {
            return Ok(());
        }
        let failed = |e| Error::io("look at", object.path(), e);
        let before = object.file().metadata().map_err(failed)?;
        if self.distrusted().right().contains(&digest, &before) {
            return Ok(());
        }
        if self.distrusted().wrong().contains(&digest, &before) {
            return Err(Error::damaged(format!("{} does not have the digest of its name", show_path(object.path()))));
        }
        let verified = self.verify_object(object);
        match &verified {
            Ok(()) => {
                self.distrusted().right().insert(digest, &before);
                self.unlist(&DamagedItem::Object(digest));
            }
            Err(e) if e.kind() == Kind::Damaged => self.distrusted().wrong().insert(digest, &before),
            Err(_) => {}
        }
        verified
    }

    /// [`Objects::refuse_damaged`] for all objects that a composed file has parts of.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn refuse_damaged_parts(&self, composed: &ComposedFile) -> Result<()> {
        composed.objects().try_for_each(|object| self.refuse_damaged(object))
    }
}
