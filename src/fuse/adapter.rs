//! Requests of a read-only mount: unpacks them, has them answered by the tree or the pool, and packs the answers.

use super::attributes::{Looked, Page};
use super::errno::{FuseResult, RequestFailure};
use super::open_mode::{Negotiated, OpenMode};
use super::opens::Opens;
use super::pool::Pool;
use super::readahead::Readahead;
use super::reply::{
    BUFFER, Refuse, absent, attr, attributes_elsewhere, daemon_info, file_type, guarded, logged, read_elsewhere,
    read_here,
};
use super::tree::ReadTree;
use crate::mount::INFO_COMMAND;
use fuser::{
    AccessFlags, BackingId, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// The size of the largest read request: the default of `fs.fuse.max_pages_limit`.
const LARGEST_REQUEST: u32 = 1 << 20;
/// How many background requests (mostly readahead) the kernel may send at a time, and from which number on it takes the
/// connection for congested.
const BACKGROUND: (u16, u16) = (64, 48);
/// The sizes of `fuse_dirent` and `fuse_direntplus`: the bytes before each name in a listing without and with
/// attributes.
const DIRENT: (usize, usize) = (24, 152);
/// How many bytes of a listing are collected for the first request.
const LISTING: usize = 32 << 10;
/// The handle of an open that [`Opens`] counts. Other opens have handle 0.
const COUNTED: u64 = 1;

/// Answers the kernel's requests.
pub(super) struct Adapter {
    tree: Arc<ReadTree>,
    negotiated: Arc<Negotiated>,
    opens: Arc<Opens<BackingId>>,
    pool: Option<Pool>,
    /// How much of a listing the kernel took last. It does not say how much it has room for.
    room: Arc<AtomicUsize>,
    readahead: Arc<Readahead>,
}

impl Adapter {
    /// An adapter for `tree`.
    pub(super) fn new(
        tree: Arc<ReadTree>,
        negotiated: Arc<Negotiated>,
        pool: Option<Pool>,
        readahead: Arc<Readahead>,
    ) -> Adapter {
        let (opens, room) = (Arc::new(Opens::new()), Arc::new(AtomicUsize::new(LISTING)));
        Adapter { tree, negotiated, opens, pool, room, readahead }
    }

    /// Answers a request with the result of `work`: in this thread, or in the pool.
    fn answer<R: Refuse, T>(
        &self,
        doing: &'static str,
        ino: INodeNo,
        reply: R,
        work: impl FnOnce(&ReadTree) -> FuseResult<T> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let finish = move |reply: R, answer: std::result::Result<T, Errno>| match answer {
            Ok(answer) => send(reply, answer),
            Err(e) => reply.refuse(e),
        };
        let Some(pool) = &self.pool else { return finish(reply, guarded(&self.tree, doing, ino.0, work)) };
        let (tree, late, deadline) = (self.tree.clone(), self.tree.clone(), pool.deadline());
        let refuse = move |reply: R| reply.refuse(logged(&late, doing, ino.0, &RequestFailure::TooSlow(deadline)));
        pool.answer(reply, move || guarded(&tree, doing, ino.0, work), finish, refuse);
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without READDIRPLUS_AUTO: with it the kernel asks for attributes only with a directory's first page if a
        // program reads the whole listing before the first stat, as find, ls -l and rsync do. The first `find` of
        // 20,000 files in one directory took 7 times as long as on ext4 with it, and 2.2 times without. ABORT_ERROR
        // distinguishes an aborted connection from an unmount. The other flags suit an immutable tree.
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
            // When a directory's attributes have expired, the kernel checks its mtime before it uses a cached listing.
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        // Older kernels lack some of them. All but the last only affect speed.
        let have = config.capabilities();
        let _ = self.negotiated.kernel_has.set(have); // it is set only once
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
                // Inode 0 with a lifetime: the kernel caches that the name does not exist.
                Looked::Nothing(keep) => reply.entry(&keep, &absent(), Generation(0)),
            },
        );
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        self.tree.forget(ino.0, times);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (tree, work) = (self.tree.clone(), move |tree: &ReadTree| tree.attributes(ino.0));
        let send = move |reply, found| attributes_elsewhere(&tree, found, reply);
        self.answer("read the attributes of", ino, reply, work, send);
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
        // The page cache is kept across opens, because the content of an inode never changes.
        const KEPT: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);
        let mode = self.negotiated.open_mode.get().copied().unwrap_or(OpenMode::Plain);
        if mode == OpenMode::NoOpen {
            return reply.error(Errno::ENOSYS);
        }
        if flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        if mode == OpenMode::Plain {
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
            move |tree: &ReadTree| if joined.is_some() { Ok((joined, None)) } else { Ok((None, tree.backing(ino.0)?)) };
        self.answer("open", ino, reply, work, move |reply, (joined, backing)| {
            let shared = match (joined, backing) {
                (Some(shared), _) => shared,
                (None, None) => return reply.opened(FileHandle(0), KEPT),
                // If the kernel refuses the file, it is read through the daemon.
                (None, Some(backing)) => {
                    opens.begin(ino.0, backing.file().and_then(|file| reply.open_backing(file).ok()))
                }
            };
            match &*shared {
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
            self.readahead.read(ino.0);
        }
        let work = move |tree: &ReadTree| read_here(tree, ino.0, offset, size);
        let tree = self.tree.clone();
        self.answer("read", ino, reply, work, move |reply, answer| match answer {
            Ok(buffer) => {
                reply.data(&buffer);
                BUFFER.set(buffer);
            }
            Err(reference) => read_elsewhere(&tree, ino, reference, (offset, size), reply),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // After ENOSYS the kernel sends no more flush requests.
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
        if self.negotiated.kernel_has(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            return reply.error(Errno::ENOSYS);
        }
        // The kernel may keep the listing for all later opens.
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
                page.add_to(&room, |item| {
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
        let (room, tree, readahead) = (self.room.clone(), self.tree.clone(), self.readahead.clone());
        let page = Page::new(room.load(Ordering::Relaxed), DIRENT.1);
        self.answer(
            "list",
            ino,
            reply,
            move |tree| tree.list(ino.0, offset, page),
            move |mut reply, page| {
                let mut last = 0;
                page.add_to(&room, |item| {
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
                    // The kernel does not count `.` and `..` as looked up.
                    if !full && item.name != b"." && item.name != b".." {
                        tree.listed(a.ino);
                        last = a.ino;
                    }
                    full
                });
                reply.ok();
                readahead.listed(ino.0, last);
            },
        );
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.answer(
            "get the free space of",
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
        // With default_permissions the kernel decides by itself, from the modes.
        let writes = mask.contains(AccessFlags::W_OK);
        let work = move |tree: &ReadTree| {
            if writes { Err(RequestFailure::ReadOnly) } else { tree.attributes(ino.0).map(drop) }
        };
        self.answer("read the attributes of", ino, reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // After ENOSYS the kernel answers ENOTSUP by itself, without a round trip for each file of `ls -l`.
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
        if command == INFO_COMMAND && out_size == 8 {
            reply.ioctl(0, &daemon_info());
        } else {
            reply.error(Errno::ENOTTY);
        }
    }

    // The requests from here on would change something. They arrive only if root remounts the mount writable.

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
