//! Read leases (fcntl(2), "Leases"): whoever opens a leased file for writing waits until the lease is released, or the
//! system's lease-break-time is over.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Once;

/// Takes a read lease on a file that is open for reading. `false`: somebody has it open for writing, or leases are not
/// to be had here.
pub fn take_lease(file: &File) -> bool {
    // SAFETY: an open descriptor; no memory is involved.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
}

/// Whether the lease is held and nobody waits for it.
pub fn lease_is_whole(file: &File) -> bool {
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

/// Ignores SIGIO from now on, which says that somebody waits for a lease, and ends a process that does not expect it.
pub fn ignore_lease_breaks() {
    static IGNORED: Once = Once::new();
    // SAFETY: ignoring a signal runs no handler.
    IGNORED.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
}
