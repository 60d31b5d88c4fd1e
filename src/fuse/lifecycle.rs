//! The life of a mount's process, for both kinds of mounts: check the mount point, fork, serve, end on a signal.

use super::RunMode;
use super::log::Target;
use crate::disk::open_log;
use crate::error::{Error, Result};
use crate::mount::{self, Daemon, MountPoint, Ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// How long a daemon continues to serve open files after SIGTERM.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Runs `serve` for a mount of `store_root` at `mnt`: in this process until the mount is gone, or in a daemon; then it
/// returns when the mount answers. `serve` gets the canonical path of the store.
///
/// # Errors
/// Those of [`MountPoint::check`], of [`mount::background`] and of `serve`.
pub(super) fn run(
    store_root: &Path,
    mnt: &Path,
    mode: RunMode,
    log: Option<&Path>,
    serve: impl FnOnce(&Path, &mut MountPoint, Target, &mut Ready) -> Result<()>,
) -> Result<()> {
    let store = store_root.canonicalize().map_err(|e| Error::io("resolve", store_root, e))?;
    let mut point = MountPoint::check(mnt, &store)?;
    match mode {
        RunMode::Foreground => {
            let target = match log {
                Some(path) => Target::File(open_log(path)?),
                None => Target::Stderr,
            };
            serve(&store, &mut point, target, &mut Ready::foreground())
        }
        RunMode::Background => match mount::background(&point, log)? {
            Daemon::Parent => Ok(()),
            Daemon::Child(mut ready) => {
                let target = Target::of_daemon(log);
                let served = catch_unwind(AssertUnwindSafe(|| serve(&store, &mut point, target, &mut ready)));
                ready.end(
                    served.unwrap_or_else(|_| Err(Error::io_message("the mount daemon panicked: please report this"))),
                )
            }
        },
    }
}

/// Starts a thread that ends the process on SIGTERM, SIGINT or SIGHUP. It detaches the mount, calls `detached`, serves
/// open files for a while, calls `ending`, and exits.
///
/// # Errors
/// I/O: the thread cannot be started.
pub(super) fn end_on_signal(
    point: MountPoint,
    device: Option<String>,
    detached: impl FnOnce() + Send + 'static,
    ending: impl FnOnce() + Send + 'static,
) -> Result<()> {
    start_thread("signals", move || {
        mount::wait_for_termination_signal();
        if let Some(device) = &device {
            mount::detach_own(point.path(), device);
        }
        detached();
        // This process cannot detach a mount that another program made, so its users would never end.
        if device.is_some() {
            std::thread::sleep(GRACE_PERIOD);
        }
        ending();
        std::process::exit(0);
    })
}

/// Starts a thread with a small stack that ends with the process.
///
/// # Errors
/// I/O.
pub(super) fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(512 << 10).spawn(work);
    thread.map(drop).map_err(cannot_start)
}

/// The error if a thread cannot be started.
pub(super) fn cannot_start(e: std::io::Error) -> Error {
    Error::io_message("cannot start a thread").with_source(e)
}

/// Detaches a mount whose daemon ends although no process unmounted it.
pub(super) fn detach(point: &MountPoint, device: Option<&str>) {
    if let Some(device) = device {
        mount::detach_own(point.path(), device);
    }
}
