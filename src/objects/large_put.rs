//! Storing large blobs: shared, adopted, copied, or found by their digest.

use super::adopt::LeasedFile;
use super::composed_file::ComposedFile;
use super::copy_in::{ReadAt, copy_in, copy_read, hash_in_steps};
use super::leases::Leases;
use super::object_sizes::CHECK_SIZES_FROM;
use super::read::Content;
use super::step_hasher::Hashed;
use super::thread_writer::ThreadWriter;
use crate::disk::{self, NewFile, read_full_at};
use crate::error::{Error, Result, show_path};
use crate::types::Digest;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The result of storing a large blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargePut {
    /// The digest of the bytes stored.
    pub digest: Digest,
    /// How many bytes these are.
    pub size: u64,
    /// Whether it was not in the store before.
    pub new: bool,
    /// Whether the source file itself was adopted: then its mode and time have changed.
    pub adopted: bool,
}

impl LargePut {
    pub(super) fn known(digest: Digest, size: u64) -> LargePut {
        LargePut { digest, size, new: false, adopted: false }
    }
}

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl ThreadWriter<'_> {
    /// Stores a whole file as a large blob, in compressed parts if the writer does that and it gets smaller. Any other
    /// shares its blocks where the file system can; otherwise it is copied, holes as holes. The digest is
    /// that of the bytes stored. `tick` gets the number of bytes as they are read and may stop the copy.
    ///
    /// # Errors
    /// I/O; those of `tick`.
    pub fn put_large(&mut self, source: &File, path: &Path, tick: Tick<'_>) -> Result<LargePut> {
        if let Some(put) = self.put_file_in_parts(source, path, tick)? {
            return Ok(put);
        }
        if let Some(leases) = self.writer.leases().cloned()
            && let Some(put) = self.share_or_adopt(source, path, &leases, tick)?
        {
            return Ok(put);
        }
        if self.hashes_first(source, path)?
            && let Some(put) = self.find_by_hash(source, path, tick)?
        {
            return Ok(put);
        }
        let mut temp = self.writer.create_object()?;
        let copied = copy_in(source, path, &mut temp, self.writer.reflink(), &mut self.chunk, tick);
        if let Err(e) = &copied
            && matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT))
        {
            // There is no room for a copy, but the content may be stored already.
            let _: Result<()> = temp.set_len(0);
            if let Ok(Some(put)) = self.find_by_hash(source, path, tick) {
                self.writer.remove_temp(&temp)?;
                return Ok(put);
            }
        }
        let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        let copied = copied.map_err(|e| match e.errno() {
            Some(libc::ENOSPC | libc::EDQUOT) => e.with_cause(format!("{} has {size} bytes", show_path(path))),
            _ => e,
        });
        self.keep_or_drop(temp, self.remembered(copied))
    }

    /// Stores bytes in memory as a large blob, in compressed parts as [`ThreadWriter::put_large`] does.
    ///
    /// # Errors
    /// I/O.
    pub fn put_large_bytes(&mut self, digest: Digest, bytes: &[u8]) -> Result<LargePut> {
        let size = bytes.len() as u64;
        if self.writer.dedup().has_large(&digest, size)? {
            return Ok(LargePut::known(digest, size));
        }
        if let Some(put) = self.put_bytes_in_parts(bytes)? {
            return Ok(put);
        }
        let mut temp = self.writer.create_object()?;
        let written = temp.write_all(bytes).map(|()| (digest, size));
        self.keep_or_drop(temp, written)
    }

    /// Stores all of a composed content as a large blob of its own, in compressed parts as [`ThreadWriter::put_large`]
    /// does. It is of another store: this one does not have it.
    ///
    /// # Errors
    /// I/O; those of `tick`.
    pub fn put_composed(&mut self, composed: &ComposedFile, tick: Tick<'_>) -> Result<LargePut> {
        let read = &|out: &mut [u8], at| composed.read_checked(out, at);
        if let Some(put) = self.put_in_parts(composed.size(), read, tick)? {
            return Ok(put);
        }
        let temp = self.writer.create_object()?;
        let copied = copy_read(&temp, read, tick);
        self.keep_or_drop(temp, self.remembered(copied))
    }

    /// Stores content that recipes take parts of as an object, also if it is composed here itself: no recipe names
    /// composed content. `false`: it has another digest.
    ///
    /// # Errors
    /// I/O.
    pub fn put_source(&mut self, digest: &Digest, content: &Content) -> Result<bool> {
        let writer = self.writer;
        let read: ReadAt<'_> = match content {
            Content::Small(bytes) => &|out, at| Ok(read_bytes(bytes, out, at)),
            Content::Composed(composed) => &|out, at| composed.read_checked(out, at),
            Content::Large(large) => {
                &|out, at| read_full_at(large.file(), out, at).map_err(|e| Error::io("read", large.path(), e))
            }
        };
        let temp = writer.create_object()?;
        let copied = copy_read(&temp, read, &mut |_| Ok(())).map(|hashed| hashed.content());
        if !matches!(&copied, Ok((found, _)) if found == digest) || !writer.dedup().insert_large(*digest) {
            writer.remove_temp(&temp)?;
            return copied.map(|(found, _)| found == *digest);
        }
        let size = copied?.1;
        writer.stage_object(temp, *digest)?;
        writer.count_new_bytes(size)?;
        Ok(true)
    }

    /// Whether to hash a file before it is copied: the store probably has its content, so a copy would be useless, or
    /// there is no room for a copy.
    fn hashes_first(&self, source: &File, path: &Path) -> Result<bool> {
        let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        if size < CHECK_SIZES_FROM {
            return Ok(false);
        }
        if self.writer.can_reflink(source)? {
            return Ok(false); // sharing blocks costs nothing
        }
        self.may_be_known(source, size)
    }

    /// Whether the store probably has the content already, or the disk has no room for it.
    pub(super) fn may_be_known(&self, source: &File, size: u64) -> Result<bool> {
        let free = disk::free_bytes(self.writer.temps().dir());
        Ok(free.is_some_and(|free| free < size) || self.writer.dedup().may_have_content(source, size)?)
    }

    /// Hashes a file where it is. `Some` if the store has its content.
    pub(super) fn find_by_hash(&self, source: &File, path: &Path, tick: Tick<'_>) -> Result<Option<LargePut>> {
        // Reports no bytes: if the file is copied after all, they are reported then.
        let (digest, size) = self.remembered(hash_in_steps(source, path, &mut |_| tick(0)))?;
        Ok(self.writer.dedup().has_large(&digest, size)?.then(|| LargePut::known(digest, size)))
    }

    /// Shares the file's blocks where the file system can; otherwise adopts its inode. `None`: copy it.
    fn share_or_adopt(
        &mut self,
        source: &File,
        path: &Path,
        leases: &Arc<Leases>,
        tick: Tick<'_>,
    ) -> Result<Option<LargePut>> {
        if let Some(clone) = self.clone_of(source)? {
            let hashed = self.remembered(hash_in_steps(clone.file(), clone.path(), tick));
            return self.keep_or_drop(clone, hashed).map(Some);
        }
        let Some(leased) = self.writer.objects().lease_file(leases, source, path)? else { return Ok(None) };
        let content = self.remembered(hash_in_steps(source, path, tick))?;
        self.adopt(&leased, content, leases)
    }

    /// The digest and size of a content that was hashed, whose beginnings are remembered for the next version of it.
    pub(super) fn remembered(&self, hashed: Result<Hashed>) -> Result<(Digest, u64)> {
        hashed.map(|hashed| {
            self.writer.beginnings().remember(&hashed);
            hashed.content()
        })
    }

    /// A temporary file that shares the blocks of `source`. `None` where that is impossible.
    pub(super) fn clone_of(&self, source: &File) -> Result<Option<NewFile>> {
        let writer = self.writer;
        if writer.reflink().is_ruled_out() {
            return Ok(None);
        }
        let temp = writer.create_object()?;
        if temp.reflink_from(source)? {
            return Ok(Some(temp));
        }
        writer.reflink().rule_out();
        writer.remove_temp(&temp)?;
        Ok(None)
    }

    /// Makes a file that was hashed under its lease an object. `None`: it may have changed.
    pub(super) fn adopt(
        &mut self,
        leased: &LeasedFile<'_>,
        content: (Digest, u64),
        leases: &Leases,
    ) -> Result<Option<LargePut>> {
        let temp = self.writer.temps().next('o');
        let Some((linked, file)) = leased.link(leases, temp, content)? else { return Ok(None) };
        let put = LargePut { adopted: true, ..self.keep_or_drop(linked, Ok(content))? };
        if put.new {
            leases.hold(file);
        }
        Ok(Some(put))
    }

    /// Keeps a temporary file as the blob, or removes it if the blob is stored already.
    pub(super) fn keep_or_drop(&mut self, temp: NewFile, written: Result<(Digest, u64)>) -> Result<LargePut> {
        let writer = self.writer;
        let checked = written.and_then(|(digest, size)| Ok((digest, size, writer.dedup().has_large(&digest, size)?)));
        let (digest, size, known) = match checked {
            Ok(checked) => checked,
            Err(e) => {
                let _: Result<()> = writer.remove_temp(&temp);
                return Err(e);
            }
        };
        // If two threads have the same content, the first one keeps its copy.
        if known || !writer.dedup().insert_large(digest) {
            writer.remove_temp(&temp)?;
            return Ok(LargePut::known(digest, size));
        }
        writer.stage_object(temp, digest)?;
        writer.count_new_bytes(size)?;
        Ok(LargePut { digest, size, new: true, adopted: false })
    }
}

/// Copies the bytes from `at` on to `out`, as far as there are some. Returns how many.
pub(super) fn read_bytes(bytes: &[u8], out: &mut [u8], at: u64) -> usize {
    let from = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
    let n = from.len().min(out.len());
    out[..n].copy_from_slice(&from[..n]);
    n
}
