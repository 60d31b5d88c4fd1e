//! Whether this mount may still change its runs. A thread asks the store every few seconds: was a run taken over by
//! another mount, is its draft finished? A change that comes when the last answer is too old asks by itself, so that a
//! daemon that was stopped or cut off sees that it lost before it writes.

use super::tree::{Answer, Gate, OpenStage, StagingTree};
use crate::commit::refuse_if_finished;
use crate::error::{Error, Kind, Result, show_path};
use crate::fuse::log::Log;
use crate::lock::HEARTBEAT_INTERVAL;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An answer is good for so long: less than another host watches before it takes a run over.
const GOOD_FOR: Duration = Duration::from_millis(2 * HEARTBEAT_INTERVAL.as_millis() as u64 + 500);

/// When the store last said that a run is still this mount's, in milliseconds since the process first asked.
pub(super) struct Confirmed(AtomicU64);

fn now() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

impl Confirmed {
    /// Just now.
    pub(super) fn new() -> Confirmed {
        Confirmed(AtomicU64::new(now()))
    }

    /// Whether that was lately.
    pub(super) fn is_good(&self) -> bool {
        now().saturating_sub(self.0.load(Ordering::Relaxed)) < GOOD_FOR.as_millis() as u64
    }
}

impl OpenStage {
    /// Asks the store whether the run may still be changed here, and refuses changes from here on if not. Logs why.
    pub(super) fn confirm(&self, log: Option<&Log>) -> Answer<()> {
        let asked = now();
        match self.standing() {
            Ok(None) => {
                self.confirmed.0.fetch_max(asked, Ordering::Relaxed);
                Ok(())
            }
            Ok(Some((gate, why))) => {
                let mut now = self.gate.write();
                if matches!(*now, Gate::Open) {
                    *now = gate;
                    log.inspect(|log| log.error(&format!("run {}", self.stage.record().run.id), &why));
                }
                Err(libc::EROFS)
            }
            Err(e) => {
                log.inspect(|log| {
                    log.error(
                        &format!("cannot tell whether run {} is still this mount's", self.stage.record().run.id),
                        &e,
                    )
                });
                Err(e.errno().unwrap_or(libc::EIO))
            }
        }
    }

    /// Why the run takes no more changes here, if it takes none.
    pub(super) fn standing(&self) -> Result<Option<(Gate, Error)>> {
        if !self.stage.is_ours()? {
            return Ok(Some((Gate::Lost, self.lost())));
        }
        match refuse_if_finished(self.stage.draft()) {
            Ok(()) => Ok(None),
            Err(e) if e.kind() == Kind::Conflict => Ok(Some((Gate::Finished, self.finished(e)))),
            Err(e) => Err(e),
        }
    }

    pub(super) fn lost(&self) -> Error {
        let why = "another mount has taken the run over, or it was sealed or discarded elsewhere: no change is taken here any more";
        Error::conflict(why).with_hint("`cairn umount --no-seal` this mount; `cairn drafts` shows the run")
    }

    pub(super) fn finished(&self, e: Error) -> Error {
        let kept =
            format!("no change is taken any more; the files of the run stay in {}", show_path(&self.stage.directory()));
        e.with_cause(kept)
    }
}

/// The thread that asks; it ends with this.
pub(super) struct Watch {
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to ask for all runs of a mount.
    ///
    /// # Errors
    /// I/O: no thread.
    pub(super) fn begin(tree: &Arc<StagingTree>) -> Result<Watch> {
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        let (ended, tree) = (end.clone(), Arc::downgrade(tree));
        let ask = move || {
            let mut over = ended.0.lock();
            while !*over {
                ended.1.wait_for(&mut over, HEARTBEAT_INTERVAL);
                if !*over {
                    parking_lot::MutexGuard::unlocked(&mut over, || {
                        drop(catch_unwind(AssertUnwindSafe(|| look(&tree))))
                    });
                }
            }
        };
        let thread = std::thread::Builder::new().name("staging-watch".into()).stack_size(512 << 10).spawn(ask);
        let thread = thread.map_err(|e| Error::io_message("cannot start a thread").with_cause(e))?;
        Ok(Watch { end, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.end.0.lock() = true;
        self.end.1.notify_all();
        drop(self.thread.take().map(JoinHandle::join)); // a panic in it was caught
    }
}

fn look(tree: &Weak<StagingTree>) {
    let Some(tree) = tree.upgrade() else { return };
    for live in tree.runs() {
        let is_open = matches!(*live.gate.read(), Gate::Open);
        if is_open {
            let _ = live.confirm(tree.log()); // it was logged
        }
    }
}
