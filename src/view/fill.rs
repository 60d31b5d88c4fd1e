//! Creates one file or symlink of a checkout: written, copied inside the kernel, reflinked or hard-linked.

use super::names;
use super::options::{CheckoutOptions, Link};
use super::plan::{Existing, holds};
use super::written::WrittenAs;
use crate::disk::{Created, Dir, NewFile};
use crate::error::{Error, Result, show_path};
use crate::layout::unfinished_name;
use crate::objects::{ComposedFile, Content, LargeObject, Objects};
use crate::remote::read_whole;
use crate::types::Token;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are copied at once through memory.
const BUFFER: u64 = 1 << 20;
/// Blocks of this size can be shared with another file, on most file systems that can share blocks.
const BLOCK: u64 = 4 << 10;
/// Shorter parts of composed content are not worth a call of their own.
const MIN_IN_KERNEL: u64 = 256 << 10;

/// Whether a file is written under its final name or renamed to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// The whole directory is aside.
    Direct,
    /// Other users may read it.
    Renamed,
}

/// What became of one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    Written,
    Kept,
    Skipped,
}

/// Makes entries below one target.
pub(super) struct Fill<'a> {
    objects: &'a Objects,
    options: &'a CheckoutOptions,
    naming: Naming,
    /// Set when a reflink failed once: `auto` then copies without trying again.
    no_reflink: AtomicBool,
}

impl<'a> Fill<'a> {
    pub(super) fn new(objects: &'a Objects, options: &'a CheckoutOptions, naming: Naming) -> Self {
        Fill { objects, options, naming, no_reflink: AtomicBool::new(false) }
    }

    /// Makes `entry` as `name` in `dir`, where `found` is now.
    pub(super) fn make(
        &self,
        dir: &Dir,
        name: &[u8],
        entry: &WrittenAs<'_>,
        found: Option<Existing>,
        buffer: &mut Vec<u8>,
    ) -> Result<Made> {
        let exec = matches!(entry, WrittenAs::File { exec: true, .. });
        match found {
            Some(Existing::Right) => return Ok(Made::Kept),
            Some(Existing::WrongMode) if set_exec(dir, name, exec)? => return Ok(Made::Kept),
            Some(Existing::OtherKind) => dir.remove_tree(name)?,
            _ => {}
        }
        let is_new = matches!(found, None | Some(Existing::OtherKind));
        if is_new && self.naming == Naming::Direct {
            return match self.make_at(dir, name, entry, exec, buffer) {
                Ok(Created::New) => Ok(Made::Written),
                Ok(Created::Exists) => Err(taken(dir, name)?),
                Err(e) => {
                    let _ = dir.remove_file(name);
                    Err(e)
                }
            };
        }
        let half = unfinished_name(&Token::fresh());
        let half = half.as_bytes();
        let placed = match self.make_at(dir, half, entry, exec, buffer) {
            Ok(Created::Exists) => Err(taken(dir, half)?),
            Ok(Created::New) if is_new => dir.rename_new(half, name),
            Ok(Created::New) => dir.rename(half, name).map(|()| Created::New),
            Err(e) => Err(e),
        };
        match placed {
            Ok(Created::New) => Ok(Made::Written),
            Ok(Created::Exists) => {
                dir.remove_file(half)?;
                self.meet(dir, name, entry)
            }
            Err(e) => {
                let _ = dir.remove_file(half);
                Err(e)
            }
        }
    }

    /// Something came to have the name of an entry: another checkout's, or this one's under another name.
    fn meet(&self, dir: &Dir, name: &[u8], entry: &WrittenAs<'_>) -> Result<Made> {
        let same = match entry {
            WrittenAs::Symlink(target) => {
                dir.lstat(name)?.is_some_and(|l| l.is_symlink()) && dir.read_link(name)? == **target
            }
            WrittenAs::File { digest, size, exec, .. } => {
                let found = dir.lstat(name)?;
                found.is_some_and(|l| l.is_file() && l.size() == *size && (l.mode() & 0o111 != 0) == *exec)
                    && super::plan::hash(dir, name, &self.options.progress)? == Some(*digest)
            }
            WrittenAs::Fetched(reference) => holds(dir, name, reference, &self.options.progress)?,
            WrittenAs::Directory | WrittenAs::Nothing => false,
        };
        match names::other_name(dir, name)? {
            Some(other) => Err(names::clash(dir, name, &other)),
            None if same => Ok(Made::Kept),
            None => Err(taken(dir, name)?),
        }
    }

    fn make_at(
        &self,
        dir: &Dir,
        name: &[u8],
        entry: &WrittenAs<'_>,
        exec: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Created> {
        match entry {
            WrittenAs::Symlink(target) => dir.symlink(target, name),
            WrittenAs::File { digest, size, place, .. } => match self
                .objects
                .content_into(digest, *size, *place, buffer)?
            {
                Content::Small(()) => {
                    self.create(dir, name, exec, |file| if buffer.is_empty() { Ok(()) } else { file.write_all(buffer) })
                }
                Content::Large(large) => self.large(dir, name, &large, *size, exec, buffer),
                Content::Composed(composed) => {
                    self.create(dir, name, exec, |file| self.copy_parts(file, &composed, buffer))
                }
            },
            WrittenAs::Fetched(reference) => self.create(dir, name, exec, |file| {
                read_whole(reference, &mut |piece| {
                    self.options.progress.check_cancelled()?;
                    file.write_all(piece)
                })
            }),
            WrittenAs::Directory | WrittenAs::Nothing => unreachable!("only files and symlinks are made"),
        }
    }

    fn large(
        &self,
        dir: &Dir,
        name: &[u8],
        large: &LargeObject,
        size: u64,
        exec: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Created> {
        let link = self.options.link;
        let shown = || show_path(&dir.path_of(name));
        if link == Link::Hardlink && !exec {
            return dir.hard_link(large.path(), name).map_err(|e| match e.errno() {
                Some(libc::EXDEV) => Error::conflict(format!(
                    "{} and the store are on different file systems: hard links cannot cross",
                    shown()
                ))
                .with_hint("use --link copy"),
                Some(libc::EPERM) => e.with_hint(
                    "this file system or its settings (fs.protected_hardlinks) refuse the link: use --link copy",
                ),
                _ => e,
            });
        }
        self.create(dir, name, exec, |file| {
            if link != Link::Copy && !self.no_reflink.load(Ordering::Relaxed) {
                if file.reflink_from(large.file())? {
                    return Ok(());
                }
                if link == Link::Reflink {
                    return Err(Error::conflict(format!(
                        "the file system of {} cannot share blocks with the store",
                        shown()
                    ))
                    .with_hint("use --link auto or copy"));
                }
                self.no_reflink.store(true, Ordering::Relaxed);
            }
            self.copy_sparse(file, large.file(), size, buffer)
                .map_err(|e| e.with_cause(format!("from {}", show_path(large.path()))))
        })
    }

    fn create(
        &self,
        dir: &Dir,
        name: &[u8],
        exec: bool,
        write: impl FnOnce(&mut NewFile) -> Result<()>,
    ) -> Result<Created> {
        let Some(mut file) = dir.create_file(name, if exec { 0o755 } else { 0o644 })? else {
            return Ok(Created::Exists);
        };
        write(&mut file).map(|()| Created::New)
    }

    /// Copies composed content, inside the kernel where it can. Some file systems then share the blocks, if these are
    /// whole ones.
    fn copy_parts(&self, to: &mut NewFile, composed: &ComposedFile, buffer: &mut Vec<u8>) -> Result<()> {
        let (mut at, mut in_kernel) = (0, true);
        while at < composed.size() {
            self.options.progress.check_cancelled()?;
            let part = composed.file_at(at).filter(|(_, _, len)| in_kernel && *len >= MIN_IN_KERNEL);
            let before = part.map_or(0, |(_, offset, _)| before_whole_blocks(offset, at));
            if before > 0 {
                at += self.copy_bytes(to, composed, at, before, buffer)?;
                continue;
            }
            let n = match part {
                Some((file, offset, len)) => to.copy_part_from(file, offset, at, whole_blocks(len))?,
                None => 0,
            };
            if n > 0 {
                at += n as u64;
                continue;
            }
            in_kernel &= composed.file_at(at).is_none_or(|(_, _, len)| len < MIN_IN_KERNEL);
            let len = if in_kernel { composed.before_long_part(at, MIN_IN_KERNEL).min(BUFFER) } else { BUFFER };
            at += self.copy_bytes(to, composed, at, len as usize, buffer)?;
        }
        Ok(())
    }

    /// Copies at most `len` bytes of composed content through the buffer. Returns how many.
    fn copy_bytes(
        &self,
        to: &NewFile,
        composed: &ComposedFile,
        at: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<u64> {
        buffer.resize(len, 0);
        let n = composed.read_checked(buffer, at)?;
        to.write_at(&buffer[..n], at)?;
        Ok(n as u64)
    }

    /// Copies `size` bytes, holes left as holes, inside the kernel where it can. A source that ends early is damage.
    fn copy_sparse(&self, to: &NewFile, from: &File, size: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let mut at = 0;
        let mut in_kernel = true;
        while at < size {
            let (start, end) = next_data(from, at, size);
            at = start;
            while at < end {
                self.options.progress.check_cancelled()?;
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
        if to.file().metadata().map_err(|e| Error::io("read the attributes of", to.path(), e))?.len() != size {
            to.set_len(size)?; // it ends with a hole
        }
        Ok(())
    }
}

/// Something has a name that was free.
pub(super) fn taken(dir: &Dir, name: &[u8]) -> Result<Error> {
    Ok(match names::other_name(dir, name)? {
        Some(other) => names::clash(dir, name, &other),
        None => Error::conflict(format!("{} was made by something else meanwhile", show_path(&dir.path_of(name))))
            .with_hint("run the same get again"),
    })
}

/// Sets or clears the exec bit of a file with one name. `false` where that is not allowed: the file is made anew then.
fn set_exec(dir: &Dir, name: &[u8], exec: bool) -> Result<bool> {
    let Some(found) = dir.lstat(name)? else { return Ok(false) };
    let mode = if exec { found.mode() | ((found.mode() & 0o444) >> 2) } else { found.mode() & !0o111 };
    match dir.set_mode(name, mode) {
        Err(e) if e.errno() == Some(libc::EPERM) => Ok(false),
        done => done.map(|()| true),
    }
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

/// How many bytes are before the next place where both offsets are at the beginning of a block. 0: they are there, or
/// never.
fn before_whole_blocks(from: u64, to: u64) -> usize {
    if from % BLOCK == to % BLOCK { (to.next_multiple_of(BLOCK) - to) as usize } else { 0 }
}

/// How many bytes of a part are copied at once: whole blocks, if there is one.
fn whole_blocks(len: u64) -> usize {
    let len = len.min(128 << 20);
    (if len < BLOCK { len } else { len - len % BLOCK }) as usize
}
