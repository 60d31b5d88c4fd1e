//! Small blobs verified a moment ago, so that reading one in pieces hashes it once. Bounded in bytes.

use crate::words::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Two generations: what was used since the last turn, and what was used in the one before. A turn drops the older, so that keeping and
/// dropping cost the same for blobs of any size.
#[derive(Debug)]
pub(super) struct Recent {
    /// Bytes that one generation may hold.
    bound: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Arc<Vec<u8>>>,
    old: HashMap<Digest, Arc<Vec<u8>>>,
    young_bytes: usize,
}

impl Recent {
    /// Holds at most `bytes`, and what one blob more takes.
    pub(super) fn new(bytes: usize) -> Recent {
        Recent { bound: bytes / 2, generations: Mutex::default() }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Vec<u8>>> {
        let mut g = self.generations.lock();
        if let Some(found) = g.young.get(digest) {
            return Some(found.clone());
        }
        let found = g.old.remove(digest)?;
        self.keep(&mut g, *digest, found.clone());
        Some(found)
    }

    pub(super) fn put(&self, digest: Digest, bytes: Arc<Vec<u8>>) {
        self.keep(&mut self.generations.lock(), digest, bytes);
    }

    fn keep(&self, g: &mut Generations, digest: Digest, bytes: Arc<Vec<u8>>) {
        if g.young_bytes + bytes.len() > self.bound {
            g.old = std::mem::take(&mut g.young);
            g.young_bytes = 0;
        }
        g.young_bytes += bytes.len();
        if let Some(before) = g.young.insert(digest, bytes) {
            g.young_bytes -= before.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes_within_the_bound() {
        let recent = Recent::new(1000);
        let name = |n: u32| Digest::of(&n.to_le_bytes());
        for n in 0..100 {
            recent.put(name(n), Arc::new(vec![0; 100]));
            assert!(recent.get(&name(0)).is_some(), "used all the time");
        }
        assert!(recent.get(&name(99)).is_some());
        assert!(recent.get(&name(50)).is_none());
        let g = recent.generations.lock();
        assert!(g.young.len() + g.old.len() <= 11, "{} {}", g.young.len(), g.old.len());
    }
}
