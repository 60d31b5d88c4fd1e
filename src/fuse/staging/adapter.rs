//! Requests of a staging mount: unpacks them, has them done by the tree, and packs the answers. A panic becomes EIO for
//! one request.

use super::admission::Admission;
use super::metadata::AttrChange;
use super::passthrough::Passthrough;
use super::permissions::Permissions;
use super::reply::{
    IN_RUN, attr, caller, guarded, lifetime, listed_type, reply_attr, reply_entry, reply_statfs, reply_xattr,
    requester, set_time,
};
use super::request::{REQUEST, ROOM};
use super::seal_requests::SealRequests;
use super::table::ROOT;
use super::tree::{Attr, StagingTree};
use crate::fuse::reply::{BUFFER, absent, daemon_info};
use crate::mount::INFO_COMMAND;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const LARGEST_REQUEST: u32 = 1 << 20;

/// Answers the kernel's requests.
pub(super) struct StagingAdapter {
    tree: Arc<StagingTree>,
    permissions: Arc<Permissions>,
    passthrough: Arc<Passthrough>,
    seal_requests: SealRequests,
}

impl StagingAdapter {
    pub(super) fn new(tree: Arc<StagingTree>, admission: Admission, passthrough: Arc<Passthrough>) -> StagingAdapter {
        let permissions = Arc::new(Permissions::new(tree.clone(), admission));
        let seal_requests = SealRequests::new(tree.clone(), permissions.clone());
        StagingAdapter { tree, permissions, passthrough, seal_requests }
    }
}

/// Answers a request without data.
macro_rules! done {
    ($reply:expr, $work:expr) => {
        match guarded(|| $work) {
            Ok(()) => $reply.ok(),
            Err(e) => $reply.error(e),
        }
    };
}

/// Answers a request with an error unless it is admitted.
macro_rules! admitted {
    ($reply:expr, $admitted:expr) => {
        if let Err(e) = $admitted {
            return $reply.error(Errno::from_i32(e));
        }
    };
}

impl Filesystem for StagingAdapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.passthrough.negotiate(config);
        let _ = config.set_max_write(LARGEST_REQUEST);
        let _ = config.set_max_readahead(LARGEST_REQUEST);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, false));
        match guarded(|| self.tree.lookup(parent.0, name)) {
            // The kernel may cache that a name does not exist, because new names are made through it.
            Err(e) if e.code() == libc::ENOENT && self.tree.is_in_run(parent.0) => {
                reply.entry(&IN_RUN, &absent(), Generation(0));
            }
            found => reply_entry(reply, || found.map_err(|e| e.code())),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        drop(catch_unwind(AssertUnwindSafe(|| self.tree.forget(ino.0, count))));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        reply_attr(reply, || self.tree.attributes(ino.0, handle.map(|h| h.0)));
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
        admitted!(reply, self.permissions.admit(requester(request), ino.0, true));
        let change = AttrChange {
            size,
            keeps_privileges: request.uid() == 0,
            owner: (uid, gid),
            mode,
            times: (accessed.map(set_time), modified.map(set_time)),
        };
        let set = || self.tree.set_attributes(ino.0, handle.map(|h| h.0), change);
        reply_attr(reply, || self.tree.change("change", ino.0, None, set));
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        admitted!(reply, self.permissions.admit(requester(request), ino.0, false));
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
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        let make = || self.tree.make_node(parent.0, name, mode, u64::from(rdev), caller(request));
        reply_entry(reply, || self.tree.change("create", parent.0, Some(name), make));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        let make = || self.tree.make_directory(parent.0, name, mode, caller(request));
        reply_entry(reply, || self.tree.change("create", parent.0, Some(name), make));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        done!(reply, self.tree.change("remove", parent.0, Some(name), || self.tree.remove(parent.0, name, false)));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        done!(reply, self.tree.change("remove", parent.0, Some(name), || self.tree.remove(parent.0, name, true)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        let make = || self.tree.make_symlink(parent.0, name, target.as_os_str(), caller(request));
        reply_entry(reply, || self.tree.change("create", parent.0, Some(name), make));
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
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        let rename = || self.tree.rename(parent.0, name, new_parent.0, new_name, flags.bits());
        done!(reply, self.tree.change("rename", parent.0, Some(name), rename));
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        reply_entry(reply, || self.tree.change("link", parent.0, Some(name), || self.tree.link(ino.0, parent.0, name)));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY;
        admitted!(reply, self.permissions.admit(requester(request), ino.0, writes));
        let open = || self.tree.open(ino.0, flags.0, request.pid());
        let handle = match guarded(|| self.tree.change("open", ino.0, None, open)) {
            Ok(handle) => handle,
            Err(e) => return reply.error(e),
        };
        let file = || self.tree.handles.file(handle).ok();
        let (shared, how) = self.passthrough.open(ino.0, file, |file| reply.open_backing(file));
        match &*shared {
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
        admitted!(reply, self.permissions.admit(requester(request), parent.0, true));
        let make = || self.tree.create(parent.0, name, mode, flags, caller(request), request.pid());
        let (made, handle) = match guarded(|| self.tree.change("create", parent.0, Some(name), make)) {
            Ok(made) => made,
            Err(e) => return reply.error(e),
        };
        let file = || self.tree.handles.file(handle).ok();
        let (shared, how) = self.passthrough.open(made.st_ino, file, |file| reply.open_backing(file));
        match &*shared {
            Some(backing) => reply.created_passthrough(
                lifetime(&made),
                &attr(&made),
                Generation(0),
                FileHandle(handle),
                how,
                backing,
            ),
            None => reply.created(lifetime(&made), &attr(&made), Generation(0), FileHandle(handle), how),
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
        self.seal_requests.close(handle.0);
        self.passthrough.close(ino.0, flags.0 & libc::O_ACCMODE != libc::O_RDONLY);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        done!(reply, self.tree.change("sync", ino.0, None, || self.tree.sync(handle.0, data_only)));
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        admitted!(reply, self.permissions.admit(requester(request), ino.0, false));
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
            Some(known) => {
                reply.add(INodeNo(known.st_ino), next as u64, name, lifetime(known), &attr(known), Generation(0))
            }
            None => {
                let named = FileAttr { ino: INodeNo(number), kind: listed_type(kind), ..absent() };
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
        self.seal_requests.close(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done!(reply, self.tree.sync_directory(ino.0));
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let ino = if ino.0 == 0 { ROOT } else { ino.0 };
        match guarded(|| self.tree.statfs(ino)) {
            Ok(found) => reply_statfs(reply, &found),
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
        admitted!(reply, self.permissions.admit(requester(request), ino.0, true));
        let set = || self.tree.set_xattr(ino.0, name, value, flags);
        done!(reply, self.tree.change("change", ino.0, None, set));
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        admitted!(reply, self.permissions.admit(requester(request), ino.0, false));
        reply_xattr(reply, size, guarded(|| self.tree.get_xattr(ino.0, name)));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        admitted!(reply, self.permissions.admit(requester(request), ino.0, false));
        reply_xattr(reply, size, guarded(|| self.tree.list_xattr(ino.0)));
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        admitted!(reply, self.permissions.admit(requester(request), ino.0, true));
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
            return reply.ioctl(0, &daemon_info());
        }
        if command != REQUEST || (room as usize) < ROOM {
            return reply.error(Errno::ENOTTY);
        }
        self.seal_requests.answer(requester(request), (ino.0, handle.0), data, |answer| match answer {
            Some(bytes) => reply.ioctl(0, &bytes),
            None => reply.error(Errno::ENOTTY),
        });
    }
}
