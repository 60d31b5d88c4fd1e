//! Adopting a large file: its inode becomes the object, so no byte is copied. For files in a staging directory on the
//! store's own local disk.
//!
//! A read lease (fcntl(2)) shows that no process has the file open for writing. From then on a process that opens or
//! truncates it has to wait. What was hashed under the lease is linked into the store. The lease is kept until the
//! file's other names are gone. If a process waits before that, or the file has another name after it, the object gets
//! an inode of its own before that process may continue: a copy, hashed while it is copied. So no write reaches an
//! object.

use super::content_store::Objects;
use super::copy_in::{ReflinkSupport, copy_in};
use super::leases::{AdoptedFile, Leases, OtherNames};
use super::object_file::{OBJECT_MODE, OBJECT_MTIME, change_state};
use crate::disk::{self, NewFile};
use crate::error::{Error, Result, show_path};
use crate::types::Digest;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long leases stay after the last name is gone: a process that found the name before that, and has not reached the
/// lease yet, still meets it.
const LEASE_LINGER: Duration = Duration::from_millis(20);

/// Device and inode number.
pub(super) fn inode(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn fstat(file: &File, path: &Path) -> Result<Metadata> {
    file.metadata().map_err(|e| Error::io("stat", path, e))
}

/// A file that no process has open for writing: it is under a read lease.
pub(super) struct LeasedFile<'a> {
    objects: &'a Objects,
    source: &'a File,
    path: &'a Path,
    before: Metadata,
}

impl LeasedFile<'_> {
    /// Whether it has `size` bytes and could not have changed since the lease was taken.
    pub(super) fn is_unchanged(&self, size: u64) -> Result<bool> {
        let now = fstat(self.source, self.path)?;
        let same = change_state(&self.before) == change_state(&now) && size == now.len();
        Ok(same && fits(&now, &self.objects.objects_dir_metadata()?) && disk::lease_is_unbroken(self.source))
    }

    /// Links it into the store as `temp`. It was hashed under the lease: `content` is its digest and size. `None` if it
    /// may have changed.
    pub(super) fn link(
        &self,
        leases: &Leases,
        temp: PathBuf,
        content: (Digest, u64),
    ) -> Result<Option<(NewFile, AdoptedFile)>> {
        let (digest, size) = content;
        if !self.is_unchanged(size)? {
            return Ok(None);
        }
        let clone = || self.source.try_clone().map_err(|e| Error::io("keep open", self.path, e));
        let before = (self.before.mode() & 0o7777, self.before.mtime(), self.before.mtime_nsec());
        let adopted = AdoptedFile { file: clone()?, digest, size, temp: temp.clone(), before };
        leases.note_link();
        let linked = self.objects.disk().link_open(clone()?, temp)?;
        if !disk::lease_is_unbroken(self.source) || fstat(self.source, self.path)?.nlink() != 2 {
            // A process waits to write, or has another name for the file.
            self.objects.disk().remove_file(linked.path())?;
            return Ok(None);
        }
        Ok(Some((linked, adopted)))
    }
}

/// Whether a file can become an object. `home` is the directory of objects.
fn fits(file: &Metadata, home: &Metadata) -> bool {
    file.nlink() == 1 && file.dev() == home.dev() && file.uid() == home.uid() && file.mode() & 0o111 == 0
}

impl Objects {
    /// Takes a read lease on a file that can be adopted. `None` if that is impossible: another file system or owner,
    /// other names, an open writer, too many leases, or an exec bit (which an object does not keep for a stage that is
    /// not sealed after all).
    ///
    /// # Errors
    /// I/O.
    pub(super) fn lease_file<'a>(
        &'a self,
        leases: &Leases,
        source: &'a File,
        path: &'a Path,
    ) -> Result<Option<LeasedFile<'a>>> {
        let fits = fits(&fstat(source, path)?, &self.objects_dir_metadata()?);
        if !self.disk().kind().is_local() || !fits || leases.is_full() || !disk::take_lease(source) {
            return Ok(None);
        }
        Ok(Some(LeasedFile { objects: self, source, path, before: fstat(source, path)? }))
    }

    /// Gives an inode of its own to each object whose file a process waits to write to, or has another name for.
    /// Returns how many these were.
    ///
    /// # Errors
    /// Conflict: a file was changed under its lease, which the kernel allows after the system's lease-break-time (45
    /// s); then the object is removed. I/O.
    pub fn protect_adopted(&self, leases: &Leases, names: OtherNames) -> Result<usize> {
        let mut held = leases.held();
        let mut replaced = 0;
        let mut i = 0;
        while i < held.files.len() {
            let adopted = &held.files[i];
            let alone = names == OtherNames::Staged || fstat(&adopted.file, &adopted.temp)?.nlink() == 1;
            if alone && disk::lease_is_unbroken(&adopted.file) {
                i += 1;
                continue;
            }
            let adopted = held.files.swap_remove(i);
            if !self.copy_adopted(&adopted, leases)? {
                held.lost = Some(self.layout().object(&adopted.digest));
            }
            replaced += 1;
        }
        match &held.lost {
            Some(path) => Err(written_while_sealed(path)),
            None => Ok(replaced),
        }
    }

    /// Ends the leases. Call it after the last name in the stage is removed.
    ///
    /// # Errors
    /// As [`Objects::protect_adopted`].
    pub fn release_leases(&self, leases: &Leases) -> Result<()> {
        if !leases.is_empty() {
            std::thread::sleep(LEASE_LINGER);
            self.protect_adopted(leases, OtherNames::Gone)?;
            leases.held().files.clear();
        }
        Ok(())
    }

    /// Replaces an object by a copy with an inode of its own. `false`: its bytes have changed, so it was removed.
    fn copy_adopted(&self, adopted: &AdoptedFile, leases: &Leases) -> Result<bool> {
        let object = self.layout().object(&adopted.digest);
        // If it is made visible meanwhile, it has its final name by the time that name is checked.
        for name in [&adopted.temp, &object, &adopted.temp, &object] {
            let ours = fstat(&adopted.file, name).ok().map(|m| inode(&m));
            if disk::lstat(name)?.is_none_or(|m| Some(inode(&m)) != ours) {
                continue;
            }
            let (copy, found) = self.durable_copy(&adopted.file, name, leases)?;
            if found != adopted.content() {
                self.disk().remove_file(copy.path())?;
                // The copy took a while: another writer may have replaced the wrong object by a right one.
                if disk::lstat(name)?.is_some_and(|m| Some(inode(&m)) == ours) {
                    self.disk().remove_file(name)?;
                }
                return Ok(false);
            }
            self.disk().rename(copy.path(), name)?;
            self.disk().sync_dir(name.parent().expect("a file is in a directory"))?;
        }
        Ok(true)
    }

    /// A durable copy with an object's mode and time, and its digest and size.
    pub(super) fn durable_copy(&self, source: &File, path: &Path, leases: &Leases) -> Result<(NewFile, (Digest, u64))> {
        let mut copy = self.disk().create_file(leases.copy_path())?;
        let reflink = ReflinkSupport::default();
        let found = copy_in(source, path, &mut copy, &reflink, &mut Vec::new(), &mut |_| Ok(()))?;
        copy.set_mode(OBJECT_MODE)?;
        copy.set_mtime(OBJECT_MTIME)?;
        self.disk().sync_file(&copy)?;
        Ok((copy, found.content()))
    }

    /// The metadata of the directory of objects: its device and owner.
    pub(super) fn objects_dir_metadata(&self) -> Result<Metadata> {
        let dir = self.layout().objects();
        std::fs::metadata(&dir).map_err(|e| Error::io("stat", &dir, e))
    }
}

fn written_while_sealed(object: &Path) -> Error {
    Error::conflict(format!(
        "a file of the stage was written to, not through its mount, while the stage was sealed (as {})",
        show_path(object)
    ))
    .with_hint("end what writes to the store's staging directory, then seal again")
}
