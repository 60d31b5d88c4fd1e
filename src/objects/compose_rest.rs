//! Storing the bytes of a new file that the store does not have: the rest of a composed content.
//!
//! A short rest is packed as any small content. A longer one is packed too, in pieces whose parts can be read, if it
//! gets smaller by compression. Else it is one object: the kernel can read that by itself, and share its blocks.

use super::chunks::Bytes;
use super::compared_base::Base;
use super::compose_plan::{LONGEST_WHOLE, Limits, Piece, Plan, part_of_whole};
use super::copy_in::CHUNK;
use super::frames::{FRAME, MAX_FRAMED};
use super::pack::SMALL_MAX;
use super::recipe::RecipeSource;
use super::thread_writer::ThreadWriter;
use crate::error::Result;
use crate::types::{Digest, Hasher};

/// How many samples of a rest are compressed to find out whether it gets smaller.
const SAMPLES: u64 = 8;

/// The bytes that are not taken from the store, one after another.
pub(super) struct Rest<'a> {
    new: &'a dyn Bytes,
    base: &'a Base,
    pieces: Vec<&'a Piece>,
    /// Where each piece begins in the rest.
    starts: Vec<u64>,
    size: u64,
}

impl<'a> Rest<'a> {
    /// That of a plan. `new` has what is in no match.
    pub(super) fn new(new: &'a dyn Bytes, base: &'a Base, plan: &'a Plan) -> Rest<'a> {
        let pieces: Vec<&Piece> = plan.rest().collect();
        let mut size = 0;
        let starts = pieces.iter().map(|piece| {
            size += piece.len;
            size - piece.len
        });
        let starts = starts.collect();
        Rest { new, base, pieces, starts, size }
    }

    /// Samples of it, spread evenly.
    fn samples(&self) -> Result<Vec<u8>> {
        let frame = FRAME as u64;
        if self.size <= SAMPLES * frame {
            let mut all = vec![0; self.size as usize];
            self.fill(&mut all, 0)?;
            return Ok(all);
        }
        let mut out = vec![0; SAMPLES as usize * FRAME];
        for (i, sample) in (0..SAMPLES).zip(out.chunks_mut(FRAME)) {
            self.fill(sample, (self.size - frame) / (SAMPLES - 1) * i)?;
        }
        Ok(out)
    }
}

impl Bytes for Rest<'_> {
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
        let mut i = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let mut done = 0;
        while done < out.len() {
            let (piece, skip) = (self.pieces[i], at + done as u64 - self.starts[i]);
            let n = usize::try_from(piece.len - skip).unwrap_or(usize::MAX).min(out.len() - done);
            let to = &mut out[done..done + n];
            // The copy has holes where it equals the earlier content.
            match piece.base {
                Some(from) => self.base.fill_checked(to, from + skip)?,
                None => self.new.fill(to, piece.at + skip)?,
            }
            done += n;
            i += 1;
        }
        Ok(())
    }
}

impl ThreadWriter<'_> {
    /// Stores a rest, as one content or as several, one after another. `may_pack` says whether the store may have long
    /// packed contents; it is asked if there is something to pack.
    ///
    /// # Errors
    /// I/O; those of `may_pack`.
    pub(super) fn put_rest(
        &mut self,
        rest: &Rest<'_>,
        limits: &Limits,
        may_pack: &dyn Fn() -> Result<bool>,
    ) -> Result<Vec<RecipeSource>> {
        let size = rest.size;
        if size == 0 {
            return Ok(Vec::new());
        }
        if size < SMALL_MAX {
            let mut bytes = vec![0; size as usize];
            rest.fill(&mut bytes, 0)?;
            let digest = Digest::of(&bytes);
            self.put_small(digest, &bytes)?;
            return Ok(vec![RecipeSource::new(digest, size)]);
        }
        if size <= limits.longest_rest() && self.shrinks(rest)? && may_pack()? {
            return self.put_in_pieces(rest, MAX_FRAMED);
        }
        let mut object = self.writer.create_object()?;
        let mut hasher = Hasher::new();
        let copied = each_part(rest, CHUNK, &mut |part| {
            hasher.update(part);
            object.write_all(part)
        });
        let put = self.keep_or_drop(object, copied.map(|()| (hasher.finish(), size)))?;
        Ok(vec![RecipeSource::new(put.digest, size)])
    }

    fn shrinks(&mut self, rest: &Rest<'_>) -> Result<bool> {
        let Some(compressor) = &mut self.compressor else { return Ok(false) };
        Ok(compressor.shrinks(&rest.samples()?))
    }

    /// Stores a rest that is all of a file, if files are compressed as a whole and it gets smaller. `None`: it is to be
    /// an object.
    pub(super) fn put_whole_rest(&mut self, rest: &Rest<'_>) -> Result<Option<Vec<RecipeSource>>> {
        match self.writer.compresses_large() && rest.size <= LONGEST_WHOLE && self.shrinks(rest)? {
            true => self.put_in_pieces(rest, part_of_whole(rest.size)).map(Some),
            false => Ok(None),
        }
    }

    /// Stores a rest in parts of `len` bytes.
    fn put_in_pieces(&mut self, rest: &Rest<'_>, len: usize) -> Result<Vec<RecipeSource>> {
        let mut out = Vec::new();
        each_part(rest, len, &mut |part| {
            let digest = Digest::of(part);
            out.push(RecipeSource::framed(digest, part.len() as u64));
            self.put_part(digest, part)
        })?;
        Ok(out)
    }
}

/// Passes a rest in parts of `len` bytes, in order.
fn each_part(rest: &Rest<'_>, len: usize, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(rest.size).unwrap_or(usize::MAX).min(len)];
    let mut at = 0;
    while at < rest.size {
        let n = usize::try_from(rest.size - at).unwrap_or(usize::MAX).min(len);
        rest.fill(&mut buffer[..n], at)?;
        each(&buffer[..n])?;
        at += n as u64;
    }
    Ok(())
}
