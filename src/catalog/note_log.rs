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
    pieces: Vec<NoteSummary>,
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
            pieces.push(NoteSummary::of(next, note));
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
                pieces.push(*before);
            }
        }
        Ok(NoteLog { last, pieces })
    }

    /// The pieces, the oldest one first.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &NoteSummary> {
        self.pieces.iter().rev()
    }

    /// What the next note should record of those before it. Each summary takes in the earlier ones that are not more
    /// than twice as long, so the number of pieces grows with the logarithm of the number of notes, and each run is
    /// written about that often.
    pub(super) fn summary(&self) -> Option<Box<NoteSummary>> {
        let mut pieces = self.pieces.iter();
        let mut sum = pieces.next()?.clone();
        let (mut taken, mut bytes) = (1, sum.run_bytes());
        for piece in pieces {
            let (notes, length) = (self.last + 1 - sum.from, sum.from - piece.from);
            bytes += piece.run_bytes();
            if length > 2 * notes || bytes > MAX_RUN_BYTES {
                break;
            }
            sum.prepend(piece.clone());
            taken += 1;
        }
        (taken >= MIN_PIECES).then(|| Box::new(sum))
    }
}
