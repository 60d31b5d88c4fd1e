//! Going into the background: the fork, the report of readiness or failure over a pipe, the signals that end it.

use super::{MountPoint, sys};
use crate::disk::{open_device, open_log};
use crate::error::{Error, ErrorReport, Result, show_path};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

/// Tells the waiting parent that the mount stands. In the foreground there is nobody to tell.
#[derive(Debug)]
pub struct Ready {
    /// To the parent.
    pipe: Option<PipeWriter>,
    /// Whether what goes wrong is written to the system's log: stderr goes nowhere.
    to_system: bool,
}

/// One side of going into the background.
#[derive(Debug)]
pub enum Daemon {
    /// The process that was asked: the mount answers.
    Parent,
    /// The daemon: serve, then end with [`Ready::end`].
    Child(Ready),
}

/// What the daemon writes to its parent before it is ready.
#[derive(Serialize, Deserialize)]
enum Report {
    Mounted,
    Failed(ErrorReport),
}

impl Ready {
    /// Readiness in the foreground.
    pub fn foreground() -> Ready {
        Ready { pipe: None, to_system: false }
    }

    /// The mount stands and its connection is set up; the parent looks for itself.
    pub fn mounted(&mut self) {
        if self.pipe.is_none() {
            sys::notify_manager();
        }
        self.report(&Report::Mounted);
    }

    fn report(&mut self, report: &Report) {
        if let Some(mut pipe) = self.pipe.take() {
            let text = serde_json::to_vec(report).expect("strings and numbers always serialise");
            // A parent that is gone need not be told.
            drop(pipe.write_all(&text));
        }
    }

    /// Ends the daemon's process with what it came to; an error before it was ready is the parent's to tell.
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
                self.report(&Report::Failed(ErrorReport::from(&e)));
                status
            }
        };
        // The daemon's own Rust state has been dropped; what is left is a copy of the parent's, whose clean-up is the
        // parent's.
        sys::exit_now(status.into())
    }
}

/// Forks a daemon for a mount at `point` and, in the parent, waits until the mount answers. Its standard files go to
/// `log`, or without one nowhere, and what goes wrong to the system's log; what the process inherited open is closed;
/// its working directory is `/`, so paths used later must be absolute.
///
/// # Errors
/// In the parent, whatever the daemon failed with before it was ready. Usage when this process has more than one
/// thread: the child of such a fork could wait for ever on a lock that nobody holds.
pub fn background(point: &MountPoint, log: Option<&Path>) -> Result<Daemon> {
    if sys::thread_count() > 1 {
        return Err(Error::usage("a process with several threads cannot go into the background")
            .with_hint("mount in the foreground, or before starting threads"));
    }
    let failed = |e: io::Error| Error::io("start a daemon for", point.path(), e);
    // Opened before the fork: a wrong --log is the caller's error.
    let null = open_device(Path::new("/dev/null")).map_err(|e| Error::io("open", Path::new("/dev/null"), e))?;
    let to_system = log.is_none();
    let log = match log {
        Some(path) => open_log(path)?,
        None => null.try_clone().map_err(failed)?,
    };
    io::stdout().flush().map_err(failed)?;
    let (hears, tells) = io::pipe().map_err(failed)?;
    match sys::fork().map_err(failed)? {
        sys::Fork::Parent(middle) => {
            drop(tells);
            sys::wait_for(middle);
            hear(hears, point)
        }
        sys::Fork::Child => {
            drop(hears);
            // A second fork: the daemon is nobody's child, so no caller has to reap it.
            let mut ready = Ready { pipe: Some(tells), to_system };
            if to_system {
                // A thread that panics is told of there too.
                std::panic::set_hook(Box::new(|info| sys::log_to_system(&info.to_string())));
            }
            match settle(&null, &log).and_then(|()| sys::fork()) {
                Ok(sys::Fork::Parent(_)) => sys::exit_now(0),
                Ok(sys::Fork::Child) => Ok(Daemon::Child(ready)),
                Err(e) => {
                    let e = failed(e);
                    ready.report(&Report::Failed(ErrorReport::from(&e)));
                    sys::exit_now(1)
                }
            }
        }
    }
}

fn settle(null: &File, log: &File) -> io::Result<()> {
    sys::new_session()?;
    sys::replace_descriptor(null, 0)?;
    sys::replace_descriptor(log, 1)?;
    sys::replace_descriptor(log, 2)?;
    sys::close_inherited();
    std::env::set_current_dir("/")
}

/// The parent's wait: for the report, then for the mount itself.
fn hear(mut pipe: PipeReader, point: &MountPoint) -> Result<Daemon> {
    let mut text = Vec::new();
    pipe.read_to_end(&mut text).map_err(|e| Error::io("wait for the daemon of", point.path(), e))?;
    match serde_json::from_slice(&text) {
        Ok(Report::Mounted) => match point.answers() {
            Ok(true) => Ok(Daemon::Parent),
            Ok(false) => Err(Error::io_message(format!(
                "mounted at {}, but something else answers there",
                show_path(point.path())
            ))),
            Err(e) => Err(Error::io("look at the new mount at", point.path(), e)),
        },
        Ok(Report::Failed(report)) => Err(report.into_error()),
        Err(_) => {
            Err(Error::io_message(format!("the daemon for {} ended before it was ready", show_path(point.path())))
                .with_hint("--foreground shows why"))
        }
    }
}

/// Waits for SIGTERM, SIGINT or SIGHUP, which [`block_endings`](super::block_endings) has blocked in every thread.
pub fn wait_for_ending() {
    sys::wait_ending();
}

/// The permissions that this process takes from what it makes. While no other thread makes anything: it can only be
/// read by setting it.
pub fn umask() -> u32 {
    // SAFETY: umask cannot fail.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    }
}
