//! A mount's life: look at the mount point, go into the background, mount, serve, unmount.

use super::adapter::Connection;
use super::tree::{Log, ReadTree};
use super::{Ground, Guard, MountOptions, VersionView};
use crate::disk::open_log;
use crate::error::{Error, Result};
use crate::mount::{self, Daemon, MountPoint, Reach, Ready};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How far the kernel reads ahead, where it may be told: INIT caps it at 128 KiB, which halves the first read of a large file.
const READ_AHEAD_KB: u32 = 4096;
/// After SIGTERM, how long those who still have files open are served.
const GRACE: Duration = Duration::from_secs(5);

/// Mounts one version at `mnt`, read-only.
///
/// In the background (the default) a daemon is forked off, which runs `make` and then serves; the call returns when the mount answers.
/// `make` may therefore start threads and open files, but this process must have one thread only, and all paths that `make` or what it
/// makes will use must be absolute: the daemon's directory is `/`. In the foreground the call returns when the mount is gone, and leaves
/// SIGTERM, SIGINT and SIGHUP blocked in this thread.
///
/// # Errors
/// Those of [`MountPoint::check`], of `make`, and I/O when mounting is not possible, with a hint.
pub fn mount_version(make: impl FnOnce() -> Result<(VersionView, Guard)>, store_root: &Path, mnt: &Path, options: &MountOptions) -> Result<()> {
    let store = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let point = MountPoint::check(mnt, &store)?;
    match options.ground {
        Ground::Foreground => {
            let log = match &options.log {
                Some(path) => Log::File(open_log(path)?),
                None => Log::Stderr,
            };
            serve(make, &store, &point, options, log, &mut Ready::foreground())
        }
        Ground::Background => match mount::background(&point, options.log.as_deref())? {
            Daemon::Parent => Ok(()),
            Daemon::Child(mut ready) => {
                let served = catch_unwind(AssertUnwindSafe(|| serve(make, &store, &point, options, Log::Stderr, &mut ready)));
                ready.end(served.unwrap_or_else(|_| Err(Error::io_message("the mount daemon panicked: please report this"))))
            }
        },
    }
}

fn serve(
    make: impl FnOnce() -> Result<(VersionView, Guard)>,
    store: &Path,
    point: &MountPoint,
    options: &MountOptions,
    log: Log,
    ready: &mut Ready,
) -> Result<()> {
    // Before any thread: all of them are to leave these signals to the one that waits for them.
    mount::block_endings();
    mount::raise_open_files();
    let (view, guard) = make()?;
    let reach = if options.allow_other { Reach::Everyone } else { Reach::Mounter };
    let attached = mount::attach(point, store, reach, options.execution)?;
    let device = point.device();
    let detach = |device: &Option<String>| {
        if let Some(device) = device {
            mount::detach_own(point.path(), device);
        }
    };
    let tree = ReadTree::new(view, store.to_path_buf(), mount::who(), options.verify, log);
    let connection = match Connection::open(attached.descriptor, Arc::new(tree), options.threads) {
        Ok(connection) => connection,
        Err(e) => {
            detach(&device);
            return Err(e);
        }
    };
    point.set_read_ahead(READ_AHEAD_KB);
    let guard = Arc::new(Mutex::new(Some(guard)));
    end_on_signal(point.clone(), device.clone(), guard.clone())?;
    ready.mounted();
    let ran = connection.run();
    if ran.is_err() {
        // Not an unmount: the connection was aborted, and a dead mount would stay.
        detach(&device);
    }
    drop(guard.lock().take());
    ran
}

/// Unmounts when a signal says so: whoever has files open is served for a while longer, then the process ends all the same.
fn end_on_signal(point: MountPoint, device: Option<String>, guard: Arc<Mutex<Option<Guard>>>) -> Result<()> {
    let wait = move || {
        mount::wait_for_ending();
        if let Some(device) = &device {
            mount::detach_own(point.path(), device);
        }
        std::thread::sleep(GRACE);
        drop(guard.lock().take());
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|e| Error::io_message("cannot start a thread").because(e))
}
