//! A bounded cache by digest that keeps what was used recently.

use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::HashMap;
use std::sync::Arc;

type Generation<T> = HashMap<Digest, (Arc<T>, usize)>;

/// A cache of two generations: what was used since the last turn, and what was used in the turn before. When the young
/// generation is full, a turn drops the old one. So insertion and eviction cost the same for values of any weight.
///
/// A forked child keeps it, but for the shards that were in use at that moment: those are empty there.
///
/// Values are dropped after the lock is released: closing a file may wait for a server.
#[derive(Debug)]
pub(crate) struct RecentCache<T> {
    /// The weight that one generation of one shard may have.
    bound: usize,
    shards: Box<[Mutex<Generations<T>>]>,
}

#[derive(Debug)]
struct Generations<T> {
    young: Generation<T>,
    old: Generation<T>,
    young_weight: usize,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Generations { young: HashMap::new(), old: HashMap::new(), young_weight: 0 }
    }
}

impl<T> RecentCache<T> {
    /// Holds at most `weight`.
    pub(crate) fn new(weight: usize) -> RecentCache<T> {
        Self::sharded(1, weight)
    }

    /// Holds at most `weight`, in shards with a lock each.
    pub(crate) fn sharded(shards: usize, weight: usize) -> RecentCache<T> {
        RecentCache { bound: weight / shards / 2, shards: (0..shards).map(|_| Mutex::cache()).collect() }
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Generations<T>> {
        &self.shards[usize::from(digest.0[31]) % self.shards.len()]
    }

    /// The value, which counts as used now.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        let mut generations = self.shard(digest).lock();
        if let Some((found, _)) = generations.young.get(digest) {
            return Some(found.clone());
        }
        let (found, weight) = generations.old.remove(digest)?;
        let dropped = generations.insert(*digest, found.clone(), weight, self.bound);
        drop(generations);
        drop(dropped);
        Some(found)
    }

    /// Keeps a value, unless it is heavier than a generation may be.
    pub(crate) fn put(&self, digest: Digest, value: Arc<T>, weight: usize) {
        if weight <= self.bound {
            let dropped = self.shard(&digest).lock().insert(digest, value, weight, self.bound);
            drop(dropped);
        }
    }

    /// Drops a value.
    pub(crate) fn remove(&self, digest: &Digest) {
        let mut generations = self.shard(digest).lock();
        let young = generations.young.remove(digest);
        if let Some((_, weight)) = &young {
            generations.young_weight -= weight;
        }
        let old = generations.old.remove(digest);
        drop(generations);
        drop((young, old));
    }

    /// Drops what was not used since the last turn.
    pub(crate) fn turn(&self) {
        for shard in &self.shards {
            let dropped = shard.lock().turn();
            drop(dropped);
        }
    }
}

impl<T> Generations<T> {
    /// Returns what must be dropped after the lock is released.
    fn insert(&mut self, digest: Digest, value: Arc<T>, weight: usize, bound: usize) -> Generation<T> {
        let dropped = if self.young_weight + weight > bound { self.turn() } else { HashMap::new() };
        self.young_weight += weight;
        if let Some((_, before)) = self.young.insert(digest, (value, weight)) {
            self.young_weight -= before;
        }
        dropped
    }

    fn turn(&mut self) -> Generation<T> {
        self.young_weight = 0;
        let young = std::mem::take(&mut self.young);
        std::mem::replace(&mut self.old, young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn used_values_stay_and_the_cache_stays_within_its_bound() {
        let cache = RecentCache::new(1000);
        for n in 0..100 {
            cache.put(name(n), Arc::new(()), 100);
            assert!(cache.get(&name(0)).is_some(), "used all the time");
        }
        assert!(cache.get(&name(99)).is_some());
        assert!(cache.get(&name(50)).is_none());
        let generations = cache.shards[0].lock();
        let held = generations.young.len() + generations.old.len();
        assert!(held <= 11, "{held}");
    }

    #[test]
    fn a_turn_drops_what_was_not_used_since_the_turn_before() {
        let cache = RecentCache::new(1000);
        cache.put(name(1), Arc::new(()), 100);
        cache.turn();
        assert!(cache.get(&name(1)).is_some(), "used before the turn");
        cache.turn();
        cache.turn();
        assert!(cache.get(&name(1)).is_none(), "not used for two turns");
    }

    #[test]
    fn removed_values_weigh_nothing_and_values_that_are_too_heavy_are_not_kept() {
        let cache = RecentCache::sharded(2, 1000);
        cache.put(name(1), Arc::new(()), 250);
        cache.remove(&name(1));
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.shards.iter().all(|s| s.lock().young_weight == 0));
        cache.put(name(2), Arc::new(()), 251);
        assert!(cache.get(&name(2)).is_none());
    }
}
