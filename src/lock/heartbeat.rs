//! The heartbeat counters of held locks. One thread serves all locks of the process: it overwrites each counter in
//! place and ends when no lock is left.

use crate::disk::NewFile;
use crate::locks::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a live holder increments its `beat`.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// A lock's file, kept open so that its flock stays, and where its counter is.
#[derive(Debug)]
struct Held {
    file: NewFile,
    at: u64,
    beats: AtomicU64,
    /// On a shared disk, other hosts see the counter only if each heartbeat is sent to the server.
    is_shared: bool,
}

struct Holding {
    locks: Vec<Arc<Held>>,
    /// Whether the thread is running; it decides to end under the same mutex.
    beating: bool,
}

impl Holding {
    const NONE: Holding = Holding { locks: Vec::new(), beating: false };
}

/// A forked child has none of its parent's locks, and not the thread.
static HOLDING: Mutex<Holding> = Mutex::of_process(Holding::NONE, || Holding::NONE);

/// Keeps a lock's flock and increments its counter until it is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat(Arc<Held>);

impl Heartbeat {
    /// The counter's text: 12 digits.
    pub(super) fn text(n: u64) -> String {
        format!("{n:012}")
    }

    /// Increments the counter at byte `at` of `file` from now on.
    pub(super) fn start(file: NewFile, at: u64, is_shared: bool) -> Heartbeat {
        if is_shared {
            file.write_through_uncounted();
        }
        let held = Arc::new(Held { file, at, beats: AtomicU64::new(0), is_shared });
        let mut holding = HOLDING.lock();
        holding.locks.push(held.clone());
        if !holding.beating {
            // Without a thread the lock only looks dead to other hosts, and locks are advisory.
            holding.beating =
                std::thread::Builder::new().name("cairn-lock".into()).stack_size(128 << 10).spawn(beat).is_ok();
        }
        Heartbeat(held)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        HOLDING.lock().locks.retain(|held| !Arc::ptr_eq(held, &self.0));
    }
}

fn beat() {
    loop {
        std::thread::sleep(HEARTBEAT_INTERVAL);
        let locks = {
            let mut holding = HOLDING.lock();
            if holding.locks.is_empty() {
                holding.beating = false;
                return;
            }
            holding.locks.clone()
        };
        for held in locks {
            let n = held.beats.fetch_add(1, Ordering::Relaxed) + 1;
            // A failed write only makes this holder look dead.
            let _ = held.file.write_at_uncounted(Heartbeat::text(n).as_bytes(), held.at);
            if held.is_shared {
                held.file.write_through_uncounted();
            }
        }
    }
}
