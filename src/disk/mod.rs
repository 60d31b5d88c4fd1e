//! The only module that changes the disk. Each change is one counted step (`fault`), so a test can kill the process or
//! fail the call at each.
//!
//! Guarantees: after a failed sync the handle is poisoned, and nothing is committed or claimed through it (L7). A
//! symlink that commits or claims never replaces an existing entry (L8). This module decides nothing: callers decide
//! the order of steps.

mod access;
pub mod backing;
mod barrier;
mod confine;
mod dir;
mod fault;
mod file;
mod fs;
mod group_sync;
mod handle;
mod lease;
mod lookup;
mod mountinfo;
mod read;
mod remove;
mod rename;
mod rights;
mod stamps;
mod sync;
mod umask;
mod untracked;

pub use access::{Identity, may_write_as};
pub use barrier::{MANY_FILES, PublishBarrier, Unsynced};
pub use confine::confine;
pub use dir::{Dir, EntryStat};
pub use file::NewFile;
pub use fs::{FsKind, Space, free_bytes, space};
pub use handle::{DirHandle, FileStat, Follow, name_path, stat_file};
pub use lease::{ignore_lease_breaks, lease_is_unbroken, take_lease};
pub use lookup::{
    descriptor_path, list, list_following, list_types, lstat, lstat_revalidated, open_dir, open_directory, open_parent,
    read_link, read_small, walk_error,
};
pub use mountinfo::{MOUNT_TABLE, MountEntry, mount_entries};
pub use read::{advise_sequential, hash_file, open_file, read_full_at, read_two_at};
pub use rights::{Right, may};
pub use stamps::{Volume, has_no_writer, max_dirty_page_age, pages_are_clean, read_from_server, volume};
pub use sync::Watch;
pub use umask::{Access, of_the_user as users_umask, umask_is_ours};
pub use untracked::{
    create_mount_place, may_write, open_device, open_files_limit, open_log, raise_open_files_limit, remove_mount_place,
};
use untracked::{link_descriptor, set_mtime};
pub use untracked::{unnamed_file, write_setting};

use crate::error::{Error, Result};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// GlusterFS can say that a directory exists which cannot be seen: how often it is made again, and the pause in
/// between.
const DIRECTORY_TRIES: u32 = 5;
const DIRECTORY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Whether a create-if-absent step made its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// Made by this call.
    New,
    /// The name was taken.
    Exists,
}

/// A handle through which one store, or one target directory, is changed.
#[derive(Debug)]
pub struct Disk {
    kind: FsKind,
    /// A directory's sync syncs the whole file system: see [`FsKind::and_needs_whole_syncs`].
    whole_syncs: bool,
    access: Access,
    umask: u32,
    /// The file system has no `RENAME_NOREPLACE`.
    no_noreplace: AtomicBool,
    poisoned: AtomicBool,
    syncs: AtomicU64,
}

impl Disk {
    /// A handle for the file system that holds `path`.
    ///
    /// # Errors
    /// I/O when the file system cannot be asked for its type.
    pub fn of(path: &Path, access: Access) -> Result<Disk> {
        let (kind, whole_syncs) = FsKind::and_needs_whole_syncs(path)?;
        Ok(Disk {
            kind,
            whole_syncs,
            access,
            umask: umask::of_the_user(),
            no_noreplace: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        })
    }

    /// The number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// How the file system behaves.
    pub fn kind(&self) -> FsKind {
        self.kind
    }

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

    /// [`Disk::create_dir`] for a place that need not be in a store: something else with that name is an I/O error.
    fn make_dir(&self, path: &Path) -> Result<Created> {
        step("create directory", path)?;
        let wanted = self.access.wanted(0o777, self.umask);
        let cut = Access::cut(wanted, self.umask);
        let mut tries = DIRECTORY_TRIES;
        loop {
            match std::fs::DirBuilder::new().mode(wanted).create(path) {
                Ok(()) => break,
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create directory", path, e));
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
        if cut != 0 {
            let group = std::fs::symlink_metadata(path).map_or(0, |m| m.permissions().mode() & libc::S_ISGID);
            std::fs::set_permissions(path, Permissions::from_mode(wanted | group))
                .map_err(|e| Error::io("set the mode of", path, e))?;
        }
        Ok(Created::New)
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
                self.open_up(&file, &path, 0o666)?;
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
        let cut = Access::cut(wanted, self.umask);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(wanted)
            .open(&path)
            .map_err(|e| Error::io("create", &path, e))?;
        if cut != 0 {
            self.open_up(&file, &path, mode)?;
        }
        Ok(NewFile::new(file, path))
    }

    /// Restores the bits of a mode that the umask has removed.
    fn open_up(&self, file: &File, path: &Path, mode: u32) -> Result<()> {
        if self.access == Access::Umask {
            return Ok(());
        }
        let wanted = Permissions::from_mode(self.access.wanted(mode, self.umask));
        file.set_permissions(wanted).map_err(|e| Error::io("set the mode of", path, e))
    }

    /// Creates a file with its content, not yet durable.
    ///
    /// # Errors
    /// I/O.
    pub fn write_file(&self, path: PathBuf, bytes: &[u8]) -> Result<NewFile> {
        let mut file = self.create_file(path)?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// The only coordination primitive: `symlink(text, path)`, which fails if `path` exists. Refused on a poisoned
    /// handle (L7).
    ///
    /// # Errors
    /// I/O. After an error other than "exists" the outcome is unknown, and the caller must read back (L10).
    pub fn claim(&self, text: &str, path: &Path) -> Result<Created> {
        self.check_poison()?;
        self.symlink(text.as_bytes(), path)
    }

    /// Creates a symlink that must not exist yet, as an entry of a version on checkout. (What coordinates uses
    /// [`Disk::claim`].)
    ///
    /// # Errors
    /// I/O.
    pub fn symlink(&self, target: &[u8], path: &Path) -> Result<Created> {
        use std::os::unix::ffi::OsStrExt;
        step("create symlink", path)?;
        match std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path) {
            Ok(()) => Ok(Created::New),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(e) => Err(Error::io("create symlink", path, e)),
        }
    }

    /// Creates an empty file whose name is the information; an existing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn create_marker(&self, path: &Path) -> Result<()> {
        match self.create_file_with(path.to_path_buf(), 0o666) {
            Err(e) if e.errno() == Some(libc::EEXIST) => Ok(()),
            made => made.map(drop),
        }
    }

    /// Creates a second name for a file; it must not exist.
    ///
    /// # Errors
    /// I/O.
    pub fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        step("link", to)?;
        std::fs::hard_link(from, to).map_err(|e| Error::io("link", to, e))
    }

    /// Creates another name for this open file, whatever its old names lead to now.
    ///
    /// # Errors
    /// I/O.
    pub fn link_open(&self, file: File, to: PathBuf) -> Result<NewFile> {
        step("link", &to)?;
        link_descriptor(&file, &to).map_err(|e| Error::io("link", &to, e))?;
        Ok(NewFile::new(file, to))
    }

    /// Appends a line to a file of the store, durably.
    ///
    /// # Errors
    /// I/O; if the line cannot be made durable, the handle is poisoned.
    pub fn append_line(&self, path: &Path, line: &str) -> Result<()> {
        step("append to", path)?;
        let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(|e| Error::io("open", path, e))?;
        io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).map_err(|e| Error::io("append to", path, e))?;
        self.synced(file.sync_all(), "sync", path)
    }

    /// Sets the mode of a file by name.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        step("set the mode of", path)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| Error::io("set the mode of", path, e))
    }

    /// Sets the mode and the modification time (in seconds since 1970) of an open file of the store; `path` is its
    /// name.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mode_and_mtime(&self, file: &File, path: &Path, mode: u32, seconds: i64) -> Result<()> {
        step("set the time of", path)?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(|e| Error::io("set the mode of", path, e))?;
        untracked::set_open_mtime(file, seconds).map_err(|e| Error::io("set the time of", path, e))
    }

    /// Sets the modification time of a file by name, in seconds and nanoseconds since 1970.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mtime(&self, path: &Path, seconds: i64, nanos: i64) -> Result<()> {
        step("set the time of", path)?;
        set_mtime(path, seconds, nanos).map_err(|e| Error::io("set the time of", path, e))
    }

    fn check_poison(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(Error::io_message(
                "a sync of this store failed before: nothing more is published by this process",
            )
            .with_hint("check the disk and the kernel log, then run the command again"));
        }
        Ok(())
    }
}

fn step(action: &str, path: &Path) -> Result<()> {
    confine::check(path)?;
    fault::step().map_err(|e| Error::io(action, path, e))
}
