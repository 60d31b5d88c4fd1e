//! Taking a large file over with its inode, without copying a byte: for files that a staging directory on the store's own local disk holds.
//!
//! The file is made read-only, then a read lease (fcntl(2)) shows that nobody has it open for writing, and makes whoever opens it so from now on wait.
//! What was hashed under the lease is linked into the store. The lease is kept until the file's other name is gone; if somebody waits by then, the
//! object gets an inode of its own before they are let in. So no write can reach an object, also one by a name that was resolved before.

use super::large::{OBJECT_MODE, OBJECT_MTIME, hash_file};
use super::{Lane, LargePut, Objects};
use crate::disk::{self, Disk};
use crate::error::{Error, Result, show_path};
use crate::words::Digest;
use parking_lot::Mutex;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// With more files than this under lease, the rest is copied: each holds a descriptor.
const MOST: usize = 512;

/// The files taken over in one sealing, each under its lease until this is dropped.
#[derive(Debug, Default)]
pub struct Leases(Mutex<Vec<Taken>>);

#[derive(Debug)]
struct Taken {
    file: File,
    digest: Digest,
    size: u64,
}

impl Leases {
    /// Ready to take files over. From now on this process ignores SIGIO, by which the kernel says that somebody waits for a lease.
    pub fn new() -> Leases {
        disk::ignore_lease_breaks();
        Leases::default()
    }

    /// How many files are held.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Objects {
    /// Gives each object whose file somebody waits to write to an inode of its own; its bytes are hashed again. `dir` takes the copies.
    /// Returns how many these were.
    ///
    /// # Errors
    /// Damaged: a file was changed under its lease, which the kernel allows after the system's lease-break-time (45 s). I/O.
    pub fn secure(&self, leases: &Leases, dir: &Path) -> Result<usize> {
        let mut held = leases.0.lock();
        let mut replaced = 0;
        let mut i = 0;
        while i < held.len() {
            if disk::lease_is_whole(&held[i].file) {
                i += 1;
                continue;
            }
            let taken = held.swap_remove(i);
            self.give_own_inode(&taken, dir)?;
            replaced += 1;
        }
        Ok(replaced)
    }

    fn give_own_inode(&self, taken: &Taken, dir: &Path) -> Result<()> {
        let object = self.layout.object(&taken.digest);
        let mut copy = self.disk.create_file(dir.join(format!("own-{}", taken.digest)))?;
        let copied = super::copy::copy_in(&taken.file, &object, &mut copy, &std::sync::atomic::AtomicBool::new(false), &mut Vec::new(), &mut |_| Ok(()));
        if copied? != (taken.digest, taken.size) {
            self.disk.remove_file(copy.path())?;
            return Err(Error::damaged(format!("{} was written to while it was sealed", show_path(&object))));
        }
        copy.set_mode(OBJECT_MODE)?;
        copy.set_mtime(OBJECT_MTIME)?;
        self.disk.sync_file(&copy)?;
        self.disk.rename(copy.path(), &object)?;
        self.disk.sync_dir(&self.layout.object_dir(&taken.digest))
    }
}

impl Lane<'_> {
    /// Takes a file over; `None` where that is not to be had: another file system or owner, other names, a writer at work.
    pub(super) fn take_large(&mut self, source: &File, path: &Path, leases: &Leases, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<Option<LargePut>> {
        let objects = self.objects().clone();
        let look = || source.metadata().map_err(|e| Error::io("look at", path, e));
        let (meta, home) = (look()?, std::fs::metadata(objects.layout.objects()).map_err(|e| Error::io("look at", &objects.layout.objects(), e))?);
        if !objects.disk.kind().is_local() || meta.nlink() != 1 || meta.dev() != home.dev() || meta.uid() != home.uid() || leases.len() >= MOST {
            return Ok(None);
        }
        objects.disk.set_mode_open(source, path, OBJECT_MODE)?;
        if !disk::take_lease(source) {
            objects.disk.set_mode_open(source, path, meta.mode() & 0o7777)?;
            return Ok(None);
        }
        let before = look()?;
        let (digest, size) = hash_file(source, path, tick)?;
        let after = look()?;
        let state = |m: &std::fs::Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.nlink());
        if state(&before) != state(&after) || size != after.len() {
            return Ok(None);
        }
        let temp = self.temp('o');
        let file = source.try_clone().map_err(|e| Error::io("keep open", path, e))?;
        let linked = objects.disk.link_open(file, path, temp)?;
        if !disk::lease_is_whole(source) {
            objects.disk.remove_file(linked.path())?;
            return Ok(None); // somebody waits to write: what they will write to is not ours
        }
        let put = LargePut { taken: true, ..self.settle(linked, Ok((digest, size)))? };
        if put.new {
            let file = source.try_clone().map_err(|e| Error::io("keep open", path, e))?;
            leases.0.lock().push(Taken { file, digest, size });
        }
        Ok(Some(put))
    }
}

/// What a stage that is not sealed after all needs back: each file below `dir` that shares its inode with an object gets one of its own, so that
/// it can be written to again.
///
/// # Errors
/// I/O.
pub fn unshare(disk: &Disk, dir: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.map_err(|e| Error::io_message(format!("cannot list {}", show_path(dir))).because(e))?;
        let meta = entry.metadata().map_err(|e| Error::io_message(format!("cannot look at {}", show_path(entry.path()))).because(e))?;
        if !meta.is_file() || meta.mode() & 0o7777 != OBJECT_MODE || meta.mtime() != OBJECT_MTIME {
            continue;
        }
        if meta.nlink() > 1 {
            let (source, _) = disk::open_file(entry.path())?.ok_or_else(|| Error::io_message(format!("{} vanished", show_path(entry.path()))))?;
            let aside: PathBuf = entry.path().with_file_name(format!(".cairn-own-{}", crate::words::Token::fresh()));
            let mut copy = disk.create_file(aside)?;
            super::copy::copy_in(&source, entry.path(), &mut copy, &std::sync::atomic::AtomicBool::new(false), &mut Vec::new(), &mut |_| Ok(()))?;
            disk.sync_file(&copy)?;
            disk.rename(copy.path(), entry.path())?;
        }
        disk.set_mode(entry.path(), 0o644)?;
    }
    Ok(())
}
