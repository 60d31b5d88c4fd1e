//! A lane: one thread's way into a writer. It fills its own packs, in the order in which it is given blobs.

use super::adopt::Leases;
use super::known_damage::Damaged;
use super::large::{OBJECT_MODE, OBJECT_MTIME, untouched};
use super::pack::Kind;
use super::pack_writer::PackWriter;
use super::seal::Becomes;
use super::sizes::ASK_FROM;
use super::write::{CHECKPOINT_AFTER, ObjectWriter};
use super::{Objects, SMALL_MAX, copy};
use crate::disk::{self, NewFile};
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What came of storing a small blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallPut {
    /// Where it lies.
    pub place: Location,
    /// Whether it was not in the store before.
    pub new: bool,
}

/// What came of storing a large blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargePut {
    /// The digest of the bytes stored.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// Whether it was not in the store before.
    pub new: bool,
    /// Whether the file itself was taken over: it is not as it was.
    pub taken: bool,
}

/// One thread's way into the store. Closed or dropped, it leaves its open pack to the next lane or the nodes.
pub struct ThreadWriter<'a> {
    writer: &'a ObjectWriter,
    pack: Option<PackWriter>,
    chunk: Vec<u8>,
    /// The pack that was asked for last, if it is in place and nothing is known to be damaged.
    in_place: Option<PackRef>,
}

impl<'a> ThreadWriter<'a> {
    pub(super) fn new(writer: &'a ObjectWriter) -> Self {
        ThreadWriter { writer, pack: None, chunk: Vec::new(), in_place: None }
    }

    /// Stores bytes of this digest, shorter than [`SMALL_MAX`].
    ///
    /// # Errors
    /// Usage: they are not shorter. I/O.
    pub fn put_small(&mut self, digest: Digest, bytes: &[u8]) -> Result<SmallPut> {
        if bytes.len() as u64 >= SMALL_MAX {
            return Err(Error::usage(format!(
                "{} bytes are not packed: from {SMALL_MAX} on content is a file of its own",
                bytes.len()
            )));
        }
        let writer = self.writer;
        // Held while appending: who comes second with the same bytes finds the first one's place.
        let mut shard = writer.shard(&digest).lock();
        if let Some(place) = shard.get(&digest) {
            return Ok(SmallPut { place: *place, new: false });
        }
        if let Some(place) = self.stored(&digest)? {
            shard.insert(digest, place);
            return Ok(SmallPut { place, new: false });
        }
        let appended = self.append(digest, bytes);
        let place = writer.or_fail(appended)?;
        shard.insert(digest, place);
        drop(shard);
        writer.grew(bytes.len() as u64)?;
        Ok(SmallPut { place, new: true })
    }

    /// Where content lay in a pack before this writer.
    fn stored(&self, digest: &Digest) -> Result<Option<Location>> {
        let found = self.writer.find(digest, Kind::Content, |_| true)?;
        if found.is_some() {
            self.writer.relies_on_packs.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Whether content of this digest and size is stored: `Some` with its place if it is packed.
    ///
    /// # Errors
    /// I/O.
    pub fn find(&self, digest: &Digest, size: u64) -> Result<Option<Option<Location>>> {
        if size >= SMALL_MAX {
            return Ok(self.has_large(digest, size)?.then_some(None));
        }
        if let Some(place) = self.writer.shard(digest).lock().get(digest) {
            return Ok(Some(Some(*place)));
        }
        Ok(self.stored(digest)?.map(Some))
    }

    /// Whether content that a manifest names is stored: where it says so, by a look at the pack or the file; else
    /// anywhere. Reads no content and makes nothing durable, so it is for content that an acknowledged manifest names.
    ///
    /// # Errors
    /// I/O.
    pub fn has(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        if size >= SMALL_MAX {
            return self.sees_large(digest, size);
        }
        if let Some(place) = place {
            if self.in_place == Some(place.pack) {
                return Ok(true);
            }
            if self.writer.has_pack(place.pack)? && !self.writer.is_damaged(digest, Kind::Content, place.pack) {
                self.in_place = Some(place.pack).filter(|_| self.writer.damage.is_empty());
                return Ok(true);
            }
        }
        Ok(self.find(digest, size)?.is_some())
    }

    /// Stores a whole file as a large blob: its blocks are shared where the file system can, else it is copied, holes
    /// as holes. The digest is that of the bytes stored. `tick` is told of bytes as they are read, and may stop it.
    ///
    /// # Errors
    /// I/O; those of `tick`.
    pub fn put_large(
        &mut self,
        source: &File,
        path: &Path,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<LargePut> {
        if let Some(leases) = &self.writer.taking
            && let Some(put) = self.share_or_take(source, path, leases, tick)?
        {
            return Ok(put);
        }
        if self.is_to_be_hashed_first(source, path)?
            && let Some(put) = self.found_by_hash(source, path, tick)?
        {
            return Ok(put);
        }
        let mut temp = self.writer.objects.disk.create_file(self.writer.temp('o'))?;
        let copied = copy::copy_in(source, path, &mut temp, &self.writer.no_reflink, &mut self.chunk, tick);
        if let Err(e) = &copied
            && matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT))
        {
            // There is no room for what may be here already.
            let _: Result<()> = temp.set_len(0);
            if let Ok(Some(put)) = self.found_by_hash(source, path, tick) {
                self.writer.objects.disk.remove_file(temp.path())?;
                return Ok(put);
            }
        }
        self.settle(temp, copied)
    }

    /// Whether a file probably is in the store already, so that copying it would be for nothing, or there is no room
    /// for a copy.
    fn is_to_be_hashed_first(&self, source: &File, path: &Path) -> Result<bool> {
        let (writer, size) = (self.writer, source.metadata().map_err(|e| Error::io("look at", path, e))?.len());
        if size < ASK_FROM {
            return Ok(false);
        }
        if !writer.no_reflink.load(Ordering::Relaxed) && writer.can_reflink(source)? {
            return Ok(false); // which costs nothing
        }
        Ok(disk::free_bytes(&writer.dir).is_some_and(|free| free < size)
            || writer.sizes.may_have(&writer.objects, size)?)
    }

    /// Hashes a file where it is: an answer if the store has what it holds.
    fn found_by_hash(
        &self,
        source: &File,
        path: &Path,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<LargePut>> {
        // Counted when it is found: a file that is copied after all is counted then.
        let (digest, size) = super::large::hash_file(source, path, &mut |_| tick(0))?;
        Ok(self.has_large(&digest, size)?.then_some(LargePut { digest, size, new: false, taken: false }))
    }

    pub(super) fn objects(&self) -> &Arc<Objects> {
        &self.writer.objects
    }

    pub(super) fn temp(&self, what: char) -> std::path::PathBuf {
        self.writer.temp(what)
    }

    /// Shares the file's blocks where the file system can, else takes its inode; `None`: it is to be copied.
    fn share_or_take(
        &mut self,
        source: &File,
        path: &Path,
        leases: &Leases,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<LargePut>> {
        if !self.writer.no_reflink.load(Ordering::Relaxed) {
            let temp = self.writer.objects.disk.create_file(self.writer.temp('o'))?;
            if temp.reflink_from(source)? {
                let hashed = super::large::hash_file(temp.file(), temp.path(), tick);
                return self.settle(temp, hashed).map(Some);
            }
            self.writer.no_reflink.store(true, Ordering::Relaxed);
            self.writer.objects.disk.remove_file(temp.path())?;
        }
        self.take_large(source, path, leases, tick)
    }

    /// Stores bytes at hand as a large blob.
    ///
    /// # Errors
    /// I/O.
    pub fn put_large_bytes(&mut self, digest: Digest, bytes: &[u8]) -> Result<LargePut> {
        let size = bytes.len() as u64;
        if self.has_large(&digest, size)? {
            return Ok(LargePut { digest, size, new: false, taken: false });
        }
        let mut temp = self.writer.objects.disk.create_file(self.writer.temp('o'))?;
        let written = temp.write_all(bytes).map(|()| (digest, size));
        self.settle(temp, written)
    }

    /// Keeps a temporary file as the blob, or drops it when the blob is there already.
    pub(super) fn settle(&mut self, temp: NewFile, written: Result<(Digest, u64)>) -> Result<LargePut> {
        let writer = self.writer;
        let looked = written.and_then(|(digest, size)| Ok((digest, size, self.has_large(&digest, size)?)));
        let (digest, size, there) = match looked {
            Ok(looked) => looked,
            Err(e) => {
                let _: Result<()> = writer.objects.disk.remove_file(temp.path());
                return Err(e);
            }
        };
        // Of two lanes with the same content, the one that says so first keeps its copy.
        if there || !writer.larges.lock().insert(digest) {
            writer.objects.disk.remove_file(temp.path())?;
            return Ok(LargePut { digest, size, new: false, taken: false });
        }
        let kept = temp.set_mode(OBJECT_MODE).and_then(|()| temp.set_mtime(OBJECT_MTIME)).and_then(|()| {
            temp.start_writeback(0, 0);
            writer.keep(temp, Becomes::Object(digest))
        });
        writer.or_fail(kept)?;
        writer.grew(size)?;
        Ok(LargePut { digest, size, new: true, taken: false })
    }

    /// Whether a large blob is this writer's, or is in its place as it was left and not known to be damaged. Any other
    /// is stored again, which repairs it.
    fn has_large(&self, digest: &Digest, size: u64) -> Result<bool> {
        let (writer, objects) = (self.writer, &self.writer.objects);
        let there = self.sees_large(digest, size)?;
        if there && !objects.disk.keeps_order_of_names() && !writer.larges.lock().contains(digest) {
            writer.state.lock().relied.insert(objects.layout.object_dir(digest));
        }
        Ok(there)
    }

    /// [`ThreadWriter::has_large`] that does not make the version rely on it.
    fn sees_large(&self, digest: &Digest, size: u64) -> Result<bool> {
        let (writer, objects) = (self.writer, &self.writer.objects);
        if writer.larges.lock().contains(digest) {
            return Ok(true);
        }
        let path = objects.layout.object(digest);
        let found = objects
            .look(&path)?
            .filter(|m| m.is_file() && m.len() == size && !writer.damage.has(&Damaged::Object(*digest)));
        match found {
            Some(meta) => Ok(untouched(&meta) || objects.is_right_though_touched(path, digest, size)?),
            None => Ok(false),
        }
    }

    fn append(&mut self, digest: Digest, bytes: &[u8]) -> Result<Location> {
        if let Some(full) = self.pack.take_if(|p| !p.takes(bytes.len()) || p.age() >= CHECKPOINT_AFTER) {
            self.writer.close(full)?;
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(self.writer.take_pack(bytes.len())?),
        };
        pack.append(digest, Kind::Content, bytes)
    }

    /// Ends the lane; its open pack goes to the next one, or to the nodes.
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
        self.writer.state.lock().idle.extend(self.pack.take());
    }
}
