//! The smallest FUSE programs that do what cairn's mounts do, with nothing of cairn: what they cannot reach is the
//! kernel's limit, not the store's.
//!
//! [`Reader`] shows a tree that it has read into memory before: immutable, cached permanently, without opens or with
//! passthrough, the connection agreed on as cairn's. [`Writer`] passes everything on to a directory, files opened with
//! passthrough, as a staging mount's. Each is served by a process of its own ([`serve`]), which the bench starts from
//! its own binary.

use fuser::*;
use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEEP: Duration = Duration::from_secs(1 << 30);
const LARGEST: u32 = 1 << 20;
/// Files of at most this many bytes are held in memory.
const SMALL: u64 = 128 << 10;

/// A served floor, gone when this is dropped.
pub struct Floor {
    child: Child,
    at: PathBuf,
}

impl Floor {
    /// Serves `source` at `at`; `how`: `no-open`, `passthrough`, `memory` (large files have any bytes) or `write`.
    pub fn start(how: &str, source: &Path, at: &Path) -> io::Result<Floor> {
        let before = fs::metadata(at)?.dev();
        let child = Command::new(std::env::current_exe()?).arg("floor").arg(how).arg(source).arg(at).spawn()?;
        let floor = Floor { child, at: at.to_owned() };
        for _ in 0..60_000 {
            if fs::metadata(at)?.dev() != before {
                return Ok(floor);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other("the floor did not mount"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.at).output().is_ok_and(|o| o.status.success());
        if !done {
            let _ = Command::new("fusermount3").arg("-u").arg(&self.at).status();
        }
        let _ = self.child.wait();
    }
}

/// What the process that [`Floor::start`] starts does: `args` after the argument `floor`.
pub fn serve(args: &[String]) -> io::Result<()> {
    let (how, source, at) = (args[0].as_str(), Path::new(&args[1]), Path::new(&args[2]));
    let mut config = Config::default();
    config.n_threads = Some(2);
    config.mount_options.push(MountOption::FSName("floor".into()));
    if how.starts_with("write") {
        return Session::new(Writer::new(source, how == "write")?, at, &config)?.run();
    }
    config.mount_options.extend([MountOption::RO, MountOption::DefaultPermissions]);
    let mut reader = Reader::of(source, how == "passthrough")?;
    reader.from_memory = how == "memory";
    let session = Session::new(reader, at, &config)?;
    let at = at.to_owned();
    // By another thread: asking for the mount's device takes an answer of the session.
    std::thread::spawn(move || {
        let device = fs::metadata(&at).map_or(0, |meta| meta.dev());
        let read_ahead = format!("/sys/class/bdi/{}:{}/read_ahead_kb", libc::major(device), libc::minor(device));
        let _ = fs::write(read_ahead, "4096"); // as root only, and as cairn does
    });
    session.run()
}

enum Content {
    Directory(Vec<(OsString, u64)>),
    Small(Vec<u8>),
    Large(File),
}

struct Node {
    content: Content,
    attr: FileAttr,
}

/// Nodes by their number less one.
pub struct Reader {
    nodes: Vec<Node>,
    by_name: HashMap<(u64, OsString), u64>,
    passthrough: bool,
    /// Large files are not read: what is answered was in memory before.
    from_memory: bool,
    opens: Mutex<HashMap<u64, BackingId>>,
}

impl Reader {
    fn of(source: &Path, passthrough: bool) -> io::Result<Reader> {
        let (nodes, by_name) = (Vec::new(), HashMap::new());
        let mut reader = Reader { nodes, by_name, passthrough, from_memory: false, opens: Mutex::default() };
        reader.add(source)?;
        Ok(reader)
    }

    fn add(&mut self, path: &Path) -> io::Result<u64> {
        let meta = fs::symlink_metadata(path)?;
        let ino = self.nodes.len() as u64 + 1;
        let content = match meta.len() {
            _ if meta.is_dir() => Content::Directory(Vec::new()),
            small if small <= SMALL => Content::Small(fs::read(path)?),
            _ => Content::Large(File::open(path)?),
        };
        self.nodes.push(Node { content, attr: attr(ino, &meta) });
        if meta.is_dir() {
            let mut names: Vec<OsString> =
                fs::read_dir(path)?.map(|e| Ok(e?.file_name())).collect::<io::Result<_>>()?;
            names.sort();
            let mut entries = Vec::new();
            for name in names {
                let child = self.add(&path.join(&name))?;
                self.by_name.insert((ino, name.clone()), child);
                entries.push((name, child));
            }
            self.nodes[ino as usize - 1].content = Content::Directory(entries);
        }
        Ok(ino)
    }

    fn node(&self, ino: u64) -> &Node {
        &self.nodes[ino as usize - 1]
    }
}

fn attr(ino: u64, meta: &fs::Metadata) -> FileAttr {
    let time = |seconds: i64, nanos: i64| UNIX_EPOCH + Duration::new(seconds as u64, nanos as u32);
    FileAttr {
        ino: INodeNo(ino),
        size: meta.len(),
        blocks: meta.blocks(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: if meta.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (meta.mode() & 0o7777) as u16,
        nlink: 1,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Reader {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_PASSTHROUGH;
        let have = config.capabilities();
        let _ = config.add_capabilities(wanted & have);
        let _ = config.set_max_stack_depth(1);
        let _ = config.set_max_write(LARGEST);
        let _ = config.set_max_background(64);
        let _ = config.set_congestion_threshold(48);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.by_name.get(&(parent.0, name.to_owned())) {
            Some(ino) => reply.entry(&KEEP, &self.node(*ino).attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&KEEP, &self.node(ino.0).attr);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let Content::Large(file) = &self.node(ino.0).content else { return reply.error(Errno::ENOSYS) };
        if !self.passthrough {
            return reply.error(Errno::ENOSYS);
        }
        let mut opens = self.opens.lock().expect("whole");
        let backing = opens.entry(ino.0).or_insert_with(|| reply.open_backing(file.as_fd()).expect("as root"));
        reply.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, backing);
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
        match &self.node(ino.0).content {
            Content::Small(bytes) => {
                let from = bytes.len().min(offset as usize);
                reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
            }
            Content::Large(file) => BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(size as usize, 0);
                let n = match self.from_memory {
                    true => self.node(ino.0).attr.size.saturating_sub(offset).min(size.into()) as usize,
                    false => file.read_at(buffer, offset).expect("it is read"),
                };
                reply.data(&buffer[..n]);
            }),
            Content::Directory(_) => reply.error(Errno::EISDIR),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Content::Directory(entries) = &self.node(ino.0).content else { return reply.error(Errno::ENOTDIR) };
        for (i, (name, child)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*child), i as u64 + 1, self.node(*child).attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Content::Directory(entries) = &self.node(ino.0).content else { return reply.error(Errno::ENOTDIR) };
        for (i, (name, child)) in entries.iter().enumerate().skip(offset as usize) {
            let attr = &self.node(*child).attr;
            if reply.add(INodeNo(*child), i as u64 + 1, name, &KEEP, attr, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }
}

thread_local! {
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Passes on what `cp -r` into a directory asks for.
pub struct Writer {
    paths: RwLock<HashMap<u64, PathBuf>>,
    open: Mutex<HashMap<u64, (File, Option<BackingId>)>>,
    /// Whether files have attributes beyond mode and times. Without, the kernel does not ask for them at each first
    /// write.
    attributes: bool,
}

impl Writer {
    fn new(source: &Path, attributes: bool) -> io::Result<Writer> {
        let paths = RwLock::new(HashMap::from([(1, source.to_owned())]));
        Ok(Writer { paths, open: Mutex::default(), attributes })
    }

    fn path(&self, ino: INodeNo) -> PathBuf {
        self.paths.read().expect("whole").get(&ino.0).cloned().unwrap_or_default()
    }

    fn entered(&self, path: PathBuf, meta: &fs::Metadata) -> FileAttr {
        self.paths.write().expect("whole").insert(meta.ino(), path);
        attr(meta.ino(), meta)
    }
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_i32(e.raw_os_error().unwrap_or(libc::EIO))
}

impl Filesystem for Writer {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_PASSTHROUGH;
        let have = config.capabilities();
        let _ = config.add_capabilities(wanted & have);
        let _ = config.set_max_stack_depth(1);
        let _ = config.set_max_write(LARGEST);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = self.path(parent).join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) => reply.entry(&KEEP, &self.entered(path, &meta), Generation(0)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                let none = FileAttr { ino: INodeNo(0), ..attr(0, &fs::metadata("/").expect("it is there")) };
                reply.entry(&KEEP, &none, Generation(0));
            }
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, _: u64) {
        self.paths.write().expect("whole").remove(&ino.0);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match fs::symlink_metadata(self.path(ino)) {
            Ok(meta) => reply.attr(&KEEP, &attr(ino.0, &meta)),
            Err(e) => reply.error(errno(&e)),
        }
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
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(ino);
        let set = || {
            if let Some(mode) = mode {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            fs::symlink_metadata(&path)
        };
        match set() {
            Ok(meta) => reply.attr(&KEEP, &attr(ino.0, &meta)),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let path = self.path(parent).join(name);
        match fs::create_dir(&path).and_then(|()| fs::symlink_metadata(&path)) {
            Ok(meta) => reply.entry(&KEEP, &self.entered(path, &meta), Generation(0)),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let path = self.path(parent).join(name);
        let made = OpenOptions::new().read(true).write(true).create(true).mode(mode).open(&path);
        let (file, meta) = match made.and_then(|file| file.metadata().map(|meta| (file, meta))) {
            Ok(made) => made,
            Err(e) => return reply.error(errno(&e)),
        };
        let (attr, handle) = (self.entered(path, &meta), FileHandle(meta.ino()));
        let backing = reply.open_backing(file.as_fd()).ok();
        let mut open = self.open.lock().expect("whole");
        let (_, backing) = open.entry(meta.ino()).insert_entry((file, backing)).into_mut();
        match backing {
            Some(b) => reply.created_passthrough(&KEEP, &attr, Generation(0), handle, FopenFlags::FOPEN_NOFLUSH, b),
            None => reply.created(&KEEP, &attr, Generation(0), handle, FopenFlags::FOPEN_NOFLUSH),
        }
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
        let open = self.open.lock().expect("whole");
        match open[&ino.0].0.write_all_at(data, offset) {
            Ok(()) => reply.written(data.len() as u32),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let gone = self.open.lock().expect("whole").remove(&ino.0);
        drop(gone);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, _: u32, reply: ReplyXattr) {
        if !self.attributes {
            return reply.error(Errno::ENOSYS);
        }
        let text = |s: &OsStr| CString::new(s.as_bytes()).expect("no zero byte");
        let (path, name) = (text(self.path(ino).as_os_str()), text(name));
        let mut value = [0_u8; 256];
        // SAFETY: valid C strings, and room for that many bytes.
        let n = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        match usize::try_from(n) {
            Ok(n) => reply.data(&value[..n]),
            Err(_) => reply.error(errno(&io::Error::last_os_error())),
        }
    }
}
