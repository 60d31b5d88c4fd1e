//! Storing the files of a scanned directory in one pass, in parallel; blobs go into packs in path order.
//!
//! A file that the stat cache knows as unchanged is not read.

use super::earlier::EarlierBelow;
use super::scanned::{ScannedBody, ScannedEntry, ScannedTree};
use super::sink::Sink;
use super::source::{KeptDirs, SourceDir, changed};
use super::spill::{Fields, Span, Spill};
use super::stat_cache::{RUN, StatCache, StatKey, StatLookup, clock_now};
use super::store::{PIECE_BYTES, PIECE_FILES, threads_for};
use super::stored::{Step, Stored, StoredTree};
use super::tree::SourceStat;
use super::worker::{TRIES, Worker, stat_open, unsteady};
use crate::disk::{DirHandle, FileStat, Follow, Volume};
use crate::error::{Error, Result, show_path};
use crate::locks::Mutex;
use crate::objects::SMALL_MAX;
use crate::progress::{Activity, Progress};
use crate::threads;
use crate::types::Digest;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A piece of work has at most this many entries.
const PIECE_ENTRIES: usize = if cfg!(test) { 5 } else { 1024 };

/// Stores every file of `tree`. The files that were read and can be remembered are handed to `cache`.
///
/// # Errors
/// I/O: a file vanished, cannot be read, or keeps changing, by name; those of the store.
pub fn store_scanned(
    tree: &ScannedTree,
    sink: &Sink<'_>,
    cache: Option<&StatCache>,
    earlier: Option<EarlierBelow<'_>>,
    threads_for_many: fn() -> usize,
    progress: &Progress,
) -> Result<StoredTree> {
    progress.set_activity(Activity::Storing);
    let threads = threads_for(tree.files, tree.bytes, threads_for_many);
    let stored = StoredTree { spill: Spill::new(&sink.temporary()), pieces: Vec::new() };
    let walk = Mutex::new(Walk::new(tree)?);
    let done = Mutex::new(Vec::new());
    threads::for_each_next(
        threads,
        || walk.lock().next_piece(),
        || ScannedWorker {
            worker: Worker::new(sink, earlier, progress),
            earlier,
            cache,
            lookup: cache.map(StatCache::lookup),
            handles: KeptDirs::new(threads),
            open: None,
            read: Vec::new(),
        },
        |worker, piece| {
            let span = stored.spill.append(&worker.store(tree, &piece)?)?;
            let mut done = done.lock();
            if done.len() <= piece.number {
                done.resize(piece.number + 1, Span::default());
            }
            done[piece.number] = span;
            Ok(())
        },
        ScannedWorker::close,
    )?;
    sink.stored(progress);
    Ok(StoredTree { pieces: done.into_inner(), ..stored })
}

/// A walk of a scanned tree in path order.
struct Walk<'a> {
    tree: &'a ScannedTree,
    /// The directories on the way, the root first.
    open: Vec<OpenDir>,
    /// How many pieces were handed out.
    pieces: usize,
}

/// A directory in the walk: its number, the next of its pieces, and the rest of the one before.
struct OpenDir {
    number: u32,
    next: usize,
    entries: Vec<u8>,
    at: usize,
}

/// Consecutive steps of the walk.
#[derive(Default)]
struct Piece {
    number: usize,
    /// Encoded entries; where a directory ends, [`Part::Leave`].
    parts: Vec<Part>,
    entries: usize,
    files: usize,
    bytes: u64,
}

/// A part of a piece.
enum Part {
    /// Encoded entries of the directory with this number.
    Entries(u32, Vec<u8>),
    Leave,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.entries >= PIECE_ENTRIES || self.files >= PIECE_FILES || self.bytes >= PIECE_BYTES
    }
}

impl<'a> Walk<'a> {
    fn new(tree: &'a ScannedTree) -> Result<Walk<'a>> {
        Ok(Walk { tree, open: vec![OpenDir { number: 0, next: 0, entries: Vec::new(), at: 0 }], pieces: 0 })
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        let mut piece = Piece { number: self.pieces, ..Piece::default() };
        while !piece.is_full() && !self.open.is_empty() {
            self.fill(&mut piece)?;
        }
        if piece.parts.is_empty() {
            return Ok(None);
        }
        self.pieces += 1;
        Ok(Some(piece))
    }

    /// Adds entries of the innermost directory, until the piece is full or there is another directory.
    fn fill(&mut self, piece: &mut Piece) -> Result<()> {
        let Some(dir) = self.open.last_mut() else { return Ok(()) };
        if dir.at == dir.entries.len() {
            let Some(span) = self.tree.dirs[dir.number as usize].pieces.get(dir.next) else {
                self.open.pop();
                if !self.open.is_empty() {
                    piece.parts.push(Part::Leave);
                    piece.entries += 1;
                }
                return Ok(());
            };
            (dir.entries, dir.at) = (self.tree.spill.read(*span)?, 0);
            dir.next += 1;
        }
        let mut fields = Fields(&dir.entries[dir.at..]);
        let (from, mut child) = (dir.at, None);
        while !fields.0.is_empty() && child.is_none() && !piece.is_full() {
            let entry = ScannedEntry::decode(&mut fields)?;
            piece.entries += 1;
            match entry.body {
                ScannedBody::File { stat, .. } => {
                    piece.files += 1;
                    piece.bytes += stat.size;
                }
                ScannedBody::Symlink(_) => {}
                ScannedBody::Directory(number) => child = Some(number),
            }
        }
        dir.at = dir.entries.len() - fields.0.len();
        piece.parts.push(Part::Entries(dir.number, dir.entries[from..dir.at].to_vec()));
        self.open.extend(child.map(|number| OpenDir { number, next: 0, entries: Vec::new(), at: 0 }));
        Ok(())
    }
}

/// One thread.
struct ScannedWorker<'a> {
    worker: Worker<'a>,
    earlier: Option<EarlierBelow<'a>>,
    cache: Option<&'a StatCache>,
    lookup: Option<StatLookup<'a>>,
    handles: KeptDirs,
    /// The directory of the tree that was read in last, open.
    open: Option<(u32, Arc<DirHandle>)>,
    /// Files that were read and can be remembered.
    read: Vec<(StatKey, Digest)>,
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
        self.source.path().join(OsStr::from_bytes(self.name))
    }

    fn name(&self) -> Result<CString> {
        CString::new(self.name).map_err(|_| Error::usage(format!("{} has a NUL in its name", show_path(&self.path()))))
    }
}

impl ScannedWorker<'_> {
    fn close(mut self) -> Result<()> {
        self.remember();
        self.worker.close()
    }

    fn remember(&mut self) {
        if let Some(cache) = self.cache {
            cache.remember(std::mem::take(&mut self.read));
        }
    }

    /// Stores the files of a piece. Returns its steps.
    fn store(&mut self, tree: &ScannedTree, piece: &Piece) -> Result<Vec<u8>> {
        let mut steps = Vec::new();
        for part in &piece.parts {
            let Part::Entries(dir, entries) = part else {
                Step::Leave.encode(&mut steps);
                continue;
            };
            let (source, mut fields) = (&tree.dirs[*dir as usize].source, Fields(entries));
            while !fields.0.is_empty() {
                let ScannedEntry { name, body } = ScannedEntry::decode(&mut fields)?;
                let step = match body {
                    ScannedBody::Directory(_) => Step::Enter(name),
                    ScannedBody::Symlink(target) => Step::Symlink(name, target),
                    ScannedBody::File { exec, here, stat } => {
                        let at = self.earlier.map(|earlier| earlier.at);
                        self.worker.begin(stat.size, || source.path_in_version(at?, name))?;
                        let stored = self.scanned(&Scanned { dir: *dir, source, name, stat: &stat, here })?;
                        self.worker.end(stat.size);
                        Step::File(name, exec, stored)
                    }
                };
                step.encode(&mut steps);
            }
        }
        if self.read.len() >= RUN {
            self.remember();
        }
        Ok(steps)
    }

    /// Stores a file that was found by the walk of this very save, by what is remembered of it if that is stored
    /// already. What counts is what is read now.
    fn scanned(&mut self, file: &Scanned<'_>) -> Result<Stored> {
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
            if let Some(stored) = self.read_scanned(&open, file)? {
                return Ok(stored);
            }
        }
        Err(unsteady(&file.path()))
    }

    /// The stored content of a file without reading it: its attributes are as remembered, and its content is stored.
    fn remembered(&mut self, file: &Scanned<'_>) -> Result<Option<Stored>> {
        let Some(home) = file.source.home().filter(|_| file.here) else { return Ok(None) };
        let Some(volume) = &home.volume else { return Ok(None) };
        let Some(digest) = self.recall(file.stat, volume) else { return Ok(None) };
        if volume.network {
            // The attributes that this host has cached may be older than what another host wrote and closed.
            let now = self.directory(file)?.stat_at_server(&file.name()?, file.source.follow());
            let is_same = |now: FileStat| home.holds(&now) && self.recall(&now.into(), volume) == Some(digest);
            if !now.is_ok_and(is_same) {
                return Ok(None);
            }
        }
        let size = file.stat.size;
        let place = match &mut self.worker.lane {
            None => Some(None),
            Some(lane) => lane.find(&digest, size)?,
        };
        Ok(place.map(|place| Stored { digest, size, place }))
    }

    fn recall(&mut self, stat: &SourceStat, volume: &Volume) -> Option<Digest> {
        self.lookup.as_mut()?.get(stat, volume)
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
    fn read_scanned(&mut self, open: &File, file: &Scanned<'_>) -> Result<Option<Stored>> {
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
        let Some((stored, taken)) = self.worker.read(open, &path, before.size)? else { return Ok(None) };
        if taken {
            return Ok(Some(stored)); // the store has taken it over, and checked it then
        }
        let after = stat_open(open, &path)?;
        if after != before || stored.size != after.size {
            return Ok(None);
        }
        let key = cache.zip(proof).and_then(|(cache, proof)| cache.after(proof, open, clock_now()));
        self.read.extend(key.map(|key| (key, stored.digest)));
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scanned::ScannedDir;
    use super::super::source::Home;
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
        let cache_dir = tempfile::tempdir().unwrap();
        let cache_file = cache_dir.path().join("c");
        let seen: SourceStat = handle.stat_at(c"f", Follow::No).unwrap().into();
        let cache = StatCache::of_one(&cache_file, &seen, &home.volume.unwrap(), &Digest::of(b"as remembered"));
        let digest = || {
            let spill = Spill::new(tmp.path());
            let mut entries = Vec::new();
            let body = ScannedBody::File { exec: false, here: true, stat: seen };
            ScannedEntry { name: b"f", body }.encode(&mut entries);
            let pieces = [spill.append(&entries).unwrap()].into();
            let dirs = vec![ScannedDir { source: source.clone(), pieces }];
            let tree = ScannedTree { dirs, spill, files: 1, bytes: 3 };
            let stored = store_scanned(&tree, &Sink::Nowhere, Some(&cache), None, || 1, &Progress::default()).unwrap();
            let mut found = None;
            stored
                .walk(|step| {
                    let Step::File(b"f", false, stored) = step else { panic!("{step:?}") };
                    found = Some(stored.digest);
                    Ok(())
                })
                .unwrap();
            found.unwrap()
        };
        assert_eq!(digest(), Digest::of(b"as remembered"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::write(&path, "two").unwrap(); // as another host does, while this one has the attributes of `seen`
        assert_eq!(digest(), Digest::of(b"two"));
    }

    /// The steps of a directory, by its listing.
    fn listed(dir: &std::path::Path, steps: &mut Vec<String>) {
        let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let (name, kind) = (entry.file_name().into_string().unwrap(), entry.file_type().unwrap());
            if kind.is_dir() {
                steps.push(format!("enter {name}"));
                listed(&entry.path(), steps);
                steps.push("leave".into());
            } else if kind.is_symlink() {
                steps.push(format!("{name} -> {}", std::fs::read_link(entry.path()).unwrap().display()));
            } else {
                steps.push(format!("{name} {}", Digest::of(&std::fs::read(entry.path()).unwrap())));
            }
        }
    }

    #[test]
    fn what_is_stored_is_in_path_order_however_many_pieces_and_threads_it_goes_through() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = |path: &str| {
            std::fs::create_dir_all(tmp.path().join(path)).unwrap();
            tmp.path().join(path)
        };
        for (path, files) in [(".", 30), ("m", 0), ("m/a/b", 3), ("m/c", 25), ("z", 9), ("z/empty", 0)] {
            for n in 0..files {
                std::fs::write(dir(path).join(format!("f{n}")), format!("{path} {n}")).unwrap();
            }
            std::os::unix::fs::symlink("to", dir(path).join("link")).unwrap();
        }
        dir("n");
        let mut expected = Vec::new();
        listed(tmp.path(), &mut expected);
        for threads in [|| 1, || 4] {
            let progress = Progress::default();
            let temporary = std::env::temp_dir();
            let options = Default::default();
            let tree = crate::ingest::scan(tmp.path(), &options, None, threads(), &temporary, &progress).unwrap();
            assert_eq!((tree.files, tree.dirs.len()), (67, 8));
            let stored = store_scanned(&tree, &Sink::Nowhere, None, None, threads, &progress).unwrap();
            let mut steps = Vec::new();
            let walked = stored.walk(|step| {
                steps.push(match step {
                    Step::Enter(name) => format!("enter {}", name.escape_ascii()),
                    Step::Leave => "leave".into(),
                    Step::Symlink(name, target) => format!("{} -> {}", name.escape_ascii(), target.escape_ascii()),
                    Step::File(name, _, stored) => format!("{} {}", name.escape_ascii(), stored.digest),
                });
                Ok(())
            });
            walked.unwrap();
            assert_eq!(steps, expected);
        }
    }
}
