//! Making and removing the directories above the runs, `NAME/ID/RUN`. Making a run's directory begins a contribution;
//! removing an empty one discards it.

use super::open_stage::{Gate, OpenStage};
use super::run_namespace::{RunNamespace, child, name_text};
use super::table::{NodeKind, ResolvedNode};
use super::tree::{Attr, StagingTree};
use crate::disk::backing::Caller;
use crate::fuse::errno::{ErrnoResult, Subject, errno_of, errno_of_io};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

impl StagingTree {
    pub(super) fn make_in_namespace(
        &self,
        parent: u64,
        kind: &NodeKind,
        name: &OsStr,
        mode: u32,
        caller: Caller,
    ) -> ErrnoResult<Attr> {
        let all = self.namespace()?;
        let text = name_text(name)?;
        let new = child(kind, text)?;
        if all.has(kind, text, &new)? {
            return Err(libc::EEXIST);
        }
        let new = match new {
            NodeKind::UnopenedRun(artifact, id, run_id) => {
                NodeKind::InRun(all.open(&artifact, &id, &run_id, |run| {
                    if (caller.uid, caller.gid) != self.owner {
                        run.backing.chown(Path::new(""), caller.uid, caller.gid).map_err(errno_of_io)?;
                    }
                    run.backing.chmod(Path::new(""), mode & 0o7777).map_err(errno_of_io)
                })?)
            }
            other => {
                match &other {
                    NodeKind::Artifact(a) => drop(all.made.lock().insert((a.clone(), None))),
                    NodeKind::Draft(a, id) => drop(all.made.lock().insert((a.clone(), Some(id.clone())))),
                    NodeKind::Root | NodeKind::UnopenedRun(..) | NodeKind::InRun(_) => {}
                }
                other
            }
        };
        self.enter_in_namespace(parent, name, new)
    }

    /// Discards an empty run, or removes a directory that exists only in this mount.
    pub(super) fn remove_in_namespace(&self, kind: &NodeKind, name: &OsStr) -> ErrnoResult<()> {
        let all = self.namespace()?;
        let gone = child(kind, name_text(name)?)?;
        if let NodeKind::UnopenedRun(artifact, id, run_id) = &gone {
            return self.discard(all, &all.open_run(artifact, id, run_id)?);
        }
        if !all.names(&gone)?.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        let mut made = all.made.lock();
        match gone {
            NodeKind::Artifact(a) => made.retain(|(other, _)| *other != a),
            NodeKind::Draft(a, id) => made.retain(|(other, i)| !(*other == a && i.as_ref() == Some(&id))),
            NodeKind::Root | NodeKind::UnopenedRun(..) | NodeKind::InRun(_) => {}
        }
        Ok(())
    }

    fn discard(&self, all: &RunNamespace, run: &Arc<OpenStage>) -> ErrnoResult<()> {
        let mut gate = run.gate.write();
        if !matches!(*gate, Gate::Open) {
            return Err(libc::EROFS); // `cairn draft drop` removes sealed contributions, not an accidental rmdir
        }
        if !self.handles.writers(run).is_empty() {
            return Err(libc::EBUSY);
        }
        // From here on it cannot be changed through this mount, and no other mount has it.
        *gate = Gate::Closed;
        let discarded = run.stage.discard_if_empty();
        if matches!(discarded, Ok(false)) {
            *gate = Gate::Open;
            return Err(libc::ENOTEMPTY);
        }
        all.forget(run);
        discarded.map(drop).map_err(|e| errno_of(&e, Subject::Run))
    }

    /// The owner of the run whose top directory a node is, if the run was left open and this mount has not resumed it.
    pub(super) fn owner_of_open(&self, id: u64) -> Option<u32> {
        let resolved = self.table.read().resolve(id).ok()?;
        let ResolvedNode::Namespace(kind @ NodeKind::UnopenedRun(..)) = resolved else { return None };
        self.stat_in_namespace(&kind).ok().map(|stat| stat.st_uid)
    }

    /// The owner of the run that contains a node.
    pub(super) fn owner_of_run(&self, id: u64) -> Option<u32> {
        let run = self.table.read().run_of(id).cloned()?;
        run.backing.stat(Path::new("")).ok().map(|stat| stat.st_uid)
    }
}
