//! Lookups of names. On shared file systems a handle can be stale, because its name now leads to something else, or
//! because the file was removed while it was read: then the lookup is repeated, revalidated (FORMAT.md).

use super::backing::{DirEntry, DirStream};
use super::confine;
use super::handle::{DirHandle, Follow};
use super::read::read_to_expected_end;
use crate::error::{Error, Result, show_path};
use std::ffi::{CString, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lookup with a stale handle is repeated, and the first pause; each pause is twice the one before.
/// Together they are longer than the second for which clients cache names.
const LOOKS: u32 = 8;
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Makes the client of a shared file system ask its server again about the names next to `path`: opens the parent
/// directory. If that seems to be missing, the client may only remember that it was (NFS, for up to half a minute):
/// then every directory is opened, from the last existing one down. In a store on a local file system nothing is cached
/// that another host has changed, so nothing is opened.
pub fn open_parent(path: &Path) {
    if let Some(parent) = path.parent().filter(|_| !confine::is_local(path)) {
        open_anew(parent);
    }
}

/// Opens a directory, and those above it if it seems to be missing.
fn open_anew(dir: &Path) {
    let Err(e) = open_dir(dir) else { return };
    let remembered = e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESTALE);
    if let Some(parent) = dir.parent().filter(|p| remembered && !p.as_os_str().is_empty()) {
        open_anew(parent);
        drop(open_dir(dir));
    }
}

/// Opens a directory. Anything else is an error at once: opening a FIFO would wait.
///
/// # Errors
/// The system's.
pub fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

/// A revalidated lookup (FORMAT.md): opens the parent directory first, as [`open_parent`] says. `None` if the name does
/// not exist.
///
/// # Errors
/// I/O.
pub fn lstat_revalidated(path: &Path) -> Result<Option<Metadata>> {
    open_parent(path);
    lstat(path)
}

/// For a name that was not found: whether its directory lists it, and a lookup finds it now. An NFS client forgets that
/// a name is missing when the time of the directory changes. If the server's clock is coarse, another host can make the
/// name without such a change. A new listing then corrects the client. In a store on a local file system, returns
/// `false` without a listing.
///
/// # Errors
/// I/O.
pub fn is_found_by_listing(path: &Path) -> Result<bool> {
    if confine::is_local(path) {
        return Ok(false);
    }
    let is_listed = || is_listed(path).map_err(|e| Error::io("list the directory of", path, e));
    while_listed(is_listed, || Ok(lstat_revalidated(path)?.is_some()))
}

/// Looks until the name is found or not listed, some seconds at most.
fn while_listed(is_listed: impl Fn() -> Result<bool>, look: impl Fn() -> Result<bool>) -> Result<bool> {
    let mut pause = RETRY_INTERVAL;
    for _ in 0..LOOKS {
        if !is_listed()? {
            return Ok(false);
        }
        if look()? {
            return Ok(true);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    Ok(false)
}

/// Whether a new listing of its directory has this name.
pub(super) fn is_listed(path: &Path) -> io::Result<bool> {
    let Some(dir) = path.parent() else { return Ok(false) };
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        if Some(entry?.file_name().as_os_str()) == path.file_name() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks up a name without following it; `None` if it does not exist.
///
/// # Errors
/// I/O.
pub fn lstat(path: &Path) -> Result<Option<Metadata>> {
    unless_missing(look_again(path, || std::fs::symlink_metadata(path))).map_err(|e| Error::io("look at", path, e))
}

/// A symlink's text; `None` if it does not exist.
///
/// # Errors
/// Damaged if it is not a symlink; I/O.
pub fn read_link(path: &Path) -> Result<Option<Vec<u8>>> {
    match unless_missing(look_again(path, || std::fs::read_link(path))) {
        Ok(text) => Ok(text.map(|t| t.into_os_string().into_vec())),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            Err(Error::damaged(format!("{} is not a symlink", show_path(path))))
        }
        Err(e) => Err(Error::io("read symlink", path, e)),
    }
}

/// The names in a directory of the store; empty if it does not exist. The lookup is revalidated: the directory is
/// opened, and those above it if it seems to be missing. A symlink is not followed, and only a directory is opened.
///
/// # Errors
/// I/O; damaged if it is not a directory.
pub fn list(path: &Path) -> Result<Vec<OsString>> {
    let read = || names_in(open_with(path, libc::O_NOFOLLOW)?);
    let mut names = look_again(path, read);
    if names.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        open_parent(path);
        names = look_again(path, read);
    }
    match names {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => match unless_missing(std::fs::symlink_metadata(path)) {
            Ok(Some(meta)) => Err(Error::damaged(not_a_directory(path, &meta))),
            _ => Err(Error::io("list", path, e)),
        },
        names => names.map_err(|e| Error::io("list", path, e)),
    }
}

/// The message for something else that has the name of a directory.
pub(super) fn not_a_directory(path: &Path, found: &Metadata) -> String {
    let is = if found.is_symlink() { "is a symlink, expected a directory" } else { "is not a directory" };
    format!("{} {is}", show_path(path))
}

/// The names in a directory of the store, each with whether it is a directory itself (not a symlink to one).
///
/// # Errors
/// I/O.
pub fn list_types(path: &Path) -> Result<Vec<(OsString, bool)>> {
    let read = || {
        let mut names = Vec::new();
        each_in(open_with(path, libc::O_NOFOLLOW)?, |entry| {
            let is_directory = match entry.kind {
                libc::DT_UNKNOWN => std::fs::symlink_metadata(path.join(&entry.name))?.is_dir(),
                kind => kind == libc::DT_DIR,
            };
            names.push((entry.name, is_directory));
            Ok(())
        })?;
        Ok(names)
    };
    look_again(path, read).map_err(|e| Error::io("list", path, e))
}

/// Calls `see` for each name in a directory of the store, with whether it is a directory itself. For very many names:
/// it allocates nothing for each.
///
/// # Errors
/// I/O.
pub fn list_each(path: &Path, see: &mut dyn FnMut(&[u8], bool)) -> Result<()> {
    let read = || {
        // For each name: its length, its kind, and the bytes.
        let mut all = Vec::new();
        let directory = DirHandle::of(open_with(path, libc::O_NOFOLLOW)?.into());
        directory.list_kinds(&mut |name, kind| {
            let name = name.to_bytes();
            all.extend_from_slice(&(name.len() as u16).to_le_bytes());
            all.push(kind);
            all.extend_from_slice(name);
        })?;
        Ok((directory, all))
    };
    let failed = |e| Error::io("list", path, e);
    let (directory, all) = look_again(path, read).map_err(failed)?;
    let mut rest = &all[..];
    while let Some((&[a, b, kind], after)) = rest.split_first_chunk() {
        let (name, after) = after.split_at(usize::from(u16::from_le_bytes([a, b])));
        rest = after;
        let is_directory = match kind {
            libc::DT_UNKNOWN => {
                let name = CString::new(name).map_err(|e| failed(e.into()))?;
                directory.stat_at(&name, Follow::No).map_err(failed)?.is_dir()
            }
            kind => kind == libc::DT_DIR,
        };
        see(name, is_directory);
    }
    Ok(())
}

/// The names in a directory outside stores; a symlink is followed. Empty if it does not exist.
///
/// # Errors
/// I/O.
pub fn list_following(path: &Path) -> Result<Vec<OsString>> {
    match look_again(path, || names_in(open_with(path, 0)?)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|e| Error::io("list", path, e)),
    }
}

/// Opens a directory and nothing else: a FIFO would not answer.
pub(super) fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK | flags).open(path)
}

fn names_in(directory: File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    each_in(directory, |entry| {
        names.push(entry.name);
        Ok(())
    })?;
    Ok(names)
}

fn each_in(directory: File, mut see: impl FnMut(DirEntry) -> io::Result<()>) -> io::Result<()> {
    let mut stream = DirStream::of(directory)?;
    let mut at = 0;
    while let Some(entry) = stream.read(at)? {
        at = entry.next;
        if entry.name != "." && entry.name != ".." {
            see(entry)?;
        }
    }
    Ok(())
}

/// Reads a whole file of at most `limit` bytes; `None` if it does not exist, or was removed while it was read. A
/// symlink is not followed.
///
/// # Errors
/// I/O; damaged if it is longer or not a regular file.
pub fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let damaged = |what: &str| Error::damaged(format!("{} is {what}", show_path(path)));
    let read = || {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let meta = file.metadata()?;
        let mut out = Vec::new();
        if meta.is_file() {
            read_whole(file, &mut out, meta.len().min(limit), limit)?;
        }
        Ok((meta, out))
    };
    match unless_missing(look_again(path, read)) {
        Ok(Some((meta, out))) if !meta.is_file() || meta.len().max(out.len() as u64) > limit => {
            Err(damaged(&format!("not a regular file of at most {limit} bytes")))
        }
        Ok(read) => Ok(read.map(|(_, out)| out)),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Err(damaged("a symlink, expected a file")),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Reads a file that is expected to have `len` bytes. Of a longer one it reads `limit + 1` bytes at most.
fn read_whole(mut file: File, out: &mut Vec<u8>, len: u64, limit: u64) -> io::Result<()> {
    out.resize(len as usize + 1, 0);
    let n = read_to_expected_end(&file, out)?;
    out.truncate(n);
    if n as u64 > len {
        file.seek(SeekFrom::Start(n as u64))?;
        file.take(limit + 1 - n as u64).read_to_end(out)?;
    }
    Ok(())
}

fn unless_missing<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Repeats a lookup while handles are stale.
fn look_again<T>(path: &Path, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut pause = RETRY_INTERVAL;
    for _ in 1..LOOKS {
        match look() {
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {}
            looked => return looked,
        }
        std::thread::sleep(pause);
        pause *= 2;
        open_parent(path);
    }
    look()
}

/// Opens a directory; a symlink is not followed.
///
/// # Errors
/// I/O.
pub fn open_directory(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(path).map_err(|e| Error::io("open", path, e))
}

/// A short path to an open directory, valid as long as it is open.
pub fn descriptor_path(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// The error of a directory walk, with the system's error number.
pub fn walk_error(directory: &Path, e: &walkdir::Error) -> Error {
    match e.io_error() {
        Some(cause) => {
            let cause = cause.raw_os_error().map_or_else(|| cause.kind().into(), std::io::Error::from_raw_os_error);
            Error::io("look at", e.path().unwrap_or(directory), cause)
        }
        None => Error::io_message(format!("cannot list {}", show_path(directory))).with_cause(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_name_that_is_listed_is_looked_up_until_it_is_found_and_no_other() {
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            Ok(looks.get() == 3)
        };
        assert!(while_listed(|| Ok(true), look).unwrap());
        assert_eq!(looks.get(), 3);
        assert!(!while_listed(|| Ok(false), || panic!("it is not listed")).unwrap());
    }

    #[test]
    fn a_stale_handle_is_looked_up_again_and_other_errors_are_not() {
        let stale = Cell::new(0);
        let looked = look_again(Path::new("/a/b"), || {
            stale.set(stale.get() + 1);
            if stale.get() < 3 { Err(io::Error::from_raw_os_error(libc::ESTALE)) } else { Ok(stale.get()) }
        });
        assert_eq!(looked.unwrap(), 3);
        let tried = Cell::new(0);
        let error = |code| {
            tried.set(0);
            look_again::<()>(Path::new("/a/b"), || {
                tried.set(tried.get() + 1);
                Err(io::Error::from_raw_os_error(code))
            })
        };
        assert_eq!((error(libc::ESTALE).unwrap_err().raw_os_error(), tried.get()), (Some(libc::ESTALE), LOOKS));
        assert_eq!((error(libc::EIO).unwrap_err().raw_os_error(), tried.get()), (Some(libc::EIO), 1));
    }
}
