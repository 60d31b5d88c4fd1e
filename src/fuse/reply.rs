//! Replies to the kernel: conversions to fuser's types, panics and errors as error numbers.

use super::attributes::{Attributes, FileKind};
use super::errno::{FuseResult, RequestFailure};
use super::tree::{ReadTree, WithReference};
use crate::manifest::Reference;
use crate::remote::shown_uri;
use fuser::{
    Errno, FileAttr, FileType, INodeNo, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs,
};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A reply that can be an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, e: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => { $(impl Refuse for $reply { fn refuse(self, e: Errno) { self.error(e); } })* };
}
refuse!(ReplyEmpty, ReplyEntry, ReplyAttr, ReplyData, ReplyOpen, ReplyDirectory, ReplyDirectoryPlus, ReplyStatfs);

/// Runs one request. A panic becomes EIO; errors are logged where the log should have them.
pub(super) fn guarded<T>(
    tree: &ReadTree,
    doing: &str,
    ino: u64,
    work: impl FnOnce(&ReadTree) -> FuseResult<T>,
) -> std::result::Result<T, Errno> {
    let answer = catch_unwind(AssertUnwindSafe(|| work(tree))).unwrap_or(Err(RequestFailure::Panicked));
    answer.map_err(|failure| logged(tree, doing, ino, &failure))
}

/// Logs a failure; returns its error number.
pub(super) fn logged(tree: &ReadTree, doing: &str, ino: u64, failure: &RequestFailure) -> Errno {
    // Naming the path may panic as well, if the panic came from the manifest.
    drop(catch_unwind(AssertUnwindSafe(|| tree.log_failure(doing, ino, failure))));
    Errno::from_i32(failure.errno())
}

/// Reads a part of a file, or returns the reference that it is.
pub(super) fn read_here(
    tree: &ReadTree,
    ino: u64,
    offset: u64,
    size: u32,
) -> FuseResult<std::result::Result<Vec<u8>, Box<Reference>>> {
    let mut buffer = BUFFER.take();
    match tree.read(ino, offset, size, &mut buffer) {
        Err(RequestFailure::Elsewhere(reference)) => Ok(Err(reference)),
        read => read.map(|()| Ok(buffer)),
    }
}

/// Answers a read of a reference, in a thread that may wait for its source.
pub(super) fn read_elsewhere(
    tree: &Arc<ReadTree>,
    ino: INodeNo,
    reference: Box<Reference>,
    (offset, size): (u64, u32),
    reply: ReplyData,
) {
    let pool = match tree.far().pool() {
        Ok(pool) => pool,
        Err(failure) => return reply.error(logged(tree, "read", ino.0, &failure)),
    };
    let (reader, late, deadline, uri) = (tree.clone(), tree.clone(), pool.deadline(), shown_uri(&reference.uri));
    let work = move || {
        guarded(&reader, "read", ino.0, |tree| {
            let mut buffer = BUFFER.take();
            tree.far().read(&reference, offset, size, &mut buffer)?;
            Ok(buffer)
        })
    };
    let send = |reply: ReplyData, answer: std::result::Result<Vec<u8>, Errno>| match answer {
        Ok(buffer) => {
            reply.data(&buffer);
            BUFFER.set(buffer);
        }
        Err(e) => reply.error(e),
    };
    let refuse = move |reply: ReplyData| {
        reply.error(logged(&late, "read", ino.0, &RequestFailure::SourceTooSlow(uri, deadline)));
    };
    pool.answer(reply, work, send, refuse);
}

/// Answers a request for attributes. If they lack the size of a reference, a thread asks its source.
pub(super) fn attributes_elsewhere(tree: &Arc<ReadTree>, (found, lacking): WithReference, reply: ReplyAttr) {
    let send = |reply: ReplyAttr, found: Attributes| reply.attr(&found.attributes_for, &attr(&found));
    match (lacking, tree.far().pool()) {
        (Some(reference), Ok(pool)) => {
            let asking = tree.clone();
            let work = move || asking.ask_size(found, &reference);
            pool.answer(reply, work, send, move |reply| send(reply, found));
        }
        _ => send(reply, found),
    }
}

/// A time in seconds and nanoseconds since 1970.
pub(super) fn system_time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let part = Duration::from_nanos(nanoseconds.clamp(0, 999_999_999) as u64);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    time.and_then(|t| t.checked_add(part)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn attr(of: &Attributes) -> FileAttr {
    let time = system_time(of.time.0, of.time.1.into());
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

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
    }
}

/// The attributes of a name that does not exist: inode 0. With a lifetime, the kernel caches that the name is absent.
pub(super) fn absent() -> FileAttr {
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

/// The answer to [`INFO_COMMAND`](crate::mount::INFO_COMMAND): this process's id.
pub(super) fn daemon_info() -> [u8; 8] {
    let mut answer = [0; 8];
    answer[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    answer
}

thread_local! {
    /// The buffer of this thread's last read, which is used again so that reads do not allocate.
    pub(super) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::super::VerifyMode;
    use super::super::attributes::{ListedName, Looked};
    use super::super::files::Files;
    use super::super::inode_tree::{InodeTree, Readable};
    use super::super::log::{Log, Target};
    use super::*;
    use std::ops::ControlFlow;
    use std::sync::Arc;

    /// A tree in which each call panics.
    struct Broken;

    impl InodeTree for Broken {
        fn attributes(&self, _: u64) -> FuseResult<Attributes> {
            panic!("as the test requires");
        }
        fn lookup(&self, _: u64, _: &[u8]) -> FuseResult<Looked> {
            panic!("as the test requires");
        }
        fn read_link(&self, _: u64) -> FuseResult<Vec<u8>> {
            panic!("as the test requires");
        }
        fn list(&self, _: u64, _: u64, _: &mut dyn FnMut(ListedName<'_>) -> ControlFlow<()>) -> FuseResult<()> {
            panic!("as the test requires");
        }
        fn readable(&self, _: u64) -> FuseResult<Readable> {
            panic!("as the test requires");
        }
        fn path(&self, _: u64) -> Option<String> {
            panic!("as the test requires");
        }
    }

    #[test]
    fn a_panic_is_eio_for_its_request_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::init(dir.path().join("store"), &Default::default()).unwrap();
        let log = Log::new(Target::File(crate::disk::open_log(&dir.path().join("log")).unwrap()), "x".into());
        let files = Arc::new(Files::new(store.objects().clone(), VerifyMode::Put));
        let tree = ReadTree::new(Arc::new(Broken), files, store.root().to_path_buf(), log);
        let errno = |e: Errno| e.code();
        assert_eq!(
            guarded(&tree, "read the attributes of", 1, |tree| tree.attributes(1)).map_err(errno).unwrap_err(),
            libc::EIO
        );
        assert_eq!(
            guarded(&tree, "read", 2, |tree| tree.read(2, 0, 1, &mut Vec::new())).map_err(errno).unwrap_err(),
            libc::EIO
        );
        assert!(guarded(&tree, "ask", 1, |tree| tree.space()).is_ok());
    }
}
