//! The only place that changes the disk. Every change is one counted step (`fault`), so a test can kill or fail at
//! each.
//!
//! Guarantees: a failed sync poisons the handle, and nothing is committed or claimed after it (L7). A symlink that
//! commits or claims never replaces what stands (L8). Nothing here decides; the order of steps is the callers'.

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
mod read;
mod rights;
mod stamps;
mod umask;
mod untracked;

pub use access::{Identity, may_write_as};
pub use barrier::{MANY_FILES, PublishBarrier, Unsynced};
pub use confine::confine;
pub use dir::{Dir, EntryStat};
pub use file::NewFile;
pub use fs::{FsKind, Space, free_bytes, space};
use group_sync::{sync_fs, sync_fs_shared};
pub use handle::{DirHandle, FileStat, Follow, name_path, stat_file};
pub use lease::{ignore_lease_breaks, lease_is_whole, take_lease};
pub use lookup::{
    by_descriptor, list, list_following, list_types, lstat, lstat_revalidated, open_dir, open_directory, open_parent,
    read_link, read_small, walk_error,
};
pub use read::{hash_file, open_file, read_full_at, read_two_at, will_read_in_order};
pub use rights::{Right, may};
pub use stamps::{Volume, nobody_writes, oldest_dirty_page, pages_are_clean, volume};
pub use umask::{Access, of_the_user as users_umask, umask_is_ours};
pub use untracked::{
    create_mount_place, may_write, open_device, open_files_limit, open_log, raise_open_files_limit, remove_mount_place,
};
use untracked::{link_descriptor, rename_noreplace, set_mtime};
pub use untracked::{unnamed_file, write_setting};

use crate::error::{Error, Result};
use crate::threads;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often a directory is made that is said to exist and cannot be seen, and how long between.
const DIRECTORY_TRIES: u32 = 5;
const DIRECTORY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// From so many directories beside each other on, several threads remove them.
const SIDE_BY_SIDE: usize = 16;

/// A directory with a longer path is gone through by its descriptor: the kernel takes paths of less than 4,096 bytes.
const LONG_PATH: usize = 3000;

/// Whether a create-if-absent step made its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// Made by this call.
    New,
    /// Something stood there already.
    Exists,
}

/// A file system whose failures to write back are watched.
#[derive(Debug)]
pub struct Watch {
    dir: File,
    path: PathBuf,
}

/// A handle through which one store, or one target directory, is changed.
#[derive(Debug)]
pub struct Disk {
    kind: FsKind,
    /// Directories are synced by syncing all: see [`FsKind::and_needs_whole_syncs`].
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

    /// How many syncs were waited for.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// How the file system behaves.
    pub fn kind(&self) -> FsKind {
        self.kind
    }

    /// Makes one directory; an existing one is fine. "Exists" is believed only of a directory that can be seen:
    /// GlusterFS says so of a name that another client just asked for, and has no such directory.
    ///
    /// # Errors
    /// I/O. Damaged when a symlink or a file has that name: in a store only directories have the names of directories.
    pub fn create_dir(&self, path: &Path) -> Result<Created> {
        match self.make_dir(path) {
            Err(e) if e.errno() == Some(libc::EEXIST) => match lstat_revalidated(path)? {
                Some(meta) if !meta.is_dir() => Err(Error::damaged(lookup::not_a_directory(path, &meta))),
                _ => Err(e),
            },
            made => made,
        }
    }

    /// [`Disk::create_dir`], also for places outside a store: what else has that name is an error of I/O.
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

    /// Makes a directory and its missing parents.
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

    /// Creates a file of the store's, whose name has a token in it or lies in a token's directory, so that nobody else
    /// makes it: an empty file that stands there was made by this very call, whose reply was lost (L10).
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

    /// [`Disk::create_file`] with a mode, through the umask.
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

    /// Gives a file of the store's the mode that the umask may have cut.
    fn open_up(&self, file: &File, path: &Path, mode: u32) -> Result<()> {
        if self.access == Access::Umask {
            return Ok(());
        }
        let wanted = Permissions::from_mode(self.access.wanted(mode, self.umask));
        file.set_permissions(wanted).map_err(|e| Error::io("set the mode of", path, e))
    }

    /// Creates a file whole: content written, not yet durable.
    ///
    /// # Errors
    /// I/O.
    pub fn write_file(&self, path: PathBuf, bytes: &[u8]) -> Result<NewFile> {
        let mut file = self.create_file(path)?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// The one coordination primitive: `symlink(text, path)`, which fails if anything stands at `path`.
    /// Refused on a poisoned handle (L7).
    ///
    /// # Errors
    /// I/O. After an error other than "exists" the outcome is unknown: read back (L10).
    pub fn claim(&self, text: &str, path: &Path) -> Result<Created> {
        self.check_poison()?;
        self.symlink(text.as_bytes(), path)
    }

    /// Makes a symlink that must not exist (version entries on checkout; see [`Disk::claim`] for what coordinates).
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

    /// Renames one file, replacing what stands at `to`. "Missing" because the reply to a rename that was done got lost
    /// is told apart (L10).
    ///
    /// # Errors
    /// I/O.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        step("rename", from)?;
        confine::check(to)?;
        let before = std::fs::symlink_metadata(from).ok().map(file_id);
        match std::fs::rename(from, to) {
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && before.is_some()
                    && lstat_revalidated(to)?.map(file_id) == before =>
            {
                Ok(())
            }
            other => other
                .map_err(|e| Error::io("rename", from, e).with_cause(format!("to {}", crate::error::show_path(to)))),
        }
    }

    /// Gives a whole file its place unless something is there already: then nothing changes, `from` included. Where the
    /// file system has no `RENAME_NOREPLACE` the file is linked to its place and loses its first name; where there are
    /// no hard links either, it is renamed after a look. A reply that got lost after the step was done is told apart
    /// (L10).
    ///
    /// # Errors
    /// I/O.
    pub fn rename_if_absent(&self, from: &Path, to: &Path) -> Result<Created> {
        step("rename", from)?;
        confine::check(to)?;
        let before = std::fs::symlink_metadata(from).ok().map(file_id);
        let is_there = || -> Result<bool> { Ok(before.is_some() && lstat_revalidated(to)?.map(file_id) == before) };
        let failed =
            |e: io::Error| Error::io("rename", from, e).with_cause(format!("to {}", crate::error::show_path(to)));
        if !self.no_noreplace.load(Ordering::Relaxed) {
            match rename_noreplace(from, to) {
                Ok(()) => return Ok(Created::New),
                Err(e) if e.kind() == io::ErrorKind::NotFound && is_there()? => return Ok(Created::New),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let renamed = lstat(from)?.is_none() && is_there()?;
                    return Ok(if renamed { Created::New } else { Created::Exists });
                }
                Err(e) if is_unsupported(&e) => self.no_noreplace.store(true, Ordering::Relaxed),
                Err(e) => return Err(failed(e)),
            }
        }
        match std::fs::hard_link(from, to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !is_there()? {
                    return Ok(Created::Exists);
                }
            }
            Err(e) if is_unsupported(&e) || matches!(e.raw_os_error(), Some(libc::EPERM | libc::EMLINK)) => {
                if lstat_revalidated(to)?.is_some() {
                    return Ok(Created::Exists);
                }
                return self.rename(from, to).map(|()| Created::New);
            }
            Err(e) => return Err(failed(e)),
        }
        self.remove_file(from).map(|()| Created::New)
    }

    /// Makes an empty file that says something by its name; one that is there already is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn create_mark(&self, path: &Path) -> Result<()> {
        match self.create_file_with(path.to_path_buf(), 0o666) {
            Err(e) if e.errno() == Some(libc::EEXIST) => Ok(()),
            made => made.map(drop),
        }
    }

    /// Makes a second name for a file; it must not exist.
    ///
    /// # Errors
    /// I/O.
    pub fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        step("link", to)?;
        std::fs::hard_link(from, to).map_err(|e| Error::io("link", to, e))
    }

    /// Makes another name for a file that is open: for this very file, whatever its names have come to mean.
    ///
    /// # Errors
    /// I/O.
    pub fn link_open(&self, file: File, to: PathBuf) -> Result<NewFile> {
        step("link", &to)?;
        link_descriptor(&file, &to).map_err(|e| Error::io("link", &to, e))?;
        Ok(NewFile::new(file, to))
    }

    /// Appends a line to a file of the store's, durably.
    ///
    /// # Errors
    /// I/O; the handle is poisoned when it cannot be made durable.
    pub fn append_line(&self, path: &Path, line: &str) -> Result<()> {
        step("append to", path)?;
        let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(|e| Error::io("open", path, e))?;
        io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).map_err(|e| Error::io("append to", path, e))?;
        self.synced(file.sync_all(), "sync", path)
    }

    /// Removes one file or symlink; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        step("remove", path)?;
        ignore_missing(std::fs::remove_file(path)).map_err(|e| Error::io("remove", path, e))
    }

    /// Removes one empty directory; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_dir(&self, path: &Path) -> Result<()> {
        step("remove directory", path)?;
        ignore_missing(std::fs::remove_dir(path)).map_err(|e| Error::io("remove directory", path, e))
    }

    /// Removes a directory and all in it, a step for each; a missing one is fine. Symlinks are removed, not followed.
    /// Where many directories stand side by side, several threads do it.
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
        self.open_to_removal(path)?;
        if path.as_os_str().len() > LONG_PATH {
            // What is in it may be too deep to be named from here: its names begin with a descriptor.
            let directory = open_directory(path)?;
            self.empty_directory(&by_descriptor(&directory), threads)?;
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
        let mut directories = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", path, e))?;
            if entry.file_type().map_err(|e| Error::io("look at", &entry.path(), e))?.is_dir() {
                directories.push(entry.path());
            } else {
                self.remove_file(&entry.path())?;
            }
        }
        let side_by_side = if directories.len() < SIDE_BY_SIDE { 1 } else { threads };
        let below = if side_by_side > 1 { 1 } else { threads };
        threads::for_each(side_by_side, &directories, |directory| self.remove_directory(directory, below))
    }

    /// What is in a user's directory can be removed only if it may be written to.
    fn open_to_removal(&self, path: &Path) -> Result<()> {
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("look at", path, e)),
            Ok(meta) if meta.permissions().mode() & 0o700 != 0o700 => self.set_mode(path, 0o700),
            Ok(_) => Ok(()),
        }
    }

    /// Sets the mode of a file by name.
    ///
    /// # Errors
    /// I/O.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        step("set the mode of", path)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| Error::io("set the mode of", path, e))
    }

    /// Sets the mode and the modification time (in seconds since 1970) of an open file of the store's; `path` is its
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

    /// Makes the entries of a directory of a user's durable, given open. What fails there is the user's to know, and
    /// poisons nothing.
    ///
    /// # Errors
    /// I/O.
    pub fn sync_users_dir(&self, dir: &File) -> io::Result<()> {
        if self.whole_syncs { sync_fs_shared(dir) } else { dir.sync_all() }
    }

    /// Makes a whole file durable, given open.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_file(&self, file: &NewFile) -> Result<()> {
        step("sync", file.path())?;
        self.synced(file.file().sync_all(), "sync", file.path())
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

    /// Begins to watch the file system that holds `path`. To be called before anything is written: a failure to write
    /// back is surely reported only to descriptors that were open when it happened.
    ///
    /// # Errors
    /// I/O.
    pub fn watch(&self, path: &Path) -> Result<Watch> {
        let dir = lookup::open_dir(path).map_err(|e| Error::io("open", path, e))?;
        Ok(Watch { dir, path: path.to_path_buf() })
    }

    /// Makes everything on a watched file system durable; fails when a write-back failed since the watch began. For
    /// local file systems only: elsewhere it need not reach the server.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn sync_fs(&self, watch: &Watch) -> Result<()> {
        step("sync the file system of", &watch.path)?;
        self.synced(sync_fs(&watch.dir), "sync the file system of", &watch.path)
    }

    /// Remembers a failed sync: what was written before may be lost although later syncs succeed.
    fn synced(&self, result: io::Result<()>, action: &str, path: &Path) -> Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        result.map_err(|e| {
            self.poisoned.store(true, Ordering::SeqCst);
            Error::io(action, path, e)
        })
    }

    /// Whether no sync has failed.
    pub fn is_sound(&self) -> bool {
        !self.poisoned.load(Ordering::SeqCst)
    }

    fn check_poison(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(Error::io_message(
                "a sync of this store failed before: nothing more is published by this process",
            )
            .with_hint("look at the disk and the kernel's log, then say it again"));
        }
        Ok(())
    }
}

/// Device and inode.
fn file_id(meta: Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Whether a call failed because the file system does not have it.
fn is_unsupported(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY))
}

fn step(action: &str, path: &Path) -> Result<()> {
    confine::check(path)?;
    fault::step().map_err(|e| Error::io(action, path, e))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
