//! Which parts of a new file are taken from which sources, and whether that is worth a recipe.

use super::chunks::Match;
use super::compared_base::Base;
use super::frames::{FRAME, MAX_FRAMED};
use super::recipe::{Extent, MAX_EXTENTS, MAX_SOURCES, Recipe, RecipeSource};
use std::collections::{HashMap, HashSet};

/// The most objects and small contents of which a recipe takes parts that this release writes: a reader has all of them
/// open, or in memory.
const SOURCES: Bound = Bound { most: 31, after: 8 };
/// The most parts in which a file is stored that is compressed as a whole.
const MAX_WHOLE_PARTS: usize = 5000;
/// A file that is longer is an object.
pub(super) const LONGEST_WHOLE: u64 = (MAX_WHOLE_PARTS * MAX_FRAMED) as u64;
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

/// How many sources a recipe has. With more, the parts of those that are used least are stored again, until `after` are
/// left. So a file that grows every day has few sources, and each byte is stored again a few times at most.
struct Bound {
    most: usize,
    after: usize,
}

/// How many bytes each part of a file has that is compressed as a whole, except for the last one. There are two at
/// least: the file's own digest is that of its recipe, and no source of that.
pub(super) fn part_of_whole(size: u64) -> usize {
    match usize::try_from(size) {
        Ok(size) if size <= MAX_FRAMED => size.div_ceil(2).next_multiple_of(FRAME),
        _ => MAX_FRAMED,
    }
}

/// How many compressed parts a recipe names.
pub(super) struct Limits {
    /// Long packed contents that it takes parts of. A reader has only a table of each in memory.
    framed: Bound,
    /// The most parts in which the rest is packed. A longer one is an object.
    rest_parts: usize,
}

impl Limits {
    const FEW: Limits = Limits { framed: Bound { most: 191, after: 128 }, rest_parts: 32 };

    /// For a file of `size` bytes. If files are compressed as a whole (`of_whole_files`), a long one has a part for
    /// each [`MAX_FRAMED`] bytes already.
    pub(super) fn new(size: u64, of_whole_files: bool) -> Limits {
        let Limits { framed: Bound { most, after }, rest_parts } = Limits::FEW;
        let parts =
            if of_whole_files { size.div_ceil(MAX_FRAMED as u64).min(MAX_WHOLE_PARTS as u64) as usize } else { 0 };
        Limits { framed: Bound { most: most + 2 * parts, after: after + parts }, rest_parts: rest_parts + parts }
    }

    /// The longest rest that is packed.
    pub(super) fn longest_rest(&self) -> u64 {
        (self.rest_parts * MAX_FRAMED) as u64
    }

    /// The most pieces of a plan. A piece of the rest may become two extents where a part ends.
    fn most_pieces(&self) -> usize {
        MAX_EXTENTS - self.rest_parts
    }
}

const _: () = {
    let (most, rest) = (Limits::FEW.framed.most + 2 * MAX_WHOLE_PARTS, Limits::FEW.rest_parts + MAX_WHOLE_PARTS);
    assert!(SOURCES.most + most + rest <= MAX_SOURCES);
};

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
    pub(super) fn new(size: u64, matches: &[Match], base: &Base, limits: &Limits) -> Option<Plan> {
        let mut plan = Plan { size, pieces: pieces(size, matches, base) };
        plan.drop_short_parts(limits.most_pieces());
        plan.drop_wasteful_sources(base);
        plan.drop_surplus_sources(base, false, &SOURCES);
        plan.drop_surplus_sources(base, true, &limits.framed);
        plan.align_long_parts();
        let kept: u64 = plan.used().keys().map(|source| base.sources[*source as usize].size()).sum();
        let is_worth = plan.stored_again() <= size / 2 && kept + plan.stored_again() <= MAX_KEPT * size;
        (is_worth && plan.pieces.len() <= limits.most_pieces()).then_some(plan)
    }

    /// The plan that takes nothing from the earlier content. Where the file equals it, the bytes can be read there.
    pub(super) fn of_rest(size: u64, matches: &[Match], base: &Base) -> Plan {
        let mut plan = Plan { size, pieces: pieces(size, matches, base) };
        plan.drop(|_| true);
        plan
    }

    /// The pieces whose bytes are stored.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(|piece| piece.from.is_none())
    }

    /// How many bytes are stored.
    pub(super) fn stored_again(&self) -> u64 {
        self.rest().map(|piece| piece.len).sum()
    }

    /// The recipe, and the sources that it takes from the earlier content. `rest` are the contents that have the bytes
    /// of [`Plan::rest`], one after another.
    pub(super) fn recipe(&self, base: &Base, rest: &[RecipeSource]) -> Recipe {
        let mut sources = Vec::new();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut extents: Vec<Extent> = Vec::new();
        // The rest comes last. Until the number of sources before it is known, its contents are counted down.
        let mut rest_left = rest.iter().zip((0..=u32::MAX).rev()).map(|(source, number)| (number, 0, source.size()));
        let mut rest_now = rest_left.next();
        let mut add = |source, offset, len| match extents.last_mut() {
            Some(last) if last.source == source && last.offset + last.len == offset => last.len += len,
            _ => extents.push(Extent { source, offset, len }),
        };
        for piece in &self.pieces {
            if let Some((source, offset)) = piece.from {
                let number = *numbers.entry(source).or_insert_with(|| {
                    sources.push(base.sources[source as usize]);
                    sources.len() as u32 - 1
                });
                add(number, offset, piece.len);
                continue;
            }
            let mut left = piece.len;
            while let Some((number, at, size)) = rest_now.filter(|_| left > 0) {
                let len = left.min(size - at);
                add(number, at, len);
                left -= len;
                rest_now = if at + len < size { Some((number, at + len, size)) } else { rest_left.next() };
            }
        }
        let (first, last) = (sources.len() as u32, u32::MAX - rest.len() as u32);
        extents.iter_mut().filter(|e| e.source > last).for_each(|e| e.source = first + (u32::MAX - e.source));
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
    fn drop_short_parts(&mut self, most: usize) {
        let mut min = MIN_PART;
        loop {
            self.drop(|piece| piece.len < min);
            if self.pieces.len() <= most || min > self.size {
                return;
            }
            min *= 2;
        }
    }

    /// Stores the parts of sources again of which little is used: else these would be kept for them.
    fn drop_wasteful_sources(&mut self, base: &Base) {
        let mut used = self.used();
        used.retain(|source, bytes| *bytes < base.sources[*source as usize].size() / MIN_USE);
        self.drop(|piece| piece.from.is_some_and(|(source, _)| used.contains_key(&source)));
    }

    /// Stores the parts of the sources again that are used least, if there are too many sources of this form.
    fn drop_surplus_sources(&mut self, base: &Base, is_framed: bool, bound: &Bound) {
        let mut by_use: Vec<(u64, u32)> = self.used().into_iter().map(|(source, bytes)| (bytes, source)).collect();
        by_use.retain(|(_, source)| base.sources[*source as usize].is_framed() == is_framed);
        if by_use.len() <= bound.most {
            return;
        }
        by_use.sort_unstable();
        by_use.truncate(by_use.len() - bound.after);
        let dropped: HashSet<u32> = by_use.into_iter().map(|(_, source)| source).collect();
        self.drop(|piece| piece.from.is_some_and(|(source, _)| dropped.contains(&source)));
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
