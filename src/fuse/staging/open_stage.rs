//! A run's stage that this mount holds: its files, whether it takes changes, and whether it still belongs to this
//! mount.

use super::removed_inodes::RemovedInodes;
use super::sealed_view::SealedView;
use crate::commit::refuse_if_finished;
use crate::disk::backing::Backing;
use crate::disk::list;
use crate::error::{Error, Kind, Result, show_path};
use crate::fuse::errno::{ErrnoResult, Subject, errno_of};
use crate::fuse::log::Log;
use crate::lock::HEARTBEAT_INTERVAL;
use crate::staging::Stage;
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, RunId};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The longest path in a run, in bytes. The kernel takes 4,095 bytes at a time, and sealing needs some of them for the
/// way to the run's directory.
pub(super) const LONGEST_PATH: usize = 4064;

/// How long the answer that a run still belongs to this mount is valid. This is less than the time that another host
/// waits before it takes a run over.
const CONFIRMATION_VALID_FOR: Duration = Duration::from_millis(2 * HEARTBEAT_INTERVAL.as_millis() as u64 + 500);

/// A run whose stage this mount holds.
pub(super) struct OpenStage {
    /// A number that no other run of this process has. It distinguishes the nodes of runs.
    pub(super) number: u64,
    pub(super) stage: Stage,
    pub(super) backing: Backing,
    /// An upper bound for the length of its paths.
    pub(super) longest: AtomicUsize,
    pub(super) refusals: Refusals,
    /// Changes hold it shared; sealing holds it alone.
    pub(super) gate: RwLock<Gate>,
    confirmed: Confirmed,
    pub(super) removed: RemovedInodes,
}

/// Whether a stage takes changes.
pub(super) enum Gate {
    /// It takes changes.
    Open,
    /// It is being sealed.
    Sealing,
    /// Sealing failed, and so did opening it again: another process must seal it.
    Closed,
    /// It is sealed and shows the contribution.
    Sealed(Arc<SealedView>),
    /// Its draft was finished without it.
    Finished,
    /// Another mount has taken it over.
    Lost,
}

/// Changes that were refused for a reason that is not the program's fault: the disk is full or broken, or the run is
/// being sealed. A seal reports them.
#[derive(Default)]
pub(super) struct Refusals(Mutex<(u64, String)>);

impl Refusals {
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let (count, first) = &mut *self.0.lock();
        *count += 1;
        if *count == 1 {
            *first = what();
        }
    }

    /// How many changes were refused, and the first of them.
    pub(super) fn report(&self) -> Option<String> {
        match &*self.0.lock() {
            (0, _) => None,
            (1, first) => Some(format!("1 change in the staging directory was refused: {first}")),
            (count, first) => {
                Some(format!("{count} changes in the staging directory were refused, the first: {first}"))
            }
        }
    }
}

/// When the run was last known to belong to this mount, in milliseconds since the first check of this process.
struct Confirmed(AtomicU64);

fn now() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

impl Confirmed {
    fn new() -> Confirmed {
        Confirmed(AtomicU64::new(now()))
    }

    fn is_recent(&self) -> bool {
        now().saturating_sub(self.0.load(Ordering::Relaxed)) < CONFIRMATION_VALID_FOR.as_millis() as u64
    }
}

impl OpenStage {
    /// Opens the files of a stage.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn new(stage: Stage) -> Result<OpenStage> {
        let directory = stage.directory();
        let backing = Backing::open(&directory).map_err(|e| Error::io("open", &directory, e))?;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The paths in a stage that was left open are unknown.
        let empty = list(&directory)?.is_empty();
        let longest = AtomicUsize::new(if empty { 0 } else { LONGEST_PATH });
        let (refusals, confirmed, removed) = (Refusals::default(), Confirmed::new(), RemovedInodes::of(&stage)?);
        let gate = RwLock::new(Gate::Open);
        Ok(OpenStage { number, stage, backing, longest, refusals, gate, confirmed, removed })
    }

    pub(super) fn store(&self) -> &Store {
        self.stage.draft().store()
    }

    /// Whether it is the stage of that run.
    pub(super) fn is_of(&self, artifact: &ArtifactName, id: &DistributedId, run_id: &RunId) -> bool {
        let record = self.stage.record();
        (&record.artifact, &record.distributed_id, &record.run.id) == (artifact, id, run_id)
    }

    /// Permits a change as long as the guard lives. EROFS: the stage takes no changes.
    pub(super) fn begin_change(&self) -> ErrnoResult<RwLockReadGuard<'_, Gate>> {
        let gate = self.gate.read();
        if !matches!(*gate, Gate::Open) {
            return Err(libc::EROFS);
        }
        if self.confirmed.is_recent() {
            return Ok(gate);
        }
        drop(gate);
        self.confirm(None)?;
        let gate = self.gate.read();
        if matches!(*gate, Gate::Open) { Ok(gate) } else { Err(libc::EROFS) }
    }

    pub(super) fn sealed(&self) -> Option<Arc<SealedView>> {
        match &*self.gate.read() {
            Gate::Sealed(sealed) => Some(sealed.clone()),
            _ => None,
        }
    }

    /// Asks the store whether the run may still be changed here. If not, refuses changes from here on and logs why.
    pub(super) fn confirm(&self, log: Option<&Log>) -> ErrnoResult<()> {
        let asked = now();
        match self.ended() {
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
                        &format!("cannot check whether run {} still belongs to this mount", self.stage.record().run.id),
                        &e,
                    )
                });
                Err(errno_of(&e, Subject::Run))
            }
        }
    }

    /// If the run takes no more changes here, the state that it is in, and the error that says why.
    pub(super) fn ended(&self) -> Result<Option<(Gate, Error)>> {
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
        let why = "another mount has taken the run over, or it was sealed or discarded elsewhere: this mount takes no \
                   more changes";
        Error::conflict(why).with_hint("unmount with `cairn umount --no-seal`; `cairn drafts` shows the run")
    }

    pub(super) fn finished(&self, e: Error) -> Error {
        let kept =
            format!("it takes no more changes; the files of the run stay in {}", show_path(&self.stage.directory()));
        e.with_cause(kept)
    }
}
