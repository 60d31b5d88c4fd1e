//! The choices for a mount.

/// Which users the kernel lets into a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Audience {
    /// Only the user that mounts.
    MountingUser,
    /// Every user (`allow_other`). For users other than root `/etc/fuse.conf` must permit this.
    AllUsers,
}

impl Audience {
    /// The audience with or without `allow_other`.
    pub fn of(allow_other: bool) -> Audience {
        if allow_other { Audience::AllUsers } else { Audience::MountingUser }
    }
}

/// Whether programs may be run from the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Execution {
    /// Programs with the exec bit run.
    Allowed,
    /// No program runs (`noexec`).
    Refused,
}

/// Whether files in the mount might be opened for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Writable {
    /// The mount was made read-only.
    No,
    /// Another program made the mount, or it is meant to be written to.
    Perhaps,
}
