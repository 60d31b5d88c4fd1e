//! Hashing a content step by step. What SHA-256 had after each step shows later that bytes which were not read are
//! those that were hashed.

use crate::types::{Digest, Hasher};
use std::sync::Arc;

/// The length of a step.
pub(super) const STEP: usize = 1 << 20;
/// The steps of a longer content are not all known: only those of the first 128 GiB.
const MOST: usize = 1 << 17;

/// Hashes a content step by step.
#[derive(Default)]
pub(super) struct StepHasher {
    hasher: Hasher,
    size: u64,
    after: Vec<Hasher>,
}

impl StepHasher {
    /// Adds the next step. One that is shorter than [`STEP`] is the last one.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if bytes.len() == STEP && self.after.len() < MOST {
            self.after.push(self.hasher.clone());
        }
    }

    /// The digest of the bytes so far.
    pub(super) fn digest_so_far(&self) -> Digest {
        self.hasher.clone().finish()
    }

    pub(super) fn finish(self) -> Hashed {
        let steps = Steps { count: self.after.len(), after: Arc::new(self.after) };
        Hashed { digest: self.hasher.finish(), size: self.size, steps }
    }
}

/// A content that was hashed.
pub(super) struct Hashed {
    pub digest: Digest,
    pub size: u64,
    pub steps: Steps,
}

impl Hashed {
    /// Its digest and size.
    pub(super) fn content(&self) -> (Digest, u64) {
        (self.digest, self.size)
    }
}

/// What SHA-256 had after each whole step of a content.
#[derive(Default)]
pub(super) struct Steps {
    after: Arc<Vec<Hasher>>,
    count: usize,
}

impl Steps {
    /// How many steps are known of a content of `size` bytes.
    pub(super) fn of_size(size: u64) -> usize {
        usize::try_from(size / STEP as u64).map_or(MOST, |steps| steps.min(MOST))
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The first `count` of them.
    pub(super) fn first(&self, count: usize) -> Steps {
        Steps { after: self.after.clone(), count: count.min(self.count) }
    }

    /// The digests of the beginnings that end after each step.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.after[..self.count].iter().map(|after| after.clone().finish()).collect()
    }

    /// Whether these bytes are those of the step with this number, counted from 0.
    pub(super) fn has(&self, number: usize, bytes: &[u8]) -> bool {
        let Some(after) = self.after[..self.count].get(number) else { return false };
        let mut hasher = number.checked_sub(1).map_or_else(Hasher::new, |before| self.after[before].clone());
        hasher.update(bytes);
        bytes.len() == STEP && hasher.finish() == after.clone().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;

    #[test]
    fn a_step_is_known_by_its_bytes_and_by_its_place() {
        let bytes = random_bytes(1, 3 * STEP + 5);
        let mut hasher = StepHasher::default();
        for (i, step) in bytes.chunks(STEP).enumerate() {
            hasher.add(step);
            assert_eq!(hasher.digest_so_far(), Digest::of(&bytes[..(STEP * (i + 1)).min(bytes.len())]));
        }
        let Hashed { digest, size, steps } = hasher.finish();
        assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
        assert_eq!((steps.count(), Steps::of_size(size)), (3, 3));
        assert_eq!(steps.digests(), [1, 2, 3].map(|n| Digest::of(&bytes[..n * STEP])));
        for (number, step) in bytes.chunks(STEP).enumerate() {
            assert_eq!(steps.has(number, step), number < 3);
            assert!(!steps.has(number + 1, step), "it is at another place");
            let mut wrong = step.to_vec();
            wrong[4] ^= 1;
            assert!(!steps.has(number, &wrong) && !steps.has(number, &step[1..]));
        }
        let steps = steps.first(2);
        assert!(steps.has(1, &bytes[STEP..2 * STEP]) && !steps.has(2, &bytes[2 * STEP..3 * STEP]));
    }
}
