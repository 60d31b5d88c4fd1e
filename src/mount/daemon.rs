//! Running in the background: the fork, the report of readiness or failure over a pipe, the signals that end a daemon.

use super::{MountPoint, sys};
use crate::disk::{open_device, open_log};
use crate::error::{Error, ErrorReport, Result, show_path};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

/// Reports to the waiting parent that the mount answers. In the foreground there is no parent.
#[derive(Debug)]
pub struct Ready {
    /// The pipe to the parent.
    pipe: Option<PipeWriter>,
    /// Whether errors go to the system's log, because stderr is `/dev/null`.
    to_system: bool,
}

/// The result of a fork into the background, in each of the two processes.
#[derive(Debug)]
pub enum Daemon {
    /// The calling process: the mount answers.
    Parent,
    /// The daemon: serve, then end with [`Ready::end`].
    Child(Ready),
}

/// What the daemon writes to its parent before it is ready.
#[derive(Serialize, Deserialize)]
enum StartReport {
    Mounted,
    Failed(ErrorReport),
}

impl Ready {
    /// Readiness in the foreground.
    pub fn foreground() -> Ready {
        Ready { pipe: None, to_system: false }
    }

    /// The mount exists and its connection is set up; the parent checks that it answers.
    pub fn mounted(&mut self) {
        if self.pipe.is_none() {
            sys::notify_manager();
        }
        self.report(&StartReport::Mounted);
    }

    fn report(&mut self, report: &StartReport) {
        if let Some(mut pipe) = self.pipe.take() {
            let text = serde_json::to_vec(report).expect("strings and numbers always serialise");
            // If the parent has ended, the report is not needed.
            drop(pipe.write_all(&text));
        }
    }

    /// Ends the daemon's process. The parent prints an error that occurs before the mount is ready.
    pub fn end(mut self, result: Result<()>) -> ! {
        let status = match result {
            Ok(()) => 0,
            Err(e) => {
                let status = e.kind().exit_status();
                if self.to_system {
                    let causes = e.causes().iter().fold(String::new(), |all, cause| format!("{all}; {cause}"));
                    sys::log_to_system(&format!("{}{causes}", e.message()));
                }
                eprintln!("error: {}", e.message());
                e.causes().iter().for_each(|c| eprintln!("  cause: {c}"));
                self.report(&StartReport::Failed(ErrorReport::from(&e)));
                status
            }
        };
        // The daemon's own state has been dropped. The rest is a copy of the parent's, and its clean-up is up to the
        // parent.
        sys::exit_now(status.into())
    }
}

/// Forks a daemon for a mount at `point` and, in the parent, waits until the mount answers. The daemon's output goes to
/// `log`; without one to `/dev/null`, and errors to the system's log. Inherited descriptors are closed. Its working
/// directory is `/`, so paths used later must be absolute.
///
/// # Errors
/// In the parent, the daemon's error if it failed before the mount was ready. Usage if this process has more than one
/// thread: after such a fork the child could wait forever for a lock that no thread holds.
pub fn background(point: &MountPoint, log: Option<&Path>) -> Result<Daemon> {
    if sys::thread_count() > 1 {
        return Err(Error::usage("a process with several threads cannot fork a daemon")
            .with_hint("mount in the foreground, or before starting threads"));
    }
    let failed = |e: io::Error| Error::io("start a daemon for", point.path(), e);
    // The log is opened before the fork, so that the caller gets the error if it cannot be.
    let null = open_device(Path::new("/dev/null")).map_err(|e| Error::io("open", Path::new("/dev/null"), e))?;
    let to_system = log.is_none();
    let log = match log {
        Some(path) => open_log(path)?,
        None => null.try_clone().map_err(failed)?,
    };
    io::stdout().flush().map_err(failed)?;
    let (from_daemon, to_parent) = io::pipe().map_err(failed)?;
    match sys::fork().map_err(failed)? {
        sys::Fork::Parent(middle) => {
            drop(to_parent);
            sys::wait_for(middle);
            wait_for_report(from_daemon, point)
        }
        sys::Fork::Child => {
            drop(from_daemon);
            // After a second fork the daemon is not a child of the caller, which therefore need not wait for it.
            let mut ready = Ready { pipe: Some(to_parent), to_system };
            if to_system {
                // Panics of threads go there too.
                std::panic::set_hook(Box::new(|info| sys::log_to_system(&info.to_string())));
            }
            match detach_from_caller(&null, &log).and_then(|()| sys::fork()) {
                Ok(sys::Fork::Parent(_)) => sys::exit_now(0),
                Ok(sys::Fork::Child) => Ok(Daemon::Child(ready)),
                Err(e) => {
                    let e = failed(e);
                    ready.report(&StartReport::Failed(ErrorReport::from(&e)));
                    sys::exit_now(1)
                }
            }
        }
    }
}

/// Closes what connects the daemon with its caller.
fn detach_from_caller(null: &File, log: &File) -> io::Result<()> {
    sys::new_session()?;
    sys::replace_descriptor(null, 0)?;
    sys::replace_descriptor(log, 1)?;
    sys::replace_descriptor(log, 2)?;
    sys::close_inherited();
    std::env::set_current_dir("/")
}

/// The parent waits for the report, then checks the mount itself.
fn wait_for_report(mut pipe: PipeReader, point: &MountPoint) -> Result<Daemon> {
    let mut text = Vec::new();
    pipe.read_to_end(&mut text).map_err(|e| Error::io("wait for the daemon of", point.path(), e))?;
    match serde_json::from_slice(&text) {
        Ok(StartReport::Mounted) => match point.answers() {
            Ok(true) => Ok(Daemon::Parent),
            Ok(false) => Err(Error::io_message(format!(
                "mounted at {}, but something else answers there",
                show_path(point.path())
            ))),
            Err(e) => Err(Error::io("check the new mount at", point.path(), e)),
        },
        Ok(StartReport::Failed(report)) => Err(report.into_error()),
        Err(_) => {
            Err(Error::io_message(format!("the daemon for {} ended before it was ready", show_path(point.path())))
                .with_hint("mount with --foreground to see why"))
        }
    }
}

/// Waits for SIGTERM, SIGINT or SIGHUP, which [`block_termination_signals`](super::block_termination_signals) has
/// blocked in every thread.
pub fn wait_for_termination_signal() {
    sys::wait_for_termination_signal();
}

/// This process's umask. It can only be read by setting it, so no other thread may create a file meanwhile.
pub fn umask() -> u32 {
    // SAFETY: umask cannot fail.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    }
}
