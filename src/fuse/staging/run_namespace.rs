//! Above the runs: `NAME/ID/RUN`. VersionDraft a run's directory begins its contribution; one that was left open is
//! taken up at the first use; an empty one that is removed is given up. What is sealed shows until its draft is
//! finished.

use super::table::{At, Kind, Resolved};
use super::tree::{Answer, Attr, Gate, OpenStage, StagingTree, errno, of_error};
use crate::catalog::stage::{StageState, stages};
use crate::catalog::{Draft, RunRecord, artifact};
use crate::commit::refuse_if_finished;
use crate::disk::backing::{Backing, Caller, Stat};
use crate::error::Error;
use crate::fuse::log::Log;
use crate::staging::{Resume, Stage};
use crate::store::Store;
use crate::types::{ArtifactName, DistributedId, RunId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The runs of a whole store.
pub(super) struct RunNamespace {
    pub(super) store: Store,
    /// Where they are mounted.
    at: PathBuf,
    pub(super) log: Log,
    /// Whether other users may begin contributions too.
    pub(super) shared: bool,
    /// Directories that exist in this mount alone.
    made: Mutex<BTreeSet<(ArtifactName, Option<DistributedId>)>>,
    live: Mutex<Vec<Arc<OpenStage>>>,
    /// Held while a stage is opened, which may have to seal what another began to.
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
            live: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    fn draft(&self, artifact: &ArtifactName, id: &DistributedId) -> Draft {
        Draft::new(&self.store, artifact, id)
    }

    /// The stages that this mount holds, and what it sealed. What belongs to a finished draft goes, and what was
    /// dropped or discarded after its seal: that run may begin again.
    fn held(&self) -> Vec<Arc<OpenStage>> {
        let mut live = self.live.lock();
        live.retain(|l| !matches!(*l.gate.read(), Gate::Lost));
        live.retain(|l| {
            l.sealed().is_none_or(|s| refuse_if_finished(l.stage.draft()).is_ok() && !s.is_withdrawn().unwrap_or(false))
        });
        self.made.lock().retain(|(artifact, id)| {
            id.as_ref().is_none_or(|id| refuse_if_finished(&self.draft(artifact, id)).is_ok())
        });
        live.clone()
    }

    /// The runs that this mount holds.
    pub(super) fn runs(&self) -> Vec<Arc<OpenStage>> {
        self.live.lock().clone()
    }

    fn find_held(&self, artifact: &ArtifactName, id: &DistributedId, run: &RunId) -> Option<Arc<OpenStage>> {
        self.held().into_iter().find(|l| l.is_of(artifact, id, run))
    }

    /// Opens a run's stage, unless this mount has it.
    fn open(
        &self,
        artifact: &ArtifactName,
        id: &DistributedId,
        run: &RunId,
        made: impl FnOnce(&OpenStage) -> Answer<()>,
    ) -> Answer<Arc<OpenStage>> {
        let _one = self.opening.lock();
        if let Some(found) = self.find_held(artifact, id, run) {
            return Ok(found);
        }
        let failed = |e: &Error, errno: i32| {
            self.log.error(&format!("staging of {artifact}, {id}, {run}"), e);
            errno
        };
        let draft = self.draft(artifact, id);
        refuse_if_finished(&draft).map_err(|e| failed(&e, libc::EROFS))?;
        let record = RunRecord { id: run.clone(), group: None, job_type: None };
        let open = || {
            let stage = Stage::open(&draft, &record, None, Resume::Continue)?;
            // By this note commands that are told only whose it is find the mount.
            let noted = stage.note_mount(&self.at.join(artifact.as_str()).join(id.as_str()).join(run.as_str()));
            let live = OpenStage::new(stage)?;
            noted.inspect_err(|_| drop(live.stage.discard_if_unused()))?;
            Ok(live)
        };
        let live = Arc::new(open().map_err(|e| failed(&e, of_error(&e)))?);
        made(&live).inspect_err(|_| drop(live.stage.discard_if_unused()))?;
        self.live.lock().push(live.clone());
        Ok(live)
    }

    fn forget(&self, gone: &Arc<OpenStage>) {
        self.live.lock().retain(|l| !Arc::ptr_eq(l, gone));
    }

    /// The names in a directory above the runs.
    fn names(&self, kind: &Kind) -> Answer<BTreeSet<String>> {
        let (held, made) = (self.held(), self.made.lock().clone());
        let open = stages(&self.store).map_err(|e| of_error(&e))?;
        let open = open.iter().filter(|s| s.state == StageState::Open).map(|s| &s.record);
        let records = open.chain(held.iter().map(|l| l.stage.record()));
        let mut out: BTreeSet<String> = match kind {
            Kind::Store => {
                records.map(|r| r.artifact.to_string()).chain(made.iter().map(|(a, _)| a.to_string())).collect()
            }
            Kind::Artifact(artifact) => {
                let made = made
                    .iter()
                    .filter(|(a, _)| a == artifact)
                    .filter_map(|(_, id)| id.as_ref().map(ToString::to_string));
                records.filter(|r| r.artifact == *artifact).map(|r| r.distributed_id.to_string()).chain(made).collect()
            }
            Kind::Draft(artifact, id) => records
                .filter(|r| r.artifact == *artifact && r.distributed_id == *id)
                .map(|r| r.run.id.to_string())
                .collect(),
            Kind::Run(..) | Kind::In(_) => return Err(libc::ENOTDIR),
        };
        // An id that cannot be a file's name is reached by commands only.
        out.retain(|n| !n.contains('/') && n != "." && n != ".." && n.len() <= 255);
        Ok(out)
    }

    /// Whether `below` is there to be found. Any artifact of the store is, also while nobody stages for it.
    fn has(&self, kind: &Kind, name: &str, below: &Kind) -> Answer<bool> {
        let known = match below {
            Kind::Artifact(name) => artifact::find(&self.store, name).map_err(|e| of_error(&e))?.is_some(),
            _ => false,
        };
        Ok(known || self.names(kind)?.contains(name))
    }
}

impl OpenStage {
    fn is_of(&self, artifact: &ArtifactName, id: &DistributedId, run: &RunId) -> bool {
        let record = self.stage.record();
        (&record.artifact, &record.distributed_id, &record.run.id) == (artifact, id, run)
    }
}

/// What `name` in a directory above the runs would be; EINVAL for what cannot be a name there.
fn below(kind: &Kind, name: &str) -> Answer<Kind> {
    let invalid = |_: Error| libc::EINVAL;
    match kind {
        Kind::Store => ArtifactName::parse(name).map(Kind::Artifact).map_err(invalid),
        Kind::Artifact(artifact) => {
            DistributedId::parse(name).map(|id| Kind::Draft(artifact.clone(), id)).map_err(invalid)
        }
        Kind::Draft(artifact, id) => {
            RunId::parse(name).map(|run| Kind::Run(artifact.clone(), id.clone(), run)).map_err(invalid)
        }
        Kind::Run(..) | Kind::In(_) => Err(libc::ENOTDIR),
    }
}

fn text(name: &OsStr) -> Answer<&str> {
    name.to_str().ok_or(libc::EINVAL)
}

impl StagingTree {
    fn above(&self) -> Answer<&RunNamespace> {
        self.all.as_ref().ok_or(libc::EPERM)
    }

    pub(super) fn names_above(&self, kind: &Kind) -> Answer<Vec<OsString>> {
        Ok(self.above()?.names(kind)?.into_iter().map(OsString::from).collect())
    }

    /// What a directory above the runs looks like; a run's that nobody holds, as it lies in the store.
    pub(super) fn stat_above(&self, kind: &Kind) -> Answer<Stat> {
        let Kind::Run(artifact, id, run) = kind else { return Ok(self.nowhere()) };
        let all = self.above()?;
        let draft = all.draft(artifact, id);
        let stage = stages(&all.store)
            .map_err(|e| of_error(&e))?
            .into_iter()
            .find(|s| s.state == StageState::Open && s.is_of(&draft, run));
        let directory = all.store.layout().stage(stage.ok_or(libc::ENOENT)?.token());
        Backing::open(&directory).and_then(|b| b.stat(Path::new(""))).map_err(errno)
    }

    pub(super) fn lookup_above(&self, parent: u64, kind: &Kind, name: &OsStr) -> Answer<Attr> {
        let all = self.above()?;
        let text = text(name).map_err(|_| libc::ENOENT)?;
        let mut found = below(kind, text).map_err(|_| libc::ENOENT)?;
        if !all.has(kind, text, &found)? {
            return Err(libc::ENOENT);
        }
        if let Kind::Run(artifact, id, run) = &found
            && let Some(live) = all.find_held(artifact, id, run)
        {
            found = Kind::In(live);
        }
        self.enter_above(parent, name, found)
    }

    fn enter_above(&self, parent: u64, name: &OsStr, below: Kind) -> Answer<Attr> {
        let stat = match &below {
            Kind::In(live) => self.stat_in(&At::top(live.clone()))?,
            above => self.stat_above(above)?,
        };
        let id = self.table.write().enter_above(parent, name, below);
        Ok(Self::numbered(stat, id))
    }

    pub(super) fn make_above(&self, parent: u64, kind: &Kind, name: &OsStr, mode: u32, caller: Caller) -> Answer<Attr> {
        let all = self.above()?;
        let text = text(name)?;
        let new = below(kind, text)?;
        if all.has(kind, text, &new)? {
            return Err(libc::EEXIST);
        }
        let new = match new {
            Kind::Run(artifact, id, run) => Kind::In(all.open(&artifact, &id, &run, |live| {
                if (caller.uid, caller.gid) != self.owner {
                    live.backing.chown(Path::new(""), caller.uid, caller.gid).map_err(errno)?;
                }
                live.backing.chmod(Path::new(""), mode & 0o7777).map_err(errno)
            })?),
            other => {
                match &other {
                    Kind::Artifact(a) => drop(all.made.lock().insert((a.clone(), None))),
                    Kind::Draft(a, id) => drop(all.made.lock().insert((a.clone(), Some(id.clone())))),
                    Kind::Store | Kind::Run(..) | Kind::In(_) => {}
                }
                other
            }
        };
        self.enter_above(parent, name, new)
    }

    /// The user whose run a node is the top of, if its stage was left open and this mount has not taken it up.
    pub(super) fn owner_of_open(&self, id: u64) -> Option<u32> {
        let spot = self.table.read().spot(id).ok()?;
        let Resolved::Above(kind @ Kind::Run(..)) = spot else { return None };
        self.stat_above(&kind).ok().map(|stat| stat.st_uid)
    }

    /// The user to whom the run belongs that a node is in.
    pub(super) fn owner_of_run(&self, id: u64) -> Option<u32> {
        let live = self.table.read().live(id).cloned()?;
        live.backing.stat(Path::new("")).ok().map(|stat| stat.st_uid)
    }

    /// Goes on with a stage that was left open.
    pub(super) fn take_up(&self, artifact: &ArtifactName, id: &DistributedId, run: &RunId) -> Answer<Arc<OpenStage>> {
        self.above()?.open(artifact, id, run, |_| Ok(()))
    }

    /// Gives up a run's stage in which nothing is, or takes away a directory that exists in this mount alone.
    pub(super) fn remove_above(&self, kind: &Kind, name: &OsStr) -> Answer<()> {
        let all = self.above()?;
        let gone = below(kind, text(name)?)?;
        if let Kind::Run(artifact, id, run) = &gone {
            return self.discard(all, &self.take_up(artifact, id, run)?);
        }
        if !all.names(&gone)?.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        let mut made = all.made.lock();
        match gone {
            Kind::Artifact(a) => made.retain(|(other, _)| *other != a),
            Kind::Draft(a, id) => made.retain(|(other, i)| !(*other == a && i.as_ref() == Some(&id))),
            Kind::Store | Kind::Run(..) | Kind::In(_) => {}
        }
        Ok(())
    }

    fn discard(&self, all: &RunNamespace, live: &Arc<OpenStage>) -> Answer<()> {
        let mut gate = live.gate.write();
        if !matches!(*gate, Gate::Open) {
            return Err(libc::EROFS); // what is sealed is taken out by `cairn draft drop`, not by accident
        }
        if !self.handles.writers(live).is_empty() {
            return Err(libc::EBUSY);
        }
        // From here on nobody changes it through this mount, and no other has it.
        *gate = Gate::Closed;
        let given_up = live.stage.give_up_if_empty();
        if matches!(given_up, Ok(false)) {
            *gate = Gate::Open;
            return Err(libc::ENOTEMPTY);
        }
        all.forget(live);
        given_up.map(drop).map_err(|e| of_error(&e))
    }
}
