//! One content in a cache: a file with its bytes, in which blocks that are missing are holes, and a file with the sums
//! of the blocks that are there.
//!
//! A block counts as there when its sum is written, which comes after its bytes. So a process that is killed in
//! between, or a power cut, leaves a block that is missing or has a wrong sum: it is read again from its source. All
//! writers of a content write the same bytes, so they need no lock.

use crate::disk::{CacheDir, OpenDir};
use crate::locks::Mutex;
use crate::types::Digest;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The size of a block: what a random read of a few bytes fetches.
pub(crate) const BLOCK: u64 = 1 << 20;
/// The names of the two files.
pub(super) const DATA: &str = "data";
pub(super) const SUMS: &str = "sums";
/// The first bytes of the file of sums.
const MAGIC: &[u8; 8] = b"cairnca1";
/// The bytes before the sums: magic, size, block size and their sum (24 bytes); the state of the checked data and its
/// sum (28 bytes).
const HEADER: u64 = 64;
const STATE_AT: u64 = 24;
/// The length of a block and its sum.
const ENTRY: u64 = 8;
/// A use is noted at most once in this time.
const NOTED: Duration = Duration::from_secs(60);

thread_local! {
    /// A block of which a part is wanted, while it is checked. It is used again: new memory costs more than the check.
    static WHOLE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One content, open.
#[derive(Debug)]
pub(super) struct Content {
    key: Digest,
    size: u64,
    data: File,
    sums: File,
    checked: Mutex<Checked>,
    /// When its last use was noted, in seconds since 1970.
    noted: AtomicU64,
}

/// The blocks that this process has found to be right, while the file of the bytes is in that state.
#[derive(Debug, Default)]
struct Checked {
    state: State,
    blocks: Vec<u64>,
}

/// The state of the file of the bytes: its inode and the time of its last change. No program can set that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    inode: u64,
    changed: (i64, i64),
    gone: bool,
}

/// What is found at the place of a content.
pub(super) enum Opened {
    Missing,
    Content(Content),
    /// It is not as it should be: the directory, or something else.
    Broken(Option<OpenDir>),
}

/// Without a descriptor or the permission, what cannot be opened may be right.
fn may_be_right(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::EACCES))
}

impl Content {
    /// What the two files of a new content of `size` bytes begin with: name, length and first bytes.
    pub(super) fn files(size: u64, header: &[u8]) -> [(&'static str, u64, &[u8]); 2] {
        [(DATA, size, &[][..]), (SUMS, HEADER + size.div_ceil(BLOCK) * ENTRY, header)]
    }

    /// The beginning of the file of sums.
    pub(super) fn header(size: u64) -> Vec<u8> {
        let mut header = [&MAGIC[..], &size.to_le_bytes(), &(BLOCK as u32).to_le_bytes()].concat();
        header.extend(crc32fast::hash(&header).to_le_bytes());
        header
    }

    /// Opens the content in the directory `dir`.
    ///
    /// # Errors
    /// The system's: it cannot be opened, and it may be right.
    pub(super) fn open(dir: &Path, key: &Digest) -> io::Result<Opened> {
        let opened = match CacheDir::open_dir(dir) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Opened::Missing),
            Err(e) if may_be_right(&e) => return Err(e),
            Err(_) => return Ok(Opened::Broken(None)),
        };
        match Content::open_in(&opened, key) {
            Ok(content) => Ok(Opened::Content(content)),
            Err(e) if may_be_right(&e) => Err(e),
            Err(_) => Ok(Opened::Broken(Some(opened))),
        }
    }

    fn open_in(dir: &OpenDir, key: &Digest) -> io::Result<Content> {
        let (sums, data) = (dir.open_to_fill(SUMS)?, dir.open_to_fill(DATA)?);
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let mut header = [0; STATE_AT as usize];
        sums.read_exact_at(&mut header, 0)?;
        let size = u64::from_le_bytes(header[8..16].try_into().map_err(|_| wrong())?);
        let meta = sums.metadata()?;
        let right = header[..] == Content::header(size)
            && data.metadata()?.len() == size
            && meta.len() == HEADER + size.div_ceil(BLOCK) * ENTRY;
        if !right {
            return Err(wrong());
        }
        let used = meta.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let noted = AtomicU64::new(used.map_or(0, |at| at.as_secs()));
        Ok(Content { key: *key, size, data, sums, checked: Mutex::cache(), noted })
    }

    /// Its size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The file with its bytes.
    pub(super) fn data(&self) -> &File {
        &self.data
    }

    /// Whether the directory at `path` has its bytes.
    pub(super) fn is_in(&self, path: &Path) -> bool {
        let found = std::fs::symlink_metadata(path.join(DATA));
        found.is_ok_and(|meta| self.state().is_some_and(|state| state.inode == meta.ino()))
    }

    /// Whether it was removed from the cache.
    pub(super) fn is_gone(&self) -> bool {
        self.state().is_none_or(|state| state.gone)
    }

    /// Notes that it is used now.
    pub(super) fn note_use(&self, dir: &CacheDir) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |at| at.as_secs());
        if now.abs_diff(self.noted.load(Ordering::Relaxed)) >= NOTED.as_secs() {
            self.noted.store(now, Ordering::Relaxed);
            dir.touch(&self.sums);
        }
    }

    fn state(&self) -> Option<State> {
        let meta = self.data.metadata().ok()?;
        Some(State { inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()), gone: meta.nlink() == 0 })
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    /// The length of a block.
    fn length(&self, number: u64) -> usize {
        self.size.saturating_sub(number * BLOCK).min(BLOCK) as usize
    }

    /// Reads a part of a block into `out`. `false`: the block is missing or damaged. A block is checked when this
    /// process first reads it, and again if the file was written to since.
    pub(super) fn read(&self, number: u64, from: usize, out: &mut [u8]) -> bool {
        let length = self.length(number);
        if number >= self.blocks() || from + out.len() > length {
            return false;
        }
        let Some(before) = self.state() else { return false };
        let at = number * BLOCK + from as u64;
        let known = self.checked.lock().has(before, number);
        if known && self.data.read_exact_at(out, at).is_ok() && self.state() == Some(before) {
            return true;
        }
        let right = if out.len() == length {
            self.read_checked(number, out)
        } else {
            let mut whole = WHOLE.take();
            whole.resize(length, 0);
            let right = self.read_checked(number, &mut whole);
            out.copy_from_slice(&whole[from..from + out.len()]);
            WHOLE.set(whole);
            right
        };
        if right {
            self.checked.lock().add(before, number, self.blocks());
        }
        right
    }

    /// Reads a whole block and compares it with its sum. (The sum of a damaged block stays: another thread may just
    /// have written the block again.)
    fn read_checked(&self, number: u64, out: &mut [u8]) -> bool {
        let Some(wanted) = self.sum(number) else { return false };
        self.data.read_exact_at(out, number * BLOCK).is_ok() && wanted == entry(&self.key, number, out)
    }

    /// What is noted of a block, if it is there.
    fn sum(&self, number: u64) -> Option<[u8; ENTRY as usize]> {
        let mut found = [0; ENTRY as usize];
        self.sums.read_exact_at(&mut found, HEADER + number * ENTRY).ok()?;
        (found != [0; ENTRY as usize]).then_some(found)
    }

    /// Whether a block is noted as being there.
    pub(super) fn has(&self, number: u64) -> bool {
        number < self.blocks() && self.sum(number).is_some()
    }

    /// Writes a block.
    ///
    /// # Errors
    /// The system's: the block counts as missing, unless another process wrote it.
    pub(super) fn fill(&self, number: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() != self.length(number) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.data.write_all_at(bytes, number * BLOCK)?;
        self.sums.write_all_at(&entry(&self.key, number, bytes), HEADER + number * ENTRY)
    }

    /// Whether all blocks are there.
    pub(super) fn is_complete(&self) -> bool {
        let mut table = vec![0; (self.blocks() * ENTRY) as usize];
        self.sums.read_exact_at(&mut table, HEADER).is_ok()
            && table.chunks_exact(ENTRY as usize).all(|found| found != [0; ENTRY as usize])
    }

    /// Whether all of it was checked by [`Content::check_all`], and its file was not written to since.
    pub(super) fn was_checked(&self) -> bool {
        let mut found = [0; 28];
        let read = self.sums.read_exact_at(&mut found, STATE_AT).is_ok();
        read && self.state().is_some_and(|state| !state.gone && found == state.record(&self.key))
    }

    /// Makes its bytes durable, checks all of them and notes that. `see` gets the blocks in order. `false`: a block is
    /// missing or damaged, or it was written to meanwhile.
    pub(super) fn check_all(&self, see: &mut dyn FnMut(&[u8])) -> bool {
        if CacheDir::sync(&self.data).is_err() {
            return false;
        }
        let Some(before) = self.state() else { return false };
        let mut block = vec![0; self.size.min(BLOCK) as usize];
        for number in 0..self.blocks() {
            block.truncate(self.length(number));
            if !self.read_checked(number, &mut block) {
                return false;
            }
            see(&block);
        }
        self.state() == Some(before)
    }

    /// Notes that all of it was checked in the state that it has now.
    pub(super) fn note_checked(&self) {
        if let Some(state) = self.state() {
            drop(self.sums.write_all_at(&state.record(&self.key), STATE_AT));
        }
    }
}

impl State {
    fn record(&self, key: &Digest) -> [u8; 28] {
        let mut record = [0; 28];
        record[..8].copy_from_slice(&self.inode.to_le_bytes());
        record[8..16].copy_from_slice(&self.changed.0.to_le_bytes());
        record[16..24].copy_from_slice(&self.changed.1.to_le_bytes());
        let sum = crc32fast::hash(&[&key.0[..], &record[..24]].concat());
        record[24..].copy_from_slice(&sum.to_le_bytes());
        record
    }
}

impl Checked {
    fn has(&self, state: State, number: u64) -> bool {
        let word = self.blocks.get((number / 64) as usize);
        self.state == state && word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn add(&mut self, state: State, number: u64, blocks: u64) {
        if self.state != state {
            self.blocks.clear();
            self.state = state;
        }
        self.blocks.resize(blocks.div_ceil(64) as usize, 0);
        self.blocks[(number / 64) as usize] |= 1 << (number % 64);
    }
}

/// What is noted of a block: its length, and the sum of its key, number and bytes.
fn entry(key: &Digest, number: u64, bytes: &[u8]) -> [u8; ENTRY as usize] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&key.0);
    sum.update(&number.to_le_bytes());
    sum.update(bytes);
    let mut entry = [0; ENTRY as usize];
    entry[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    entry[4..].copy_from_slice(&sum.finalize().to_le_bytes());
    entry
}
