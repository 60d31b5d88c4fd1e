//! Writing a version out. Nothing half-written ever has a final name: a new target is built aside and renamed in, in an
//! existing one each file is. Right files that are there already are kept, so an interrupted checkout goes on.

use super::fill::{Fill, Link};
use super::plan::{self, Found};
use crate::catalog::Version;
use crate::disk::{self, Access, Disk};
use crate::error::{Error, Kind, Result, show_path};
use crate::manifest::{Entry, Visit};
use crate::progress::Progress;
use crate::words::RelPath;
use parking_lot::Mutex;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// How a version is written out.
#[derive(Clone, Debug, Default)]
pub struct CheckoutOptions {
    /// Only this entry, and what is below it; its path is kept.
    pub path: Option<RelPath>,
    /// How large files come to be.
    pub link: Link,
    /// Replace what differs.
    pub force: bool,
    /// Remove what is not in the version.
    pub prune: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

/// What a checkout did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// Files handed to a worker at once.
const BATCH: usize = 64;
/// How many differing paths an error names.
const NAMED: usize = 10;

/// Writes `version` to the directory `target`.
///
/// # Errors
/// Refused: files that differ are in the way (unless forced), another checkout works on the same target, or the link mode is not
/// possible there; the store itself is there. Not found: the path asked for. Damaged; I/O.
pub fn checkout(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let target = &std::path::absolute(target).map_err(|e| Error::io("find", target, e))?;
    plan::store_below(version, target)?; // never into the store
    match disk::look(target)? {
        None => into_new(version, target, options),
        Some(_) if std::fs::metadata(target).is_ok_and(|m| m.is_dir()) => into_existing(version, target, options),
        Some(_) => Err(Error::refused(format!("{} is in the way: it is no directory", show_path(target))).hint("name another directory")),
    }
}

/// Builds the directory beside its place, then renames it in. What an earlier, interrupted checkout left there is used.
fn into_new(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let parent = target.parent().ok_or_else(|| Error::usage("the target has no parent directory"))?;
    let disk = Disk::of(parent.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
    disk.create_dirs(parent)?;
    let name = target.file_name().ok_or_else(|| Error::usage("the target has no name"))?;
    let mut aside_name = b".".to_vec();
    aside_name.extend_from_slice(&name.as_bytes()[..name.len().min(200)]);
    aside_name.extend_from_slice(format!(".cairn-{}", &version.digest().hex()[..16]).as_bytes());
    let aside = parent.join(std::ffi::OsStr::from_bytes(&aside_name));
    disk.create_dir(&aside)?;
    let lock = std::fs::File::open(&aside).map_err(|e| Error::io("open", &aside, e))?;
    // SAFETY: the descriptor is open; the lock goes with it.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(Error::refused(format!("another checkout to {} is at work", show_path(target))).hint("wait for it"));
    }
    let fresh = disk::list(&aside)?.is_empty();
    let inner = CheckoutOptions { force: true, prune: true, ..options.clone() };
    let written = if fresh { write(&disk, version, &aside, &inner, None, Naming::Direct) } else { into(&disk, version, &aside, &inner, Naming::Direct) };
    match &written {
        Err(e) if fresh && e.kind() == Kind::Refused => disk.remove_tree(&aside)?, // saying the same again would be refused again: nothing to go on with
        Err(_) => drop(disk.remove_dir(&aside)),                                   // if nothing is in it
        Ok(_) => {}
    }
    let mut report = written?;
    report.removed = 0;
    rename_new(&disk, &aside, target)?;
    Ok(report)
}

/// Renames a directory to a name that must be free. An empty directory that appeared meanwhile is replaced.
fn rename_new(disk: &Disk, from: &Path, to: &Path) -> Result<()> {
    disk.rename(from, to).map_err(|e| match e.errno() {
        Some(libc::ENOTEMPTY | libc::EEXIST | libc::ENOTDIR) => {
            Error::refused(format!("{} came to exist while it was being made", show_path(to))).hint("say it again: what was written is kept")
        }
        _ => e,
    })
}

fn into_existing(version: &Version, target: &Path, options: &CheckoutOptions) -> Result<CheckoutReport> {
    let disk = Disk::of(target, Access::Umask)?;
    if disk::list_following(target)?.is_empty() {
        return write(&disk, version, target, options, None, Naming::Renamed);
    }
    into(&disk, version, target, options, Naming::Renamed)
}

/// Whether a file is written under its final name or renamed to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// The whole directory is aside.
    Direct,
    /// Others may look.
    Renamed,
}

/// Into a directory that has something in it: looks at everything first, so that a refusal changes nothing.
fn into(disk: &Disk, version: &Version, target: &Path, options: &CheckoutOptions, naming: Naming) -> Result<CheckoutReport> {
    let plan = plan::look(version, target, options)?;
    if !options.force && !plan.differing.is_empty() {
        let named: Vec<_> = plan.differing.iter().take(NAMED).map(|p| p.to_string()).collect();
        let more = plan.differing.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Error::refused(format!("in {} other content is in the way: {}{more}", show_path(target), named.join(", ")))
            .hint("nothing was changed; --force replaces what differs"));
    }
    for path in &plan.differing {
        // A directory in the way of a file, or the reverse; a file in the way of a file is replaced by a rename.
        let at = path.on_disk(target);
        if plan.found.get(path).is_none_or(|f| *f == Found::OtherKind) {
            disk.remove_tree(&at)?;
        }
    }
    let mut report = write(disk, version, target, options, Some(&plan), naming)?;
    if options.prune {
        for path in &plan.extra {
            disk.remove_tree(path)?;
            report.removed += 1;
        }
    }
    Ok(report)
}

/// Walks the version, makes directories, and has files made by several threads.
fn write(disk: &Disk, version: &Version, target: &Path, options: &CheckoutOptions, plan: Option<&plan::Plan>, naming: Naming) -> Result<CheckoutReport> {
    let fill = Fill::new(disk, version.store().objects(), options.link, naming);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((CheckoutReport::default(), None::<Error>));
    let threads = crate::threads::count();
    let (send, receive) = mpsc::sync_channel::<Vec<(PathBuf, Visit)>>(threads * 4);
    let receive = Mutex::new(receive);
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let Ok(batch) = ({ receive.lock().recv() }) else { return };
            if stop.load(Ordering::Relaxed) {
                continue; // drains, so that the walk does not block
            }
            let mut part = CheckoutReport::default();
            for (at, visit) in batch {
                let made = fill.make(&at, &visit.entry, plan.and_then(|p| p.found.get(&visit.path).copied()), &mut buffer);
                match made {
                    Ok(made) => part.add(&visit.entry, made),
                    Err(e) => {
                        stop.store(true, Ordering::Relaxed);
                        let e = e.while_doing(format!("cannot write out {} of {version}", visit.path));
                        shared.lock().1.get_or_insert(e);
                        break;
                    }
                }
                options.progress.done(1, size_of(&visit.entry));
            }
            let mut shared = shared.lock();
            shared.0.merge(&part);
        }
    };
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(work);
        }
        let walked = feed(disk, version, target, options, &stop, send);
        if let Err(e) = walked {
            stop.store(true, Ordering::Relaxed);
            shared.lock().1.get_or_insert(e);
        }
    });
    match shared.into_inner() {
        (_, Some(e)) => Err(e),
        (report, None) => Ok(report),
    }
}

/// Makes directories and hands out everything else.
fn feed(disk: &Disk, version: &Version, target: &Path, options: &CheckoutOptions, stop: &AtomicBool, send: mpsc::SyncSender<Vec<(PathBuf, Visit)>>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    for visit in selected(version, options)? {
        let visit = visit?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let at = visit.path.on_disk(target);
        if visit.entry.is_directory() {
            disk.create_dir(&at)?;
            continue;
        }
        options.progress.expect(1, size_of(&visit.entry));
        batch.push((at, visit));
        if batch.len() == BATCH && send.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
            return Ok(());
        }
    }
    let _ = send.send(batch);
    Ok(())
}

/// The entries that are asked for, in path order, with the directories above them.
pub(super) fn selected(version: &Version, options: &CheckoutOptions) -> Result<Box<dyn Iterator<Item = Result<Visit>> + Send>> {
    let tree = version.tree()?;
    let Some(path) = options.path.as_ref().filter(|p| !p.is_root()) else { return Ok(Box::new(tree.walk())) };
    let mut above = Vec::new();
    let mut at = RelPath::root();
    for name in path.parts() {
        at = at.join(name)?;
        let found = tree.lookup(&at)?.ok_or_else(|| Error::not_found(format!("there is no {path} in {version}")).hint(format!("`cairn ls {version}` lists it")))?;
        above.push(Ok(Visit { path: at.clone(), entry: found.entry, rank: found.rank }));
    }
    Ok(Box::new(above.into_iter().chain(tree.walk_below(path)?)))
}

fn size_of(entry: &Entry) -> u64 {
    if let Entry::File { size, .. } = entry { *size } else { 0 }
}

/// What became of one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    Written,
    Kept,
}

impl CheckoutReport {
    fn add(&mut self, entry: &Entry, made: Made) {
        if let Entry::File { size, .. } = entry {
            self.files += 1;
            self.bytes += size;
        }
        match made {
            Made::Written => self.written += 1,
            Made::Kept => self.kept += 1,
        }
    }

    fn merge(&mut self, other: &CheckoutReport) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.written += other.written;
        self.kept += other.kept;
        self.removed += other.removed;
    }
}
