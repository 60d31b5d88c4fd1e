//! A mount point that was checked: an empty directory that is not in, over or around the store.

use super::companion::remove_dead_companions;
use super::detach::detach;
use super::sys::Detach;
use super::{sys, table};
use crate::disk::write_setting;
use crate::error::{Error, Result, shell_path, show_path};
use std::fs::{File, Metadata, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a mount waits for another one at the same place. After that it checks whether it may continue.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// An empty directory outside the store, at which a mount can be made.
#[derive(Clone, Debug)]
pub struct MountPoint {
    path: PathBuf,
    /// Device and inode before the mount.
    before: (u64, u64),
    mode: u32,
    /// The `/dev/fuse` of a mount that another program made and passed on as `/dev/fd/N`, as mount.fuse3 does to drop
    /// privileges.
    handed: Option<Arc<OwnedFd>>,
}

impl MountPoint {
    /// Checks `mnt`. A cairn mount there whose daemon was killed is detached first.
    ///
    /// # Errors
    /// Not found when it does not exist. Usage when it is not a directory, or is in, over or around the store: a mount
    /// there would hide the store from its own daemon, or contain itself. Refused when it is not empty, or a cairn
    /// mount already.
    pub fn check(mnt: &Path, store: &Path) -> Result<MountPoint> {
        if let Some(descriptor) = sys::handed_over(mnt) {
            let fd = descriptor.map_err(|e| {
                Error::io("take over the mount behind", mnt, e)
                    .with_hint("name a directory; only mount.fuse3 passes /dev/fd/N")
            })?;
            return Ok(MountPoint { path: mnt.to_path_buf(), before: (0, 0), mode: 0, handed: Some(Arc::new(fd)) });
        }
        let path = table::canonical(mnt).map_err(|e| {
            let missing = e.kind() == crate::error::Kind::NotFound;
            let e = e.context(format!("cannot mount at {}", show_path(mnt)));
            if missing { e.with_hint(format!("mkdir -p {}", shell_path(mnt))) } else { e }
        })?;
        while table::top_at(&path)?.is_some_and(|m| m.is_ours()) {
            if !table::is_dead(&path) {
                let hint = format!("`cairn umount --no-seal {}` unmounts it without sealing", shell_path(&path));
                return Err(Error::conflict(format!(
                    "cannot mount at {}: a cairn mount is there already",
                    show_path(&path)
                ))
                .with_hint(hint));
            }
            detach(&path, Detach::Lazily).map_err(|e| {
                e.context(format!(
                    "cannot mount at {}: a cairn mount whose daemon was killed is there",
                    show_path(&path)
                ))
            })?;
            remove_dead_companions(&path);
        }
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("read the attributes of", &path, e))?;
        if !meta.is_dir() {
            return Err(Error::usage(format!("cannot mount at {}: it is not a directory", show_path(&path))));
        }
        refuse_near_the_store(&path, store)?;
        let mut entries = std::fs::read_dir(&path).map_err(|e| Error::io("list", &path, e))?;
        if entries.next().is_some() {
            return Err(Error::conflict(format!(
                "cannot mount at {}: the directory is not empty, and a mount would hide what is in it",
                show_path(&path)
            ))
            .with_hint("choose an empty directory"));
        }
        Ok(MountPoint { before: (meta.dev(), meta.ino()), mode: meta.mode(), path, handed: None })
    }

    /// The canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other process is mounting here, and makes others wait until the returned file is closed. Then
    /// checks again that nothing was mounted meanwhile.
    ///
    /// # Errors
    /// Refused: another process mounted here first. I/O.
    pub fn lock_for_mounting(&self) -> Result<Option<File>> {
        if self.handed.is_some() {
            return Ok(None);
        }
        let begun = Instant::now();
        let came_first = || {
            let why = format!("cannot mount at {}: another process mounted there a moment ago", show_path(&self.path));
            Error::conflict(why)
                .with_hint(format!("`cairn umount --no-seal {}` unmounts it without sealing", shell_path(&self.path)))
        };
        // This opens the directory under the mount, so all processes that mount here use the same lock.
        let directory = match File::open(&self.path) {
            Ok(directory) => directory,
            Err(_) if table::top_at(&self.path)?.is_some_and(|m| m.is_ours()) => return Err(came_first()),
            Err(e) => return Err(Error::io("open", &self.path, e)),
        };
        while is_locked_by_another(&directory) && begun.elapsed() < LOCK_TIMEOUT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let now = std::fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if now.is_ok_and(|now| now == self.before) { Ok(Some(directory)) } else { Err(came_first()) }
    }

    /// The device of the cairn mount that is here now, for [`detach_own`](super::detach_own).
    pub fn device(&self) -> Option<String> {
        table::top_at(self.path()).ok().flatten().filter(crate::disk::MountEntry::is_ours).map(|m| m.device)
    }

    /// Whether another program made the mount.
    pub fn is_handed_over(&self) -> bool {
        self.handed.is_some()
    }

    /// Takes the descriptor of a mount that another program made.
    pub(super) fn take_handed(&mut self) -> Option<OwnedFd> {
        Arc::into_inner(self.handed.take()?)
    }

    /// The directory's mode, which mount(2) needs.
    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Whether the root of a FUSE mount answers where the directory was.
    pub(super) fn answers(&self) -> std::io::Result<bool> {
        if self.handed.is_some() {
            return Ok(true); // its path is not known here
        }
        let meta = std::fs::metadata(&self.path)?;
        Ok(meta.dev() != self.before.0 && meta.ino() == 1)
    }

    /// Sets the kernel's readahead for this mount, beyond the 128 KiB that FUSE_INIT allows. Works for root only, and
    /// only where `/sys` is writable.
    pub fn set_read_ahead(&self, kilobytes: u32) {
        if sys::effective_ids().0 == 0
            && let Ok(Some(mount)) = table::top_at(&self.path)
            && mount.is_ours()
        {
            // This only affects speed, so an error does not matter.
            drop(write_setting(
                Path::new(&format!("/sys/class/bdi/{}/read_ahead_kb", mount.device)),
                &kilobytes.to_string(),
            ));
        }
    }
}

/// Compares directories by device and inode, so that bind mounts and links cannot hide the relation.
fn refuse_near_the_store(path: &Path, store: &Path) -> Result<()> {
    let store = store.canonicalize().map_err(|e| Error::io("resolve", store, e))?;
    let is_above = |above: &Path, below: &Path| -> bool {
        let Ok(want) = std::fs::metadata(above) else { return below.starts_with(above) };
        below.ancestors().any(|a| std::fs::metadata(a).is_ok_and(|m| same(&m, &want)))
    };
    let relation = match (is_above(&store, path), is_above(path, &store)) {
        (true, true) => "it is the store itself",
        (true, false) => "it is inside the store",
        (false, true) => "the store is inside it and would be hidden",
        (false, false) => return Ok(()),
    };
    Err(Error::usage(format!("cannot mount at {}: {relation} ({})", show_path(path), show_path(&store)))
        .with_hint("choose an empty directory outside the store"))
}

/// Tries to lock a file: true if another process has locked it. Where locks do not work, no process has.
fn is_locked_by_another(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn refusal(mnt: &Path, store: &Path) -> (Kind, String) {
        let e = MountPoint::check(mnt, store).unwrap_err();
        (e.kind(), format!("{e:#}"))
    }

    #[test]
    fn a_mount_point_must_be_an_empty_directory_away_from_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["store", "store/in", "around", "around/store", "full", "empty", "elsewhere"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("full/x"), "").unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("store"), at("link")).unwrap();
        let store = at("store");
        assert_eq!(refusal(&at("missing"), &store).0, Kind::NotFound);
        assert_eq!(refusal(&at("file"), &store).0, Kind::Usage);
        assert_eq!(refusal(&at("full"), &store).0, Kind::Conflict);
        assert!(refusal(&store, &store).1.contains("the store itself"));
        assert!(refusal(&at("link"), &store).1.contains("the store itself"));
        assert!(refusal(&at("store/in"), &store).1.contains("inside the store"));
        assert!(refusal(&at("store/in"), &at("link")).1.contains("inside the store"));
        assert!(refusal(&at("around"), &at("around/store")).1.contains("would be hidden"));
        let point = MountPoint::check(&at("empty"), &store).unwrap();
        assert_eq!(point.path(), at("empty").canonicalize().unwrap());
        assert!(!point.answers().unwrap());
    }
}
