//! Copies a large file while it is compared with an earlier content: what is equal at the same offset is not written.
//!
//! The digest is that of the bytes that were compared and written, read from the source once. The copy has holes where
//! it equals the earlier content, until they are filled or the content is composed.

use super::chunks::{Bytes, find_matches};
use super::composed_file::{ComposedFile, Part};
use super::copy_in::{CHUNK, SparseCopy, hash_in_parallel, write_sparse};
use super::object_file::LargeObject;
use super::recipe::RecipeSource;
use crate::disk::{NewFile, read_full_at};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Bytes are compared in units of this size: the size of a page of memory, and of most databases.
const UNIT: usize = 4 << 10;
/// After this many bytes that have nearly nothing in common, a longer file is not compared further.
const PROBE: u64 = 64 << 20;
/// How much longer than the probe the part of the earlier content is that the probe is searched in.
const PROBE_SHIFT: u64 = 16 << 20;
/// The part of the probe that must be shared: one in this many bytes.
const PROBE_SHARE: u64 = 8;

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// The content that a new file is compared with.
pub(super) struct Base {
    pub content: BaseContent,
    pub size: u64,
    pub sources: Vec<RecipeSource>,
    pub parts: Vec<Part>,
    /// A read of it failed. The new file can be stored without it.
    failed: Cell<bool>,
}

/// An open earlier content.
pub(super) enum BaseContent {
    Object(LargeObject),
    Composed(ComposedFile),
}

impl Base {
    pub(super) fn of_object(object: LargeObject, digest: Digest) -> Base {
        let size = object.size();
        let parts = vec![Part { at: 0, len: size, source: 0, offset: 0 }];
        let (content, sources) = (BaseContent::Object(object), vec![RecipeSource { digest, size }]);
        Base { content, size, sources, parts, failed: Cell::new(false) }
    }

    pub(super) fn of_composed(composed: ComposedFile) -> Base {
        let (size, sources, parts) = (composed.size(), composed.names().to_vec(), composed.parts().to_vec());
        Base { content: BaseContent::Composed(composed), size, sources, parts, failed: Cell::new(false) }
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> Result<usize> {
        let read = match &self.content {
            BaseContent::Object(object) => read_full_at(object.file(), out, at),
            BaseContent::Composed(composed) => composed.read_at(out, at),
        };
        read.map_err(|e| {
            self.failed.set(true);
            Error::io_message("cannot read the earlier content of this path").with_source(e)
        })
    }

    /// Whether a read of it failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }
}

impl Bytes for Base {
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
        let n = self.read_at(out, at)?;
        if n == out.len() {
            return Ok(());
        }
        self.failed.set(true);
        Err(Error::damaged("the earlier content of this path ends too early"))
    }
}

impl Bytes for NewFile {
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
        let n = read_full_at(self.file(), out, at).map_err(|e| Error::io("read", self.path(), e))?;
        if n == out.len() { Ok(()) } else { Err(Error::io_message("a temporary file was cut while it was read")) }
    }
}

/// A file that was compared.
pub(super) struct Compared {
    pub digest: Digest,
    pub size: u64,
    /// What equals the earlier content at the same offset.
    pub equal: Vec<Range<u64>>,
    /// Whether nearly nothing is shared: then the copy is complete.
    pub is_different: bool,
}

/// Copies `source` to `to` and compares it with `base`. If `is_cloned`, `to` has the bytes of the source already, and
/// is read in its place.
///
/// # Errors
/// I/O; those of `tick`. If the error is of the earlier content, it is damaged or cannot be read.
pub(super) fn compare_copy(
    source: &File,
    path: &Path,
    to: &NewFile,
    base: &Base,
    is_cloned: bool,
    tick: Tick<'_>,
) -> Result<Compared> {
    let len = source.metadata().map_err(|e| Error::io("stat", path, e))?.len();
    let mut copy = Comparison {
        to,
        base,
        out: (!is_cloned).then(|| SparseCopy::new(to)),
        at: 0,
        equal: Vec::new(),
        equal_bytes: 0,
        compares: true,
        probe: (len > 2 * PROBE).then_some(PROBE),
        buffer: vec![0; CHUNK],
    };
    let from = if is_cloned { to.file() } else { source };
    let digest = hash_in_parallel(&mut |chunk| {
        let n = read_full_at(from, chunk, copy.at).map_err(|e| Error::io("read", path, e))?;
        copy.add(&chunk[..n])?;
        tick(n as u64)?;
        Ok(n)
    })?;
    if let Some(out) = copy.out {
        out.finish()?;
    }
    Ok(Compared { digest, size: copy.at, equal: copy.equal, is_different: !copy.compares })
}

struct Comparison<'a> {
    to: &'a NewFile,
    base: &'a Base,
    out: Option<SparseCopy<'a>>,
    at: u64,
    equal: Vec<Range<u64>>,
    equal_bytes: u64,
    compares: bool,
    /// Where it is decided whether to compare further.
    probe: Option<u64>,
    buffer: Vec<u8>,
}

impl Comparison<'_> {
    /// Takes the next bytes of the new file.
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let have = if self.compares { self.base.read_at(&mut buffer[..bytes.len()], self.at)? } else { 0 };
        let mut done = 0;
        while done < bytes.len() {
            let is_equal = unit_is_equal(bytes, &buffer[..have], done);
            let mut end = done;
            while end < bytes.len() && unit_is_equal(bytes, &buffer[..have], end) == is_equal {
                end = (end + UNIT).min(bytes.len());
            }
            self.take(&bytes[done..end], is_equal)?;
            done = end;
        }
        self.buffer = buffer;
        if self.compares && self.probe.is_some_and(|probe| self.at >= probe) {
            self.probe = None;
            if !self.shares_enough()? {
                self.stop_comparing()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], is_equal: bool) -> Result<()> {
        let end = self.at + bytes.len() as u64;
        if is_equal {
            self.equal_bytes += bytes.len() as u64;
            match self.equal.last_mut().filter(|last| last.end == self.at) {
                Some(last) => last.end = end,
                None => self.equal.push(self.at..end),
            }
        }
        match &mut self.out {
            Some(out) if is_equal => out.skip(bytes.len() as u64),
            Some(out) => out.write(bytes)?,
            None => {}
        }
        self.at = end;
        Ok(())
    }

    /// Whether the part that was read shares something with the beginning of the earlier content.
    fn shares_enough(&self) -> Result<bool> {
        if self.equal_bytes >= self.at / PROBE_SHARE {
            return Ok(true);
        }
        let searched = others(&[], self.base.size.min(self.at + PROBE_SHIFT));
        let found = find_matches(self.to, &others(&self.equal, self.at), self.base, self.base.size, &searched)?;
        let shared = found.iter().map(|found| found.len).sum::<u64>() + self.equal_bytes;
        Ok(shared >= self.at / PROBE_SHARE)
    }

    /// From now on it is an ordinary copy.
    fn stop_comparing(&mut self) -> Result<()> {
        if self.out.is_some() {
            fill_holes(self.to, self.base, &self.equal)?;
        }
        self.equal.clear();
        self.compares = false;
        Ok(())
    }
}

/// Whether the unit at `from` is equal. The last unit of a file may be shorter.
fn unit_is_equal(new: &[u8], base: &[u8], from: usize) -> bool {
    let end = (from + UNIT).min(new.len());
    base.get(from..end).is_some_and(|unit| unit == &new[from..end])
}

/// What is in none of these ranges, up to `end`.
pub(super) fn others(ranges: &[Range<u64>], end: u64) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    let mut at = 0;
    for range in ranges {
        if at < range.start.min(end) {
            out.push(at..range.start.min(end));
        }
        at = at.max(range.end);
    }
    if at < end {
        out.push(at..end);
    }
    out
}

/// Writes the bytes that were left out because they equal the earlier content.
///
/// # Errors
/// I/O.
pub(super) fn fill_holes(to: &NewFile, base: &Base, equal: &[Range<u64>]) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    for range in equal {
        let mut at = range.start;
        while at < range.end {
            let n = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(CHUNK);
            base.fill(&mut buffer[..n], at)?;
            write_sparse(to, &buffer[..n], at)?;
            at += n as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_range_is_found() {
        let found = |ranges: &[(u64, u64)]| {
            let ranges: Vec<_> = ranges.iter().map(|(start, end)| *start..*end).collect();
            others(&ranges, 10).iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[]), [(0, 10)]);
        assert_eq!(found(&[(0, 3), (5, 6)]), [(3, 5), (6, 10)]);
        assert_eq!(found(&[(0, 10)]), []);
        assert_eq!(found(&[(2, 20)]), [(0, 2)]);
    }
}
