//! What a mount of published versions shows, and what it holds meanwhile: a lock file, which announces the mount, and
//! pins.

use super::log::{Log, Target};
use super::session::{MountSpec, mount_spec, open_cache};
use super::staging::Companion;
use super::store_tree::StoreTree;
use super::{Guard, MountOptions, VersionView};
use crate::cache::Cache;
use crate::catalog::{Version, removal};
use crate::clock;
use crate::error::{Error, Result, show_path};
use crate::lock::{LockFile, Purpose};
use crate::mount::{self, MountPoint};
use crate::pins::Pins;
use crate::store::Store;
use crate::types::Token;
use std::path::Path;
use std::sync::Arc;

impl VersionView {
    /// The view of a version that is mounted at `mnt`, with its pin and a lock file, which announces the mount. The
    /// daemon itself must call this, because the locks belong to its process. A user who may only read the store can
    /// mount too, and holds neither.
    ///
    /// # Errors
    /// Not found if it was removed meanwhile. Damaged; I/O.
    pub fn of(version: &Version, mnt: &Path) -> Result<(VersionView, Guard)> {
        let (store, name, number) = (version.store(), version.artifact(), version.number());
        let purpose = Purpose {
            purpose: "mount",
            artifact: Some(name.as_str()),
            version: Some(number.to_string()),
            mountpoint: mountpoint(mnt),
            ..Purpose::default()
        };
        let lock = LockFile::take(store, &Token::fresh(), &purpose).ok();
        let pins = Pins::hold(store, &purpose).and_then(|pins| pins.pin(name, number).map(|()| pins)).ok();
        // Checked after pinning: so either this check sees the removal, or the remover sees the pin.
        if removal::is_removed(store, name, number)? {
            return Err(Error::not_found(format!("{version} was removed a moment ago")));
        }
        let view = VersionView {
            tree: version.tree()?,
            objects: store.objects().clone(),
            commit_time: clock::parse(&version.record().created_at).unwrap_or(0),
            label: version.to_string(),
        };
        Ok((view, Box::new((lock, pins))))
    }
}

/// A mount point as it is written in lock files.
fn mountpoint(mnt: &Path) -> Option<String> {
    Some(mnt.to_string_lossy().into_owned())
}

/// Removes the pins when the mount is gone, even if the tree is still in use.
struct Unpin(Option<Arc<Pins>>);

impl Drop for Unpin {
    fn drop(&mut self) {
        if let Some(pins) = &self.0 {
            pins.release();
        }
    }
}

/// A handle of the store that reads through a cache. Staging directories have another one: a writer must see what the
/// store itself has.
fn reading_through(root: &Path, cache: &Arc<Cache>) -> Result<Store> {
    let store = Store::open(root)?;
    store.objects().read_through(cache.clone());
    Ok(store)
}

/// Mounts a whole store at `mnt`, read-only: `NAME/vN/…`, and a link for each alias. New versions, moved aliases and
/// removals show within [`MountOptions::refresh`]. If this process may write to the store, staging directories are
/// mounted too, and `.staging` and `NAME/.staging` are links to them. The rest is as in
/// [`mount_version`](super::mount_version).
///
/// # Errors
/// As [`mount_version`](super::mount_version).
pub fn mount_store(store_root: &Path, mnt: &Path, options: &MountOptions) -> Result<()> {
    let root = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let options = &options.with_absolute_paths()?;
    let make = |point: &MountPoint, target: &Target| {
        let store = Store::open(&root)?;
        let cache = open_cache(options)?;
        let reader = match &cache {
            Some(cache) => reading_through(&root, cache)?,
            None => store.clone(),
        };
        let purpose = Purpose { purpose: "mount", mountpoint: mountpoint(point.path()), ..Purpose::default() };
        let lock = LockFile::take(&store, &Token::fresh(), &purpose).ok();
        let pins = Pins::hold(&store, &purpose).ok().map(Arc::new);
        let log = || Log::new(target.try_clone(), show_path(&root));
        let companion = match options.staging.then(|| Companion::mount(&store, point, options, log(), log())) {
            None => None,
            Some(Ok(companion)) => Some(Arc::new(companion)),
            Some(Err(e)) => {
                log().error("cannot mount staging directories", &e);
                None
            }
        };
        let tree =
            Arc::new(StoreTree::new(&reader, mount::effective_ids(), options.refresh, pins.clone(), companion.clone()));
        let housekeeper = tree.clone();
        Ok(MountSpec {
            tree,
            objects: reader.objects().clone(),
            label: show_path(&root),
            mean_size: 0,
            guard: Box::new((lock, Unpin(pins))),
            housekeeping: Box::new(move |forget| housekeeper.housekeeping(forget)),
            companion,
            warm: None,
            cache,
        })
    };
    mount_spec(make, &root, mnt, options)
}
