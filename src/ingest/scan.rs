//! Walking a source directory by descriptors: names, kinds and stats, in parallel; no content is read.

use super::filter::{Filter, IGNORE_FILE};
use super::source::{Home, KeptDirs, SourceDir, changed};
use super::tree::{Body, Directory, FileBody, SourceEntry, SourceTree};
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
const CHUNK: usize = 1024;
/// How often an entry is examined that is another kind of file each time.
const MAX_ATTEMPTS: usize = 5;

enum Job {
    List(u32),
    Examine(u32, Names),
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
    error: Option<Error>,
}

/// A directory while it is being scanned.
struct OpenDirectory {
    items: Vec<SourceEntry>,
    /// Its pieces that are not yet examined.
    missing: usize,
    source: Arc<SourceDir>,
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
pub fn scan(
    root: &Path,
    options: &ScanOptions,
    skip: Option<(u64, u64)>,
    threads: usize,
    progress: &Progress,
) -> Result<SourceTree> {
    let follow = if options.follow_symlinks { Follow::Yes } else { Follow::No };
    let source = SourceDir::root(root, follow, options.no_stat_cache)?;
    let stat = source.open(&mut KeptDirs::new(1))?.stat().map_err(|e| Error::io("read the attributes of", root, e))?;
    let first = OpenDirectory {
        items: Vec::new(),
        missing: 1,
        source,
        filter: Arc::new(Filter::root(root, &options.exclude)?),
        chain: Some(Arc::new(Chain { id: (stat.dev, stat.ino), above: None })),
    };
    let state = State { jobs: vec![Job::List(0)], dirs: vec![first], ..State::default() };
    let scan = Scan {
        options,
        skip,
        threads,
        progress,
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
    let directory = |scanned: OpenDirectory| Directory { items: scanned.items, source: Some(scanned.source) };
    Ok(SourceTree::of(state.dirs.into_iter().map(directory).collect()))
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
                Job::Examine(dir, names) => self.examine(dir, &names, &mut handles),
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
        let mut pieces = vec![Names::default()];
        let mut ignores = false;
        let listed = handle.list(&mut |name| {
            ignores |= name == IGNORE_FILE;
            if pieces.last().is_none_or(|p| p.count == CHUNK) {
                pieces.push(Names::default());
            }
            if let Some(last) = pieces.last_mut() {
                last.push(name);
            }
        });
        listed.map_err(failed)?;
        if ignores && !self.options.no_ignore_files {
            filter = Filter::enter(&filter, &handle, &source.path())?;
            self.state.lock().dirs[dir as usize].filter = filter;
        }
        if let [one] = &pieces[..] {
            return self.examine(dir, one, handles);
        }
        let mut state = self.state.lock();
        state.dirs[dir as usize].missing = pieces.len();
        state.jobs.extend(pieces.into_iter().map(|p| Job::Examine(dir, p)));
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

    /// Examines some entries of a directory.
    fn examine(&self, dir: u32, names: &Names, handles: &mut KeptDirs) -> Result<()> {
        self.progress.check_cancelled()?;
        let (source, filter, chain) = {
            let state = self.state.lock();
            let open = &state.dirs[dir as usize];
            (open.source.clone(), open.filter.clone(), open.chain.clone())
        };
        let handle = source.open(handles)?;
        let filtered = filter.leaves_something_out().then(|| source.path());
        let path = |name: &CStr| source.path().join(name_path(name));
        let (mut items, mut below, mut special) = (Vec::with_capacity(names.count), Vec::new(), Vec::new());
        let (mut files, mut bytes) = (0, 0);
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
                files += 1;
                bytes += stat.size;
                let here = source.home().is_some_and(|h| h.holds(&stat));
                Body::File { exec: stat.mode & 0o111 != 0, body: FileBody::Scanned { stat: stat.into(), here } }
            } else if let Some(target) = target {
                Body::Symlink(target.into_boxed_slice())
            } else if stat.is_dir() {
                let child = source.below(name)?;
                below.push((items.len(), self.below(&chain, &stat, &child)?, child));
                Body::Directory(0)
            } else {
                if self.options.skip_special {
                    self.progress.skipped_special(1);
                } else {
                    special.push(path(name));
                }
                continue;
            };
            items.push(SourceEntry { name: name.to_bytes().into(), body });
        }
        self.progress.add_total(files, bytes);
        self.add(dir, items, below, special, &filter)
    }

    /// Adds examined entries to their directory, and a job for each directory among them.
    fn add(
        &self,
        dir: u32,
        mut items: Vec<SourceEntry>,
        below: Vec<(usize, Option<Arc<Chain>>, Arc<SourceDir>)>,
        mut special: Vec<PathBuf>,
        filter: &Arc<Filter>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        state.special.append(&mut special);
        for (at, chain, source) in below {
            let child =
                u32::try_from(state.dirs.len()).map_err(|_| Error::usage("a version has at most 2^32 directories"))?;
            items[at].body = Body::Directory(child);
            state.dirs.push(OpenDirectory { items: Vec::new(), missing: 1, source, filter: filter.clone(), chain });
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
