//! Who may read and write a store: shown, given to a group, and corrected where entries do not follow the store's
//! directory.
//!
//! The mode, owner and group of the store's directory decide. New entries follow them, whatever the umask. Entries that
//! were made otherwise (by a release that followed the umask, a copying tool, a chmod) are corrected by a walk, which
//! changes each entry by itself: if it is interrupted, the next one continues.

use crate::disk::{self, Access, Dir, Disk, EntryStat};
use crate::error::{Error, Result};
use crate::layout::{DIRECTORIES, Layout, RESERVE};
use crate::lock::{self, LockRecord};
use crate::progress::Progress;
use crate::store::{Config, Store, group_id};
use crate::types::Token;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// How many paths a report names.
const NAMED: usize = 10;

/// Who may use a store, by its directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreRights {
    /// The owner's name, or number.
    pub owner: String,
    /// The name of the directory's group, or its number.
    pub group: String,
    /// Permission bits, set-group-id included.
    pub mode: u32,
    /// The group whose members may write everything, if the store has one.
    pub shared_with: Option<String>,
    /// This user may read it.
    pub may_read: bool,
    /// This user may write to it.
    pub may_write: bool,
}

/// What a walk found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AccessReport {
    /// Directories and files that it looked at.
    pub checked: u64,
    /// Those that do not follow the store's directory; they were corrected, if that was asked for.
    pub wrong: u64,
    /// The first of them.
    pub examples: Vec<PathBuf>,
    /// Those that this user may not correct, or not look into.
    pub refused: u64,
    /// The first of them.
    pub refused_examples: Vec<PathBuf>,
    /// Their owners.
    pub refused_owners: BTreeSet<String>,
    /// Processes that were at work with the earlier rules and may have made more such entries meanwhile.
    pub at_work: Vec<LockRecord>,
}

/// Whether a walk changes what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// It only reports.
    Check,
    /// It corrects.
    Fix,
}

/// Who may use the store.
///
/// # Errors
/// I/O.
pub fn rights(store: &Store) -> Result<StoreRights> {
    let root = store.root();
    let meta = std::fs::metadata(root).map_err(|e| Error::io("look at", root, e))?;
    Ok(StoreRights {
        owner: disk::show_user(meta.uid()),
        group: disk::show_group(meta.gid()),
        mode: meta.mode() & 0o7777,
        shared_with: store.config().group.clone(),
        may_read: disk::may(disk::Right::Read, root, true)?,
        may_write: disk::may_write(&store.layout().work()).is_ok(),
    })
}

/// Makes an existing store writable for a group: sets the group and mode of its directory, and notes the group in
/// `cairn.json`, so that everything made from now on is open to it. [`correct`] does the same to what is there.
///
/// # Errors
/// Usage: there is no such group. I/O: this user may not do that.
pub fn share(store: &Store, group: &str) -> Result<()> {
    store.check_features()?;
    let gid = group_id(group)?;
    let root = store.root();
    let meta = std::fs::metadata(root).map_err(|e| Error::io("look at", root, e))?;
    let only_owner = |e: Error| match e.errno() {
        Some(libc::EPERM | libc::EACCES) => {
            e.with_hint("only the owner of the store, as a member of that group, or root can do this")
        }
        _ => e,
    };
    let mode = 0o2770 | meta.mode() & 0o005;
    if (meta.gid(), meta.mode() & 0o7777) != (gid, mode) {
        store.disk().set_group_and_mode(root, gid, mode).map_err(only_owner)?;
    }
    if store.config().group.as_deref() != Some(group) {
        note_group(store.layout(), group).map_err(only_owner)?;
    }
    Ok(())
}

/// Replaces `cairn.json` by one that names the group. Its other fields stay, those that this release does not know
/// included.
fn note_group(layout: &Layout, group: &str) -> Result<()> {
    let meta = std::fs::metadata(layout.root()).map_err(|e| Error::io("look at", layout.root(), e))?;
    let disk = Disk::of(layout.root(), Access::of_store(&meta, true))?;
    Config::change(layout, &disk, &|fields| {
        fields.insert("group".to_owned(), group.into());
        Ok(())
    })
}

/// Looks at every directory and file of the store, and corrects those that do not follow its directory, if `walk` says
/// so. What users have in staging directories is theirs and is left alone.
///
/// # Errors
/// I/O, a conflict if it is cancelled. What this user may not correct is reported.
pub fn correct(store: &Store, walk: Walk, progress: &Progress) -> Result<AccessReport> {
    store.check_features()?;
    // What is at work now opened the store before, perhaps with other rules.
    let at_work = match walk {
        Walk::Check => Vec::new(),
        Walk::Fix => lock::live(store, |_| true)?,
    };
    let access = store.disk().access();
    let mut walker = Walker { access, walk, progress, report: AccessReport { at_work, ..AccessReport::default() } };
    let root = Dir::open(store.root())?;
    for name in root.names()? {
        let Ok(text) = std::str::from_utf8(&name) else { continue };
        if text == "staging" {
            walker.visit_staging(&root)?;
        } else if is_of_the_store(text) {
            walker.visit(&root, &name)?;
        }
    }
    Ok(walker.report)
}

fn is_of_the_store(name: &str) -> bool {
    DIRECTORIES.contains(&name)
        || name == RESERVE
        || ["cairn.json", "gc.json"].contains(&name)
        || Token::from_record_name(name.as_bytes()).is_some()
}

struct Walker<'a> {
    access: Access,
    walk: Walk,
    progress: &'a Progress,
    report: AccessReport,
}

impl Walker<'_> {
    /// Looks at an entry and at everything in it.
    fn visit(&mut self, parent: &Dir, name: &[u8]) -> Result<()> {
        self.progress.check_cancelled()?;
        let Some(found) = parent.lstat(name)? else { return Ok(()) };
        if !found.is_dir() && !found.is_file() {
            return Ok(());
        }
        self.visit_one(parent, name, found)?;
        if !found.is_dir() {
            return Ok(());
        }
        match parent.dir(name).and_then(|dir| Ok((dir.names()?, dir))) {
            Ok((names, dir)) => names.into_iter().try_for_each(|name| self.visit(&dir, &name)),
            Err(e) => self.unless_refused(e, parent.path_of(name), found),
        }
    }

    /// The stages' records, and the directory itself, but not the stages.
    fn visit_staging(&mut self, root: &Dir) -> Result<()> {
        let name = b"staging";
        let Some(found) = root.lstat(name)?.filter(|found| found.is_dir()) else { return Ok(()) };
        self.visit_one(root, name, found)?;
        let dir = match root.dir(name) {
            Ok(dir) => dir,
            Err(e) => return self.unless_refused(e, root.path_of(name), found),
        };
        for name in dir.names()? {
            if let Some(found) = dir.lstat(&name)?.filter(|found| found.is_file()) {
                self.visit_one(&dir, &name, found)?;
            }
        }
        Ok(())
    }

    fn visit_one(&mut self, parent: &Dir, name: &[u8], found: EntryStat) -> Result<()> {
        self.report.checked += 1;
        let Some(correction) = self.access.correction(found) else { return Ok(()) };
        let path = parent.path_of(name);
        self.report.wrong += 1;
        if self.report.examples.len() < NAMED {
            self.report.examples.push(path.clone());
        }
        if self.walk == Walk::Check {
            return Ok(());
        }
        // Another name of a file may be outside the store. Its owner could have put it here.
        if found.is_file() && found.links() > 1 {
            self.refuse(path, found);
            return Ok(());
        }
        match parent.correct(name, found, correction) {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ESTALE)) => Ok(()), // it went away meanwhile
            Err(e) => self.unless_refused(e, path, found),
            Ok(()) => Ok(()),
        }
    }

    fn unless_refused(&mut self, e: Error, path: PathBuf, found: EntryStat) -> Result<()> {
        match e.errno() {
            Some(libc::EACCES | libc::EPERM) => self.refuse(path, found),
            Some(libc::ENOENT) => {}
            _ => return Err(e),
        }
        Ok(())
    }

    fn refuse(&mut self, path: PathBuf, found: EntryStat) {
        self.report.refused += 1;
        self.report.refused_owners.insert(disk::show_user(found.owner()));
        if self.report.refused_examples.len() < NAMED {
            self.report.refused_examples.push(path);
        }
    }
}
