//! Storing the files of a tree that was put together entry by entry, in parallel; blobs go into packs in path order.

use super::earlier::{EarlierBelow, PathLookup};
use super::sink::Sink;
use super::stored::Stored;
use super::tree::{Body, FileBody, SourceTree};
use super::worker::Worker;
use crate::error::Result;
use crate::locks::Mutex;
use crate::objects::COMPOSED_MIN;
use crate::progress::{Activity, Progress};
use crate::threads;

/// A piece of work: consecutive files of at most this many, or of at most these many bytes unless it is one file.
pub(super) const PIECE_FILES: usize = 256;
pub(super) const PIECE_BYTES: u64 = 8 << 20;
/// This much is stored by one thread, into one pack.
const ALONE_FILES: u64 = 64;
const ALONE_BYTES: u64 = 4 << 20;

/// How many threads store that much.
pub(super) fn threads_for(files: u64, bytes: u64, threads_for_many: fn() -> usize) -> usize {
    if files <= ALONE_FILES && bytes <= ALONE_BYTES { 1 } else { threads_for_many().max(1) }
}

/// One file to store: which directory and item, and its size as found.
struct Slot {
    dir: u32,
    item: u32,
    size: u64,
}

/// Stores every file of `tree` and replaces its body by what was stored.
///
/// # Errors
/// I/O: a file vanished, cannot be read, or keeps changing, by name; those of the store.
pub fn store_files(
    tree: &mut SourceTree,
    sink: &Sink<'_>,
    earlier: Option<EarlierBelow<'_>>,
    threads_for_many: fn() -> usize,
    progress: &Progress,
) -> Result<()> {
    progress.set_activity(Activity::Storing);
    let slots = slots(tree);
    let bytes: u64 = slots.iter().map(|s| s.size).sum();
    let threads = threads_for(slots.len() as u64, bytes, threads_for_many);
    let pieces = pieces(&slots);
    let done = Mutex::new(Vec::with_capacity(pieces.len()));
    let tree_ref = &*tree;
    let is_any_large = slots.iter().any(|slot| slot.size >= COMPOSED_MIN);
    let paths = earlier.filter(|_| is_any_large).map(|below| PathLookup::new(tree_ref, below.at));
    threads::for_each_with(
        threads,
        &pieces,
        || Worker::new(sink, earlier, progress),
        |worker, &(from, to)| {
            let store = |slot| store(worker, tree_ref, paths.as_ref(), slot);
            let stored = slots[from..to].iter().map(store).collect::<Result<Vec<_>>>()?;
            done.lock().push((from, stored));
            Ok(())
        },
        Worker::close,
    )?;
    for (from, stored) in done.into_inner() {
        for (slot, stored) in slots[from..].iter().zip(stored) {
            if let Body::File { body, .. } = &mut tree.dirs[slot.dir as usize].items[slot.item as usize].body {
                *body = FileBody::Stored(stored);
            }
        }
    }
    sink.stored(progress);
    Ok(())
}

/// Stores one file.
fn store(worker: &mut Worker<'_>, tree: &SourceTree, paths: Option<&PathLookup<'_>>, slot: &Slot) -> Result<Stored> {
    worker.begin(slot.size, || paths?.path_of(slot.dir, slot.item))?;
    let item = &tree.dirs[slot.dir as usize].items[slot.item as usize];
    let Body::File { body, .. } = &item.body else { unreachable!("slots are files") };
    let stored = match body {
        FileBody::Stored(stored) => *stored,
        FileBody::Bytes(bytes) => worker.bytes(bytes)?,
        FileBody::Disk(path, stat) => worker.added(path, stat)?,
        FileBody::Fetched(reference) => worker.fetched(reference)?,
    };
    worker.end(slot.size);
    Ok(stored)
}

/// All files not stored yet, in path order.
fn slots(tree: &SourceTree) -> Vec<Slot> {
    fn visit(tree: &SourceTree, dir: u32, out: &mut Vec<Slot>) {
        for (i, item) in tree.dirs[dir as usize].items.iter().enumerate() {
            match &item.body {
                Body::Directory(child) => visit(tree, *child, out),
                Body::File { body, .. } => {
                    let size = match body {
                        FileBody::Disk(_, stat) => stat.size,
                        FileBody::Bytes(bytes) => bytes.len() as u64,
                        FileBody::Fetched(reference) => reference.size.unwrap_or(0),
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
