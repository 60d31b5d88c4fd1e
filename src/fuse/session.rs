//! Read-only mounts: mounting, serving, and what is done periodically meanwhile.

use super::connection::Connection;
use super::files::Files;
use super::inode_tree::InodeTree;
use super::lifecycle::{self, cannot_start, detach, end_on_signal, start_thread};
use super::log::{Log, Target};
use super::pool::Pool;
use super::staging::Companion;
use super::tree::ReadTree;
use super::version::VersionTree;
use super::{Guard, Io, MountOptions, VersionView};
use crate::cache::{Cache, CacheOptions};
use crate::disk::{FsKind, open_file};
use crate::error::{Error, Result, show_path};
use crate::layout::Layout;
use crate::mount::{self, Attached, Audience, MountPoint, Ready, Writable};
use crate::objects::Objects;
use crate::remote::use_cache;
use crate::view::{WarmOptions, warm};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The kernel's readahead, where it can be set: FUSE_INIT limits it to 128 KiB, which halves the speed of the first
/// read of a large file.
const READ_AHEAD_KB: u32 = 4096;
/// From this mean file size of a version on, root's mounts use passthrough by default: an open then costs less than
/// reading through the daemon does.
const PASSTHROUGH_MEAN_SIZE: u64 = 1 << 20;
/// How often idle files are closed and pins are checked.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(2);

/// Mounts one version at `mnt`, read-only.
///
/// In the background (the default) this forks a daemon, which runs `make` with the canonical path of the mount point,
/// and then serves. The call returns when the mount answers. So `make` may start threads and open files, but this
/// process must have only one thread, and all paths that `make` or its result use must be absolute, because the
/// daemon's working directory is `/`. In the foreground the call returns when the mount is gone, and leaves SIGTERM,
/// SIGINT and SIGHUP blocked in this thread.
///
/// # Errors
/// Those of [`MountPoint::check`] and of `make`; I/O when mounting is not possible, with a hint.
pub fn mount_version(
    make: impl FnOnce(&Path) -> Result<(VersionView, Guard)>,
    store_root: &Path,
    mnt: &Path,
    options: &MountOptions,
) -> Result<()> {
    let options = &options.with_absolute_paths()?;
    let spec = |point: &MountPoint, _: &Target| {
        let (view, guard) = make(point.path())?;
        let cache = open_cache(options)?;
        if let Some(cache) = &cache {
            view.objects.read_through(cache.clone());
        }
        let totals = view.tree.totals();
        let warm = options.warm.then(|| warming(&view));
        let tree = Arc::new(VersionTree::alone(&view, mount::effective_ids()));
        Ok(MountSpec {
            tree,
            objects: view.objects,
            label: view.label,
            mean_size: totals.bytes / totals.files.max(1),
            guard,
            housekeeping: Box::new(|_| ()),
            companion: None,
            warm,
            cache,
        })
    };
    mount_spec(spec, store_root, mnt, options)
}

/// Tells the kernel to forget a name in the directory with that inode. Returns true if the kernel knew the name.
pub(super) type Forgetter = dyn Fn(u64, &[u8]) -> bool + Send;

/// Reads content ahead.
pub(super) type Warming = Box<dyn FnOnce() -> String + Send>;

fn warming(view: &VersionView) -> Warming {
    let (tree, objects) = (view.tree.clone(), view.objects.clone());
    Box::new(move || match warm(tree.walk(), &objects, &WarmOptions::default()) {
        Ok(warmed) => format!("{} files were read ahead, {} bytes", warmed.files, warmed.bytes),
        Err(e) => format!("cannot read the version ahead: {e:#}"),
    })
}

/// What to mount.
pub(super) struct MountSpec {
    pub(super) tree: Arc<dyn InodeTree>,
    pub(super) objects: Arc<Objects>,
    /// Its name in the log.
    pub(super) label: String,
    /// The mean size of its files; 0 if unknown.
    pub(super) mean_size: u64,
    /// Kept until the mount is gone.
    pub(super) guard: Guard,
    /// Called periodically by a thread while the mount exists.
    pub(super) housekeeping: Box<dyn Fn(&Forgetter) + Send>,
    /// The writable mount that belongs to it.
    pub(super) companion: Option<Arc<Companion>>,
    /// Reads all its content ahead; says what it did.
    pub(super) warm: Option<Warming>,
    /// The cache through which it reads.
    pub(super) cache: Option<Arc<Cache>>,
}

/// Opens the cache of a mount, in the process that serves it. References are read through it too.
pub(super) fn open_cache(options: &MountOptions) -> Result<Option<Arc<Cache>>> {
    let Some(cache) = options.cache.as_ref().map(CacheOptions::open).transpose()? else { return Ok(None) };
    use_cache(cache.clone());
    Ok(Some(cache))
}

/// Mounts what `make` returns: see [`mount_version`].
pub(super) fn mount_spec(
    make: impl FnOnce(&MountPoint, &Target) -> Result<MountSpec>,
    store_root: &Path,
    mnt: &Path,
    options: &MountOptions,
) -> Result<()> {
    lifecycle::run(store_root, mnt, options.run_mode, options.log.as_deref(), |store, point, target, ready| {
        serve(make, store, point, options, target, ready)
    })
}

fn serve(
    make: impl FnOnce(&MountPoint, &Target) -> Result<MountSpec>,
    store: &Path,
    point: &mut MountPoint,
    options: &MountOptions,
    target: Target,
    ready: &mut Ready,
) -> Result<()> {
    // Before any thread starts, so that all threads leave these signals to the one that waits for them.
    mount::block_termination_signals();
    mount::raise_open_files();
    let lock = point.lock_for_mounting()?;
    let spec = make(point, &target)?;
    let attached = mount::attach(point, store, Audience::of(options.allow_other), options.execution)?;
    drop(lock);
    let device = point.device();
    let files = Arc::new(Files::new(spec.objects.clone(), options.verify));
    let log = Log::new(target, spec.label.clone());
    let tree = Arc::new(ReadTree::new(spec.tree.clone(), files.clone(), store.to_path_buf(), log));
    let connection = connect(attached, tree.clone(), store, (spec.mean_size, spec.cache), options)
        .inspect_err(|_| detach(point, device.as_deref()))?;
    point.set_read_ahead(READ_AHEAD_KB);
    let guard = Arc::new(Mutex::new(Some(spec.guard)));
    if let Some(companion) = &spec.companion {
        companion.serve()?;
    }
    let (companion, held) = (spec.companion.clone(), guard.clone());
    let detached = move || companion.iter().for_each(|companion| companion.detach());
    end_on_signal(point.clone(), device.clone(), detached, move || drop(held.lock().take()))?;
    start_housekeeping(connection.forgetter()?, spec.housekeeping, files)?;
    start_thread("readahead", connection.readahead())?;
    if let Some(warming) = spec.warm {
        start_thread("warm", move || tree.say(&warming()))?;
    }
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        detach(point, device.as_deref()); // the connection was aborted, and a dead mount would stay
    }
    if let Some(companion) = &spec.companion {
        companion.end();
    }
    drop(guard.lock().take());
    ran
}

/// Sets up the connection: how files are opened, and whether a pool of threads answers requests.
fn connect(
    attached: Attached,
    tree: Arc<ReadTree>,
    store: &Path,
    (mean_size, cache): (u64, Option<Arc<Cache>>),
    options: &MountOptions,
) -> Result<Connection> {
    let io = match (attached.writable, options.io) {
        // Without opens the daemon would not learn that a file is opened for writing, and root could change what the
        // kernel has cached.
        (Writable::Perhaps, _) => Io::Plain,
        (Writable::No, Io::Auto) if mean_size >= PASSTHROUGH_MEAN_SIZE && mount::effective_ids().0 == 0 => {
            Io::Passthrough
        }
        (Writable::No, io) => io,
    };
    let probe = match cache {
        Some(cache) => cache.probe()?,
        None => {
            let config = Layout::new(store).config();
            let found = open_file(&config)?;
            found.ok_or_else(|| Error::not_found(format!("{} does not exist", show_path(&config))))?.0
        }
    };
    // On a local disk it takes less time to answer a request than to wake another thread.
    let pool = match FsKind::of(store)?.is_local() {
        true => None,
        false => Some(Pool::start(options.deadline).map_err(cannot_start)?),
    };
    Connection::open(attached.descriptor, tree, options.threads, io, &probe, pool)
}

/// Starts a thread that closes idle files and calls `work`. It ends with the process.
fn start_housekeeping(
    forget: impl Fn(u64, &[u8]) -> bool + Send + 'static,
    work: Box<dyn Fn(&Forgetter) + Send>,
    files: Arc<Files>,
) -> Result<()> {
    start_thread("housekeeping", move || {
        loop {
            std::thread::sleep(HOUSEKEEPING_INTERVAL);
            files.close_idle();
            drop(catch_unwind(AssertUnwindSafe(|| work(&forget))));
        }
    })
}
