//! The only module that changes the disk. Each change is one counted step (`fault`), so a test can kill the process or
//! fail the call at each.
//!
//! Guarantees: after a failed sync the handle is poisoned, and nothing is committed or claimed through it (L7). A
//! symlink that commits or claims never replaces an existing entry (L8). This module decides nothing: callers decide
//! the order of steps.

mod access;
pub mod backing;
mod barrier;
mod cache_files;
mod confine;
mod correct;
mod create;
mod credentials;
mod dir;
mod explain;
mod fault;
mod file;
mod fs;
mod group_sync;
mod handle;
mod lease;
mod lookup;
mod mountinfo;
mod moves;
mod names;
mod read;
mod remove;
mod rename;
mod reserve;
mod rights;
mod stamps;
mod sync;
mod umask;
#[cfg(feature = "fuse")]
mod unnamed;
mod untracked;
mod use_reserve;

pub use access::{Identity, may_write_as};
pub use barrier::{MANY_FILES, PublishBarrier, Unsynced};
pub use cache_files::{CacheDir, OpenDir};
pub use confine::confine;
pub use dir::{Dir, EntryStat};
pub use file::NewFile;
pub use fs::{FsKind, Space, free_bytes, space};
pub use handle::{DirHandle, FileStat, Follow, name_path, stat_file};
pub use lease::{ignore_lease_breaks, lease_is_unbroken, take_lease};
pub use lookup::{
    descriptor_path, is_found_by_listing, list, list_each, list_following, list_types, lstat, lstat_revalidated,
    open_dir, open_directory, open_parent, read_link, read_small, walk_error,
};
pub use mountinfo::{MOUNT_TABLE, MountEntry, mount_entries};
pub use names::{group_id, name_of_group, name_of_user, own_name, own_uid, show_access, show_group, show_user};
pub use read::{
    advise_needed, advise_sequential, hash_file, open_file, read_full_at, read_in_parts, read_to_expected_end,
    read_two_at,
};
pub use rename::Moved;
pub use reserve::UsesReserve;
pub use rights::{Right, may};
pub use stamps::{Volume, has_no_writer, max_dirty_page_age, pages_are_clean, read_from_server, volume};
pub use sync::Watch;
pub use umask::{Access, of_the_user as users_umask, umask_is_ours};
#[cfg(feature = "fuse")]
pub use unnamed::UnnamedFile;
pub use untracked::{
    create_mount_place, may_write, open_device, open_files_limit, open_log, raise_open_files_limit, remove_mount_place,
};
use untracked::{link_descriptor, set_mtime};
pub use untracked::{unnamed_file, write_setting};
pub use use_reserve::ReserveUse;

use crate::error::{Error, Result};
use credentials::FsIds;
use explain::failed;
use reserve::Reserve;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// The user and group that root creates entries as, if not its own.
    creator: Option<FsIds>,
    /// The file system has no `RENAME_NOREPLACE`.
    no_noreplace: AtomicBool,
    poisoned: AtomicBool,
    syncs: AtomicU64,
    /// The reserve, if this is a store.
    reserve: Option<Arc<Reserve>>,
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
            creator: access.creator(),
            no_noreplace: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            reserve: None,
        })
    }

    /// The same handle for a store whose reserve is in `directory`.
    #[must_use]
    pub fn with_reserve_in(self, directory: PathBuf) -> Disk {
        Disk { reserve: Some(Arc::new(Reserve::of(directory))), ..self }
    }

    /// The number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Who may use what this handle creates.
    pub fn access(&self) -> Access {
        self.access
    }

    /// How the file system behaves.
    pub fn kind(&self) -> FsKind {
        self.kind
    }

    /// Creates a file with its content, not yet durable.
    ///
    /// # Errors
    /// I/O.
    pub fn write_file(&self, path: PathBuf, bytes: &[u8]) -> Result<NewFile> {
        let mut file = self.create_file(path)?;
        file.use_reserve(self.reserve.clone());
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

    /// Creates a second name for a file; it must not exist.
    ///
    /// # Errors
    /// I/O.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        step("link", to)?;
        self.with_reserve(|| std::fs::hard_link(from, to)).map_err(|e| failed("link", to, e))
    }

    /// Creates another name for this open file, whatever its old names lead to now.
    ///
    /// # Errors
    /// I/O.
    pub fn link_open(&self, file: File, to: PathBuf) -> Result<NewFile> {
        step("link", &to)?;
        link_descriptor(&file, &to).map_err(|e| failed("link", &to, e))?;
        Ok(NewFile::new(file, to))
    }

    /// Appends a line to a file of the store, durably.
    ///
    /// # Errors
    /// I/O; if the line cannot be made durable, the handle is poisoned.
    pub fn append_line(&self, path: &Path, line: &str) -> Result<()> {
        step("append to", path)?;
        let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(|e| failed("open", path, e))?;
        io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).map_err(|e| failed("append to", path, e))?;
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

    /// Gives a directory to a group, with a mode.
    ///
    /// # Errors
    /// I/O.
    pub fn set_group_and_mode(&self, path: &Path, gid: u32, mode: u32) -> Result<()> {
        step("give to the group", path)?;
        std::os::unix::fs::lchown(path, None, Some(gid)).map_err(|e| Error::io("give to the group", path, e))?;
        self.set_mode(path, mode) // chown clears the set-group-id bit
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
