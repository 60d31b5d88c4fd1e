//! Large blobs: a file each, read-only, with a fixed time, named by its SHA-256.

use super::Objects;
use super::pack_file::Miss;
use crate::disk::{self, read_full_at};
use crate::error::{Error, Result, show_path};
use crate::words::{Digest, Hasher};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The modification time of every object file, in seconds since 1970. One with another is hashed before its first byte is served (L15).
pub const OBJECT_MTIME: i64 = 1_000_000_000;
/// The mode of object files and packs.
pub const OBJECT_MODE: u32 = 0o444;

/// An object file, open and checked by size and time; by its bytes too where those were not as recorded, once for each state of the file.
#[derive(Debug)]
pub struct LargeObject {
    file: File,
    path: PathBuf,
    size: u64,
    digest: Digest,
}

impl LargeObject {
    /// Opens and checks the file at `path`.
    pub(super) fn open(objects: &Objects, path: PathBuf, digest: &Digest, size: u64) -> std::result::Result<LargeObject, Miss> {
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        if meta.len() != size {
            return Err(Miss::Wrong(format!("{} has {} bytes, expected {size}", show_path(&path), meta.len())));
        }
        let found = LargeObject { file, path, size, digest: *digest };
        if !untouched(&meta) && !objects.hashed.knows(digest, &meta) {
            found.verify()?;
            objects.hashed.remember(*digest, &meta);
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
            return Err(Error::damaged(format!("{} has digest {found} in {size} bytes, expected {} in {}", show_path(&self.path), self.digest, self.size)));
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
