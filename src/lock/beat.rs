//! The moving counter of a held lock: a thread that overwrites it in place.

use super::BEAT;
use crate::disk::NewFile;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Moves a lock's counter until it is dropped.
#[derive(Debug)]
pub(super) struct Beat {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    /// Keeps the flock where no thread could be started.
    _file: Option<NewFile>,
}

impl Beat {
    /// The counter's text: 12 digits.
    pub(super) fn text(n: u64) -> String {
        format!("{n:012}")
    }

    /// Moves the counter at byte `at` of `file`.
    pub(super) fn start(file: NewFile, at: u64) -> Beat {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = stop.clone();
        let file = Arc::new(file);
        let moved = file.clone();
        let thread = std::thread::Builder::new().name("cairn-lock".into()).stack_size(128 << 10).spawn(move || {
            let mut n = 0;
            let mut stopped = seen.0.lock();
            while !*stopped {
                if seen.1.wait_for(&mut stopped, BEAT).timed_out() {
                    n += 1;
                    // A failed beat only makes this holder look dead: manners, not truth.
                    let _ = moved.write_at_uncounted(Beat::text(n).as_bytes(), at);
                }
            }
        });
        let kept = if thread.is_err() { Arc::into_inner(file) } else { None };
        Beat { stop, thread: thread.ok(), _file: kept }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
