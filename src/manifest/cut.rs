//! The cut: where a level's list of keys is divided into nodes. It depends only on the keys and weights, and is local.
//!
//! 1. A key begins a *run* if its hash is smaller than those of its w neighbours on each side, all of which exist. The
//!    first key begins the first run.
//! 2. Two neighbours a < b of one run are separated if the keys of the run that share the bits which a and b have in
//!    common weigh more than [`MAX_WEIGHT`] together.
//!
//! So a node weighs at most MAX_WEIGHT; a list of at most 2w keys that fits is one node; and a change at one key can
//! move cuts only within w keys and MAX_WEIGHT bytes of it. Rule 2 divides a run at its keys' first differing bit,
//! repeatedly, until each piece fits. Keys chosen by their hashes can make runs long, but no bit of a name can be
//! chosen twice.

use super::encode::NodeItem;
use super::format::MAX_WEIGHT;
use std::collections::VecDeque;

/// The w of leaves: on average a run has 2w + 1 = 301 entries.
pub(super) const LEAF_REACH: usize = 150;
/// The w of inner nodes, whose entries are larger: 81 children on average.
pub(super) const INNER_REACH: usize = 40;

/// w for a level.
pub(super) fn reach(level: u8) -> usize {
    if level == 0 { LEAF_REACH } else { INNER_REACH }
}

/// The hash of a key at a level: FNV-1a (64 bits) over the level's byte and the name, then MurmurHash3's last mix.
pub(super) fn key_hash(level: u8, name: &[u8]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for b in std::iter::once(&level).chain(name) {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// How many leading bits two different names share, each continued with zero bytes.
fn common_bits(a: &[u8], b: &[u8]) -> u32 {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (x, y) = (a.get(same).copied().unwrap_or(0), b.get(same).copied().unwrap_or(0));
    8 * same as u32 + (x ^ y).leading_zeros()
}

/// Cuts the items of one level into nodes as they come. Holds about one node and w items.
pub(super) struct Cutter {
    level: u8,
    reach: usize,
    pending: VecDeque<NodeItem>,
    /// Number of the first pending item, and of the next item.
    first: usize,
    next: usize,
    /// Number of the item the cutter began with.
    begin: usize,
    /// Hashes of the last w items that can still be a minimum, ascending.
    minima: VecDeque<(usize, u64)>,
    /// An item smaller than its w predecessors, until w successors are known.
    candidate: Option<(usize, u64)>,
    /// Run starts after the first pending item.
    starts: VecDeque<usize>,
    /// The key before the first pending one, if it belongs to the same run.
    previous: Option<Box<[u8]>>,
    /// How many pending items are weighed, and their weight.
    weighed: usize,
    weight: usize,
}

impl Cutter {
    /// At the beginning of a level.
    pub fn new(level: u8) -> Cutter {
        Cutter {
            level,
            reach: reach(level),
            pending: VecDeque::new(),
            first: 0,
            next: 0,
            begin: 0,
            minima: VecDeque::new(),
            candidate: None,
            starts: VecDeque::new(),
            previous: None,
            weighed: 0,
            weight: 0,
        }
    }

    /// In the middle of a level. `before` are the hashes of the w items before the next one. The next item begins a
    /// node, in the run of the key `previous`, or in a new run if that is `None`.
    pub fn resume(level: u8, before: &[u64], previous: Option<Box<[u8]>>) -> Cutter {
        let mut cutter = Cutter::new(level);
        debug_assert_eq!(before.len(), cutter.reach);
        for hash in before {
            cutter.note(*hash);
        }
        cutter.first = cutter.next;
        cutter.begin = cutter.next;
        cutter.previous = previous;
        cutter
    }

    /// The number of the next item.
    pub fn next_number(&self) -> usize {
        self.next
    }

    /// The first item that is not in a finished node, and its number.
    pub fn first_pending(&self) -> Option<(usize, &NodeItem)> {
        self.pending.front().map(|item| (self.first, item))
    }

    /// Adds the next item. Appends the nodes that are complete to `out`.
    pub fn push(&mut self, item: NodeItem, out: &mut Vec<Vec<NodeItem>>) {
        self.note(key_hash(self.level, &item.name));
        self.pending.push_back(item);
        self.cut(false, out);
    }

    /// There are no more items.
    pub fn finish(&mut self, out: &mut Vec<Vec<NodeItem>>) {
        self.cut(true, out);
    }

    /// Rule 1, item by item.
    fn note(&mut self, hash: u64) {
        let i = self.next;
        self.next += 1;
        if self.minima.front().is_some_and(|(at, _)| at + self.reach < i) {
            self.minima.pop_front();
        }
        match self.candidate {
            Some((_, least)) if hash <= least => self.candidate = None,
            Some((at, _)) if at + self.reach == i => {
                if at > self.begin {
                    self.starts.push_back(at);
                }
                self.candidate = None;
            }
            _ => {}
        }
        if i >= self.reach && self.minima.front().is_none_or(|(_, least)| hash < *least) {
            self.candidate = Some((i, hash));
        }
        while self.minima.back().is_some_and(|(_, h)| *h >= hash) {
            self.minima.pop_back();
        }
        self.minima.push_back((i, hash));
    }

    /// Rule 2, for all nodes that are determined by now.
    fn cut(&mut self, ended: bool, out: &mut Vec<Vec<NodeItem>>) {
        while !self.pending.is_empty() {
            let run_end = self.starts.front().copied().or(ended.then_some(self.next)).map(|end| end - self.first);
            let limit = run_end.unwrap_or(self.pending.len());
            while self.weighed < limit {
                let weight = self.pending[self.weighed].weight(self.level);
                if self.weight + weight > MAX_WEIGHT && self.weighed > 0 {
                    break;
                }
                self.weight += weight;
                self.weighed += 1;
            }
            while self.weighed > limit {
                // It was weighed before it was known that a run begins here.
                self.weighed -= 1;
                self.weight -= self.pending[self.weighed].weight(self.level);
            }
            let head = &self.pending[0].name;
            let left = self.previous.as_ref().map(|p| common_bits(p, head));
            let shared = if self.weighed < limit {
                // It overflows. That no run begins before this point is known only after w more items.
                if run_end.is_none() && self.first + self.weighed + self.reach >= self.next {
                    return;
                }
                let over = common_bits(head, &self.pending[self.weighed].name);
                Some(left.map_or(over, |l| l.max(over)))
            } else if run_end.is_some() {
                left
            } else {
                return;
            };
            let node = match shared {
                None => self.weighed,
                Some(bits) => {
                    self.pending.partition_point_from(1, self.weighed, |item| common_bits(head, &item.name) > bits)
                }
            };
            self.emit(node, out);
        }
    }

    fn emit(&mut self, count: usize, out: &mut Vec<Vec<NodeItem>>) {
        let node: Vec<NodeItem> = self.pending.drain(..count).collect();
        self.first += count;
        self.weighed -= count;
        self.weight -= node.iter().map(|item| item.weight(self.level)).sum::<usize>();
        if self.starts.front() == Some(&self.first) {
            self.starts.pop_front();
            self.previous = None;
        } else {
            self.previous = node.last().map(|item| item.name.clone());
        }
        out.push(node);
    }
}

/// Binary search in a part of a deque.
trait PartitionFrom<T> {
    /// The first index in `low..high` for which `holds` is false, or `high`.
    fn partition_point_from(&self, low: usize, high: usize, holds: impl Fn(&T) -> bool) -> usize;
}

impl<T> PartitionFrom<T> for VecDeque<T> {
    fn partition_point_from(&self, mut low: usize, mut high: usize, holds: impl Fn(&T) -> bool) -> usize {
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self[middle]) { low = middle + 1 } else { high = middle }
        }
        low
    }
}
