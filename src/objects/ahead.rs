//! Reading content that is not used yet, so that it is in the page cache, or in the cache of this handle.

use super::cached_pack::cached_object;
use super::content_store::Objects;
use super::miss::Miss;
use super::pack::BLOB_HEADER;
use super::read::Content;
use crate::cache::BLOCK;
use crate::disk;
use crate::error::{Error, Result};
use crate::types::{Digest, PackRef};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

/// The first part of a range that is read. See [`growing`].
const FIRST_PART: u64 = 4 << 10;

/// A small file in a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedFile {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) offset: u32,
}

impl PackedFile {
    /// The offset of its end. If it is compressed, it ends before that.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + BLOB_HEADER as u64 + self.size
    }
}

impl Objects {
    /// Reads a range of a pack. `false`: the pack is not there.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn read_pack_ahead(&self, pack: PackRef, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.resize(BLOCK as usize, 0);
        let mut read = || {
            let pack = self.open_pack(pack)?;
            for at in range.clone().step_by(BLOCK as usize) {
                if let Some(file) = pack.file() {
                    disk::advise_needed(file, at + BLOCK..(at + 3 * BLOCK).min(range.end));
                }
                pack.read_at(&mut buffer[..(range.end - at).min(BLOCK) as usize], at)?;
            }
            Ok(())
        };
        match read() {
            Ok(()) => Ok(true),
            Err(Miss::Gone | Miss::Wrong(_) | Miss::Incomplete(_)) => Ok(false),
            Err(Miss::Io(e)) => Err(e),
        }
    }

    /// Reads a range of a large file.
    ///
    /// # Errors
    /// Damaged: it is missing. I/O.
    pub(crate) fn read_object_ahead(
        &self,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        buffer.resize(BLOCK as usize, 0);
        let Some(cache) = self.cache() else {
            let content = self.content(digest, size, None)?;
            if let Content::Large(object) = &content {
                // The kernel's own readahead, not requests for ranges: these fill the page cache with single pages,
                // from which later reads take more than twice as long.
                disk::advise_sequential(object.file());
            }
            for part in growing(range) {
                read_part(&content, &mut buffer[..(part.end - part.start) as usize], part.start)?;
            }
            return Ok(());
        };
        let item = cached_object(digest, size);
        let content = std::cell::OnceCell::new();
        for at in range.clone().step_by(BLOCK as usize) {
            let fetch = |range: Range<u64>| {
                if content.get().is_none() {
                    drop(content.set(self.content(digest, size, None)?));
                }
                let mut bytes = vec![0; (range.end - range.start) as usize];
                if let Some(content) = content.get() {
                    read_part(content, &mut bytes, range.start)?;
                }
                Ok(bytes)
            };
            cache.read_through(&item, at, &mut buffer[..(range.end - at).min(BLOCK) as usize], &fetch)?;
        }
        Ok(())
    }

    /// If all of an object is in the cache of this handle, checks it as a whole, so that the kernel can read it by
    /// itself.
    pub(crate) fn check_cached_object(&self, digest: &Digest, size: u64) {
        if let Some(cache) = self.cache() {
            cache.check_whole(&cached_object(digest, size), Some(digest));
        }
    }

    /// Sorts objects as they probably lie on the disk: by inode. On a shared disk they stay as they are.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn in_order_of_the_disk(&self, objects: Vec<(Digest, u64)>) -> Result<Vec<(Digest, u64)>> {
        if !self.disk().kind().is_local() {
            return Ok(objects);
        }
        let mut found = Vec::with_capacity(objects.len());
        for (digest, size) in objects {
            let inode = disk::lstat(&self.layout().object(&digest))?.map_or(0, |meta| meta.ino());
            found.push((inode, (digest, size)));
        }
        found.sort_unstable_by_key(|(inode, _)| *inode);
        Ok(found.into_iter().map(|(_, object)| object).collect())
    }
}

/// The parts of a range in which it is read: small ones first, then blocks. The kernel's readahead begins with single
/// pages for about four times the length of the first read, and takes larger ones step by step. If that is a whole
/// block, a third of a large file ends up in small pages, from which later reads take an eighth longer.
fn growing(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = range.start..(range.start + FIRST_PART).min(range.end);
    std::iter::successors(Some(first), move |part| {
        let length = (2 * (part.end - part.start)).min(BLOCK);
        Some(part.end..(part.end + length).min(range.end))
    })
    .take_while(|part| !part.is_empty())
}

/// Fills the buffer with a large file's bytes at `at`.
fn read_part(content: &Content, out: &mut [u8], at: u64) -> Result<()> {
    let end = at + out.len() as u64;
    let cut = || Error::damaged(format!("a large file ends before {end}"));
    match content {
        Content::Large(object) => object.file().read_exact_at(out, at).map_err(|e| Error::io("read", object.path(), e)),
        Content::Composed(composed) => match composed.read_at(out, at) {
            Ok(n) if n == out.len() => Ok(()),
            Ok(_) => Err(cut()),
            Err(e) => Err(Error::io_message("cannot read the parts of a large file").with_source(e)),
        },
        Content::Small(bytes) => {
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            let part = bytes.get(from..).and_then(|rest| rest.get(..out.len()));
            out.copy_from_slice(part.ok_or_else(cut)?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_in_parts_that_grow_to_a_block_and_leave_nothing_out() {
        for range in [0..0, 5..6, 0..4096, 7..5000, (128 << 20)..(256 << 20) + 17] {
            let parts: Vec<_> = growing(range.clone()).collect();
            assert!(parts.windows(2).all(|two| two[0].end == two[1].start), "{range:?}");
            assert_eq!(parts.iter().map(|part| part.end - part.start).sum::<u64>(), range.end - range.start);
            assert!(parts.first().is_none_or(|part| part.start == range.start && part.end <= range.start + FIRST_PART));
            assert!(parts.iter().all(|part| part.end - part.start <= BLOCK));
            assert!(parts.len() < 9 + ((range.end - range.start) / BLOCK) as usize + 2, "{}", parts.len());
        }
    }
}
