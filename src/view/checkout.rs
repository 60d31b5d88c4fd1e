//! Writing a version out. Nothing half-written ever has a final name: a new target is built aside and renamed in, in an
//! existing one each file is. Right files that are there already are kept, so an interrupted checkout continues.
//!
//! All is done by names in directories that are held open, so no symlink in the target or next to it is followed.

use super::batches::{Batch, Batches};
use super::fill::{Fill, Made, Naming, taken};
use super::names;
use super::opened::OpenDirs;
use super::options::{CheckoutOptions, selected};
use super::plan::{self, Existing, Found, Plan};
use super::prune;
use super::written::WrittenAs;
use crate::catalog::Version;
use crate::disk::{self, Access, Created, Dir, Disk};
use crate::error::{Error, Kind, Result, show_path};
use crate::ingest::Filter;
use crate::layout::unfinished_directory;
use crate::locks::Mutex;
use crate::manifest::{Entry, Visit};
use crate::progress::Progress;
use crate::threads::{self, Feeder};
use crate::types::Token;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a checkout did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckoutReport {
    /// Files of the version that are there now.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files and symlinks written.
    pub written: u64,
    /// Files and symlinks that were right already.
    pub kept: u64,
    /// Entries removed because the version does not have them.
    pub removed: u64,
    /// Entries that the version does not have and that are protected from removal: what `.cairnignore` leaves out,
    /// `.git`, stores, what is mounted.
    pub protected: u64,
    /// References that were not written.
    pub skipped: u64,
}

/// How long a checkout waits for one that removes what a killed one left in the same directory.
const CLEANING: Duration = Duration::from_secs(5);

impl Version {
    /// Writes this version to the directory `target`. See [`checkout`].
    ///
    /// # Errors
    /// As [`checkout`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
    /// # let mut artifact = cairn::Artifact::new("images", "dataset")?;
    /// # artifact.add_bytes("a.png", "…")?;
    /// # artifact.save(&store)?;
    /// # let target = dir.path().join("out");
    /// let report = store.version("images")?.checkout(&target, &Default::default())?;
    /// assert_eq!((report.written, target.join("a.png").exists()), (1, true));
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn checkout(&self, target: impl AsRef<Path>, options: &CheckoutOptions) -> Result<CheckoutReport> {
        checkout(self, target.as_ref(), options)
    }
}

/// Writes `version` to the directory `target`.
///
/// # Errors
/// Refused: files that differ are in the way (unless forced), another checkout works on the same target, or the link
/// mode is not possible there; names that are one there; the store itself is there. Usage: a reference that cannot be
/// written in the way that is asked for. Not found: the path asked for. Damaged; I/O.
pub fn checkout(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let target = &std::path::absolute(target).map_err(|e| Error::io("find", target, e))?;
    plan::store_below(version, target)?; // never into the store
    for visit in selected(version, options)? {
        options.progress.check_cancelled()?;
        let visit = visit?;
        if let Entry::Reference(_) = &visit.entry {
            options
                .written(&visit.entry)
                .map_err(|e| e.context(format!("cannot write out {} of {version}", visit.path)))?;
        }
    }
    match disk::lstat(target)? {
        None => into_new(version, target, options),
        Some(_) if std::fs::metadata(target).is_ok_and(|m| m.is_dir()) => into_existing(version, target, options),
        Some(_) => Err(Error::conflict(format!("{} is in the way: it is not a directory", show_path(target)))
            .with_hint("name another directory")),
    }
}

/// Builds the directory under a temporary name next to the target, then renames it. What an earlier, interrupted
/// checkout left there is used.
fn into_new(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let parent = target.parent().ok_or_else(|| Error::usage("the target has no parent directory"))?;
    let name = target.file_name().ok_or_else(|| Error::usage("the target has no name"))?.as_bytes();
    Disk::of(parent.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?.create_dirs(parent)?;
    let parent = Dir::open(parent)?;
    let (aside_name, aside) = open_aside(&parent, name, version)?;
    let fresh = aside.names()?.is_empty();
    let inner = CheckoutOptions { force: true, ..options.clone() };
    let written = names::refuse_clashes(version, &aside, options).and_then(|()| {
        if fresh {
            write(version, &aside, &inner, None, Naming::Direct)
        } else {
            into(version, &aside, &inner, Naming::Direct)
        }
    });
    match &written {
        // The same get would be refused again: there is nothing to continue.
        Err(e) if fresh && e.kind() == Kind::Conflict && !options.progress.is_cancelled() => {
            parent.remove_tree(&aside_name)?
        }
        Err(_) => drop(parent.remove_dir(&aside_name)), // if nothing is in it
        Ok(_) => {}
    }
    let report = CheckoutReport { removed: 0, protected: 0, ..written? };
    let appeared = || {
        Error::conflict(format!("{} was made by something else meanwhile", show_path(target)))
            .with_hint("run the same get again: what was written is kept")
    };
    if parent.lstat(&aside_name)?.map(|l| l.id()) != Some(aside.stat_self()?.id()) {
        return Err(Error::io_message(format!(
            "{} was moved away or replaced while it was written",
            show_path(aside.path())
        ))
        .with_hint("run the same get again"));
    }
    // An empty directory that appeared meanwhile is replaced.
    parent.rename(&aside_name, name).map_err(|e| {
        if matches!(e.errno(), Some(libc::ENOTEMPTY | libc::EEXIST | libc::ENOTDIR)) { appeared() } else { e }
    })?;
    Ok(report)
}

/// The directory in which a new target is built, locked: one that this user left there, or another that is new. What
/// another process has put there, or a symlink, is not touched.
fn open_aside(parent: &Dir, name: &[u8], version: &Version) -> Result<(Vec<u8>, Arc<Dir>)> {
    let usual = unfinished_directory(name, &version.digest().hex()[..16]);
    let (at, dir) = match parent.create_dir(&usual)? {
        Created::New => (usual, None),
        // SAFETY: geteuid cannot fail.
        Created::Exists
            if parent.lstat(&usual)?.is_some_and(|l| l.is_dir() && l.owner() == unsafe { libc::geteuid() }) =>
        {
            let dir = parent.dir(&usual)?;
            (usual, Some(dir))
        }
        Created::Exists => {
            let other = unfinished_directory(name, Token::fresh().as_str());
            if parent.create_dir(&other)? == Created::Exists {
                return Err(taken(parent, &other)?);
            }
            (other, None)
        }
    };
    let dir = match dir {
        Some(dir) => dir,
        None => parent.dir(&at)?,
    };
    // The former holder of the lock may have renamed it to its final name, and a collector may have removed it.
    if dir.try_lock(true) == Some(false) || parent.lstat(&at)?.map(|l| l.id()) != Some(dir.stat_self()?.id()) {
        return Err(Error::conflict(format!("another get to {} is at work", show_path(&parent.path_of(name))))
            .with_hint("wait for it"));
    }
    Ok((at, Arc::new(dir)))
}

fn into_existing(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let target = Arc::new(Dir::open(target)?);
    let until = Instant::now() + CLEANING;
    while target.try_lock(false) == Some(false) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    names::refuse_clashes(version, &target, options)?;
    if target.names()?.is_empty() {
        return write(version, &target, options, None, Naming::Renamed);
    }
    into(version, &target, options, Naming::Renamed)
}

/// Into a directory that has something in it: compares everything first, so that a refusal changes nothing.
fn into(version: &Version, target: &Arc<Dir>, options: &CheckoutOptions, naming: Naming) -> Result<CheckoutReport> {
    let own = naming == Naming::Direct;
    let mut plan = plan::compare(version, target, options, own)?;
    if !options.force
        && let Some(differing) = plan.found.differing(version, options)?
    {
        return Err(Error::conflict(format!(
            "in {} other content is in the way: {differing}",
            show_path(target.path())
        ))
        .with_hint("nothing was changed; --force replaces what differs"));
    }
    let extra = std::mem::take(&mut plan.extra);
    let mut report = write(version, target, options, Some(&plan.found), naming)?;
    if !extra.is_empty() {
        let filter = Arc::new(Filter::root(target.path(), &[])?);
        let pruned = prune::prune(target, &filter, extra, &options.progress)?;
        report.removed = pruned.removed;
        report.protected = pruned.protected.len() as u64;
    }
    remove_unfinished(target, &plan, own, &options.progress)?;
    Ok(report)
}

/// Removes what killed checkouts left, if no other is at work in the same target.
fn remove_unfinished(target: &Arc<Dir>, plan: &Plan, own: bool, progress: &Progress) -> Result<()> {
    if plan.unfinished.is_empty() || target.try_lock(true) != Some(true) {
        return Ok(());
    }
    for (path, name) in &plan.unfinished {
        progress.check_cancelled()?;
        let mut dir = target.clone();
        for part in path.parts() {
            dir = Arc::new(dir.dir(part)?);
        }
        if own {
            dir.remove_tree(name)?;
        } else if dir.lstat(name)?.is_some_and(|l| !l.is_dir()) {
            dir.remove_file(name)?;
        }
    }
    Ok(())
}

/// Walks the version, makes directories, and has files made by several threads.
fn write(
    version: &Version,
    target: &Arc<Dir>,
    options: &CheckoutOptions,
    found: Option<&Found>,
    naming: Naming,
) -> Result<CheckoutReport> {
    let fill = Fill::new(version.store().objects(), options, naming);
    let report = Mutex::new(CheckoutReport::default());
    let make = |(part, buffer): &mut (CheckoutReport, Vec<u8>), batch: Batch<(Visit, Option<Existing>)>| {
        batch.into_iter().try_for_each(|(dir, (visit, found))| {
            let made = options.progress.check_cancelled().and_then(|()| match options.written(&visit.entry)? {
                WrittenAs::Nothing => Ok(Made::Skipped),
                entry => fill.make(&dir, visit.path.name(), &entry, found, buffer),
            });
            let made = made.map_err(|e| e.context(format!("cannot write out {} of {version}", visit.path)))?;
            part.add(&visit.entry, made);
            options.progress.add_done(1, size_of(&visit.entry));
            Ok(())
        })
    };
    let walk = |feeder: Feeder<'_, _>| feed(version, target, options, found, Batches::new(feeder));
    threads::feed(threads::count(), walk, Default::default, make, |(part, _)| report.lock().merge(&part))?;
    Ok(report.into_inner())
}

/// Makes directories and hands out everything else.
fn feed(
    version: &Version,
    target: &Arc<Dir>,
    options: &CheckoutOptions,
    found: Option<&Found>,
    mut batches: Batches<'_, (Visit, Option<Existing>)>,
) -> Result<()> {
    let mut open = OpenDirs::new(target.clone(), ());
    for (number, visit) in selected(version, options)?.enumerate() {
        let visit = visit?;
        let found = found.and_then(|found| found.of(number));
        if batches.has_failed() {
            return Ok(());
        }
        while open.leave_for(&visit.path)?.is_some() {}
        let (dir, ()) = open.last()?;
        if visit.entry.is_directory() {
            let name = visit.path.name();
            let made = directory(&dir, name, found)
                .map_err(|e| e.context(format!("cannot write out {} of {version}", visit.path)))?;
            open.enter(name, Arc::new(made), ());
            continue;
        }
        options.progress.add_total(1, size_of(&visit.entry));
        batches.add(dir, (visit, found));
    }
    batches.end();
    Ok(())
}

/// Makes and opens a directory of the version.
fn directory(parent: &Dir, name: &[u8], found: Option<Existing>) -> Result<Dir> {
    match found {
        Some(Existing::Right) => return parent.dir(name),
        Some(_) => parent.remove_tree(name)?,
        None => {}
    }
    if parent.create_dir(name)? == Created::Exists {
        let is_dir = parent.lstat(name)?.is_some_and(|l| l.is_dir());
        if let (true, Some(other)) = (is_dir, names::other_name(parent, name)?) {
            return Err(names::clash(parent, name, &other));
        }
        if !is_dir {
            return Err(taken(parent, name)?);
        }
    }
    parent.dir(name)
}

fn size_of(entry: &Entry) -> u64 {
    match entry {
        Entry::File { size, .. } => *size,
        Entry::Reference(reference) => reference.size.unwrap_or(0),
        Entry::Symlink { .. } | Entry::Directory(_) => 0,
    }
}

impl CheckoutReport {
    fn add(&mut self, entry: &Entry, made: Made) {
        let is_file = match entry {
            Entry::File { .. } => true,
            Entry::Reference(_) => made != Made::Skipped,
            Entry::Symlink { .. } | Entry::Directory(_) => false,
        };
        if is_file {
            self.files += 1;
            self.bytes += size_of(entry);
        }
        match made {
            Made::Written => self.written += 1,
            Made::Kept => self.kept += 1,
            Made::Skipped => self.skipped += 1,
        }
    }

    fn merge(&mut self, other: &CheckoutReport) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.written += other.written;
        self.kept += other.kept;
        self.removed += other.removed;
        self.skipped += other.skipped;
    }
}
