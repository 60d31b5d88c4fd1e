//! Composed content: a recipe with all its sources open for reading.
//!
//! Small packed sources are in memory and were hashed. Of long ones, what is read is decompressed and has a checksum.
//! Object files were checked by size and time when they were opened, as for every large file (L15). So a read of a part
//! is as trustworthy as that of a part of an object file.

use super::framed_source::{FramedSource, KeptFrames};
use super::object_file::LargeObject;
use super::recipe::{Recipe, RecipeSource};
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::io;
use std::ops::Range;

/// Bytes that are hashed at once.
const BLOCK: usize = 1 << 20;

/// Composed content, open for reading.
#[derive(Debug)]
pub struct ComposedFile {
    digest: Digest,
    size: u64,
    names: Vec<RecipeSource>,
    sources: Vec<OpenSource>,
    parts: Vec<Part>,
    kept: KeptFrames,
}

#[derive(Debug)]
pub(super) enum OpenSource {
    Memory(Vec<u8>),
    File(LargeObject),
    Framed(FramedSource),
}

/// Bytes of the content that follow each other in one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Where they begin in the content.
    pub at: u64,
    pub len: u64,
    pub source: u32,
    /// Where they begin in the source.
    pub offset: u64,
}

impl ComposedFile {
    /// The content with that digest. The sources are those of the recipe, in order.
    pub(super) fn new(digest: Digest, recipe: Recipe, sources: Vec<OpenSource>) -> ComposedFile {
        let mut at = 0;
        let parts = recipe.extents.iter().map(|extent| {
            let part = Part { at, len: extent.len, source: extent.source, offset: extent.offset };
            at += extent.len;
            part
        });
        let parts = parts.collect();
        ComposedFile { digest, size: recipe.size, names: recipe.sources, sources, parts, kept: KeptFrames::new() }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The object files that it has parts of.
    pub fn objects(&self) -> impl Iterator<Item = &LargeObject> {
        self.sources.iter().filter_map(|source| match source {
            OpenSource::File(object) => Some(object),
            OpenSource::Memory(_) | OpenSource::Framed(_) => None,
        })
    }

    /// How much memory its packed sources take, at most.
    pub fn memory(&self) -> u64 {
        let has_frames = self.sources.iter().any(|source| matches!(source, OpenSource::Framed(_)));
        let bytes = |source: &OpenSource| match source {
            OpenSource::Memory(bytes) => bytes.len() as u64,
            OpenSource::Framed(framed) => framed.memory(),
            OpenSource::File(_) => 0,
        };
        self.sources.iter().map(bytes).sum::<u64>() + if has_frames { KeptFrames::MEMORY } else { 0 }
    }

    /// The object file that is the source with this number.
    #[cfg(feature = "fuse")]
    pub(super) fn object(&self, source: usize) -> Option<&LargeObject> {
        match self.sources.get(source)? {
            OpenSource::File(object) => Some(object),
            OpenSource::Memory(_) | OpenSource::Framed(_) => None,
        }
    }

    /// The object files that have parts of a range, each once, with their numbers.
    pub fn objects_in(&self, range: Range<u64>) -> impl Iterator<Item = (usize, &LargeObject)> {
        let first = self.parts.partition_point(|part| part.at + part.len <= range.start);
        let parts = self.parts[first..].iter().take_while(|part| part.at < range.end);
        let mut used: Vec<usize> = parts.map(|part| part.source as usize).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().filter_map(|i| match &self.sources[i] {
            OpenSource::File(object) => Some((i, object)),
            OpenSource::Memory(_) | OpenSource::Framed(_) => None,
        })
    }

    /// Reads at `offset` until the buffer is full or the content ends.
    ///
    /// # Errors
    /// The system's; a [`crate::Error`] inside, if an object was cut while it was read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut i = self.parts.partition_point(|part| part.at + part.len <= offset);
        let mut done = 0;
        while done < want {
            let at = offset + done as u64;
            let part = self.parts.get(i).ok_or_else(|| io::Error::other(self.cut()))?;
            let skip = at - part.at;
            let n = (want - done).min(usize::try_from(part.len - skip).unwrap_or(usize::MAX));
            self.read_source(part, skip, &mut buffer[done..done + n])?;
            done += n;
            i += 1;
        }
        Ok(want)
    }

    /// As [`ComposedFile::read_at`], with the error that says what is damaged.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn read_checked(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.read_at(buffer, offset).map_err(|e| {
            let message = format!("cannot read the parts of {}", self.digest);
            match e.downcast::<Error>() {
                Ok(inside) if inside.is_loss() => Error::damaged(message).with_cause(format!("{inside:#}")),
                Ok(inside) => inside,
                Err(e) => Error::io_message(message).with_source(e),
            }
        })
    }

    fn read_source(&self, part: &Part, skip: u64, out: &mut [u8]) -> io::Result<()> {
        let from = part.offset + skip;
        match self.sources.get(part.source as usize) {
            Some(OpenSource::Memory(bytes)) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let bytes = bytes.get(from..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(bytes.ok_or_else(|| io::Error::other(self.cut()))?);
                Ok(())
            }
            Some(OpenSource::Framed(framed)) => framed.fill(out, from, part.source, &self.kept),
            Some(OpenSource::File(object)) if read_full_at(object.file(), out, from)? == out.len() => Ok(()),
            Some(OpenSource::File(_)) | None => Err(io::Error::other(self.cut())),
        }
    }

    fn cut(&self) -> Error {
        Error::damaged(format!("an object that {} has parts of was cut while it was read", self.digest))
    }

    /// The file and offset of the bytes from `at` on, and how many follow there, if they are in an object file.
    pub fn file_at(&self, at: u64) -> Option<(&File, u64, u64)> {
        let part = self.parts.get(self.parts.partition_point(|part| part.at + part.len <= at))?;
        match self.sources.get(part.source as usize)? {
            OpenSource::File(object) => Some((object.file(), part.offset + (at - part.at), part.at + part.len - at)),
            OpenSource::Memory(_) | OpenSource::Framed(_) => None,
        }
    }

    /// How many bytes there are from `at` to the next part of at least `min` bytes in an object file. At least one, or
    /// up to the end.
    pub fn before_long_part(&self, at: u64, min: u64) -> u64 {
        let first = self.parts.partition_point(|part| part.at + part.len <= at);
        let is_long = |part: &&Part| {
            part.len >= min && matches!(self.sources.get(part.source as usize), Some(OpenSource::File(_)))
        };
        self.parts.iter().skip(first + 1).find(is_long).map_or(self.size, |part| part.at) - at
    }

    pub(super) fn names(&self) -> &[RecipeSource] {
        &self.names
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Hashes all of it.
    pub(super) fn verify(&self) -> Result<()> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; BLOCK], 0);
        while at < self.size {
            let n = self.read_checked(&mut buffer, at)?;
            hasher.update(&buffer[..n]);
            at += n as u64;
        }
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(Error::damaged(format!("the parts of {} have digest {found} together", self.digest)))
    }
}
