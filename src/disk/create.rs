//! Creating directories and files. In a store they have their mode, owner and group from the first moment, as its
//! directory says ([`Access`]): another user must not be shut out of an entry between its creation and a chmod. On a
//! shared disk that could last as long as a client caches attributes.

use super::explain::failed;
use super::umask::without_umask;
use super::{Access, Created, Disk, NewFile, lookup, lstat_revalidated, step};
use crate::error::{Error, Result};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// GlusterFS can say that a directory exists which cannot be seen: how often it is made again, and the pause in
/// between.
const DIRECTORY_TRIES: u32 = 5;
const DIRECTORY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

impl Disk {
    /// Creates a directory; an existing one is fine. GlusterFS says "exists" for a name that another client just looked
    /// up, without having such a directory: "exists" counts only if the directory can be seen.
    ///
    /// # Errors
    /// I/O. Damaged if a symlink or a file has that name: in a store only directories have the names of directories.
    pub fn create_dir(&self, path: &Path) -> Result<Created> {
        match self.make_dir(path) {
            Err(e) if e.errno() == Some(libc::EEXIST) => match lstat_revalidated(path)? {
                Some(meta) if !meta.is_dir() => Err(Error::damaged(lookup::not_a_directory(path, &meta))),
                _ => Err(e),
            },
            made => made,
        }
    }

    /// [`Disk::create_dir`] for a directory that belongs to the user of this process, not to the store's owner.
    ///
    /// # Errors
    /// As [`Disk::create_dir`].
    pub fn create_own_dir(&self, path: &Path) -> Result<Created> {
        let made = self.create_dir(path)?;
        if made == Created::New && self.creator.is_some() {
            // SAFETY: these calls cannot fail.
            let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
            let gid = if self.access.group().is_some() { None } else { Some(gid) };
            std::os::unix::fs::lchown(path, Some(uid), gid).map_err(|e| Error::io("give to its user", path, e))?;
        }
        Ok(made)
    }

    /// [`Disk::create_dir`] for a place that need not be in a store: something else with that name is an I/O error.
    fn make_dir(&self, path: &Path) -> Result<Created> {
        step("create directory", path)?;
        let wanted = self.access.wanted(0o777, self.umask);
        let make = || std::fs::DirBuilder::new().mode(wanted).create(path);
        let mut tries = DIRECTORY_TRIES;
        loop {
            match self.create(wanted, make, |()| self.give_by_name(path)) {
                Ok(((), is_exact)) => {
                    self.check_directory(path, wanted, is_exact)?;
                    return Ok(Created::New);
                }
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("create directory", path, e));
                }
                Err(e) => match lstat_revalidated(path)? {
                    Some(meta) if meta.is_dir() => return Ok(Created::Exists),
                    None if tries > 1 => {
                        tries -= 1;
                        std::thread::sleep(DIRECTORY_PAUSE);
                    }
                    _ => return Err(Error::io("create directory", path, e)),
                },
            }
        }
    }

    /// Creates a directory and its missing parents.
    ///
    /// # Errors
    /// I/O.
    pub fn create_dirs(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dirs(parent)?;
        }
        self.make_dir(path).map(drop)
    }

    /// Creates a file of the store. Its name contains a token or is in a token's directory, so no other process creates
    /// it: an empty file that exists was made by this call, whose reply was lost (L10).
    ///
    /// # Errors
    /// I/O, an existing file with content included.
    pub fn create_file(&self, path: PathBuf) -> Result<NewFile> {
        match self.create_file_with(path.clone(), 0o666) {
            Err(e) if e.errno() == Some(libc::EEXIST) => {
                let opened = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(&path);
                let ours = opened.ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file() && m.len() == 0));
                let file = ours.ok_or(e)?;
                self.check_file(&file, &path, self.access.wanted(0o666, self.umask), false)?;
                Ok(NewFile::new(file, path))
            }
            other => other,
        }
    }

    /// [`Disk::create_file`] with a mode, which the umask reduces.
    ///
    /// # Errors
    /// I/O, an existing file included.
    pub fn create_file_with(&self, path: PathBuf, mode: u32) -> Result<NewFile> {
        step("create", &path)?;
        let wanted = self.access.wanted(mode, self.umask);
        let make = || std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(wanted).open(&path);
        let made = self.create(wanted, make, |file| self.give(file));
        let (file, is_exact) = made.map_err(|e| failed("create", &path, e))?;
        self.check_file(&file, &path, wanted, is_exact)?;
        Ok(NewFile::new(file, path))
    }

    /// Creates an empty file whose name is the information, and the directories above it that are missing; an existing
    /// one is fine.
    ///
    /// # Errors
    /// As [`Disk::create_dir`].
    pub fn create_marker(&self, path: &Path) -> Result<()> {
        let create = || match self.create_file_with(path.to_path_buf(), 0o666) {
            Err(e) if e.errno() == Some(libc::EEXIST) => Ok(()),
            made => made.map(drop),
        };
        match (create(), path.parent()) {
            (Err(e), Some(dir)) if e.errno() == Some(libc::ENOENT) => {
                if let Some(above) = dir.parent() {
                    self.create_dirs(above)?;
                }
                self.create_dir(dir)?;
                create()
            }
            (made, _) => made,
        }
    }

    /// Creates a symlink that must not exist yet, as an entry of a version on checkout. (What coordinates uses
    /// [`Disk::claim`].)
    ///
    /// # Errors
    /// I/O.
    pub fn symlink(&self, target: &[u8], path: &Path) -> Result<Created> {
        use std::os::unix::ffi::OsStrExt;
        step("create symlink", path)?;
        let make = || std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path);
        match self.create(0, make, |()| self.give_by_name(path)) {
            Ok(_) => Ok(Created::New),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(e) => Err(failed("create symlink", path, e)),
        }
    }

    /// Creates an entry as the store's owner, without a umask. Returns whether its mode is exactly the wanted one. If
    /// the store's owner may not create it, root does, and `give` gives it to the owner.
    fn create<T: Send>(
        &self,
        wanted: u32,
        make: impl Fn() -> io::Result<T> + Sync,
        give: impl Fn(&T) -> io::Result<()>,
    ) -> io::Result<(T, bool)> {
        self.with_reserve(|| self.create_once(wanted, &make, &give))
    }

    fn create_once<T: Send>(
        &self,
        wanted: u32,
        make: &(impl Fn() -> io::Result<T> + Sync),
        give: &impl Fn(&T) -> io::Result<()>,
    ) -> io::Result<(T, bool)> {
        // Without the capability to become the owner, this process creates what it may, as its own.
        let as_owner = || self.creator.and_then(|ids| ids.run(make)).unwrap_or_else(make);
        let is_exact = Access::cut(wanted, self.umask) == 0;
        let (made, is_exact) = match is_exact {
            true => (as_owner(), true),
            false => match without_umask(as_owner) {
                Some(made) => (made, true),
                None => (as_owner(), false),
            },
        };
        match made {
            Err(e) if self.creator.is_some() && e.kind() == io::ErrorKind::PermissionDenied => {
                let made = make()?;
                match give(&made) {
                    Err(e) if e.raw_os_error() != Some(libc::EPERM) => return Err(e),
                    _ => {}
                }
                Ok((made, Access::cut(wanted, self.umask) == 0))
            }
            made => Ok((made?, is_exact)),
        }
    }

    fn give(&self, file: &File) -> io::Result<()> {
        let Some(ids) = self.creator else { return Ok(()) };
        std::os::unix::fs::fchown(file, Some(ids.uid), Some(ids.gid))
    }

    fn give_by_name(&self, path: &Path) -> io::Result<()> {
        let Some(ids) = self.creator else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(ids.uid), Some(ids.gid))
    }

    /// Gives a new directory of a group's store the group and the set-group-id bit, by which its entries get the group,
    /// if its parent did not pass them on; and any directory its mode, if the umask was in force.
    fn check_directory(&self, path: &Path, wanted: u32, is_exact: bool) -> Result<()> {
        let group = self.access.group();
        if is_exact && group.is_none() {
            return Ok(());
        }
        let meta = std::fs::symlink_metadata(path).map_err(|e| Error::io("look at", path, e))?;
        let given = has_other_group(&meta, group);
        if given {
            std::os::unix::fs::lchown(path, None, group).map_err(|e| Error::io("give to the group", path, e))?;
        }
        let inherited = meta.mode() & libc::S_ISGID;
        let bit = if group.is_some() { libc::S_ISGID } else { inherited };
        if given || meta.mode() & 0o7777 != wanted | bit {
            std::fs::set_permissions(path, Permissions::from_mode(wanted | bit))
                .map_err(|e| Error::io("set the mode of", path, e))?;
        }
        Ok(())
    }

    /// The same for a file.
    fn check_file(&self, file: &File, path: &Path, wanted: u32, is_exact: bool) -> Result<()> {
        let group = self.access.group();
        if group.is_some() {
            let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
            if has_other_group(&meta, group) {
                std::os::unix::fs::fchown(file, None, group).map_err(|e| Error::io("give to the group", path, e))?;
            }
        }
        if is_exact || self.access == Access::Umask {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(wanted)).map_err(|e| Error::io("set the mode of", path, e))
    }
}

fn has_other_group(meta: &Metadata, group: Option<u32>) -> bool {
    group.is_some_and(|gid| gid != meta.gid())
}
