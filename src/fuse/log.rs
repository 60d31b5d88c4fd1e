//! The log of a mount: why a request failed, in one line each.

use crate::error::Error;
use crate::mount;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file that fails again within this time is not logged again: a program that reads in a loop must not fill the disk.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Where the lines of a log go.
pub(super) enum Target {
    Stderr,
    File(File),
    /// The system's log, which adds the time.
    System,
}

impl Target {
    /// The log of a daemon: its stderr, which is the log file; without a log file, the system's log.
    pub(super) fn of_daemon(log: Option<&Path>) -> Target {
        if log.is_some() { Target::Stderr } else { Target::System }
    }

    /// A second handle for the same log.
    pub(super) fn try_clone(&self) -> Target {
        match self {
            Target::File(file) => file.try_clone().map_or(Target::Stderr, Target::File),
            Target::Stderr => Target::Stderr,
            Target::System => Target::System,
        }
    }
}

/// The log of one mount.
pub(super) struct Log(Mutex<LogState>);

struct LogState {
    target: Target,
    label: String,
    last: Option<(u64, Instant)>,
}

impl Log {
    /// A log whose lines begin with `label`, the name of what is mounted.
    pub(super) fn new(target: Target, label: String) -> Log {
        Log(Mutex::new(LogState { target, label, last: None }))
    }

    /// Whether to write a line about `ino`: not if there was one a moment ago.
    pub(super) fn is_due(&self, ino: u64) -> bool {
        let last = &mut self.0.lock().last;
        let due = !last.is_some_and(|(of, when)| of == ino && when.elapsed() < REPEAT_INTERVAL);
        if due {
            *last = Some((ino, Instant::now()));
        }
        due
    }

    /// Writes an error with its causes in one line; `what` is what failed.
    pub(super) fn error(&self, what: &str, e: &Error) {
        let causes = e.causes().iter().fold(String::new(), |all, cause| format!("{all}; {cause}"));
        self.line(&format!("{what}: {}{causes}", e.message()));
    }

    /// Writes a line. An error of the log does not affect the mount.
    pub(super) fn line(&self, text: &str) {
        let state = &mut *self.0.lock();
        if matches!(state.target, Target::System) {
            return mount::log_to_system(&format!("{}: {text}", state.label));
        }
        let line =
            format!("{} cairnfs {}: {text}\n", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"), state.label);
        drop(match &mut state.target {
            Target::Stderr => std::io::stderr().write_all(line.as_bytes()),
            Target::File(file) => file.write_all(line.as_bytes()),
            Target::System => Ok(()),
        });
    }
}
