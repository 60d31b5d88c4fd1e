//! The directories above the runs, `NAME/ID/RUN`. Making a run's directory begins its contribution. A run that was left
//! open is resumed at its first use. Removing an empty run's directory discards the run. A sealed run shows until its
//! draft is finished.

use super::open_stage::{Gate, OpenStage};
use super::table::NodeKind;
use crate::catalog::stage::{StageState, stages};
use crate::catalog::{Draft, RunRecord, artifact};
use crate::commit::refuse_if_finished;
use crate::disk::backing::{Backing, Stat};
use crate::error::Error;
use crate::fuse::errno::{ErrnoResult, Subject, errno_of, errno_of_io};
use crate::fuse::log::Log;
use crate::staging::{Resume, Stage};
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, RunId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The runs of a whole store.
pub(super) struct RunNamespace {
    pub(super) store: Store,
    /// Where it is mounted.
    at: PathBuf,
    pub(super) log: Log,
    /// Whether other users may begin contributions too.
    pub(super) shared: bool,
    /// Directories that exist only in this mount.
    pub(super) made: Mutex<BTreeSet<(ArtifactName, Option<DistributedId>)>>,
    open_runs: Mutex<Vec<Arc<OpenStage>>>,
    /// Locked while a stage is opened. That can include finishing a seal that another process began.
    opening: Mutex<()>,
}

impl RunNamespace {
    pub(super) fn new(store: Store, at: PathBuf, log: Log, shared: bool) -> RunNamespace {
        RunNamespace {
            store,
            at,
            log,
            shared,
            made: Mutex::default(),
            open_runs: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    fn draft(&self, artifact: &ArtifactName, id: &DistributedId) -> Draft {
        Draft::new(&self.store, artifact, id)
    }

    /// The stages that this mount holds and the contributions that it sealed. Those of finished drafts are removed, and
    /// those that were dropped or discarded after the seal: such a run may begin again.
    fn held(&self) -> Vec<Arc<OpenStage>> {
        let mut run = self.open_runs.lock();
        run.retain(|l| !matches!(*l.gate.read(), Gate::Lost));
        run.retain(|l| {
            l.sealed().is_none_or(|s| refuse_if_finished(l.stage.draft()).is_ok() && !s.is_withdrawn().unwrap_or(false))
        });
        self.made.lock().retain(|(artifact, id)| {
            id.as_ref().is_none_or(|id| refuse_if_finished(&self.draft(artifact, id)).is_ok())
        });
        run.clone()
    }

    /// The runs that this mount holds.
    pub(super) fn runs(&self) -> Vec<Arc<OpenStage>> {
        self.open_runs.lock().clone()
    }

    pub(super) fn find_held(
        &self,
        artifact: &ArtifactName,
        id: &DistributedId,
        run_id: &RunId,
    ) -> Option<Arc<OpenStage>> {
        self.held().into_iter().find(|l| l.is_of(artifact, id, run_id))
    }

    /// Opens a run's stage, unless this mount has it.
    pub(super) fn open(
        &self,
        artifact: &ArtifactName,
        id: &DistributedId,
        run_id: &RunId,
        made: impl FnOnce(&OpenStage) -> ErrnoResult<()>,
    ) -> ErrnoResult<Arc<OpenStage>> {
        let _one = self.opening.lock();
        if let Some(found) = self.find_held(artifact, id, run_id) {
            return Ok(found);
        }
        let failed = |e: &Error, errno: i32| {
            self.log.error(&format!("staging of {artifact}, {id}, {run_id}"), e);
            errno
        };
        let draft = self.draft(artifact, id);
        refuse_if_finished(&draft).map_err(|e| failed(&e, libc::EROFS))?;
        let record = RunRecord { id: run_id.clone(), group: None, job_type: None };
        let open = || {
            let stage = Stage::open(&draft, &record, None, Resume::Continue)?;
            // Commands that get only the names of the run find the mount by this note.
            let noted = stage.note_mount(&self.at.join(artifact.as_str()).join(id.as_str()).join(run_id.as_str()));
            let run = OpenStage::new(stage)?;
            noted.inspect_err(|_| drop(run.stage.discard_if_unused()))?;
            Ok(run)
        };
        let run = Arc::new(open().map_err(|e| failed(&e, errno_of(&e, Subject::Run)))?);
        made(&run).inspect_err(|_| drop(run.stage.discard_if_unused()))?;
        self.open_runs.lock().push(run.clone());
        Ok(run)
    }

    /// Resumes a run whose stage was left open, unless this mount has it.
    pub(super) fn open_run(
        &self,
        artifact: &ArtifactName,
        id: &DistributedId,
        run_id: &RunId,
    ) -> ErrnoResult<Arc<OpenStage>> {
        self.open(artifact, id, run_id, |_| Ok(()))
    }

    /// The attributes of the directory of a run that is not open here, from the store.
    pub(super) fn stat_unopened(
        &self,
        artifact: &ArtifactName,
        id: &DistributedId,
        run_id: &RunId,
    ) -> ErrnoResult<Stat> {
        let draft = self.draft(artifact, id);
        let stage = stages(&self.store)
            .map_err(|e| errno_of(&e, Subject::Run))?
            .into_iter()
            .find(|s| s.state == StageState::Open && s.is_of(&draft, run_id));
        let directory = self.store.layout().stage(stage.ok_or(libc::ENOENT)?.token());
        Backing::open(&directory).and_then(|b| b.stat(Path::new(""))).map_err(errno_of_io)
    }

    pub(super) fn forget(&self, gone: &Arc<OpenStage>) {
        self.open_runs.lock().retain(|l| !Arc::ptr_eq(l, gone));
    }

    /// The names in a directory above the runs.
    pub(super) fn names(&self, kind: &NodeKind) -> ErrnoResult<BTreeSet<String>> {
        let (held, made) = (self.held(), self.made.lock().clone());
        let open = stages(&self.store).map_err(|e| errno_of(&e, Subject::Run))?;
        let open = open.iter().filter(|s| s.state == StageState::Open).map(|s| &s.record);
        let records = open.chain(held.iter().map(|l| l.stage.record()));
        let mut out: BTreeSet<String> = match kind {
            NodeKind::Root => {
                records.map(|r| r.artifact.to_string()).chain(made.iter().map(|(a, _)| a.to_string())).collect()
            }
            NodeKind::Artifact(artifact) => {
                let made = made
                    .iter()
                    .filter(|(a, _)| a == artifact)
                    .filter_map(|(_, id)| id.as_ref().map(ToString::to_string));
                records.filter(|r| r.artifact == *artifact).map(|r| r.distributed_id.to_string()).chain(made).collect()
            }
            NodeKind::Draft(artifact, id) => records
                .filter(|r| r.artifact == *artifact && r.distributed_id == *id)
                .map(|r| r.run.id.to_string())
                .collect(),
            NodeKind::UnopenedRun(..) | NodeKind::InRun(_) => return Err(libc::ENOTDIR),
        };
        // An id that cannot be a file name is available only to commands.
        out.retain(|n| !n.contains('/') && n != "." && n != ".." && n.len() <= 255);
        Ok(out)
    }

    /// Whether `name` exists in a directory above the runs. Every artifact of the store does, also without runs.
    pub(super) fn has(&self, kind: &NodeKind, name: &str, below: &NodeKind) -> ErrnoResult<bool> {
        let known = match below {
            NodeKind::Artifact(name) => {
                artifact::find(&self.store, name).map_err(|e| errno_of(&e, Subject::Run))?.is_some()
            }
            _ => false,
        };
        Ok(known || self.names(kind)?.contains(name))
    }
}

/// The kind of the entry `name` in a directory above the runs; EINVAL for a name that is not valid there.
pub(super) fn child(kind: &NodeKind, name: &str) -> ErrnoResult<NodeKind> {
    let invalid = |_: Error| libc::EINVAL;
    match kind {
        NodeKind::Root => ArtifactName::parse(name).map(NodeKind::Artifact).map_err(invalid),
        NodeKind::Artifact(artifact) => {
            DistributedId::parse(name).map(|id| NodeKind::Draft(artifact.clone(), id)).map_err(invalid)
        }
        NodeKind::Draft(artifact, id) => RunId::parse(name)
            .map(|run_id| NodeKind::UnopenedRun(artifact.clone(), id.clone(), run_id))
            .map_err(invalid),
        NodeKind::UnopenedRun(..) | NodeKind::InRun(_) => Err(libc::ENOTDIR),
    }
}

pub(super) fn name_text(name: &OsStr) -> ErrnoResult<&str> {
    name.to_str().ok_or(libc::EINVAL)
}
