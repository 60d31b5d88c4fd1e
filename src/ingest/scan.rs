//! Walking a source directory by descriptors: names, kinds and stats, in parallel; no content is read.

use super::filter::{Filter, IGNORE_FILE};
use super::scanned::{ScannedBody, ScannedDir, ScannedEntry, ScannedTree};
use super::source::{Home, KeptDirs, SourceDir, changed};
use super::spill::{Span, Spill};
use crate::disk::{DirHandle, FileStat, Follow, name_path};
use crate::error::{Error, Result, show_list, show_path};
use crate::locks::{Condvar, Mutex};
use crate::progress::{Activity, Progress};
use crate::setters::setters;
use crate::threads;
use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a directory is added, and how.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScanOptions {
    /// Patterns of what is left out, in gitignore's syntax; `.cairnignore` files below the source add to them.
    pub exclude: Vec<String>,
    /// Add what symlinks point at instead of the symlinks.
    pub follow_symlinks: bool,
    /// Leave out device nodes, sockets and FIFOs instead of refusing them.
    pub skip_special: bool,
    /// Let `.cairnignore` files leave nothing out: they are content like any other.
    pub no_ignore_files: bool,
    /// Read every file, even if its attributes are as they were when its digest was remembered.
    pub rehash: bool,
    /// Neither ask the stat cache nor fill it: the source is gone afterwards.
    pub no_stat_cache: bool,
}

setters! {
    ScanOptions {
        exclude: impl IntoIterator<Item = impl Into<String>> => exclude.into_iter().map(Into::into).collect(),
        follow_symlinks: bool,
        skip_special: bool,
        no_ignore_files: bool,
        rehash: bool,
        no_stat_cache: bool,
    }
}

/// The most entries of a directory that are one piece of work.
const CHUNK: usize = if cfg!(test) { 8 } else { 1024 };
/// How often an entry is examined that is another kind of file each time.
const MAX_ATTEMPTS: usize = 5;

enum Job {
    List(u32),
    /// A piece of a directory, by its number.
    Examine(u32, usize, Names),
}

/// Names of one directory, each with a NUL behind it.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    count: usize,
}

impl Names {
    fn push(&mut self, name: &CStr) {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.count += 1;
    }

    /// At most [`CHUNK`] at a time, each once. At least one piece, which may be empty.
    fn into_sorted_pieces(self) -> Vec<Names> {
        let mut sorted: Vec<&CStr> = self.iter().collect();
        sorted.sort_unstable();
        sorted.dedup(); // a directory that is changed may list a name twice
        let piece = |names: &[&CStr]| {
            let mut piece = Names::default();
            names.iter().for_each(|name| piece.push(name));
            piece
        };
        if sorted.is_empty() { vec![Names::default()] } else { sorted.chunks(CHUNK).map(piece).collect() }
    }

    fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.bytes.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok())
    }
}

struct Scan<'a> {
    options: &'a ScanOptions,
    /// The store, if it may be inside the source: device and inode.
    skip: Option<(u64, u64)>,
    threads: usize,
    progress: &'a Progress,
    spill: Spill,
    /// The mounts that were met.
    homes: Mutex<Vec<Arc<Home>>>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    running: usize,
    dirs: Vec<OpenDirectory>,
    special: Vec<PathBuf>,
    files: u64,
    bytes: u64,
    error: Option<Error>,
}

/// A directory while it is being scanned.
struct OpenDirectory {
    /// What is in it, in pieces, in the order of the names.
    pieces: Box<[Span]>,
    /// Its pieces that are not yet examined.
    missing: usize,
    source: Arc<SourceDir>,
    filter: Arc<Filter>,
    /// Device and inode of it and of all above it, innermost first: for loops when symlinks are followed.
    chain: Option<Arc<Chain>>,
}

/// What was found in a piece of a directory.
#[derive(Default)]
struct Examined {
    entries: Vec<u8>,
    /// The directories: where their numbers are in `entries`, and what they are in.
    below: Vec<(usize, Option<Arc<Chain>>, Arc<SourceDir>)>,
    special: Vec<PathBuf>,
    files: u64,
    bytes: u64,
}

struct Chain {
    id: (u64, u64),
    above: Option<Arc<Chain>>,
}

impl OpenDirectory {
    fn new(source: Arc<SourceDir>, filter: Arc<Filter>, chain: Option<Arc<Chain>>) -> OpenDirectory {
        OpenDirectory { pieces: Box::new([Span::default()]), missing: 1, source, filter, chain }
    }
}

/// Scans `root` with `threads` threads. The directory with device and inode `skip` (the store) is left out. What is
/// found is spilled to the file system of `temporary`.
///
/// # Errors
/// Usage: special files, a loop of symlinks, a bad pattern. I/O: what vanished or cannot be read, by name.
pub fn scan(
    root: &Path,
    options: &ScanOptions,
    skip: Option<(u64, u64)>,
    threads: usize,
    temporary: &Path,
    progress: &Progress,
) -> Result<ScannedTree> {
    let follow = if options.follow_symlinks { Follow::Yes } else { Follow::No };
    let source = SourceDir::root(root, follow, options.no_stat_cache)?;
    let stat = source.open(&mut KeptDirs::new(1))?.stat().map_err(|e| Error::io("read the attributes of", root, e))?;
    let chain = Some(Arc::new(Chain { id: (stat.dev, stat.ino), above: None }));
    let first = OpenDirectory::new(source, Arc::new(Filter::root(root, &options.exclude)?), chain);
    let state = State { jobs: vec![Job::List(0)], dirs: vec![first], ..State::default() };
    let scan = Scan {
        options,
        skip,
        threads,
        progress,
        spill: Spill::new(temporary),
        homes: Mutex::default(),
        state: Mutex::new(state),
        wake: Condvar::new(),
    };
    progress.set_activity(Activity::Scanning);
    threads::on_each(threads, || scan.work());
    let mut state = scan.state.into_inner();
    if let Some(e) = state.error {
        return Err(e);
    }
    if !state.special.is_empty() {
        state.special.sort();
        let named: Vec<_> = state.special.iter().map(|p| show_path(p)).collect();
        return Err(Error::usage(format!("device nodes, sockets and FIFOs cannot be added: {}", show_list(&named)))
            .with_hint("leave them out with --skip-special or --exclude"));
    }
    let directory = |scanned: OpenDirectory| ScannedDir { source: scanned.source, pieces: scanned.pieces };
    let dirs = state.dirs.into_iter().map(directory).collect();
    Ok(ScannedTree { dirs, spill: scan.spill, files: state.files, bytes: state.bytes })
}

/// Whether a symlink in a directory `depth` levels below the root leads above the root.
fn leads_out(target: &[u8], depth: usize) -> bool {
    let mut level = depth as isize;
    target.starts_with(b"/")
        || target.split(|b| *b == b'/').any(|part| {
            match part {
                b"" | b"." => {}
                b".." => level -= 1,
                _ => level += 1,
            }
            level < 0
        })
}

impl Scan<'_> {
    /// One thread: takes jobs until there are none and no running job can add one.
    fn work(&self) {
        let mut handles = KeptDirs::new(self.threads);
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
                Job::List(dir) => self.list(dir, &mut handles),
                Job::Examine(dir, piece, names) => self.examine(dir, piece, &names, &mut handles),
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
    fn list(&self, dir: u32, handles: &mut KeptDirs) -> Result<()> {
        let (source, mut filter) = {
            let state = self.state.lock();
            let open = &state.dirs[dir as usize];
            (open.source.clone(), open.filter.clone())
        };
        let handle = source.open(handles)?;
        let failed = |e| Error::io("list", &source.path(), e);
        source.set_home(self.home(&handle, &handle.stat().map_err(failed)?));
        let (mut names, mut ignores) = (Names::default(), false);
        let listed = handle.list(&mut |name| {
            ignores |= name == IGNORE_FILE;
            names.push(name);
        });
        listed.map_err(failed)?;
        if ignores && !self.options.no_ignore_files {
            filter = Filter::enter(&filter, &handle, &source.path())?;
            self.state.lock().dirs[dir as usize].filter = filter;
        }
        let mut pieces = names.into_sorted_pieces();
        if let [one] = &pieces[..] {
            return self.examine(dir, 0, one, handles);
        }
        let mut state = self.state.lock();
        state.dirs[dir as usize].missing = pieces.len();
        state.dirs[dir as usize].pieces = vec![Span::default(); pieces.len()].into();
        state.jobs.extend(pieces.drain(..).enumerate().rev().map(|(i, names)| Job::Examine(dir, i, names)));
        self.wake.notify_all();
        Ok(())
    }

    /// The mount of a directory.
    fn home(&self, handle: &DirHandle, stat: &FileStat) -> Arc<Home> {
        let mut homes = self.homes.lock();
        if let Some(home) = homes.iter().find(|h| h.holds(stat)) {
            return home.clone();
        }
        let home = Arc::new(Home::of(handle, stat));
        homes.push(home.clone());
        home
    }

    /// Examines a piece of a directory.
    fn examine(&self, dir: u32, piece: usize, names: &Names, handles: &mut KeptDirs) -> Result<()> {
        self.progress.check_cancelled()?;
        let (source, filter, chain) = {
            let state = self.state.lock();
            let open = &state.dirs[dir as usize];
            (open.source.clone(), open.filter.clone(), open.chain.clone())
        };
        let handle = source.open(handles)?;
        let filtered = filter.leaves_something_out().then(|| source.path());
        let path = |name: &CStr| source.path().join(name_path(name));
        let mut examined = Examined::default();
        for name in names.iter() {
            let (stat, target) = self.stat(&handle, name, &path)?;
            if crate::layout::is_unfinished(name.to_bytes(), stat.is_dir()) {
                continue; // of a get that was killed, or is at work
            }
            let left_out =
                filtered.as_ref().is_some_and(|dir| filter.leaves_out(&dir.join(name_path(name)), stat.is_dir()));
            if left_out || (stat.is_dir() && self.skip == Some((stat.dev, stat.ino))) {
                continue;
            }
            let body = if stat.is_file() {
                examined.files += 1;
                examined.bytes += stat.size;
                let here = source.home().is_some_and(|h| h.holds(&stat));
                ScannedBody::File { exec: stat.mode & 0o111 != 0, here, stat: stat.into() }
            } else if let Some(target) = &target {
                self.progress.outside_symlinks(u64::from(leads_out(target, source.depth())));
                ScannedBody::Symlink(target)
            } else if stat.is_dir() {
                ScannedBody::Directory(0)
            } else {
                if self.options.skip_special {
                    self.progress.skipped_special(1);
                } else {
                    examined.special.push(path(name));
                }
                continue;
            };
            let is_dir = body == ScannedBody::Directory(0);
            let number_at = ScannedEntry { name: name.to_bytes(), body }.encode(&mut examined.entries);
            if is_dir {
                let child = source.below(name)?;
                examined.below.push((number_at, self.below(&chain, &stat, &child)?, child));
            }
        }
        self.progress.add_total(examined.files, examined.bytes);
        self.add(dir, piece, examined, &filter)
    }

    /// Adds examined entries to their directory, and a job for each directory among them.
    fn add(&self, dir: u32, piece: usize, mut examined: Examined, filter: &Arc<Filter>) -> Result<()> {
        let mut state = self.state.lock();
        state.special.append(&mut examined.special);
        state.files += examined.files;
        state.bytes += examined.bytes;
        for (number_at, chain, source) in examined.below {
            let child =
                u32::try_from(state.dirs.len()).map_err(|_| Error::usage("a version has at most 2^32 directories"))?;
            examined.entries[number_at..number_at + 4].copy_from_slice(&child.to_le_bytes());
            state.dirs.push(OpenDirectory::new(source, filter.clone(), chain));
            state.jobs.push(Job::List(child));
        }
        drop(state);
        self.wake.notify_all();
        let span = self.spill.append(&examined.entries)?;
        let mut state = self.state.lock();
        let open = &mut state.dirs[dir as usize];
        open.pieces[piece] = span;
        open.missing -= 1;
        if open.missing == 0 {
            open.chain = None;
        }
        Ok(())
    }

    /// What an entry is, with a symlink's text. A dangling symlink that should be followed is kept as a symlink.
    fn stat(
        &self,
        dir: &DirHandle,
        name: &CStr,
        path: &dyn Fn(&CStr) -> PathBuf,
    ) -> Result<(FileStat, Option<Vec<u8>>)> {
        for _ in 0..MAX_ATTEMPTS {
            let stat =
                dir.stat_at(name, Follow::No).map_err(|e| Error::io("read the attributes of", &path(name), e))?;
            if !stat.is_symlink() {
                return Ok((stat, None));
            }
            if self.options.follow_symlinks {
                match dir.stat_at(name, Follow::Yes) {
                    Ok(stat) => return Ok((stat, None)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::io("follow symlink", &path(name), e)),
                }
            }
            match dir.read_link_at(name) {
                Ok(text) => return Ok((stat, Some(text))),
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {} // something else by now
                Err(e) => return Err(Error::io("read symlink", &path(name), e)),
            }
        }
        Err(changed(&path(name), "it is a symlink and is not, in turns"))
    }

    /// The chain of a directory below one with `chain`.
    fn below(&self, chain: &Option<Arc<Chain>>, stat: &FileStat, dir: &SourceDir) -> Result<Option<Arc<Chain>>> {
        if !self.options.follow_symlinks {
            return Ok(None);
        }
        let id = (stat.dev, stat.ino);
        let mut at = chain.as_deref();
        while let Some(link) = at {
            if link.id == id {
                return Err(Error::usage(format!(
                    "{} leads back to a directory above it: a loop of symlinks",
                    show_path(&dir.path())
                ))
                .with_hint("exclude it, or keep symlinks as symlinks"));
            }
            at = link.above.as_deref();
        }
        Ok(Some(Arc::new(Chain { id, above: chain.clone() })))
    }
}
