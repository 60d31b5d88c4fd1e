//! Listing what is stored: packs and objects, in place and in the trash.

use super::content_store::Objects;
use super::damage::StoredFile;
use super::pack::BlobKind;
use super::pack_file::read_footer;
use crate::disk;
use crate::error::Result;
use crate::types::{Digest, Location};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

impl Objects {
    /// All packs, including those in the trash.
    ///
    /// # Errors
    /// I/O.
    pub fn stored_packs(&self) -> Result<Vec<StoredFile>> {
        let mut out = self.packs_in_place()?;
        out.extend(self.trashed("pack-")?);
        Ok(out)
    }

    pub(super) fn packs_in_place(&self) -> Result<Vec<StoredFile>> {
        stored_files(&self.layout().packs(), |n| Digest::of_hex(n.as_bytes()))
    }

    /// All object files, including those in the trash.
    ///
    /// # Errors
    /// I/O.
    pub fn stored_objects(&self) -> Result<Vec<StoredFile>> {
        let mut out = Vec::new();
        for shard in disk::list(&self.layout().objects())? {
            let dir = self.layout().objects().join(&shard);
            if !disk::lstat(&dir)?.is_some_and(|m| m.is_dir()) {
                out.push(StoredFile { path: dir, name: None, size: 0 });
                continue;
            }
            out.extend(stored_files(&dir, |n| Digest::of_hex(format!("{}{n}", shard.to_str()?).as_bytes()))?);
        }
        out.extend(self.trashed("object-")?);
        Ok(out)
    }

    /// The files in the trash whose names are this prefix and a digest.
    fn trashed(&self, prefix: &str) -> Result<Vec<StoredFile>> {
        let mut out = Vec::new();
        for batch in self.batches()? {
            let dir = self.layout().trash().join(batch);
            // A batch may have a million other files: they are not looked up.
            let mut names = disk::list(&dir)?;
            names.retain(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
            let digest = |n: &str| Digest::of_hex(n.strip_prefix(prefix)?.as_bytes());
            let files = files_of(&dir, names, digest)?;
            out.extend(files.into_iter().filter(|s| s.name.is_some()));
        }
        Ok(out)
    }

    /// The batches of the trash: its directories. Ignores anything else, such as what a file system keeps of a removed
    /// file that is still open.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn batches(&self) -> Result<Vec<OsString>> {
        let trash = self.layout().trash();
        let mut out = disk::list(&trash)?;
        out.retain(|batch| disk::lstat(&trash.join(batch)).is_ok_and(|m| m.is_some_and(|m| m.is_dir())));
        Ok(out)
    }

    /// Where content lies according to the packs' own footers, each read once. Does not use the index.
    ///
    /// # Errors
    /// I/O.
    pub fn locations_by_footers(&self, wanted: &HashSet<Digest>) -> Result<HashMap<Digest, Vec<Location>>> {
        let mut out: HashMap<Digest, Vec<Location>> = HashMap::new();
        for pack in self.packs_in_place()? {
            let Some(name) = pack.name else { continue };
            let footer = match read_footer(pack.path, &name) {
                Ok(footer) => footer,
                Err(e) if e.is_loss() => continue,
                Err(e) => return Err(e),
            };
            for blob in footer.blobs.iter().filter(|b| b.kind == BlobKind::Content && wanted.contains(&b.digest)) {
                out.entry(blob.digest).or_default().push(self.place_of(&name, blob.offset));
            }
        }
        Ok(out)
    }

    /// Whether a pack is in the trash.
    ///
    /// # Errors
    /// I/O.
    pub fn in_trash(&self, pack: &Digest) -> Result<bool> {
        self.in_a_batch(|batch| self.layout().trashed_pack(batch, pack))
    }

    /// Whether an object is in the trash.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn has_object_in_trash(&self, digest: &Digest) -> Result<bool> {
        self.in_a_batch(|batch| self.layout().trashed_object(batch, digest))
    }

    fn in_a_batch(&self, path: impl Fn(&OsStr) -> PathBuf) -> Result<bool> {
        for batch in self.batches()? {
            if disk::lstat(&path(&batch))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the trash has a batch.
    ///
    /// # Errors
    /// I/O.
    pub fn has_trash(&self) -> Result<bool> {
        Ok(!self.batches()?.is_empty())
    }
}

/// The files of a directory, each with the digest from its name.
fn stored_files(dir: &Path, digest: impl Fn(&str) -> Option<Digest>) -> Result<Vec<StoredFile>> {
    files_of(dir, disk::list(dir)?, digest)
}

/// As [`stored_files`], for these names.
fn files_of(dir: &Path, names: Vec<OsString>, digest: impl Fn(&str) -> Option<Digest>) -> Result<Vec<StoredFile>> {
    let mut out = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let Some(meta) = disk::lstat(&path)? else { continue };
        if is_kept_open(name.as_encoded_bytes()) {
            continue;
        }
        let named = name.to_str().and_then(&digest).filter(|_| meta.is_file());
        out.push(StoredFile { path, name: named, size: meta.len() });
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

/// Whether NFS or FUSE made this name for a file that was removed while it was open. It vanishes with its last reader.
fn is_kept_open(name: &[u8]) -> bool {
    name.starts_with(b".nfs") || name.starts_with(b".fuse_hidden")
}
