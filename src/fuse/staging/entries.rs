//! Making, removing and renaming entries of a run's directories.

use super::handles::{OpenContent, OpenFile};
use super::open_stage::{LONGEST_PATH, OpenStage};
use super::table::{NodeTable, ResolvedNode, RunPath, inode_key};
use super::tree::{Attr, StagingTree};
use crate::disk::backing::{self, Backing, Caller, DirStream, Stat};
use crate::fuse::errno::{ErrnoResult, errno_of_io};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file with more blocks than this (of 512 bytes) takes much room when it is kept without a name.
const LARGE_BLOCKS: i64 = 2048;

impl StagingTree {
    /// Makes an entry `name` in a run's directory with the caller's credentials, and enters it in the table. `mode` is
    /// its permissions; `None` for what has none of its own (a symlink).
    fn make(
        &self,
        parent: u64,
        name: &OsStr,
        mode: Option<u32>,
        caller: Caller,
        work: impl Fn(&Backing, &Path) -> io::Result<()>,
    ) -> ErrnoResult<Attr> {
        let (run, stat) = {
            let (_table, directory) = self.resolve_in_run(parent)?;
            let _change = directory.run.begin_change()?;
            let at = directory.new_name(name)?;
            let (backing, path) = (at.backing(), at.path());
            let own = |_: &()| backing.chown(path, caller.uid, caller.gid);
            backing::with_fs_credentials(caller, || work(backing, path), own).map_err(errno_of_io)?;
            if let Some(mode) = mode.filter(|mode| mode & self.umask != 0) {
                // It keeps the set-group-id bit that it inherited from the directory.
                let inherited = backing.stat(path).map_err(errno_of_io)?.st_mode & libc::S_ISGID;
                backing.chmod(path, mode & 0o7777 | inherited).map_err(errno_of_io)?;
            }
            (directory.run.clone(), backing.stat(path).map_err(errno_of_io)?)
        };
        let id = self.table.write().enter(parent, name, inode_key(&run, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    pub(super) fn make_directory(&self, parent: u64, name: &OsStr, mode: u32, caller: Caller) -> ErrnoResult<Attr> {
        let resolved = self.resolve(parent)?.1; // releases the table, which changes
        if let ResolvedNode::Namespace(kind) = resolved {
            return self.make_in_namespace(parent, &kind, name, mode, caller);
        }
        self.make(parent, name, Some(mode), caller, |backing, at| backing.mkdir(at, mode & 0o7777))
    }

    pub(super) fn make_node(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        device: u64,
        caller: Caller,
    ) -> ErrnoResult<Attr> {
        self.make(parent, name, Some(mode), caller, |backing, at| backing.mknod(at, mode, device))
    }

    pub(super) fn make_symlink(&self, parent: u64, name: &OsStr, target: &OsStr, caller: Caller) -> ErrnoResult<Attr> {
        self.make(parent, name, None, caller, |backing, at| backing.symlink(target, at))
    }

    pub(super) fn link(&self, id: u64, parent: u64, name: &OsStr) -> ErrnoResult<Attr> {
        let (run, stat) = {
            let table = self.table.read();
            let (ResolvedNode::InRun(from), ResolvedNode::InRun(to)) = (table.resolve(id)?, table.resolve(parent)?)
            else {
                return Err(libc::EPERM);
            };
            if !Arc::ptr_eq(&from.run, &to.run) {
                return Err(libc::EXDEV);
            }
            let _change = from.run.begin_change()?;
            let to = to.new_name(name)?;
            from.backing().link(from.path(), to.backing(), to.path()).map_err(errno_of_io)?;
            let stat = to.backing().stat(to.path()).map_err(errno_of_io)?;
            (from.run.clone(), stat)
        };
        let id = self.table.write().enter(parent, name, inode_key(&run, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    /// Whether to keep a removed file by a descriptor. A large file that is not open is not kept: its space must be
    /// free when the removal returns, and the kernel repeats an `open` that meets ESTALE. A file that is replaced is
    /// kept whatever its size, because the repeated `open` could meet the next replacement.
    fn is_worth_keeping(&self, table: &NodeTable, run: &OpenStage, stat: &Stat) -> bool {
        let is_open = || table.known(inode_key(run, stat)).is_some_and(|id| self.handles.of_node(id).is_some());
        let is_large = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_blocks > LARGE_BLOCKS;
        !is_large || is_open()
    }

    pub(super) fn remove(&self, parent: u64, name: &OsStr, directory: bool) -> ErrnoResult<()> {
        let mut table = self.table.write();
        let at = match table.resolve(parent)? {
            ResolvedNode::InRun(at) => at.join(name),
            ResolvedNode::Namespace(kind) => {
                drop(table);
                return self.remove_in_namespace(&kind, name);
            }
        };
        let _change = at.run.begin_change()?;
        let (stat, file) = found_and_kept(&at).map_err(errno_of_io)?;
        let file = file.filter(|_| self.is_worth_keeping(&table, &at.run, &stat));
        // If it is not kept, it is not open.
        let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        let removed = if is_file && !directory && file.is_some() {
            at.run.removed.unlink(at.backing(), at.path())
        } else {
            at.backing().unlink(at.path(), directory)
        };
        removed.map_err(errno_of_io)?;
        table.unnamed(parent, name, inode_key(&at.run, &stat), directory || stat.st_nlink <= 1, file);
        Ok(())
    }

    pub(super) fn rename(
        &self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
    ) -> ErrnoResult<()> {
        let mut table = self.table.write();
        let (ResolvedNode::InRun(from), ResolvedNode::InRun(to)) = (table.resolve(parent)?, table.resolve(new_parent)?)
        else {
            return Err(libc::EPERM);
        };
        if !Arc::ptr_eq(&from.run, &to.run) {
            return Err(libc::EXDEV);
        }
        let run = from.run.clone();
        let _change = run.begin_change()?;
        let (from, to) = (from.join(name), to.new_name(new_name)?);
        let stat = from.backing().stat(from.path()).map_err(errno_of_io)?;
        let moved = inode_key(&run, &stat);
        let replaced = found_and_kept(&to).ok();
        refuse_too_deep(&stat, &from, &to)?;
        if let Some((other, _)) = replaced.as_ref().filter(|_| flags & libc::RENAME_EXCHANGE != 0) {
            refuse_too_deep(other, &to, &from)?;
        }
        rename_on_disk((&from, &stat), &to, replaced.as_ref(), flags).map_err(errno_of_io)?;
        if from.backing().stat(from.path()).is_ok_and(|s| inode_key(&run, &s) == moved) {
            return Ok(()); // both are names of one file: rename does nothing then
        }
        match replaced {
            Some((other, _)) if flags & libc::RENAME_EXCHANGE != 0 => {
                table.renamed(inode_key(&run, &other), (new_parent, new_name), (parent, name));
            }
            Some((gone, file)) => {
                let last = gone.st_mode & libc::S_IFMT == libc::S_IFDIR || gone.st_nlink <= 1;
                table.unnamed(new_parent, new_name, inode_key(&run, &gone), last, file);
            }
            None => {}
        }
        table.renamed(moved, (parent, name), (new_parent, new_name));
        Ok(())
    }

    pub(super) fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: i32,
        caller: Caller,
        pid: u32,
    ) -> ErrnoResult<(Attr, u64)> {
        let (at, file, stat) = {
            let (_table, directory) = self.resolve_in_run(parent)?;
            let _change = directory.run.begin_change()?;
            let at = directory.new_name(name)?;
            let (backing, path) = (at.backing(), at.path());
            let how = flags & (libc::O_ACCMODE | libc::O_EXCL | libc::O_NOATIME) | libc::O_CREAT;
            let own = |_: &std::fs::File| backing.chown(path, caller.uid, caller.gid);
            let make = || backing.open_at(path, how, mode & 0o7777);
            let file = backing::with_fs_credentials(caller, make, own).map_err(errno_of_io)?;
            if mode & self.umask != 0 {
                backing::set_mode(&file, mode & 0o7777).map_err(errno_of_io)?;
            }
            let stat = backing::stat_open(&file).map_err(errno_of_io)?;
            (at, file, stat)
        };
        let id = {
            let mut table = self.table.write();
            let id = table.enter(parent, name, inode_key(&at.run, &stat), stat.st_mode)?;
            table.made(id);
            id
        };
        let writer = (flags & libc::O_ACCMODE != libc::O_RDONLY).then_some(pid);
        let label = at.label();
        let handle =
            self.handles.open(OpenFile { bytes: OpenContent::File(file), node: id, run: at.run, writer, label });
        Ok((Self::numbered(stat, id), handle))
    }
}

/// Renames what is at `from` (`stat`) to `to`, over what is there (`replaced`).
fn rename_on_disk(
    (from, stat): (&RunPath, &Stat),
    to: &RunPath,
    replaced: Option<&(Stat, Option<Backing>)>,
    flags: u32,
) -> io::Result<()> {
    let run = &from.run;
    let is_file = |stat: &Stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    let may_be_open = |(old, file): &(Stat, Option<Backing>)| {
        flags == 0 && file.is_some() && is_file(old) && is_file(stat) && inode_key(run, old) != inode_key(run, stat)
    };
    let (source, target) = ((from.backing(), from.path()), (to.backing(), to.path()));
    if replaced.is_some_and(may_be_open) {
        run.removed.rename_over(source, target, flags)
    } else {
        source.0.rename(source.1, target.0, target.1, flags)
    }
}

/// Refuses to move a directory to a place where the paths in it would be too long.
fn refuse_too_deep(moved: &Stat, from: &RunPath, to: &RunPath) -> ErrnoResult<()> {
    let growth = to.length().saturating_sub(from.length());
    if growth == 0 || moved.st_mode & libc::S_IFMT != libc::S_IFDIR || to.nameless().is_some() {
        return Ok(());
    }
    let longest = &from.run.longest;
    let is_near = longest.load(Ordering::Relaxed) + growth > LONGEST_PATH;
    if is_near && to.length() + depth(from.backing(), from.path())? > LONGEST_PATH {
        return Err(libc::ENAMETOOLONG);
    }
    // This is an upper bound: the longest path may be in another directory.
    longest.store(LONGEST_PATH.min(longest.load(Ordering::Relaxed) + growth), Ordering::Relaxed);
    Ok(())
}

/// The length in bytes of the longest path below a directory, with the slash before it.
fn depth(backing: &Backing, directory: &Path) -> ErrnoResult<usize> {
    let (mut longest, mut left) = (0, vec![directory.to_path_buf()]);
    while let Some(at) = left.pop() {
        let open = backing.open_at(&at, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(errno_of_io)?;
        let mut stream = DirStream::of(open).map_err(errno_of_io)?;
        let mut next = 0;
        while let Some(entry) = stream.read(next).map_err(errno_of_io)? {
            next = entry.next;
            if entry.name == "." || entry.name == ".." {
                continue;
            }
            let path = at.join(&entry.name);
            longest = longest.max(path.as_os_str().len() - directory.as_os_str().len());
            let unknown = entry.kind == libc::DT_UNKNOWN;
            let is_directory = || backing.stat(&path).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
            if entry.kind == libc::DT_DIR || (unknown && is_directory()) {
                left.push(path);
            }
        }
    }
    Ok(longest)
}

/// The attributes of what is at a path that is about to be removed, and a descriptor of it unless the process has too
/// many.
fn found_and_kept(at: &RunPath) -> io::Result<(Stat, Option<Backing>)> {
    match at.backing().keep(at.path()) {
        Ok(file) => Ok((file.stat(Path::new(""))?, Some(file))),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            Ok((at.backing().stat(at.path())?, None))
        }
        Err(e) => Err(e),
    }
}
