//! Which parts of a new file are taken from which sources, and whether that is worth a recipe.

use super::chunks::Match;
use super::compared_base::Base;
use super::recipe::{Extent, MAX_EXTENTS, Recipe, RecipeSource};
use std::collections::HashMap;

/// The most sources of a recipe that this release writes: a reader has all of them open.
const SOURCES: usize = 32;
/// With more sources, the parts of those that are used least are stored again, until this many are left. So a file that
/// grows every day has few sources, and each byte is stored again a few times at most.
const SOURCES_AFTER: usize = 8;
/// A shorter part is stored again: its extent would need nearly as much space, and a read of its own.
const MIN_PART: u64 = 512;
/// The size of the blocks that file systems share between files.
const BLOCK: u64 = 4096;
/// What is stored of a longer part begins at the same place in a block as in the file, so that both can share blocks.
/// For that, a part of a block before it is stored again.
const MIN_ALIGNED: u64 = 64 << 10;
/// If less than this part of a source is used, it is stored again.
const MIN_USE: u64 = 8;
/// What a content may keep in the store for it to be composed, in multiples of its own size. Without this bound, a file
/// of which a little changes every day would after a while need objects that hardly any of it is in.
const MAX_KEPT: u64 = 2;

/// Bytes of the new file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub at: u64,
    pub len: u64,
    /// Where the earlier content has the same bytes.
    pub base: Option<u64>,
    /// The source, by its number in the earlier content, and the offset there, if they are taken from it.
    pub from: Option<(u32, u64)>,
}

/// How a file is composed. The pieces cover it without a gap.
pub(super) struct Plan {
    pub size: u64,
    pub pieces: Vec<Piece>,
}

impl Plan {
    /// The plan for a file of `size` bytes with these matches, in order. `None`: it is not worth a recipe.
    pub(super) fn new(size: u64, matches: &[Match], base: &Base) -> Option<Plan> {
        let mut plan = Plan { size, pieces: pieces(size, matches, base) };
        plan.drop_short_parts();
        plan.drop_wasteful_sources(base);
        plan.drop_surplus_sources();
        plan.align_long_parts();
        let kept: u64 = plan.used().keys().map(|source| base.sources[*source as usize].size).sum();
        let is_worth = plan.stored_again() <= size / 2 && kept + plan.stored_again() <= MAX_KEPT * size;
        (is_worth && plan.pieces.len() <= MAX_EXTENTS).then_some(plan)
    }

    /// The pieces whose bytes are stored.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(|piece| piece.from.is_none())
    }

    /// How many bytes are stored.
    pub(super) fn stored_again(&self) -> u64 {
        self.rest().map(|piece| piece.len).sum()
    }

    /// The recipe, and the sources that it takes from the earlier content. `rest` is the content that has the bytes of
    /// [`Plan::rest`], one after another.
    pub(super) fn recipe(&self, base: &Base, rest: Option<RecipeSource>) -> Recipe {
        let mut sources = Vec::new();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut extents: Vec<Extent> = Vec::new();
        let (rest_number, mut rest_at) = (u32::MAX, 0);
        for piece in &self.pieces {
            let (source, offset) = match piece.from {
                Some((source, offset)) => {
                    let number = *numbers.entry(source).or_insert_with(|| {
                        sources.push(base.sources[source as usize]);
                        sources.len() as u32 - 1
                    });
                    (number, offset)
                }
                None => {
                    rest_at += piece.len;
                    (rest_number, rest_at - piece.len)
                }
            };
            match extents.last_mut().filter(|last| last.source == source && last.offset + last.len == offset) {
                Some(last) => last.len += piece.len,
                None => extents.push(Extent { source, offset, len: piece.len }),
            }
        }
        // The rest is the last source.
        let last = sources.len() as u32;
        extents.iter_mut().filter(|extent| extent.source == rest_number).for_each(|extent| extent.source = last);
        sources.extend(rest);
        Recipe { size: self.size, sources, extents }
    }

    /// Bytes that are taken from each source.
    fn used(&self) -> HashMap<u32, u64> {
        let mut used = HashMap::new();
        for piece in &self.pieces {
            if let Some((source, _)) = piece.from {
                *used.entry(source).or_insert(0) += piece.len;
            }
        }
        used
    }

    /// Stores short parts again, and longer ones if there are too many.
    fn drop_short_parts(&mut self) {
        let mut min = MIN_PART;
        loop {
            self.drop(|piece| piece.len < min);
            if self.pieces.len() <= MAX_EXTENTS || min > self.size {
                return;
            }
            min *= 2;
        }
    }

    /// Stores the parts of sources again of which little is used: else these would be kept for them.
    fn drop_wasteful_sources(&mut self, base: &Base) {
        let mut used = self.used();
        used.retain(|source, bytes| *bytes < base.sources[*source as usize].size / MIN_USE);
        self.drop(|piece| piece.from.is_some_and(|(source, _)| used.contains_key(&source)));
    }

    fn drop_surplus_sources(&mut self) {
        let used = self.used();
        // One more is for the rest.
        if used.len() < SOURCES {
            return;
        }
        let mut by_use: Vec<(u64, u32)> = used.into_iter().map(|(source, bytes)| (bytes, source)).collect();
        by_use.sort_unstable();
        by_use.truncate(by_use.len() - SOURCES_AFTER);
        self.drop(|piece| piece.from.is_some_and(|(source, _)| by_use.iter().any(|(_, dropped)| *dropped == source)));
    }

    /// Stores a part of a block before long parts again.
    fn align_long_parts(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        let mut rest = 0;
        for (i, piece) in pieces.iter().enumerate() {
            let more = piece.at.wrapping_sub(rest) % BLOCK;
            if more > 0
                && let Some(last) = self.pieces.last_mut()
                && last.from.is_some()
                && last.len >= more + MIN_PART
                && stored_from(&pieces[i..]) >= MIN_ALIGNED
            {
                last.len -= more;
                let base = last.base.map(|at| at + last.len);
                self.pieces.push(Piece { at: piece.at - more, len: more, base, from: None });
                rest += more;
            }
            rest += if piece.from.is_none() { piece.len } else { 0 };
            self.pieces.push(*piece);
        }
    }

    /// These pieces are stored again. Joins those that follow each other.
    fn drop(&mut self, is_dropped: impl Fn(&Piece) -> bool) {
        let mut out: Vec<Piece> = Vec::with_capacity(self.pieces.len());
        for mut piece in std::mem::take(&mut self.pieces) {
            if piece.from.is_some() && is_dropped(&piece) {
                piece.from = None;
            }
            match out.last_mut().filter(|last| follows(last, &piece)) {
                Some(last) => last.len += piece.len,
                None => out.push(piece),
            }
        }
        self.pieces = out;
    }
}

/// How many bytes are stored from the first piece on.
fn stored_from(pieces: &[Piece]) -> u64 {
    pieces.iter().take_while(|piece| piece.from.is_none()).map(|piece| piece.len).sum()
}

/// Whether a piece continues another one everywhere.
fn follows(last: &Piece, next: &Piece) -> bool {
    let from = match (last.from, next.from) {
        (None, None) => true,
        (Some((a, at)), Some((b, offset))) => a == b && at + last.len == offset,
        _ => false,
    };
    let base = match (last.base, next.base) {
        (None, None) => true,
        (Some(a), Some(b)) => a + last.len == b,
        _ => false,
    };
    from && base
}

/// The pieces of a file: its matches, each cut where the earlier content goes from one source to another, and what is
/// between them.
fn pieces(size: u64, matches: &[Match], base: &Base) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = 0;
    let gap = |at: u64, end: u64| (at < end).then_some(Piece { at, len: end - at, base: None, from: None });
    for found in matches {
        out.extend(gap(at, found.at));
        let (mut done, mut i) = (0, base.parts.partition_point(|part| part.at + part.len <= found.base));
        while done < found.len {
            let (part, from) = (&base.parts[i], found.base + done);
            let skip = from - part.at;
            let len = (part.len - skip).min(found.len - done);
            let taken = Some((part.source, part.offset + skip));
            out.push(Piece { at: found.at + done, len, base: Some(from), from: taken });
            done += len;
            i += 1;
        }
        at = found.end();
    }
    out.extend(gap(at, size));
    out
}
