//! Large blobs: a file each, read-only, with a fixed time, named by its SHA-256.

use super::Objects;
use super::known_damage::Damaged;
use super::pack_file::{Miss, is_unreadable};
use crate::disk::{self, read_full_at};
use crate::error::{Error, Kind, Result, show_path};
use crate::types::{Digest, Hasher};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The modification time of every object file, in seconds since 1970. One with another is hashed before its first byte
/// is served (L15).
pub const OBJECT_MTIME: i64 = 1_000_000_000;
/// The mode of object files and packs.
pub const OBJECT_MODE: u32 = 0o444;

/// An object file, open and checked by size and time; by its bytes too where those were not as recorded, once for each
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
    pub(super) fn open(
        objects: &Objects,
        path: PathBuf,
        digest: &Digest,
        size: u64,
    ) -> std::result::Result<LargeObject, Miss> {
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        if meta.len() != size {
            return Err(Miss::Wrong(format!("{} has {} bytes, expected {size}", show_path(&path), meta.len())));
        }
        let found = LargeObject { file, path, size, digest: *digest };
        if !untouched(&meta) && !objects.hashed.knows(digest, &meta) {
            objects.verify_object(&found)?;
            objects.mend_times(&found, &meta);
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

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Objects {
    /// Hashes all of an object, and puts it on the list of known damage when it is not what its name says.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn verify_object(&self, object: &LargeObject) -> Result<()> {
        let verified = object.verify();
        if let Err(e) = &verified
            && object.path == self.layout.object(&object.digest)
        {
            if e.kind() == Kind::Damaged {
                self.list_as_damaged(Damaged::Object(object.digest));
            } else if is_unreadable(e) {
                self.list_unreadable(Damaged::Object(object.digest));
            }
        }
        verified
    }

    /// Gives an object that was hashed and found right the time and mode that every object has, so that it need not be
    /// hashed again: a copying tool has lost them. Not when it was changed meanwhile. Best effort: who may not do it
    /// hashes it again in the next process.
    fn mend_times(&self, object: &LargeObject, before: &Metadata) {
        let mended = !changed_since(object, before)
            && self.disk.set_mode_and_mtime(&object.file, &object.path, OBJECT_MODE, OBJECT_MTIME).is_ok();
        if !mended && !changed_since(object, before) {
            self.hashed.remember(object.digest, before);
        }
    }

    /// Whether the object at `path` is right although its time is not the recorded one: it is hashed, and its time
    /// mended.
    ///
    /// # Errors
    /// I/O, but for an object that cannot be read.
    pub(super) fn is_right_though_touched(&self, path: PathBuf, digest: &Digest, size: u64) -> Result<bool> {
        match LargeObject::open(self, path, digest, size) {
            Ok(_) => Ok(true),
            Err(Miss::Io(e)) if !is_unreadable(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }
}

fn changed_since(object: &LargeObject, before: &Metadata) -> bool {
    let state = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    object.file.metadata().map_or(true, |now| state(&now) != state(before))
}

/// Whether an object's file looks as it was left.
pub(super) fn untouched(meta: &Metadata) -> bool {
    meta.mtime() == OBJECT_MTIME && meta.mtime_nsec() == 0
}

/// Hashes a whole file by its descriptor, whose position stays.
pub(super) fn hash_file(file: &File, path: &Path, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = read_full_at(file, &mut buffer, at).map_err(|e| Error::io("read", path, e))?;
        hasher.update(&buffer[..n]);
        at += n as u64;
        tick(n as u64)?;
        if n < buffer.len() {
            return Ok((hasher.finish(), at));
        }
    }
}
