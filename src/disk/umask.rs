//! Modes of what is created: the process's umask, and what a store asks for in spite of it.
//!
//! What is made in a store is at least as open as the store's own directory, whatever the umask of the user who happens
//! to write: else one user's strict umask shuts the others out. The binaries clear their umask for that, once, before
//! the first such file: so each has its mode from the first moment. A library must leave its process's umask alone;
//! there the mode is set afterwards.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who may use what is created.
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

/// Says that this process's umask may be cleared: nothing but this library creates files in it.
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
    /// The mode that something is to have which would have `mode` without any umask.
    pub(super) fn wanted(self, mode: u32, umask: u32) -> u32 {
        match self {
            Access::Umask => mode & !umask,
            Access::AtLeast(floor) => mode & (!umask | floor),
            Access::Group => mode & 0o775,
        }
    }

    /// Which bits of a wanted mode the process's umask will cut off all the same.
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
