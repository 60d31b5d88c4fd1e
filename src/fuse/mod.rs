//! Mounts: a version or a whole store as a read-only file system.
//!
//! Guarantees: a mount shows exactly the entries of its versions, never wrong or fewer bytes (L15). The time and memory
//! of a mount do not depend on the version's size (L16). Each change fails with EROFS, also for root. SEMANTICS.md
//! describes every call. Writable files are on a separate connection: [`staging`].

mod adapter;
mod attributes;
mod cached_files;
mod connection;
mod errno;
mod far_reads;
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
mod shared_files;
pub mod staging;
mod store_tree;
mod tree;
mod version;
mod view;

pub use host_mounts::{Health, MountInfo, Shows, mounts};
pub use session::mount_version;
pub use view::mount_store;

use crate::error::Result;
use crate::manifest::Tree;
use crate::objects::Objects;
use crate::setters::setters;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::cache::CacheOptions;
pub use crate::mount::{CairnMount, Elsewhere, Execution, Unmounted, cairn_mount, unmount};

/// When content is verified before it is served. Packed files are always verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum VerifyMode {
    /// Large objects were hashed when they were stored. They are hashed again only if size or mtime is not as recorded.
    #[default]
    Put,
    /// Each large object is hashed once per mount, before its first byte is served.
    All,
}

/// Which process serves the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RunMode {
    /// A daemon. The call returns when the mount answers.
    #[default]
    Background,
    /// The calling process. The call returns when the mount is gone.
    Foreground,
}

/// How files are opened and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Io {
    /// Passthrough if root mounts a version with mostly large files, else no-open.
    #[default]
    Auto,
    /// The kernel opens and closes files by itself, and requests bytes that it has not cached. Best for small files.
    NoOpen,
    /// The kernel reads object files by itself; opening one takes a round trip. Only for root, and not on stacked file
    /// systems: there the log says so, and no-open is used. Best for large files.
    Passthrough,
    /// The daemon answers each open. Used if the mount may be writable, or if the kernel supports nothing else.
    Plain,
}

/// How to mount.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MountOptions {
    /// Foreground or background.
    pub run_mode: RunMode,
    /// Whether other users may read the mount. This is never the default, not even for root, because it shows the
    /// content of a store to users who cannot read the store.
    pub allow_other: bool,
    /// Whether programs may be run from the mount.
    pub execution: Execution,
    /// Which content is verified on reading.
    pub verify: VerifyMode,
    /// How many requests are answered at a time: 1 to [`MAX_THREADS`]; by default [`default_threads`].
    pub threads: usize,
    /// How files are opened and read.
    pub io: Io,
    /// In whole-store mounts: whether staging directories are mounted too. A user who may not write to the store gets
    /// none.
    pub staging: bool,
    /// In whole-store mounts: how long the names that it shows may be out of date.
    pub refresh: Duration,
    /// On shared disks: a request fails with EIO after this time without an answer from the store.
    pub deadline: Duration,
    /// A node-local cache, through which content is read.
    pub cache: Option<CacheOptions>,
    /// In mounts of one version: read all its content ahead, in the background.
    pub warm: bool,
    /// The file to which a daemon appends its log. Without one the log goes to the system's log (syslog, or systemd's
    /// journal), in the foreground to stderr.
    pub log: Option<PathBuf>,
}

setters! {
    MountOptions {
        run_mode: RunMode,
        allow_other: bool,
        execution: Execution,
        verify: VerifyMode,
        threads: usize,
        io: Io,
        staging: bool,
        refresh: Duration,
        deadline: Duration,
        cache: CacheOptions => Some(cache),
        warm: bool,
        log: impl Into<PathBuf> => Some(log.into()),
    }
}

impl MountOptions {
    /// The same with absolute paths, for a daemon, whose working directory is `/`.
    pub(crate) fn with_absolute_paths(&self) -> Result<MountOptions> {
        let cache = self.cache.as_ref().map(CacheOptions::absolute).transpose()?;
        Ok(MountOptions { cache, ..self.clone() })
    }
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
            cache: None,
            warm: false,
            log: None,
        }
    }
}

/// The most threads that a mount can have.
pub const MAX_THREADS: usize = 256;

/// How many threads a mount has by default: one for each processor, but at least two, so that one slow answer does not
/// delay all others, and at most four, because more would only wake each other up.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 4)
}

/// What a mount of one version shows.
#[derive(Debug)]
pub struct VersionView {
    /// Its entries.
    pub tree: Tree,
    /// The objects with their content.
    pub objects: Arc<Objects>,
    /// The time that all files show, in seconds since 1970.
    pub commit_time: i64,
    /// Its name in the log: `NAME:vN`.
    pub label: String,
}

/// What is held until the mount is gone: pins and a lock file.
pub type Guard = Box<dyn Send>;
