//! Between fuser and the read-only tree: unpacks requests, packs answers, and nothing else. The only file that knows fuser.
//!
//! A panic behind it is EIO for one request, never the end of the mount. Changes never arrive (the mount is MS_RDONLY, so the kernel
//! answers EROFS by itself); one that did would be refused with EROFS too.

use super::errno::{Answer, Failure};
use super::tree::{Attributes, FileKind, ReadTree};
use crate::error::{Error, Result};
use fuser::{
    AccessFlags, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A version never changes: what the kernel has learnt it may keep as long as the mount stands (136 years).
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Of the root the kernel asks once a second, so that a `stat` of the mount point shows that its daemon was killed.
const ROOT_FOR: Duration = Duration::from_secs(1);
/// The largest read or readahead request: what `fs.fuse.max_pages_limit` allows by default.
const LARGEST_REQUEST: u32 = 1 << 20;
/// Requests that the kernel may have under way in the background, readahead for the most part, and when it calls that congested.
const BACKGROUND: (u16, u16) = (64, 48);

/// A connection that is set up and answers once it runs.
pub(super) struct Connection(Session<Adapter>);

impl Connection {
    /// Greets the kernel over the descriptor of a mount that stands.
    pub(super) fn open(descriptor: OwnedFd, tree: Arc<ReadTree>, threads: usize) -> Result<Connection> {
        let mut config = Config::default();
        config.n_threads = Some(threads.max(1));
        // Who may ask is the kernel's to decide: it knows allow_other, and whose mount it is.
        let session = Session::from_fd(Adapter { tree }, descriptor, SessionACL::All, config);
        session.map(Connection).map_err(|e| Error::io_message("the kernel's FUSE did not greet back").because(e))
    }

    /// Answers until the mount is gone. An error is an end that was no unmount.
    pub(super) fn run(self) -> Result<()> {
        self.0.run().map_err(|e| Error::io_message("the connection to the kernel broke").because(e))
    }
}

struct Adapter {
    tree: Arc<ReadTree>,
}

impl Adapter {
    /// Runs one request: a panic is an answer like any other, and what is worth a line in the log gets one.
    fn answer<T>(&self, doing: &str, ino: INodeNo, work: impl FnOnce(&ReadTree) -> Answer<T>) -> std::result::Result<T, Errno> {
        let answer = catch_unwind(AssertUnwindSafe(|| work(&self.tree))).unwrap_or(Err(Failure::Panicked));
        answer.map_err(|failure| {
            // Naming the path may panic as well, if the panic came from the manifest.
            drop(catch_unwind(AssertUnwindSafe(|| self.tree.log_failure(doing, ino.0, &failure))));
            Errno::from_i32(failure.errno())
        })
    }

    fn attr(&self, of: &Attributes) -> FileAttr {
        let seconds = Duration::from_secs(of.time.unsigned_abs());
        let time = if of.time < 0 { SystemTime::UNIX_EPOCH.checked_sub(seconds) } else { SystemTime::UNIX_EPOCH.checked_add(seconds) };
        let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
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

    /// Differs between versions, so that an NFS handle of one mount is not taken for a file of the next; the root's must be 0.
    fn generation(&self, ino: u64) -> Generation {
        Generation(if ino == super::tree::ROOT { 0 } else { u64::from(self.tree.generation()) })
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
    }
}

thread_local! {
    /// What the last read of this thread filled: reused, so that reading does not allocate.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without READDIRPLUS_AUTO: it stops giving attributes after a directory's first page to who reads the whole listing before the first
        // stat, which is what find, ls -l and rsync do (first `find` of 20,000 in one directory: 7 × native with it, 2.2 × without).
        // ABORT_ERROR lets the end of the mount and the end of the connection be told apart; the rest is what an immutable tree may have.
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_ABORT_ERROR;
        // Older kernels go without some of them: all are for speed but the last, and that is looked at with care.
        let have = config.capabilities();
        let _ = config.add_capabilities(wanted & have);
        let _ = config.set_max_write(LARGEST_REQUEST);
        let _ = config.set_max_background(BACKGROUND.0);
        let _ = config.set_congestion_threshold(BACKGROUND.1);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.answer("look up a name in", parent, |tree| tree.lookup(parent.0, name.as_bytes())) {
            Ok(Some(found)) => reply.entry(&FOREVER, &self.attr(&found), self.generation(found.ino)),
            // Inode 0 with a lifetime: the kernel remembers that there is nothing.
            Ok(None) => reply.entry(&FOREVER, &self.attr(&Attributes::nothing()), Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.answer("look at", ino, |tree| tree.attributes(ino.0)) {
            Ok(found) => reply.attr(if ino == INodeNo::ROOT { &ROOT_FOR } else { &FOREVER }, &self.attr(&found)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.answer("read the link", ino, |tree| tree.read_link(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY;
        match self.answer("open", ino, |tree| if writes { Err(Failure::ReadOnly) } else { tree.open(ino.0) }) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(e) => reply.error(e),
        }
    }

    fn read(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, size: u32, _: OpenFlags, _: Option<LockOwner>, reply: ReplyData) {
        BUFFER.with_borrow_mut(|buffer| {
            match self.answer("read", ino, |tree| tree.read(ino.0, fh.0, offset, size, buffer)) {
                Ok(()) => reply.data(buffer),
                Err(e) => reply.error(e),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, _: Option<LockOwner>, _: bool, reply: ReplyEmpty) {
        self.tree.release(fh.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The kernel may keep the listing over all later opens.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.answer("list", ino, |tree| {
            tree.list(ino.0, offset, &mut |item| {
                let full = reply.add(INodeNo(item.attributes.ino), item.next, file_type(item.attributes.kind), OsStr::from_bytes(item.name));
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let listed = self.answer("list", ino, |tree| {
            tree.list(ino.0, offset, &mut |item| {
                let attr = self.attr(&item.attributes);
                let full = reply.add(attr.ino, item.next, OsStr::from_bytes(item.name), &FOREVER, &attr, self.generation(attr.ino.0));
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.answer("ask for the space of", ino, |tree| tree.space()) {
            Ok(s) => reply.statfs(s.blocks, s.blocks_free, s.blocks_available, s.files, s.files_free, s.block_size, 255, s.fragment_size),
            Err(e) => reply.error(e),
        }
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        // Mounted with default_permissions the kernel answers by itself, from the modes.
        let writes = mask.contains(AccessFlags::W_OK);
        match self.answer("look at", ino, |tree| if writes { Err(Failure::ReadOnly) } else { tree.attributes(ino.0).map(drop) }) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // ENOSYS once, and the kernel says ENOTSUP by itself from then on, without a round trip per file of `ls -l`.
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(&self, _: &Request, _: INodeNo, _: FileHandle, _: IoctlFlags, command: u32, _: &[u8], out_size: u32, reply: ReplyIoctl) {
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

    fn write(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: &[u8], _: WriteFlags, _: OpenFlags, _: Option<LockOwner>, reply: ReplyWrite) {
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
