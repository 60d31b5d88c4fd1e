//! Correcting the mode, group and owner of an entry that was made by other rules than its store's.

use super::dir::{Dir, EntryStat};
use super::umask::Access;
use crate::error::Result;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// What must change about an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Correction {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
}

impl Access {
    /// What must change about a directory or regular file of a store, so that all users whom the store's directory lets
    /// in can use it, and no others can write to it; `None` if nothing must.
    pub fn correction(self, entry: EntryStat) -> Option<Correction> {
        let Access::Store(store) = self else { return None };
        let (floor, mode) = (self.wanted(0o777, 0o777), entry.mode());
        let able = match entry.is_dir() {
            true => 0o777,
            false if mode & 0o222 == 0 => 0o444, // objects and packs stay read-only
            false => 0o666,
        };
        let bit = if self.group().is_some() && entry.is_dir() { libc::S_ISGID } else { 0 };
        // A program that runs as its owner must not become one that runs as the store's owner.
        let kept = if entry.is_dir() { mode } else { mode & 0o777 };
        let wanted = (kept | floor & able | bit) & !(0o022 & !floor);
        // Root gives a user's store back to that user. In a group's store the owners of entries do not matter.
        let owner = self.creator().filter(|ids| !store.is_groups() && ids.uid != entry.owner());
        let gid = owner.map(|ids| ids.gid).or(self.group()).filter(|gid| *gid != entry.group());
        let uid = owner.map(|ids| ids.uid);
        (wanted != mode || uid.is_some() || gid.is_some()).then_some(Correction { uid, gid, mode: wanted })
    }
}

impl Dir {
    /// Corrects the directory or regular file `name`, which had the attributes `seen`.
    ///
    /// # Errors
    /// I/O; also if another entry has that name by now.
    pub fn correct(&self, name: &[u8], seen: EntryStat, correction: Correction) -> Result<()> {
        self.step("correct the access to", name)?;
        let set = || -> io::Result<()> {
            let handle = self.open_at(name, libc::O_PATH, 0)?;
            self.check_same(&handle, seen)?;
            let through = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
            if correction.uid.is_some() || correction.gid.is_some() {
                std::os::unix::fs::chown(&through, correction.uid, correction.gid)?;
            }
            std::fs::set_permissions(&through, Permissions::from_mode(correction.mode))
        };
        set().map_err(|e| self.failed("correct the access to", name, e))
    }

    fn check_same(&self, handle: &OwnedFd, seen: EntryStat) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
        let is_same = (meta.dev(), meta.ino()) == seen.id() && (meta.is_dir() || meta.is_file());
        if is_same { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESTALE)) }
    }
}
