//! Finished temporary files of a transaction: made durable, and only then visible (L1, L7, F2).
//!
//! First every file is made durable under its temporary name. Then each is renamed to its final name. Then the
//! directories are made durable. A crash after any step leaves temporary files, or content that no version names; a
//! collector removes both.

use super::content_store::Objects;
use super::damage::DamagedItem;
use super::object_file::has_object_time;
use super::pack_file::read_footer;
use crate::disk::{self, Created, MANY_FILES, NewFile, PublishBarrier, Unsynced, Watch};
use crate::error::{Error, Kind, Result};
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a temporary file becomes.
#[derive(Clone, Copy)]
pub(super) enum StagedAs {
    Pack(Digest),
    Object(Digest),
}

impl StagedAs {
    fn as_damaged(&self) -> DamagedItem {
        match self {
            StagedAs::Pack(name) => DamagedItem::Pack(*name),
            StagedAs::Object(digest) => DamagedItem::Object(*digest),
        }
    }
}

/// A complete file under its temporary name.
struct StagedFile {
    path: PathBuf,
    /// Open, so that a failed writeback is noticed; `None` beyond [`MANY_FILES`].
    file: Option<NewFile>,
    durable: bool,
    target: StagedAs,
}

impl StagedFile {
    fn unsynced(&self) -> Unsynced<'_> {
        Unsynced { file: self.file.as_ref(), path: &self.path }
    }
}

/// The staged files of one transaction. Dropping it removes those that are not visible.
pub(super) struct StagedFiles {
    objects: Arc<Objects>,
    /// On local file systems only. Begun before anything is written.
    watch: Option<Watch>,
    files: Mutex<Vec<StagedFile>>,
    /// The packs that were made visible.
    published: Mutex<Vec<Digest>>,
    failed: AtomicBool,
}

impl StagedFiles {
    /// Begins before the first write to `dir`.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn begin(objects: &Arc<Objects>, dir: &Path) -> Result<StagedFiles> {
        let disk = objects.disk();
        Ok(StagedFiles {
            objects: objects.clone(),
            watch: if disk.kind().is_local() { Some(disk.watch(dir)?) } else { None },
            files: Mutex::default(),
            published: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    /// Passes `result` on and remembers an error: then nothing is published any more.
    pub(super) fn fail_on_error<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        result
    }

    /// # Errors
    /// I/O: storing failed earlier.
    pub(super) fn check_failed(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(Error::io_message("storing content failed earlier: nothing that relies on it is published"));
        }
        Ok(())
    }

    /// The packs that were made visible since the last call.
    pub(super) fn take_published_packs(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.published.lock())
    }

    /// Takes a complete file. From [`MANY_FILES`] on files are not kept open; where each must be synced by itself, this
    /// happens now.
    pub(super) fn stage(&self, file: NewFile, target: StagedAs) -> Result<()> {
        let path = file.path().to_path_buf();
        let many = self.files.lock().len() >= MANY_FILES;
        let durable = many && self.watch.is_none();
        if durable {
            self.fail_on_error(self.objects.disk().sync_file(&file))?;
        }
        self.files.lock().push(StagedFile { path, file: (!many).then_some(file), durable, target });
        Ok(())
    }

    /// Makes what is staged durable, then visible (F2: never the other way round).
    pub(super) fn publish(&self, extra: &[NewFile], dirs: BTreeSet<PathBuf>) -> Result<()> {
        let files = std::mem::take(&mut *self.files.lock());
        let barrier = self.objects.disk().publish_barrier(self.watch.as_ref());
        let content: Vec<_> = files.iter().filter(|f| !f.durable).map(StagedFile::unsynced).collect();
        let published =
            barrier.files(&content, extra, !dirs.is_empty()).and_then(|()| self.make_visible(&files, dirs, &barrier));
        if published.is_err() {
            // Files that were not renamed are removed when this is dropped.
            self.files.lock().extend(files);
        }
        self.fail_on_error(published)
    }

    /// Renames, then syncs the directories of the new names and `dirs`.
    fn make_visible(
        &self,
        files: &[StagedFile],
        mut dirs: BTreeSet<PathBuf>,
        barrier: &PublishBarrier<'_>,
    ) -> Result<()> {
        let (mut packs, mut replaced) = (Vec::new(), Vec::new());
        for staged in files {
            let to = self.final_path(staged.target, &mut dirs)?;
            if self.rename_into_place(staged, &to)? {
                replaced.push(staged.target.as_damaged());
            }
            if let StagedAs::Pack(name) = staged.target {
                packs.push(name);
            }
        }
        self.published.lock().extend(packs);
        self.objects.forget_misses();
        barrier.names(&dirs.into_iter().collect::<Vec<_>>())?;
        if !replaced.is_empty() {
            let known = self.objects.known_damage()?;
            replaced.iter().for_each(|damaged| self.objects.forget_damage(&known, damaged));
        }
        Ok(())
    }

    /// The final name of a staged file. Creates its directory; adds the directories that must be synced to `dirs`.
    fn final_path(&self, target: StagedAs, dirs: &mut BTreeSet<PathBuf>) -> Result<PathBuf> {
        let layout = self.objects.layout();
        match target {
            StagedAs::Pack(name) => {
                dirs.insert(layout.packs());
                Ok(layout.pack(&name))
            }
            StagedAs::Object(digest) => {
                let dir = layout.object_dir(&digest);
                if !dirs.contains(&dir) && self.objects.disk().create_dir(&dir)? == Created::New {
                    dirs.insert(layout.objects());
                }
                dirs.insert(dir);
                Ok(layout.object(&digest))
            }
        }
    }

    /// Renames a file to its final name, or removes it if a good one is there. `true` if it replaced a bad one.
    fn rename_into_place(&self, staged: &StagedFile, to: &Path) -> Result<bool> {
        let disk = self.objects.disk();
        if disk.rename_if_absent(&staged.path, to)? != Created::Exists {
            return Ok(false);
        }
        if self.is_good(&staged.target, &staged.path, to)? {
            disk.remove_file(&staged.path)?;
            return Ok(false);
        }
        disk.rename(&staged.path, to)?;
        Ok(true)
    }

    /// Whether the file that another writer put at `to` meanwhile is good, as far as the store can know it without
    /// reading all of it: it has the length, time and footer of the file at `from`, and is not on the list of known
    /// damage. A good file is never replaced, not even by the same bytes: without a journal, blocks of a replaced file
    /// can get other content before the new name is on the disk.
    fn is_good(&self, target: &StagedAs, from: &Path, to: &Path) -> Result<bool> {
        let known = self.objects.known_damage()?;
        let (Some(ours), Some(theirs)) = (disk::lstat(from)?, disk::lstat_revalidated(to)?) else {
            return Ok(false);
        };
        if !theirs.is_file() || ours.len() != theirs.len() {
            return Ok(false);
        }
        match target {
            StagedAs::Object(digest) => Ok(has_object_time(&theirs) && !known.has(&DamagedItem::Object(*digest))),
            StagedAs::Pack(name) if known.has_pack(name) => Ok(false),
            StagedAs::Pack(name) => match read_footer(to.to_path_buf(), name) {
                Ok(_) => Ok(true),
                Err(e) if e.kind() == Kind::Damaged => Ok(false),
                Err(e) => Err(e),
            },
        }
    }
}

impl Drop for StagedFiles {
    /// Removes the files that were not made visible. If that fails, a collector removes them.
    fn drop(&mut self) {
        for staged in self.files.get_mut() {
            let _: Result<()> = self.objects.disk().remove_file(&staged.path);
        }
    }
}
