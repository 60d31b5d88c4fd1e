//! The records of the stat cache: a file of them is read in blocks, and new ones are merged with those that still hold,
//! so that little of either is in memory.

use super::spill::{Span, Spill};
use super::tree::SourceStat;
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::types::{Digest, Hasher};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Older caches trusted device numbers and every file system. They begin with another magic number and are not read.
const MAGIC: &[u8; 8] = b"cairnsc3";
/// Volume, inode, size, mtime, ctime: 8 bytes each; digest: 32 bytes.
pub(super) const RECORD: usize = 72;
/// How many records are read at once.
const PER_BLOCK: usize = if cfg!(test) { 2 } else { 256 };
/// How many blocks a thread keeps. Files of one directory usually have inode numbers that are close to each other.
const KEPT_BLOCKS: usize = 64;
/// How many bytes are hashed or collected before they are written.
const BUFFER: usize = 1 << 20;
/// What the runs of a merge have in memory together, as long as each has at least [`MIN_READ`] records there.
const MERGE_MEMORY: usize = 4 << 20;
const MIN_READ: usize = 16;

/// Volume and inode: the records are sorted by these.
type Key = (u64, u64);

/// A file of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    file: Option<File>,
    count: usize,
    /// The first key of each block.
    firsts: Vec<Key>,
    /// One bit for each record that was looked up and was still valid.
    held: Vec<AtomicU64>,
}

impl Records {
    /// Those of the file at `path`, if its magic number and its SHA-256 are right. The file is never changed: a new
    /// cache replaces it.
    pub(super) fn open(path: &Path) -> Option<Records> {
        Records::of(File::open(path).ok()?)
    }

    fn of(file: File) -> Option<Records> {
        let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let bytes = len.checked_sub(MAGIC.len() + 32).filter(|bytes| bytes.is_multiple_of(RECORD))?;
        let (mut hasher, mut sum) = (Hasher::new(), [0; 32]);
        let mut buffer = vec![0; (PER_BLOCK * RECORD).max(BUFFER / (PER_BLOCK * RECORD) * PER_BLOCK * RECORD)];
        file.read_exact_at(&mut buffer[..MAGIC.len()], 0).ok()?;
        if &buffer[..MAGIC.len()] != MAGIC {
            return None;
        }
        hasher.update(MAGIC);
        let mut firsts = Vec::with_capacity(bytes.div_ceil(PER_BLOCK * RECORD));
        let mut at = 0;
        while at < bytes {
            let part = buffer.len().min(bytes - at);
            file.read_exact_at(&mut buffer[..part], (MAGIC.len() + at) as u64).ok()?;
            hasher.update(&buffer[..part]);
            firsts.extend(buffer[..part].chunks(PER_BLOCK * RECORD).map(key_of));
            at += part;
        }
        file.read_exact_at(&mut sum, (MAGIC.len() + bytes) as u64).ok()?;
        let count = bytes / RECORD;
        let held = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        (hasher.finish().0 == sum).then_some(Records { file: Some(file), count, firsts, held })
    }

    /// Whether all records are still valid.
    pub(super) fn all_hold(&self) -> bool {
        self.held.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum::<usize>() == self.count
    }

    /// The records of a block. None if it cannot be read.
    fn block(&self, number: usize) -> Vec<u8> {
        let from = number * PER_BLOCK;
        let mut bytes = vec![0; PER_BLOCK.min(self.count - from) * RECORD];
        let read = self.file.as_ref().map(|file| file.read_exact_at(&mut bytes, (MAGIC.len() + from * RECORD) as u64));
        if !matches!(read, Some(Ok(()))) {
            bytes.clear();
        }
        bytes
    }

    fn holds(&self, number: usize) -> bool {
        self.held[number / 64].load(Ordering::Relaxed) >> (number % 64) & 1 == 1
    }
}

/// Looks up records, for one thread.
#[derive(Debug)]
pub(super) struct RecordLookup<'a> {
    records: &'a Records,
    kept: Vec<Option<(usize, Vec<u8>)>>,
}

impl<'a> RecordLookup<'a> {
    pub(super) fn new(records: &'a Records) -> RecordLookup<'a> {
        RecordLookup { records, kept: vec![None; KEPT_BLOCKS.min(records.firsts.len())] }
    }

    /// The digest of the record for this volume and inode, if all else of `wanted` is in it too.
    pub(super) fn get(&mut self, wanted: &SourceStat) -> Option<Digest> {
        let key = (wanted.dev, wanted.ino);
        let number = self.records.firsts.partition_point(|first| *first <= key).checked_sub(1)?;
        let kept = number % self.kept.len();
        let slot = self.kept.get_mut(kept)?;
        if slot.as_ref().is_none_or(|(of, _)| *of != number) {
            *slot = Some((number, self.records.block(number)));
        }
        let (block, _) = slot.as_ref()?.1.as_chunks::<RECORD>();
        let at = block.binary_search_by_key(&key, |record| key_of(record)).ok()?;
        let (found, digest) = decode(&block[at]);
        if found != *wanted {
            return None;
        }
        let at = number * PER_BLOCK + at;
        self.records.held[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
        Some(digest)
    }
}

/// New records, in sorted runs.
#[derive(Debug)]
pub(super) struct Runs {
    spill: Spill,
    runs: Vec<Span>,
}

impl Runs {
    /// None yet. They are spilled to the file system of `temporary`.
    pub(super) fn new(temporary: &Path) -> Runs {
        Runs { spill: Spill::new(temporary), runs: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a run of records in any order.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn add(&mut self, mut records: Vec<(SourceStat, Digest)>) -> Result<()> {
        records.sort_unstable_by_key(|(stat, _)| (stat.dev, stat.ino));
        let mut bytes = Vec::with_capacity(records.len() * RECORD);
        records.iter().for_each(|(stat, digest)| encode(stat, digest, &mut bytes));
        self.runs.push(self.spill.append(&bytes)?);
        Ok(())
    }
}

/// One of the sources of a merge.
struct Source<'a> {
    from: From<'a>,
    /// The next block of a file, or byte of a run.
    next: usize,
    /// How many records of a run are read at once.
    at_once: usize,
    block: std::vec::IntoIter<[u8; RECORD]>,
    /// The number of the next record of a file.
    number: usize,
}

enum From<'a> {
    Run(&'a Spill, Span),
    Held(&'a Records),
}

impl Source<'_> {
    fn next(&mut self) -> Result<Option<[u8; RECORD]>> {
        loop {
            for record in self.block.by_ref() {
                self.number += 1;
                match self.from {
                    From::Held(records) if !records.holds(self.number - 1) => {}
                    _ => return Ok(Some(record)),
                }
            }
            let bytes = match self.from {
                From::Run(spill, span) => {
                    let bytes = spill.read_part(span, self.next, self.at_once * RECORD)?;
                    self.next += bytes.len();
                    bytes
                }
                From::Held(records) if self.next < records.firsts.len() => {
                    self.next += 1;
                    let bytes = records.block(self.next - 1);
                    if bytes.is_empty() {
                        return Err(Error::io_message("the stat cache cannot be read"));
                    }
                    bytes
                }
                From::Held(_) => Vec::new(),
            };
            if bytes.is_empty() {
                return Ok(None);
            }
            self.block = bytes.as_chunks::<RECORD>().0.to_vec().into_iter();
        }
    }
}

/// Writes the records of `runs` and those of `records` that hold. Of several with one key, one of the runs counts.
///
/// # Errors
/// I/O.
pub(super) fn write_merged(records: &Records, runs: &Runs, out: &mut NewFile) -> Result<()> {
    let at_once = (MERGE_MEMORY / RECORD / runs.runs.len().max(1)).clamp(MIN_READ, PER_BLOCK.max(MIN_READ));
    let source = |from| Source { from, next: 0, at_once, block: Vec::new().into_iter(), number: 0 };
    let mut sources: Vec<Source<'_>> = runs.runs.iter().map(|run| source(From::Run(&runs.spill, *run))).collect();
    sources.push(source(From::Held(records)));
    let (mut heap, mut ahead) = (BinaryHeap::new(), vec![[0; RECORD]; sources.len()]);
    let mut advance = |i: usize, heap: &mut BinaryHeap<_>, ahead: &mut Vec<[u8; RECORD]>| {
        if let Some(record) = sources[i].next()? {
            heap.push(Reverse((key_of(&record), i)));
            ahead[i] = record;
        }
        Ok::<(), Error>(())
    };
    (0..ahead.len()).try_for_each(|i| advance(i, &mut heap, &mut ahead))?;
    let (mut hasher, mut buffer, mut last) = (Hasher::new(), MAGIC.to_vec(), None);
    while let Some(Reverse((key, i))) = heap.pop() {
        if last != Some(key) {
            buffer.extend_from_slice(&ahead[i]);
            last = Some(key);
        }
        advance(i, &mut heap, &mut ahead)?;
        if buffer.len() >= BUFFER {
            hasher.update(&buffer);
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    hasher.update(&buffer);
    buffer.extend_from_slice(&hasher.finish().0);
    out.write_all(&buffer)
}

fn key_of(record: &[u8]) -> Key {
    (u64_at(record, 0), u64_at(record, 8))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"))
}

fn decode(record: &[u8; RECORD]) -> (SourceStat, Digest) {
    let stat = SourceStat {
        dev: u64_at(record, 0),
        ino: u64_at(record, 8),
        size: u64_at(record, 16),
        mtime: u64_at(record, 24) as i64,
        ctime: u64_at(record, 32) as i64,
    };
    (stat, Digest(record[40..].try_into().expect("32 bytes")))
}

fn encode(stat: &SourceStat, digest: &Digest, out: &mut Vec<u8>) {
    for n in [stat.dev, stat.ino, stat.size, stat.mtime as u64, stat.ctime as u64] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&digest.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cache_and_one_of_an_older_version_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let opens = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Records::open(&path).is_some()
        };
        let cache = |magic: &[u8]| {
            let mut bytes = magic.to_vec();
            for ino in [3, 5, 9] {
                let stat = SourceStat { dev: 1, ino, size: 5, mtime: 1, ctime: 7 };
                encode(&stat, &Digest::of(b"hello"), &mut bytes);
            }
            let sum = Digest::of(&bytes);
            bytes.extend_from_slice(&sum.0);
            bytes
        };
        let bytes = cache(MAGIC);
        assert!(opens(&bytes) && !opens(&cache(b"cairnsc2")));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(!opens(&bad));
        }
        assert!(!opens(&bytes[..bytes.len() - RECORD]));
    }
}
