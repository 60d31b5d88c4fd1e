//! Walking a source directory: names, kinds and stats, in parallel; no content is read.

use super::filter::Filter;
use super::tree::{Body, Directory, FileBody, Item, Stat, Tree};
use crate::error::{Error, Result, show_path};
use crate::progress::Progress;
use parking_lot::{Condvar, Mutex};
use std::fs::{DirEntry, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a directory is added, and how.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Patterns of what is left out, in gitignore's syntax; `.cairnignore` files below the source add to them.
    pub exclude: Vec<String>,
    /// Add what symlinks point at instead of the symlinks.
    pub follow_symlinks: bool,
    /// Leave out device nodes, sockets and FIFOs instead of refusing them.
    pub skip_special: bool,
    /// Let `.cairnignore` files leave nothing out: they are content like any other.
    pub no_ignore_files: bool,
}

/// How many entries of one directory are looked at in one piece of work.
const CHUNK: usize = 1024;
/// How many special files an error names.
const NAMED: usize = 10;

enum Job {
    List(u32),
    Look(u32, Vec<DirEntry>),
}

struct Scan<'a> {
    options: &'a ScanOptions,
    /// The store, when it may lie inside the source: device and inode.
    skip: Option<(u64, u64)>,
    progress: &'a Progress,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    running: usize,
    dirs: Vec<Open>,
    special: Vec<PathBuf>,
    error: Option<Error>,
}

/// A directory while it is being scanned.
struct Open {
    items: Vec<Item>,
    /// Pieces of it not yet looked at.
    missing: usize,
    source: Arc<PathBuf>,
    filter: Arc<Filter>,
    /// Device and inode of it and of all above it, innermost first: for loops when symlinks are followed.
    chain: Option<Arc<Chain>>,
}

struct Chain {
    id: (u64, u64),
    above: Option<Arc<Chain>>,
}

/// Scans `root` with `threads` threads. The directory with device and inode `skip` (the store) is left out.
///
/// # Errors
/// Usage: special files, a loop of symlinks, a bad pattern. I/O: what vanished or cannot be read, by name.
pub fn scan(root: &Path, options: &ScanOptions, skip: Option<(u64, u64)>, threads: usize, progress: &Progress) -> Result<Tree> {
    let meta = std::fs::metadata(root).map_err(|e| Error::io("look at", root, e))?;
    let first = Open {
        items: Vec::new(),
        missing: 1,
        source: Arc::new(root.to_path_buf()),
        filter: Arc::new(Filter::root(root, &options.exclude)?),
        chain: Some(Arc::new(Chain { id: (meta.dev(), meta.ino()), above: None })),
    };
    let state = State { jobs: vec![Job::List(0)], dirs: vec![first], ..State::default() };
    let scan = Scan { options, skip, progress, state: Mutex::new(state), wake: Condvar::new() };
    std::thread::scope(|s| {
        for _ in 1..threads {
            s.spawn(|| scan.work());
        }
        scan.work();
    });
    let mut state = scan.state.into_inner();
    if let Some(e) = state.error {
        return Err(e);
    }
    if !state.special.is_empty() {
        state.special.sort();
        let named: Vec<_> = state.special.iter().take(NAMED).map(|p| show_path(p)).collect();
        let more = state.special.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Error::usage(format!("device nodes, sockets and FIFOs cannot be added: {}{more}", named.join(", "))).hint("leave them out with --skip-special or --exclude"));
    }
    Ok(Tree { dirs: state.dirs.into_iter().map(|d| Directory { items: d.items, source: Some(d.source) }).collect() })
}

impl Scan<'_> {
    /// One thread: takes jobs until there are none and nobody can make more.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.error.is_some() {
                break;
            }
            let Some(job) = state.jobs.pop() else {
                if state.running == 0 {
                    break;
                }
                self.wake.wait(&mut state);
                continue;
            };
            state.running += 1;
            drop(state);
            let result = match job {
                Job::List(dir) => self.list(dir),
                Job::Look(dir, entries) => self.look(dir, entries),
            };
            state = self.state.lock();
            state.running -= 1;
            if let Err(e) = result {
                state.error.get_or_insert(e);
            }
            self.wake.notify_all();
        }
        self.wake.notify_all();
    }

    /// Lists one directory and hands its entries on in pieces.
    fn list(&self, dir: u32) -> Result<()> {
        let (source, filter) = {
            let state = self.state.lock();
            let open = &state.dirs[dir as usize];
            (open.source.clone(), open.filter.clone())
        };
        let filter = if self.options.no_ignore_files { filter } else { Filter::enter(&filter, &source)? };
        self.state.lock().dirs[dir as usize].filter = filter;
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        for entry in std::fs::read_dir(source.as_path()).map_err(|e| Error::io("list", &source, e))? {
            piece.push(entry.map_err(|e| Error::io("list", &source, e))?);
            if piece.len() == CHUNK {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        if pieces.is_empty() {
            return self.look(dir, piece);
        }
        pieces.push(piece);
        let mut state = self.state.lock();
        state.dirs[dir as usize].missing = pieces.len();
        state.jobs.extend(pieces.into_iter().map(|p| Job::Look(dir, p)));
        self.wake.notify_all();
        Ok(())
    }

    /// Looks at some entries of one directory.
    fn look(&self, dir: u32, entries: Vec<DirEntry>) -> Result<()> {
        self.progress.go_on()?;
        let (filter, chain) = {
            let state = self.state.lock();
            let open = &state.dirs[dir as usize];
            (open.filter.clone(), open.chain.clone())
        };
        let (mut items, mut below, mut special) = (Vec::with_capacity(entries.len()), Vec::new(), Vec::new());
        let (mut files, mut bytes) = (0, 0);
        for entry in entries {
            let path = entry.path();
            let meta = self.metadata(&entry, &path)?;
            if crate::layout::is_unfinished(entry.file_name().as_bytes(), meta.is_dir()) {
                continue; // of a get that was killed, or is at work
            }
            if filter.leaves_out(&path, meta.is_dir()) || (meta.is_dir() && self.skip == Some((meta.dev(), meta.ino()))) {
                continue;
            }
            let kind = meta.file_type();
            let body = if kind.is_file() {
                files += 1;
                bytes += meta.len();
                Body::File { exec: meta.mode() & 0o111 != 0, body: FileBody::Scanned(Stat::of(&meta)) }
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).map_err(|e| Error::io("read symlink", &path, e))?;
                Body::Symlink(target.into_os_string().into_vec().into_boxed_slice())
            } else if kind.is_dir() {
                below.push((items.len(), self.below(&chain, &meta, &path)?, path));
                Body::Directory(0)
            } else {
                if self.options.skip_special {
                    self.progress.skipped_special(1);
                } else {
                    special.push(path);
                }
                continue;
            };
            items.push(Item { name: entry.file_name().as_bytes().into(), body });
        }
        self.progress.expect(files, bytes);
        let mut state = self.state.lock();
        state.special.append(&mut special);
        for (at, chain, path) in below {
            let child = u32::try_from(state.dirs.len()).map_err(|_| Error::usage("a version has at most 2^32 directories"))?;
            items[at].body = Body::Directory(child);
            state.dirs.push(Open { items: Vec::new(), missing: 1, source: Arc::new(path), filter: filter.clone(), chain });
            state.jobs.push(Job::List(child));
        }
        let open = &mut state.dirs[dir as usize];
        open.items.append(&mut items);
        open.missing -= 1;
        if open.missing == 0 {
            let mut whole = std::mem::take(&mut open.items);
            drop(state);
            whole.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            whole.shrink_to_fit();
            let mut state = self.state.lock();
            state.dirs[dir as usize].items = whole;
            state.dirs[dir as usize].chain = None;
        }
        self.wake.notify_all();
        Ok(())
    }

    /// An entry's metadata. A dangling symlink that should be followed is kept as a symlink.
    fn metadata(&self, entry: &DirEntry, path: &Path) -> Result<Metadata> {
        let meta = entry.metadata().map_err(|e| Error::io("look at", path, e))?;
        if !(self.options.follow_symlinks && meta.file_type().is_symlink()) {
            return Ok(meta);
        }
        match std::fs::metadata(path) {
            Ok(meta) => Ok(meta),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(meta),
            Err(e) => Err(Error::io("follow symlink", path, e)),
        }
    }

    /// The chain of a directory below one with `chain`.
    fn below(&self, chain: &Option<Arc<Chain>>, meta: &Metadata, path: &Path) -> Result<Option<Arc<Chain>>> {
        if !self.options.follow_symlinks {
            return Ok(None);
        }
        let id = (meta.dev(), meta.ino());
        let mut at = chain.as_deref();
        while let Some(link) = at {
            if link.id == id {
                return Err(Error::usage(format!("{} leads back to a directory above it: a loop of symlinks", show_path(path))).hint("exclude it, or keep symlinks as symlinks"));
            }
            at = link.above.as_deref();
        }
        Ok(Some(Arc::new(Chain { id, above: chain.clone() })))
    }
}
