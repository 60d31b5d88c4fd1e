//! [`ThreadWriter`]: one thread's access to an [`ObjectWriter`]. It fills packs of its own, in the order in which it
//! gets the blobs. Large blobs: see `large_put`.

use super::checkpoint::CHECKPOINT_INTERVAL;
use super::codec::{BlobCompressor, StoredBytes};
use super::pack::{BlobKind, SMALL_MAX};
use super::pack_writer::PackWriter;
use super::recent_pack::RecentPack;
use super::recipe::RecipeSource;
use super::writer::ObjectWriter;
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use std::path::Path;

/// The result of storing a small blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallPut {
    /// Where it lies.
    pub place: Location,
    /// Whether it was not in the store before.
    pub new: bool,
}

/// One thread's access to the store. When it is closed or dropped, its open pack goes to the next thread writer or to
/// the node writer.
pub struct ThreadWriter<'a> {
    pub(super) writer: &'a ObjectWriter,
    pack: Option<PackWriter>,
    /// `None`: blobs are stored as they are.
    pub(super) compressor: Option<BlobCompressor>,
    /// Buffer for copying.
    pub(super) chunk: Vec<u8>,
    /// The pack checked last, if it is in place and nothing in the store is known to be damaged.
    in_place: Option<PackRef>,
    recent: RecentPack,
}

impl std::fmt::Debug for ThreadWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadWriter").finish_non_exhaustive()
    }
}

impl ObjectWriter {
    /// Access for one thread.
    pub fn thread_writer(&self) -> ThreadWriter<'_> {
        let compressor = self.objects().compresses().then(BlobCompressor::default);
        ThreadWriter {
            writer: self,
            pack: None,
            compressor,
            chunk: Vec::new(),
            in_place: None,
            recent: RecentPack::new(),
        }
    }
}

impl ThreadWriter<'_> {
    /// Stores bytes of this digest, shorter than [`SMALL_MAX`].
    ///
    /// # Errors
    /// Usage: they are not shorter. I/O.
    pub fn put_small(&mut self, digest: Digest, bytes: &[u8]) -> Result<SmallPut> {
        if bytes.len() as u64 >= SMALL_MAX {
            return Err(Error::usage(format!(
                "{} bytes are too many for a pack: content of {SMALL_MAX} bytes or more is stored as a file of its own",
                bytes.len()
            )));
        }
        let writer = self.writer;
        let mut small = writer.dedup().small(&digest);
        if let Some(place) = small.get(&digest) {
            return Ok(SmallPut { place, new: false });
        }
        if let Some(place) = self.find_small(&digest)? {
            small.found(digest, place);
            return Ok(SmallPut { place, new: false });
        }
        let place = writer.fail_on_error(self.append(digest, BlobKind::Content, bytes))?;
        small.stored(digest, place);
        drop(small);
        writer.count_new_bytes(bytes.len() as u64)?;
        Ok(SmallPut { place, new: true })
    }

    /// Stores a part of a large content, unless a pack has it. A long one is compressed so that a part of it can be
    /// read, and never stored in another form: readers of a recipe that names it expect this one.
    pub(super) fn put_part(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        if (bytes.len() as u64) < SMALL_MAX {
            return self.put_small(digest, bytes).map(drop);
        }
        let writer = self.writer;
        if writer.dedup().small(&digest).get(&digest).is_some() || self.find_small(&digest)?.is_some() {
            return Ok(());
        }
        let stored = self.compressor.get_or_insert_default().framed(bytes).map_err(|e| {
            Error::io_message(format!("cannot compress {} bytes of content {digest}", bytes.len())).with_source(e)
        });
        let stored = writer.fail_on_error(stored)?;
        // Only now: other threads need the list while this one compresses.
        let mut small = writer.dedup().small(&digest);
        if small.get(&digest).is_some() {
            return Ok(());
        }
        let place = writer.fail_on_error(append(writer, &mut self.pack, digest, BlobKind::Content, stored))?;
        small.stored(digest, place);
        drop(small);
        writer.count_new_bytes(bytes.len() as u64)
    }

    /// Whether content of this digest and size is stored: `Some`, with its location if it is packed.
    ///
    /// # Errors
    /// I/O.
    pub fn find(&mut self, digest: &Digest, size: u64) -> Result<Option<Option<Location>>> {
        let dedup = self.writer.dedup();
        if size >= SMALL_MAX {
            return Ok(dedup.has_large(digest, size)?.then_some(None));
        }
        if let Some(place) = dedup.small(digest).get(digest) {
            return Ok(Some(Some(place)));
        }
        Ok(self.find_small(digest)?.map(Some))
    }

    /// Whether content of this digest and size is stored so that recipes can name it: packed, or as an object.
    ///
    /// # Errors
    /// I/O.
    pub fn has_source(&self, digest: &Digest, size: u64) -> Result<bool> {
        self.writer.dedup().has_source(&RecipeSource::framed(*digest, size))
    }

    /// Where small content lay in a pack before this writer.
    pub(super) fn find_small(&mut self, digest: &Digest) -> Result<Option<Location>> {
        if let Some(place) = self.recent.find(digest) {
            return Ok(Some(place));
        }
        let dedup = self.writer.dedup();
        let found = dedup.find_small(digest)?;
        if let Some(Location { pack, .. }) = found
            && self.recent.found_in(pack)
        {
            self.recent.replace(pack, dedup.whole_footer(pack)?);
        }
        Ok(found)
    }

    /// Whether content that a manifest names is stored: at `place`, by a check of the pack or file, or anywhere else,
    /// the trash included: a garbage collector puts back what a manifest names. Makes nothing durable, so use it only
    /// for content that an acknowledged manifest names. Reads content only if it is not where it was.
    ///
    /// # Errors
    /// I/O.
    pub fn has(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        Ok(self.has_in_place(digest, size, place)? || self.writer.dedup().is_moved(digest, size)?)
    }

    /// As [`ThreadWriter::has`], but content in the trash does not count, nor what was moved since this writer began.
    ///
    /// # Errors
    /// I/O.
    pub fn has_in_place(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        let dedup = self.writer.dedup();
        if size >= SMALL_MAX {
            return dedup.sees_large(digest, size);
        }
        if let Some(place) = place {
            if self.in_place == Some(place.pack) {
                return Ok(true);
            }
            if dedup.has_pack(place.pack)? && !dedup.is_damaged(digest, BlobKind::Content, place.pack) {
                self.in_place = Some(place.pack).filter(|_| !dedup.knows_damage());
                return Ok(true);
            }
        }
        Ok(self.find(digest, size)?.is_some())
    }

    /// Appends a blob to the open pack, compressed if that is worth it.
    pub(super) fn append(&mut self, digest: Digest, kind: BlobKind, bytes: &[u8]) -> Result<Location> {
        let stored = StoredBytes::by(&mut self.compressor, bytes);
        append(self.writer, &mut self.pack, digest, kind, stored)
    }

    /// The directory of the token, for temporary files.
    pub fn directory(&self) -> &Path {
        self.writer.directory()
    }

    /// Ends the access. The open pack goes to the next thread writer, or to the node writer.
    ///
    /// # Errors
    /// None yet.
    pub fn close(self) -> Result<()> {
        drop(self);
        Ok(())
    }
}

impl Drop for ThreadWriter<'_> {
    fn drop(&mut self) {
        self.writer.return_pack(self.pack.take());
    }
}

/// Appends a blob to the open pack of a thread, or to a new one.
fn append(
    writer: &ObjectWriter,
    open: &mut Option<PackWriter>,
    digest: Digest,
    kind: BlobKind,
    stored: StoredBytes<'_>,
) -> Result<Location> {
    let len = stored.bytes.len();
    if let Some(full) = open.take_if(|p| !p.has_room_for(len) || p.age() >= CHECKPOINT_INTERVAL) {
        writer.close_pack(full)?;
    }
    let pack = match open {
        Some(pack) => pack,
        none => none.insert(writer.open_pack_for(len)?),
    };
    pack.append(digest, kind, stored)
}
