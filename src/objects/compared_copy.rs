//! Compares a large file with an earlier content while it is hashed, and copies what differs.
//!
//! Both are read once, side by side. If digests show that both begin with the same bytes (`beginnings`), the earlier
//! content is not read up to there. Where they differ, the place is searched from which on they agree again; from
//! there on the earlier content is read at that place. The digest is that of the bytes that were compared and written.
//! A copy has holes where it equals the earlier content, until they are filled or the content is composed.

use super::agreement::{MIN_RUN, agreement, equal_again, equal_prefix};
use super::chunks::{Bytes, Match};
use super::compared_base::{Base, Window};
use super::copy_in::{CHUNK, SparseCopy, hash_in_parallel, write_sparse};
use super::recipe::MAX_EXTENTS;
use super::step_hasher::Hashed;
use crate::disk::{NewFile, read_full_at};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Within this many bytes after a difference, equal bytes at the same offset are looked for.
const NEAR: usize = 4 << 10;
/// How many new bytes are searched in as many earlier ones, one after another.
const WIDTHS: [usize; 3] = [8 << 10, 64 << 10, 512 << 10];
/// A search that found nothing is repeated after this many bytes, and then each time after twice as many.
const SEARCH_AGAIN: u64 = 64 << 10;
/// The most earlier bytes that are searched at once.
const MAX_SEARCHED: u64 = 16 << 20;
/// Fewer new bytes than these are not searched.
const MIN_SEARCHED: usize = 4 << 10;
/// More matches are not remembered: the short ones among them are copied.
const MAX_MATCHES: usize = 4 * MAX_EXTENTS;

/// Gets the number of bytes as they are read. Its error stops the copy.
type Tick<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl Bytes for NewFile {
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
        NewBytes { file: self.file(), path: self.path() }.fill(out, at)
    }
}

/// The new file, or its copy.
pub(super) struct NewBytes<'a> {
    pub file: &'a File,
    pub path: &'a Path,
}

impl Bytes for NewBytes<'_> {
    fn fill(&self, out: &mut [u8], at: u64) -> Result<()> {
        let n = read_full_at(self.file, out, at).map_err(|e| Error::io("read", self.path, e))?;
        if n == out.len() { Ok(()) } else { Err(Error::io_message("a file was cut while it was read")) }
    }
}

/// A file that was compared.
pub(super) struct Compared {
    pub hashed: Hashed,
    /// What equals the earlier content, in the order of the new file.
    pub matches: Vec<Match>,
}

/// Compares a file with `base`, of which `beginnings` are known. Copies to `copy` what differs; without it, the file
/// does not change.
///
/// # Errors
/// I/O; those of `tick`. If the error is of the earlier content, it is damaged or cannot be read.
pub(super) fn compare(
    new: &NewBytes<'_>,
    base: &Base,
    beginnings: &[Digest],
    copy: Option<&NewFile>,
    tick: Tick<'_>,
) -> Result<Compared> {
    let NewBytes { file, path } = *new;
    let mut comparison = Comparison {
        base,
        copy,
        out: copy.map(SparseCopy::new),
        at: 0,
        shared: 0,
        matches: Vec::new(),
        shift: 0,
        search_from: 0,
        window: Window::default(),
    };
    let mut at = 0;
    let mut read = |chunk: &mut [u8]| {
        let n = read_full_at(file, chunk, at).map_err(|e| Error::io("read", path, e))?;
        at += n as u64;
        tick(n as u64)?;
        Ok(n)
    };
    // What is compared are the bytes that were hashed, also if the file changes meanwhile.
    let hashed = hash_in_parallel(beginnings, &mut read, &mut |chunk, is_known| comparison.add(chunk, is_known))?;
    if let Some(out) = comparison.out {
        out.finish()?;
    }
    let Comparison { shared, matches, .. } = comparison;
    base.shares(hashed.steps.first(shared));
    Ok(Compared { hashed, matches })
}

struct Comparison<'a> {
    base: &'a Base,
    copy: Option<&'a NewFile>,
    out: Option<SparseCopy<'a>>,
    /// How far the new file is compared.
    at: u64,
    /// How many chunks both begin with by their digests.
    shared: usize,
    matches: Vec<Match>,
    /// The offset in the earlier content, less that in the new file, at which equal bytes are expected.
    shift: i64,
    /// No search before this place of the new file.
    search_from: u64,
    window: Window,
}

impl Comparison<'_> {
    /// Takes the next bytes of the new file. `is_known`: up to their end both are equal.
    fn add(&mut self, bytes: &[u8], is_known: bool) -> Result<()> {
        let mut done = 0;
        if is_known {
            done = self.take_equal(bytes.len(), self.at);
            self.shared += 1;
        }
        while done < bytes.len() {
            done += self.step(&bytes[done..])?;
        }
        if self.matches.len() > MAX_MATCHES {
            self.forget_short_matches()?;
        }
        Ok(())
    }

    /// Takes bytes that are equal, or bytes that differ; returns how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize> {
        let expected = self.at.checked_add_signed(self.shift).unwrap_or(self.base.size);
        let earlier = self.window.get(self.base, expected..expected + bytes.len() as u64)?;
        let equal = equal_prefix(bytes, earlier);
        let continues =
            equal > 0 && self.matches.last().is_some_and(|m| m.end() == self.at && m.base + m.len == expected);
        if continues || equal == bytes.len() || equal >= MIN_RUN {
            return Ok(self.take_equal(equal, expected));
        }
        if let Some(again) = equal_again(bytes, earlier, equal + 1, NEAR) {
            return self.take_new(&bytes[..again]);
        }
        let near = match self.search(bytes)? {
            Some((skipped, shift)) => {
                self.shift = shift;
                skipped
            }
            None => bytes.len().min(NEAR),
        };
        self.take_new(&bytes[..near])
    }

    fn take_equal(&mut self, len: usize, base: u64) -> usize {
        let (at, added) = (self.at, len as u64);
        match self.matches.last_mut().filter(|last| last.end() == at && last.base + last.len == base) {
            Some(last) => last.len += added,
            None => self.matches.push(Match { at, base, len: added }),
        }
        if let Some(out) = &mut self.out {
            out.skip(added);
        }
        self.at += added;
        self.search_from = 0;
        len
    }

    fn take_new(&mut self, bytes: &[u8]) -> Result<usize> {
        if let Some(out) = &mut self.out {
            out.write(bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Searches where new bytes agree with earlier ones again: how many are before that, and the shift from there on.
    fn search(&mut self, bytes: &[u8]) -> Result<Option<(usize, i64)>> {
        let (new_end, base_end) = self.matches.last().map_or((0, 0), |last| (last.end(), last.base + last.len));
        if self.at < self.search_from || bytes.len() < MIN_SEARCHED || base_end + MIN_RUN as u64 > self.base.size {
            return Ok(None);
        }
        let differing = self.at - new_end;
        let widths = match differing < SEARCH_AGAIN {
            true => &WIDTHS[..],
            false => &WIDTHS[2..],
        };
        for width in widths {
            let span = (*width as u64 + 2 * differing).min(MAX_SEARCHED);
            // What differs may be as long here as there. Of a long part, only what is near is searched.
            let middle = base_end + differing.saturating_sub(MAX_SEARCHED / 2);
            let from = middle.saturating_sub(span / 8).min(self.base.size);
            let to = (middle + span).min(self.base.size);
            let mut earlier = vec![0; (to - from) as usize];
            self.base.fill(&mut earlier, from)?;
            if let Some((skipped, found)) = agreement(&bytes[..bytes.len().min(*width)], &earlier) {
                let (new, base) = (self.at + skipped as u64, from + found as u64);
                return Ok(Some((skipped, base as i64 - new as i64)));
            }
        }
        self.search_from = self.at + differing.max(SEARCH_AGAIN);
        Ok(None)
    }

    /// Copies the bytes of short matches, so that their number is bounded.
    fn forget_short_matches(&mut self) -> Result<()> {
        let mut min = 2 * MIN_RUN as u64;
        while self.matches.len() > MAX_MATCHES / 2 {
            // What was not compared is kept: there it is not known yet whether the earlier content can be read.
            let is_kept = |found: &Match| found.len >= min || (found.at == 0 && self.shared > 0);
            let (kept, short) = std::mem::take(&mut self.matches).into_iter().partition(is_kept);
            self.matches = kept;
            if let Some(copy) = self.copy {
                fill_holes(copy, self.base, &short)?;
            }
            min *= 2;
        }
        Ok(())
    }
}

/// What of the new file is in no match, up to `end`.
pub(super) fn unmatched(matches: &[Match], end: u64) -> Vec<Range<u64>> {
    others(matches.iter().map(|found| found.at..found.end()), end)
}

/// What of the earlier content is in no match.
pub(super) fn unmatched_in_base(matches: &[Match], end: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<_> = matches.iter().map(|found| found.base..found.base + found.len).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    others(ranges.into_iter(), end)
}

/// What is in none of these ranges, up to `end`. They are in the order of their beginnings.
fn others(ranges: impl Iterator<Item = Range<u64>>, end: u64) -> Vec<Range<u64>> {
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
pub(super) fn fill_holes(to: &NewFile, base: &Base, matches: &[Match]) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    for found in matches {
        let mut done = 0;
        while done < found.len {
            let n = usize::try_from(found.len - done).unwrap_or(usize::MAX).min(CHUNK);
            base.fill_checked(&mut buffer[..n], found.base + done)?;
            write_sparse(to, &buffer[..n], found.at + done)?;
            done += n as u64;
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
            let ranges = ranges.iter().map(|(start, end)| *start..*end);
            others(ranges, 10).iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[]), [(0, 10)]);
        assert_eq!(found(&[(0, 3), (5, 6)]), [(3, 5), (6, 10)]);
        assert_eq!(found(&[(0, 10)]), []);
        assert_eq!(found(&[(2, 20)]), [(0, 2)]);
        assert_eq!(found(&[(0, 8), (1, 2), (9, 10)]), [(8, 9)]);
    }
}
