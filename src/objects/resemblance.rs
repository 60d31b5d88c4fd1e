//! Whether two large contents probably share bytes, by a sample of both: what has nothing in common is not compared.
//!
//! Windows of the new file are spread evenly over it. Each is searched in the earlier content near the same place,
//! near the same distance from the end, and near the same fraction of its length. So a sample finds bytes that stayed
//! where they were, that something was inserted or removed before or after, and those of a file that grew everywhere.
//! The first of these is the commonest, and is looked for first, because it needs no hashes.

use super::agreement::{Hashed, MIN_RUN, each_place, equal_again, equal_prefix, equal_suffix};
use super::chunks::Bytes;
use crate::error::Result;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;

/// How many windows of the new file are in the sample.
const WINDOWS: u64 = 32;
/// The length of a window, as a part of the length of the new file.
const WINDOW_SHARE: u64 = 4096;
const WINDOW: Range<u64> = 1 << 10..16 << 10;
/// How far around a window it is searched, in windows.
const MARGIN: u64 = 2;
/// One place in this many bytes is remembered, as a power of two.
const BITS: u32 = 7;

/// What is known of places of the earlier content: their hashes, and where they end.
type Places = HashMap<u64, u64, BuildHasherDefault<Hashed>>;

/// Parts of a content, one after another.
#[derive(Clone, Copy)]
pub(super) struct Ranges<'a> {
    pub bytes: &'a dyn Bytes,
    /// The size of the content.
    pub size: u64,
    pub ranges: &'a [Range<u64>],
}

impl Ranges<'_> {
    /// How many bytes they have.
    pub(super) fn len(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Calls `each` with the place and the bytes of every part of `wanted`, which counts from the beginning of the
    /// first range.
    fn read(&self, wanted: &Range<u64>, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let (mut before, mut buffer) = (0, Vec::new());
        for range in self.ranges {
            let end = before + range.end - range.start;
            let (from, to) = (wanted.start.clamp(before, end), wanted.end.clamp(before, end));
            if from < to {
                buffer.resize((to - from) as usize, 0);
                let at = range.start + from - before;
                self.bytes.fill(&mut buffer, at)?;
                each(at, &buffer)?;
            }
            before = end;
        }
        Ok(())
    }

    /// The bytes of `wanted`, which counts from the beginning of the first range, as far as there are any.
    fn bytes(&self, wanted: &Range<u64>) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.read(wanted, &mut |_, bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(all)
    }

    /// How many bytes are equal to `bytes` around a place that ends at `at`, and at `end` in them.
    fn equal_around(&self, at: u64, bytes: &[u8], end: usize) -> Result<usize> {
        let before = usize::try_from(at).unwrap_or(usize::MAX).min(end);
        let after = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len() - end);
        let mut there = vec![0; before + after];
        self.bytes.fill(&mut there, at - before as u64)?;
        Ok(equal_suffix(&bytes[..end], &there[..before]) + equal_prefix(&bytes[end..], &there[before..]))
    }
}

/// Whether a sample shows that both share bytes.
///
/// # Errors
/// I/O.
pub(super) fn resembles(new: Ranges<'_>, earlier: Ranges<'_>) -> Result<bool> {
    let (windows, searched) = sample(new.len(), earlier.len());
    for window in &windows {
        let (here, there) = (new.bytes(window)?, earlier.bytes(window)?);
        if equal_again(&here, &there, 0, here.len()).is_some() {
            return Ok(true);
        }
    }
    let mut known = Places::default();
    for range in &searched {
        earlier.read(range, &mut |at, bytes| {
            each_place(bytes, BITS, &mut |hash, end| {
                known.entry(hash).or_insert(at + end as u64);
                true
            });
            Ok(())
        })?;
    }
    for window in &windows {
        let mut is_found = false;
        new.read(window, &mut |_, bytes| {
            is_found = is_found || shares(bytes, &known, &earlier)?;
            Ok(())
        })?;
        if is_found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether these bytes have a known place with enough equal bytes around it.
fn shares(bytes: &[u8], known: &Places, earlier: &Ranges<'_>) -> Result<bool> {
    let mut found = Ok(0);
    each_place(bytes, BITS, &mut |hash, end| {
        if let Some(&at) = known.get(&hash) {
            found = earlier.equal_around(at, bytes, end);
        }
        matches!(found, Ok(equal) if equal < MIN_RUN)
    });
    Ok(found? >= MIN_RUN)
}

/// The windows of the new content, and where the earlier one is searched for them. The latter do not overlap.
fn sample(new: u64, earlier: u64) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let len = (new / WINDOW_SHARE).clamp(WINDOW.start, WINDOW.end).min(new);
    let (mut windows, mut searched) = (Vec::new(), Vec::new());
    for i in 0..WINDOWS {
        let start = (u128::from(new - len) * u128::from(2 * i + 1) / u128::from(2 * WINDOWS)) as u64;
        windows.push(start..start + len);
        let in_proportion = (u128::from(start) * u128::from(earlier) / u128::from(new.max(1))) as u64;
        for at in [start, (start + earlier).saturating_sub(new), in_proportion] {
            let (from, to) = (at.saturating_sub(MARGIN * len), (at + (MARGIN + 1) * len).min(earlier));
            if from < to {
                searched.push(from..to);
            }
        }
    }
    searched.sort_unstable_by_key(|range: &Range<u64>| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in searched {
        match joined.last_mut().filter(|last| last.end >= range.start) {
            Some(last) => last.end = last.end.max(range.end),
            None => joined.push(range),
        }
    }
    (windows, joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;
    use std::slice;

    fn whole(bytes: &Vec<u8>, test: impl FnOnce(Ranges<'_>) -> bool) -> bool {
        let size = bytes.len() as u64;
        test(Ranges { bytes, size, ranges: slice::from_ref(&(0..size)) })
    }

    fn is_found(new: &Vec<u8>, earlier: &Vec<u8>) -> bool {
        whole(new, |new| whole(earlier, |earlier| resembles(new, earlier).unwrap()))
    }

    #[test]
    fn what_shares_a_half_with_the_earlier_content_is_found_wherever_that_lies() {
        for len in [1 << 20, 5 << 20, 40 << 20] {
            let earlier = random_bytes(1, len);
            let more = random_bytes(2, len);
            for new in [
                earlier.clone(),
                [&earlier[..], &more[..len / 2]].concat(),
                [&more[..len / 2], &earlier].concat(),
                [&earlier[..len / 2], &more[..len / 3], &earlier[len / 2..]].concat(),
                earlier[len / 3..].to_vec(),
                [&earlier[..len / 2], &more[..len / 2]].concat(),
            ] {
                assert!(is_found(&new, &earlier), "{len}: {}", new.len());
            }
            // Every part grew by a tenth.
            let parts = earlier.chunks(len / 20).zip(more.chunks(len / 200));
            assert!(is_found(&parts.flat_map(|(a, b)| [a, b].concat()).collect(), &earlier), "{len}");
            assert!(!is_found(&more, &earlier), "{len}");
        }
    }

    #[test]
    fn only_the_bytes_of_the_ranges_count_and_short_and_empty_ones_are_sampled_without_a_panic() {
        let (a, b) = (random_bytes(1, 3 << 20), random_bytes(2, 3 << 20));
        let mixed = [&a[..1 << 20], &b[..1 << 20], &a[2 << 20..]].concat();
        let resembles_in = |ranges: &[Range<u64>]| {
            let new = Ranges { bytes: &mixed, size: 3 << 20, ranges };
            whole(&a, |earlier| resembles(new, earlier).unwrap())
        };
        assert!(!resembles_in(slice::from_ref(&(1 << 20..2 << 20))));
        assert!(resembles_in(&[1 << 20..2 << 20, 2 << 20..3 << 20]));
        for ranges in [&[][..], &[5..5, 9..9], &[5..6, 7..7], &[0..1, 3..700]] {
            resembles_in(ranges);
        }
        assert!(!is_found(&Vec::new(), &a) && !is_found(&a, &Vec::new()));
        is_found(&vec![0; 2 << 20], &vec![0; 1 << 20]);
    }
}
