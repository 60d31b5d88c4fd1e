//! A user's directory that is held open: each change names one entry in it, so no path is walked again and no symlink
//! is followed.

use super::backing::{DirStream, Stat};
use super::handle::DirHandle;
use super::{Created, NewFile, fault, umask};
use crate::error::{Error, Result, show_path};
use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// An open directory, with the path that led to it, for messages.
#[derive(Debug)]
pub struct Dir {
    handle: DirHandle,
    path: PathBuf,
    /// The user's umask; this process may have cleared its own.
    umask: u32,
}

/// The attributes of an entry; a symlink is not followed.
#[derive(Clone, Copy)]
pub struct EntryStat(Stat);

impl std::fmt::Debug for EntryStat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryStat").finish_non_exhaustive()
    }
}

impl EntryStat {
    /// Its group.
    pub fn group(self) -> u32 {
        self.0.st_gid
    }

    fn is(self, kind: libc::mode_t) -> bool {
        self.0.st_mode & libc::S_IFMT == kind
    }

    /// Whether it is a directory.
    pub fn is_dir(self) -> bool {
        self.is(libc::S_IFDIR)
    }

    /// Whether it is a regular file.
    pub fn is_file(self) -> bool {
        self.is(libc::S_IFREG)
    }

    /// Whether it is a symlink.
    pub fn is_symlink(self) -> bool {
        self.is(libc::S_IFLNK)
    }

    /// Device and inode.
    pub fn id(self) -> (u64, u64) {
        (self.0.st_dev, self.0.st_ino)
    }

    /// Its permission bits.
    pub fn mode(self) -> u32 {
        self.0.st_mode & 0o7777
    }

    /// Its number of hard links.
    #[allow(clippy::unnecessary_cast)] // st_nlink is 32 bits wide on other processors
    pub fn links(self) -> u64 {
        self.0.st_nlink as u64
    }

    /// Its size.
    pub fn size(self) -> u64 {
        self.0.st_size as u64
    }

    /// Its owner.
    pub fn owner(self) -> u32 {
        self.0.st_uid
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn unless_missing<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Dir {
    /// Opens a directory by its path; symlinks in it are followed.
    ///
    /// # Errors
    /// I/O.
    pub fn open(path: &Path) -> Result<Dir> {
        let opened = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from).and_then(|c| {
            // SAFETY: a valid C string.
            let fd = unsafe { libc::open(c.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
            check(fd)?;
            // SAFETY: just opened, and owned from here on.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        });
        let fd = opened.map_err(|e| Error::io("open", path, e))?;
        Ok(Dir { handle: DirHandle::of(fd), path: path.to_path_buf(), umask: umask::of_the_user() })
    }

    /// The same directory, for reading.
    pub fn handle(&self) -> &DirHandle {
        &self.handle
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry.
    pub fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    pub(super) fn failed(&self, action: &str, name: &[u8], e: io::Error) -> Error {
        Error::io(action, &self.path_of(name), e)
    }

    pub(super) fn step(&self, action: &str, name: &[u8]) -> Result<()> {
        fault::step().map_err(|e| self.failed(action, name, e))
    }

    pub(super) fn open_at(&self, name: &[u8], flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
        let name = CString::new(name)?;
        // SAFETY: an open descriptor and a valid C string.
        let fd =
            unsafe { libc::openat(self.handle.raw(), name.as_ptr(), flags | libc::O_NOFOLLOW | libc::O_CLOEXEC, mode) };
        check(fd)?;
        // SAFETY: just opened, and owned from here on.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// I/O, also if it is not a directory.
    pub fn dir(&self, name: &[u8]) -> Result<Dir> {
        let fd = self
            .open_at(name, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .map_err(|e| self.failed("open directory", name, e))?;
        Ok(Dir { handle: DirHandle::of(fd), path: self.path_of(name), umask: self.umask })
    }

    /// [`Dir::dir`] for a directory that is about to be removed with its contents: makes it readable and writable for
    /// its owner.
    ///
    /// # Errors
    /// I/O.
    pub fn dir_to_empty(&self, name: &[u8]) -> Result<Dir> {
        let failed = |e| self.failed("open directory", name, e);
        let handle = self.open_at(name, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(failed)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let mode = std::fs::metadata(&through).map_err(failed)?.permissions().mode();
        if mode & 0o700 != 0o700 {
            self.step("set the mode of", name)?;
            std::fs::set_permissions(&through, Permissions::from_mode(0o700))
                .map_err(|e| self.failed("set the mode of", name, e))?;
        }
        let fd = File::open(&through).map_err(failed)?.into();
        Ok(Dir { handle: DirHandle::of(fd), path: self.path_of(name), umask: self.umask })
    }

    /// Opens the regular file `name` for reading; `None` if it does not exist or is something else.
    ///
    /// # Errors
    /// I/O.
    pub fn file(&self, name: &[u8]) -> Result<Option<File>> {
        match unless_missing(self.open_at(name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)) {
            Ok(Some(fd)) => {
                let file = File::from(fd);
                let is_file = file.metadata().map_err(|e| self.failed("look at", name, e))?.is_file();
                Ok(is_file.then_some(file))
            }
            Ok(None) => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Ok(None),
            Err(e) => Err(self.failed("open", name, e)),
        }
    }

    /// The attributes of an entry; `None` if it does not exist.
    ///
    /// # Errors
    /// I/O.
    pub fn lstat(&self, name: &[u8]) -> Result<Option<EntryStat>> {
        unless_missing(self.stat(name)).map_err(|e| self.failed("look at", name, e))
    }

    /// The attributes of the directory itself.
    ///
    /// # Errors
    /// I/O.
    pub fn stat_self(&self) -> Result<EntryStat> {
        self.stat(b".").map_err(|e| Error::io("look at", &self.path, e))
    }

    fn stat(&self, name: &[u8]) -> io::Result<EntryStat> {
        let name = CString::new(name)?;
        let mut out = MaybeUninit::<Stat>::uninit();
        // SAFETY: an open descriptor, a valid C string and room for the answer.
        check(unsafe { libc::fstatat(self.handle.raw(), name.as_ptr(), out.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
        // SAFETY: filled by the call.
        Ok(EntryStat(unsafe { out.assume_init() }))
    }

    /// The names in it.
    ///
    /// # Errors
    /// I/O.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let read = || {
            let mut stream = DirStream::of(self.open_at(b".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?.into())?;
            let (mut names, mut at) = (Vec::new(), 0);
            while let Some(entry) = stream.read(at)? {
                at = entry.next;
                if entry.name != "." && entry.name != ".." {
                    names.push(entry.name.into_vec());
                }
            }
            Ok(names)
        };
        read().map_err(|e| Error::io("list", &self.path, e))
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// I/O.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let read = || {
            let c = CString::new(name)?;
            let mut out = vec![0u8; libc::PATH_MAX as usize];
            // SAFETY: an open descriptor, a valid C string and room for that many bytes.
            let n = unsafe { libc::readlinkat(self.handle.raw(), c.as_ptr(), out.as_mut_ptr().cast(), out.len()) };
            out.truncate(usize::try_from(n).map_err(|_| io::Error::last_os_error())?);
            Ok(out)
        };
        read().map_err(|e: io::Error| self.failed("read symlink", name, e))
    }

    /// Sets the permission bits of the regular file `name`.
    ///
    /// # Errors
    /// I/O, also if it is not a regular file.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> Result<()> {
        self.step("set the mode of", name)?;
        let set = || {
            let handle = self.open_at(name, libc::O_PATH, 0)?;
            let through = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
            if !std::fs::metadata(&through)?.is_file() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            std::fs::set_permissions(&through, Permissions::from_mode(mode))
        };
        set().map_err(|e| self.failed("set the mode of", name, e))
    }

    /// Takes an advisory lock on it, exclusive or shared, and replaces one that it has. `Some(false)` if another
    /// process holds it, `None` if the file system has no locks. It lasts until this handle is dropped.
    pub fn try_lock(&self, exclusive: bool) -> Option<bool> {
        let how = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
        // SAFETY: an open descriptor; the lock goes with it.
        match check(unsafe { libc::flock(self.handle.raw(), how | libc::LOCK_NB) }) {
            Ok(()) => Some(true),
            Err(e) if e.raw_os_error() == Some(libc::EWOULDBLOCK) => Some(false),
            Err(_) => None,
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// I/O.
    pub fn create_dir(&self, name: &[u8]) -> Result<Created> {
        self.step("create directory", name)?;
        let made = CString::new(name).map_err(io::Error::from).and_then(|c| {
            // SAFETY: an open descriptor and a valid C string.
            check(unsafe { libc::mkdirat(self.handle.raw(), c.as_ptr(), 0o777 & !self.umask) })
        });
        created(made).map_err(|e| self.failed("create directory", name, e))
    }

    /// Creates a file, with a mode that the umask reduces; `None` if the name is taken.
    ///
    /// # Errors
    /// I/O.
    pub fn create_file(&self, name: &[u8], mode: u32) -> Result<Option<NewFile>> {
        self.step("create", name)?;
        match self.open_at(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, mode & !self.umask) {
            Ok(fd) => Ok(Some(NewFile::new(fd.into(), self.path_of(name)))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(self.failed("create", name, e)),
        }
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// I/O.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> Result<Created> {
        self.step("create symlink", name)?;
        let made = CString::new(target).and_then(|t| Ok((t, CString::new(name)?))).map_err(io::Error::from).and_then(
            |(target, c)| {
                // SAFETY: an open descriptor and valid C strings.
                check(unsafe { libc::symlinkat(target.as_ptr(), self.handle.raw(), c.as_ptr()) })
            },
        );
        created(made).map_err(|e| self.failed("create symlink", name, e))
    }

    /// Creates another name for the file at `from`.
    ///
    /// # Errors
    /// I/O.
    pub fn hard_link(&self, from: &Path, name: &[u8]) -> Result<Created> {
        self.step("link", name)?;
        let made = CString::new(from.as_os_str().as_bytes())
            .and_then(|f| Ok((f, CString::new(name)?)))
            .map_err(io::Error::from)
            .and_then(|(from, c)| {
                // SAFETY: an open descriptor and valid C strings.
                check(unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), self.handle.raw(), c.as_ptr(), 0) })
            });
        created(made).map_err(|e| self.failed("link", name, e))
    }

    /// Renames `from` to `to` and replaces it. If the reply to a successful rename is lost, the error "missing" is
    /// recognized as success (L10).
    ///
    /// # Errors
    /// I/O.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.step("rename", from)?;
        let before = self.stat(from).ok().map(EntryStat::id);
        match self.rename_as(from, to, 0) {
            Err(e)
                if e.kind() == io::ErrorKind::NotFound
                    && before.is_some()
                    && self.lstat(to)?.map(EntryStat::id) == before =>
            {
                Ok(())
            }
            Err(e) => Err(self.failed("rename", from, e).with_cause(format!("to {}", show_path(&self.path_of(to))))),
            Ok(()) => Ok(()),
        }
    }

    /// Renames `from` to `to`, if nothing has that name. If the file system cannot do both in one step, it looks first.
    ///
    /// # Errors
    /// I/O.
    pub fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<Created> {
        self.step("rename", from)?;
        match self.rename_as(from, to, libc::RENAME_NOREPLACE) {
            Ok(()) => Ok(Created::New),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) => {
                Err(self.failed("rename", from, e).with_cause(format!("to {}", show_path(&self.path_of(to)))))
            }
            Err(_) if self.lstat(to)?.is_some() => Ok(Created::Exists),
            Err(_) => self.rename(from, to).map(|()| Created::New),
        }
    }

    fn rename_as(&self, from: &[u8], to: &[u8], flags: u32) -> io::Result<()> {
        let (from, to, fd) = (CString::new(from)?, CString::new(to)?, self.handle.raw());
        // SAFETY: an open descriptor and valid C strings.
        check(unsafe { libc::renameat2(fd, from.as_ptr(), fd, to.as_ptr(), flags) }).or_else(|e| {
            if flags != 0 || e.raw_os_error() != Some(libc::ENOSYS) {
                return Err(e);
            }
            // SAFETY: as above.
            check(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) })
        })
    }

    /// Removes a file or symlink; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_file(&self, name: &[u8]) -> Result<()> {
        self.unlink(name, 0).map_err(|e| self.failed("remove", name, e))
    }

    /// Removes an empty directory; a missing one is fine.
    ///
    /// # Errors
    /// I/O.
    pub fn remove_dir(&self, name: &[u8]) -> Result<()> {
        self.unlink(name, libc::AT_REMOVEDIR).map_err(|e| self.failed("remove directory", name, e))
    }

    fn unlink(&self, name: &[u8], flags: libc::c_int) -> io::Result<()> {
        fault::step()?;
        let name = CString::new(name)?;
        // SAFETY: an open descriptor and a valid C string.
        unless_missing(check(unsafe { libc::unlinkat(self.handle.raw(), name.as_ptr(), flags) })).map(drop)
    }

    /// Removes the entry of this name, a directory with its contents; a missing one is fine. A file system that is
    /// mounted in it is not touched.
    ///
    /// # Errors
    /// Conflict: another file system is mounted there. I/O.
    pub fn remove_tree(&self, name: &[u8]) -> Result<()> {
        let Some(found) = self.lstat(name)?.filter(|l| l.is_dir()) else { return self.remove_file(name) };
        if found.id().0 != self.stat_self()?.id().0 {
            let path = show_path(&self.path_of(name));
            return Err(Error::conflict(format!("cannot remove {path}: another file system is mounted there"))
                .with_hint("unmount it, and run the command again"));
        }
        let below = self.dir_to_empty(name)?;
        below.names()?.iter().try_for_each(|n| below.remove_tree(n))?;
        self.remove_dir(name)
    }
}

fn created(made: io::Result<()>) -> io::Result<Created> {
    match made {
        Ok(()) => Ok(Created::New),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(e) => Err(e),
    }
}
