//! Making and using the reserve of a store. FORMAT.md, "A full disk", says what it is for.

use super::explain::failed;
use super::reserve::UsesReserve;
use super::{Disk, space, step};
use crate::error::Result;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// How many files the reserve has: one inode each.
const FILES: usize = 24;
/// How many of them a removal may use. A collector needs the rest to free what was removed.
const FILES_FOR_REMOVALS: usize = 12;
/// How long each is.
const FILE_BYTES: u64 = 192 << 10;
/// The reserve is made only if this many times its size is free.
const ROOM: u64 = 4;
/// With fewer free inodes than this the reserve is used before a step fails.
const FEW_INODES: u64 = 64;

/// Which command may use the reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReserveUse {
    /// It marks what may be freed later.
    Removal,
    /// It frees.
    Collection,
}

impl Disk {
    /// From now on, until the result is dropped, steps that find no space use the reserve. It is used at once if almost
    /// nothing is free: on a shared disk a write can fail when it is too late to repeat it.
    pub fn use_reserve(&self, for_what: ReserveUse) -> UsesReserve<'_> {
        let Some(reserve) = self.reserve.as_deref() else { return UsesReserve::none() };
        let files = if for_what == ReserveUse::Removal { FILES_FOR_REMOVALS } else { FILES };
        let uses = reserve.allow(files);
        if space(reserve.dir()).is_ok_and(|found| is_low(&found)) {
            reserve.release();
        }
        uses
    }

    /// Runs a step, and once more if it found no space and the reserve gave some.
    pub(super) fn with_reserve<T>(&self, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(e) if self.reserve.as_ref().is_some_and(|reserve| reserve.release_after(&e)) => work(),
            done => done,
        }
    }

    /// Makes the reserve, or the part of it that is missing, if there is room. It is not made if that fails.
    ///
    /// # Errors
    /// None for lack of space; I/O.
    pub fn make_reserve(&self) -> Result<()> {
        let Some(reserve) = self.reserve.as_deref() else { return Ok(()) };
        let missing: Vec<_> = (0..FILES).map(|n| reserve.file(n)).filter(|path| !is_whole(path)).collect();
        if missing.is_empty() || !has_room(reserve.dir()) {
            return Ok(());
        }
        self.create_dir(reserve.dir())?;
        for path in missing {
            match self.make_reserve_file(&path) {
                Err(e) if matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                    let _ = self.remove_file(&path);
                    return Ok(());
                }
                // Another process makes it too.
                Err(e) if e.errno() == Some(libc::EEXIST) => {}
                made => made?,
            }
        }
        Ok(())
    }

    fn make_reserve_file(&self, path: &Path) -> Result<()> {
        self.remove_file(path)?; // one that was not completed
        let mut file = self.create_file_with(path.to_path_buf(), 0o666)?;
        step("reserve space in", path)?;
        // SAFETY: an open descriptor.
        let done = unsafe { libc::fallocate(file.file().as_raw_fd(), 0, 0, FILE_BYTES as libc::off_t) };
        if done == 0 {
            return Ok(());
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => file.write_all(&incompressible_bytes()),
            _ => Err(failed("reserve space in", path, e)),
        }
    }
}

fn is_low(found: &super::Space) -> bool {
    found.available_bytes() < FILE_BYTES * FILES as u64 || found.files > 0 && found.files_free < FEW_INODES
}

fn has_room(dir: &Path) -> bool {
    let parent = dir.parent().unwrap_or(dir);
    space(parent).is_ok_and(|found| {
        found.available_bytes() >= ROOM * FILE_BYTES * FILES as u64
            && (found.files == 0 || found.files_free >= ROOM * FEW_INODES)
    })
}

/// Whether it holds its space. A copying tool may have made a file with holes of it.
fn is_whole(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path)
        .is_ok_and(|m| m.is_file() && m.len() == FILE_BYTES && m.blocks() * 512 >= FILE_BYTES)
}

/// On file systems that compress, zeros would hold no space.
fn incompressible_bytes() -> Vec<u8> {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..FILE_BYTES / 8).flat_map(|_| next()).collect()
}
