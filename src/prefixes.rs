//! A set of digests in eight bytes each: their first eight bytes, sorted.
//!
//! Ten million digests take 80 MB, and while the set grows a quarter more. A hash set would take twice that, and three
//! times while it grows. If two digests share their first eight bytes, what is not needed may count as needed; never
//! the other way round.

use crate::types::Digest;

/// As many new prefixes are gathered before they are sorted in, or a quarter of the set if that is more.
const MIN_RECENT: usize = 1 << 16;

/// The set. What was inserted is found after [`Prefixes::settle`].
#[derive(Default)]
pub(crate) struct Prefixes {
    sorted: Vec<u64>,
    recent: Vec<u64>,
}

impl Prefixes {
    pub(crate) fn insert(&mut self, digest: &Digest) {
        self.recent.push(digest.prefix());
        if self.recent.len() >= MIN_RECENT.max(self.sorted.len() / 4) {
            self.settle();
        }
    }

    /// Sorts in what was inserted.
    pub(crate) fn settle(&mut self) {
        self.recent.sort_unstable();
        self.recent.dedup();
        if self.recent.is_empty() {
            return;
        }
        merge_sorted(&mut self.sorted, &self.recent);
        self.sorted.dedup();
        self.recent.clear();
    }

    /// Adds all of another set. Both are settled then.
    pub(crate) fn append(&mut self, mut other: Prefixes) {
        self.settle();
        other.settle();
        self.recent = other.sorted;
        self.settle();
        self.recent = Vec::new();
    }

    /// Where a digest is in the set, once it is settled.
    pub(crate) fn position(&self, digest: &Digest) -> Option<usize> {
        debug_assert!(self.recent.is_empty(), "the set is settled before it is asked");
        let prefix = digest.prefix();
        // Digests are spread evenly, so the position is nearly known.
        let expected = ((u128::from(prefix) * self.sorted.len() as u128) >> 64) as usize;
        let (mut low, mut high, mut step) = (expected, expected, 64);
        while low > 0 && self.sorted[low] > prefix {
            low = low.saturating_sub(step);
            step *= 4;
        }
        step = 64;
        while high < self.sorted.len() && self.sorted[high] < prefix {
            high = (high + step).min(self.sorted.len());
            step *= 4;
        }
        let end = (high + 1).min(self.sorted.len());
        self.sorted.get(low..end)?.binary_search(&prefix).ok().map(|at| low + at)
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }
}

/// Merges a sorted list into another. Both are merged from their ends, so that nothing is copied out of the way.
pub(crate) fn merge_sorted<T: Copy + Default + Ord>(sorted: &mut Vec<T>, more: &[T]) {
    let (mut left, mut right) = (sorted.len(), more.len());
    sorted.reserve_exact(right);
    sorted.resize(left + right, T::default());
    while right > 0 {
        let from_left = left > 0 && sorted[left - 1] > more[right - 1];
        sorted[left + right - 1] = if from_left { sorted[left - 1] } else { more[right - 1] };
        *(if from_left { &mut left } else { &mut right }) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_that_is_appended_is_in_the_set() {
        let digest = |i: u64| Digest::of(&i.to_le_bytes());
        let set = |numbers: std::ops::Range<u64>| {
            let mut set = Prefixes::default();
            numbers.for_each(|i| set.insert(&digest(i)));
            set
        };
        let (mut all, mut expected) = (set(0..1000), set(0..2500));
        all.append(set(500..2500));
        all.append(set(0..0));
        expected.settle();
        assert_eq!(all.sorted, expected.sorted);
        assert_eq!(all.recent.capacity(), 0);
    }

    #[test]
    fn the_set_has_what_was_inserted_and_nothing_else() {
        let digest = |i: u64| Digest::of(&(i % 90_000).to_le_bytes());
        let (mut set, mut expected) = (Prefixes::default(), BTreeSet::new());
        assert_eq!(set.position(&digest(1)), None);
        for i in 0..200_000 {
            set.insert(&digest(i * 7));
            expected.insert(digest(i * 7).prefix());
            if i % 50_000 == 49_999 {
                set.settle();
                assert_eq!(set.sorted, expected.iter().copied().collect::<Vec<_>>());
            }
        }
        for (at, prefix) in expected.iter().enumerate() {
            let mut digest = Digest([7; 32]);
            digest.0[..8].copy_from_slice(&prefix.to_be_bytes());
            assert_eq!(set.position(&digest), Some(at));
            digest.0[..8].copy_from_slice(&(prefix ^ 1).to_be_bytes());
            assert_eq!(set.position(&digest).is_some(), expected.contains(&(prefix ^ 1)));
        }
        for digest in [Digest([0; 32]), Digest([255; 32])] {
            assert_eq!(set.position(&digest), None);
        }
    }
}
