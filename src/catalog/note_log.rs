//! A log of notes, read from its end. Now and then a note also records what the notes before it add up to, so that they
//! need not be read: a version that 10,000 runs made has 10,000 notes, and a reader opens about 30.

use super::log;
use super::note_record::{Note, NoteSummary};
use super::numbers;
use crate::error::{Error, Result, show_path};
use std::path::Path;

/// A summary replaces at least this many reads.
const MIN_PIECES: usize = 16;
/// A summary has at most about this many bytes of runs. (A record has at most 1 MiB.)
const MAX_RUN_BYTES: usize = 256 << 10;

/// A log of notes, read from its end: each piece is one note, or the summary that a later note has of it and others.
#[derive(Default)]
pub(super) struct NoteLog {
    /// The number of the last note.
    pub last: u64,
    /// The newest one first.
    pieces: Vec<Piece>,
}

struct Piece {
    sum: NoteSummary,
    /// Whether it is a note that has the next piece in it.
    has_next: bool,
}

impl NoteLog {
    /// Reads the log in `dir`.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn read(dir: &Path) -> Result<NoteLog> {
        let last = numbers::highest_record(dir)?;
        let (mut pieces, mut next) = (Vec::new(), last);
        while next > 0 {
            let mut note: Note = log::read(dir, next)?;
            let before = note.before.take();
            pieces.push(Piece { sum: NoteSummary::of(next, note), has_next: before.is_some() });
            next -= 1;
            if let Some(before) = before {
                if before.from == 0 || before.from > next {
                    let path = dir.join(numbers::record_name(next + 1));
                    return Err(Error::damaged(format!(
                        "{} summarizes notes from {} on, which does not come before it",
                        show_path(&path),
                        before.from
                    )));
                }
                next = before.from - 1;
                pieces.push(Piece { sum: *before, has_next: false });
            }
        }
        Ok(NoteLog { last, pieces })
    }

    /// The pieces, the oldest one first.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &NoteSummary> {
        self.pieces.iter().rev().map(|piece| &piece.sum)
    }

    /// What the next note should record of those before it. Each summary takes in the earlier ones that are not more
    /// than twice as long, so the number of pieces grows with the logarithm of the number of notes, and each run is
    /// written about that often. A note that has a summary in it is taken together with that summary: readers would not
    /// open the note any more, and so they would read each note that the summary replaces.
    pub(super) fn summary(&self) -> Option<Box<NoteSummary>> {
        let (mut sum, mut taken, mut bytes) = (None::<NoteSummary>, 0, 0);
        for together in self.pieces.chunk_by(|piece, _| piece.has_next) {
            let after = sum.as_ref().map_or(self.last + 1, |sum| sum.from);
            let from = together.last()?.sum.from;
            bytes += together.iter().map(|piece| piece.sum.run_bytes()).sum::<usize>();
            let is_too_long = after - from > 2 * (self.last + 1 - after) || bytes > MAX_RUN_BYTES;
            if is_too_long && (taken > 0 || together.len() > 1) {
                break;
            }
            for piece in together {
                match &mut sum {
                    Some(sum) => sum.prepend(piece.sum.clone()),
                    none => *none = Some(piece.sum.clone()),
                }
            }
            taken += together.len();
        }
        sum.filter(|_| taken >= MIN_PIECES).map(Box::new)
    }
}
