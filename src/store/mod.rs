//! The handle of an open store: its paths, its configuration, its disk and its objects. It is thin: each operation has
//! a module of its own.

mod change;
mod client_cache;
mod config;
mod init;

pub(crate) use config::{COMPOSED_FILES, COMPRESSED_FILES, COMPRESSED_PARTS, KNOWN_TO_COLLECTORS};
pub use config::{COMPRESSED_CONTENT, Compression, Config, DEFAULT_CACHE_BOUND, FORMAT, Features, RESTORED_VERSIONS};
pub use init::InitOptions;
pub(crate) use init::group_id;

use crate::disk::{self, Access, Disk, FsKind};
use crate::error::{Detail, Error, Missing, Result, show_path};
use crate::layout::{DIRECTORIES, Layout};
use crate::locks::watch_forks;
use crate::objects::Objects;
use crate::types::RunId;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An open store. It is cheap to clone, and all clones share caches.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # cairn::Store::init(dir.path().join("s"), &Default::default()).unwrap();
/// let store = cairn::Store::open(dir.path().join("s")).unwrap();
/// assert_eq!(store.config().format, 1);
/// ```
#[derive(Clone)]
pub struct Store(Arc<Inner>, Option<Arc<RunId>>);

struct Inner {
    layout: Layout,
    config: Config,
    disk: Arc<Disk>,
    objects: Arc<Objects>,
    /// Whether a check has shown that this process may write to it.
    may_write: AtomicBool,
    /// Whether its own directories were checked.
    directories: AtomicBool,
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
    /// Not found, if there is none; a conflict, if this release does not know its format or features; damaged; I/O.
    pub fn open(root: impl AsRef<Path>) -> Result<Store> {
        Store::open_at(root.as_ref())
    }

    fn open_at(root: &Path) -> Result<Store> {
        watch_forks();
        let found = std::fs::canonicalize(root).or_else(|e| {
            disk::open_parent(root); // this host may have cached that it does not exist
            std::fs::canonicalize(root).map_err(|_| e)
        });
        let root = found.map_err(|e| {
            if is_absent(&e) {
                no_store(root)
            } else {
                refused_by_mode(root, "read", Error::io("open the store", root, e))
            }
        })?;
        let layout = Layout::new(&root);
        let config =
            Config::read(&layout).map_err(|e| refused_by_mode(&root, "read", e))?.ok_or_else(|| no_store(&root))?;
        let meta = std::fs::metadata(&root).map_err(|e| Error::io("look at", &root, e))?;
        let access = Access::of_store(&meta, config.group.is_some());
        let disk = Arc::new(Disk::of(&root, access)?.with_reserve_in(layout.reserve()));
        crate::disk::confine(&root, disk.kind());
        let compresses = config.compression() != Compression::None;
        let objects = Arc::new(Objects::open(layout.clone(), disk.clone())?.with_compression(compresses));
        let inner = Inner {
            layout,
            config,
            disk,
            objects,
            may_write: AtomicBool::new(false),
            directories: AtomicBool::new(false),
        };
        Ok(Store(Arc::new(inner), None))
    }

    /// The store to use: `given`, else the one that `CAIRN_STORE` names, else the nearest `.cairn` in the working
    /// directory or above it. An empty `CAIRN_STORE` names none.
    ///
    /// # Errors
    /// Not found, if there is none. I/O: the working directory.
    pub fn find(given: Option<&Path>) -> Result<PathBuf> {
        let named = std::env::var_os("CAIRN_STORE").filter(|named| !named.is_empty());
        if let Some(dir) = given.or(named.as_deref().map(Path::new)) {
            return Ok(dir.to_path_buf()); // the working directory may be gone
        }
        let here = std::env::current_dir().map_err(|e| {
            Error::io("find", Path::new("the working directory"), e)
                .with_hint("name the store with --store or CAIRN_STORE, or go to another directory")
        })?;
        Store::locate(None, &here)
    }

    /// The store to use: `given`, else the nearest `.cairn` in `from` or a directory above it.
    ///
    /// # Errors
    /// Not found, if there is none.
    pub fn locate(given: Option<&Path>, from: &Path) -> Result<PathBuf> {
        if let Some(given) = given {
            return Ok(given.to_path_buf());
        }
        for dir in from.ancestors() {
            let candidate = dir.join(".cairn");
            match std::fs::symlink_metadata(candidate.join("cairn.json")) {
                Ok(_) => return Ok(candidate),
                // Skip a directory that this user may not read.
                Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => {}
                Err(e) => return Err(Error::io("look for a store in", dir, e)),
            }
        }
        Err(Error::not_found(format!(
            "no store: none is named, CAIRN_STORE is not set, and there is no .cairn in {} or above",
            show_path(from)
        ))
        .with_hint("`cairn init` makes one here; --store names another"))
    }

    /// Refuses a store that was removed, or whose disk was unmounted, since it was opened.
    ///
    /// # Errors
    /// Not found; I/O.
    pub(crate) fn check_present(&self) -> Result<()> {
        disk::lstat(&self.root().join("cairn.json"))?.map(drop).ok_or_else(|| no_store(self.root()))
    }

    /// The store's directory, as a canonical path.
    pub fn root(&self) -> &Path {
        self.0.layout.root()
    }

    /// The same store, for what a run does: records that are written through this handle, and through what is opened
    /// with it, name the run.
    pub fn for_run(&self, run: RunId) -> Store {
        Store(self.0.clone(), Some(Arc::new(run)))
    }

    /// The run that this handle is used for.
    pub fn run(&self) -> Option<&RunId> {
        self.1.as_deref()
    }

    /// Every path in the store.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The store's configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The store's content.
    pub fn objects(&self) -> &Arc<Objects> {
        &self.0.objects
    }

    /// The only way to change the store.
    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.0.disk
    }

    /// How many syncs this handle has made and waited for.
    pub fn syncs(&self) -> u64 {
        self.0.disk.syncs()
    }

    /// For how long another client may not see a change (`cache_bound_seconds` in FORMAT.md). Zero on a local file
    /// system.
    pub fn cache_bound(&self) -> Duration {
        match self.0.disk.kind() {
            FsKind::Shared => Duration::from_secs(self.0.config.cache_bound_seconds),
            FsKind::Ordered | FsKind::Local => Duration::ZERO,
        }
    }

    /// For how long this host's mount of a shared disk may show an earlier state, if its options set that.
    pub fn client_cache(&self) -> Option<Duration> {
        client_cache::seconds(self.root()).map(Duration::from_secs)
    }

    /// Checks that this process may write to the store.
    ///
    /// # Errors
    /// A conflict, if the store has a read-only feature that this release does not know, or if this host mounts the
    /// store with a longer cache than the store's bound; I/O, if this user may not write.
    pub fn check_writable(&self) -> Result<()> {
        self.check_features()?;
        if !self.0.may_write.load(Ordering::Relaxed) {
            // If something else prevents writing, the write that fails reports it.
            if let Err(e) = disk::may_write(&self.layout().work())
                && matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
            {
                return Err(refused_by_mode(self.root(), "write to", Error::io("write to the store", self.root(), e)));
            }
            self.0.may_write.store(true, Ordering::Relaxed);
        }
        if self.0.disk.kind() == FsKind::Shared {
            let bound = self.config().cache_bound_seconds;
            if let Some(found) = client_cache::seconds(self.root()).filter(|s| *s > bound) {
                return Err(Error::conflict(format!(
                    "{} is mounted so that this host may cache directories for {found} s, the store allows {bound} s",
                    show_path(self.root())
                ))
                .with_hint(format!("mount it with acdirmax={bound} or less")));
            }
        }
        self.check_directories()
    }

    /// Checks that this release knows all features without which it may not write.
    ///
    /// # Errors
    /// A conflict, if it does not.
    pub(crate) fn check_features(&self) -> Result<()> {
        let unknown = self.config().unknown_read_only();
        if !unknown.is_empty() {
            return Err(Error::conflict(format!(
                "store {} may only be read by this release: it uses {}",
                show_path(self.root()),
                unknown.join(", ")
            ))
            .with_detail(Detail::UnsupportedFeatures { features: unknown })
            .with_hint("use a newer release of cairn"));
        }
        Ok(())
    }

    /// Adds a feature to the store's configuration, unless the store has it.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn add_compatible_feature(&self, feature: &str) -> Result<()> {
        self.add_feature("compatible", feature)
    }

    /// Adds a feature without which no release may open the store, unless the store has it.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn add_incompatible_feature(&self, feature: &str) -> Result<()> {
        self.add_feature("incompatible", feature)
    }

    /// Whether the store may have composed content, by its configuration as it is now.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(crate) fn has_composed_files(&self) -> Result<bool> {
        let config = Config::read(self.layout())?;
        let features = &config.as_ref().unwrap_or(self.config()).features;
        Ok(features.incompatible.iter().any(|feature| feature == COMPOSED_FILES))
    }

    /// Turns on what new stores have and this one lacks. Returns the features that were added. Earlier releases can
    /// then not open the store. Writers that have it open already do not notice.
    ///
    /// # Errors
    /// Damaged; a conflict; I/O.
    ///
    /// # Example
    /// ```
    /// # use cairn::{Compression, InitOptions, Store};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let options = InitOptions::default().compression(Compression::None);
    /// let store = Store::init(dir.path().join("s"), &options).unwrap();
    /// assert_eq!(store.upgrade().unwrap(), ["compressed-content"]);
    /// let store = Store::open(store.root()).unwrap();
    /// assert_eq!(store.config().compression(), Compression::Auto);
    /// ```
    pub fn upgrade(&self) -> Result<Vec<String>> {
        self.add_features_of(Compression::Auto)
    }

    /// Sets what writers compress that open the store from now on, and adds the features for it. Returns those that
    /// were added. What is stored already does not change. As after [`Store::upgrade`], earlier releases may not be
    /// able to open the store any more.
    ///
    /// # Errors
    /// Usage: [`Compression::None`], since readers of a store need its features as long as it exists. Damaged; a
    /// conflict; I/O.
    ///
    /// # Example
    /// ```
    /// # use cairn::{Compression, Store};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let store = Store::init(dir.path().join("s"), &Default::default()).unwrap();
    /// store.set_compression(Compression::All).unwrap();
    /// let store = Store::open(store.root()).unwrap();
    /// assert_eq!(store.config().compression(), Compression::All);
    /// ```
    pub fn set_compression(&self, compression: Compression) -> Result<Vec<String>> {
        if compression == Compression::None {
            return Err(Error::usage("compression cannot be turned off in a store that exists")
                .with_hint("`cairn init --compression none` makes a store without it"));
        }
        let added = self.add_features_of(compression)?;
        Config::change(self.layout(), self.disk(), &|fields| {
            match compression.setting() {
                Some(setting) => fields.insert("compression".to_owned(), setting.into()),
                None => fields.remove("compression"),
            };
            Ok(())
        })?;
        Ok(added)
    }

    /// Adds the features that a store with this compression has. Returns those that it lacked.
    fn add_features_of(&self, compression: Compression) -> Result<Vec<String>> {
        self.check_features()?;
        let found = self.config_now()?.features.incompatible;
        let lacks = compression.features().iter().filter(|feature| !found.iter().any(|found| found == *feature));
        let lacks: Vec<_> = lacks.map(|feature| (*feature).to_owned()).collect();
        lacks.iter().try_for_each(|feature| self.add_incompatible_feature(feature))?;
        Ok(lacks)
    }

    /// The configuration as it is now.
    fn config_now(&self) -> Result<Config> {
        Config::read(self.layout())?
            .ok_or_else(|| Error::damaged(format!("{} has no cairn.json any more", show_path(self.root()))))
    }

    fn add_feature(&self, list: &str, feature: &str) -> Result<()> {
        let Features { compatible, read_only, incompatible } = &self.config().features;
        if [compatible, read_only, incompatible].into_iter().flatten().any(|found| found == feature) {
            return Ok(()); // the store had it when it was opened
        }
        Config::change(self.layout(), self.disk(), &|fields| {
            let list = fields.get_mut("features").and_then(|features| features.get_mut(list)?.as_array_mut());
            let list = list.ok_or_else(|| Error::damaged("cairn.json has no lists of features"))?;
            if !list.iter().any(|found| found == feature) {
                list.push(feature.into());
            }
            Ok(())
        })
    }

    /// Checks once that the store's own directories are directories: through a symlink, a writer would make and remove
    /// files outside the store. Missing ones are made again, because tools that copy trees may omit empty directories.
    fn check_directories(&self) -> Result<()> {
        if self.0.directories.load(Ordering::Relaxed) {
            return Ok(());
        }
        let look = |name: &&str| -> Result<Option<(OsString, bool)>> {
            Ok(disk::lstat(&self.root().join(name))?.map(|m| (OsString::from(name), m.is_dir())))
        };
        let found = match disk::list_types(self.root()) {
            // If this user may not list the root, check each directory.
            Err(e) if e.errno() == Some(libc::EACCES) => {
                DIRECTORIES.iter().filter_map(|n| look(n).transpose()).collect::<Result<Vec<_>>>()?
            }
            found => found?,
        };
        let mut made = false;
        for name in DIRECTORIES {
            match found.iter().find(|(n, _)| n == name) {
                Some((_, is_directory)) if *is_directory => {}
                Some(_) => {
                    return Err(Error::damaged(format!(
                        "{} is not a directory of the store: it is a symlink or a file",
                        show_path(&self.root().join(name))
                    ))
                    .with_hint("put a directory there, with what it held; symlinks are not followed inside a store"));
                }
                None => match self.disk().create_dir(&self.root().join(name)) {
                    Ok(_) => made = true,
                    // A store of an earlier release whose root this user may not write to: the list is optional.
                    Err(_) if name == "damaged" => {}
                    Err(e) => return Err(e),
                },
            }
        }
        if made {
            self.disk().sync_dir(self.root())?;
        }
        self.0.directories.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Explains an error of permissions: it names the store's owner and what can be done.
fn refused_by_mode(root: &Path, what: &str, e: Error) -> Error {
    if !matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) {
        return e;
    }
    let whose = disk::show_access(root).map(|access| format!(" ({access})")).unwrap_or_default();
    e.context(format!("you may not {what} the store {}{whose}", show_path(root)))
        .with_hint("ask its owner for access; `cairn access --group GROUP` opens a store to a whole group")
}

/// Whether the error means that the path does not exist. Other errors don't show what is on the disk.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn no_store(root: &Path) -> Error {
    Error::not_found(format!("{} is not a cairn store (it has no cairn.json)", show_path(root)))
        .with_detail(Detail::NotFound { what: Missing::Store, name: show_path(root), candidates: Vec::new() })
        .with_hint("`cairn init DIR` makes one")
}
