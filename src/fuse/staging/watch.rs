//! A thread that checks every few seconds whether this mount may still change its runs: another mount can take a run
//! over, and a draft can be finished. If the last check is too old when a change comes, the change itself checks first.
//! So a daemon that was stopped or disconnected notices that it lost the run before it writes.

use super::open_stage::Gate;
use super::tree::StagingTree;
use crate::error::{Error, Result};
use crate::lock::HEARTBEAT_INTERVAL;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

/// The thread; it ends when this value is dropped.
pub(super) struct RunWatch {
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl RunWatch {
    /// Starts to check all runs of a mount.
    ///
    /// # Errors
    /// I/O: the thread cannot be started.
    pub(super) fn begin(tree: &Arc<StagingTree>) -> Result<RunWatch> {
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        let (ended, tree) = (end.clone(), Arc::downgrade(tree));
        let ask = move || {
            let mut over = ended.0.lock();
            while !*over {
                ended.1.wait_for(&mut over, HEARTBEAT_INTERVAL);
                if !*over {
                    parking_lot::MutexGuard::unlocked(&mut over, || {
                        drop(catch_unwind(AssertUnwindSafe(|| check(&tree))))
                    });
                }
            }
        };
        let thread = std::thread::Builder::new().name("staging-watch".into()).stack_size(512 << 10).spawn(ask);
        let thread = thread.map_err(|e| Error::io_message("cannot start a thread").with_source(e))?;
        Ok(RunWatch { end, thread: Some(thread) })
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        *self.end.0.lock() = true;
        self.end.1.notify_all();
        drop(self.thread.take().map(JoinHandle::join)); // a panic in it was caught
    }
}

fn check(tree: &Weak<StagingTree>) {
    let Some(tree) = tree.upgrade() else { return };
    for run in tree.runs() {
        let is_open = matches!(*run.gate.read(), Gate::Open);
        if is_open {
            let _ = run.confirm(tree.log()); // it was logged
        }
    }
}
