//! Reading, hashing and storing the files of a tree in one pass, in parallel; blobs go into packs in path order.
//!
//! A file's digest is that of the bytes stored. A file that changes while it is read is read again, then refused.

use super::earlier::{EarlierBelow, EarlierFiles, EarlierLookup};
use super::fetched::{Fetched, fetch};
use super::source::{KeptDirs, SourceDir, changed};
use super::stat_cache::{StatCache, StatKey, clock_now};
use super::tree::{Body, FileBody, SourceStat, SourceTree, Stored};
use crate::disk::{DirHandle, FileStat, Follow, hash_file, read_to_expected_end, stat_file};
use crate::error::{Error, Result, show_path};
use crate::locks::Mutex;
use crate::manifest::Reference;
use crate::objects::{COMPOSED_MIN, Earlier, ObjectWriter, SMALL_MAX, ThreadWriter};
use crate::progress::{Activity, Progress};
use crate::remote::shown_uri;
use crate::threads;
use crate::types::Digest;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// Stores every file of `tree` and replaces its body by what was stored. Returns the files that were read and can be
/// remembered, for the stat cache.
///
/// # Errors
/// I/O: a file vanished, cannot be read, or keeps changing, by name; those of the store.
pub fn store_files(
    tree: &mut SourceTree,
    sink: &Sink<'_>,
    cache: Option<&StatCache>,
    earlier: Option<EarlierBelow<'_>>,
    threads_for_many: fn() -> usize,
    progress: &Progress,
) -> Result<Vec<(StatKey, Digest)>> {
    progress.set_activity(Activity::Storing);
    let slots = slots(tree);
    let bytes: u64 = slots.iter().map(|s| s.size).sum();
    let threads = if slots.len() <= ALONE_FILES && bytes <= ALONE_BYTES { 1 } else { threads_for_many().max(1) };
    let pieces = pieces(&slots);
    let done = Mutex::new(Vec::with_capacity(pieces.len()));
    let read = Mutex::new(Vec::new());
    let tree_ref = &*tree;
    let is_any_large = slots.iter().any(|slot| slot.size >= COMPOSED_MIN);
    let earlier = earlier.filter(|_| is_any_large).map(|below| EarlierLookup::new(tree_ref, below));
    threads::for_each_with(
        threads,
        &pieces,
        || Worker { earlier: earlier.as_ref(), ..Worker::new(sink, cache, KeptDirs::new(threads), progress) },
        |worker, &(from, to)| {
            let stored = (from..to).map(|i| worker.store(tree_ref, &slots[i], i as u32)).collect::<Result<Vec<_>>>()?;
            done.lock().push((from, stored));
            Ok(())
        },
        |mut worker| {
            read.lock().push(std::mem::take(&mut worker.read));
            worker.close()
        },
    )?;
    let done = done.into_inner();
    for (from, stored) in done {
        for (slot, stored) in slots[from..].iter().zip(stored) {
            if let Body::File { body, .. } = &mut tree.dirs[slot.dir as usize].items[slot.item as usize].body {
                *body = FileBody::Stored(stored);
            }
        }
    }
    if matches!(sink, Sink::Store(_)) {
        progress.set_activity(Activity::MakingDurable); // what follows is the manifest and the writes to disk
    }
    // Only now, with the results gone: for a million files each of these takes as much memory as the tree.
    Ok(to_remember(tree, &slots, read.into_inner()))
}

/// The files that were read, each with the digest that was stored.
fn to_remember(tree: &SourceTree, slots: &[Slot], read: Vec<Vec<(u32, StatKey)>>) -> Vec<(StatKey, Digest)> {
    let mut remember = Vec::with_capacity(read.iter().map(Vec::len).sum());
    for (at, key) in read.into_iter().flatten() {
        let slot = &slots[at as usize];
        if let Body::File { body: FileBody::Stored(stored), .. } =
            &tree.dirs[slot.dir as usize].items[slot.item as usize].body
        {
            remember.push((key, stored.digest));
        }
    }
    remember
}

/// All files not stored yet, in path order.
fn slots(tree: &SourceTree) -> Vec<Slot> {
    fn visit(tree: &SourceTree, dir: u32, out: &mut Vec<Slot>) {
        for (i, item) in tree.dirs[dir as usize].items.iter().enumerate() {
            match &item.body {
                Body::Directory(child) => visit(tree, *child, out),
                Body::File { body, .. } => {
                    let size = match body {
                        FileBody::Scanned { stat, .. } | FileBody::Disk(_, stat) => stat.size,
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

/// One thread's lane and buffer.
struct Worker<'a> {
    lane: Option<ThreadWriter<'a>>,
    cache: Option<&'a StatCache>,
    progress: &'a Progress,
    buffer: Vec<u8>,
    handles: KeptDirs,
    /// The directory of the tree that was read in last, open.
    open: Option<(u32, Arc<DirHandle>)>,
    /// Scanned files that were read and can be remembered, by their slots.
    read: Vec<(u32, StatKey)>,
    /// Bytes of the file at hand that were counted while it was read.
    counted: u64,
    earlier: Option<&'a EarlierLookup<'a>>,
    /// The directory and item of the file at hand.
    current: (u32, u32),
}

/// A scanned file: where it is and what it was.
struct Scanned<'a> {
    dir: u32,
    source: &'a Arc<SourceDir>,
    name: &'a [u8],
    stat: &'a SourceStat,
    /// Whether it is on the same mount as its directory.
    here: bool,
}

impl Scanned<'_> {
    fn path(&self) -> PathBuf {
        self.source.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(self.name))
    }

    fn name(&self) -> Result<CString> {
        CString::new(self.name).map_err(|_| Error::usage(format!("{} has a NUL in its name", show_path(&self.path()))))
    }
}

impl<'a> Worker<'a> {
    fn new(sink: &Sink<'a>, cache: Option<&'a StatCache>, handles: KeptDirs, progress: &'a Progress) -> Self {
        let lane = match sink {
            Sink::Store(writer) => Some(writer.thread_writer()),
            Sink::Nowhere => None,
        };
        let (buffer, read, current) = (Vec::new(), Vec::new(), (0, 0));
        Worker { lane, cache, progress, buffer, handles, open: None, read, counted: 0, earlier: None, current }
    }

    fn close(self) -> Result<()> {
        self.lane.map_or(Ok(()), ThreadWriter::close)
    }

    fn store(&mut self, tree: &SourceTree, slot: &Slot, at: u32) -> Result<Stored> {
        self.progress.check_cancelled()?;
        self.current = (slot.dir, slot.item);
        let directory = &tree.dirs[slot.dir as usize];
        let item = &directory.items[slot.item as usize];
        let Body::File { body, .. } = &item.body else { unreachable!("slots are files") };
        let stored = match body {
            FileBody::Stored(stored) => *stored,
            FileBody::Bytes(bytes) => self.bytes(bytes)?,
            FileBody::Disk(path, stat) => self.added(path, stat)?,
            FileBody::Fetched(reference) => self.fetched(reference)?,
            FileBody::Scanned { stat, here } => {
                let source = directory.source.as_ref().expect("a scanned file's directory knows its source");
                self.scanned(&Scanned { dir: slot.dir, source, name: &item.name, stat, here: *here }, at)?
            }
        };
        self.progress.add_done(1, slot.size.saturating_sub(self.counted));
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

    /// Stores what a reference names.
    fn fetched(&mut self, reference: &Reference) -> Result<Stored> {
        let dir = self.lane.as_ref().map_or_else(std::env::temp_dir, |lane| lane.directory().to_path_buf());
        let (fetched, bytes) = fetch(reference, &dir, self.progress)?;
        self.counted = bytes;
        let file = match fetched {
            Fetched::Small(bytes) => return self.bytes(&bytes.into()),
            Fetched::Large(file) => file,
        };
        let path = || PathBuf::from(shown_uri(&reference.uri));
        let read = self.read(&file, &path, bytes)?.filter(|(stored, _)| stored.size == bytes);
        read.map(|(stored, _)| stored).ok_or_else(|| unsteady(&path()))
    }

    /// Stores a file that was found by the walk of this very save, by what is remembered of it if that is stored
    /// already. What counts is what is read now.
    fn scanned(&mut self, file: &Scanned<'_>, at: u32) -> Result<Stored> {
        if let Some(stored) = self.remembered(file)? {
            return Ok(stored);
        }
        let dir = self.directory(file)?;
        let name = file.name()?;
        for _ in 0..TRIES {
            let open = file.source.open_file(&dir, &name).map_err(|e| match e.raw_os_error() {
                Some(libc::ELOOP) if file.source.follow() == Follow::No => changed(&file.path(), "it became a symlink"),
                _ => Error::io("open", &file.path(), e),
            })?;
            if let Some(stored) = self.read_scanned(&open, file, at)? {
                return Ok(stored);
            }
        }
        Err(unsteady(&file.path()))
    }

    /// The stored content of a file without reading it: its attributes are as remembered, and its content is stored.
    fn remembered(&mut self, file: &Scanned<'_>) -> Result<Option<Stored>> {
        let (Some(cache), Some(home)) = (self.cache.filter(|_| file.here), file.source.home()) else { return Ok(None) };
        let Some(volume) = &home.volume else { return Ok(None) };
        let Some(digest) = cache.get(file.stat, volume) else { return Ok(None) };
        if volume.network {
            // The attributes that this host has cached may be older than what another host wrote and closed.
            let now = self.directory(file)?.stat_at_server(&file.name()?, file.source.follow());
            if !now.is_ok_and(|now| home.holds(&now) && cache.get(&now.into(), volume) == Some(digest)) {
                return Ok(None);
            }
        }
        let size = file.stat.size;
        let place = match &mut self.lane {
            None => Some(None),
            Some(lane) => lane.find(&digest, size)?,
        };
        Ok(place.map(|place| Stored { digest, size, place }))
    }

    /// The directory of a file, open.
    fn directory(&mut self, file: &Scanned<'_>) -> Result<Arc<DirHandle>> {
        if let Some((dir, handle)) = &self.open
            && *dir == file.dir
        {
            return Ok(handle.clone());
        }
        let handle = file.source.open(&mut self.handles)?;
        self.open = Some((file.dir, handle.clone()));
        Ok(handle)
    }

    /// Reads a scanned file once; `None` when it changed meanwhile.
    fn read_scanned(&mut self, open: &File, file: &Scanned<'_>, at: u32) -> Result<Option<Stored>> {
        let path = || file.path();
        let mut before = stat_open(open, &path)?;
        if !before.is_file() {
            return Err(changed(&path(), "it was a file and is not any more"));
        }
        let (cache, home) = (self.cache, file.source.home());
        // Large files are worth a tick of the clock, since they are hashed again if they can't be remembered.
        let wait = (before.size >= SMALL_MAX).then(|| cache?.wait_for_tick(&before, home?, clock_now())).flatten();
        if let Some(wait) = wait {
            std::thread::sleep(wait);
            before = stat_open(open, &path)?;
        }
        let proof = cache.zip(home).and_then(|(cache, home)| cache.before(open, &before, home, clock_now()));
        let Some((stored, taken)) = self.read(open, &path, before.size)? else { return Ok(None) };
        if taken {
            return Ok(Some(stored)); // the store has taken it over, and checked it then
        }
        let after = stat_open(open, &path)?;
        if after != before || stored.size != after.size {
            return Ok(None);
        }
        let key = cache.zip(proof).and_then(|(cache, proof)| cache.after(proof, open, clock_now()));
        self.read.extend(key.map(|key| (at, key)));
        Ok(Some(stored))
    }

    /// Stores a file that the user added by its path: it must still be what it was then.
    fn added(&mut self, path: &Path, stat: &SourceStat) -> Result<Stored> {
        for _ in 0..TRIES {
            let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
            let file = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)
                .map_err(|e| Error::io("open", path, e))?;
            let before = stat_open(&file, &|| path.to_path_buf())?;
            if !before.is_file() || SourceStat::from(before) != *stat {
                return Err(Error::io_message(format!("{} changed since it was added", show_path(path)))
                    .with_hint("add it again; nothing was published"));
            }
            let Some((stored, taken)) = self.read(&file, &|| path.to_path_buf(), before.size)? else { continue };
            if taken || (stat_open(&file, &|| path.to_path_buf())? == before && stored.size == before.size) {
                return Ok(stored);
            }
        }
        Err(unsteady(path))
    }

    /// Reads a file once: what was stored, and whether the file itself was taken over. `None` when it has another
    /// size.
    fn read(&mut self, file: &File, path: &dyn Fn() -> PathBuf, size: u64) -> Result<Option<(Stored, bool)>> {
        if size < SMALL_MAX {
            return Ok(self.read_small(file, path, size)?.map(|stored| (stored, false)));
        }
        let lookup = self.earlier.filter(|_| size >= COMPOSED_MIN);
        let earlier = lookup.and_then(|lookup| Some((lookup.find(self.current)?, lookup.files())));
        self.read_large(file, &path(), earlier).map(Some)
    }

    fn read_small(&mut self, file: &File, path: &dyn Fn() -> PathBuf, size: u64) -> Result<Option<Stored>> {
        // One byte more than it should have: so one call reads it, and shows that it ends there.
        self.buffer.resize(size as usize + 1, 0);
        let n = read_to_expected_end(file, &mut self.buffer).map_err(|e| Error::io("read", &path(), e))?;
        self.buffer.truncate(n);
        if n as u64 != size {
            return Ok(None);
        }
        let digest = Digest::of(&self.buffer);
        let place = self.lane.as_mut().map(|lane| lane.put_small(digest, &self.buffer)).transpose()?.map(|p| p.place);
        Ok(Some(Stored { digest, size, place }))
    }

    /// What was stored, and whether the file itself was taken over.
    fn read_large(
        &mut self,
        file: &File,
        path: &Path,
        earlier: Option<(Earlier, &dyn EarlierFiles)>,
    ) -> Result<(Stored, bool)> {
        let (progress, counted) = (self.progress, &mut self.counted);
        *counted = 0;
        let mut tick = |bytes: u64| {
            *counted += bytes;
            progress.add_done(0, bytes);
            progress.check_cancelled()
        };
        let ((digest, size), taken) = match &mut self.lane {
            Some(lane) => {
                let put = match earlier {
                    None => lane.put_large(file, path, &mut tick)?,
                    Some((earlier, files)) => {
                        lane.put_large_like(file, path, &earlier, &|| files.may_compose(), &mut tick)?
                    }
                };
                ((put.digest, put.size), put.adopted)
            }
            None => (hash_file(file, path, &mut tick)?, false),
        };
        Ok((Stored { digest, size, place: None }, taken))
    }
}

fn stat_open(file: &File, path: &dyn Fn() -> PathBuf) -> Result<FileStat> {
    stat_file(file).map_err(|e| Error::io("read the attributes of", &path(), e))
}

fn unsteady(path: &Path) -> Error {
    Error::io_message(format!("{} changes while it is read", show_path(path)))
        .with_hint("run the command again when nothing writes to it; nothing was published")
}

#[cfg(test)]
mod tests {
    use super::super::source::Home;
    use super::super::tree::{Directory, SourceEntry};
    use super::*;

    #[test]
    fn on_a_network_volume_the_server_is_asked_before_a_stat_is_believed() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let source = SourceDir::root(tmp.path(), Follow::No, false).unwrap();
        let handle = source.open(&mut KeptDirs::new(1)).unwrap();
        let home = Home::of(&handle, &handle.stat().unwrap());
        if home.volume.is_none() {
            return; // the temporary directory may be on a tmpfs
        }
        let home = Arc::new(home.over_the_network());
        source.set_home(home.clone());
        let seen: SourceStat = handle.stat_at(c"f", Follow::No).unwrap().into();
        let cache = StatCache::of_one(&seen, &home.volume.unwrap(), &Digest::of(b"as remembered"));
        let digest = || {
            let body = FileBody::Scanned { stat: seen, here: true };
            let items = vec![SourceEntry { name: (*b"f").into(), body: Body::File { exec: false, body } }];
            let mut tree = SourceTree::of(vec![Directory { items, source: Some(source.clone()) }]);
            store_files(&mut tree, &Sink::Nowhere, Some(&cache), None, || 1, &Progress::default()).unwrap();
            match &tree.dirs[0].items[0].body {
                Body::File { body: FileBody::Stored(stored), .. } => stored.digest,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(digest(), Digest::of(b"as remembered"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&path, "two").unwrap(); // as another host does, while this one has the attributes of `seen`
        assert_eq!(digest(), Digest::of(b"two"));
    }
}
