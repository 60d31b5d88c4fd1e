//! The files of a node-local cache. Losing one loses nothing, so their changes are not counted as steps and not synced.

use super::handle::open_at;
use super::umask::{self, Access};
use crate::error::{Error, Result};
use crate::types::Token;
use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory of cached files, open to whom its mode says.
#[derive(Debug)]
pub struct CacheDir {
    path: PathBuf,
    mode: u32,
    owner: u32,
}

/// An open directory of a cache. Its files are opened in it, not by their paths: another process may give the path to
/// another directory at any moment.
#[derive(Debug)]
pub struct OpenDir {
    handle: File,
}

impl OpenDir {
    /// Opens a file in it for reading and, if this user may, for writing. It does not follow symlinks.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn open_to_fill(&self, name: &str) -> io::Result<File> {
        let name = CString::new(name)?;
        let open = |access| open_at(self.handle.as_raw_fd(), &name, access | libc::O_NOFOLLOW).map(File::from);
        match open(libc::O_RDWR) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                open(libc::O_RDONLY)
            }
            opened => opened,
        }
    }

    /// Whether `path` leads to it. (Its inode number is not used again while it is open.)
    pub fn is_at(&self, path: &Path) -> bool {
        let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
        let found = std::fs::symlink_metadata(path);
        matches!((self.handle.metadata(), found), (Ok(own), Ok(found)) if id(&own) == id(&found))
    }
}

impl CacheDir {
    /// Opens a cache's directory. A missing one is made, for this user alone.
    ///
    /// # Errors
    /// I/O.
    pub fn open(path: &Path) -> Result<CacheDir> {
        let parents = Access::Umask.wanted(0o755, umask::of_the_user());
        if let Some(above) = path.parent().filter(|above| !above.exists()) {
            let made = DirBuilder::new().recursive(true).mode(parents).create(above);
            made.map_err(|e| Error::io("create", above, e))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", path, e)),
            _ => {}
        }
        let meta = std::fs::metadata(path).map_err(|e| Error::io("look at", path, e))?;
        Ok(CacheDir { path: path.to_path_buf(), mode: meta.mode() & 0o7777, owner: meta.uid() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The permission bits of the directory.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Whether only this user, and root, may write to it.
    pub fn is_own(&self) -> bool {
        // SAFETY: no arguments, and it cannot fail.
        self.owner == unsafe { libc::geteuid() } && self.mode & 0o022 == 0
    }

    /// Makes a directory in it, with the modes of the cache, if it is missing.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn make_dir(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => std::fs::set_permissions(&path, Permissions::from_mode(self.mode))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        Ok(path)
    }

    /// A new file in the directory `name` of the cache, and where it is.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn create(&self, name: &str) -> io::Result<(File, PathBuf)> {
        let path = self.make_dir(name)?.join(Token::fresh().to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    /// Gives a complete file its name.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn publish(&self, file: &File, from: &Path, to: &Path) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(self.mode & 0o444))?;
        std::fs::rename(from, to)
    }

    /// Makes a directory with the files that are given by name, length and first bytes, with the modes of the cache;
    /// returns where it is. What a file has beyond its first bytes is a hole.
    ///
    /// # Errors
    /// The system's, without context. Nothing is left.
    pub fn create_filled_dir(&self, within: &str, files: &[(&str, u64, &[u8])]) -> io::Result<PathBuf> {
        let path = self.make_dir(within)?.join(Token::fresh().to_string());
        std::fs::create_dir(&path)?;
        let make = || -> io::Result<()> {
            for (name, length, first) in files {
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(name))?;
                file.set_len(*length)?;
                file.write_all_at(first, 0)?;
                file.set_permissions(Permissions::from_mode(self.mode & 0o666))?;
            }
            std::fs::set_permissions(&path, Permissions::from_mode(self.mode))
        };
        make().inspect_err(|_| drop(std::fs::remove_dir_all(&path)))?;
        Ok(path)
    }

    /// Gives a complete directory its name. If there is one with files in it, that one is kept and this one is removed.
    ///
    /// # Errors
    /// The system's, without context. Nothing is left.
    pub fn publish_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = std::fs::rename(from, to);
        if renamed.is_ok() {
            return Ok(());
        }
        drop(std::fs::remove_dir_all(from));
        match renamed {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY)) => Ok(()),
            other => other,
        }
    }

    /// Removes a directory of the cache, which disappears at once: it is moved to the directory `to` first. If what was
    /// moved is not what `is_it` expects, another process has made it since: it is put back.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn remove_dir(&self, path: &Path, to: &str, is_it: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        let moved = self.make_dir(to)?.join(Token::fresh().to_string());
        std::fs::rename(path, &moved)?;
        if is_it(&moved) { std::fs::remove_dir_all(&moved) } else { self.publish_dir(&moved, path) }
    }

    /// Opens a directory of the cache, to open the files in it. `None`: there is none.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn open_dir(path: &Path) -> io::Result<Option<OpenDir>> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(handle) => Ok(Some(OpenDir { handle })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the bytes of a cached file durable.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn sync(file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Replaces a small file of the cache.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn replace(&self, name: &str, text: &str, within: &str) -> io::Result<()> {
        let (mut file, path) = self.create(within)?;
        let to = self.path.join(name);
        let written = io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| self.publish(&file, &path, &to));
        written.inspect_err(|_| drop(std::fs::remove_file(&path)))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Sets the time of an open file to now.
    pub fn touch(&self, file: &File) {
        // SAFETY: the descriptor is open; a null pointer means now.
        unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) };
    }

    /// Opens the file whose ranges are locked; it is made if it is missing.
    ///
    /// # Errors
    /// The system's, without context.
    pub fn open_lock(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match options.open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = options.create(true).mode(0o600).open(&path)?;
                file.set_permissions(Permissions::from_mode(self.mode & 0o666))?;
                Ok(file)
            }
            opened => opened,
        }
    }

    /// Writes a small file that tells tools what the directory is, unless it exists.
    pub fn tag(&self, name: &str, text: &str) {
        let mode = self.mode & 0o644;
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(self.path.join(name));
        if let Ok(mut file) = made {
            // Whatever the umask is: all who may use the cache read it.
            let _ = file.set_permissions(Permissions::from_mode(mode));
            let _ = io::Write::write_all(&mut file, text.as_bytes());
        }
    }
}
