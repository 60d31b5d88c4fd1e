//! Undoing adoption, when a stage is not sealed after all: its files and the store's objects share no inodes any more.

use super::adopt::inode;
use super::content_store::Objects;
use super::leases::Leases;
use super::object_file::{OBJECT_MODE, OBJECT_MTIME};
use crate::disk;
use crate::error::Result;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether a file has an object's mode and time.
fn looks_like_object(meta: &Metadata) -> bool {
    meta.mode() & 0o7777 == OBJECT_MODE && meta.mtime() == OBJECT_MTIME
}

/// A file below a stage that was or may have been adopted.
struct Candidate {
    /// All its names.
    links: u64,
    /// Its names below the stage.
    staged_names: u64,
    path: PathBuf,
}

impl Objects {
    /// Makes the files of a stage writable again, also after its sealer died: no file below `dir` shares its inode with
    /// an object any more, and each has its mode and time as before. The objects get inodes of their own, with the
    /// bytes that were hashed while they were copied, so a process that has the stage's file open keeps that file.
    ///
    /// # Errors
    /// I/O.
    pub fn undo_adoption(&self, dir: &Path, leases: &Leases) -> Result<()> {
        if disk::lstat(dir)?.is_none() {
            return Ok(()); // its files are gone already
        }
        for (inode, file) in self.adoption_candidates(dir)? {
            if file.links > file.staged_names {
                self.separate(inode, &file.path, leases)?;
            }
            self.restore_attributes(&file.path, leases)?;
        }
        Ok(())
    }

    fn adoption_candidates(&self, dir: &Path) -> Result<HashMap<(u64, u64), Candidate>> {
        let home = self.objects_dir_metadata()?;
        let mut out: HashMap<(u64, u64), Candidate> = HashMap::new();
        for entry in walkdir::WalkDir::new(dir) {
            let entry = entry.map_err(|e| disk::walk_error(dir, &e))?;
            let meta = entry.metadata().map_err(|e| disk::walk_error(entry.path(), &e))?;
            if !meta.is_file() || meta.uid() != home.uid() {
                continue; // never adopted
            }
            let path = || entry.path().to_path_buf();
            let new = |staged_names| Candidate { links: meta.nlink(), staged_names, path: path() };
            if meta.nlink() > 1 {
                out.entry(inode(&meta)).or_insert_with(|| new(0)).staged_names += 1;
            }
            if looks_like_object(&meta) {
                out.entry(inode(&meta)).or_insert_with(|| new(1));
            }
        }
        Ok(out)
    }

    /// Gives the object that shares this inode an inode of its own.
    fn separate(&self, shared: (u64, u64), path: &Path, leases: &Leases) -> Result<()> {
        let Some((file, meta)) = disk::open_file(path)? else { return Ok(()) };
        let (copy, (digest, _)) = self.durable_copy(&file, path, leases)?;
        let object = self.layout().object(&digest);
        if disk::lstat(&object)?.is_some_and(|m| inode(&m) == shared) {
            self.disk().rename(copy.path(), &object)?;
            return self.disk().sync_dir(&self.layout().object_dir(&digest));
        }
        if let Some(changed) = self.object_with_inode(shared)? {
            // The file was written to since, so this object does not have the digest of its name.
            self.disk().remove_file(copy.path())?;
            return self.disk().remove_file(&changed);
        }
        // Another sealer has adopted it, which may only be suspended: what it adopted stays as it is.
        if !looks_like_object(&meta) {
            copy.set_mode(meta.mode() & 0o7777)?;
        }
        self.disk().rename(copy.path(), path)
    }

    fn object_with_inode(&self, wanted: (u64, u64)) -> Result<Option<PathBuf>> {
        for dir in disk::list(&self.layout().objects())? {
            let dir = self.layout().objects().join(dir);
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let found = entries.flatten().find(|e| e.ino() == wanted.1).map(|e| e.path());
            if let Some(path) = found
                && disk::lstat(&path)?.is_some_and(|m| inode(&m) == wanted)
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Restores mode and time, as far as they are known.
    fn restore_attributes(&self, path: &Path, leases: &Leases) -> Result<()> {
        let Some(meta) = disk::lstat(path)? else { return Ok(()) };
        let held = leases.held();
        let is_this = |m: Metadata| inode(&m) == inode(&meta);
        let known = held.files.iter().find(|f| f.file.metadata().is_ok_and(is_this)).map(|f| f.before);
        if known.is_none() && !looks_like_object(&meta) {
            return Ok(());
        }
        let now = || (0o644, crate::clock::unix_now(), 0);
        let (mode, seconds, nanos) = known.unwrap_or_else(now);
        self.disk().set_mode(path, mode)?;
        self.disk().set_mtime(path, seconds, nanos)
    }
}
