//! What was used a moment ago, by digest, within a bound: verified small blobs, open object files.

use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Two generations: what was used since the last turn, and what was used in the one before. A turn drops the older, so
/// that keeping and dropping cost the same for things of any weight.
#[derive(Debug)]
pub(super) struct Recent<T> {
    /// Weight that one generation may have.
    bound: usize,
    generations: Mutex<Generations<T>>,
}

#[derive(Debug)]
struct Generations<T> {
    young: HashMap<Digest, (Arc<T>, usize)>,
    old: HashMap<Digest, (Arc<T>, usize)>,
    young_weight: usize,
}

impl<T> Recent<T> {
    /// Holds at most `weight`, and what one thing more weighs.
    pub(super) fn new(weight: usize) -> Recent<T> {
        Recent {
            bound: weight / 2,
            generations: Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), young_weight: 0 }),
        }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        let mut g = self.generations.lock();
        if let Some((found, _)) = g.young.get(digest) {
            return Some(found.clone());
        }
        let (found, weight) = g.old.remove(digest)?;
        let dropped = self.keep(&mut g, *digest, found.clone(), weight);
        drop(g);
        drop(dropped);
        Some(found)
    }

    pub(super) fn put(&self, digest: Digest, thing: Arc<T>, weight: usize) {
        let dropped = self.keep(&mut self.generations.lock(), digest, thing, weight);
        drop(dropped);
    }

    /// Lets go of one.
    pub(super) fn remove(&self, digest: &Digest) {
        let mut g = self.generations.lock();
        let young = g.young.remove(digest);
        if let Some((_, weight)) = &young {
            g.young_weight -= weight;
        }
        let old = g.old.remove(digest);
        drop(g);
        drop((young, old));
    }

    /// Lets go of what was not used since the last turn.
    pub(super) fn turn(&self) {
        let dropped = self.generations.lock().turn();
        drop(dropped);
    }

    /// What comes back is to be dropped when the lock is no longer held: closing a file may wait for a server.
    fn keep(
        &self,
        g: &mut Generations<T>,
        digest: Digest,
        thing: Arc<T>,
        weight: usize,
    ) -> HashMap<Digest, (Arc<T>, usize)> {
        let dropped = if g.young_weight + weight > self.bound { g.turn() } else { HashMap::new() };
        g.young_weight += weight;
        if let Some((_, before)) = g.young.insert(digest, (thing, weight)) {
            g.young_weight -= before;
        }
        dropped
    }
}

impl<T> Generations<T> {
    fn turn(&mut self) -> HashMap<Digest, (Arc<T>, usize)> {
        self.young_weight = 0;
        let young = std::mem::take(&mut self.young);
        std::mem::replace(&mut self.old, young)
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
            recent.put(name(n), Arc::new(vec![0; 100]), 100);
            assert!(recent.get(&name(0)).is_some(), "used all the time");
        }
        assert!(recent.get(&name(99)).is_some());
        assert!(recent.get(&name(50)).is_none());
        {
            let g = recent.generations.lock();
            assert!(g.young.len() + g.old.len() <= 11, "{} {}", g.young.len(), g.old.len());
        }
        recent.turn();
        assert!(recent.get(&name(99)).is_some(), "used before the turn");
        recent.turn();
        recent.turn();
        assert!(recent.get(&name(99)).is_none(), "not used for two turns");
        recent.put(name(1), Arc::new(Vec::new()), 500);
        recent.remove(&name(1));
        assert!(recent.get(&name(1)).is_none());
        assert_eq!(recent.generations.lock().young_weight, 0);
    }
}
