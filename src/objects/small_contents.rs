//! Which small contents a transaction has stored or found, and where. The memory for each is small: a put may store
//! millions.

use super::pack::MAX_PACK;
use crate::prefixes::merge_sorted;
use crate::types::{Digest, Location, PackRef};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// How many contents of a shard are kept with their whole digests: as many as a table of 2,048 slots holds.
const RECENT: usize = if cfg!(test) { 8 } else { 1792 };
const OFFSET_BITS: u32 = 26;
const PACK_BITS: u32 = 20;
const PLACE_BITS: u32 = OFFSET_BITS + PACK_BITS;
const _: () = assert!(MAX_PACK <= 1 << OFFSET_BITS);

/// The keys of this transaction's hashes. They are random, so that contents cannot be made for equal hashes.
#[derive(Debug, Default)]
pub(super) struct SmallKeys(RandomState, RandomState);

/// Contents whose digests fall into the same shard.
#[derive(Debug, Default)]
pub(super) struct SmallContents {
    /// Where it lies, and whether this transaction stored it.
    recent: HashMap<Digest, (Location, bool)>,
    /// How many of these have places that do not fit below.
    unfit: usize,
    /// What this transaction stored earlier: 82 bits of a hash of the digest, 20 of the pack's number, 26 of the
    /// offset. Among ten million contents, two have equal hashes in the same shard with a probability of 10^-13.
    ///
    /// Sorted runs, each longer than the next: there are few, a merge is seldom, and the lengths repeat, so the memory
    /// of merged runs is used again.
    earlier: Vec<Vec<u128>>,
}

impl SmallContents {
    /// Where this content lies, if it is known.
    pub(super) fn get(&self, keys: &SmallKeys, digest: &Digest) -> Option<Location> {
        if let Some((place, _)) = self.recent.get(digest) {
            return Some(*place);
        }
        if self.earlier.is_empty() {
            return None;
        }
        let hash = keys.hash(digest);
        self.earlier.iter().find_map(|run| {
            let entry = run.get(run.partition_point(|entry| *entry < hash))?;
            (entry >> PLACE_BITS == hash >> PLACE_BITS).then(|| place_of(*entry))
        })
    }

    /// Records content that was found in the store, or, with `is_own`, that this transaction stored. What was found may
    /// be forgotten again: it will be found again.
    pub(super) fn insert(&mut self, keys: &SmallKeys, digest: Digest, place: Location, is_own: bool) {
        if self.recent.len() >= RECENT + 2 * self.unfit {
            self.condense(keys);
        }
        self.recent.insert(digest, (place, is_own));
    }

    /// What those take that were stored earlier.
    pub(super) fn bytes_of_earlier(&self) -> usize {
        self.earlier.iter().map(|run| run.capacity() * size_of::<u128>()).sum()
    }

    fn condense(&mut self, keys: &SmallKeys) {
        let does_fit = |place: &Location| place.offset >> OFFSET_BITS == 0 && place.pack.0 >> PACK_BITS == 0;
        let mut unfit = std::mem::take(&mut self.recent);
        let mut run = Vec::with_capacity(unfit.values().filter(|(place, is_own)| *is_own && does_fit(place)).count());
        unfit.retain(|digest, (place, is_own)| {
            if *is_own && does_fit(place) {
                let place = u128::from(place.pack.0) << OFFSET_BITS | u128::from(place.offset);
                run.push(keys.hash(digest) | place);
            }
            !does_fit(place)
        });
        self.unfit = unfit.len();
        self.recent = unfit;
        run.sort_unstable();
        self.add_run(run);
    }

    fn add_run(&mut self, mut run: Vec<u128>) {
        while let Some(shorter) = self.earlier.pop_if(|last| last.len() <= run.len()) {
            merge_sorted(&mut run, &shorter);
        }
        if !run.is_empty() {
            self.earlier.push(run);
        }
    }
}

impl SmallKeys {
    /// The hash of a digest in its place in an entry.
    fn hash(&self, digest: &Digest) -> u128 {
        let hash = u128::from(self.0.hash_one(digest.0)) << 64 | u128::from(self.1.hash_one(digest.0));
        hash >> PLACE_BITS << PLACE_BITS
    }
}

fn place_of(entry: u128) -> Location {
    let bits = |from: u32, count: u32| (entry >> from) as u32 & ((1 << count) - 1);
    Location { pack: PackRef(bits(OFFSET_BITS, PACK_BITS)), offset: bits(0, OFFSET_BITS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_known_however_much_it_is_and_a_place_that_does_not_fit_is_kept_whole() {
        let (keys, mut contents) = (SmallKeys::default(), SmallContents::default());
        let digest = |n: u32| Digest::of(&n.to_le_bytes());
        let place = |n: u32| Location { pack: PackRef(n % 7), offset: (1 << OFFSET_BITS) - 1 - n };
        let far = Location { pack: PackRef(1 << PACK_BITS), offset: 5 };
        contents.insert(&keys, digest(5000), far, true);
        for n in 0..1000 {
            assert_eq!(contents.get(&keys, &digest(n)), None);
            contents.insert(&keys, digest(n), place(n), n % 10 != 0);
        }
        assert!(contents.recent.len() <= RECENT + 1);
        assert!(contents.earlier.len() <= 8, "{} runs", contents.earlier.len());
        for n in (0..1000).filter(|n| n % 10 != 0) {
            assert_eq!(contents.get(&keys, &digest(n)), Some(place(n)), "{n}");
        }
        assert_eq!(contents.get(&keys, &digest(5000)), Some(far));
        assert_eq!(contents.get(&keys, &digest(0)), None, "it was found, so it is found again");
    }

    #[test]
    fn what_was_stored_earlier_takes_16_bytes_each() {
        let (keys, mut contents) = (SmallKeys::default(), SmallContents::default());
        for n in 0..10_000u32 {
            contents.insert(&keys, Digest::of(&n.to_le_bytes()), Location { pack: PackRef(0), offset: n }, true);
            assert!(contents.bytes_of_earlier() <= 16 * n as usize);
        }
        assert!(contents.recent.capacity() <= 2 * RECENT);
    }
}
