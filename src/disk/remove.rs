//! Removing files and directories, one counted step for each entry.

use super::explain::failed;
use super::lookup::{descriptor_path, open_directory};
use super::untracked::remove_in;
use super::{Disk, confine, fault, step};
use crate::error::{Error, Result};
use crate::threads;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// From this many sibling directories on, several threads remove them.
const SIDE_BY_SIDE: usize = 16;

/// Longer paths are reached through a descriptor: the kernel takes paths of less than 4,096 bytes.
const LONG_PATH: usize = 3000;

impl Disk {
    /// Removes one file or symlink; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        step("remove", path)?;
        ignore_missing(std::fs::remove_file(path)).map_err(|e| failed("remove", path, e))
    }

    /// Removes one empty directory; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_dir(&self, path: &Path) -> Result<()> {
        step("remove directory", path)?;
        ignore_missing(std::fs::remove_dir(path)).map_err(|e| failed("remove directory", path, e))
    }

    /// Removes a directory and everything in it, one step for each entry; a missing one is fine. Symlinks are removed,
    /// not followed. Several threads remove many sibling directories.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("look at", path, e)),
            Ok(meta) if meta.is_dir() => self.remove_directory(path, threads::count()),
            Ok(_) => self.remove_file(path),
        }
    }

    fn remove_directory(&self, path: &Path, threads: usize) -> Result<()> {
        self.make_removable(path)?;
        if path.as_os_str().len() > LONG_PATH {
            // Its entries may have paths that are too long: name them relative to a descriptor.
            let directory = open_directory(path)?;
            self.empty_directory(&descriptor_path(&directory), threads)?;
        } else {
            self.empty_directory(path, threads)?;
        }
        self.remove_dir(path)
    }

    fn empty_directory(&self, path: &Path, threads: usize) -> Result<()> {
        let entries = match std::fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| Error::io("list", path, e))?,
        };
        // One check for all of its files: they are removed by the open directory, wherever its name leads by then.
        confine::check(&path.join("any"))?;
        let open = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let mut directories = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", path, e))?;
            if entry.file_type().map_err(|e| Error::io("look at", &entry.path(), e))?.is_dir() {
                directories.push(entry.path());
            } else {
                let removed = fault::step().and_then(|()| ignore_missing(remove_in(&open, &entry.file_name())));
                removed.map_err(|e| failed("remove", &entry.path(), e))?;
            }
        }
        drop(open);
        let side_by_side = if directories.len() < SIDE_BY_SIDE { 1 } else { threads };
        let below = if side_by_side > 1 { 1 } else { threads };
        threads::for_each(side_by_side, &directories, |directory| self.remove_directory(directory, below))
    }

    /// Entries can be removed only from a directory with write permission.
    fn make_removable(&self, path: &Path) -> Result<()> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("look at", path, e)),
            Ok(meta) if meta.permissions().mode() & 0o700 != 0o700 => self.set_mode(path, 0o700),
            Ok(_) => Ok(()),
        }
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
