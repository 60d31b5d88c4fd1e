//! Whether another user may write to a directory: asks the kernel, as that user.

use super::lstat;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A user, with what the kernel checks permissions by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Whether `who` may create files in `directory` without any privilege: its mode, its ACL and those of the directories
/// above decide. Only root can ask for other users: false if this process may not act as that user.
pub fn may_write_as(directory: &Path, who: &Identity) -> bool {
    if who.uid == 0 {
        return lstat(directory).ok().flatten().is_some_and(|meta| by_mode(&meta, who));
    }
    // A separate thread: its identity ends with it.
    let asked = std::thread::scope(|s| {
        let thread = std::thread::Builder::new()
            .name("access".into())
            .stack_size(64 << 10)
            .spawn_scoped(s, || ask(directory, who));
        thread.ok()?.join().ok()?
    });
    asked.unwrap_or(false)
}

/// Becomes that user and asks the kernel. `None` if this process may not.
fn ask(directory: &Path, who: &Identity) -> Option<bool> {
    let meta = lstat(directory).ok()??;
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: the system calls themselves, which change this thread alone; the group list and the path are valid for
    // their lengths. The identity is asked for again afterwards, since setfsuid(2) and setfsgid(2) don't say whether
    // they failed.
    unsafe {
        if libc::syscall(libc::SYS_setgroups, who.groups.len(), who.groups.as_ptr()) != 0 {
            return None;
        }
        libc::syscall(libc::SYS_setfsgid, who.gid);
        libc::syscall(libc::SYS_setfsuid, who.uid);
        let (uid, gid) = (libc::syscall(libc::SYS_setfsuid, u32::MAX), libc::syscall(libc::SYS_setfsgid, u32::MAX));
        if (uid as u32, gid as u32) != (who.uid, who.gid) {
            return None;
        }
        let may = libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK | libc::X_OK,
            libc::AT_EACCESS,
        );
        if may == 0 {
            return Some(true);
        }
    }
    let unknown = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS); // before Linux 5.8
    Some(unknown && by_mode(&meta, who))
}

/// By the directory's own mode.
fn by_mode(meta: &std::fs::Metadata, who: &Identity) -> bool {
    let shift = if meta.uid() == who.uid {
        6
    } else if meta.gid() == who.gid || who.groups.contains(&meta.gid()) {
        3
    } else {
        0
    };
    meta.mode() >> shift & 0o3 == 0o3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn who(uid: u32, gid: u32, groups: &[u32]) -> Identity {
        Identity { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn owner_group_and_others_may_write_as_the_directory_and_those_above_it_say() {
        let dir = tempfile::tempdir().unwrap();
        if chown(dir.path(), Some(1001), Some(1002)).is_err() {
            return; // only root can ask
        }
        let mode = |mode| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        for (m, owner, group, other) in [
            (0o755, true, false, false),
            (0o775, true, true, false),
            (0o1777, true, true, true),
            (0o557, false, false, true),
        ] {
            mode(m);
            assert_eq!(may_write_as(dir.path(), &who(1001, 1, &[])), owner, "{m:o}");
            assert_eq!(may_write_as(dir.path(), &who(1003, 1002, &[])), group, "{m:o}");
            assert_eq!(may_write_as(dir.path(), &who(1003, 1, &[7, 1002])), group, "{m:o}: by a supplementary group");
            assert_eq!(may_write_as(dir.path(), &who(1003, 1, &[7])), other, "{m:o}");
        }
        mode(0o700);
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::set_permissions(dir.path().join("in"), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(
            !may_write_as(&dir.path().join("in"), &who(1003, 1, &[])),
            "a user who cannot reach it cannot write there"
        );
        assert!(may_write_as(&dir.path().join("in"), &who(1001, 1, &[])));
        assert!(!may_write_as(&dir.path().join("none"), &who(1001, 1, &[])));
        // This process is what it was.
        assert!(super::lstat(&dir.path().join("in")).unwrap().is_some());
    }
}
