//! The earlier content that a new file is compared with.

use super::chunks::Bytes;
use super::composed_file::{ComposedFile, Part};
use super::copy_in::CHUNK;
use super::object_file::LargeObject;
use super::recipe::RecipeSource;
use super::step_hasher::{STEP, Steps};
use crate::disk::read_full_at;
use crate::error::{Error, Result};
use crate::types::Digest;
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// How many bytes a window has before and after those that are asked for.
const MARGIN: u64 = 64 << 10;

/// The content that a new file is compared with.
pub(super) struct Base {
    content: BaseContent,
    pub digest: Digest,
    pub size: u64,
    pub sources: Vec<RecipeSource>,
    pub parts: Vec<Part>,
    /// A read of it failed. The new file can be stored without it.
    failed: Cell<bool>,
    shared: RefCell<SharedBeginning>,
}

/// What the new file and the earlier content begin with, by their digests. It was not read in the earlier content.
#[derive(Default)]
struct SharedBeginning {
    steps: Steps,
    /// A step that was read and found right, and its number.
    step: Option<usize>,
    bytes: Vec<u8>,
}

/// An open earlier content.
enum BaseContent {
    Object(LargeObject),
    Composed(ComposedFile),
}

impl Base {
    pub(super) fn of_object(object: LargeObject, digest: Digest) -> Base {
        let size = object.size();
        let parts = vec![Part { at: 0, len: size, source: 0, offset: 0 }];
        let (content, sources) = (BaseContent::Object(object), vec![RecipeSource::new(digest, size)]);
        Base { content, digest, size, sources, parts, failed: Cell::new(false), shared: RefCell::default() }
    }

    pub(super) fn of_composed(composed: ComposedFile, digest: Digest) -> Base {
        let (size, sources, parts) = (composed.size(), composed.names().to_vec(), composed.parts().to_vec());
        let (content, shared) = (BaseContent::Composed(composed), RefCell::default());
        Base { content, digest, size, sources, parts, failed: Cell::new(false), shared }
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

    /// The new file begins with these steps of it. They were not read here.
    pub(super) fn shares(&self, steps: Steps) {
        *self.shared.borrow_mut() = SharedBeginning { steps, ..SharedBeginning::default() };
    }

    /// Fills the buffer with bytes that the new file has too. Those that were not compared are hashed: if the store has
    /// wrong bytes there, no copy of them is made that would have a right digest.
    ///
    /// # Errors
    /// As [`Bytes::fill`]. Damaged, if bytes that were not compared are wrong.
    pub(super) fn fill_checked(&self, out: &mut [u8], at: u64) -> Result<()> {
        let shared = &mut *self.shared.borrow_mut();
        let mut done = 0;
        while done < out.len() {
            let from = at + done as u64;
            let number = usize::try_from(from / STEP as u64).unwrap_or(usize::MAX);
            if number >= shared.steps.count() {
                return self.fill(&mut out[done..], from);
            }
            if shared.step.take() != Some(number) {
                shared.bytes.resize(STEP, 0);
                self.fill(&mut shared.bytes, number as u64 * STEP as u64)?;
                if !shared.steps.has(number, &shared.bytes) {
                    self.failed.set(true);
                    return Err(Error::damaged("the earlier content of this path has wrong bytes"));
                }
            }
            shared.step = Some(number);
            let skip = (from % STEP as u64) as usize;
            let n = (STEP - skip).min(out.len() - done);
            out[done..done + n].copy_from_slice(&shared.bytes[skip..skip + n]);
            done += n;
        }
        Ok(())
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

/// A part of the earlier content, in memory.
#[derive(Default)]
pub(super) struct Window {
    at: u64,
    len: usize,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes of a range, as far as the content has them. Reads what is not in the window yet.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn get(&mut self, base: &Base, range: Range<u64>) -> Result<&[u8]> {
        let (from, to) = (range.start.min(base.size), range.end.min(base.size));
        if from < self.at || to > self.at + self.len as u64 {
            self.move_to(base, from.saturating_sub(MARGIN), (to.max(from + CHUNK as u64) + MARGIN).min(base.size))?;
        }
        let skip = (from - self.at) as usize;
        Ok(&self.bytes[skip..skip + (to - from) as usize])
    }

    fn move_to(&mut self, base: &Base, from: u64, to: u64) -> Result<()> {
        let len = (to - from) as usize;
        let skip = from.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok()).filter(|n| *n < self.len);
        let kept = skip.map_or(0, |skip| {
            self.bytes.copy_within(skip..self.len, 0);
            (self.len - skip).min(len)
        });
        self.bytes.resize(self.bytes.len().max(len), 0);
        (self.at, self.len) = (from, 0);
        base.fill(&mut self.bytes[kept..len], from + kept as u64)?;
        self.len = len;
        Ok(())
    }
}
