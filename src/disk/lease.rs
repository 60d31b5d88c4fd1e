//! Read leases (fcntl(2), "Leases"): a process that opens a leased file for writing waits until the lease is released,
//! or until the system's lease-break-time is over.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Once;

/// Takes a read lease on a file that is open for reading. `false` if a process has it open for writing, or if there are
/// no leases here.
pub fn take_lease(file: &File) -> bool {
    // SAFETY: an open descriptor; no memory is involved.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
}

/// Whether the lease is held and no process waits for it.
pub fn lease_is_unbroken(file: &File) -> bool {
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

/// Ignores SIGIO from now on. The kernel sends it when a process waits for a lease, and by default it ends the process.
pub fn ignore_lease_breaks() {
    static IGNORED: Once = Once::new();
    // SAFETY: ignoring a signal runs no handler.
    IGNORED.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
}
