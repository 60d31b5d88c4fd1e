//! Mount plumbing: mount points, the mount table, mount(2) and fusermount3, the daemon's fork, unmounting.
//!
//! Knows nothing of stores or of the FUSE protocol: it hands over the `/dev/fuse` descriptor of a mount that stands,
//! and takes a mount away again. It guarantees that nothing but a cairn mount is ever unmounted, that what is mounted
//! over was an empty directory outside the store, and that the parent of a daemon returns only when the mount answers.

mod attach;
mod companion;
mod daemon;
mod detach;
mod point;
mod sys;
mod table;

pub use attach::{Attached, Execution, Reach, Writable, attach, attach_for_writing};
pub use companion::{LINK, Standing, clear_dead, dead_seconds, second_of};
pub use daemon::{Daemon, Ready, background, umask, wait_for_ending};
pub use detach::{CairnMount, Elsewhere, Unmounted, User, all_here, cairn_mount, detach_own, unmount, users_of};
pub use point::MountPoint;
pub use sys::{
    INFO_COMMAND, block_endings, forget_entry, log_to_system, may_write, passes_through, raise_open_files,
    users_are_the_hosts, who,
};

/// The file system type of all cairn mounts, as the mount table shows it.
pub const TYPE: &str = "fuse.cairnfs";
