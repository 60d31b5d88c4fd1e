//! Between fuser and the staging tree: unpacks requests, packs answers, and nothing else. A panic behind it is EIO for
//! one request.

use super::admission::{Admission, Requester};
use super::request::{ANNOTATIONS_MAX, REQUEST, ROOM, StageReply, StageRequest};
use super::table::ROOT;
use super::tree::{Attr, StagingTree};
use super::watch::Watch;
use crate::disk::backing::{Caller, SetTime};
use crate::error::{Error, Result};
use crate::fuse::errno::ErrnoResult;
use crate::fuse::opens::Opens;
use crate::mount::{INFO_COMMAND, passes_through};
use fuser::{
    AccessFlags, BackingId, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow,
    WriteFlags,
};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is in a run is changed through this mount alone: the kernel may keep what it knows for long.
const KEEP: Duration = Duration::from_secs(3600);
/// Above the runs others make directories too.
const ABOVE: Duration = Duration::from_secs(1);
const LARGEST_REQUEST: u32 = 1 << 20;
/// From this number on nodes are above the runs (`table`).
const ABOVE_RUNS: u64 = 1 << 62;

/// A connection that is set up and answers once it runs.
pub(crate) struct Connection {
    session: Session<Adapter>,
    watch: Watch,
}

impl Connection {
    /// Greets the kernel over the descriptor of a mount that stands. `probe` is a file where the stages are: if the
    /// kernel takes it, it reads and writes files by itself.
    pub(super) fn open(
        descriptor: OwnedFd,
        tree: Arc<StagingTree>,
        admission: Admission,
        threads: usize,
        probe: Option<&File>,
    ) -> Result<Connection> {
        let mut config = Config::default();
        config.n_threads = Some(threads.max(1));
        let passing = Arc::new(Passing::default());
        let watch = Watch::begin(&tree)?;
        let adapter = Adapter { tree, admission, passing: passing.clone(), kept: Mutex::default() };
        let session = Session::from_fd(adapter, descriptor, SessionACL::All, config);
        let session = session.map_err(|e| Error::io_message("the kernel's FUSE did not greet back").with_source(e))?;
        if *passing.known.get().unwrap_or(&false)
            && probe.is_some_and(|probe| passes_through(session.as_fd(), probe).is_ok())
        {
            let _ = passing.notifier.set(session.notifier()); // the first time it is
        }
        Ok(Connection { session, watch })
    }

    /// Answers until the mount is gone. An error is an end that was no unmount.
    pub(super) fn run(self) -> Result<()> {
        let Connection { session, watch } = self;
        let ran = session.run();
        drop(watch); // it may have the runs in its hands
        ran.map_err(|e| Error::io_message("the connection to the kernel broke").with_source(e))
    }
}

/// What is needed to let the kernel read and write files by itself (passthrough). It wants all opens of a file to go
/// one way.
#[derive(Default)]
struct Passing {
    /// Whether the kernel knows of it.
    known: OnceLock<bool>,
    /// Set where it is done.
    notifier: OnceLock<Notifier>,
    opens: Opens<BackingId>,
}

pub(super) struct Adapter {
    tree: Arc<StagingTree>,
    admission: Admission,
    passing: Arc<Passing>,
    /// Annotations that were sent over an open directory, for the seal.
    kept: Mutex<HashMap<u64, String>>,
}

impl Adapter {
    /// Keeps a part of the annotations for a seal.
    fn keep(&self, handle: u64, part: &str) -> StageReply {
        let mut kept = self.kept.lock();
        let text = kept.entry(handle).or_default();
        if text.len() + part.len() > ANNOTATIONS_MAX {
            kept.remove(&handle);
            return StageReply::of_error(&Error::usage("the annotations are too long"));
        }
        text.push_str(part);
        StageReply::Kept
    }

    /// Refuses a request of a user who may not write to the store, if it changes something, or if answering it would
    /// take up the open run of another user.
    fn admit(&self, request: &Request, node: u64, changes: bool) -> std::result::Result<(), Errno> {
        if self.admission.is_private() {
            return Ok(());
        }
        let requester = requester(request);
        let may = match self.tree.owner_of_open(node) {
            Some(owner) => {
                self.admission.is_own(requester) || owner == requester.uid && self.admission.may_write(requester)
            }
            None => true,
        };
        if may && (!changes || self.admission.may_write(requester)) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Refuses to seal for a user whose run it is not.
    fn refuse_to_seal(&self, request: &Request, node: u64) -> Result<()> {
        let requester = requester(request);
        if self.admission.is_own(requester) {
            return Ok(());
        }
        let owner = self.tree.owner_of_run(node).filter(|owner| *owner != requester.uid);
        match owner {
            Some(owner) => {
                let of = "it belongs to the user who began it";
                Err(Error::conflict(format!("user {} may not seal the run of user {owner}: {of}", requester.uid))
                    .with_hint("that user, or the one who mounted, can"))
            }
            None if !self.admission.may_write(requester) => {
                Err(Error::conflict(format!("user {} may not write to the store", requester.uid)))
            }
            None => Ok(()),
        }
    }

    /// The way an open file goes: the kernel's own, if there is a backing. Pages that the kernel has from another way
    /// are not kept then.
    fn way(
        &self,
        node: u64,
        handle: u64,
        back: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> (Arc<Option<BackingId>>, FopenFlags) {
        if self.passing.notifier.get().is_none() {
            return (Arc::new(None), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
        }
        let way = self.passing.opens.join(node).unwrap_or_else(|| {
            let backing = self.tree.handles.file(handle).ok().and_then(|open| back(open.disk_file()?).ok());
            self.passing.opens.begin(node, backing)
        });
        (way, FopenFlags::FOPEN_NOFLUSH)
    }
}

fn guarded<T>(work: impl FnOnce() -> ErrnoResult<T>) -> std::result::Result<T, Errno> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(libc::EIO)).map_err(Errno::from_i32)
}

/// Answers a request whose answer is only that it was done.
macro_rules! done {
    ($reply:expr, $work:expr) => {
        match guarded(|| $work) {
            Ok(()) => $reply.ok(),
            Err(e) => $reply.error(e),
        }
    };
}

fn moment(seconds: i64, nanos: i64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos.clamp(0, 999_999_999) as u64);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

fn file_type(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn listed_type(kind: u8) -> FileType {
    file_type(u32::from(kind) << 12)
}

fn attr(of: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.st_ino),
        size: of.st_size as u64,
        blocks: of.st_blocks as u64,
        atime: moment(of.st_atime, of.st_atime_nsec),
        mtime: moment(of.st_mtime, of.st_mtime_nsec),
        ctime: moment(of.st_ctime, of.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: file_type(of.st_mode),
        perm: (of.st_mode & 0o7777) as u16,
        nlink: of.st_nlink as u32,
        uid: of.st_uid,
        gid: of.st_gid,
        rdev: of.st_rdev as u32,
        blksize: of.st_blksize as u32,
        flags: 0,
    }
}

/// What a look-up says of a name that is not there: no inode number.
fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn ttl(of: &Attr) -> &'static Duration {
    if of.st_ino >= ABOVE_RUNS { &ABOVE } else { &KEEP }
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

fn requester(request: &Request) -> Requester {
    Requester { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// Answers with why a request is refused, if it is.
macro_rules! admitted {
    ($reply:expr, $admitted:expr) => {
        if let Err(e) = $admitted {
            return $reply.error(e);
        }
    };
}

fn entry(reply: ReplyEntry, work: impl FnOnce() -> ErrnoResult<Attr>) {
    match guarded(work) {
        Ok(seen) => reply.entry(ttl(&seen), &attr(&seen), Generation(0)),
        Err(e) => reply.error(e),
    }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => match at.duration_since(UNIX_EPOCH) {
            Ok(after) => SetTime::At(after.as_secs() as i64, i64::from(after.subsec_nanos())),
            Err(before) => {
                let before = before.duration();
                let borrow = i64::from(before.subsec_nanos() > 0);
                SetTime::At(
                    -(before.as_secs() as i64) - borrow,
                    if borrow == 1 { 1_000_000_000 - i64::from(before.subsec_nanos()) } else { 0 },
                )
            }
        },
    }
}

thread_local! {
    /// What the last read of this thread filled: reused, so that reading does not allocate.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without WRITEBACK_CACHE: what a program has written is in the stage's file when write(2) returns. With
        // HANDLE_KILLPRIV_V2 the kernel need not ask for security.capability before each write.
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_HAS_IOCTL_DIR
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        // What the kernel does not know, it does without.
        let _ = config.add_capabilities(wanted).or_else(|unknown| config.add_capabilities(wanted - unknown));
        let known =
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(1).is_ok();
        let _ = self.passing.known.set(known); // the first time it is
        let _ = config.set_max_write(LARGEST_REQUEST);
        let _ = config.set_max_readahead(LARGEST_REQUEST);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        admitted!(reply, self.admit(request, parent.0, false));
        match guarded(|| self.tree.lookup(parent.0, name)) {
            // The kernel may remember that a name is not there: it makes those that come itself.
            Err(e) if e.code() == libc::ENOENT && self.tree.is_in_run(parent.0) => {
                reply.entry(&KEEP, &nothing(), Generation(0));
            }
            found => entry(reply, || found.map_err(|e| e.code())),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        drop(catch_unwind(AssertUnwindSafe(|| self.tree.forget(ino.0, count))));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match guarded(|| self.tree.attributes(ino.0, handle.map(|h| h.0))) {
            Ok(seen) => reply.attr(ttl(&seen), &attr(&seen)),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        admitted!(reply, self.admit(request, ino.0, true));
        let handle = handle.map(|h| h.0);
        let set = || {
            if let Some(size) = size {
                self.tree.truncate(ino.0, handle, size, request.uid() != 0)?;
            }
            if uid.is_some() || gid.is_some() {
                self.tree.set_owner(ino.0, uid, gid)?;
            }
            if let Some(mode) = mode {
                self.tree.set_mode(ino.0, mode)?;
            }
            if accessed.is_some() || modified.is_some() {
                self.tree.set_times(ino.0, accessed.map(set_time), modified.map(set_time))?;
            }
            self.tree.attributes(ino.0, handle)
        };
        match guarded(|| self.tree.change("change", ino.0, None, set)) {
            Ok(seen) => reply.attr(ttl(&seen), &attr(&seen)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        admitted!(reply, self.admit(request, ino.0, false));
        match guarded(|| self.tree.read_link(ino.0)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(e) => reply.error(e),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        admitted!(reply, self.admit(request, parent.0, true));
        let make = || self.tree.make_node(parent.0, name, mode, u64::from(rdev), caller(request));
        entry(reply, || self.tree.change("create", parent.0, Some(name), make));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        admitted!(reply, self.admit(request, parent.0, true));
        let make = || self.tree.make_directory(parent.0, name, mode, caller(request));
        entry(reply, || self.tree.change("create", parent.0, Some(name), make));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.admit(request, parent.0, true));
        done!(reply, self.tree.change("remove", parent.0, Some(name), || self.tree.remove(parent.0, name, false)));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.admit(request, parent.0, true));
        done!(reply, self.tree.change("remove", parent.0, Some(name), || self.tree.remove(parent.0, name, true)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        admitted!(reply, self.admit(request, parent.0, true));
        let make = || self.tree.make_symlink(parent.0, name, target.as_os_str(), caller(request));
        entry(reply, || self.tree.change("create", parent.0, Some(name), make));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        admitted!(reply, self.admit(request, parent.0, true));
        let rename = || self.tree.rename(parent.0, name, new_parent.0, new_name, flags.bits());
        done!(reply, self.tree.change("rename", parent.0, Some(name), rename));
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        admitted!(reply, self.admit(request, parent.0, true));
        entry(reply, || self.tree.change("link", parent.0, Some(name), || self.tree.link(ino.0, parent.0, name)));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY;
        admitted!(reply, self.admit(request, ino.0, writes));
        let open = || self.tree.open(ino.0, flags.0, request.pid());
        let handle = match guarded(|| self.tree.change("open", ino.0, None, open)) {
            Ok(handle) => handle,
            Err(e) => return reply.error(e),
        };
        let (way, how) = self.way(ino.0, handle, |file| reply.open_backing(file));
        match &*way {
            Some(backing) => reply.opened_passthrough(FileHandle(handle), how, backing),
            None => reply.opened(FileHandle(handle), how),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        admitted!(reply, self.admit(request, parent.0, true));
        let make = || self.tree.create(parent.0, name, mode, flags, caller(request), request.pid());
        let (seen, handle) = match guarded(|| self.tree.change("create", parent.0, Some(name), make)) {
            Ok(made) => made,
            Err(e) => return reply.error(e),
        };
        let (way, how) = self.way(seen.st_ino, handle, |file| reply.open_backing(file));
        match &*way {
            Some(backing) => {
                reply.created_passthrough(ttl(&seen), &attr(&seen), Generation(0), FileHandle(handle), how, backing)
            }
            None => reply.created(ttl(&seen), &attr(&seen), Generation(0), FileHandle(handle), how),
        }
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(size as usize, 0);
            match guarded(|| self.tree.read(handle.0, offset, buffer)) {
                Ok(n) => reply.data(&buffer[..n]),
                Err(e) => reply.error(e),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let strip = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let write = || self.tree.write(handle.0, offset, data, strip);
        match guarded(|| self.tree.change("write", ino.0, None, write)) {
            Ok(n) => reply.written(n),
            Err(e) => reply.error(e),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.tree.handles.close(handle.0);
        self.kept.lock().remove(&handle.0);
        if let Some(notifier) = self.passing.notifier.get() {
            self.passing.opens.end(ino.0);
            if flags.0 & libc::O_ACCMODE != libc::O_RDONLY {
                // What was stored through a map has moved times that the kernel has not seen. One that does not know
                // the file has nothing to forget.
                drop(notifier.inval_inode(ino, -1, 0));
            }
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        done!(reply, self.tree.change("sync", ino.0, None, || self.tree.sync(handle.0, data_only)));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        admitted!(reply, self.admit(request, ino.0, false));
        match guarded(|| self.tree.open_directory(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut take = |number: u64, next: i64, kind: u8, name: &OsStr| {
            reply.add(INodeNo(number), next as u64, listed_type(kind), name)
        };
        match guarded(|| self.tree.list(ino.0, handle.0, offset as i64, &mut take)) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let mut take = |known: Option<&Attr>, number: u64, next: i64, kind: u8, name: &OsStr| match known {
            Some(seen) => reply.add(INodeNo(seen.st_ino), next as u64, name, ttl(seen), &attr(seen), Generation(0)),
            None => {
                let named = FileAttr { ino: INodeNo(number), kind: listed_type(kind), ..nothing() };
                reply.add(INodeNo(number), next as u64, name, &Duration::ZERO, &named, Generation(0))
            }
        };
        match guarded(|| self.tree.list_known(ino.0, handle.0, offset as i64, &mut take)) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        done!(reply, self.tree.access(ino.0, mask.bits()));
    }

    fn releasedir(&self, _: &Request, _ino: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.tree.handles.close_directory(handle.0);
        self.kept.lock().remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done!(reply, self.tree.sync_directory(ino.0));
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let ino = if ino.0 == 0 { ROOT } else { ino.0 };
        match guarded(|| self.tree.room(ino)) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                s.f_namemax as u32,
                s.f_frsize as u32,
            ),
            Err(e) => reply.error(e),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        admitted!(reply, self.admit(request, ino.0, true));
        let set = || self.tree.set_xattr(ino.0, name, value, flags);
        done!(reply, self.tree.change("change", ino.0, None, set));
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        admitted!(reply, self.admit(request, ino.0, false));
        sized(reply, size, guarded(|| self.tree.get_xattr(ino.0, name)));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        admitted!(reply, self.admit(request, ino.0, false));
        sized(reply, size, guarded(|| self.tree.list_xattr(ino.0)));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.admit(request, ino.0, true));
        done!(reply, self.tree.remove_xattr(ino.0, name));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = || self.tree.allocate(handle.0, mode, offset, length);
        done!(reply, self.tree.change("allocate", ino.0, None, allocate));
    }

    fn lseek(&self, _: &Request, _ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        match guarded(|| self.tree.seek(handle.0, offset, whence)) {
            Ok(at) => reply.offset(at),
            Err(e) => reply.error(e),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _from_ino: INodeNo,
        from: FileHandle,
        from_at: u64,
        to_ino: INodeNo,
        to: FileHandle,
        to_at: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let copy = || self.tree.copy_range(from.0, from_at, to.0, to_at, length);
        match guarded(|| self.tree.change("write", to_ino.0, None, copy)) {
            Ok(n) => reply.written(n),
            Err(e) => reply.error(e),
        }
    }

    /// Who serves, and sealing: that takes as long as it takes, so it has a thread of its own, and the others go on.
    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: IoctlFlags,
        command: u32,
        data: &[u8],
        room: u32,
        reply: ReplyIoctl,
    ) {
        if command == INFO_COMMAND && room == 8 {
            let mut answer = [0; 8];
            answer[..4].copy_from_slice(&std::process::id().to_ne_bytes());
            return reply.ioctl(0, &answer);
        }
        if command != REQUEST || (room as usize) < ROOM {
            return reply.error(Errno::ENOTTY);
        }
        let asked = StageRequest::decode(data);
        if !matches!(asked, Some(StageRequest::Which))
            && let Err(e) = self.refuse_to_seal(request, ino.0)
        {
            return reply.ioctl(0, &StageReply::of_error(&e).encode());
        }
        match asked {
            Some(StageRequest::Keep(part)) => reply.ioctl(0, &self.keep(handle.0, &part).encode()),
            Some(StageRequest::Which) => reply.ioctl(0, &self.tree.which(ino.0).encode()),
            Some(StageRequest::Seal { stage, replace }) => {
                let annotations = self.kept.lock().remove(&handle.0);
                let tree = self.tree.clone();
                let work = move || {
                    let how = || tree.seal_as_asked(ino.0, stage.as_deref(), annotations.as_deref(), replace);
                    let panicked = || StageReply::of_error(&Error::io_message("sealing panicked: please report this"));
                    let told = catch_unwind(AssertUnwindSafe(how)).unwrap_or_else(|_| panicked());
                    reply.ioctl(0, &told.encode());
                };
                // Without a thread the request is dropped, which answers it with EIO.
                drop(std::thread::Builder::new().name("seal".into()).spawn(work));
            }
            None => reply.error(Errno::ENOTTY),
        }
    }
}

/// An attribute's value, or how long it is.
fn sized(reply: ReplyXattr, size: u32, value: std::result::Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(e) => reply.error(e),
    }
}
