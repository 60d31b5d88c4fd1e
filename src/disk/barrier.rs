//! What must be durable before a number is claimed (FORMAT.md, "Durability"): the one place that knows which file
//! system needs which sync.
//!
//! - Ordered ones (ext3 and ext4 with a journal, xfs) keep the order in which names are made: the sync of the claim's
//!   directory makes every earlier name durable too, so the barrier syncs files only.
//! - Other local ones need a sync of each directory; of many files or directories one sync of the file system is
//!   cheaper.
//! - Where a directory's sync does not reach the symlinks in it ([`FsKind::and_needs_whole_syncs`]), one sync of the
//!   file system replaces all of them.
//! - On shared ones each file and directory is synced by itself, several at a time.

use super::{Disk, FsKind, NewFile, Watch};
use crate::error::Result;
use crate::threads;
use std::path::{Path, PathBuf};

/// From this many new files on, one `syncfs` is cheaper than a sync of each; and no more of them are kept open.
pub const MANY_FILES: usize = 64;
/// How many files are synced at a time.
const SYNCERS: usize = 8;

/// A written file that must become durable: by its descriptor if it is still open, else by its name.
#[derive(Clone, Copy, Debug)]
pub struct Unsynced<'a> {
    /// The open file, which notices a failure to write it back.
    pub file: Option<&'a NewFile>,
    /// Its name.
    pub path: &'a Path,
}

impl<'a> Unsynced<'a> {
    fn open(file: &'a NewFile) -> Unsynced<'a> {
        Unsynced { file: Some(file), path: file.path() }
    }

    fn sync(&self, disk: &Disk) -> Result<()> {
        self.file.map_or_else(|| disk.sync_path(self.path), |file| disk.sync_file(file))
    }
}

/// The barrier between writing and claiming, in two halves: first files become durable, then names. What is renamed to
/// its place is renamed in between.
#[derive(Debug)]
pub struct PublishBarrier<'a> {
    disk: &'a Disk,
    watch: Option<&'a Watch>,
}

impl Disk {
    /// The barrier that everything written must pass before a number is claimed for it. `watch` was begun before the
    /// first write, on a local file system; without it, files and directories are synced one by one.
    pub fn publish_barrier<'a>(&'a self, watch: Option<&'a Watch>) -> PublishBarrier<'a> {
        PublishBarrier { disk: self, watch }
    }

    /// Whether a later sync of any directory makes the names made before it durable too.
    pub fn keeps_order_of_names(&self) -> bool {
        self.kind == FsKind::Ordered
    }
}

/// Syncs all files, several at a time.
fn sync_each(disk: &Disk, content: &[Unsynced<'_>], records: &[NewFile]) -> Result<()> {
    let all: Vec<_> = content.iter().copied().chain(records.iter().map(Unsynced::open)).collect();
    threads::for_each(SYNCERS, &all, |file| file.sync(disk))
}

impl PublishBarrier<'_> {
    /// Makes `content` durable, and `records` with it. `names_follow`: [`PublishBarrier::names`] will be called with at
    /// least one directory. Where that syncs the whole file system it takes the records with it.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn files(&self, content: &[Unsynced<'_>], records: &[NewFile], names_follow: bool) -> Result<()> {
        let disk = self.disk;
        let records = if disk.whole_syncs && names_follow { &[] } else { records };
        match self.watch {
            Some(watch) if content.len() + records.len() >= MANY_FILES => disk.sync_fs(watch),
            Some(_) => {
                // All are written out at once, and then synced at once: one commit of the journal, with one flush of
                // the disk, serves all of them. What is still written out while it commits would need a commit of its
                // own, and a file that is synced after it a flush of its own.
                records.iter().for_each(|file| file.start_writeback(0, 0));
                if content.len() + records.len() > 1 {
                    let open = content.iter().filter_map(|file| file.file).chain(records);
                    open.into_iter().try_for_each(|file| disk.write_out(file))?;
                }
                sync_each(disk, content, records)
            }
            None => sync_each(disk, content, records),
        }
    }

    /// Makes the names in `dirs` durable, unless the sync after the claim does.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn names<P: AsRef<Path> + Sync>(&self, dirs: &[P]) -> Result<()> {
        let disk = self.disk;
        if disk.keeps_order_of_names() || dirs.is_empty() {
            return Ok(());
        }
        match self.watch {
            Some(watch) if disk.whole_syncs || dirs.len() >= MANY_FILES => disk.sync_fs(watch),
            Some(_) => dirs.iter().try_for_each(|dir| disk.sync_dir(dir.as_ref())),
            None => threads::for_each(SYNCERS, dirs, |dir| disk.sync_dir(dir.as_ref())),
        }
    }

    /// Makes one record durable, with its name in its directory: a number must not outlast the record that it names.
    ///
    /// # Errors
    /// I/O; the handle is poisoned then.
    pub fn record(&self, record: &NewFile) -> Result<()> {
        self.disk.sync_file(record)?;
        let dir: Option<PathBuf> = record.path().parent().map(Path::to_path_buf);
        self.names(dir.as_slice())
    }
}
