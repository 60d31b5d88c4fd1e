//! Making things durable. A failed sync poisons the handle.

use super::group_sync::{sync_fs, sync_fs_shared};
use super::{Disk, NewFile, lookup, step};
use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A file system that is watched for failed write-backs.
#[derive(Debug)]
pub struct Watch {
    dir: File,
    path: PathBuf,
}

impl Disk {
    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        step("sync directory", path)?;
        let dir = lookup::open_dir(path).map_err(|e| Error::io("open", path, e))?;
        let synced = if self.whole_syncs { sync_fs_shared(&dir) } else { dir.sync_all() };
        self.synced(synced, "sync directory", path)
    }

    /// Makes the entries of an open directory durable that is not the store's. A failure does not poison the handle.
    ///
    /// # Errors
    /// I/O.
    pub fn sync_users_dir(&self, dir: &File) -> io::Result<()> {
        if self.whole_syncs { sync_fs_shared(dir) } else { dir.sync_all() }
    }

    /// Makes an open file durable.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_file(&self, file: &NewFile) -> Result<()> {
        file.step("sync")?;
        self.synced(file.file().sync_all(), "sync", file.path())
    }

    /// Writes the content of an open file out, as far as a sync of it would wait for that. It is not durable yet.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub(super) fn write_out(&self, file: &NewFile) -> Result<()> {
        file.write_out().map_err(|e| self.poison("write out", file.path(), e))
    }

    /// Makes a file durable by name.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_path(&self, path: &Path) -> Result<()> {
        step("sync", path)?;
        let opened =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|e| Error::io("open", path, e))?;
        self.synced(file.sync_all(), "sync", path)
    }

    /// Starts to watch the file system of `path`. Call it before anything is written: the kernel reports a failed
    /// write-back reliably only to descriptors that were open when it happened.
    ///
    /// # Errors
    /// I/O.
    pub fn watch(&self, path: &Path) -> Result<Watch> {
        let dir = lookup::open_dir(path).map_err(|e| Error::io("open", path, e))?;
        Ok(Watch { dir, path: path.to_path_buf() })
    }

    /// Makes everything on a watched file system durable. Fails if a write-back failed since the watch began. Only for
    /// local file systems: elsewhere it may not reach the server.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_fs(&self, watch: &Watch) -> Result<()> {
        step("sync the file system of", &watch.path)?;
        self.synced(sync_fs(&watch.dir), "sync the file system of", &watch.path)
    }

    /// Remembers a failed sync: earlier writes may be lost even if later syncs succeed.
    pub(super) fn synced(&self, result: io::Result<()>, action: &str, path: &Path) -> Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        result.map_err(|e| self.poison(action, path, e))
    }

    fn poison(&self, action: &str, path: &Path, e: io::Error) -> Error {
        self.poisoned.store(true, Ordering::SeqCst);
        Error::io(action, path, e)
    }

    /// Whether no sync has failed so far.
    pub fn is_sound(&self) -> bool {
        !self.poisoned.load(Ordering::SeqCst)
    }
}
