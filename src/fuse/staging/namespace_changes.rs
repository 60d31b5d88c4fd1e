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

    /// Gives up a run's stage in which nothing is, or takes away a directory that exists in this mount alone.
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
            return Err(libc::EROFS); // what is sealed is taken out by `cairn draft drop`, not by accident
        }
        if !self.handles.writers(run).is_empty() {
            return Err(libc::EBUSY);
        }
        // From here on nobody changes it through this mount, and no other has it.
        *gate = Gate::Closed;
        let given_up = run.stage.discard_if_empty();
        if matches!(given_up, Ok(false)) {
            *gate = Gate::Open;
            return Err(libc::ENOTEMPTY);
        }
        all.forget(run);
        given_up.map(drop).map_err(|e| errno_of(&e, Subject::Run))
    }

    /// The user whose run a node is the top of, if its stage was left open and this mount has not taken it up.
    pub(super) fn owner_of_open(&self, id: u64) -> Option<u32> {
        let resolved = self.table.read().resolve(id).ok()?;
        let ResolvedNode::Namespace(kind @ NodeKind::UnopenedRun(..)) = resolved else { return None };
        self.stat_in_namespace(&kind).ok().map(|stat| stat.st_uid)
    }

    /// The user to whom the run belongs that a node is in.
    pub(super) fn owner_of_run(&self, id: u64) -> Option<u32> {
        let run = self.table.read().run_of(id).cloned()?;
        run.backing.stat(Path::new("")).ok().map(|stat| stat.st_uid)
    }
}
