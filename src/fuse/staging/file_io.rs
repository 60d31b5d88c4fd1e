//! Opening, reading and writing files of a run.

use super::handles::{OpenContent, OpenFile};
use super::metadata::strip_privileges;
use super::table::ResolvedNode;
use super::tree::StagingTree;
use crate::disk::backing;
use crate::disk::read_full_at;
use crate::fuse::errno::{ErrnoResult, errno_of_io};
use crate::objects::Content;
use std::os::unix::fs::FileExt;

impl StagingTree {
    /// Opens a file. The kernel handles O_APPEND, O_TRUNC and O_DIRECT.
    pub(super) fn open(&self, id: u64, flags: i32, pid: u32) -> ErrnoResult<u64> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let (_table, at) = match self.resolve(id)? {
            (table, ResolvedNode::InRun(at)) => (table, at),
            (_, ResolvedNode::Namespace(_)) => return Err(libc::EISDIR),
        };
        let run = at.run.clone();
        if let Some(sealed) = run.sealed() {
            if writes {
                return Err(libc::EROFS);
            }
            if at.nameless().is_none() {
                let bytes = match sealed.content(at.path())? {
                    Content::Small(bytes) => OpenContent::Packed(bytes.into()),
                    Content::Large(large) => OpenContent::File(large.into_file()),
                    Content::Composed(composed) => OpenContent::Parts(composed),
                };
                return Ok(self.handles.open(OpenFile { bytes, node: id, run, writer: None, label: String::new() }));
            }
        }
        let _change = if writes { Some(run.begin_change()?) } else { None };
        // The kernel also reads a file that is written to, where a page is changed in part.
        let file =
            at.backing().open_at(at.path(), flags & (libc::O_ACCMODE | libc::O_NOATIME), 0).map_err(errno_of_io)?;
        let (writer, label) = (writes.then_some(pid), at.label());
        Ok(self.handles.open(OpenFile { bytes: OpenContent::File(file), node: id, run: run.clone(), writer, label }))
    }

    /// Reads into `buffer` from `offset` on. Returns how many bytes there were.
    pub(super) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> ErrnoResult<usize> {
        match &self.handles.file(handle)?.bytes {
            OpenContent::File(file) => read_full_at(file, buffer, offset).map_err(errno_of_io),
            OpenContent::Parts(composed) => composed.read_at(buffer, offset).map_err(errno_of_io),
            OpenContent::Packed(bytes) => {
                let from = bytes.len().min(offset as usize);
                let n = (bytes.len() - from).min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[from..from + n]);
                Ok(n)
            }
        }
    }

    /// Writes. `strip` means that the write clears the set-user-id and set-group-id bits.
    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8], strip: bool) -> ErrnoResult<u32> {
        let open = self.handles.file(handle)?;
        let OpenContent::File(file) = &open.bytes else { return Err(libc::EBADF) };
        let _change = open.run.begin_change()?;
        file.write_all_at(data, offset).map_err(errno_of_io)?;
        if strip {
            strip_privileges(file)?;
        }
        Ok(data.len() as u32)
    }

    pub(super) fn sync(&self, handle: u64, data_only: bool) -> ErrnoResult<()> {
        match &self.handles.file(handle)?.bytes {
            OpenContent::File(file) => backing::sync_open(file, data_only).map_err(errno_of_io),
            OpenContent::Packed(_) | OpenContent::Parts(_) => Ok(()),
        }
    }

    pub(super) fn allocate(&self, handle: u64, mode: i32, offset: u64, length: u64) -> ErrnoResult<()> {
        let open = self.handles.file(handle)?;
        let OpenContent::File(file) = &open.bytes else { return Err(libc::EBADF) };
        let _change = open.run.begin_change()?;
        backing::allocate(file, mode, offset as i64, length as i64).map_err(errno_of_io)
    }

    pub(super) fn seek(&self, handle: u64, offset: i64, whence: i32) -> ErrnoResult<i64> {
        match &self.handles.file(handle)?.bytes {
            OpenContent::File(file) => backing::seek(file, offset, whence).map_err(errno_of_io),
            OpenContent::Packed(_) | OpenContent::Parts(_) => Err(libc::ENOSYS),
        }
    }

    pub(super) fn copy_range(&self, from: u64, from_at: u64, to: u64, to_at: u64, length: u64) -> ErrnoResult<u32> {
        let (source, target) = (self.handles.file(from)?, self.handles.file(to)?);
        let (OpenContent::File(a), OpenContent::File(b)) = (&source.bytes, &target.bytes) else {
            return Err(libc::EXDEV);
        };
        let _change = target.run.begin_change()?;
        let most = length.min(1 << 30) as usize;
        backing::copy_range(a, from_at as i64, b, to_at as i64, most).map(|n| n as u32).map_err(errno_of_io)
    }
}
