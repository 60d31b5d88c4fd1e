//! Objects: large blobs, one read-only file each, named by its SHA-256, with a fixed modification time.
//!
//! An object is checked by size and time when it is opened. If its time is not the fixed one, it is hashed before its
//! first byte is served (L15).

use super::content_store::Objects;
use super::damage::DamagedItem;
use super::miss::{Miss, ReadAttempt, is_unreadable};
use crate::disk::{self, hash_file};
use crate::error::{Error, Kind, Result, show_path};
use crate::types::Digest;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The modification time of every object file, in seconds since 1970.
pub const OBJECT_MTIME: i64 = 1_000_000_000;
/// The mode of object files and packs.
pub const OBJECT_MODE: u32 = 0o444;

/// An open object file, checked by size and time; by its bytes too if its time was not the fixed one, once for each
/// state of the file.
#[derive(Debug)]
pub struct LargeObject {
    file: File,
    path: PathBuf,
    size: u64,
    digest: Digest,
}

impl LargeObject {
    /// Opens and checks the file at `path`.
    pub(super) fn open(objects: &Objects, path: PathBuf, digest: &Digest, size: u64) -> ReadAttempt<LargeObject> {
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        if meta.len() != size {
            return Err(Miss::Wrong(format!("{} has {} bytes, expected {size}", show_path(&path), meta.len())));
        }
        let found = LargeObject { file, path, size, digest: *digest };
        if !has_object_time(&meta) && !objects.verified_objects().contains(digest, &meta) {
            objects.verify_object(&found)?;
            objects.restore_object_time(&found, &meta);
        }
        Ok(found)
    }

    /// Hashes all of it.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn verify(&self) -> Result<()> {
        let (found, size) = hash_file(&self.file, &self.path, &mut |_| Ok(()))?;
        if found != self.digest || size != self.size {
            return Err(Error::damaged(format!(
                "{} has digest {found} in {size} bytes, expected {} in {}",
                show_path(&self.path),
                self.digest,
                self.size
            )));
        }
        Ok(())
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file, positioned at its start.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Where it is, for hard links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Objects {
    /// Hashes all of an object. If it does not have the digest of its name, puts it on the list of known damage.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn verify_object(&self, object: &LargeObject) -> Result<()> {
        let verified = object.verify();
        if let Err(e) = &verified
            && object.path == self.layout().object(&object.digest)
        {
            if e.kind() == Kind::Damaged {
                self.list_as_damaged(DamagedItem::Object(object.digest));
            } else if is_unreadable(e) {
                self.list_unreadable(DamagedItem::Object(object.digest));
            }
        }
        verified
    }

    /// Restores the fixed time and mode of an object that was hashed and is right, so that it need not be hashed again:
    /// a copying tool has lost them. Does nothing if the object was changed meanwhile. Best effort: if it fails, the
    /// next process hashes the object again.
    fn restore_object_time(&self, object: &LargeObject, before: &Metadata) {
        let restored = !changed_since(object, before)
            && self.disk().set_mode_and_mtime(&object.file, &object.path, OBJECT_MODE, OBJECT_MTIME).is_ok();
        if !restored && !changed_since(object, before) {
            self.verified_objects().insert(object.digest, before);
        }
    }

    /// Whether the object at `path` is right although its time is not the fixed one. Hashes it and restores its time.
    ///
    /// # Errors
    /// I/O, except for an object that cannot be read.
    pub(super) fn verify_touched_object(&self, path: PathBuf, digest: &Digest, size: u64) -> Result<bool> {
        match LargeObject::open(self, path, digest, size) {
            Ok(_) => Ok(true),
            Err(Miss::Io(e)) if !is_unreadable(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }
}

/// What differs after a file's content was changed.
pub(super) fn change_state(m: &Metadata) -> (u64, i64, i64, i64, i64) {
    (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
}

fn changed_since(object: &LargeObject, before: &Metadata) -> bool {
    object.file.metadata().map_or(true, |now| change_state(&now) != change_state(before))
}

/// Whether a file has the fixed modification time of objects.
pub(super) fn has_object_time(meta: &Metadata) -> bool {
    meta.mtime() == OBJECT_MTIME && meta.mtime_nsec() == 0
}
