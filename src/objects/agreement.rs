//! Where two sequences of bytes agree again: for what was inserted into a file, removed from it or replaced.
//!
//! A rolling hash of 64 bytes chooses places by what is there, so that both sequences have the same ones. Only equal
//! bytes count.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes that the rolling hash depends on.
const HASHED: usize = 64;
/// About as many places of the earlier bytes are remembered, as a power of two.
const PLACES: u32 = 10;
/// A shorter agreement does not count.
pub(super) const MIN_RUN: usize = 512;
/// At an agreement of this length the search ends.
const ENOUGH: usize = 2 << 10;
/// Bytes that are compared to find where bytes at the same places are equal again, and how far these are apart.
const PROBED: usize = 32;
const PROBE_STEP: usize = 64;

/// How many bytes are equal from the beginning.
pub(super) fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4 << 10;
    let len = a.len().min(b.len());
    if a[..len] == b[..len] {
        return len;
    }
    let blocks =
        a[..len].chunks(BLOCK).zip(b.chunks(BLOCK)).take_while(|(a, b)| a.len() <= b.len() && *a == &b[..a.len()]);
    let from = (blocks.count() * BLOCK).min(len);
    from + a[from..len].iter().zip(&b[from..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes are equal from the end.
pub(super) fn equal_suffix(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// From where on, after `from` and before `until`, both have the same bytes at the same places, at least [`MIN_RUN`] of
/// them.
pub(super) fn equal_again(new: &[u8], base: &[u8], from: usize, until: usize) -> Option<usize> {
    let len = new.len().min(base.len());
    let mut at = from;
    while at < until && at + PROBED <= len {
        if new[at..at + PROBED] != base[at..at + PROBED] {
            at += PROBE_STEP;
            continue;
        }
        let start = at - equal_suffix(&new[from..at], &base[from..at]);
        let end = at + equal_prefix(&new[at..len], &base[at..len]);
        if end - start >= MIN_RUN {
            return Some(start);
        }
        at = end + 1;
    }
    None
}

/// The first place from which on new bytes agree with earlier ones at another place: both places. At least
/// [`MIN_RUN`] bytes are equal from there on.
pub(super) fn agreement(new: &[u8], base: &[u8]) -> Option<(usize, usize)> {
    let bits = base.len().max(1).ilog2().saturating_sub(PLACES);
    let mut known: HashMap<u64, usize, BuildHasherDefault<Hashed>> = HashMap::default();
    each_place(base, bits, &mut |hash, end| {
        known.entry(hash).or_insert(end);
        true
    });
    let (mut best, mut seen) = ((0, 0, 0), 0);
    each_place(new, bits, &mut |hash, end| {
        let Some(&in_base) = known.get(&hash).filter(|_| end > seen) else { return true };
        let before = equal_suffix(&new[..end], &base[..in_base]);
        let after = equal_prefix(&new[end..], &base[in_base..]);
        seen = end + after;
        if before + after > best.0 {
            best = (before + after, end - before, in_base - before);
        }
        best.0 < ENOUGH
    });
    (best.0 >= MIN_RUN).then_some((best.1, best.2))
}

/// Calls `each` with the hash of every chosen place and its end, until it returns `false`.
pub(super) fn each_place(bytes: &[u8], bits: u32, each: &mut dyn FnMut(u64, usize) -> bool) {
    let mask = !(u64::MAX >> bits.min(32));
    let mut hash = 0u64;
    for (i, byte) in bytes.iter().enumerate() {
        hash = (hash << 1).wrapping_add(NUMBERS[usize::from(*byte)]);
        if hash & mask == 0 && i + 1 >= HASHED && !each(hash, i + 1) {
            return;
        }
    }
}

/// A random number for each byte.
const NUMBERS: [u64; 256] = {
    let mut out = [0; 256];
    let (mut i, mut state) = (0, 0x6361_6972_6e00_u64);
    while i < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = state;
        n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        out[i] = n ^ n >> 31;
        i += 1;
    }
    out
};

/// The hash of a place is a hash already.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;

    #[test]
    fn what_follows_inserted_removed_and_replaced_bytes_is_found_to_the_byte() {
        for len in [8 << 10, 64 << 10, 512 << 10] {
            let rest = random_bytes(1, len);
            for (inserted, removed) in [(1, 0), (0, 1), (30, 0), (0, len / 8), (len / 8, 3), (len / 8, len / 8)] {
                let new = [&random_bytes(2, inserted)[..], &rest].concat();
                let base = [&random_bytes(3, removed)[..], &rest].concat();
                let found = agreement(&new, &base).unwrap();
                // A byte before may be equal by chance.
                assert!(found.0 + 2 >= inserted && found.0 <= inserted, "{len} {inserted} {removed}: {found:?}");
                assert_eq!(found.0 as i64 - found.1 as i64, inserted as i64 - removed as i64);
            }
            assert_eq!(agreement(&rest, &random_bytes(4, len)), None);
        }
    }

    #[test]
    fn zeros_short_and_empty_sequences_are_searched_without_a_panic() {
        let zeros = vec![0; 100_000];
        assert!(agreement(&zeros, &zeros).is_none_or(|(new, base)| new == base));
        for (new, base) in [(&zeros[..0], &zeros[..]), (&zeros, &zeros[..0]), (&zeros[..63], &zeros[..63])] {
            assert_eq!(agreement(new, base), None);
        }
        let found = agreement(
            &[&zeros[..], &random_bytes(1, 5000)].concat(),
            &[&zeros[..70_000], &random_bytes(1, 5000)].concat(),
        );
        assert!(found.is_some());
    }

    #[test]
    fn equal_bytes_at_the_same_places_are_found_again() {
        let base = random_bytes(1, 20_000);
        let mut new = base.clone();
        new[100..180].copy_from_slice(&random_bytes(2, 80));
        let at = equal_prefix(&new, &base);
        assert!((100..102).contains(&at));
        let again = equal_again(&new, &base, at + 1, 4096).unwrap();
        assert!((178..=180).contains(&again) && new[again..] == base[again..]);
        assert_eq!(equal_again(&random_bytes(3, 20_000), &base, 0, 20_000), None);
        assert_eq!(equal_prefix(&base, &base[..777]), 777);
        assert_eq!((equal_prefix(&base, &[]), equal_prefix(&new[9000..], &base[9000..])), (0, 11_000));
    }
}
