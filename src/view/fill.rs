//! Making one file or symlink of a checkout: written, copied inside the kernel, reflinked or hard-linked.

use super::checkout::{Made, Naming};
use super::plan::Found;
use crate::disk::{Created, Disk, NewFile};
use crate::error::{Error, Result, show_path};
use crate::manifest::Entry;
use crate::objects::{Content, LargeObject, Objects};
use crate::words::Token;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How large files of a checkout come to be. Small ones are packed, so they are always written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Reflink where the file system can, else copy. Never a hard link: an edit would reach the store.
    #[default]
    Auto,
    /// Copy the bytes; holes stay holes.
    Copy,
    /// Reflink, or refuse.
    Reflink,
    /// Hard link to the store's own read-only file, or refuse; executable files are copied.
    Hardlink,
}

/// Makes entries below one target.
pub(super) struct Fill<'a> {
    disk: &'a Disk,
    objects: &'a Objects,
    link: Link,
    naming: Naming,
    /// Set when a reflink failed once: `auto` then copies without trying again.
    no_reflink: AtomicBool,
}

impl<'a> Fill<'a> {
    pub(super) fn new(disk: &'a Disk, objects: &'a Objects, link: Link, naming: Naming) -> Self {
        Fill { disk, objects, link, naming, no_reflink: AtomicBool::new(false) }
    }

    /// Makes `entry` at `at`, where `found` stands now.
    pub(super) fn make(&self, at: &Path, entry: &Entry, found: Option<Found>, buffer: &mut Vec<u8>) -> Result<Made> {
        let exec = matches!(entry, Entry::File { exec: true, .. });
        match found {
            Some(Found::Right) => return Ok(Made::Kept),
            Some(Found::WrongMode) => {
                let mode = std::fs::metadata(at).map_err(|e| Error::io("look at", at, e))?.permissions().mode();
                let bits = if exec { mode | ((mode & 0o444) >> 2) } else { mode & !0o111 };
                self.disk.set_mode(at, bits & 0o7777)?;
                return Ok(Made::Kept);
            }
            Some(Found::Differs | Found::OtherKind) | None => {}
        }
        let to = if self.naming == Naming::Direct && found.is_none() { at.to_path_buf() } else { beside(at) };
        let made = self.make_at(&to, entry, exec, buffer);
        if let Err(e) = made {
            let _ = self.disk.remove_file(&to);
            return Err(e);
        }
        if to != at {
            self.disk.rename(&to, at)?;
        }
        Ok(Made::Written)
    }

    fn make_at(&self, to: &Path, entry: &Entry, exec: bool, buffer: &mut Vec<u8>) -> Result<()> {
        match entry {
            Entry::Symlink { target } => match self.disk.symlink(target, to)? {
                Created::New => Ok(()),
                Created::Exists => Err(Error::refused(format!("{} came to exist meanwhile", show_path(to)))),
            },
            Entry::File { digest, size, place, .. } => match self.objects.content_into(digest, *size, *place, buffer)? {
                Content::Small(()) => {
                    let mut file = self.create(to, exec)?;
                    if buffer.is_empty() { Ok(()) } else { file.write_all(buffer) }
                }
                Content::Large(large) => self.large(to, &large, *size, exec, buffer),
            },
            Entry::Reference(r) => Err(Error::io_message(format!("it is a reference to {}: fetching references is not available yet", r.uri))),
            Entry::Directory(_) => unreachable!("directories are made by the walk"),
        }
    }

    fn large(&self, to: &Path, large: &LargeObject, size: u64, exec: bool, buffer: &mut Vec<u8>) -> Result<()> {
        if self.link == Link::Hardlink && !exec {
            return self.disk.hard_link(large.path(), to).map_err(|e| match e.errno() {
                Some(libc::EXDEV) => Error::refused(format!("{} and the store are on different file systems: hard links cannot cross", show_path(to))).hint("use --link copy"),
                Some(libc::EPERM) => e.hint("this file system or its settings (fs.protected_hardlinks) refuse the link: use --link copy"),
                _ => e,
            });
        }
        let file = self.create(to, exec)?;
        if self.link != Link::Copy && !self.no_reflink.load(Ordering::Relaxed) {
            if file.reflink_from(large.file())? {
                return Ok(());
            }
            if self.link == Link::Reflink {
                return Err(Error::refused(format!("the file system of {} cannot share blocks with the store", show_path(to))).hint("use --link auto or copy"));
            }
            self.no_reflink.store(true, Ordering::Relaxed);
        }
        copy_sparse(&file, large.file(), size, buffer).map_err(|e| e.because(format!("from {}", show_path(large.path()))))
    }

    fn create(&self, to: &Path, exec: bool) -> Result<NewFile> {
        self.disk.create_file_with(to.to_path_buf(), if exec { 0o755 } else { 0o644 })
    }
}

/// A name in the same directory that nothing else has.
fn beside(at: &Path) -> PathBuf {
    at.with_file_name(format!(".cairn-{}", Token::fresh()))
}

/// Copies `size` bytes, holes left as holes, inside the kernel where it can. A source that ends early is damage.
fn copy_sparse(to: &NewFile, from: &File, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let mut at = 0;
    let mut in_kernel = true;
    while at < size {
        let (start, end) = next_data(from, at, size);
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(128 << 20);
            let n = if in_kernel { to.copy_range_from(from, at, want)? } else { 0 };
            if n > 0 {
                at += n as u64;
                continue;
            }
            in_kernel = false;
            buffer.resize(want.min(1 << 20), 0);
            let n = from.read_at(buffer, at).map_err(|e| Error::io("read an object for", to.path(), e))?;
            if n == 0 {
                return Err(Error::damaged(format!("an object ends at {at} bytes, expected {size}")));
            }
            to.write_at(&buffer[..n], at)?;
            at += n as u64;
        }
    }
    if to.file().metadata().map_err(|e| Error::io("look at", to.path(), e))?.len() != size {
        to.set_len(size)?; // it ends with a hole
    }
    Ok(())
}

/// The next range of data at or after `at`; without support for holes, all that is left.
fn next_data(file: &File, at: u64, size: u64) -> (u64, u64) {
    // SAFETY: the descriptor is open; its position is not used otherwise.
    unsafe {
        let start = libc::lseek(file.as_raw_fd(), at as i64, libc::SEEK_DATA);
        if start < 0 {
            let all_hole = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
            return if all_hole { (size, size) } else { (at, size) };
        }
        let end = libc::lseek(file.as_raw_fd(), start, libc::SEEK_HOLE);
        (start as u64, if end < 0 { size } else { (end as u64).min(size) })
    }
}
