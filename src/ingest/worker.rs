//! One thread that reads, hashes and stores files.
//!
//! A file's digest is that of the bytes stored. A file that changes while it is read is read again, then refused.

use super::earlier::{EarlierBelow, EarlierNear};
use super::fetched::{Fetched, fetch};
use super::sink::Sink;
use super::stored::Stored;
use super::tree::SourceStat;
use crate::disk::{FileStat, hash_file, read_to_expected_end, stat_file};
use crate::error::{Error, Result, show_path};
use crate::manifest::Reference;
use crate::objects::{COMPOSED_MIN, SMALL_MAX, ThreadWriter};
use crate::progress::Progress;
use crate::remote::shown_uri;
use crate::types::{Digest, RelPath};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a file that changes under the reader is read again.
pub(super) const TRIES: u32 = 3;

/// One thread's lane and buffer.
pub(super) struct Worker<'a> {
    pub lane: Option<ThreadWriter<'a>>,
    pub progress: &'a Progress,
    buffer: Vec<u8>,
    /// Bytes of the file at hand that were counted while it was read.
    counted: u64,
    earlier: Option<EarlierBelow<'a>>,
    /// Where the file at hand will be in the version, if it is large.
    path: Option<RelPath>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(sink: &Sink<'a>, earlier: Option<EarlierBelow<'a>>, progress: &'a Progress) -> Self {
        let lane = match sink {
            Sink::Store(writer) => Some(writer.thread_writer()),
            Sink::Nowhere => None,
        };
        Worker { lane, progress, buffer: Vec::new(), counted: 0, earlier, path: None }
    }

    pub(super) fn close(self) -> Result<()> {
        self.lane.map_or(Ok(()), ThreadWriter::close)
    }

    /// Call it before each file: of `size` bytes, at the path that `path` returns.
    pub(super) fn begin(&mut self, size: u64, path: impl FnOnce() -> Option<RelPath>) -> Result<()> {
        self.progress.check_cancelled()?;
        self.path = if size >= COMPOSED_MIN && self.earlier.is_some() { path() } else { None };
        Ok(())
    }

    /// Call it after each file.
    pub(super) fn end(&mut self, size: u64) {
        self.progress.add_done(1, size.saturating_sub(self.counted));
        self.counted = 0;
    }

    /// Stores bytes at hand.
    pub(super) fn bytes(&mut self, bytes: &Arc<[u8]>) -> Result<Stored> {
        let digest = Digest::of(bytes);
        let place = match &mut self.lane {
            None => None,
            Some(lane) if (bytes.len() as u64) < SMALL_MAX => Some(lane.put_small(digest, bytes)?.place),
            Some(lane) => {
                lane.put_large_bytes(digest, bytes)?;
                None
            }
        };
        Ok(Stored { digest, size: bytes.len() as u64, place })
    }

    /// Stores what a reference names.
    pub(super) fn fetched(&mut self, reference: &Reference) -> Result<Stored> {
        let dir = self.lane.as_ref().map_or_else(std::env::temp_dir, |lane| lane.directory().to_path_buf());
        let (fetched, bytes) = fetch(reference, &dir, self.progress)?;
        self.counted = bytes;
        let file = match fetched {
            Fetched::Small(bytes) => return self.bytes(&bytes.into()),
            Fetched::Large(file) => file,
        };
        let path = || PathBuf::from(shown_uri(&reference.uri));
        let read = self.read(&file, &path, bytes)?.filter(|(stored, _)| stored.size == bytes);
        read.map(|(stored, _)| stored).ok_or_else(|| unsteady(&path()))
    }

    /// Stores a file that the user added by its path: it must still be what it was then.
    pub(super) fn added(&mut self, path: &Path, stat: &SourceStat) -> Result<Stored> {
        for _ in 0..TRIES {
            let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
            let file = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)
                .map_err(|e| Error::io("open", path, e))?;
            let before = stat_open(&file, &|| path.to_path_buf())?;
            if !before.is_file() || SourceStat::from(before) != *stat {
                return Err(Error::io_message(format!("{} changed since it was added", show_path(path)))
                    .with_hint("add it again; nothing was published"));
            }
            let Some((stored, taken)) = self.read(&file, &|| path.to_path_buf(), before.size)? else { continue };
            if taken || (stat_open(&file, &|| path.to_path_buf())? == before && stored.size == before.size) {
                return Ok(stored);
            }
        }
        Err(unsteady(path))
    }

    /// Reads a file once: what was stored, and whether the file itself was taken over. `None` when it has another
    /// size.
    pub(super) fn read(
        &mut self,
        file: &File,
        path: &dyn Fn() -> PathBuf,
        size: u64,
    ) -> Result<Option<(Stored, bool)>> {
        if size < SMALL_MAX {
            return Ok(self.read_small(file, path, size)?.map(|stored| (stored, false)));
        }
        self.read_large(file, &path(), size).map(Some)
    }

    fn read_small(&mut self, file: &File, path: &dyn Fn() -> PathBuf, size: u64) -> Result<Option<Stored>> {
        // One byte more than it should have: so one call reads it, and shows that it ends there.
        self.buffer.resize(size as usize + 1, 0);
        let n = read_to_expected_end(file, &mut self.buffer).map_err(|e| Error::io("read", &path(), e))?;
        self.buffer.truncate(n);
        if n as u64 != size {
            return Ok(None);
        }
        let digest = Digest::of(&self.buffer);
        let place = self.lane.as_mut().map(|lane| lane.put_small(digest, &self.buffer)).transpose()?.map(|p| p.place);
        Ok(Some(Stored { digest, size, place }))
    }

    /// What was stored, and whether the file itself was taken over.
    fn read_large(&mut self, file: &File, path: &Path, size: u64) -> Result<(Stored, bool)> {
        let (progress, counted) = (self.progress, &mut self.counted);
        let near = |(below, path): (EarlierBelow<'a>, _)| EarlierNear { files: below.files, path, size };
        let near = self.earlier.zip(self.path.as_ref()).filter(|_| size >= COMPOSED_MIN).map(near);
        *counted = 0;
        let mut tick = |bytes: u64| {
            *counted += bytes;
            progress.add_done(0, bytes);
            progress.check_cancelled()
        };
        let ((digest, size), taken) = match &mut self.lane {
            Some(lane) => {
                let put = match &near {
                    None => lane.put_large(file, path, &mut tick)?,
                    Some(near) => lane.put_large_like(file, path, near, &mut tick)?,
                };
                ((put.digest, put.size), put.adopted)
            }
            None => (hash_file(file, path, &mut tick)?, false),
        };
        Ok((Stored { digest, size, place: None }, taken))
    }
}

pub(super) fn stat_open(file: &File, path: &dyn Fn() -> PathBuf) -> Result<FileStat> {
    stat_file(file).map_err(|e| Error::io("read the attributes of", &path(), e))
}

pub(super) fn unsteady(path: &Path) -> Error {
    Error::io_message(format!("{} changes while it is read", show_path(path)))
        .with_hint("run the command again when nothing writes to it; nothing was published")
}
