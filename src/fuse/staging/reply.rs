//! Replies of a staging mount to the kernel: conversions between the system's types and fuser's.

use super::admission::Requester;
use super::table::ALIASES;
use super::tree::Attr;
use crate::disk::backing::{Caller, SetTime};
use crate::fuse::errno::ErrnoResult;
use crate::fuse::reply::system_time;
use fuser::{
    Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyEntry, ReplyStatfs, ReplyXattr, Request, TimeOrNow,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, UNIX_EPOCH};

/// How long the kernel may cache what is in a run: it is changed through this mount only.
pub(super) const IN_RUN: Duration = Duration::from_secs(3600);
/// How long the kernel may cache what is above the runs, where other processes make directories too.
const ABOVE_RUNS: Duration = Duration::from_secs(1);
/// Runs one request; a panic becomes EIO.
pub(super) fn guarded<T>(work: impl FnOnce() -> ErrnoResult<T>) -> std::result::Result<T, Errno> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(libc::EIO)).map_err(Errno::from_i32)
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

pub(super) fn listed_type(kind: u8) -> FileType {
    file_type(u32::from(kind) << 12)
}

pub(super) fn attr(of: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.st_ino),
        size: of.st_size as u64,
        blocks: of.st_blocks as u64,
        atime: system_time(of.st_atime, of.st_atime_nsec),
        mtime: system_time(of.st_mtime, of.st_mtime_nsec),
        ctime: system_time(of.st_ctime, of.st_ctime_nsec),
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

/// How long the kernel may cache a node's name and attributes.
pub(super) fn lifetime(of: &Attr) -> &'static Duration {
    if of.st_ino >= ALIASES { &ABOVE_RUNS } else { &IN_RUN }
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

pub(super) fn requester(request: &Request) -> Requester {
    Requester { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// Answers with an entry.
pub(super) fn reply_entry(reply: ReplyEntry, work: impl FnOnce() -> ErrnoResult<Attr>) {
    match guarded(work) {
        Ok(found) => reply.entry(lifetime(&found), &attr(&found), Generation(0)),
        Err(e) => reply.error(e),
    }
}

/// Answers with attributes.
pub(super) fn reply_attr(reply: ReplyAttr, work: impl FnOnce() -> ErrnoResult<Attr>) {
    match guarded(work) {
        Ok(found) => reply.attr(lifetime(&found), &attr(&found)),
        Err(e) => reply.error(e),
    }
}

/// Answers with the space on a file system.
pub(super) fn reply_statfs(reply: ReplyStatfs, found: &libc::statvfs) {
    reply.statfs(
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_bsize as u32,
        found.f_namemax as u32,
        found.f_frsize as u32,
    );
}

/// Answers with the value of an extended attribute, or with its length if `size` is 0.
pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, value: std::result::Result<Vec<u8>, Errno>) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(e) => reply.error(e),
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
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
