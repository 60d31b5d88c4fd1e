//! The tree of a staging mount: resolves the nodes in requests to runs and paths; look-ups and attributes. Requests
//! that change or open files are in `entries`, `file_io`, `metadata`, `listing`, and `namespace_changes` (the
//! directories above the runs).

use super::attributes;
use super::handles::{Handles, OpenContent, OpenFile};
use super::open_stage::OpenStage;
use super::run_namespace::{RunNamespace, child, name_text};
use super::table::{NodeKind, NodeTable, ROOT, ResolvedNode, RunPath, inode_key};
use crate::clock;
use crate::disk::backing::{self, Backing, Stat};
use crate::fuse::errno::{ErrnoResult, errno_of_io};
use crate::fuse::log::Log;
use crate::mount;
use parking_lot::{RwLock, RwLockReadGuard};
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

/// What a staging mount shows.
pub(super) struct StagingTree {
    pub(super) table: RwLock<NodeTable>,
    pub(super) handles: Handles,
    /// The directories above the runs, in a mount of all runs.
    pub(super) all: Option<RunNamespace>,
    pub(super) owner: (u32, u32),
    mounted_at: i64,
    /// The umask of this process. The kernel has applied the caller's umask already.
    pub(super) umask: u32,
    /// The log, in a mount of one run.
    log: Option<Log>,
}

/// The attributes of a node, with the number by which the kernel knows it.
pub(super) type Attr = Stat;

impl StagingTree {
    /// A tree with one run's directory.
    pub(super) fn one(run: Arc<OpenStage>, owner: (u32, u32), log: Log) -> StagingTree {
        StagingTree {
            table: RwLock::new(NodeTable::new(NodeKind::InRun(run))),
            handles: Handles::default(),
            all: None,
            owner,
            mounted_at: clock::unix_now(),
            umask: mount::umask(),
            log: Some(log),
        }
    }

    /// The runs that this mount holds.
    pub(super) fn runs(&self) -> Vec<Arc<OpenStage>> {
        match &self.all {
            Some(all) => all.runs(),
            None => self.table.read().run_of(ROOT).cloned().into_iter().collect(),
        }
    }

    /// The mount's log.
    pub(super) fn log(&self) -> Option<&Log> {
        self.all.as_ref().map(|all| &all.log).or(self.log.as_ref())
    }

    /// A tree with the directories of all runs, `NAME/ID/RUN`.
    pub(super) fn all(all: RunNamespace, owner: (u32, u32)) -> StagingTree {
        StagingTree {
            table: RwLock::new(NodeTable::new(NodeKind::Root)),
            handles: Handles::default(),
            all: Some(all),
            owner,
            mounted_at: clock::unix_now(),
            umask: mount::umask(),
            log: None,
        }
    }

    /// Where a node is. The table stays locked so that no name on the path changes. If the node is the directory of a
    /// run that is not open here, the run is resumed.
    pub(super) fn resolve(&self, id: u64) -> ErrnoResult<(RwLockReadGuard<'_, NodeTable>, ResolvedNode)> {
        loop {
            let table = self.table.read();
            match table.resolve(id)? {
                ResolvedNode::Namespace(NodeKind::UnopenedRun(artifact, draft, run)) => {
                    drop(table);
                    let run = self.namespace()?.open_run(&artifact, &draft, &run)?;
                    self.table.write().set_open(id, run);
                }
                resolved => return Ok((table, resolved)),
            }
        }
    }

    /// Where a node is that must be in a run.
    pub(super) fn resolve_in_run(&self, id: u64) -> ErrnoResult<(RwLockReadGuard<'_, NodeTable>, RunPath)> {
        match self.resolve(id)? {
            (table, ResolvedNode::InRun(at)) => Ok((table, at)),
            (_, ResolvedNode::Namespace(_)) => Err(libc::EPERM),
        }
    }

    /// Whether a node is in a run, where files are changed through this mount only.
    pub(super) fn is_in_run(&self, id: u64) -> bool {
        self.table.read().run_of(id).is_some()
    }

    /// Runs `work`, which changes a node or `name` in it. Notes a refusal that is not the program's own fault.
    pub(super) fn change<T>(
        &self,
        doing: &str,
        id: u64,
        name: Option<&OsStr>,
        work: impl FnOnce() -> ErrnoResult<T>,
    ) -> ErrnoResult<T> {
        const REFUSALS: [i32; 7] =
            [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS, libc::ESTALE, libc::ENFILE, libc::EMFILE];
        let done = work();
        if let Some(e) = done.as_ref().err().copied().filter(|e| REFUSALS.contains(e))
            && let Ok(ResolvedNode::InRun(at)) = self.table.read().resolve(id)
            && at.run.sealed().is_none()
        {
            let at = name.map_or_else(|| at.clone(), |name| at.join(name));
            at.run.refusals.note(|| format!("{doing} {}: {}", at.label(), io::Error::from_raw_os_error(e)));
        }
        done
    }

    /// The attributes of a directory that exists only in the mount.
    pub(super) fn virtual_directory(&self) -> Stat {
        // As in /tmp, each user may make directories but cannot remove those of others.
        let mode = if self.all.as_ref().is_some_and(|all| all.shared) { 0o1777 } else { 0o755 };
        attributes::directory(mode, self.owner, self.mounted_at)
    }

    pub(super) fn numbered(mut stat: Stat, id: u64) -> Attr {
        stat.st_ino = id;
        stat
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> ErrnoResult<Attr> {
        let (changes, run, stat) = {
            let (table, resolved) = self.resolve(parent)?;
            match resolved {
                ResolvedNode::InRun(at) => (table.changes(), at.run.clone(), self.stat_in(&at.join(name))?),
                ResolvedNode::Namespace(kind) => {
                    drop(table);
                    return self.lookup_in_namespace(parent, &kind, name);
                }
            }
        };
        let mut table = self.table.write();
        if table.changes() == changes {
            let id = table.enter(parent, name, inode_key(&run, &stat), stat.st_mode)?;
            return Ok(Self::numbered(stat, id));
        }
        // A name was removed meanwhile, perhaps this one, and another file may have got its inode number. So look again
        // while the table is locked.
        let ResolvedNode::InRun(at) = table.resolve(parent)? else { return Err(libc::ENOENT) };
        let stat = self.stat_in(&at.join(name))?;
        let id = table.enter(parent, name, inode_key(&at.run, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    pub(super) fn stat_in(&self, at: &RunPath) -> ErrnoResult<Stat> {
        match at.sealed() {
            Some(sealed) => sealed.stat(at.path(), self.owner),
            None => at.backing().stat(at.path()).map_err(errno_of_io),
        }
    }

    pub(super) fn attributes(&self, id: u64, handle: Option<u64>) -> ErrnoResult<Attr> {
        if let Some(file) = handle.and_then(|h| self.handles.file(h).ok())
            && let OpenContent::File(file) = &file.bytes
        {
            return backing::stat_open(file).map(|s| Self::numbered(s, id)).map_err(errno_of_io);
        }
        let table = self.table.read();
        let found = match table.resolve(id) {
            Ok(ResolvedNode::InRun(at)) => self.stat_in(&at),
            Ok(ResolvedNode::Namespace(kind)) => {
                drop(table);
                self.stat_in_namespace(&kind)
            }
            Err(e) => Err(e),
        };
        match found {
            Ok(stat) => Ok(Self::numbered(stat, id)),
            // The file has no name, but is open.
            Err(e) => match self.handles.of_node(id).as_deref() {
                Some(OpenFile { bytes: OpenContent::File(file), .. }) => {
                    backing::stat_open(file).map(|s| Self::numbered(s, id)).map_err(errno_of_io)
                }
                _ => Err(e),
            },
        }
    }

    /// Answers access(2). The kernel asks in a mount that only the mounting user may use, where it does not check
    /// modes. A sealed run takes no changes.
    pub(super) fn access(&self, id: u64, mode: i32) -> ErrnoResult<()> {
        let (_table, ResolvedNode::InRun(at)) = self.resolve(id)? else { return Ok(()) };
        match at.run.sealed() {
            Some(_) if mode & libc::W_OK != 0 => Err(libc::EROFS),
            Some(_) if mode & libc::X_OK != 0 && self.stat_in(&at)?.st_mode & 0o111 == 0 => Err(libc::EACCES),
            Some(_) => Ok(()),
            None => at.backing().access(at.path(), mode).map_err(errno_of_io),
        }
    }

    pub(super) fn read_link(&self, id: u64) -> ErrnoResult<OsString> {
        let (_table, at) = self.resolve_in_run(id)?;
        match at.sealed() {
            Some(sealed) => sealed.read_link(at.path()),
            None => at.backing().read_link(at.path()).map_err(errno_of_io),
        }
    }

    pub(super) fn statfs(&self, id: u64) -> ErrnoResult<libc::statvfs> {
        match self.table.read().run_of(id) {
            Some(run) => run.backing.room().map_err(errno_of_io),
            None => {
                let all = self.all.as_ref().ok_or(libc::EIO)?;
                Backing::open(all.store.root()).and_then(|b| b.room()).map_err(errno_of_io)
            }
        }
    }

    pub(super) fn forget(&self, id: u64, count: u64) {
        let gone = self.table.write().forget(id, count);
        drop(gone); // without the lock of the table: closing a large removed file can take long
    }

    /// The directories above the runs; EPERM in a mount of one run.
    pub(super) fn namespace(&self) -> ErrnoResult<&RunNamespace> {
        self.all.as_ref().ok_or(libc::EPERM)
    }

    /// The attributes of a directory above the runs, or of a run's directory that is not open here.
    pub(super) fn stat_in_namespace(&self, kind: &NodeKind) -> ErrnoResult<Stat> {
        match kind {
            NodeKind::UnopenedRun(artifact, id, run_id) => self.namespace()?.stat_unopened(artifact, id, run_id),
            _ => Ok(self.virtual_directory()),
        }
    }

    pub(super) fn lookup_in_namespace(&self, parent: u64, kind: &NodeKind, name: &OsStr) -> ErrnoResult<Attr> {
        let all = self.namespace()?;
        let text = name_text(name).map_err(|_| libc::ENOENT)?;
        let mut found = child(kind, text).map_err(|_| libc::ENOENT)?;
        if !all.has(kind, text, &found)? {
            return Err(libc::ENOENT);
        }
        if let NodeKind::UnopenedRun(artifact, id, run_id) = &found
            && let Some(run) = all.find_held(artifact, id, run_id)
        {
            found = NodeKind::InRun(run);
        }
        self.enter_in_namespace(parent, name, found)
    }

    pub(super) fn enter_in_namespace(&self, parent: u64, name: &OsStr, below: NodeKind) -> ErrnoResult<Attr> {
        let stat = match &below {
            NodeKind::InRun(run) => self.stat_in(&RunPath::top(run.clone()))?,
            above => self.stat_in_namespace(above)?,
        };
        let id = self.table.write().enter_in_namespace(parent, name, below);
        Ok(Self::numbered(stat, id))
    }
}
