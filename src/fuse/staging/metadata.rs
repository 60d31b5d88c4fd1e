//! Changing the size, the mode, the owner, the times and the extended attributes of what is in a run.

use super::handles::{OpenContent, OpenFile};
use super::table::{ResolvedNode, RunPath};
use super::tree::{Attr, StagingTree};
use crate::disk::backing::{self, Backing, SetTime};
use crate::fuse::errno::{ErrnoResult, errno_of_io};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What a change of a file's metadata is done on.
enum Target {
    Open(Arc<OpenFile>),
    Path(RunPath),
}

/// Which attributes to change.
pub(super) struct AttrChange {
    pub(super) size: Option<u64>,
    /// Whether a change of the size leaves the set-user-id and set-group-id bits.
    pub(super) keeps_privileges: bool,
    pub(super) owner: (Option<u32>, Option<u32>),
    pub(super) mode: Option<u32>,
    /// The access time and the modification time.
    pub(super) times: (Option<SetTime>, Option<SetTime>),
}

impl StagingTree {
    /// Changes attributes of a node, and returns all of them.
    pub(super) fn set_attributes(&self, id: u64, handle: Option<u64>, change: AttrChange) -> ErrnoResult<Attr> {
        if let Some(size) = change.size {
            self.truncate(id, handle, size, !change.keeps_privileges)?;
        }
        if change.owner != (None, None) {
            self.set_owner(id, change.owner.0, change.owner.1)?;
        }
        if let Some(mode) = change.mode {
            self.set_mode(id, mode)?;
        }
        if change.times.0.is_some() || change.times.1.is_some() {
            self.set_times(id, change.times.0, change.times.1)?;
        }
        self.attributes(id, handle)
    }

    /// Where to change a node: in the open file if it is open for writing, else by its path. A file without a name is
    /// changed through an open file.
    fn target(&self, id: u64, handle: Option<u64>) -> ErrnoResult<Target> {
        if let Some(open) = handle.and_then(|h| self.handles.file(h).ok()).filter(|f| f.writer.is_some()) {
            return Ok(Target::Open(open));
        }
        match self.resolve_in_run(id) {
            Ok((_, at)) => Ok(Target::Path(at)),
            Err(e) => self.handles.of_node(id).map(Target::Open).ok_or(e),
        }
    }

    /// Changes the metadata of a file: by its path, or through the open file if it has no name.
    fn change_metadata(
        &self,
        id: u64,
        by_path: impl FnOnce(&Backing, &Path) -> io::Result<()>,
        of_open: impl FnOnce(&File) -> io::Result<()>,
    ) -> ErrnoResult<()> {
        match self.target(id, None)? {
            Target::Path(at) => {
                let _change = at.run.begin_change()?;
                by_path(at.backing(), at.path()).map_err(errno_of_io)
            }
            Target::Open(open) => {
                let _change = open.run.begin_change()?;
                let OpenContent::File(file) = &open.bytes else { return Err(libc::EROFS) };
                of_open(file).map_err(errno_of_io)
            }
        }
    }

    fn truncate(&self, id: u64, handle: Option<u64>, size: u64, strip: bool) -> ErrnoResult<()> {
        let set = |file: &std::fs::File| -> ErrnoResult<()> {
            backing::set_length(file, size).map_err(errno_of_io)?;
            if strip { strip_privileges(file) } else { Ok(()) }
        };
        match self.target(id, handle)? {
            Target::Open(open) => {
                let _change = open.run.begin_change()?;
                let OpenContent::File(file) = &open.bytes else { return Err(libc::EROFS) };
                set(file)
            }
            Target::Path(at) => {
                let _change = at.run.begin_change()?;
                set(&at.backing().open_at(at.path(), libc::O_WRONLY, 0).map_err(errno_of_io)?)
            }
        }
    }

    fn set_mode(&self, id: u64, mode: u32) -> ErrnoResult<()> {
        let mode = mode & 0o7777;
        self.change_metadata(id, |backing, path| backing.chmod(path, mode), |file| backing::set_mode(file, mode))
    }

    fn set_owner(&self, id: u64, uid: Option<u32>, gid: Option<u32>) -> ErrnoResult<()> {
        let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
        self.change_metadata(
            id,
            |backing, path| backing.chown(path, uid, gid),
            |file| backing::set_owner(file, uid, gid),
        )
    }

    fn set_times(&self, id: u64, accessed: Option<SetTime>, modified: Option<SetTime>) -> ErrnoResult<()> {
        self.change_metadata(
            id,
            |backing, path| backing.set_times(path, accessed, modified),
            |file| backing::set_times_open(file, accessed, modified),
        )
    }

    pub(super) fn set_xattr(&self, id: u64, name: &OsStr, value: &[u8], flags: i32) -> ErrnoResult<()> {
        refuse_access_list(name)?;
        self.table.write().has_xattrs(id); // before it has, so that it is never denied afterwards
        let (_table, at) = self.resolve_in_run(id)?;
        let _change = at.run.begin_change()?;
        at.backing().set_xattr(at.path(), name, value, flags).map_err(errno_of_io)
    }

    pub(super) fn get_xattr(&self, id: u64, name: &OsStr) -> ErrnoResult<Vec<u8>> {
        refuse_access_list(name)?;
        // Before the first write to each file the kernel asks for security.capability.
        if name == "security.capability" && self.table.read().has_no_xattrs(id) {
            return Err(libc::ENODATA);
        }
        let (_table, ResolvedNode::InRun(at)) = self.resolve(id)? else { return Err(libc::ENODATA) };
        match at.run.sealed() {
            Some(_) => Err(libc::ENODATA),
            None => at.backing().get_xattr(at.path(), name).map_err(errno_of_io),
        }
    }

    pub(super) fn list_xattr(&self, id: u64) -> ErrnoResult<Vec<u8>> {
        let (_table, ResolvedNode::InRun(at)) = self.resolve(id)? else { return Ok(Vec::new()) };
        if at.run.sealed().is_some() {
            return Ok(Vec::new());
        }
        let names = at.backing().list_xattr(at.path()).map_err(errno_of_io)?;
        let is_shown = |name: &&[u8]| !is_access_list(name.strip_suffix(&[0]).unwrap_or(name));
        Ok(names.split_inclusive(|b| *b == 0).filter(is_shown).flatten().copied().collect())
    }

    pub(super) fn remove_xattr(&self, id: u64, name: &OsStr) -> ErrnoResult<()> {
        refuse_access_list(name)?;
        let (_table, at) = self.resolve_in_run(id)?;
        let _change = at.run.begin_change()?;
        at.backing().remove_xattr(at.path(), name).map_err(errno_of_io)
    }
}

pub(super) fn strip_privileges(file: &std::fs::File) -> ErrnoResult<()> {
    let stat = backing::stat_open(file).map_err(errno_of_io)?;
    let mut mode = stat.st_mode & 0o7777;
    if mode & libc::S_ISUID != 0 {
        mode &= !libc::S_ISUID;
    }
    if mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 {
        mode &= !libc::S_ISGID;
    }
    if mode == stat.st_mode & 0o7777 { Ok(()) } else { backing::set_mode(file, mode).map_err(errno_of_io) }
}

/// POSIX ACLs: the kernel would not keep to them in a mount like this.
fn is_access_list(name: &[u8]) -> bool {
    matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn refuse_access_list(name: &OsStr) -> ErrnoResult<()> {
    if is_access_list(name.as_bytes()) { Err(libc::EOPNOTSUPP) } else { Ok(()) }
}
