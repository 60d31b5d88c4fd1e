//! Readahead from file to file: if reads follow the order of the listings, the kernel gets the next small files before
//! it asks for them.
//!
//! The first read of a small file is a round trip, which takes far longer than to copy its bytes. A program that walks
//! a tree (grep, tar, cp, a data loader) reads files in the order in which they are listed, which is the order of inode
//! numbers. Such a stream is recognized by its reads. A thread then puts the next files into the kernel's page cache,
//! in batches that become larger while the stream lasts. One file in each batch, the mark, is left out, so that its
//! read requests the next batch. If the kernel does not know further files, the stream waits for the next listing, or
//! for many more reads: a program that knows all paths lists nothing, and to ask the thread for each of its reads would
//! slow it down.
//!
//! Only verified content is passed to the kernel, and only of files that it knows from a listing with attributes (it
//! does not accept others). A file that fails is skipped; a read of it reports the error. No request waits for
//! readahead.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most streams that are followed at a time.
const STREAMS: usize = 8;
/// A read belongs to a stream if it is at most this far from its last read: several processes that share a stream do
/// not keep its order.
const MAX_DISTANCE: u64 = 16;
/// The number of reads after which a stream is recognized.
const MIN_READS: u32 = 3;
/// The sizes of the first and of the largest batch: each batch is twice as large as the previous one.
const BATCH_SIZES: Range<u64> = 8..256;
/// After how many reads a stream that waits for a listing tries again without one.
const PATIENCE: u64 = 64;
/// How many files are skipped if the reader is ahead of the readahead.
const SKIPPED: u64 = 3;
/// How many listed directories are remembered: between this number and twice as many.
const DIRECTORIES: usize = 1 << 15;

/// The streams and the batches to read ahead. The threads that answer requests and the readahead thread share this.
#[derive(Default)]
pub(super) struct Readahead {
    state: Mutex<Streams>,
    wake: Condvar,
}

#[derive(Default)]
struct Streams {
    /// Least recently used first.
    streams: VecDeque<Stream>,
    begun: u64,
    batches: VecDeque<Batch>,
    listed: ListedDirectories,
    ended: bool,
}

/// For each directory, the last inode that the kernel got in a listing; in two generations.
#[derive(Default)]
struct ListedDirectories {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

struct Stream {
    id: u64,
    last: u64,
    reads: u32,
    /// A read from this inode on requests the next batch.
    mark: u64,
    /// The end of the last batch.
    end: u64,
    /// Whether the stream waits for a listing.
    waits: bool,
    /// The size of the next batch.
    next: u64,
}

/// Inodes to read ahead, except `mark`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Batch {
    stream: u64,
    inodes: Range<u64>,
    mark: u64,
}

impl Readahead {
    /// Notes that a directory was listed with attributes, up to an inode in it.
    pub(super) fn listed(&self, directory: u64, last: u64) {
        let mut state = self.state.lock();
        state.listed.add(directory, last);
        let batch = state.streams.iter_mut().find_map(|s| s.listed(directory, last));
        self.request(state, batch);
    }

    /// Notes that the kernel reads the beginning of a file.
    pub(super) fn read(&self, ino: u64) {
        let mut state = self.state.lock();
        let batch = state.read(ino);
        self.request(state, batch);
    }

    fn request(&self, mut state: parking_lot::MutexGuard<'_, Streams>, batch: Option<Batch>) {
        let Some(batch) = batch else { return };
        state.batches.retain(|other| other.stream != batch.stream);
        state.batches.push_back(batch);
        drop(state);
        self.wake.notify_one();
    }

    /// Reads batches ahead until [`Readahead::end`]. `give` passes an inode to the kernel; its second argument says
    /// whether the kernel knows the files of a directory up to that inode. It returns false if the kernel does not know
    /// the file.
    pub(super) fn serve(&self, give: impl Fn(u64, &dyn Fn(u64) -> bool) -> bool) {
        while let Some(batch) = self.next() {
            for ino in batch.inodes.clone().filter(|ino| *ino != batch.mark) {
                let known = |directory| self.state.lock().listed.contains(directory, ino);
                // After a panic a read of that file reports the error.
                if !catch_unwind(AssertUnwindSafe(|| give(ino, &known))).unwrap_or(true) {
                    self.state.lock().stop(&batch, ino);
                    break;
                }
            }
        }
    }

    fn next(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        while !state.ended {
            if let Some(batch) = state.batches.pop_front() {
                return Some(batch);
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

impl ListedDirectories {
    fn add(&mut self, directory: u64, last: u64) {
        if self.young.len() >= DIRECTORIES {
            self.old = std::mem::take(&mut self.young);
        }
        let upto = self.young.entry(directory).or_insert(last);
        *upto = last.max(*upto);
    }

    fn contains(&self, directory: u64, ino: u64) -> bool {
        [&self.young, &self.old].into_iter().filter_map(|g| g.get(&directory)).any(|upto| ino <= *upto)
    }
}

impl Streams {
    /// Notes a read; returns a batch to read ahead now.
    fn read(&mut self, ino: u64) -> Option<Batch> {
        let Some(at) = self
            .streams
            .iter()
            .rposition(|s| s.last.saturating_sub(MAX_DISTANCE) <= ino && ino <= s.end + MAX_DISTANCE)
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
                next: BATCH_SIZES.start,
            });
            return None;
        };
        let mut stream = self.streams.remove(at)?;
        let batch = stream.read(ino);
        self.streams.push_back(stream);
        batch
    }

    /// Notes that the kernel does not know files of the batch from `ino` on.
    fn stop(&mut self, batch: &Batch, ino: u64) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.id == batch.stream && s.end == batch.inodes.end) {
            let end = ino.max(stream.last + 1);
            (stream.mark, stream.end, stream.waits) = (end + PATIENCE, end, true);
        }
    }
}

impl Stream {
    fn read(&mut self, ino: u64) -> Option<Batch> {
        self.last = self.last.max(ino);
        self.reads = self.reads.saturating_add(1);
        if self.reads < MIN_READS || ino < self.mark {
            self.end = self.end.max(ino + 1);
            return None;
        }
        // If the reader is ahead, it reads the next files before they could be read ahead.
        let from = if ino + 1 < self.end { self.end } else { ino + 1 + SKIPPED };
        Some(self.batch(from))
    }

    /// Notes that a directory was listed up to an inode. Returns a batch if the stream waited for it.
    fn listed(&mut self, directory: u64, last: u64) -> Option<Batch> {
        let continues = self.waits && directory < self.end && self.end <= last;
        if continues { Some(self.batch(self.end)) } else { None }
    }

    fn batch(&mut self, from: u64) -> Batch {
        let inodes = from..from + self.next;
        // At three quarters: the last quarter is read while the next batch is on its way.
        self.mark = inodes.end - self.next / 4;
        self.end = inodes.end;
        self.waits = false;
        self.next = (self.next * 2).min(BATCH_SIZES.end);
        Batch { stream: self.id, inodes, mark: self.mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Simulates the kernel and the readahead thread.
    #[derive(Default)]
    struct Simulation {
        readahead: Readahead,
        given: HashSet<u64>,
        asked: usize,
    }

    impl Simulation {
        /// With one directory that contains all files.
        fn flat() -> Simulation {
            let simulation = Simulation::default();
            simulation.readahead.listed(1, u64::MAX);
            simulation
        }

        fn read(&mut self, ino: u64, directory: u64) {
            if !self.given.contains(&ino) {
                self.asked += 1;
                self.readahead.read(ino);
            }
            self.give(|_| directory);
        }

        fn give(&mut self, directory_of: impl Fn(u64) -> u64) {
            let batches: Vec<Batch> = self.readahead.state.lock().batches.drain(..).collect();
            for batch in batches {
                for ino in batch.inodes.clone().filter(|i| *i != batch.mark) {
                    if !self.readahead.state.lock().listed.contains(directory_of(ino), ino) {
                        self.readahead.state.lock().stop(&batch, ino);
                        break;
                    }
                    self.given.insert(ino);
                }
            }
        }
    }

    fn asked(files: impl Iterator<Item = u64>) -> (usize, usize) {
        let mut simulation = Simulation::flat();
        files.for_each(|ino| simulation.read(ino, 1));
        (simulation.asked, simulation.given.len())
    }

    #[test]
    fn few_of_the_files_read_in_order_are_requested() {
        let (asked, given) = asked(2..10_000);
        assert!(asked < 60, "{asked}");
        assert!(given < 10_000 + 2 * BATCH_SIZES.end as usize);
    }

    #[test]
    fn a_walk_continues_in_each_directory_as_soon_as_it_is_listed() {
        let mut simulation = Simulation::default();
        // Directories of 100 files, the directory's own number before theirs.
        let directory_of = |ino: u64| if ino.is_multiple_of(101) { 0 } else { ino - ino % 101 };
        simulation.readahead.listed(0, u64::MAX);
        for d in (1010..101 * 500).step_by(101) {
            simulation.readahead.listed(d, d + 100);
            simulation.give(directory_of);
            for ino in d + 1..=d + 100 {
                if !simulation.given.contains(&ino) {
                    simulation.asked += 1;
                    simulation.readahead.read(ino);
                }
                simulation.give(directory_of);
            }
        }
        assert!(simulation.asked < 490 * 100 / 40, "{}", simulation.asked);
    }

    #[test]
    fn reads_by_name_seldom_ask_for_files_that_the_kernel_does_not_know() {
        let mut simulation = Simulation::default();
        let mut batches = 0;
        for ino in 2..10_000 {
            simulation.readahead.read(ino);
            batches += simulation.readahead.state.lock().batches.len();
            simulation.give(|_| 1);
        }
        assert!(simulation.given.is_empty() && batches < 200, "{batches}");
        // A listing is used at once.
        simulation.readahead.listed(1, 20_000);
        simulation.give(|_| 1);
        assert!(!simulation.given.is_empty());
    }

    #[test]
    fn processes_that_share_the_files_of_a_directory_are_one_stream() {
        // Four processes, each of which takes every fourth file, a little out of step.
        let order = (0..2500).flat_map(|i| [2, 0, 3, 1].map(|p| 100 + 4 * i + p));
        assert!(asked(order).0 < 100);
    }

    #[test]
    fn two_streams_at_once_are_distinguished() {
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
    fn the_thread_reads_batches_ahead_except_their_marks_until_the_end() {
        let readahead = Readahead::default();
        readahead.listed(7, 21);
        let given = Mutex::new(Vec::new());
        std::thread::scope(|s| {
            s.spawn(|| {
                readahead.serve(|ino, known| {
                    given.lock().push(ino);
                    assert!(ino != 16, "a panic of this file");
                    assert!(!known(8));
                    known(7)
                });
            });
            (10..13).for_each(|ino| readahead.read(ino));
            while given.lock().last() != Some(&23) {
                std::thread::yield_now();
            }
            readahead.end();
        });
        assert_eq!(
            *given.lock(),
            (16..22).chain([23]).collect::<Vec<_>>(),
            "all but the mark, up to an inode that the kernel does not know"
        );
    }
}
