//! Several index segments as one sorted stream of entries, with little memory.

use super::index_segment::{Segment, SegmentEntry};
use crate::error::{Error, Result};
use crate::types::Digest;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// The entries of several segments in order, each once, without those of packs that are omitted.
pub(super) struct SegmentMerge {
    sources: Vec<MergeSource>,
    heap: BinaryHeap<Reverse<(Digest, u8, usize)>>,
    /// The entries of one digest.
    group: VecDeque<SegmentEntry>,
    failed: bool,
}

struct MergeSource {
    segment: Arc<Segment>,
    /// The new number of each of its packs; `None` if it is omitted.
    numbers: Vec<Option<u32>>,
    block: std::vec::IntoIter<SegmentEntry>,
    next_block: usize,
    ahead: Option<SegmentEntry>,
}

/// The packs of these segments for which `keep` returns true, sorted.
pub(super) fn packs_of(segments: &[Arc<Segment>], keep: impl Fn(&Digest) -> bool) -> Vec<Digest> {
    let mut packs: Vec<Digest> = segments.iter().flat_map(|s| s.packs()).filter(|p| keep(p)).copied().collect();
    packs.sort_unstable();
    packs.dedup();
    packs
}

impl SegmentMerge {
    /// Merges the entries of `packs`, which are sorted. Entries number the packs by their position there.
    pub(super) fn new(segments: &[Arc<Segment>], packs: &[Digest]) -> SegmentMerge {
        let numbers: BTreeMap<&Digest, u32> = packs.iter().enumerate().map(|(i, p)| (p, i as u32)).collect();
        let source = |segment: &Arc<Segment>| MergeSource {
            numbers: segment.packs().iter().map(|p| numbers.get(p).copied()).collect(),
            segment: segment.clone(),
            block: Vec::new().into_iter(),
            next_block: 0,
            ahead: None,
        };
        let mut merge = SegmentMerge {
            sources: segments.iter().map(source).collect(),
            heap: BinaryHeap::new(),
            group: VecDeque::new(),
            failed: false,
        };
        for i in 0..merge.sources.len() {
            merge.advance(i);
        }
        merge
    }

    fn advance(&mut self, i: usize) {
        match self.sources[i].next() {
            Ok(next) => {
                self.heap.extend(next.map(|e| Reverse((e.digest, e.kind as u8, i))));
                self.sources[i].ahead = next;
            }
            Err(()) => self.failed = true,
        }
    }
}

impl MergeSource {
    /// Its next entry in a pack that is not omitted; an error if a block is damaged.
    fn next(&mut self) -> std::result::Result<Option<SegmentEntry>, ()> {
        loop {
            for entry in self.block.by_ref() {
                if let Some(pack) = self.numbers.get(entry.pack as usize).ok_or(())? {
                    return Ok(Some(SegmentEntry { pack: *pack, ..entry }));
                }
            }
            if self.next_block == self.segment.blocks() {
                return Ok(None);
            }
            self.block = self.segment.block(self.next_block).ok_or(())?.into_iter();
            self.next_block += 1;
        }
    }
}

impl Iterator for SegmentMerge {
    type Item = Result<SegmentEntry>;

    fn next(&mut self) -> Option<Result<SegmentEntry>> {
        if self.group.is_empty() && !self.failed {
            let mut group: Vec<SegmentEntry> = Vec::new();
            while let Some(Reverse((digest, kind, i))) = self.heap.peek().copied() {
                if group.first().is_some_and(|g| (g.digest, g.kind as u8) != (digest, kind)) {
                    break;
                }
                self.heap.pop();
                group.extend(self.sources[i].ahead.take());
                self.advance(i);
            }
            group.sort_unstable_by_key(|e| (e.pack, e.offset));
            group.dedup();
            self.group = group.into();
        }
        if self.failed {
            return Some(Err(Error::damaged("an index segment is damaged")));
        }
        self.group.pop_front().map(Ok)
    }
}
