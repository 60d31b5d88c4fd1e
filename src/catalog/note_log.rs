//! A log of notes, read from its end, as far as is necessary. Now and then a note also records what the notes before it
//! add up to, so that they need not be read: a version that 10,000 runs made has 10,000 notes, and a reader opens about
//! 30.

use super::log;
use super::note_record::{Note, NoteSummary};
use super::numbers;
use super::version_record::RunRecord;
use crate::error::{Error, Result, show_path};
use std::path::{Path, PathBuf};

/// A summary replaces at least this many reads.
const MIN_PIECES: usize = 16;
/// A summary has at most about this many bytes of runs. (A record has at most 1 MiB.)
const MAX_RUN_BYTES: usize = 256 << 10;

/// A log of notes, read from its end.
pub(super) struct NoteLog {
    dir: PathBuf,
    /// The number of the last note.
    pub last: u64,
    /// The newest one first.
    read: Vec<NoteRead>,
    /// The number of the next note to read; 0: all are read.
    next: u64,
}

/// A note, and the summary in it.
struct NoteRead {
    note: NoteSummary,
    before: Option<NoteSummary>,
}

impl NoteRead {
    fn first(&self) -> u64 {
        self.before.as_ref().unwrap_or(&self.note).from
    }

    /// The older one last.
    fn pieces(&self) -> impl DoubleEndedIterator<Item = &NoteSummary> {
        [&self.note].into_iter().chain(&self.before)
    }
}

impl NoteLog {
    /// The log in `dir`, which ends with the note `last`. Nothing is read yet.
    pub(super) fn new(dir: &Path, last: u64) -> NoteLog {
        NoteLog { dir: dir.to_path_buf(), last, read: Vec::new(), next: last }
    }

    /// Reads the whole log in `dir`.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn read(dir: &Path) -> Result<NoteLog> {
        let mut log = NoteLog::new(dir, numbers::highest_record(dir)?);
        while log.read_next()? {}
        Ok(log)
    }

    /// Reads the next note from the end; false if there is none.
    fn read_next(&mut self) -> Result<bool> {
        let number = self.next;
        if number == 0 {
            return Ok(false);
        }
        let mut note: Note = log::read(&self.dir, number)?;
        let before = note.before.take().map(|before| *before);
        if let Some(before) = before.as_ref().filter(|before| before.from == 0 || before.from >= number) {
            let path = self.dir.join(numbers::record_name(number));
            return Err(Error::damaged(format!(
                "{} summarizes notes from {} on, which does not come before it",
                show_path(&path),
                before.from
            )));
        }
        let read = NoteRead { note: NoteSummary::of(number, note), before };
        self.next = read.first() - 1;
        self.read.push(read);
        Ok(true)
    }

    /// The pieces that were read, the oldest one first: notes and summaries.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &NoteSummary> {
        self.read.iter().rev().flat_map(|read| read.pieces().rev())
    }

    /// Whether a note that was read, or a summary in one, names this run.
    pub(super) fn names(&self, run: &RunRecord) -> bool {
        self.pieces().any(|piece| piece.runs.contains(run))
    }

    /// What the next note should record of those before it. Reads no more notes than are necessary for that. Each
    /// summary takes in the earlier ones that are not more than twice as long, so the number of pieces grows with the
    /// logarithm of the number of notes, and each run is written about that often. A note that has a summary in it is
    /// taken together with that summary: readers would not open the note any more, and so they would read each note
    /// that the summary replaces.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub(super) fn summary(&mut self) -> Result<Option<Box<NoteSummary>>> {
        let (mut sum, mut taken, mut bytes) = (None::<NoteSummary>, 0, 0);
        for at in 0.. {
            if at == self.read.len() && !self.read_next()? {
                break;
            }
            let read = &self.read[at];
            let after = sum.as_ref().map_or(self.last + 1, |sum| sum.from);
            bytes += read.pieces().map(NoteSummary::run_bytes).sum::<usize>();
            let is_too_long = after - read.first() > 2 * (self.last + 1 - after) || bytes > MAX_RUN_BYTES;
            if is_too_long && (taken > 0 || read.before.is_some()) {
                break;
            }
            for piece in read.pieces() {
                match &mut sum {
                    Some(sum) => sum.prepend(piece.clone()),
                    none => *none = Some(piece.clone()),
                }
                taken += 1;
            }
        }
        Ok(sum.filter(|_| taken >= MIN_PIECES).map(Box::new))
    }
}
