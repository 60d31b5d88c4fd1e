//! Reading ahead from file to file: where reads follow the order of the listings, the small files that come next are
//! given to the kernel before it asks.
//!
//! The first read of a small file is a round trip, whose wake-ups cost many times what its bytes do. Who walks a tree
//! (grep, tar, cp, a data loader) reads files in the order in which they are listed, which is the order of inode
//! numbers. Such a stream is told by its reads, and a thread of its own puts what comes next into the kernel's page
//! cache, more at a time the longer the stream lasts; one file in each lot is left out, so that the read of it asks for
//! the next lot. Where the kernel knows of no more files, the stream waits for the listing that tells it of them.
//!
//! Only verified bytes are given, and only of files that the kernel knows by a listing with attributes (it takes no
//! others). What fails is left to the read that asks for it. Nobody waits for this.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Streams that are followed at a time.
const STREAMS: usize = 8;
/// So far from the last one a read still belongs to a stream: several processes that share one don't keep its order.
const NEAR: u64 = 16;
/// Reads after which it is believed.
const BELIEVED: u32 = 3;
/// Files given at a time, at first and at most: each lot is twice the one before.
const LOTS: Range<u64> = 8..256;
/// Files left to a reader who is ahead.
const LEFT: u64 = 3;
/// Listed directories that are remembered: between this number and twice as many.
const DIRECTORIES: usize = 1 << 15;

/// What is being read in order, and what is to be given. Shared by the threads that answer requests and the one that
/// gives.
#[derive(Default)]
pub(super) struct Readahead {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// The most recently used one last.
    streams: VecDeque<Stream>,
    begun: u64,
    lots: VecDeque<Lot>,
    listed: Listed,
    ended: bool,
}

/// Up to which inode the kernel was told of what is in a directory; two generations.
#[derive(Default)]
struct Listed {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

struct Stream {
    id: u64,
    last: u64,
    reads: u32,
    /// A read from here on asks for the next lot.
    mark: u64,
    /// Up to here files were given, or are to be.
    end: u64,
    /// The kernel knows of no more files yet.
    waits: bool,
    /// How many are in the next lot.
    next: u64,
}

/// Inodes whose content is to be given, but for `mark`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lot {
    stream: u64,
    inodes: Range<u64>,
    mark: u64,
}

impl Readahead {
    /// A directory was listed with attributes, up to an inode in it.
    pub(super) fn listed(&self, directory: u64, last: u64) {
        let mut state = self.state.lock();
        state.listed.add(directory, last);
        let lot = state.streams.iter_mut().find_map(|s| s.listed(directory, last));
        self.ask(state, lot);
    }

    /// The kernel asks for the beginning of a file.
    pub(super) fn read(&self, ino: u64) {
        let mut state = self.state.lock();
        let lot = state.read(ino);
        self.ask(state, lot);
    }

    fn ask(&self, mut state: parking_lot::MutexGuard<'_, State>, lot: Option<Lot>) {
        let Some(lot) = lot else { return };
        state.lots.retain(|other| other.stream != lot.stream);
        state.lots.push_back(lot);
        drop(state);
        self.wake.notify_one();
    }

    /// Gives lots as they are asked for, until the end. `give` gets an inode to be given, and what says whether the
    /// kernel knows what is in a directory up to there; `false`: it does not.
    pub(super) fn serve(&self, give: impl Fn(u64, &dyn Fn(u64) -> bool) -> bool) {
        while let Some(lot) = self.next() {
            for ino in lot.inodes.clone().filter(|ino| *ino != lot.mark) {
                let known = |directory| self.state.lock().listed.tells(directory, ino);
                // A panic is that file's, and the one who reads it meets it.
                if !catch_unwind(AssertUnwindSafe(|| give(ino, &known))).unwrap_or(true) {
                    self.state.lock().stop(&lot, ino);
                    break;
                }
            }
        }
    }

    fn next(&self) -> Option<Lot> {
        let mut state = self.state.lock();
        while !state.ended {
            if let Some(lot) = state.lots.pop_front() {
                return Some(lot);
            }
            self.wake.wait(&mut state);
        }
        None
    }

    /// Ends [`Readahead::serve`].
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.wake.notify_all();
    }
}

impl Listed {
    fn add(&mut self, directory: u64, last: u64) {
        if self.young.len() >= DIRECTORIES {
            self.old = std::mem::take(&mut self.young);
        }
        let upto = self.young.entry(directory).or_insert(last);
        *upto = last.max(*upto);
    }

    fn tells(&self, directory: u64, ino: u64) -> bool {
        [&self.young, &self.old].into_iter().filter_map(|g| g.get(&directory)).any(|upto| ino <= *upto)
    }
}

impl State {
    /// Notes a read; what is to be given now.
    fn read(&mut self, ino: u64) -> Option<Lot> {
        let Some(at) = self.streams.iter().rposition(|s| s.last.saturating_sub(NEAR) <= ino && ino <= s.end + NEAR)
        else {
            if self.streams.len() == STREAMS {
                self.streams.pop_front();
            }
            self.begun += 1;
            self.streams.push_back(Stream {
                id: self.begun,
                last: ino,
                reads: 1,
                mark: ino + 1,
                end: ino + 1,
                waits: false,
                next: LOTS.start,
            });
            return None;
        };
        let mut stream = self.streams.remove(at)?;
        let lot = stream.read(ino);
        self.streams.push_back(stream);
        lot
    }

    /// The kernel knows of no files of the lot from `ino` on.
    fn stop(&mut self, lot: &Lot, ino: u64) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.id == lot.stream && s.end == lot.inodes.end) {
            (stream.mark, stream.end, stream.waits) = (ino, ino.max(stream.last + 1), true);
        }
    }
}

impl Stream {
    fn read(&mut self, ino: u64) -> Option<Lot> {
        self.last = self.last.max(ino);
        self.reads = self.reads.saturating_add(1);
        if self.reads < BELIEVED || ino < self.mark {
            self.end = self.end.max(ino + 1);
            return None;
        }
        // A reader who is ahead has asked for the next ones by the time that they could be given.
        let from = if ino + 1 < self.end { self.end } else { ino + 1 + LEFT };
        Some(self.lot(from))
    }

    /// A directory was listed up to an inode: perhaps what this waits for.
    fn listed(&mut self, directory: u64, last: u64) -> Option<Lot> {
        let goes_on = self.waits && directory < self.end && self.end <= last;
        if goes_on { Some(self.lot(self.end)) } else { None }
    }

    fn lot(&mut self, from: u64) -> Lot {
        let inodes = from..from + self.next;
        // Three quarters on: what is after it is read while the next lot is on its way.
        self.mark = inodes.end - self.next / 4;
        self.end = inodes.end;
        self.waits = false;
        self.next = (self.next * 2).min(LOTS.end);
        Lot { stream: self.id, inodes, mark: self.mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A kernel and a giver: what is read and not there is asked for.
    #[derive(Default)]
    struct Bed {
        forward: Readahead,
        given: HashSet<u64>,
        asked: usize,
    }

    impl Bed {
        /// With one directory that holds everything.
        fn flat() -> Bed {
            let bed = Bed::default();
            bed.forward.listed(1, u64::MAX);
            bed
        }

        fn read(&mut self, ino: u64, directory: u64) {
            if !self.given.contains(&ino) {
                self.asked += 1;
                self.forward.read(ino);
            }
            self.give(|_| directory);
        }

        fn give(&mut self, directory_of: impl Fn(u64) -> u64) {
            let lots: Vec<Lot> = self.forward.state.lock().lots.drain(..).collect();
            for lot in lots {
                for ino in lot.inodes.clone().filter(|i| *i != lot.mark) {
                    if !self.forward.state.lock().listed.tells(directory_of(ino), ino) {
                        self.forward.state.lock().stop(&lot, ino);
                        break;
                    }
                    self.given.insert(ino);
                }
            }
        }
    }

    fn asked(files: impl Iterator<Item = u64>) -> (usize, usize) {
        let mut bed = Bed::flat();
        files.for_each(|ino| bed.read(ino, 1));
        (bed.asked, bed.given.len())
    }

    #[test]
    fn of_files_read_in_order_few_are_asked_for() {
        let (asked, given) = asked(2..10_000);
        assert!(asked < 60, "{asked}");
        assert!(given < 10_000 + 2 * LOTS.end as usize);
    }

    #[test]
    fn a_walk_goes_on_in_each_directory_as_soon_as_it_is_listed() {
        let mut bed = Bed::default();
        // Directories of 100 files, the directory's own number before theirs.
        let directory_of = |ino: u64| if ino.is_multiple_of(101) { 0 } else { ino - ino % 101 };
        bed.forward.listed(0, u64::MAX);
        for d in (1010..101 * 500).step_by(101) {
            bed.forward.listed(d, d + 100);
            bed.give(directory_of);
            for ino in d + 1..=d + 100 {
                if !bed.given.contains(&ino) {
                    bed.asked += 1;
                    bed.forward.read(ino);
                }
                bed.give(directory_of);
            }
        }
        assert!(bed.asked < 490 * 100 / 40, "{}", bed.asked);
    }

    #[test]
    fn processes_that_share_the_files_of_a_directory_are_one_stream() {
        // Four processes, each of which takes every fourth file, a little out of step.
        let order = (0..2500).flat_map(|i| [2, 0, 3, 1].map(|p| 100 + 4 * i + p));
        assert!(asked(order).0 < 100);
    }

    #[test]
    fn two_streams_at_once_are_told_apart() {
        assert!(asked((0..2000).flat_map(|i| [1000 + i, 1_000_000 + i])).0 < 100);
    }

    #[test]
    fn files_read_here_and_there_cost_nothing() {
        let mut x = 7_u64;
        let order = std::iter::from_fn(|| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(x >> 40)
        });
        let (asked, given) = asked(order.take(5000));
        assert!(asked >= 4990 && given < 100, "{asked} {given}");
    }

    #[test]
    fn lots_are_given_by_the_thread_that_serves_but_their_marks_until_the_end() {
        let forward = Readahead::default();
        forward.listed(7, 21);
        let given = Mutex::new(Vec::new());
        std::thread::scope(|s| {
            s.spawn(|| {
                forward.serve(|ino, known| {
                    given.lock().push(ino);
                    assert!(ino != 16, "a panic is that file's");
                    assert!(!known(8));
                    known(7)
                });
            });
            (10..13).for_each(|ino| forward.read(ino));
            while given.lock().last() != Some(&23) {
                std::thread::yield_now();
            }
            forward.end();
        });
        assert_eq!(
            *given.lock(),
            (16..22).chain([23]).collect::<Vec<_>>(),
            "all but the mark, up to one that the kernel does not know"
        );
    }
}
