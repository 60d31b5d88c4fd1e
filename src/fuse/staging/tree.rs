//! What requests on a staging mount do: paths from the table, system calls on the stage's files, the gate that sealing
//! closes.

use super::attributes;
use super::handles::{Bytes, Handles, OpenDirectory, OpenFile};
use super::removed_inodes::Gone;
use super::run_namespace::RunNamespace;
use super::table::{At, Kind, LONGEST_PATH, ROOT, Resolved, SEALED, Table, key};
use super::watch::Confirmed;
use crate::clock;
use crate::commit::Upserted;
use crate::disk::backing::{self, Backing, Caller, DirStream, SetTime, Stat};
use crate::disk::{list, read_full_at};
use crate::error::{Error, Result};
use crate::fuse::log::Log;
use crate::manifest::{Entry, Found, Tree};
use crate::mount;
use crate::objects::Content;
use crate::staging::Stage;
use crate::store::Store;
use crate::types::RelPath;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A file with more blocks (of 512 bytes) takes much room when it is kept without a name.
const LARGE_BLOCKS: i64 = 2048;

/// An answer, or an error number.
pub(super) type Answer<T> = std::result::Result<T, i32>;

/// A run whose stage this mount holds.
pub(super) struct OpenStage {
    /// What tells its nodes from another run's: no two runs of a process have the same.
    pub(super) number: u64,
    pub(super) stage: Stage,
    pub(super) backing: Backing,
    /// No path in it is longer.
    pub(super) longest: AtomicUsize,
    pub(super) refusals: Refusals,
    /// Changes hold it shared; sealing alone.
    pub(super) gate: RwLock<Gate>,
    pub(super) confirmed: Confirmed,
    gone: Gone,
}

/// Changes that programs were refused though the program did nothing wrong: the disk is full or broken, or the run is
/// being sealed. A seal reports them.
#[derive(Default)]
pub(super) struct Refusals(Mutex<(u64, String)>);

impl Refusals {
    fn note(&self, what: impl FnOnce() -> String) {
        let (count, first) = &mut *self.0.lock();
        *count += 1;
        if *count == 1 {
            *first = what();
        }
    }

    /// How many there were, and the first of them.
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

pub(super) enum Gate {
    /// It takes changes.
    Open,
    /// It is being sealed.
    Sealing,
    /// Sealing it failed, and so did making it open again: somebody else is to seal it.
    Closed,
    /// It is sealed, and shows what was.
    Sealed(Arc<Sealed>),
    /// Its draft is finished without it.
    Finished,
    /// Another mount has taken it over.
    Lost,
}

pub(super) struct Sealed {
    tree: Tree,
    time: i64,
    pub(super) done: Upserted,
    /// The last number of the draft's log at which the contribution was seen to count; 0 before that.
    counted_at: AtomicU64,
}

impl Sealed {
    /// What a contribution shows; nothing, if it was dropped or discarded since, or cannot be read.
    pub(super) fn of(live: &OpenStage, done: &Upserted) -> Sealed {
        let state = done.draft.state().ok();
        let contribution = state.as_ref().and_then(|s| s.contributions.iter().find(|c| c.number == done.number));
        let tree = contribution.and_then(|c| c.tree(live.store()).ok());
        let empty = || Tree::of(&empty_root(), live.store().objects().clone());
        Sealed {
            tree: tree.unwrap_or_else(empty),
            time: clock::unix_now(),
            done: done.clone(),
            counted_at: AtomicU64::new(0),
        }
    }

    /// Whether the contribution was dropped or discarded since: it is in no version then. The log is read whole only
    /// when it has grown.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn is_withdrawn(&self) -> Result<bool> {
        let (last, _) = self.done.draft.last()?;
        if self.counted_at.load(Ordering::Relaxed) == last {
            return Ok(false);
        }
        let state = self.done.draft.state()?;
        let counts = state.contributions.iter().any(|c| c.number == self.done.number);
        if counts {
            self.counted_at.store(state.last, Ordering::Relaxed);
        }
        Ok(!counts)
    }

    fn find(&self, at: &At) -> Answer<Found> {
        let path = RelPath::parse_or_root(at.path().as_os_str().as_bytes()).map_err(|_| libc::ENOENT)?;
        self.tree.lookup(&path).map_err(|_| libc::EIO)?.ok_or(libc::ENOENT)
    }
}

impl OpenStage {
    pub(super) fn new(stage: Stage) -> Result<OpenStage> {
        let directory = stage.directory();
        let backing = Backing::open(&directory).map_err(|e| Error::io("open", &directory, e))?;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // What is in one that was left open is not known.
        let empty = list(&directory)?.is_empty();
        let longest = AtomicUsize::new(if empty { 0 } else { LONGEST_PATH });
        let (refusals, confirmed, gone) = (Refusals::default(), Confirmed::new(), Gone::of(&stage)?);
        let gate = RwLock::new(Gate::Open);
        Ok(OpenStage { number, stage, backing, longest, refusals, gate, confirmed, gone })
    }

    pub(super) fn store(&self) -> &Store {
        self.stage.draft().store()
    }

    /// For the length of a change.
    fn changing(&self) -> Answer<RwLockReadGuard<'_, Gate>> {
        let gate = self.gate.read();
        if !matches!(*gate, Gate::Open) {
            return Err(libc::EROFS);
        }
        if self.confirmed.is_good() {
            return Ok(gate);
        }
        drop(gate);
        self.confirm(None)?;
        let gate = self.gate.read();
        if matches!(*gate, Gate::Open) { Ok(gate) } else { Err(libc::EROFS) }
    }

    pub(super) fn sealed(&self) -> Option<Arc<Sealed>> {
        match &*self.gate.read() {
            Gate::Sealed(sealed) => Some(sealed.clone()),
            _ => None,
        }
    }
}

/// Takes an entry of a listing, with its attributes if it was looked up: its number, the offset after it, `DT_…`, its
/// name. True: there is no room for it.
pub(super) type TakeKnown<'a> = dyn FnMut(Option<&Attr>, u64, i64, u8, &OsStr) -> bool + 'a;

/// What is mounted.
pub(super) struct StagingTree {
    pub(super) table: RwLock<Table>,
    pub(super) handles: Handles,
    /// For a mount of all runs.
    pub(super) all: Option<RunNamespace>,
    pub(super) owner: (u32, u32),
    begun: i64,
    /// The permissions that the process takes from what it makes, where the kernel has taken the caller's already.
    umask: u32,
    /// Of a mount of one run.
    log: Option<Log>,
}

/// What a node is like: its attributes, with the number the kernel knows it by.
pub(super) type Attr = Stat;

pub(super) fn errno(e: io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}

/// What stands in the way of a request that is no system call.
pub(super) fn of_error(e: &Error) -> i32 {
    use crate::error::Kind as Why;
    match e.kind() {
        Why::Usage => libc::EINVAL,
        Why::Conflict => libc::EBUSY,
        Why::NotFound => libc::ENOENT,
        Why::Damaged | Why::Io => e.errno().unwrap_or(libc::EIO),
    }
}

impl StagingTree {
    /// One run's directory.
    pub(super) fn one(live: Arc<OpenStage>, owner: (u32, u32), log: Log) -> StagingTree {
        StagingTree {
            table: RwLock::new(Table::new(Kind::In(live))),
            handles: Handles::default(),
            all: None,
            owner,
            begun: clock::unix_now(),
            umask: mount::umask(),
            log: Some(log),
        }
    }

    /// The runs that this mount holds.
    pub(super) fn runs(&self) -> Vec<Arc<OpenStage>> {
        match &self.all {
            Some(all) => all.runs(),
            None => self.table.read().live(ROOT).cloned().into_iter().collect(),
        }
    }

    /// Where this mount's log lines go.
    pub(super) fn log(&self) -> Option<&Log> {
        self.all.as_ref().map(|all| &all.log).or(self.log.as_ref())
    }

    /// The directories of all runs, `NAME/ID/RUN`.
    pub(super) fn all(all: RunNamespace, owner: (u32, u32)) -> StagingTree {
        StagingTree {
            table: RwLock::new(Table::new(Kind::Store)),
            handles: Handles::default(),
            all: Some(all),
            owner,
            begun: clock::unix_now(),
            umask: mount::umask(),
            log: None,
        }
    }

    /// Where a node is, with the table held so that no name on the way changes. A run's directory whose stage is not
    /// held yet is taken up.
    fn spot(&self, id: u64) -> Answer<(RwLockReadGuard<'_, Table>, Resolved)> {
        loop {
            let table = self.table.read();
            match table.spot(id)? {
                Resolved::Above(Kind::Run(artifact, draft, run)) => {
                    drop(table);
                    let live = self.take_up(&artifact, &draft, &run)?;
                    self.table.write().taken_up(id, live);
                }
                spot => return Ok((table, spot)),
            }
        }
    }

    /// Where a node of a run is.
    fn inside(&self, id: u64) -> Answer<(RwLockReadGuard<'_, Table>, At)> {
        match self.spot(id)? {
            (table, Resolved::At(at)) => Ok((table, at)),
            (_, Resolved::Above(_)) => Err(libc::EPERM),
        }
    }

    /// Whether a node is in a run: what is in one is changed through this mount only.
    pub(super) fn is_in_run(&self, id: u64) -> bool {
        self.table.read().live(id).is_some()
    }

    /// Does a change of a node, or of `name` in it, and notes a refusal that is not the program's own fault.
    pub(super) fn change<T>(
        &self,
        doing: &str,
        id: u64,
        name: Option<&OsStr>,
        work: impl FnOnce() -> Answer<T>,
    ) -> Answer<T> {
        const REFUSALS: [i32; 7] =
            [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS, libc::ESTALE, libc::ENFILE, libc::EMFILE];
        let done = work();
        if let Some(e) = done.as_ref().err().copied().filter(|e| REFUSALS.contains(e))
            && let Ok(Resolved::At(at)) = self.table.read().spot(id)
            && at.live.sealed().is_none()
        {
            let at = name.map_or_else(|| at.clone(), |name| at.join(name));
            at.live.refusals.note(|| format!("{doing} {}: {}", at.label(), io::Error::from_raw_os_error(e)));
        }
        done
    }

    /// What a directory that is nowhere looks like.
    pub(super) fn nowhere(&self) -> Stat {
        // As in /tmp each user may make directories, and none takes another's away.
        let mode = if self.all.as_ref().is_some_and(|all| all.shared) { 0o1777 } else { 0o755 };
        attributes::directory(mode, self.owner, self.begun)
    }

    pub(super) fn numbered(mut stat: Stat, id: u64) -> Attr {
        stat.st_ino = id;
        stat
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Answer<Attr> {
        let (changes, live, stat) = {
            let (table, spot) = self.spot(parent)?;
            match spot {
                Resolved::At(at) => (table.changes(), at.live.clone(), self.stat_in(&at.join(name))?),
                Resolved::Above(kind) => {
                    drop(table);
                    return self.lookup_above(parent, &kind, name);
                }
            }
        };
        let mut table = self.table.write();
        if table.changes() == changes {
            let id = table.enter(parent, name, key(&live, &stat), stat.st_mode)?;
            return Ok(Self::numbered(stat, id));
        }
        // A name went meanwhile, perhaps this one, and its inode's number may be another file's by now: look while
        // nothing changes.
        let Resolved::At(at) = table.spot(parent)? else { return Err(libc::ENOENT) };
        let stat = self.stat_in(&at.join(name))?;
        let id = table.enter(parent, name, key(&at.live, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    pub(super) fn stat_in(&self, at: &At) -> Answer<Stat> {
        match at.live.sealed() {
            Some(sealed) if at.nameless().is_none() => {
                let found = sealed.find(at)?;
                let mut stat = attributes::sealed(&found.entry, self.owner, sealed.time);
                // A device of its own, so that its numbers are not taken for those of the stage's files.
                (stat.st_dev, stat.st_ino) = (SEALED, found.rank + 1);
                Ok(stat)
            }
            _ => at.backing().stat(at.path()).map_err(errno),
        }
    }

    pub(super) fn attributes(&self, id: u64, handle: Option<u64>) -> Answer<Attr> {
        if let Some(file) = handle.and_then(|h| self.handles.file(h).ok())
            && let Bytes::File(file) = &file.bytes
        {
            return backing::stat_open(file).map(|s| Self::numbered(s, id)).map_err(errno);
        }
        let table = self.table.read();
        let found = match table.spot(id) {
            Ok(Resolved::At(at)) => self.stat_in(&at),
            Ok(Resolved::Above(kind)) => {
                drop(table);
                self.stat_above(&kind)
            }
            Err(e) => Err(e),
        };
        match found {
            Ok(stat) => Ok(Self::numbered(stat, id)),
            // Without a name, but open: what is open tells.
            Err(e) => match self.handles.of_node(id).as_deref() {
                Some(OpenFile { bytes: Bytes::File(file), .. }) => {
                    backing::stat_open(file).map(|s| Self::numbered(s, id)).map_err(errno)
                }
                _ => Err(e),
            },
        }
    }

    /// Whether the caller may do that: asked where the kernel does not decide by modes, for a mount that only its owner
    /// may use. What is sealed takes no changes.
    pub(super) fn access(&self, id: u64, mode: i32) -> Answer<()> {
        let (_table, Resolved::At(at)) = self.spot(id)? else { return Ok(()) };
        match at.live.sealed() {
            Some(_) if mode & libc::W_OK != 0 => Err(libc::EROFS),
            Some(_) if mode & libc::X_OK != 0 && self.stat_in(&at)?.st_mode & 0o111 == 0 => Err(libc::EACCES),
            Some(_) => Ok(()),
            None => at.backing().access(at.path(), mode).map_err(errno),
        }
    }

    pub(super) fn read_link(&self, id: u64) -> Answer<OsString> {
        let (_table, at) = self.inside(id)?;
        match at.live.sealed() {
            Some(sealed) if at.nameless().is_none() => match sealed.find(&at)?.entry {
                Entry::Symlink { target } => Ok(OsStr::from_bytes(&target).to_owned()),
                _ => Err(libc::EINVAL),
            },
            _ => at.backing().read_link(at.path()).map_err(errno),
        }
    }

    /// Makes something at `name` in a run, in the caller's name, and enters it. `mode`: its permissions, if it is to
    /// have what was asked for.
    fn make(
        &self,
        parent: u64,
        name: &OsStr,
        mode: Option<u32>,
        caller: Caller,
        work: impl Fn(&Backing, &Path) -> io::Result<()>,
    ) -> Answer<Attr> {
        let (live, stat) = {
            let (_table, directory) = self.inside(parent)?;
            let _change = directory.live.changing()?;
            let at = directory.new_name(name)?;
            let (backing, path) = (at.backing(), at.path());
            let own = |_: &()| backing.chown(path, caller.uid, caller.gid);
            backing::with_fs_credentials(caller, || work(backing, path), own).map_err(errno)?;
            if let Some(mode) = mode.filter(|mode| mode & self.umask != 0) {
                // What the directory handed down stays.
                let handed = backing.stat(path).map_err(errno)?.st_mode & libc::S_ISGID;
                backing.chmod(path, mode & 0o7777 | handed).map_err(errno)?;
            }
            (directory.live.clone(), backing.stat(path).map_err(errno)?)
        };
        let id = self.table.write().enter(parent, name, key(&live, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    pub(super) fn make_directory(&self, parent: u64, name: &OsStr, mode: u32, caller: Caller) -> Answer<Attr> {
        let spot = self.spot(parent)?.1; // without the table, which is to be changed
        if let Resolved::Above(kind) = spot {
            return self.make_above(parent, &kind, name, mode, caller);
        }
        self.make(parent, name, Some(mode), caller, |backing, at| backing.mkdir(at, mode & 0o7777))
    }

    pub(super) fn make_node(&self, parent: u64, name: &OsStr, mode: u32, device: u64, caller: Caller) -> Answer<Attr> {
        self.make(parent, name, Some(mode), caller, |backing, at| backing.mknod(at, mode, device))
    }

    pub(super) fn make_symlink(&self, parent: u64, name: &OsStr, target: &OsStr, caller: Caller) -> Answer<Attr> {
        self.make(parent, name, None, caller, |backing, at| backing.symlink(target, at))
    }

    pub(super) fn link(&self, id: u64, parent: u64, name: &OsStr) -> Answer<Attr> {
        let (live, stat) = {
            let table = self.table.read();
            let (Resolved::At(from), Resolved::At(to)) = (table.spot(id)?, table.spot(parent)?) else {
                return Err(libc::EPERM);
            };
            if !Arc::ptr_eq(&from.live, &to.live) {
                return Err(libc::EXDEV);
            }
            let _change = from.live.changing()?;
            let to = to.new_name(name)?;
            from.backing().link(from.path(), to.backing(), to.path()).map_err(errno)?;
            let stat = to.backing().stat(to.path()).map_err(errno)?;
            (from.live.clone(), stat)
        };
        let id = self.table.write().enter(parent, name, key(&live, &stat), stat.st_mode)?;
        Ok(Self::numbered(stat, id))
    }

    /// Whether a removed file is kept without a name. Not a large one that is not open: its space is to be free when
    /// the removal returns, and the kernel repeats an `open` that meets ESTALE. One that is replaced is kept,
    /// whatever its size: there the repeated `open` could meet the next replacement.
    fn is_worth_keeping(&self, table: &Table, live: &OpenStage, stat: &Stat) -> bool {
        let is_open = || table.known(key(live, stat)).is_some_and(|id| self.handles.of_node(id).is_some());
        let is_large = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_blocks > LARGE_BLOCKS;
        !is_large || is_open()
    }

    pub(super) fn remove(&self, parent: u64, name: &OsStr, directory: bool) -> Answer<()> {
        let mut table = self.table.write();
        let at = match table.spot(parent)? {
            Resolved::At(at) => at.join(name),
            Resolved::Above(kind) => {
                drop(table);
                return self.remove_above(&kind, name);
            }
        };
        let _change = at.live.changing()?;
        let (stat, file) = found_and_kept(&at).map_err(errno)?;
        let file = file.filter(|_| self.is_worth_keeping(&table, &at.live, &stat));
        // Without `file` it is not open.
        let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        let removed = if is_file && !directory && file.is_some() {
            at.live.gone.unlink(at.backing(), at.path())
        } else {
            at.backing().unlink(at.path(), directory)
        };
        removed.map_err(errno)?;
        table.unnamed(parent, name, key(&at.live, &stat), directory || stat.st_nlink <= 1, file);
        Ok(())
    }

    pub(super) fn rename(
        &self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
    ) -> Answer<()> {
        let mut table = self.table.write();
        let (Resolved::At(from), Resolved::At(to)) = (table.spot(parent)?, table.spot(new_parent)?) else {
            return Err(libc::EPERM);
        };
        if !Arc::ptr_eq(&from.live, &to.live) {
            return Err(libc::EXDEV);
        }
        let live = from.live.clone();
        let _change = live.changing()?;
        let (from, to) = (from.join(name), to.new_name(new_name)?);
        let stat = from.backing().stat(from.path()).map_err(errno)?;
        let moved = key(&live, &stat);
        let replaced = found_and_kept(&to).ok();
        refuse_too_deep(&stat, &from, &to)?;
        if let Some((other, _)) = replaced.as_ref().filter(|_| flags & libc::RENAME_EXCHANGE != 0) {
            refuse_too_deep(other, &to, &from)?;
        }
        let is_file = |stat: &Stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        let is_replaced = |(old, file): &(Stat, Option<Backing>)| {
            flags == 0 && file.is_some() && is_file(old) && is_file(&stat) && key(&live, old) != moved
        };
        let (at, new) = ((from.backing(), from.path()), (to.backing(), to.path()));
        let renamed = if replaced.as_ref().is_some_and(is_replaced) {
            live.gone.rename_over(at, new, flags)
        } else {
            at.0.rename(at.1, new.0, new.1, flags)
        };
        renamed.map_err(errno)?;
        if from.backing().stat(from.path()).is_ok_and(|s| key(&live, &s) == moved) {
            return Ok(()); // two names of one file: nothing happened
        }
        match replaced {
            Some((other, _)) if flags & libc::RENAME_EXCHANGE != 0 => {
                table.renamed(key(&live, &other), (new_parent, new_name), (parent, name));
            }
            Some((gone, file)) => {
                let last = gone.st_mode & libc::S_IFMT == libc::S_IFDIR || gone.st_nlink <= 1;
                table.unnamed(new_parent, new_name, key(&live, &gone), last, file);
            }
            None => {}
        }
        table.renamed(moved, (parent, name), (new_parent, new_name));
        Ok(())
    }

    /// Opens a file. Appending, truncating and direct access are the kernel's business.
    pub(super) fn open(&self, id: u64, flags: i32, pid: u32) -> Answer<u64> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let (_table, at) = match self.spot(id)? {
            (table, Resolved::At(at)) => (table, at),
            (_, Resolved::Above(_)) => return Err(libc::EISDIR),
        };
        let live = at.live.clone();
        if let Some(sealed) = live.sealed() {
            if writes {
                return Err(libc::EROFS);
            }
            if at.nameless().is_none() {
                let bytes = sealed_bytes(&live, &sealed, &at)?;
                return Ok(self.handles.open(OpenFile { bytes, node: id, live, writer: None, label: String::new() }));
            }
        }
        let _change = if writes { Some(live.changing()?) } else { None };
        // A file that is written to is read back by the kernel for pages that are changed in part.
        let file = at.backing().open_at(at.path(), flags & (libc::O_ACCMODE | libc::O_NOATIME), 0).map_err(errno)?;
        let (writer, label) = (writes.then_some(pid), at.label());
        Ok(self.handles.open(OpenFile { bytes: Bytes::File(file), node: id, live: live.clone(), writer, label }))
    }

    pub(super) fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: i32,
        caller: Caller,
        pid: u32,
    ) -> Answer<(Attr, u64)> {
        let (at, file, stat) = {
            let (_table, directory) = self.inside(parent)?;
            let _change = directory.live.changing()?;
            let at = directory.new_name(name)?;
            let (backing, path) = (at.backing(), at.path());
            let how = flags & (libc::O_ACCMODE | libc::O_EXCL | libc::O_NOATIME) | libc::O_CREAT;
            let own = |_: &std::fs::File| backing.chown(path, caller.uid, caller.gid);
            let make = || backing.open_at(path, how, mode & 0o7777);
            let file = backing::with_fs_credentials(caller, make, own).map_err(errno)?;
            if mode & self.umask != 0 {
                backing::set_mode(&file, mode & 0o7777).map_err(errno)?;
            }
            let stat = backing::stat_open(&file).map_err(errno)?;
            (at, file, stat)
        };
        let id = self.table.write().enter(parent, name, key(&at.live, &stat), stat.st_mode)?;
        let writer = (flags & libc::O_ACCMODE != libc::O_RDONLY).then_some(pid);
        let label = at.label();
        let handle = self.handles.open(OpenFile { bytes: Bytes::File(file), node: id, live: at.live, writer, label });
        Ok((Self::numbered(stat, id), handle))
    }

    /// Fills `buffer` from `offset`; how much there was.
    pub(super) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        match &self.handles.file(handle)?.bytes {
            Bytes::File(file) => read_full_at(file, buffer, offset).map_err(errno),
            Bytes::Packed(bytes) => {
                let from = bytes.len().min(offset as usize);
                let n = (bytes.len() - from).min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[from..from + n]);
                Ok(n)
            }
        }
    }

    /// Writes; `strip`: who asked may not leave set-user-id and the like on what it changes.
    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8], strip: bool) -> Answer<u32> {
        let open = self.handles.file(handle)?;
        let Bytes::File(file) = &open.bytes else { return Err(libc::EBADF) };
        let _change = open.live.changing()?;
        file.write_all_at(data, offset).map_err(errno)?;
        if strip {
            strip_privileges(file)?;
        }
        Ok(data.len() as u32)
    }

    /// What keeps the bytes of a change from the open file, or the file by its name.
    fn changeable(&self, id: u64, handle: Option<u64>) -> Answer<Changeable> {
        if let Some(open) = handle.and_then(|h| self.handles.file(h).ok()).filter(|f| f.writer.is_some()) {
            return Ok(Changeable::Open(open));
        }
        match self.inside(id) {
            Ok((_, at)) => Ok(Changeable::At(at)),
            Err(e) => self.handles.of_node(id).map(Changeable::Open).ok_or(e),
        }
    }

    pub(super) fn truncate(&self, id: u64, handle: Option<u64>, size: u64, strip: bool) -> Answer<()> {
        let set = |file: &std::fs::File| -> Answer<()> {
            backing::set_length(file, size).map_err(errno)?;
            if strip { strip_privileges(file) } else { Ok(()) }
        };
        match self.changeable(id, handle)? {
            Changeable::Open(open) => {
                let _change = open.live.changing()?;
                let Bytes::File(file) = &open.bytes else { return Err(libc::EROFS) };
                set(file)
            }
            Changeable::At(at) => {
                let _change = at.live.changing()?;
                set(&at.backing().open_at(at.path(), libc::O_WRONLY, 0).map_err(errno)?)
            }
        }
    }

    pub(super) fn set_mode(&self, id: u64, mode: u32) -> Answer<()> {
        match self.changeable(id, None)? {
            Changeable::At(at) => {
                let _change = at.live.changing()?;
                at.backing().chmod(at.path(), mode & 0o7777).map_err(errno)
            }
            Changeable::Open(open) => {
                let _change = open.live.changing()?;
                let Bytes::File(file) = &open.bytes else { return Err(libc::EROFS) };
                backing::set_mode(file, mode & 0o7777).map_err(errno)
            }
        }
    }

    pub(super) fn set_owner(&self, id: u64, uid: Option<u32>, gid: Option<u32>) -> Answer<()> {
        let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
        match self.changeable(id, None)? {
            Changeable::At(at) => {
                let _change = at.live.changing()?;
                at.backing().chown(at.path(), uid, gid).map_err(errno)
            }
            Changeable::Open(open) => {
                let _change = open.live.changing()?;
                let Bytes::File(file) = &open.bytes else { return Err(libc::EROFS) };
                backing::set_owner(file, uid, gid).map_err(errno)
            }
        }
    }

    pub(super) fn set_times(&self, id: u64, accessed: Option<SetTime>, modified: Option<SetTime>) -> Answer<()> {
        match self.changeable(id, None)? {
            Changeable::At(at) => {
                let _change = at.live.changing()?;
                at.backing().set_times(at.path(), accessed, modified).map_err(errno)
            }
            Changeable::Open(open) => {
                let _change = open.live.changing()?;
                let Bytes::File(file) = &open.bytes else { return Err(libc::EROFS) };
                backing::set_times_open(file, accessed, modified).map_err(errno)
            }
        }
    }

    pub(super) fn sync(&self, handle: u64, data_only: bool) -> Answer<()> {
        match &self.handles.file(handle)?.bytes {
            Bytes::File(file) => backing::sync_open(file, data_only).map_err(errno),
            Bytes::Packed(_) => Ok(()),
        }
    }

    pub(super) fn sync_directory(&self, id: u64) -> Answer<()> {
        let (_table, Resolved::At(at)) = self.spot(id)? else { return Ok(()) };
        if at.live.sealed().is_some() || at.nameless().is_some() {
            return Ok(());
        }
        let directory = at.backing().open_at(at.path(), libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(errno)?;
        at.live.store().disk().sync_users_dir(&directory).map_err(errno)
    }

    pub(super) fn allocate(&self, handle: u64, mode: i32, offset: u64, length: u64) -> Answer<()> {
        let open = self.handles.file(handle)?;
        let Bytes::File(file) = &open.bytes else { return Err(libc::EBADF) };
        let _change = open.live.changing()?;
        backing::allocate(file, mode, offset as i64, length as i64).map_err(errno)
    }

    pub(super) fn seek(&self, handle: u64, offset: i64, whence: i32) -> Answer<i64> {
        match &self.handles.file(handle)?.bytes {
            Bytes::File(file) => backing::seek(file, offset, whence).map_err(errno),
            Bytes::Packed(_) => Err(libc::ENOSYS),
        }
    }

    pub(super) fn copy_range(&self, from: u64, from_at: u64, to: u64, to_at: u64, length: u64) -> Answer<u32> {
        let (source, target) = (self.handles.file(from)?, self.handles.file(to)?);
        let (Bytes::File(a), Bytes::File(b)) = (&source.bytes, &target.bytes) else { return Err(libc::EXDEV) };
        let _change = target.live.changing()?;
        let most = length.min(1 << 30) as usize;
        backing::copy_range(a, from_at as i64, b, to_at as i64, most).map(|n| n as u32).map_err(errno)
    }

    pub(super) fn set_xattr(&self, id: u64, name: &OsStr, value: &[u8], flags: i32) -> Answer<()> {
        refuse_access_list(name)?;
        let (_table, at) = self.inside(id)?;
        let _change = at.live.changing()?;
        at.backing().set_xattr(at.path(), name, value, flags).map_err(errno)
    }

    pub(super) fn get_xattr(&self, id: u64, name: &OsStr) -> Answer<Vec<u8>> {
        refuse_access_list(name)?;
        let (_table, Resolved::At(at)) = self.spot(id)? else { return Err(libc::ENODATA) };
        match at.live.sealed() {
            Some(_) => Err(libc::ENODATA),
            None => at.backing().get_xattr(at.path(), name).map_err(errno),
        }
    }

    pub(super) fn list_xattr(&self, id: u64) -> Answer<Vec<u8>> {
        let (_table, Resolved::At(at)) = self.spot(id)? else { return Ok(Vec::new()) };
        if at.live.sealed().is_some() {
            return Ok(Vec::new());
        }
        let names = at.backing().list_xattr(at.path()).map_err(errno)?;
        let is_shown = |name: &&[u8]| !is_access_list(name.strip_suffix(&[0]).unwrap_or(name));
        Ok(names.split_inclusive(|b| *b == 0).filter(is_shown).flatten().copied().collect())
    }

    pub(super) fn remove_xattr(&self, id: u64, name: &OsStr) -> Answer<()> {
        refuse_access_list(name)?;
        let (_table, at) = self.inside(id)?;
        let _change = at.live.changing()?;
        at.backing().remove_xattr(at.path(), name).map_err(errno)
    }

    pub(super) fn room(&self, id: u64) -> Answer<libc::statvfs> {
        match self.table.read().live(id) {
            Some(live) => live.backing.room().map_err(errno),
            None => {
                let all = self.all.as_ref().ok_or(libc::EIO)?;
                Backing::open(all.store.root()).and_then(|b| b.room()).map_err(errno)
            }
        }
    }

    pub(super) fn forget(&self, id: u64, count: u64) {
        let gone = self.table.write().forget(id, count);
        drop(gone); // without the table: the last use of a large file takes a while to end
    }

    pub(super) fn open_directory(&self, id: u64) -> Answer<u64> {
        let (_table, spot) = self.spot(id)?;
        let opened = match spot {
            Resolved::At(at) => match at.live.sealed() {
                Some(sealed) if at.nameless().is_none() => {
                    let found = sealed.find(&at)?;
                    let Entry::Directory(dir) = found.entry else { return Err(libc::ENOTDIR) };
                    OpenDirectory::Sealed(Mutex::new((sealed.tree.list(&dir, found.rank).map_err(|_| libc::EIO)?, 0)))
                }
                _ => {
                    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                    let directory = at.backing().open_at(at.path(), flags, 0).map_err(errno)?;
                    OpenDirectory::Stage(Mutex::new(DirStream::of(directory).map_err(errno)?), at.live)
                }
            },
            Resolved::Above(kind) => {
                drop(_table);
                OpenDirectory::Above(self.names_above(&kind)?)
            }
        };
        Ok(self.handles.open_directory(opened))
    }

    /// As [`StagingTree::list`], with each entry looked up. Above the runs that would read all records for each name:
    /// there the number is the root's, which the kernel lists and takes for no node.
    pub(super) fn list_known(&self, id: u64, handle: u64, offset: i64, take: &mut TakeKnown<'_>) -> Answer<()> {
        let above = matches!(&*self.handles.directory(handle)?, OpenDirectory::Above(_));
        self.list(id, handle, offset, &mut |number, next, kind, name| {
            if above || name == "." || name == ".." {
                return take(None, if above { ROOT } else { number }, next, kind, name);
            }
            let Ok(known) = self.lookup(id, name) else { return false }; // it went meanwhile
            let full = take(Some(&known), known.st_ino, next, kind, name);
            if full {
                self.forget(known.st_ino, 1); // the kernel was not told of it
            }
            full
        })
    }

    /// Gives entries from `offset` on to `take` (number, offset after it, `DT_…`, name), until it has enough.
    pub(super) fn list(
        &self,
        id: u64,
        handle: u64,
        offset: i64,
        take: &mut dyn FnMut(u64, i64, u8, &OsStr) -> bool,
    ) -> Answer<()> {
        match &*self.handles.directory(handle)? {
            OpenDirectory::Stage(stream, live) => {
                let device = live.backing.stat(Path::new("")).map_err(errno)?.st_dev;
                let mut stream = stream.lock();
                let mut at = offset;
                while let Some(entry) = stream.read(at).map_err(errno)? {
                    let number = match entry.name.as_bytes() {
                        b"." => id,
                        b".." => ROOT,
                        _ => self.table.read().shown((live.number, device, entry.ino)),
                    };
                    if take(number, entry.next, entry.kind, &entry.name) {
                        break;
                    }
                    at = entry.next;
                }
                Ok(())
            }
            OpenDirectory::Sealed(listing) => {
                let mut listing = listing.lock();
                let (list, at) = &mut *listing;
                if *at != offset as u64 {
                    list.seek_index(offset as u64).map_err(|_| libc::EIO)?;
                    *at = offset as u64;
                }
                loop {
                    let before = list.clone();
                    let Some(entry) = list.next() else { return Ok(()) };
                    let entry = entry.map_err(|_| libc::EIO)?;
                    let kind = match entry.entry {
                        Entry::Directory(_) => libc::DT_DIR,
                        Entry::Symlink { .. } => libc::DT_LNK,
                        _ => libc::DT_REG,
                    };
                    if take(u64::MAX, *at as i64 + 1, kind, OsStr::from_bytes(&entry.name)) {
                        *list = before;
                        return Ok(());
                    }
                    *at += 1;
                }
            }
            OpenDirectory::Above(names) => {
                for (i, name) in names.iter().enumerate().skip(offset as usize) {
                    if take(u64::MAX, i as i64 + 1, libc::DT_DIR, name) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

enum Changeable {
    Open(Arc<OpenFile>),
    At(At),
}

fn strip_privileges(file: &std::fs::File) -> Answer<()> {
    let stat = backing::stat_open(file).map_err(errno)?;
    let mut mode = stat.st_mode & 0o7777;
    if mode & libc::S_ISUID != 0 {
        mode &= !libc::S_ISUID;
    }
    if mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 {
        mode &= !libc::S_ISGID;
    }
    if mode == stat.st_mode & 0o7777 { Ok(()) } else { backing::set_mode(file, mode).map_err(errno) }
}

/// Refuses to move a directory to where what is in it could not be reached any more.
fn refuse_too_deep(moved: &Stat, from: &At, to: &At) -> Answer<()> {
    let growth = to.length().saturating_sub(from.length());
    if growth == 0 || moved.st_mode & libc::S_IFMT != libc::S_IFDIR || to.nameless().is_some() {
        return Ok(());
    }
    let longest = &from.live.longest;
    let is_near = longest.load(Ordering::Relaxed) + growth > LONGEST_PATH;
    if is_near && to.length() + depth(from.backing(), from.path())? > LONGEST_PATH {
        return Err(libc::ENAMETOOLONG);
    }
    // An upper bound: the longest path may be elsewhere.
    longest.store(LONGEST_PATH.min(longest.load(Ordering::Relaxed) + growth), Ordering::Relaxed);
    Ok(())
}

/// Bytes of the longest path below a directory, with the slash before it.
fn depth(backing: &Backing, directory: &Path) -> Answer<usize> {
    let (mut longest, mut left) = (0, vec![directory.to_path_buf()]);
    while let Some(at) = left.pop() {
        let open = backing.open_at(&at, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(errno)?;
        let mut stream = DirStream::of(open).map_err(errno)?;
        let mut next = 0;
        while let Some(entry) = stream.read(next).map_err(errno)? {
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

/// What is at a place whose name is about to go, kept by a descriptor where there is one to be had.
fn found_and_kept(at: &At) -> io::Result<(Stat, Option<Backing>)> {
    match at.backing().keep(at.path()) {
        Ok(file) => Ok((file.stat(Path::new(""))?, Some(file))),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            Ok((at.backing().stat(at.path())?, None))
        }
        Err(e) => Err(e),
    }
}

/// POSIX ACLs: the kernel would not keep to them in a mount like this.
fn is_access_list(name: &[u8]) -> bool {
    matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn refuse_access_list(name: &OsStr) -> Answer<()> {
    if is_access_list(name.as_bytes()) { Err(libc::EOPNOTSUPP) } else { Ok(()) }
}

fn sealed_bytes(live: &OpenStage, sealed: &Sealed, at: &At) -> Answer<Bytes> {
    match sealed.find(at)?.entry {
        Entry::File { digest, size, place, .. } => {
            let content = live.store().objects().content(&digest, size, place);
            match content.map_err(|_| libc::EIO)? {
                Content::Small(bytes) => Ok(Bytes::Packed(bytes.into())),
                Content::Large(large) => Ok(Bytes::File(large.into_file())),
            }
        }
        Entry::Directory(_) => Err(libc::EISDIR),
        _ => Err(libc::EIO),
    }
}

fn empty_root() -> crate::manifest::Root {
    crate::manifest::Builder::new(&mut crate::manifest::MemoryNodes::new()).finish().expect("nothing is in it")
}
