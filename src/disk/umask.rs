//! Modes of new files: the process's umask, and what a store requires in spite of it.
//!
//! New files in a store are at least as open as the store's own directory, whatever the umask of the writing user;
//! otherwise one user's strict umask would lock the others out. For that, the binaries clear their umask once, before
//! the first such file, so that each file has its mode from the first moment. A library must not change its process's
//! umask; there the mode is set afterwards.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who may use new files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// As the process's umask says.
    Umask,
    /// At least as open as these permission bits, whatever the umask.
    AtLeast(u32),
    /// The group of the parent directory may write, whatever the umask (`cairn init --group`).
    Group,
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
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let found = status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
        found.unwrap_or(0o022)
    })
}

impl Access {
    /// The final mode of something that would have `mode` without a umask.
    pub(super) fn wanted(self, mode: u32, umask: u32) -> u32 {
        match self {
            Access::Umask => mode & !umask,
            Access::AtLeast(floor) => mode & (!umask | floor),
            Access::Group => mode & 0o775,
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
}
