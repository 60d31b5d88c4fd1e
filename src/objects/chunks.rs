//! Finding bytes that two files share at different places, by content-defined chunks (FastCDC).
//!
//! Nothing of this is stored: both files are cut when they are compared. So sizes and hashes can change with any
//! release. A hash only proposes a match; what counts is that the bytes are equal.

use crate::error::Result;
use fastcdc::v2020::{FastCDC, Normalization};
use std::collections::HashMap;
use std::ops::Range;

/// The mean size of a chunk. It is larger for very large files, so that at most [`MAX_CHUNKS`] of them are in memory.
const MEAN: usize = 16 << 10;
const MAX_MEAN: usize = 1 << 20;
const MAX_CHUNKS: u64 = 1 << 20;
/// Bytes that are read at once.
const WINDOW: usize = 4 << 20;
/// How far a match is extended before its first chunk.
const MAX_GAP: u64 = 64 << 10;
/// A match is extended into a chunk that differs if at least this many bytes are equal.
const MIN_EXTENSION: usize = 256;

/// Bytes that can be read at any place.
pub(super) trait Bytes {
    /// Fills the buffer from `at` on.
    ///
    /// # Errors
    /// I/O; damaged, if the bytes end before.
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()>;
}

/// Equal bytes of two files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Match {
    /// Where they begin in the new file.
    pub at: u64,
    /// Where they begin in the earlier one.
    pub base: u64,
    pub len: u64,
}

impl Match {
    pub(super) fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// Finds what these ranges of a new file share with an earlier one, whose chunks are cut from `base_ranges`. The
/// matches are in the order of the new file and do not overlap.
///
/// # Errors
/// I/O.
pub(super) fn find_matches(
    new: &dyn Bytes,
    ranges: &[Range<u64>],
    base: &dyn Bytes,
    base_size: u64,
    base_ranges: &[Range<u64>],
) -> Result<Vec<Match>> {
    let mean = mean_for(base_ranges.iter().map(|range| range.end - range.start).sum());
    let mut known: HashMap<u64, (u64, usize)> = HashMap::new();
    for range in base_ranges {
        each_chunk(base, range, mean, &mut |at, bytes| {
            known.entry(hash(bytes)).or_insert((at, bytes.len()));
            Ok(())
        })?;
    }
    let mut finder = Finder { new, base, base_size, known, found: Vec::new(), buffer: Vec::new() };
    for range in ranges {
        each_chunk(new, range, mean, &mut |at, bytes| finder.chunk(range.start, at, bytes))?;
    }
    Ok(finder.found)
}

fn mean_for(bytes: u64) -> usize {
    let mut mean = MEAN;
    while mean < MAX_MEAN && bytes / mean as u64 > MAX_CHUNKS {
        mean *= 2;
    }
    mean
}

struct Finder<'a> {
    new: &'a dyn Bytes,
    base: &'a dyn Bytes,
    base_size: u64,
    /// Chunks of the earlier file, by their hashes: where they begin, and their lengths.
    known: HashMap<u64, (u64, usize)>,
    found: Vec<Match>,
    buffer: Vec<u8>,
}

impl Finder<'_> {
    /// A chunk of the new file, in a range that begins at `first`.
    fn chunk(&mut self, first: u64, at: u64, bytes: &[u8]) -> Result<()> {
        let next = self.found.last().filter(|last| last.end() == at).map(|last| last.base + last.len);
        let equal = match next {
            Some(next) => self.equal_bytes(next, bytes)?,
            None => 0,
        };
        if equal == bytes.len() {
            self.extend(equal);
            return Ok(());
        }
        if let Some(&(base, len)) = self.known.get(&hash(bytes))
            && len == bytes.len()
            && self.equal_bytes(base, bytes)? == len
        {
            let first = self.found.last().map_or(first, |last| last.end().max(first));
            let before = self.equal_before(first, at, base)?;
            self.found.push(Match { at: at - before, base: base - before, len: len as u64 + before });
        } else if equal >= MIN_EXTENSION {
            self.extend(equal);
        }
        Ok(())
    }

    fn extend(&mut self, len: usize) {
        if let Some(last) = self.found.last_mut() {
            last.len += len as u64;
        }
    }

    /// How many of these bytes the earlier file has from `at` on.
    fn equal_bytes(&mut self, at: u64, bytes: &[u8]) -> Result<usize> {
        let len = usize::try_from(self.base_size.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        self.buffer.resize(len, 0);
        self.base.fill(&mut self.buffer, at)?;
        if self.buffer == bytes[..len] {
            return Ok(len);
        }
        Ok(self.buffer.iter().zip(bytes).take_while(|(a, b)| a == b).count())
    }

    /// How many bytes before these places are equal, down to `first` in the new file.
    fn equal_before(&mut self, first: u64, at: u64, base: u64) -> Result<u64> {
        let len = (at - first).min(base).min(MAX_GAP);
        let (mut new, mut earlier) = (vec![0; len as usize], vec![0; len as usize]);
        self.new.fill(&mut new, at - len)?;
        self.base.fill(&mut earlier, base - len)?;
        Ok(new.iter().rev().zip(earlier.iter().rev()).take_while(|(a, b)| a == b).count() as u64)
    }
}

/// Cuts a range into chunks and calls `each` with the place and the bytes of every one.
fn each_chunk(
    from: &dyn Bytes,
    range: &Range<u64>,
    mean: usize,
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let (min, max) = (mean / 4, mean * 4);
    let mut window: Vec<u8> = Vec::new();
    // `at` is where the window begins.
    let mut at = range.start;
    while at < range.end {
        let have = window.len();
        let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(WINDOW.max(2 * max));
        window.resize(wanted, 0);
        from.fill(&mut window[have..], at + have as u64)?;
        let is_last = at + wanted as u64 == range.end;
        let cutter = FastCDC::with_level(&window, min, mean, max, Normalization::Level1);
        let mut start = 0;
        while start < wanted && (is_last || wanted - start >= max) {
            let (_, end) = cutter.cut(start, wanted - start);
            let end = if end > start { end } else { wanted };
            each(at + start as u64, &window[start..end])?;
            start = end;
        }
        window.drain(..start);
        at += start as u64;
    }
    Ok(())
}

/// A fast hash. Equal bytes are compared anyway.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64 ^ FACTOR;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        state = (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    }
    for byte in words.remainder() {
        state = (state ^ u64::from(*byte)).wrapping_mul(FACTOR).rotate_left(29);
    }
    state ^ state >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;

    impl Bytes for Vec<u8> {
        fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
            out.copy_from_slice(&self[at as usize..at as usize + out.len()]);
            Ok(())
        }
    }

    fn whole(bytes: &[u8]) -> Vec<Range<u64>> {
        std::iter::once(0..bytes.len() as u64).collect()
    }

    fn check(new: &Vec<u8>, base: &Vec<u8>) -> u64 {
        let found = find_matches(new, &whole(new), base, base.len() as u64, &whole(base)).unwrap();
        let mut at = 0;
        for m in &found {
            assert!(m.at >= at && m.len > 0);
            at = m.end();
            let (a, b, n) = (m.at as usize, m.base as usize, m.len as usize);
            assert!(new[a..a + n] == base[b..b + n], "{m:?}");
        }
        assert!(at <= new.len() as u64);
        found.iter().map(|m| m.len).sum()
    }

    #[test]
    fn what_moved_is_found_and_every_match_is_equal() {
        let base = random_bytes(1, 9 << 20);
        let mut new = base.clone();
        new.splice(1000..1000, random_bytes(2, 3)); // everything moves by three bytes
        new.splice((4 << 20)..(5 << 20), random_bytes(3, 70_000));
        let shared = check(&new, &base);
        assert!(shared > new.len() as u64 - 70_000 - 40_000, "{shared} of {}", new.len());
        assert!(check(&random_bytes(9, 3 << 20), &base) == 0);
    }

    #[test]
    fn zeros_repetitions_and_ends_are_matched_rightly() {
        let mut base = vec![0; 2 << 20];
        base.extend(random_bytes(4, 100));
        base.extend(vec![0; 1 << 20]);
        for new in
            [vec![0; 5 << 20], base[1..].to_vec(), [&base[..], &base[..]].concat(), random_bytes(5, 10), Vec::new()]
        {
            check(&new, &base);
        }
        let twice = [&base[..], &base[..]].concat();
        assert!(check(&twice, &base) > twice.len() as u64 - (1 << 17));
    }

    #[test]
    fn matches_stay_inside_the_ranges_that_are_asked_for() {
        let base = random_bytes(6, 2 << 20);
        let ranges = [100..500_000, 700_000..700_001, 1_000_000..2 << 20];
        let found = find_matches(&base, &ranges, &base, base.len() as u64, &whole(&base)).unwrap();
        assert!(found.iter().all(|m| ranges.iter().any(|r| r.start <= m.at && m.end() <= r.end)), "{found:?}");
        assert!(found.iter().map(|m| m.len).sum::<u64>() > 1_400_000);
    }
}
