//! Mounting and unmounting: mount points, the mount table, mount(2) and fusermount3, the daemon's fork.
//!
//! Knows neither stores nor the FUSE protocol. It hands over the `/dev/fuse` descriptor of a mount, and detaches the
//! mount again. It guarantees that only cairn mounts are ever unmounted, that a mount point was an empty directory
//! outside the store, and that the parent of a daemon returns only when the mount answers.

mod attach;
mod companion;
mod companion_point;
mod daemon;
mod detach;
mod helper;
mod options;
mod point;
mod sys;
mod table;
mod unmount;

pub use attach::{Attached, attach, attach_for_writing};
pub use companion::{COMPANION_LINK, companion_of, dead_companions, remove_dead_companions};
pub use companion_point::CompanionPoint;
pub use daemon::{Daemon, Ready, background, umask, wait_for_termination_signal};
pub use detach::{PathUser, detach_own, users_of};
pub use options::{Audience, Execution, Writable};
pub use point::MountPoint;
pub use sys::{
    INFO_COMMAND, block_termination_signals, effective_ids, forget_entry, log_to_system, may_write, passes_through,
    raise_open_files, users_are_the_hosts,
};
pub use unmount::{CairnMount, Elsewhere, Unmounted, all_here, cairn_mount, daemon_pid, unmount};

/// The file system type of all cairn mounts, as the mount table shows it.
pub const TYPE: &str = "fuse.cairnfs";
