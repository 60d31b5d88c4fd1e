//! VersionDraft what was written durable, and only then visible (L1, L7, F2).
//!
//! First every file is made durable under its temporary name; then each is renamed to its place; then the directories
//! are made durable. A crash after any step leaves temporaries, or content that nothing names: both are a collector's.
//! The index is tended last; it is a cache.

use super::known_damage::Damaged;
use super::large;
use super::pack_file::read_footer;
use super::write::ObjectWriter;
use crate::disk::{self, Created, MANY_FILES, NewFile, PublishBarrier, Unsynced};
use crate::error::{Kind, Result};
use crate::types::Digest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What a transaction brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sealed {
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
}

/// A whole file under its temporary name.
pub(super) struct Temp {
    path: PathBuf,
    /// Open, so that a failure to write it back is noticed, while there are not too many.
    file: Option<NewFile>,
    durable: bool,
    becomes: Becomes,
}

impl Temp {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn unsynced(&self) -> Unsynced<'_> {
        Unsynced { file: self.file.as_ref(), path: &self.path }
    }
}

/// What a temporary file will be.
#[derive(Clone, Copy)]
pub(super) enum Becomes {
    Pack(Digest),
    Object(Digest),
}

impl Becomes {
    fn damaged(&self) -> Damaged {
        match self {
            Becomes::Pack(name) => Damaged::Pack(*name),
            Becomes::Object(digest) => Damaged::Object(*digest),
        }
    }
}

impl ObjectWriter {
    /// Makes everything durable, `extra` (the version's own files) with it, then visible. After all lanes are closed.
    /// The entries of `dirs` become durable together with the names made here.
    ///
    /// On ext4 and xfs the names made here come to the disk no later than the claim's, whose directory is synced: their
    /// journals keep the order of changes. Elsewhere they are durable when this returns.
    ///
    /// # Errors
    /// I/O, also when storing failed before: nothing may be published then.
    pub fn seal(self, extra: &[NewFile], dirs: &[&Path]) -> Result<Sealed> {
        self.close_packs()?;
        self.check_failed()?;
        // Another writer may have made the names relied upon a moment ago, and not durable yet.
        let mut with = std::mem::take(&mut self.state.lock().relied);
        if !with.is_empty() {
            with.insert(self.objects.layout.objects());
        }
        if self.relies_on_packs.load(Ordering::Relaxed) {
            with.insert(self.objects.layout.packs());
        }
        with.extend(dirs.iter().map(|d| d.to_path_buf()));
        self.publish(extra, with)?;
        let packs = std::mem::take(&mut self.state.lock().published);
        if !packs.is_empty() {
            // A cache: what goes wrong here takes nothing from the version.
            let _: Result<()> = self.objects.tend(&self.index(), &packs, &self.dir);
        }
        Ok(Sealed { new_bytes: self.new_bytes() })
    }

    /// Takes over a whole file. Beyond [`MANY_FILES`] they are not kept open; where each is synced by itself, that is
    /// done now.
    pub(super) fn keep(&self, file: NewFile, becomes: Becomes) -> Result<()> {
        let path = file.path().to_path_buf();
        let many = self.state.lock().temps.len() >= MANY_FILES;
        let durable = many && self.watch.is_none();
        if durable {
            self.or_fail(self.objects.disk.sync_file(&file))?;
        }
        self.state.lock().temps.push(Temp { path, file: (!many).then_some(file), durable, becomes });
        Ok(())
    }

    /// Syncs what is closed, then renames it to its place (F2: never the other way round).
    pub(super) fn publish(&self, extra: &[NewFile], dirs: BTreeSet<PathBuf>) -> Result<()> {
        let temps = std::mem::take(&mut self.state.lock().temps);
        let barrier = self.objects.disk.publish_barrier(self.watch.as_ref());
        let content: Vec<_> = temps.iter().filter(|t| !t.durable).map(Temp::unsynced).collect();
        let published =
            barrier.files(&content, extra, !dirs.is_empty()).and_then(|()| self.make_visible(&temps, dirs, &barrier));
        if published.is_err() {
            // What was not renamed is removed with the writer.
            self.state.lock().temps.extend(temps);
        }
        self.or_fail(published)
    }

    /// Renames, then syncs the directories of the new names and `dirs`.
    fn make_visible(&self, temps: &[Temp], mut dirs: BTreeSet<PathBuf>, barrier: &PublishBarrier<'_>) -> Result<()> {
        let (disk, layout) = (&self.objects.disk, &self.objects.layout);
        let (mut packs, mut replaced) = (Vec::new(), Vec::new());
        for temp in temps {
            let to = match &temp.becomes {
                Becomes::Pack(name) => {
                    dirs.insert(layout.packs());
                    packs.push(*name);
                    layout.pack(name)
                }
                Becomes::Object(digest) => {
                    let dir = layout.object_dir(digest);
                    if !dirs.contains(&dir) && disk.create_dir(&dir)? == Created::New {
                        dirs.insert(layout.objects());
                    }
                    dirs.insert(dir);
                    layout.object(digest)
                }
            };
            if disk.rename_if_absent(&temp.path, &to)? == Created::Exists {
                if self.is_right(&temp.becomes, &temp.path, &to)? {
                    disk.remove_file(&temp.path)?;
                } else {
                    disk.rename(&temp.path, &to)?;
                    replaced.push(temp.becomes.damaged());
                }
            }
        }
        self.state.lock().published.extend(packs);
        barrier.names(&dirs.into_iter().collect::<Vec<_>>())?;
        if !replaced.is_empty() {
            let known = self.objects.known_damage()?;
            replaced.iter().for_each(|damaged| self.objects.forget_damage(&known, damaged));
        }
        Ok(())
    }

    /// Whether what another writer put at `to` meanwhile is right, as far as the store can know it without reading all:
    /// it has the length, time and footer of what is at `from`, and is not on the list of known damage. It is never
    /// replaced then, not even by the same bytes: without a journal, blocks of a replaced file can get other content
    /// before its new name is on the disk.
    fn is_right(&self, becomes: &Becomes, from: &Path, to: &Path) -> Result<bool> {
        let known = self.objects.known_damage()?;
        let (Some(ours), Some(theirs)) = (disk::lstat(from)?, self.objects.look(to)?) else { return Ok(false) };
        if !theirs.is_file() || ours.len() != theirs.len() {
            return Ok(false);
        }
        match becomes {
            Becomes::Object(digest) => Ok(large::untouched(&theirs) && !known.has(&Damaged::Object(*digest))),
            Becomes::Pack(name) if known.has_pack(name) => Ok(false),
            Becomes::Pack(name) => match read_footer(to.to_path_buf(), name) {
                Ok(_) => Ok(true),
                Err(e) if e.kind() == Kind::Damaged => Ok(false),
                Err(e) => Err(e),
            },
        }
    }
}
