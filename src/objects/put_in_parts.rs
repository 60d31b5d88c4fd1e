//! Storing a whole large content in compressed parts, and a recipe of nothing but these: for stores that compress files
//! of any size.
//!
//! The parts go into packs while the content is read, once. Its digest is that of the bytes that are stored. If it
//! turns out to be known, or to have changed, nothing names the parts, and a garbage collector frees them. A thread has
//! one part in memory, and its frames.

use super::compose_plan::{LONGEST_WHOLE, part_of_whole};
use super::copy_in::{CHUNK, PARALLEL_FROM, ReadAt, hash_in_parallel};
use super::frames::FRAME;
use super::large_put::{LargePut, read_bytes};
use super::object_sizes::CHECK_SIZES_FROM;
use super::pack::SMALL_MAX;
use super::recipe::{Extent, Recipe, RecipeSource};
use super::step_hasher::{Hashed, StepHasher};
use super::thread_writer::ThreadWriter;
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::types::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// A content is tried by a sample for each of this many bytes, up to [`MAX_SAMPLES`]. They are a sixteenth of it at
/// most, unless it is short, so one that does not get smaller costs little.
const SAMPLED: u64 = 256 << 10;
const MAX_SAMPLES: u64 = 8;
/// How long a sample is of a content of less than [`LONG_FROM`] bytes. Of others, it is as long as a frame.
const SHORT_SAMPLE: usize = 16 << 10;
const LONG_FROM: u64 = 8 << 20;

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl ThreadWriter<'_> {
    /// Stores a file in parts. `None`: it is to be stored as an object.
    pub(super) fn put_file_in_parts(&mut self, source: &File, path: &Path, tick: Tick<'_>) -> Result<Option<LargePut>> {
        if !self.writer.compresses_large() {
            return Ok(None);
        }
        let size = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
        let read = &|out: &mut [u8], at| read_full_at(source, out, at).map_err(|e| Error::io("read", path, e));
        if !self.is_put_in_parts(size, read)? {
            return Ok(None);
        }
        if size >= CHECK_SIZES_FROM
            && self.may_be_known(source, size)?
            && let Some(put) = self.find_by_hash(source, path, tick)?
        {
            return Ok(Some(put));
        }
        self.put_parts(size, read, tick)
    }

    /// Stores bytes in memory in parts. `None`: they are to be stored as an object.
    pub(super) fn put_bytes_in_parts(&mut self, bytes: &[u8]) -> Result<Option<LargePut>> {
        self.put_in_parts(bytes.len() as u64, &|out, at| Ok(read_bytes(bytes, out, at)), &mut |_| Ok(()))
    }

    /// Stores a content in parts. `None`: it is to be stored as an object.
    pub(super) fn put_in_parts(&mut self, size: u64, read: ReadAt<'_>, tick: Tick<'_>) -> Result<Option<LargePut>> {
        if self.is_put_in_parts(size, read)? { self.put_parts(size, read, tick) } else { Ok(None) }
    }

    /// Whether a content is stored in parts: a sample of it gets smaller.
    fn is_put_in_parts(&mut self, size: u64, read: ReadAt<'_>) -> Result<bool> {
        let is_tried = self.writer.compresses_large() && (SMALL_MAX..=LONGEST_WHOLE).contains(&size);
        let Some(compressor) = self.compressor.as_mut().filter(|_| is_tried) else { return Ok(false) };
        let count = (size / SAMPLED).clamp(1, MAX_SAMPLES);
        let len = if size < LONG_FROM { SHORT_SAMPLE } else { FRAME };
        let mut samples = vec![0; count as usize * len];
        for (i, sample) in (1..).zip(samples.chunks_mut(len)) {
            if read(sample, (size - len as u64) / (count + 1) * i)? < len {
                return Ok(false); // it was cut
            }
        }
        Ok(compressor.shrinks(&samples))
    }

    /// Stores the parts and the recipe. `None`: the content was cut while it was read, or is to be an object.
    fn put_parts(&mut self, size: u64, read: ReadAt<'_>, tick: Tick<'_>) -> Result<Option<LargePut>> {
        let len = part_of_whole(size);
        let mut parts = Parts {
            lane: self,
            len,
            part: Vec::with_capacity(len),
            numbers: HashMap::new(),
            recipe: Recipe { size, sources: Vec::new(), extents: Vec::new() },
        };
        let mut at = 0;
        let hashed = hash_chunks(size, &mut |chunk| {
            // What is appended meanwhile is left out. The caller compares the size with that of the file.
            let wanted = usize::try_from(size - at).unwrap_or(usize::MAX).min(chunk.len());
            let n = read(&mut chunk[..wanted], at)?;
            parts.add(&chunk[..n])?;
            at += n as u64;
            tick(n as u64)?;
            Ok(n)
        })?;
        let recipe = parts.finish()?;
        if at < size {
            return Ok(None);
        }
        let (digest, _) = self.remembered(Ok(hashed))?;
        if self.writer.dedup().has_large(&digest, size)? {
            return Ok(Some(LargePut::known(digest, size)));
        }
        if self.writer.dedup().is_damaged_object(&digest) {
            return Ok(None); // recipes may name it: the object is to be replaced
        }
        self.compose(&recipe, digest, &|| Ok(true))
    }
}

/// The parts of a content that is being read.
struct Parts<'a, 'w> {
    lane: &'a mut ThreadWriter<'w>,
    /// How many bytes each part has, except for the last one.
    len: usize,
    /// The part that is not complete.
    part: Vec<u8>,
    /// The number of each source. Parts can be equal: holes, for example.
    numbers: HashMap<Digest, u32>,
    recipe: Recipe,
}

impl Parts<'_, '_> {
    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.len - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == self.len {
                self.store()?;
            }
        }
        Ok(())
    }

    fn store(&mut self) -> Result<()> {
        let (digest, len) = (Digest::of(&self.part), self.part.len() as u64);
        let sources = &mut self.recipe.sources;
        let source = match self.numbers.get(&digest) {
            Some(number) => *number,
            None => {
                self.lane.put_part(digest, &self.part)?;
                sources.push(RecipeSource::framed(digest, len));
                self.numbers.insert(digest, sources.len() as u32 - 1);
                sources.len() as u32 - 1
            }
        };
        self.recipe.extents.push(Extent { source, offset: 0, len });
        self.part.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Recipe> {
        if !self.part.is_empty() {
            self.store()?;
        }
        Ok(self.recipe)
    }
}

/// Hashes what `next` puts into chunks, as [`hash_in_parallel`] does; a short content in this thread.
fn hash_chunks(size: u64, next: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<Hashed> {
    if size >= PARALLEL_FROM {
        return hash_in_parallel(&[], next, &mut |_, _| Ok(()));
    }
    let (mut hasher, mut chunk) = (StepHasher::default(), vec![0; CHUNK.min(size as usize + 1)]);
    loop {
        let n = next(&mut chunk)?;
        hasher.add(&chunk[..n]);
        if n < chunk.len() {
            return Ok(hasher.finish());
        }
    }
}
