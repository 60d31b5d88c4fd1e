//! The handle of one open store: where it is, how its disk behaves, what it holds content with. Thin: verbs live in modules of their own.

mod client_cache;
mod config;
mod init;

pub use config::{Config, DEFAULT_CACHE_BOUND, FORMAT, Features};
pub use init::InitOptions;

use crate::disk::{Access, Disk, FsKind};
use crate::error::{Error, Result, show_path};
use crate::layout::Layout;
use crate::objects::Objects;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An open store. Cheap to clone; all clones share caches.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # cairn::Store::init(&dir.path().join("s"), &Default::default()).unwrap();
/// let store = cairn::Store::open(&dir.path().join("s")).unwrap();
/// assert_eq!(store.config().format, 1);
/// ```
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    layout: Layout,
    config: Config,
    disk: Arc<Disk>,
    objects: Arc<Objects>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store at {}", show_path(self.root()))
    }
}

impl Store {
    /// Opens the store at `root`.
    ///
    /// # Errors
    /// Not found when there is none; refused when its format or features are not known; damaged; I/O.
    pub fn open(root: &Path) -> Result<Store> {
        let root = std::fs::canonicalize(root).map_err(|_| no_store(root))?;
        let layout = Layout::new(&root);
        let config = Config::read(&layout)?.ok_or_else(|| no_store(&root))?;
        let access = if config.group.is_some() { Access::Group } else { Access::Umask };
        let disk = Arc::new(Disk::of(&root, access)?);
        let objects = Arc::new(Objects::open(layout.clone(), disk.clone())?);
        Ok(Store(Arc::new(Inner { layout, config, disk, objects })))
    }

    /// The store to use: `given`, else the nearest `.cairn` from `from` upwards.
    ///
    /// # Errors
    /// Not found when there is none.
    pub fn locate(given: Option<&Path>, from: &Path) -> Result<PathBuf> {
        if let Some(given) = given {
            return Ok(given.to_path_buf());
        }
        from.ancestors().map(|dir| dir.join(".cairn")).find(|c| c.join("cairn.json").is_file()).ok_or_else(|| {
            Error::not_found(format!("no store: neither --store nor CAIRN_STORE is given, and there is no .cairn in {} or above", show_path(from)))
                .hint("`cairn init` makes one here")
        })
    }

    /// The store's directory, canonical.
    pub fn root(&self) -> &Path {
        self.0.layout.root()
    }

    /// Every path in it.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Its content.
    pub fn objects(&self) -> &Arc<Objects> {
        &self.0.objects
    }

    /// The one way to change it.
    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.0.disk
    }

    /// How many syncs this handle has waited for.
    pub fn syncs(&self) -> u64 {
        self.0.disk.syncs()
    }

    /// Δ: for how long another client may not see a change. Zero on a local file system.
    pub fn cache_bound(&self) -> Duration {
        match self.0.disk.kind() {
            FsKind::Shared => Duration::from_secs(self.0.config.cache_bound_seconds),
            FsKind::Ordered | FsKind::Local => Duration::ZERO,
        }
    }

    /// For how long this host's mount of a shared disk may show what was there before, where its options say so.
    pub fn client_cache(&self) -> Option<Duration> {
        client_cache::seconds(self.root()).map(Duration::from_secs)
    }

    /// Checks that this process may write to the store.
    ///
    /// # Errors
    /// Refused with a read-only feature that is not known, or when this host mounts the store with a longer cache than the store's bound.
    pub fn check_writable(&self) -> Result<()> {
        let unknown = self.config().unknown_read_only();
        if !unknown.is_empty() {
            return Err(Error::refused(format!("store {} may only be read by this release: it uses {}", show_path(self.root()), unknown.join(", ")))
                .hint("use a newer release of cairn"));
        }
        if self.0.disk.kind() == FsKind::Shared {
            let bound = self.config().cache_bound_seconds;
            if let Some(found) = client_cache::seconds(self.root()).filter(|s| *s > bound) {
                return Err(Error::refused(format!(
                    "{} is mounted so that this host may cache directories for {found} s, the store allows {bound} s",
                    show_path(self.root())
                ))
                .hint(format!("mount it with acdirmax={bound} or less")));
            }
        }
        Ok(())
    }
}

fn no_store(root: &Path) -> Error {
    Error::not_found(format!("{} is no store: it has no cairn.json", show_path(root))).hint("`cairn init DIR` makes one")
}
