//! Sealing a run that this mount serves, when a command requests it.

use super::open_stage::{Gate, OpenStage};
use super::request::{MountedRun, RunState, StageReply};
use super::sealed_view::SealedView;
use super::tree::StagingTree;
use crate::commit::{ArtifactAnnotations, Upserted, refuse_if_finished};
use crate::error::{Error, Result};
use crate::mount::users_of;
use crate::staging::{SealOptions, mounted_at};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a seal waits for open files to be closed: the kernel reports the last close of a file only after the
/// process has continued.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl StagingTree {
    /// The run that contains a node.
    pub(super) fn which(&self, id: u64) -> StageReply {
        let run = self.table.read().run_of(id).cloned();
        let Some(run) = run else { return StageReply::NoRun };
        let record = run.stage.record();
        let state = match &*run.gate.read() {
            Gate::Open => RunState::Open,
            Gate::Sealing | Gate::Closed => RunState::Closed,
            Gate::Sealed(_) => RunState::Sealed,
            Gate::Finished => RunState::Finished,
            Gate::Lost => RunState::Lost,
        };
        StageReply::Run(MountedRun {
            artifact: record.artifact.to_string(),
            distributed_id: record.distributed_id.to_string(),
            run: record.run.id.to_string(),
            state,
        })
    }

    /// Seals the run that contains a node; with `stage`, only if that is its stage.
    pub(super) fn seal_as_asked(
        &self,
        id: u64,
        stage: Option<&str>,
        annotations: Option<&str>,
        replace: bool,
    ) -> StageReply {
        let run = self.table.read().run_of(id).cloned();
        match run {
            Some(run) if stage.is_none_or(|stage| run.stage.token().as_str() == stage) => {
                let sealed = self.seal(&run, annotations, replace);
                StageReply::of_seal(sealed, run.refusals.report())
            }
            _ => StageReply::NoRun,
        }
    }

    /// # Errors
    /// As [`crate::staging::Stage::seal`]; refused while a file in it is open for writing, naming the file and the
    /// process.
    fn seal(&self, run: &Arc<OpenStage>, annotations: Option<&str>, replace: bool) -> Result<Upserted> {
        let not_json = |e| Error::usage("the annotations cannot be read").with_source(e);
        let annotations = annotations.map(serde_json::from_str::<ArtifactAnnotations>).transpose().map_err(not_json)?;
        let annotated = annotations.map(|a| a.artifact(&run.stage.record().artifact)).transpose()?;
        let adds_annotations = replace || annotated.as_ref().is_some_and(|a| a.has_annotations());
        if let Some(done) = self.close(run)? {
            // The new annotations must not be ignored silently.
            return if adds_annotations {
                Err(Error::conflict("it is sealed already, without the annotations that are given now"))
            } else {
                Ok(done)
            };
        }
        confirmed(run)?;
        let options = SealOptions { annotations: annotated.as_ref(), replace, ..SealOptions::default() };
        let show = &mut |done: &Upserted| *run.gate.write() = Gate::Sealed(Arc::new(SealedView::of(run.store(), done)));
        let sealed = run.stage.seal(&options, show);
        let mut gate = run.gate.write();
        if sealed.is_err() && matches!(*gate, Gate::Sealing) {
            *gate = if run.stage.is_closed().unwrap_or(true) { Gate::Closed } else { Gate::Open };
        }
        drop(gate);
        sealed
    }

    /// Refuses changes from here on. Returns the contribution if it is sealed already.
    fn close(&self, run: &Arc<OpenStage>) -> Result<Option<Upserted>> {
        let until = Instant::now() + CLOSE_TIMEOUT;
        loop {
            let mut gate = run.gate.write();
            match &*gate {
                Gate::Open | Gate::Closed => {}
                Gate::Sealing => return Err(Error::conflict("it is being sealed")),
                Gate::Sealed(sealed) => {
                    let sealed = sealed.clone();
                    drop(gate);
                    if sealed.is_withdrawn()? {
                        let hint = "unmount with `cairn umount --no-seal`, then mount the run again to start a new \
                                    contribution";
                        return Err(
                            Error::conflict("what was sealed here was dropped or discarded since").with_hint(hint)
                        );
                    }
                    return Ok(Some(sealed.done.clone()));
                }
                Gate::Finished => {
                    drop(gate);
                    refuse_if_finished(run.stage.draft()).map_err(|e| run.finished(e))?;
                    return Err(run.finished(Error::conflict("its draft is finished")));
                }
                Gate::Lost => return Err(run.lost()),
            }
            // While the gate is locked, no file can be opened for writing.
            let writers = self.handles.writers(run);
            let Some((path, pid)) = writers.first() else {
                *gate = Gate::Sealing;
                return Ok(None);
            };
            drop(gate);
            if Instant::now() >= until {
                return Err(open_for_writing(run, path, *pid, writers.len() - 1));
            }
            std::thread::sleep(CLOSE_TIMEOUT / 50);
        }
    }
}

/// Refuses to seal a run that another mount has taken over, or whose draft is finished. Such a run takes no more
/// changes.
fn confirmed(run: &OpenStage) -> Result<()> {
    let (state, why) = match run.ended() {
        Ok(None) => return Ok(()),
        Ok(Some(ended)) => ended,
        Err(e) => (Gate::Open, e),
    };
    *run.gate.write() = state;
    Err(why)
}

/// The error for a file that is open for writing. It names the processes that have it open; if none is found, the one
/// that opened it.
fn open_for_writing(run: &OpenStage, path: &str, opener: u32, more: usize) -> Error {
    let mounted = mounted_at(run.store(), run.stage.token()).ok().flatten();
    let users = mounted.map(|at| users_of(&at.join(path))).unwrap_or_default();
    let who = users.first().map_or(opener.to_string(), |user| format!("{} ({})", user.pid, user.name));
    let more = if more > 0 { format!(", and {more} more are") } else { String::new() };
    let e = Error::conflict(format!("{path} is open for writing by process {who}{more}"))
        .with_hint("close it, then seal again");
    users.iter().skip(1).fold(e, |e, user| e.with_cause(user.to_string()))
}
