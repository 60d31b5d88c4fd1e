//! Mounts: a version, or a whole store of them, shown by the kernel as a read-only file system.
//!
//! Guarantees: what a mount shows is exactly the versions' entries, never wrong or fewer bytes (L15); mount time and
//! memory don't depend on the version's size (L16); every change is EROFS, for root too. SEMANTICS.md says it call by
//! call. What is writable is mounted on a connection of its own: [`staging`].

mod adapter;
mod attributes;
mod connection;
mod errno;
mod files;
mod host_mounts;
mod inode_tree;
mod lifecycle;
mod log;
mod open_mode;
mod opens;
mod pool;
mod readahead;
mod reply;
mod session;
pub mod staging;
mod store_tree;
mod tree;
mod version;
mod view;

pub use host_mounts::{Health, MountInfo, Shows, mounts};
pub use session::mount_version;
pub use view::mount_store;

use crate::manifest::Tree;
use crate::objects::Objects;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::mount::{Execution, unmount};

/// When bytes are hashed that leave the mount. Packed blobs always are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyMode {
    /// Large objects were hashed when they were put: hashed again only if size or mtime is not as recorded.
    #[default]
    Put,
    /// Each large object is hashed once per mount, before its first byte is served.
    All,
}

/// Whether the caller's process serves the mount itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RunMode {
    /// A daemon serves it; the call returns when the mount answers.
    #[default]
    Background,
    /// The call returns when the mount is gone.
    Foreground,
}

/// How files are opened and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Io {
    /// What suits: passthrough for root's mount of a version of mostly large files, else without opens.
    #[default]
    Auto,
    /// The kernel opens and closes by itself, and asks for the bytes that it does not have in its cache. Best for small
    /// files.
    NoOpen,
    /// The kernel reads object files by itself; opening them takes a round trip. Root only, not on stacked file
    /// systems; elsewhere the log says so, and it is without opens. Best for large files.
    Passthrough,
    /// Every open asks the daemon: where the mount may be writable, and where the kernel knows nothing else.
    Plain,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Foreground or background.
    pub run_mode: RunMode,
    /// Whether other users may look in. Nobody's default, root's neither: what is in a store that others can't read
    /// would be shown to all.
    pub allow_other: bool,
    /// Whether programs may be run from the mount.
    pub execution: Execution,
    /// What is hashed on reading.
    pub verify: VerifyMode,
    /// How many requests are answered at a time: 1 to [`MOST_THREADS`]; [`default_threads`] if nothing else is said.
    pub threads: usize,
    /// How files are opened and read.
    pub io: Io,
    /// In whole-store mounts: whether staging directories are mounted too, beside them. Who may not write to the store
    /// gets none.
    pub staging: bool,
    /// In whole-store mounts: for how long what is shown of names may be out of date.
    pub refresh: Duration,
    /// On shared disks: after this time without an answer from the store a request is refused with EIO.
    pub deadline: Duration,
    /// Where a daemon's log goes (appended); without, to the system's log (syslog, systemd's journal). In the
    /// foreground without: stderr.
    pub log: Option<PathBuf>,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            run_mode: RunMode::default(),
            allow_other: false,
            execution: Execution::Allowed,
            verify: VerifyMode::default(),
            threads: default_threads(),
            io: Io::default(),
            staging: true,
            refresh: Duration::from_secs(1),
            deadline: Duration::from_secs(60),
            log: None,
        }
    }
}

/// The most threads that a mount may have.
pub const MOST_THREADS: usize = 256;

/// How many threads a mount has by default, of versions or of a staging directory: one for each processor, at least
/// two, so that one slow answer does not hold up all, and at most four: more only wake each other up.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 4)
}

/// What a mount of one version shows.
pub struct VersionView {
    /// Its entries.
    pub tree: Tree,
    /// Where their bytes are.
    pub objects: Arc<Objects>,
    /// All times shown, in seconds since 1970.
    pub commit_time: i64,
    /// What the log calls it: `NAME:vN`.
    pub label: String,
}

/// Kept until the mount is gone: a pin, a lock file.
pub type Guard = Box<dyn Send>;
