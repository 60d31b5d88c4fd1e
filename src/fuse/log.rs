//! What no program's error number can say goes into the mount's log, a line each.

use crate::error::Error;
use crate::mount;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// The same file failing again within this time is not logged again: a reader in a loop must not fill the disk.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where the lines go.
pub(super) enum Target {
    Stderr,
    File(File),
    /// The system's log, which keeps the time by itself.
    System,
}

impl Target {
    /// Where a daemon's lines go: its stderr is the file that was asked for; without one, the system's log.
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
pub(super) struct Log(Mutex<State>);

struct State {
    target: Target,
    label: String,
    last: Option<(u64, Instant)>,
}

impl Log {
    /// A log whose lines name `label`, what is mounted.
    pub(super) fn new(target: Target, label: String) -> Log {
        Log(Mutex::new(State { target, label, last: None }))
    }

    /// Whether a line about `ino` is due, or there was one a moment ago.
    pub(super) fn is_due(&self, ino: u64) -> bool {
        let last = &mut self.0.lock().last;
        let due = !last.is_some_and(|(who, when)| who == ino && when.elapsed() < AGAIN_AFTER);
        if due {
            *last = Some((ino, Instant::now()));
        }
        due
    }

    /// Writes a line of an error with its causes, and what it stood in the way of.
    pub(super) fn error(&self, what: &str, e: &Error) {
        let causes = e.causes().iter().fold(String::new(), |all, cause| format!("{all}; {cause}"));
        self.line(&format!("{what}: {}{causes}", e.message()));
    }

    /// Writes a line. A log that cannot be written must not fail the mount.
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
