//! Modes and owners of new files: the process's umask, and what a store requires in spite of it.
//!
//! New entries of a store are as open as the store's own directory, whatever the umask of the writing user; otherwise
//! one user's strict umask would lock the others out. They have that mode from their first moment, because no umask is
//! in force when they are created. The binaries clear their umask once. A library must not change its process's umask;
//! there a thread with a umask of its own creates the entry.

use super::credentials::FsIds;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who may use new files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// As the process's umask says.
    Umask,
    /// As a store's directory says, whatever the umask.
    Store(StoreAccess),
}

/// What the directory of a store requires of new entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreAccess {
    /// Its permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    /// Its group may write everything (`cairn init --group`).
    group: bool,
}

impl Access {
    /// What a store requires whose directory has these attributes. `group`: its group may write everything.
    pub fn of_store(directory: &Metadata, group: bool) -> Access {
        let (mode, uid, gid) = (directory.mode() & 0o777, directory.uid(), directory.gid());
        Access::Store(StoreAccess { mode, uid, gid, group })
    }

    /// The final mode of something that would have `mode` without a umask. Bits that the store's directory lacks are
    /// left to the umask, except that others get no right to write.
    pub(super) fn wanted(self, mode: u32, umask: u32) -> u32 {
        match self {
            Access::Umask => mode & !umask,
            Access::Store(store) if store.group => mode & (0o770 | store.mode & 0o005),
            Access::Store(store) => mode & (store.mode | 0o755 & !umask),
        }
    }

    /// The bits of a wanted mode that the process's umask will still remove.
    pub(super) fn cut(wanted: u32, umask: u32) -> u32 {
        if wanted & umask == 0 || CLEARED.get().is_some() {
            return 0;
        }
        if !OURS.load(Ordering::Relaxed) {
            return wanted & umask;
        }
        CLEARED.get_or_init(|| {
            // SAFETY: umask cannot fail.
            unsafe { libc::umask(0) };
            umask
        });
        0
    }

    /// The group that every entry must have.
    pub(super) fn group(self) -> Option<u32> {
        match self {
            Access::Store(store) if store.group && store.gid != super::credentials::OVERFLOW_ID => Some(store.gid),
            _ => None,
        }
    }

    /// The user and group that this process creates entries as, if not its own: root gives what it makes in a user's
    /// store to that user, who could not write into root's directories.
    pub(super) fn creator(self) -> Option<FsIds> {
        match self {
            Access::Store(store) if store.uid != 0 || store.group => FsIds::for_root(store.uid, store.gid),
            _ => None,
        }
    }
}

impl StoreAccess {
    pub(super) fn is_groups(self) -> bool {
        self.group
    }
}

static OURS: AtomicBool = AtomicBool::new(false);
static CLEARED: OnceLock<u32> = OnceLock::new();

/// Declares that this process's umask may be cleared, because only this library creates files in it.
pub fn umask_is_ours() {
    OURS.store(true, Ordering::Relaxed);
}

/// The user's umask, also when it was cleared.
pub fn of_the_user() -> u32 {
    CLEARED.get().copied().unwrap_or_else(|| {
        // The line is one of the first. One read: the kernel makes the text anew for each.
        let mut start = [0; 512];
        let n = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        let status = String::from_utf8_lossy(&start[..n]);
        let found = status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
        found.unwrap_or(0o022)
    })
}

/// Runs `work` in a thread with a umask of its own, which is 0. `None`, without a run, if this process may not have
/// such a thread. `work` should name files by absolute paths: the thread has its own working directory, too.
pub(super) fn without_umask<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let run = move || {
            // SAFETY: both system calls change this thread alone: after the first one it shares its umask with no
            // other thread. It ends after `work`.
            unsafe {
                if libc::unshare(libc::CLONE_FS) != 0 {
                    return None;
                }
                libc::umask(0);
            }
            Some(work())
        };
        let thread = std::thread::Builder::new().name("create".into()).stack_size(256 << 10).spawn_scoped(scope, run);
        thread.ok()?.join().ok()?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(mode: u32, group: bool) -> Access {
        Access::Store(StoreAccess { mode, uid: 1, gid: 1, group })
    }

    #[test]
    fn new_entries_are_as_open_as_the_stores_directory_and_others_never_may_write_more() {
        for (access, mode, umask, wanted) in [
            (Access::Umask, 0o666, 0o027, 0o640),
            (store(0o755, false), 0o777, 0o077, 0o755),
            (store(0o755, false), 0o777, 0o000, 0o755),
            (store(0o750, false), 0o666, 0o077, 0o640),
            (store(0o700, false), 0o777, 0o022, 0o755),
            (store(0o700, false), 0o777, 0o077, 0o700),
            (store(0o770, false), 0o777, 0o077, 0o770),
            (store(0o777, false), 0o666, 0o077, 0o666),
            (store(0o775, true), 0o777, 0o077, 0o775),
            (store(0o770, true), 0o777, 0o000, 0o770),
            (store(0o777, true), 0o666, 0o000, 0o664),
        ] {
            assert_eq!(access.wanted(mode, umask), wanted, "{access:?} {mode:o} {umask:o}");
        }
    }

    #[test]
    fn a_thread_without_a_umask_leaves_the_process_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let before = of_the_user();
        let path = dir.path().join("open");
        let made = without_umask(|| {
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o777).create(&path)
        });
        let Some(made) = made else { return println!("skipped: unshare is not allowed here") };
        made.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o777);
        assert_eq!(of_the_user(), before);
    }
}
