//! The directories of a source, each reached by its name in the one above. A source's own path is followed once, when
//! it is opened; below it no path is, so that what becomes a symlink while it is read leads nowhere.

use crate::disk::{self, DirHandle, FileStat, Follow, Volume};
use crate::error::{Error, Result, show_path};
use crate::locks::Mutex;
use crate::types::{MAX_PATH, RelPath};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

/// How many directories one thread keeps open.
const KEPT: usize = 32;

/// A directory of a source.
#[derive(Debug)]
pub struct SourceDir {
    at: At,
    /// Bytes of its path below the source's root.
    length: usize,
    follow: Follow,
    /// The source is removed once it is stored.
    vanishes: bool,
    open: Mutex<Weak<DirHandle>>,
    home: OnceLock<Arc<Home>>,
}

#[derive(Debug)]
enum At {
    /// The source itself stays open.
    Root(PathBuf, Arc<DirHandle>),
    Below(Arc<SourceDir>, CString),
}

/// A mount with directories of a source.
#[derive(Debug)]
pub struct Home {
    dev: u64,
    mount: u64,
    /// Where a stat is proof.
    pub volume: Option<Volume>,
}

impl Home {
    /// The home of an open directory.
    pub fn of(handle: &DirHandle, stat: &FileStat) -> Home {
        Home { dev: stat.dev, mount: stat.mount, volume: disk::volume(handle, stat) }
    }

    /// Whether an entry with these attributes is on this mount. A file can be a mount of its own.
    pub fn holds(&self, stat: &FileStat) -> bool {
        (self.dev, self.mount) == (stat.dev, stat.mount)
    }

    #[cfg(test)]
    pub(super) fn over_the_network(mut self) -> Home {
        self.volume = self.volume.map(|v| Volume { network: true, ..v });
        self
    }
}

impl SourceDir {
    /// Opens a source by its path. `vanishes`: it is removed once it is stored.
    pub fn root(path: &Path, follow: Follow, vanishes: bool) -> Result<Arc<SourceDir>> {
        let handle = DirHandle::open(path).map_err(|e| Error::io("open", path, e))?;
        let at = At::Root(path.to_path_buf(), Arc::new(handle));
        Ok(Arc::new(SourceDir { at, length: 0, follow, vanishes, open: Mutex::default(), home: OnceLock::new() }))
    }

    /// The directory `name` in this one.
    pub fn below(self: &Arc<SourceDir>, name: &CStr) -> Result<Arc<SourceDir>> {
        let length = self.length + name.to_bytes().len() + 1;
        if length > MAX_PATH {
            let path = show_path(&self.path().join(disk::name_path(name)));
            return Err(Error::usage(format!(
                "a path in a version has at most {MAX_PATH} bytes, found a longer one: {path}"
            )));
        }
        Ok(Arc::new(SourceDir {
            at: At::Below(self.clone(), name.to_owned()),
            length,
            follow: self.follow,
            vanishes: self.vanishes,
            open: Mutex::default(),
            home: OnceLock::new(),
        }))
    }

    /// Its path, for messages and patterns.
    pub fn path(&self) -> PathBuf {
        let (root, names) = self.way();
        let mut path = root.to_path_buf();
        path.extend(names.into_iter().map(|n| OsStr::from_bytes(n.to_bytes())));
        path
    }

    /// How many levels it is below the source.
    pub fn depth(&self) -> usize {
        self.way().1.len()
    }

    /// The path of an entry of it in a version that has the source at `at`; `None` if a version cannot have it.
    pub fn path_in_version(&self, at: &RelPath, name: &[u8]) -> Option<RelPath> {
        let names = self.way().1.into_iter().map(CStr::to_bytes).chain([name]);
        names.into_iter().try_fold(at.clone(), |path, name| path.join(name).ok())
    }

    /// The path of the source, and the names from there to this directory.
    fn way(&self) -> (&Path, Vec<&CStr>) {
        let (mut names, mut at) = (Vec::new(), &self.at);
        let root = loop {
            match at {
                At::Root(path, _) => break path,
                At::Below(above, name) => {
                    names.push(name.as_c_str());
                    at = &above.at;
                }
            }
        };
        names.reverse();
        (root, names)
    }

    /// Whether symlinks below are followed, as the user wants.
    pub fn follow(&self) -> Follow {
        self.follow
    }

    /// Opens a file of this directory, which is open as `handle`.
    ///
    /// # Errors
    /// As [`DirHandle::file_at`].
    pub fn open_file(&self, handle: &DirHandle, name: &CStr) -> io::Result<File> {
        if self.vanishes { handle.file_at_before_removal(name, self.follow) } else { handle.file_at(name, self.follow) }
    }

    /// Its mount, once it is known.
    pub fn home(&self) -> Option<&Arc<Home>> {
        self.home.get()
    }

    /// Records its mount.
    pub fn set_home(&self, home: Arc<Home>) {
        drop(self.home.set(home));
    }

    /// This directory, open; directories on the way that are not open are opened too.
    ///
    /// # Errors
    /// I/O: one of them is gone or is not a directory any more.
    pub fn open(self: &Arc<SourceDir>, handles: &mut KeptDirs) -> Result<Arc<DirHandle>> {
        let mut way = Vec::new();
        let mut at = self;
        let mut handle = loop {
            if let Some(open) = at.open.lock().upgrade() {
                break open;
            }
            match &at.at {
                At::Root(_, handle) => break handle.clone(),
                At::Below(above, name) => {
                    way.push((at, name));
                    at = above;
                }
            }
        };
        for (dir, name) in way.into_iter().rev() {
            handle = Arc::new(handle.dir_at(name, dir.follow).map_err(|e| dir.not_opened(e))?);
            *dir.open.lock() = Arc::downgrade(&handle);
            handles.keep(dir.clone(), handle.clone());
        }
        Ok(handle)
    }

    fn not_opened(&self, e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(libc::ENOTDIR | libc::ELOOP) => changed(&self.path(), "it was a directory and is not any more"),
            _ => Error::io("open", &self.path(), e),
        }
    }
}

/// What became something else while it was read.
pub fn changed(path: &Path, how: &str) -> Error {
    Error::io_message(format!("{} changed while it was read: {how}", show_path(path)))
        .with_hint("run the command again when nothing writes there; nothing was published")
}

/// The directories that one thread keeps open, so that however deep and wide a source is, few are.
#[derive(Debug)]
pub struct KeptDirs {
    kept: VecDeque<(Arc<SourceDir>, Arc<DirHandle>)>,
    most: usize,
}

impl KeptDirs {
    /// For one of `threads` threads.
    pub fn new(threads: usize) -> KeptDirs {
        let most = disk::open_files_limit() / 4 / threads.max(1);
        KeptDirs { kept: VecDeque::new(), most: most.clamp(1, KEPT) }
    }

    fn keep(&mut self, dir: Arc<SourceDir>, handle: Arc<DirHandle>) {
        if self.kept.len() >= self.most
            && let Some((dir, handle)) = self.kept.pop_front()
        {
            let mut open = dir.open.lock();
            if open.as_ptr() == Arc::as_ptr(&handle) {
                *open = Weak::new();
            }
        }
        self.kept.push_back((dir, handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_directories_are_open_however_deep_they_lie_and_a_symlink_on_the_way_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let mut path = tmp.path().to_path_buf();
        let mut dirs = vec![SourceDir::root(tmp.path(), Follow::No, false).unwrap()];
        for i in 0..200 {
            path.push(format!("d{i}"));
            dirs.push(dirs[i].below(&CString::new(format!("d{i}")).unwrap()).unwrap());
        }
        std::fs::create_dir_all(&path).unwrap();
        let mut handles = KeptDirs { kept: VecDeque::new(), most: 4 };
        for dir in dirs.iter().rev().chain(&dirs) {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(
                dir.open(&mut handles).unwrap().stat().unwrap().ino,
                std::fs::metadata(dir.path()).unwrap().ino()
            );
            assert!(handles.kept.len() <= 4 && dirs.iter().filter(|d| d.open.lock().strong_count() > 0).count() <= 4);
        }
        drop(handles);
        std::fs::rename(tmp.path().join("d0/d1"), tmp.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", tmp.path().join("d0/d1")).unwrap();
        let mut handles = KeptDirs::new(1);
        dirs[1].open(&mut handles).unwrap();
        let e = dirs[3].open(&mut handles).unwrap_err();
        assert!(
            e.message().contains("d0/d1 changed while it was read: it was a directory and is not any more"),
            "{e:?}"
        );
    }
}
