//! `cairn get` to file systems that do not tell all names apart, as cifs, vfat and exfat do not. This one is in memory.

use crate::support::{TestStore, make_tree, snapshot};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Names with the same fold are one.
type Fold = fn(&str) -> String;

struct Node {
    kind: FileType,
    mode: u32,
    bytes: Vec<u8>,
    names: BTreeMap<String, (OsString, u64)>,
}

struct Folding {
    fold: Fold,
    nodes: Mutex<Vec<Node>>,
}

const NO_TIME: Duration = Duration::ZERO;

impl Folding {
    fn mounted(at: &Path, fold: Fold) -> fuser::BackgroundSession {
        let root = Node { kind: FileType::Directory, mode: 0o755, bytes: Vec::new(), names: BTreeMap::new() };
        fuser::spawn_mount(Folding { fold, nodes: Mutex::new(vec![root]) }, at, &fuser::Config::default()).unwrap()
    }

    fn key(&self, name: &OsStr) -> String {
        (self.fold)(name.to_str().unwrap())
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap()
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let nodes = self.nodes();
        let node = &nodes[ino as usize - 1];
        FileAttr {
            ino: INodeNo(ino),
            size: node.bytes.len() as u64,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: node.kind,
            perm: node.mode as u16,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<u64> {
        self.nodes()[parent.0 as usize - 1].names.get(&self.key(name)).map(|(_, ino)| *ino)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32, bytes: &[u8]) -> Result<FileAttr, Errno> {
        if self.find(parent, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let mut nodes = self.nodes();
        nodes.push(Node { kind, mode: mode & 0o777, bytes: bytes.to_vec(), names: BTreeMap::new() });
        let ino = nodes.len() as u64;
        nodes[parent.0 as usize - 1].names.insert(self.key(name), (name.to_owned(), ino));
        drop(nodes);
        Ok(self.attr(ino))
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.nodes()[parent.0 as usize - 1].names.remove(&self.key(name)) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }
}

impl Filesystem for Folding {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Some(ino) => reply.entry(&NO_TIME, &self.attr(ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_TIME, &self.attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut nodes = self.nodes();
        let node = &mut nodes[ino.0 as usize - 1];
        node.mode = mode.unwrap_or(node.mode) & 0o777;
        node.bytes.resize(size.unwrap_or(node.bytes.len() as u64) as usize, 0);
        drop(nodes);
        reply.attr(&NO_TIME, &self.attr(ino.0));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        reply.data(&self.nodes()[ino.0 as usize - 1].bytes);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        match self.make(parent, name, FileType::Directory, mode, b"") {
            Ok(attr) => reply.entry(&NO_TIME, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        match self.make(parent, name, FileType::Symlink, 0o777, target.as_os_str().as_bytes()) {
            Ok(attr) => reply.entry(&NO_TIME, &attr, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags != RenameFlags::empty() {
            return reply.error(Errno::EINVAL); // as NFS says
        }
        let mut nodes = self.nodes();
        let Some((_, ino)) = nodes[parent.0 as usize - 1].names.remove(&self.key(name)) else {
            return reply.error(Errno::ENOENT);
        };
        nodes[new_parent.0 as usize - 1].names.insert(self.key(new_name), (new_name.to_owned(), ino));
        reply.ok();
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
        let nodes = self.nodes();
        let bytes = &nodes[ino.0 as usize - 1].bytes;
        let from = (offset as usize).min(bytes.len());
        reply.data(&bytes[from..(from + size as usize).min(bytes.len())]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut nodes = self.nodes();
        let bytes = &mut nodes[ino.0 as usize - 1].bytes;
        let end = offset as usize + data.len();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[offset as usize..end].copy_from_slice(data);
        reply.written(data.len() as u32);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let nodes = self.nodes();
        let own = [(OsString::from("."), ino.0), (OsString::from(".."), 1)];
        let all = own.iter().chain(nodes[ino.0 as usize - 1].names.values());
        for (i, (name, child)) in all.enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*child), i as u64 + 1, nodes[*child as usize - 1].kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.make(parent, name, FileType::RegularFile, mode, b"") {
            Ok(attr) => reply.created(&NO_TIME, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(e) => reply.error(e),
        }
    }
}

/// A test store with a version of `files`, and such a file system on `m`.
fn test_store(files: &[(&str, &[u8])], fold: Fold) -> (TestStore, fuser::BackgroundSession) {
    let test_store = TestStore::new();
    make_tree(&test_store.path("src"), files);
    test_store.ok(&["put", "x", "src"]);
    std::fs::create_dir(test_store.path("m")).unwrap();
    let mounted = Folding::mounted(&test_store.path("m"), fold);
    (test_store, mounted)
}

fn no_case(name: &str) -> String {
    name.to_lowercase()
}

/// As vfat does.
fn no_dots_at_the_end(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}

#[test]
fn names_that_differ_by_case_alone_are_refused_before_anything_is_written() {
    let (test_store, _mounted) =
        test_store(&[("A.txt", b"1"), ("a.txt", b"2"), ("Dir/x", b"3"), ("dir/y", b"4")], no_case);
    std::fs::create_dir(test_store.path("m/empty")).unwrap();
    make_tree(&test_store.path("m/some"), &[("other", b"mine")]);
    for (target, left) in [("m/new", None), ("m/empty", Some(0)), ("m/some", Some(1))] {
        for more in [&[][..], &["--force", "--prune"]] {
            let stderr = test_store.fails(&[&["get", "x", target], more].concat(), 3);
            assert!(stderr.contains("A.txt and a.txt, Dir and dir"), "{stderr}");
            let there = std::fs::read_dir(test_store.path(target)).ok().map(|d| d.count());
            assert_eq!(there, left, "{target}");
        }
    }
    test_store.ok(&["get", "x", "m/part", "--path", "Dir"]);
    assert_eq!(std::fs::read(test_store.path("m/part/Dir/x")).unwrap(), b"3");
}

#[test]
fn an_entry_whose_name_another_file_has_here_is_refused_and_that_file_is_left_alone() {
    let (test_store, _mounted) = test_store(&[("readme", b"1"), ("sub/b", b"2")], no_case);
    make_tree(&test_store.path("m/out"), &[("README", b"mine")]);
    for more in [&[][..], &["--force"], &["--force", "--prune"]] {
        let stderr = test_store.fails(&[&["get", "x", "m/out"], more].concat(), 3);
        assert!(stderr.contains("readme and README are one name"), "{stderr}");
        assert_eq!(snapshot(&test_store.path("m/out")).len(), 1);
        assert_eq!(std::fs::read(test_store.path("m/out/README")).unwrap(), b"mine");
    }
}

#[test]
fn names_that_become_one_in_another_way_are_refused_when_the_second_is_written() {
    for files in [[("a", &b"1"[..]), ("a.", b"2")], [("d/x", b"1"), ("d./x", b"2")]] {
        let (test_store, _mounted) = test_store(&files, no_dots_at_the_end);
        std::fs::create_dir(test_store.path("m/empty")).unwrap();
        make_tree(&test_store.path("m/some"), &[("other", b"mine")]);
        for target in ["m/new", "m/empty", "m/some", "m/some"] {
            let stderr = test_store.fails(&["get", "x", target, "--force", "--prune"], 3);
            assert!(stderr.contains("are one name on the file system"), "{target}: {stderr}");
        }
        assert!(!test_store.path("m/new").exists());
        assert_eq!(
            std::fs::read(test_store.path("m/some/other")).unwrap(),
            b"mine",
            "refused before anything was pruned"
        );
    }
}

#[test]
fn a_version_without_such_names_is_written_there_as_anywhere() {
    let (test_store, _mounted) = test_store(&[("A.txt", b"1"), ("Dir/b.txt", b"2"), ("Dir/sub/c", b"3")], no_case);
    for _ in 0..2 {
        test_store.ok(&["get", "x", "m/out"]);
        assert_eq!(snapshot(&test_store.path("m/out")), snapshot(&test_store.path("src")));
    }
    make_tree(&test_store.path("m/out"), &[("extra", b"")]);
    test_store.ok(&["get", "x", "m/out", "--prune"]);
    assert_eq!(snapshot(&test_store.path("m/out")), snapshot(&test_store.path("src")));
}
