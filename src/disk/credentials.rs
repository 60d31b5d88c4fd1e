//! The user and group that a thread creates files as.

/// The number that the kernel shows for users and groups that a user namespace does not have. It names no one.
pub(super) const OVERFLOW_ID: u32 = 65_534;

/// A file system user and group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FsIds {
    pub uid: u32,
    pub gid: u32,
}

impl FsIds {
    /// These ids, if this process is root, has others, and may be allowed to take them on.
    pub fn for_root(uid: u32, gid: u32) -> Option<FsIds> {
        // SAFETY: these calls cannot fail.
        let own = unsafe { FsIds { uid: libc::geteuid(), gid: libc::getegid() } };
        let ids = FsIds { uid, gid };
        (own.uid == 0 && ids != own && uid != OVERFLOW_ID && gid != OVERFLOW_ID).then_some(ids)
    }

    /// Runs `work` with this thread's file system user and group set to these. `None`, without a run, if the kernel
    /// does not allow that.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> Option<T> {
        let _before = Restore(self.set());
        // The system calls don't say whether they failed, so ask.
        (current() == self).then(work)
    }

    /// Sets them for this thread alone: these are the system calls, not the C library's functions. Returns the earlier
    /// ones. The order does not matter, because the needed capabilities stay permitted.
    fn set(self) -> FsIds {
        // SAFETY: no memory is involved.
        unsafe {
            let gid = libc::syscall(libc::SYS_setfsgid, self.gid);
            FsIds { uid: libc::syscall(libc::SYS_setfsuid, self.uid) as u32, gid: gid as u32 }
        }
    }
}

fn current() -> FsIds {
    // SAFETY: as above; an invalid id changes nothing.
    unsafe {
        let gid = libc::syscall(libc::SYS_setfsgid, u32::MAX);
        FsIds { uid: libc::syscall(libc::SYS_setfsuid, u32::MAX) as u32, gid: gid as u32 }
    }
}

/// Sets the earlier ids again when it is dropped, also after a panic.
struct Restore(FsIds);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.set();
    }
}
