//! A lock that one process of a node holds: a range of a file, locked through an open file description. It ends when
//! its holder closes the file or dies.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How often a held lock is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// A lock of this process on one byte of the lock file. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: File,
}

impl NodeLock {
    /// Locks byte `at`, if no process holds it within `patience`.
    pub(super) fn take(file: File, at: u64, patience: Duration) -> Option<NodeLock> {
        let until = Instant::now() + patience;
        loop {
            if try_lock(&file, at) {
                return Some(NodeLock { _file: file });
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn try_lock(file: &File, at: u64) -> bool {
    // SAFETY: an all-zero flock is valid: from the start of the file, and no process id, as these locks require.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = (at & (i64::MAX as u64 >> 1)) as libc::off_t;
    range.l_len = 1;
    // SAFETY: the descriptor is open; the struct lives across the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) == 0 }
}
