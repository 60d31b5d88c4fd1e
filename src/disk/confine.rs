//! Changes stay in the store: if a directory of a store was replaced by a symlink, the symlink is not followed. Each
//! step below an open store's root first checks whether the path to its directory contains a symlink. A process that
//! exchanges a directory between the check and the step already has the rights to do worse.
//!
//! The roots of the open stores are known here, so it is also asked whether a path is on a local file system.

use super::FsKind;
use crate::error::{Error, Result, show_path};
use crate::locks::RwLock;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The root of a store that this process has opened.
struct Root {
    path: PathBuf,
    kind: FsKind,
}

static ROOTS: RwLock<Vec<Root>> = RwLock::table(Vec::new());

/// From now on no change below `root`, a canonical path on a file system of this kind, follows a symlink.
pub fn confine(root: &Path, kind: FsKind) {
    if ROOTS.read().iter().any(|known| known.path == root && known.kind == kind) {
        return;
    }
    let mut roots = ROOTS.write();
    // Another file system may be mounted there by now.
    roots.retain(|known| known.path != root);
    roots.push(Root { path: root.to_path_buf(), kind });
}

/// The root of the open store that `path` is in.
pub(super) fn root_of(path: &Path) -> Option<PathBuf> {
    ROOTS.read().iter().find(|root| path.starts_with(&root.path)).map(|root| root.path.clone())
}

/// Whether `path` is in an open store that only this host uses.
pub(super) fn is_local(path: &Path) -> bool {
    ROOTS.read().iter().any(|root| root.kind.is_local() && path.starts_with(&root.path))
}

/// Refuses a change behind a symlink.
///
/// # Errors
/// Damaged: the path contains a symlink.
pub(super) fn check(path: &Path) -> Result<()> {
    let roots = ROOTS.read();
    let found = roots.iter().find_map(|root| Some((&root.path, path.strip_prefix(&root.path).ok()?)));
    let Some((root, below)) = found else { return Ok(()) };
    let Some(parent) = below.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    if !leads_through_a_symlink(root, parent) {
        return Ok(());
    }
    let e = Error::damaged(format!(
        "{} leads through a symlink, expected directories: nothing is changed behind it",
        show_path(&root.join(parent))
    ));
    Err(e.with_hint("put the directory back in its place"))
}

/// Whether a directory below `root` is a symlink or is reached through one. A missing one is not: the step itself
/// reports that.
fn leads_through_a_symlink(root: &Path, below: &Path) -> bool {
    // A canonical root has no symlink, so normally one call shows that there is none. Since the store was opened,
    // somebody may have put one above the root: that is no concern of the store.
    if let Ok(_directory) = open_without_symlinks(libc::AT_FDCWD, &root.join(below)) {
        return false;
    }
    let Ok(root_dir) = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)
    else {
        return false;
    };
    match open_without_symlinks(root_dir.as_raw_fd(), below).err().and_then(|e| e.raw_os_error()) {
        Some(libc::ELOOP) => true,
        // A symlink as the last part is not a directory.
        Some(libc::ENOTDIR | libc::ENOSYS | libc::EPERM) => {
            let parts: Vec<&OsStr> = below.iter().collect();
            (1..=parts.len()).any(|n| {
                let at = root.join(parts[..n].iter().collect::<PathBuf>());
                std::fs::symlink_metadata(at).is_ok_and(|m| m.is_symlink())
            })
        }
        _ => false,
    }
}

/// Opens a directory, only to name it, if its path has no symlink.
fn open_without_symlinks(from: libc::c_int, path: &Path) -> io::Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: the descriptor is open or AT_FDCWD, the path is a C string, and `how` has the length that is given.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, from, text.as_ptr(), &raw const how, size_of::<libc::open_how>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_change_behind_a_symlink_is_refused_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap().join("store");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside/b")).unwrap();
        symlink(dir.path().join("outside"), root.join("link")).unwrap();
        symlink("a", root.join("inner")).unwrap();
        check(&root.join("link/f")).unwrap(); // not a store yet
        confine(&root, FsKind::Local);
        for right in ["f", "a/f", "a/b/f", "missing/f", "a/missing/deeper/f"] {
            check(&root.join(right)).unwrap();
        }
        for wrong in ["link/f", "link/b/f", "inner/f", "inner/b/f"] {
            assert!(check(&root.join(wrong)).is_err(), "{wrong}");
        }
        check(&root.join("link")).unwrap(); // the symlink itself may be removed
        // The store moved, and a symlink above its root leads to it now.
        std::fs::rename(&root, dir.path().join("moved")).unwrap();
        symlink("moved", &root).unwrap();
        check(&root.join("a/b/f")).unwrap();
        assert!(check(&root.join("link/f")).is_err());
        check(&dir.path().join("outside/f")).unwrap();
    }

    #[test]
    fn a_path_is_local_if_the_newest_store_at_its_root_is() {
        let root = Path::new("/no/such/store");
        assert!(!is_local(&root.join("work")), "not a store yet");
        confine(root, FsKind::Ordered);
        assert!(is_local(&root.join("work")) && !is_local(Path::new("/no/such/store2/work")));
        confine(root, FsKind::Shared); // unmounted, and mounted from elsewhere
        assert!(!is_local(&root.join("work")));
        assert_eq!(root_of(&root.join("work")).as_deref(), Some(root));
    }
}
