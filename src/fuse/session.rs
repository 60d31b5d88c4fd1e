//! A mount's life: look at the mount point, go into the background, mount, serve, unmount.

use super::adapter::Connection;
use super::files::Files;
use super::inode_tree::InodeTree;
use super::log::{Log, Target};
use super::pool::Pool;
use super::staging::Companion;
use super::tree::ReadTree;
use super::version::VersionTree;
use super::{Guard, Io, MountOptions, RunMode, VersionView};
use crate::disk::{FsKind, open_file, open_log};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mount::{self, Attached, Daemon, MountPoint, Reach, Ready, Writable};
use crate::objects::Objects;

use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How far the kernel reads ahead, where it may be told: INIT caps it at 128 KiB, which halves the first read of a
/// large file.
const READ_AHEAD_KB: u32 = 4096;
/// After SIGTERM, how long those who still have files open are served.
const GRACE: Duration = Duration::from_secs(5);
/// From this mean size of a version's files on, root's mounts pass reads through, if nothing else is said: what an open
/// costs more is then less than what reading through the daemon does.
const PASS_FROM: u64 = 1 << 20;
/// How often a mount looks after itself.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Mounts one version at `mnt`, read-only.
///
/// In the background (the default) a daemon is forked off, which runs `make`, giving it the mount point's path from the
/// root, and then serves; the call returns when the mount answers. `make` may therefore start threads and open files,
/// but this process must have one thread only, and all paths that `make` or what it makes will use must be absolute:
/// the daemon's directory is `/`. In the foreground the call returns when the mount is gone, and leaves SIGTERM, SIGINT
/// and SIGHUP blocked in this thread.
///
/// # Errors
/// Those of [`MountPoint::check`], of `make`, and I/O when mounting is not possible, with a hint.
pub fn mount_version(
    make: impl FnOnce(&Path) -> Result<(VersionView, Guard)>,
    store_root: &Path,
    mnt: &Path,
    options: &MountOptions,
) -> Result<()> {
    let shown = |point: &MountPoint, _: &Target| {
        let (view, guard) = make(point.path())?;
        let totals = view.tree.totals();
        let names = Arc::new(VersionTree::alone(&view, mount::who()));
        Ok(MountSpec {
            names,
            objects: view.objects,
            label: view.label,
            mean_size: totals.bytes / totals.files.max(1),
            guard,
            keep_house: Box::new(|_| ()),
            beside: None,
        })
    };
    mount_spec(shown, store_root, mnt, options)
}

/// Tells the kernel to forget a name in the directory with that inode. True if it knew the name.
pub(super) type Forgetter = dyn Fn(u64, &[u8]) -> bool + Send;

/// What is to be mounted.
pub(super) struct MountSpec {
    pub(super) names: Arc<dyn InodeTree>,
    pub(super) objects: Arc<Objects>,
    /// What the log calls it.
    pub(super) label: String,
    /// Of its files; 0 when that can't be said.
    pub(super) mean_size: u64,
    /// Kept until the mount is gone.
    pub(super) guard: Guard,
    /// Done again and again by a thread of its own while the mount stands.
    pub(super) keep_house: Box<dyn Fn(&Forgetter) + Send>,
    /// What is writable, and mounted elsewhere.
    pub(super) beside: Option<Arc<Companion>>,
}

/// Mounts what `make` gives: see [`mount_version`].
pub(super) fn mount_spec(
    make: impl FnOnce(&MountPoint, &Target) -> Result<MountSpec>,
    store_root: &Path,
    mnt: &Path,
    options: &MountOptions,
) -> Result<()> {
    let store = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let mut point = MountPoint::check(mnt, &store)?;
    match options.ground {
        RunMode::Foreground => {
            let target = match &options.log {
                Some(path) => Target::File(open_log(path)?),
                None => Target::Stderr,
            };
            serve(make, &store, &mut point, options, target, &mut Ready::foreground())
        }
        RunMode::Background => match mount::background(&point, options.log.as_deref())? {
            Daemon::Parent => Ok(()),
            Daemon::Child(mut ready) => {
                let target = Target::of_daemon(options.log.as_deref());
                let served =
                    catch_unwind(AssertUnwindSafe(|| serve(make, &store, &mut point, options, target, &mut ready)));
                ready.end(
                    served.unwrap_or_else(|_| Err(Error::io_message("the mount daemon panicked: please report this"))),
                )
            }
        },
    }
}

fn serve(
    make: impl FnOnce(&MountPoint, &Target) -> Result<MountSpec>,
    store: &Path,
    point: &mut MountPoint,
    options: &MountOptions,
    target: Target,
    ready: &mut Ready,
) -> Result<()> {
    // Before any thread: all of them are to leave these signals to the one that waits for them.
    mount::block_endings();
    mount::raise_open_files();
    let alone = point.alone()?;
    let shown = make(point, &target)?;
    let reach = if options.allow_other { Reach::Everyone } else { Reach::Mounter };
    let attached = mount::attach(point, store, reach, options.execution)?;
    drop(alone);
    let device = point.device();
    let detach = |device: &Option<String>| {
        if let Some(device) = device {
            mount::detach_own(point.path(), device);
        }
    };
    let files = Arc::new(Files::new(shown.objects.clone(), options.verify));
    let tree = Arc::new(ReadTree::new(
        shown.names.clone(),
        files.clone(),
        store.to_path_buf(),
        Log::new(target, shown.label.clone()),
    ));
    let connection = match connect(attached, tree, store, shown.mean_size, options) {
        Ok(connection) => connection,
        Err(e) => {
            detach(&device);
            return Err(e);
        }
    };
    point.set_read_ahead(READ_AHEAD_KB);
    let guard = Arc::new(Mutex::new(Some(shown.guard)));
    if let Some(beside) = &shown.beside {
        beside.serve()?;
    }
    end_on_signal(point.clone(), device.clone(), shown.beside.clone(), guard.clone())?;
    keep_house(connection.forgetter()?, shown.keep_house, files)?;
    std::thread::Builder::new()
        .name("forward".into())
        .stack_size(512 << 10)
        .spawn(connection.forwarder())
        .map_err(cannot_start)?;
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        // Not an unmount: the connection was aborted, and a dead mount would stay.
        detach(&device);
    }
    if let Some(beside) = &shown.beside {
        beside.end();
    }
    drop(guard.lock().take());
    ran
}

/// Sets the connection up: which way files are opened, and whether requests may be answered where they arrive.
fn connect(
    attached: Attached,
    tree: Arc<ReadTree>,
    store: &Path,
    mean_size: u64,
    options: &MountOptions,
) -> Result<Connection> {
    let io = match (attached.writable, options.io) {
        // Without opens, who opens a file for writing would never be heard of, and could write over what the kernel has
        // cached.
        (Writable::Perhaps, _) => Io::Plain,
        (Writable::No, Io::Auto) if mean_size >= PASS_FROM && mount::who().0 == 0 => Io::Passthrough,
        (Writable::No, io) => io,
    };
    let config = Layout::new(store).config();
    let (probe, _) =
        open_file(&config)?.ok_or_else(|| Error::not_found(format!("{} is gone", crate::error::show_path(&config))))?;
    // On a local disk a request is answered sooner than another thread could be woken.
    let pool = match FsKind::of(store)?.is_local() {
        true => None,
        false => Some(Pool::start(options.deadline).map_err(cannot_start)?),
    };
    Connection::open(attached.descriptor, tree, options.threads, io, &probe, pool)
}

/// Unmounts when a signal says so: whoever has files open is served for a while longer, then the process ends all the
/// same.
pub(super) fn end_on_signal(
    point: MountPoint,
    device: Option<String>,
    beside: Option<Arc<Companion>>,
    guard: Arc<Mutex<Option<Guard>>>,
) -> Result<()> {
    let wait = move || {
        mount::wait_for_ending();
        if let Some(device) = &device {
            mount::detach_own(point.path(), device);
        }
        if let Some(beside) = &beside {
            beside.take_away();
        }
        // A mount that another program made cannot be taken away here, so its users would never be done.
        if device.is_some() {
            std::thread::sleep(GRACE);
        }
        drop(guard.lock().take());
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(cannot_start)
}

/// A thread that closes what is idle, and does what else is to be done again and again. It ends with the process.
fn keep_house(
    forget: impl Fn(u64, &[u8]) -> bool + Send + 'static,
    work: Box<dyn Fn(&Forgetter) + Send>,
    files: Arc<Files>,
) -> Result<()> {
    let keep = move || loop {
        std::thread::sleep(HOUSEKEEPING);
        files.close_idle();
        drop(catch_unwind(AssertUnwindSafe(|| work(&forget))));
    };
    let thread = std::thread::Builder::new().name("housekeeping".into()).stack_size(512 << 10).spawn(keep);
    thread.map(drop).map_err(cannot_start)
}

fn cannot_start(e: std::io::Error) -> Error {
    Error::io_message("cannot start a thread").with_source(e)
}
