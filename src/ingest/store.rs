//! Reading, hashing and storing the files of a tree in one pass, in parallel; blobs go into packs in path order.
//!
//! A file's digest is that of the bytes stored. A file that changes while it is read is read again, then refused (case 9).

use super::stat_cache::StatCache;
use super::tree::{Body, FileBody, Stat, Stored, Tree};
use crate::error::{Error, Result, show_path};
use crate::objects::{Lane, ObjectWriter, SMALL_MAX};
use crate::progress::Progress;
use crate::words::Digest;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A piece of work: consecutive files of at most this many, or of at most these many bytes unless it is one file.
const PIECE_FILES: usize = 256;
const PIECE_BYTES: u64 = 8 << 20;
/// Trees of at most this much are stored by one thread, into one pack.
const ALONE_FILES: usize = 64;
const ALONE_BYTES: u64 = 4 << 20;
/// How often a file that changes under the reader is read again.
const TRIES: u32 = 3;

/// Where blobs go: into a store, or nowhere when only digests are wanted.
pub enum Sink<'a> {
    /// Into a store.
    Store(&'a ObjectWriter),
    /// Hashed only.
    Nowhere,
}

/// One file to store: which directory and item, and its size as found.
struct Slot {
    dir: u32,
    item: u32,
    size: u64,
}

/// Stores every file of `tree` and replaces its body by what was stored. Returns the scanned files that were read, as they were then, for the stat cache.
///
/// # Errors
/// I/O: a file vanished, cannot be read, or keeps changing, by name; those of the store.
pub fn store_files(tree: &mut Tree, sink: &Sink<'_>, cache: Option<&StatCache>, threads: fn() -> usize, progress: &Progress) -> Result<Vec<(Stat, Digest)>> {
    let slots = slots(tree);
    let bytes: u64 = slots.iter().map(|s| s.size).sum();
    let threads = if slots.len() <= ALONE_FILES && bytes <= ALONE_BYTES { 1 } else { threads().max(1) };
    let pieces = pieces(&slots);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((Vec::with_capacity(pieces.len()), None::<Error>));
    let read = Mutex::new(Vec::new());
    let tree_ref = &*tree;
    let work = || {
        let mut worker = Worker::new(sink, cache, progress);
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(from, to)) = pieces.get(at) else { break };
            let done: Result<Vec<Stored>> = (from..to).map(|i| worker.store(tree_ref, &slots[i], i as u32)).collect();
            match done {
                Ok(done) => results.lock().0.push((from, done)),
                Err(e) => {
                    failed.store(true, Ordering::Relaxed);
                    results.lock().1.get_or_insert(e);
                }
            }
        }
        read.lock().push(std::mem::take(&mut worker.read));
        if let Err(e) = worker.close() {
            failed.store(true, Ordering::Relaxed);
            results.lock().1.get_or_insert(e);
        }
    };
    std::thread::scope(|s| {
        for _ in 1..threads {
            s.spawn(work);
        }
        work();
    });
    let (done, error) = results.into_inner();
    if let Some(e) = error {
        return Err(e);
    }
    for (from, stored) in done {
        for (slot, stored) in slots[from..].iter().zip(stored) {
            if let Body::File { body, .. } = &mut tree.dirs[slot.dir as usize].items[slot.item as usize].body {
                *body = FileBody::Stored(stored);
            }
        }
    }
    // Only now, with the results gone: for a million files each of these takes as much memory as the tree.
    let read = read.into_inner();
    let mut remember = Vec::with_capacity(read.iter().map(Vec::len).sum());
    for (at, stat) in read.into_iter().flatten() {
        let slot = &slots[at as usize];
        if let Body::File { body: FileBody::Stored(stored), .. } = &tree.dirs[slot.dir as usize].items[slot.item as usize].body {
            remember.push((stat, stored.digest));
        }
    }
    Ok(remember)
}

/// All files not stored yet, in path order.
fn slots(tree: &Tree) -> Vec<Slot> {
    fn visit(tree: &Tree, dir: u32, out: &mut Vec<Slot>) {
        for (i, item) in tree.dirs[dir as usize].items.iter().enumerate() {
            match &item.body {
                Body::Directory(child) => visit(tree, *child, out),
                Body::File { body, .. } => {
                    let size = match body {
                        FileBody::Scanned(stat) | FileBody::Disk(_, stat) => stat.size,
                        FileBody::Bytes(bytes) => bytes.len() as u64,
                        FileBody::Stored(_) => continue,
                    };
                    out.push(Slot { dir, item: i as u32, size });
                }
                Body::Symlink(_) | Body::Reference(_) => {}
            }
        }
    }
    let mut out = Vec::new();
    visit(tree, 0, &mut out);
    out
}

/// Cuts the files into pieces of work.
fn pieces(slots: &[Slot]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (i, slot) in slots.iter().enumerate() {
        if i > from && (i - from == PIECE_FILES || bytes + slot.size > PIECE_BYTES) {
            out.push((from, i));
            (from, bytes) = (i, 0);
        }
        bytes += slot.size;
    }
    if from < slots.len() {
        out.push((from, slots.len()));
    }
    out
}

/// One thread's lane and buffer.
struct Worker<'a> {
    lane: Option<Lane<'a>>,
    cache: Option<&'a StatCache>,
    progress: &'a Progress,
    buffer: Vec<u8>,
    /// Scanned files that were read, by their slots, as they were then.
    read: Vec<(u32, Stat)>,
    /// Bytes of the file at hand that were counted while it was read.
    counted: u64,
}

impl<'a> Worker<'a> {
    fn new(sink: &Sink<'a>, cache: Option<&'a StatCache>, progress: &'a Progress) -> Self {
        let lane = match sink {
            Sink::Store(writer) => Some(writer.lane()),
            Sink::Nowhere => None,
        };
        Worker { lane, cache, progress, buffer: Vec::new(), read: Vec::new(), counted: 0 }
    }

    fn close(self) -> Result<()> {
        self.lane.map_or(Ok(()), Lane::close)
    }

    fn store(&mut self, tree: &Tree, slot: &Slot, at: u32) -> Result<Stored> {
        self.progress.go_on()?;
        let directory = &tree.dirs[slot.dir as usize];
        let item = &directory.items[slot.item as usize];
        let Body::File { body, .. } = &item.body else { unreachable!("slots are files") };
        let stored = match body {
            FileBody::Stored(stored) => *stored,
            FileBody::Bytes(bytes) => self.bytes(bytes)?,
            FileBody::Disk(path, stat) => self.file(|| path.to_path_buf(), stat, Found::AtAdd)?.0,
            FileBody::Scanned(stat) => {
                let source = directory.source.as_ref().expect("a scanned file's directory knows its source");
                let (stored, seen) = self.file(|| source.join(std::ffi::OsStr::from_bytes(&item.name)), stat, Found::ByScan)?;
                self.read.extend(seen.filter(|_| self.cache.is_some()).map(|stat| (at, stat)));
                stored
            }
        };
        self.progress.done(1, slot.size.saturating_sub(self.counted));
        self.counted = 0;
        Ok(stored)
    }

    /// Stores bytes at hand.
    fn bytes(&mut self, bytes: &Arc<[u8]>) -> Result<Stored> {
        let digest = Digest::of(bytes);
        let place = match &mut self.lane {
            None => None,
            Some(lane) if (bytes.len() as u64) < SMALL_MAX => Some(lane.put_small(digest, bytes)?.place),
            Some(lane) => {
                lane.put_large_bytes(digest, bytes)?;
                None
            }
        };
        Ok(Stored { digest, size: bytes.len() as u64, place })
    }

    /// Stores a file, by what is remembered of it if that is stored already. Where it was read, what it was then.
    fn file(&mut self, path: impl Fn() -> PathBuf, stat: &Stat, found: Found) -> Result<(Stored, Option<Stat>)> {
        if let Some(digest) = self.cache.and_then(|c| c.get(stat)) {
            match &mut self.lane {
                None => return Ok((Stored { digest, size: stat.size, place: None }, None)),
                Some(lane) => {
                    if let Some(known) = lane.find(&digest, stat.size)? {
                        return Ok((Stored { digest, size: stat.size, place: known }, None));
                    }
                }
            }
        }
        let path = path();
        for _ in 0..TRIES {
            if let Some((stored, seen)) = self.read(&path, stat, found)? {
                return Ok((stored, Some(seen)));
            }
        }
        Err(Error::io_message(format!("{} changes while it is read", show_path(&path))).hint("say it again when nobody writes to it; nothing was published"))
    }

    /// Reads a file once; `None` when it changed meanwhile.
    fn read(&mut self, path: &Path, stat: &Stat, found: Found) -> Result<Option<(Stored, Stat)>> {
        let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).map_err(|e| Error::io("open", path, e))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
        let before = Stat::of(&meta);
        if !meta.is_file() || (found == Found::AtAdd && before != *stat) {
            return Err(Error::io_message(format!("{} changed since it was added", show_path(path))).hint("add it again; nothing was published"));
        }
        let (stored, taken) = if before.size < SMALL_MAX { (self.read_small(&file, path, before.size)?, false) } else { self.read_large(&file, path)? };
        if taken {
            return Ok(stored.map(|s| (s, before))); // it is the store's by now, and was looked at when it became so
        }
        let after = Stat::of(&file.metadata().map_err(|e| Error::io("look at", path, e))?);
        Ok(stored.filter(|s| before == after && s.size == after.size).map(|s| (s, before)))
    }

    fn read_small(&mut self, file: &File, path: &Path, size: u64) -> Result<Option<Stored>> {
        self.buffer.clear();
        self.buffer.reserve(size as usize + 1);
        file.take(SMALL_MAX).read_to_end(&mut self.buffer).map_err(|e| Error::io("read", path, e))?;
        if self.buffer.len() as u64 != size {
            return Ok(None);
        }
        let digest = Digest::of(&self.buffer);
        let place = self.lane.as_mut().map(|lane| lane.put_small(digest, &self.buffer)).transpose()?.map(|p| p.place);
        Ok(Some(Stored { digest, size, place }))
    }

    /// What was stored, and whether the file itself was taken over.
    fn read_large(&mut self, file: &File, path: &Path) -> Result<(Option<Stored>, bool)> {
        let (progress, counted) = (self.progress, &mut self.counted);
        *counted = 0;
        let mut tick = |bytes: u64| {
            *counted += bytes;
            progress.done(0, bytes);
            progress.go_on()
        };
        let ((digest, size), taken) = match &mut self.lane {
            Some(lane) => {
                let put = lane.put_large(file, path, &mut tick)?;
                ((put.digest, put.size), put.taken)
            }
            None => (hash_all(file, path, &mut self.buffer, &mut tick)?, false),
        };
        Ok((Some(Stored { digest, size, place: None }), taken))
    }
}

/// When a file's stat was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// By the walk of this very save: what counts is what is read now.
    ByScan,
    /// When the user added it: it must still be that.
    AtAdd,
}

fn hash_all(mut file: &File, path: &Path, buffer: &mut Vec<u8>, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<(Digest, u64)> {
    let mut hasher = crate::words::Hasher::new();
    let mut size = 0;
    buffer.resize(1 << 20, 0);
    loop {
        let n = file.read(buffer).map_err(|e| Error::io("read", path, e))?;
        if n == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
        tick(n as u64)?;
    }
}
