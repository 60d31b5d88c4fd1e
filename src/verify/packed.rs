//! Which contents were found right, in eight bytes each.
//!
//! Contents whose digests begin with the same eight bytes can be made in an hour. If these bytes were compared, one of
//! two such contents could be lost and count as present. So what is compared is a hash with a random key. For each lost
//! content among ten million others, the probability that another one has the same hash is 10^-12.

use crate::prefixes::Prefixes;
use crate::types::Digest;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Contents that were read last are kept with their whole digests.
const RECENT: usize = if cfg!(test) { 10 } else { 1 << 17 };

/// The contents. What was inserted is found after [`PackedContents::settle`].
#[derive(Default)]
pub(super) struct PackedContents {
    key: RandomState,
    hashes: Prefixes,
}

impl PackedContents {
    pub fn insert(&mut self, digest: &Digest) {
        self.hashes.insert(&self.keyed(digest));
    }

    /// Sorts in what was inserted.
    pub fn settle(&mut self) {
        self.hashes.settle();
    }

    /// Whether this content was inserted.
    pub fn has(&self, digest: &Digest) -> bool {
        self.hashes.position(&self.keyed(digest)).is_some()
    }

    /// The hash, as the first bytes of a digest.
    fn keyed(&self, digest: &Digest) -> Digest {
        let mut keyed = Digest([0; 32]);
        keyed.0[..8].copy_from_slice(&self.key.hash_one(digest.0).to_be_bytes());
        keyed
    }
}

/// Contents that were read one after the other, and are right. What was inserted is found at once.
#[derive(Default)]
pub(super) struct ReadContents {
    recent: HashSet<Digest>,
    earlier: PackedContents,
}

impl ReadContents {
    pub fn insert(&mut self, digest: &Digest) {
        self.recent.insert(*digest);
        if self.recent.len() >= RECENT {
            self.recent.drain().for_each(|digest| self.earlier.insert(&digest));
            self.earlier.settle();
        }
    }

    /// Whether this content was inserted.
    pub fn has(&self, digest: &Digest) -> bool {
        self.recent.contains(digest) || self.earlier.has(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_whose_digest_begins_like_that_of_another_is_not_taken_for_it() {
        let mut contents = PackedContents::default();
        let digest = |last: u8| Digest(std::array::from_fn(|i| if i < 31 { 7 } else { last }));
        (0..50).for_each(|last| contents.insert(&digest(last)));
        contents.settle();
        assert!((0..50).all(|last| contents.has(&digest(last))));
        assert!((50..=255).all(|last| !contents.has(&digest(last))));
    }

    #[test]
    fn content_that_was_read_is_found_at_once_and_later() {
        let mut read = ReadContents::default();
        let digest = |n: u32| Digest::of(&n.to_le_bytes());
        for n in 0..95 {
            assert!(!read.has(&digest(n)));
            read.insert(&digest(n));
            assert!((0..=n).all(|n| read.has(&digest(n))));
        }
        assert!(read.recent.len() < RECENT);
    }
}
