//! The log of a mount: why a request failed, in one line each.

use crate::error::Error;
use crate::mount;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file that fails again within this time is not logged again: a program that reads in a loop must not fill the disk.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// At most this many failures are logged in that time.
const MOST_LINES: u32 = 50;

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
    /// The files of which a line was written, and when.
    logged: HashMap<u64, Instant>,
    /// When the interval began in which the lines of failures are counted, and how many were written and left out.
    interval: Instant,
    written: u32,
    left_out: u64,
}

impl Log {
    /// A log whose lines begin with `label`, the name of what is mounted.
    pub(super) fn new(target: Target, label: String) -> Log {
        Log(Mutex::new(LogState {
            target,
            label,
            logged: HashMap::new(),
            interval: Instant::now(),
            written: 0,
            left_out: 0,
        }))
    }

    /// Whether to write a line about a failure of `ino`: not if there was one a moment ago, nor if there were many
    /// about other files. A later line says how many were left out.
    pub(super) fn is_due(&self, ino: u64) -> bool {
        let mut state = self.0.lock();
        let mut left_out = 0;
        if state.interval.elapsed() >= REPEAT_INTERVAL {
            left_out = std::mem::take(&mut state.left_out);
            (state.interval, state.written) = (Instant::now(), 0);
            state.logged.retain(|_, when| when.elapsed() < REPEAT_INTERVAL);
        }
        let due = state.written < MOST_LINES && !state.logged.contains_key(&ino);
        if due {
            state.logged.insert(ino, Instant::now());
            state.written += 1;
        } else {
            state.left_out += 1;
        }
        drop(state);
        if left_out > 0 {
            self.line(&format!("{left_out} more failures in the seconds before were not logged"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_few_lines_and_one_that_says_how_many_were_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::new(Target::File(crate::disk::open_log(&path).unwrap()), "x".into());
        assert!(log.is_due(1) && log.is_due(2));
        assert!(!log.is_due(1) && !log.is_due(2), "two files in turn");
        let lines = (3..1000).filter(|ino| log.is_due(*ino)).count();
        assert_eq!(lines as u32, MOST_LINES - 2);
        log.0.lock().interval -= REPEAT_INTERVAL;
        assert!(log.is_due(2000));
        assert!(std::fs::read_to_string(&path).unwrap().contains("951 more failures"), "949 of others, 2 repeated");
    }
}
