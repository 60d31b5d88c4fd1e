//! Between fuser and the read-only tree: unpacks requests, packs answers, and nothing else. The only file that knows
//! fuser.
//!
//! A panic behind it is EIO for one request, never the end of the mount. Changes never arrive (the mount is MS_RDONLY,
//! so the kernel answers EROFS by itself); one that did would be refused with EROFS too.

use super::Io;
use super::attributes::{Attributes, FileKind, Looked, Page};
use super::errno::{Answer, Failure};
use super::opens::Opens;
use super::pool::Pool;
use super::readahead::Readahead;
use super::tree::ReadTree;
use crate::error::{Error, Result};
use crate::mount::{forget_entry, passes_through};
use fuser::{
    AccessFlags, BackingId, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The largest read or readahead request: what `fs.fuse.max_pages_limit` allows by default.
const LARGEST_REQUEST: u32 = 1 << 20;
/// Requests that the kernel may have under way in the background, readahead for the most part, and when it calls that
/// congested.
const BACKGROUND: (u16, u16) = (64, 48);
/// Bytes before each name in a listing without and with attributes (`fuse_dirent`, `fuse_direntplus`).
const DIRENT: (usize, usize) = (24, 152);
/// Bytes of a listing gathered for the first request.
const LISTING: usize = 32 << 10;
/// The handle of an open that [`Opens`] counts; others have 0.
const COUNTED: u64 = 1;

/// A connection that is set up and answers once it runs.
pub(super) struct Connection {
    session: Session<Adapter>,
    tree: Arc<ReadTree>,
    forward: Arc<Readahead>,
}

impl Connection {
    /// Greets the kernel over the descriptor of a mount that stands. `probe` is a file of the store, with which the
    /// kernel is asked whether it would pass reads through. With a `pool`, whatever may read the store is answered from
    /// there.
    pub(super) fn open(
        descriptor: OwnedFd,
        tree: Arc<ReadTree>,
        threads: usize,
        io: Io,
        probe: &File,
        pool: Option<Pool>,
    ) -> Result<Connection> {
        let mut config = Config::default();
        config.n_threads = Some(threads.max(1));
        let agreed = Arc::new(Agreed::default());
        let forward = Arc::new(Readahead::default());
        let opens = Arc::new(Opens::new());
        let adapter = Adapter {
            tree: tree.clone(),
            agreed: agreed.clone(),
            opens,
            pool,
            room: Arc::new(AtomicUsize::new(LISTING)),
            forward: forward.clone(),
        };
        // Who may ask is the kernel's to decide: it knows allow_other, and whose mount it is.
        let session = Session::from_fd(adapter, descriptor, SessionACL::All, config);
        let session = session.map_err(|e| Error::io_message("the kernel's FUSE did not greet back").with_source(e))?;
        let way = agreed.way(&session, io, probe, &tree);
        let _ = agreed.way.set(way); // the first time it is
        Ok(Connection { session, tree, forward })
    }

    /// Tells the kernel to forget a name; true if it knew it. Not to be called by a thread that answers requests.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn forgetter(&self) -> Result<impl Fn(u64, &[u8]) -> bool + Send + use<>> {
        let device = self.session.as_fd().try_clone_to_owned();
        let device = device.map_err(|e| Error::io_message("cannot copy the mount's descriptor").with_source(e))?;
        Ok(move |parent, name: &[u8]| forget_entry(device.as_fd(), parent, name))
    }

    /// Gives the kernel files before it asks for them, until [`Connection::run`] ends. For a thread of its own.
    pub(super) fn forwarder(&self) -> impl FnOnce() + Send + use<> {
        let (tree, forward, notifier) = (self.tree.clone(), self.forward.clone(), self.session.notifier());
        move || {
            forward.serve(|ino, known| {
                let Some(file) = tree.small(ino) else { return true };
                if !known(file.directory) {
                    return false;
                }
                let mut buffer = BUFFER.take();
                if tree.read_whole(&file, &mut buffer).is_ok() {
                    // A kernel that has forgotten the file does not take it.
                    drop(notifier.store(INodeNo(ino), 0, &buffer));
                }
                BUFFER.set(buffer);
                true
            });
        }
    }

    /// Answers until the mount is gone. An error is an end that was no unmount.
    pub(super) fn run(self) -> Result<()> {
        let ran = self.session.run();
        self.forward.end();
        ran.map_err(|e| Error::io_message("the connection to the kernel broke").with_source(e))
    }
}

/// How files are opened on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Not at all: ENOSYS to the first open, and the kernel opens, flushes and closes by itself from then on.
    NoOpen,
    /// Object files are read by the kernel itself; the rest through the daemon.
    Passthrough,
    /// All through the daemon.
    Plain,
}

/// What kernel and daemon have agreed on.
#[derive(Default)]
struct Agreed {
    kernel_has: OnceLock<InitFlags>,
    way: OnceLock<Way>,
}

impl Agreed {
    fn kernel_has(&self, flag: InitFlags) -> bool {
        self.kernel_has.get().is_some_and(|have| have.contains(flag))
    }

    fn way(&self, session: &Session<Adapter>, io: Io, probe: &File, tree: &ReadTree) -> Way {
        let no_open = if self.kernel_has(InitFlags::FUSE_NO_OPEN_SUPPORT) { Way::NoOpen } else { Way::Plain };
        match io {
            Io::Plain => Way::Plain,
            Io::Auto | Io::NoOpen => no_open,
            Io::Passthrough if !self.kernel_has(InitFlags::FUSE_PASSTHROUGH) => {
                tree.say("passthrough is not known to this kernel (Linux 6.9 has it): files are read through the daemon, without opens");
                no_open
            }
            Io::Passthrough => match passes_through(session.as_fd(), probe) {
                Ok(()) => Way::Passthrough,
                Err(e) => {
                    tree.say(&format!(
                        "passthrough is refused here ({e}): files are read through the daemon, without opens"
                    ));
                    no_open
                }
            },
        }
    }
}

struct Adapter {
    tree: Arc<ReadTree>,
    agreed: Arc<Agreed>,
    opens: Arc<Opens<BackingId>>,
    pool: Option<Pool>,
    /// How much of a listing the kernel took last: it does not say how much it has room for.
    room: Arc<AtomicUsize>,
    forward: Arc<Readahead>,
}

/// A reply that can be an error.
trait Refuse: Send + 'static {
    fn refuse(self, e: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => { $(impl Refuse for $reply { fn refuse(self, e: Errno) { self.error(e); } })* };
}
refuse!(ReplyEmpty, ReplyEntry, ReplyAttr, ReplyData, ReplyOpen, ReplyDirectory, ReplyDirectoryPlus, ReplyStatfs);

/// Runs one request: a panic is an answer like any other, and what is worth a line in the log gets one.
fn guarded<T>(
    tree: &ReadTree,
    doing: &str,
    ino: u64,
    work: impl FnOnce(&ReadTree) -> Answer<T>,
) -> std::result::Result<T, Errno> {
    let answer = catch_unwind(AssertUnwindSafe(|| work(tree))).unwrap_or(Err(Failure::Panicked));
    answer.map_err(|failure| told(tree, doing, ino, &failure))
}

fn told(tree: &ReadTree, doing: &str, ino: u64, failure: &Failure) -> Errno {
    // Naming the path may panic as well, if the panic came from the manifest.
    drop(catch_unwind(AssertUnwindSafe(|| tree.log_failure(doing, ino, failure))));
    Errno::from_i32(failure.errno())
}

impl Adapter {
    /// Answers a request with what `work` makes of it: at once, or from the pool.
    fn answer<R: Refuse, T>(
        &self,
        doing: &'static str,
        ino: INodeNo,
        reply: R,
        work: impl FnOnce(&ReadTree) -> Answer<T> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let finish = move |reply: R, answer: std::result::Result<T, Errno>| match answer {
            Ok(answer) => send(reply, answer),
            Err(e) => reply.refuse(e),
        };
        let Some(pool) = &self.pool else { return finish(reply, guarded(&self.tree, doing, ino.0, work)) };
        let (tree, late, deadline) = (self.tree.clone(), self.tree.clone(), pool.deadline());
        let refuse = move |reply: R| reply.refuse(told(&late, doing, ino.0, &Failure::TooSlow(deadline)));
        pool.answer(reply, move || guarded(&tree, doing, ino.0, work), finish, refuse);
    }
}

fn attr(of: &Attributes) -> FileAttr {
    let (seconds, nanoseconds) = of.time;
    let (whole, part) = (Duration::from_secs(seconds.unsigned_abs()), Duration::from_nanos(nanoseconds.into()));
    let time =
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(whole) } else { SystemTime::UNIX_EPOCH.checked_add(whole) };
    let time = time.and_then(|t| t.checked_add(part)).unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(of.ino),
        size: of.size,
        blocks: of.size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(of.kind),
        perm: of.mode,
        nlink: 1,
        uid: of.owner.0,
        gid: of.owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
    }
}

/// Inode 0: there is nothing.
fn nothing() -> FileAttr {
    FileAttr { ino: INodeNo(0), ..attr(&Attributes::directory(0, 0, (0, 0), (0, 0), Duration::ZERO)) }
}

thread_local! {
    /// What the last read of this thread filled: reused, so that reading does not allocate.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without READDIRPLUS_AUTO: it stops giving attributes after a directory's first page to who reads the whole
        // listing before the first stat, which is what find, ls -l and rsync do (first `find` of 20,000 in one
        // directory: 7 × native with it,
        // 2.2 × without).
        // ABORT_ERROR lets the end of the mount and the end of the connection be told apart; the rest is what an
        // immutable tree may have.
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_PASSTHROUGH
            | InitFlags::FUSE_ABORT_ERROR;
        if self.tree.grows() {
            // The kernel asks for a directory's mtime, once its time is over, before it trusts a listing that it has
            // kept.
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        // Older kernels go without some of them: all are for speed but the last, and that is looked at with care.
        let have = config.capabilities();
        let _ = self.agreed.kernel_has.set(have); // the first time it is
        let _ = config.add_capabilities(wanted & have);
        let _ = config.set_max_stack_depth(1);
        let _ = config.set_max_write(LARGEST_REQUEST);
        let _ = config.set_max_background(BACKGROUND.0);
        let _ = config.set_congestion_threshold(BACKGROUND.1);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.answer(
            "look up a name in",
            parent,
            reply,
            move |tree| tree.lookup(parent.0, &name),
            |reply, looked| match looked {
                Looked::Found(found) => {
                    reply.entry_with_ttls(
                        &found.attributes_for,
                        &found.name_for,
                        &attr(&found),
                        Generation(found.generation.into()),
                    );
                }
                Looked::Nothing(keep) if keep.is_zero() => reply.error(Errno::ENOENT),
                // Inode 0 with a lifetime: the kernel remembers that there is nothing.
                Looked::Nothing(keep) => reply.entry(&keep, &nothing(), Generation(0)),
            },
        );
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        self.tree.forget(ino.0, times);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer(
            "look at",
            ino,
            reply,
            move |tree| tree.attributes(ino.0),
            |reply, found| reply.attr(&found.attributes_for, &attr(&found)),
        );
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.answer(
            "read the link",
            ino,
            reply,
            move |tree| tree.read_link(ino.0),
            |reply, target| reply.data(&target),
        );
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // The page cache is kept over opens: what is behind an inode never changes.
        const KEPT: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);
        let way = self.agreed.way.get().copied().unwrap_or(Way::Plain);
        if way == Way::NoOpen {
            return reply.error(Errno::ENOSYS);
        }
        if flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        if way == Way::Plain {
            return self.answer(
                "open",
                ino,
                reply,
                move |tree| tree.open(ino.0),
                |reply, ()| reply.opened(FileHandle(0), KEPT),
            );
        }
        let opens = self.opens.clone();
        let joined = opens.join(ino.0);
        let work =
            move |tree: &ReadTree| if joined.is_some() { Ok((joined, None)) } else { Ok((None, tree.object(ino.0)?)) };
        self.answer("open", ino, reply, work, move |reply, (joined, object)| {
            let way = match (joined, object) {
                (Some(way), _) => way,
                (None, None) => return reply.opened(FileHandle(0), KEPT),
                // An object that the kernel does not take is read through the daemon.
                (None, Some(object)) => opens.begin(ino.0, reply.open_backing(object.file()).ok()),
            };
            match &*way {
                Some(backing) => reply.opened_passthrough(FileHandle(COUNTED), FopenFlags::FOPEN_NOFLUSH, backing),
                None => reply.opened(FileHandle(COUNTED), KEPT),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if offset == 0 {
            self.forward.read(ino.0);
        }
        let work = move |tree: &ReadTree| {
            let mut buffer = BUFFER.take();
            tree.read(ino.0, offset, size, &mut buffer)?;
            Ok(buffer)
        };
        self.answer("read", ino, reply, work, |reply, buffer| {
            reply.data(&buffer);
            BUFFER.set(buffer);
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Once, and the kernel leaves it out.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if fh.0 == COUNTED {
            self.opens.end(ino.0);
        }
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.agreed.kernel_has(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            return reply.error(Errno::ENOSYS);
        }
        // The kernel may keep the listing over all later opens.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        let room = self.room.clone();
        let page = Page::new(room.load(Ordering::Relaxed), DIRENT.0);
        self.answer(
            "list",
            ino,
            reply,
            move |tree| tree.list(ino.0, offset, page),
            move |mut reply, page| {
                page.give(&room, |item| {
                    reply.add(
                        INodeNo(item.attributes.ino),
                        item.next,
                        file_type(item.attributes.kind),
                        OsStr::from_bytes(item.name),
                    )
                });
                reply.ok();
            },
        );
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let (room, tree, forward) = (self.room.clone(), self.tree.clone(), self.forward.clone());
        let page = Page::new(room.load(Ordering::Relaxed), DIRENT.1);
        self.answer(
            "list",
            ino,
            reply,
            move |tree| tree.list(ino.0, offset, page),
            move |mut reply, page| {
                let mut last = 0;
                page.give(&room, |item| {
                    let a = &item.attributes;
                    let name = OsStr::from_bytes(item.name);
                    let full = reply.add(
                        INodeNo(a.ino),
                        item.next,
                        name,
                        &a.both_for(),
                        &attr(a),
                        Generation(a.generation.into()),
                    );
                    // `.` and `..` are not looked up by the kernel.
                    if !full && item.name != b"." && item.name != b".." {
                        tree.listed(a.ino);
                        last = a.ino;
                    }
                    full
                });
                reply.ok();
                forward.listed(ino.0, last);
            },
        );
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.answer(
            "ask for the space of",
            ino,
            reply,
            |tree| tree.space(),
            |reply, s| {
                reply.statfs(
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    s.block_size,
                    255,
                    s.fragment_size,
                );
            },
        );
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        // Mounted with default_permissions the kernel answers by itself, from the modes.
        let writes = mask.contains(AccessFlags::W_OK);
        let work =
            move |tree: &ReadTree| if writes { Err(Failure::ReadOnly) } else { tree.attributes(ino.0).map(drop) };
        self.answer("look at", ino, reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // ENOSYS once, and the kernel says ENOTSUP by itself from then on, without a round trip per file of `ls -l`.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        _: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        if command == crate::mount::INFO_COMMAND && out_size == 8 {
            let mut answer = [0; 8];
            answer[..4].copy_from_slice(&std::process::id().to_ne_bytes());
            reply.ioctl(0, &answer);
        } else {
            reply.error(Errno::ENOTTY);
        }
    }

    // From here on what would change something. None of it arrives unless root remounts the mount writable.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}

#[cfg(test)]
mod tests {
    use super::super::VerifyMode;
    use super::super::attributes::Item;
    use super::super::files::Files;
    use super::super::inode_tree::{InodeTree, Readable};
    use super::super::log::{Log, Target};
    use super::*;
    use std::ops::ControlFlow;

    /// A tree in which everything panics.
    struct Broken;

    impl InodeTree for Broken {
        fn attributes(&self, _: u64) -> Answer<Attributes> {
            panic!("as the test wants");
        }
        fn lookup(&self, _: u64, _: &[u8]) -> Answer<Looked> {
            panic!("as the test wants");
        }
        fn read_link(&self, _: u64) -> Answer<Vec<u8>> {
            panic!("as the test wants");
        }
        fn list(&self, _: u64, _: u64, _: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Answer<()> {
            panic!("as the test wants");
        }
        fn readable(&self, _: u64) -> Answer<Readable> {
            panic!("as the test wants");
        }
        fn path(&self, _: u64) -> Option<String> {
            panic!("as the test wants");
        }
    }

    #[test]
    fn a_panic_is_eio_for_its_request_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::init(&dir.path().join("store"), &Default::default()).unwrap();
        let log = Log::new(Target::File(crate::disk::open_log(&dir.path().join("log")).unwrap()), "x".into());
        let files = Arc::new(Files::new(store.objects().clone(), VerifyMode::Put));
        let tree = ReadTree::new(Arc::new(Broken), files, store.root().to_path_buf(), log);
        let errno = |e: Errno| e.code();
        assert_eq!(guarded(&tree, "look at", 1, |tree| tree.attributes(1)).map_err(errno).unwrap_err(), libc::EIO);
        assert_eq!(
            guarded(&tree, "read", 2, |tree| tree.read(2, 0, 1, &mut Vec::new())).map_err(errno).unwrap_err(),
            libc::EIO
        );
        assert!(guarded(&tree, "ask", 1, |tree| tree.space()).is_ok());
    }
}
