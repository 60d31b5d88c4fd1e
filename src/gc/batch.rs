//! Content on its way out: moved into a batch of the trash, where readers still find it, then put back or freed.

use super::history::History;
use super::marks::Marks;
use super::moves::{self, MANY, Quick};
use super::report::GcReport;
use super::tokens::purpose;
use super::trash;
use crate::disk::{self, DirHandle, FsKind, Moved};
use crate::error::{Error, Result, show_path};
use crate::lock::LockFile;
use crate::objects::{BlobKind, Copies, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::threads;
use crate::types::{Digest, Token};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many files are listed at once.
const MAX_LISTED: usize = 1 << 20;

/// Temporary files of a collection in its batch: the history while it is written, and a file whose mtime is the store's
/// present time.
const HISTORY: &str = "gc.json";
const PROBE: &str = "probe";

/// How often a step is tried whose batch another collection removes.
const TRIES: usize = 16;

/// A directory `trash/TOKEN` that this collection fills. Its lock has the same token, so that other collections leave
/// it alone while this one lives. If they do take it over (the lock was broken, or they are of an earlier release),
/// what was in it is theirs to free or to put back, and this collection continues without it.
pub(super) struct Batch<'a> {
    store: &'a Store,
    name: OsString,
    _lock: LockFile,
    /// How many files came in, and have not left.
    files: AtomicU64,
}

/// A file of content in place or in a batch.
pub(super) enum Item {
    Object(Digest),
    Pack(Digest),
}

impl Item {
    fn parse(name: &str) -> Option<Item> {
        match name.strip_prefix("object-") {
            Some(hex) => Digest::of_hex(hex.as_bytes()).map(Item::Object),
            None => Digest::of_hex(name.strip_prefix("pack-")?.as_bytes()).map(Item::Pack),
        }
    }

    /// The file of this content at `path`.
    fn file(&self, path: PathBuf, size: u64) -> StoredFile {
        let (Item::Object(name) | Item::Pack(name)) = self;
        StoredFile { path, name: Some(*name), size }
    }

    fn place(&self, store: &Store) -> PathBuf {
        match self {
            Item::Object(digest) => store.layout().object(digest),
            Item::Pack(name) => store.layout().pack(name),
        }
    }

    fn trashed(&self, store: &Store, batch: &OsString) -> PathBuf {
        match self {
            Item::Object(digest) => store.layout().trashed_object(batch, digest),
            Item::Pack(name) => store.layout().trashed_pack(batch, name),
        }
    }
}

/// Where a file that was to be moved is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// In its new place.
    Here,
    /// It was in its new place before, and lost its other name.
    Before,
    /// It stayed, because another file has the new name.
    Not,
    /// Another collection moved it.
    Away,
}

/// What came from other batches.
pub(super) struct Adopted {
    /// Those in which files stayed, because this batch has the same content.
    pub(super) rest: Vec<OsString>,
    /// How many files came.
    pub(super) files: usize,
}

/// What becomes of a file in a batch.
enum Fate {
    /// Nothing needs it, or everything that is needed of it is in place elsewhere, and was read and hashed there.
    Free,
    /// Something needs it, or it cannot be read.
    PutBack,
}

fn fate<'a>(
    store: &'a Store,
    marks: &Marks,
    item: &Item,
    file: &StoredFile,
    copies: &mut Option<Copies<'a>>,
) -> Result<Fate> {
    let needed: Vec<(Digest, BlobKind)> = match item {
        Item::Object(digest) => vec![(*digest, BlobKind::Content)],
        Item::Pack(_) => {
            let mut damage = Vec::new();
            let contents = store.objects().list_pack(file, &mut damage)?;
            if !damage.is_empty() {
                return Ok(Fate::PutBack);
            }
            contents.blobs.iter().map(|(digest, kind, _)| (*digest, *kind)).collect()
        }
    };
    for (digest, kind) in needed.iter().filter(|(digest, kind)| marks.needs(digest, *kind)) {
        let mut found = match copies.take() {
            Some(found) => found,
            None => store.objects().copies()?,
        };
        let has = found.has(digest, *kind);
        *copies = Some(found);
        if !has? {
            return Ok(Fate::PutBack);
        }
    }
    Ok(Fate::Free)
}

impl<'a> Batch<'a> {
    /// A batch of a fresh name.
    pub(super) fn new(store: &'a Store) -> Result<Batch<'a>> {
        let token = Token::fresh();
        let lock = LockFile::take(store, &token, &purpose())?;
        Batch::locked(store, &token, lock)
    }

    /// A batch with the name of a token whose lock this process holds.
    pub(super) fn locked(store: &'a Store, token: &Token, lock: LockFile) -> Result<Batch<'a>> {
        let batch = Batch { store, name: token.to_string().into(), _lock: lock, files: AtomicU64::new(0) };
        batch.create()?;
        Ok(batch)
    }

    /// Makes its directory, also again after another collection removed it.
    fn create(&self) -> Result<()> {
        self.store.disk().create_dir(&self.dir()).map(drop)
    }

    /// Does something in the batch's directory. If the directory was removed meanwhile, makes it and tries again.
    fn in_dir<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        for _ in 1..TRIES {
            match act() {
                Err(e) if e.errno() == Some(libc::ENOENT) => self.create()?,
                done => return done,
            }
        }
        act()
    }

    /// Writes what this collection saw. The file is written in the batch, and renamed to its place.
    pub(super) fn write_history(&self, history: &History) -> Result<()> {
        self.in_dir(|| history.write(self.store, self.dir().join(HISTORY)))
    }

    /// The present time by the store's own clock: the mtime of a file that is written now.
    pub(super) fn now(&self) -> Result<i64> {
        let probe = self.dir().join(PROBE);
        let written = self.in_dir(|| {
            drop(self.store.disk().write_file(probe.clone(), b"")?);
            disk::lstat(&probe)?.ok_or_else(|| Error::io("look at", &probe, io::Error::from_raw_os_error(libc::ENOENT)))
        });
        self.store.disk().remove_file(&probe)?;
        Ok(written?.mtime())
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.store.layout().trash().join(&self.name)
    }

    pub(super) fn name(&self) -> &OsString {
        &self.name
    }

    /// Moves files in.
    pub(super) fn take(&self, items: &[Item]) -> Result<()> {
        self.take_from(items, |item| item.place(self.store)).map(drop)
    }

    /// Takes over what is in other batches, and removes them.
    pub(super) fn adopt(&self, others: &[OsString]) -> Result<Adopted> {
        let mut adopted = Adopted { rest: Vec::new(), files: 0 };
        for other in others {
            let dir = self.store.layout().trash().join(other);
            for temporary in [HISTORY, PROBE] {
                self.store.disk().remove_file(&dir.join(temporary))?;
            }
            let items: Vec<_> = disk::list(&dir)?.iter().filter_map(|name| Item::parse(name.to_str()?)).collect();
            let placed = self.take_from(&items, |item| item.trashed(self.store, other))?;
            adopted.files += placed.iter().filter(|placed| **placed == Placed::Here).count();
            if placed.contains(&Placed::Not) {
                adopted.rest.push(other.clone());
            }
            // If something else is in it, that stays, and the directory with it.
            let _ = self.store.disk().remove_dir(&dir);
        }
        Ok(adopted)
    }

    fn take_from(&self, items: &[Item], from: impl Fn(&Item) -> PathBuf) -> Result<Vec<Placed>> {
        let placed = self.relocate(items, from, |item| item.trashed(self.store, &self.name), &self.dir())?;
        let came = placed.iter().filter(|placed| **placed == Placed::Here).count();
        self.files.fetch_add(came as u64, Ordering::Relaxed);
        Ok(placed)
    }

    /// Moves files to another place, as [`Disk::move_if_absent`] does: a file that is linked there loses its old name
    /// when the new one is durable. A file stays if another one has that name: which of the two is right is not known
    /// here.
    ///
    /// [`Disk::move_if_absent`]: crate::disk::Disk::move_if_absent
    fn relocate(
        &self,
        items: &[Item],
        from: impl Fn(&Item) -> PathBuf,
        to: impl Fn(&Item) -> PathBuf,
        dir: &Path,
    ) -> Result<Vec<Placed>> {
        let (disk, pairs) = (self.store.disk(), items.iter().map(|item| (from(item), to(item))).collect::<Vec<_>>());
        let (mut moved, mut linked) = (Vec::with_capacity(items.len()), Vec::new());
        for ((from, to), quick) in pairs.iter().zip(moves::quickly(disk, &pairs, dir)) {
            moved.push(match quick {
                Quick::Renamed => Placed::Here,
                Quick::Not => self.move_file(from, to, &mut linked)?,
                Quick::Linked => {
                    linked.push((from.clone(), to.clone()));
                    Placed::Here
                }
            });
        }
        if disk.kind() == FsKind::Local || !linked.is_empty() {
            self.in_dir(|| disk.sync_dir(dir))?;
            let groups: Vec<_> = linked.chunk_by(moves::is_same_directory).collect();
            let threads = if linked.len() >= MANY { threads::count() } else { 1 };
            threads::for_each(threads, &groups, |group| moves::remove_old_names(group, dir))?;
        }
        Ok(moved)
    }

    /// Adds to `linked` a file that still has its old name.
    fn move_file(&self, from: &Path, to: &Path, linked: &mut Vec<(PathBuf, PathBuf)>) -> Result<Placed> {
        let disk = self.store.disk();
        match self.in_dir_of(from, || disk.move_if_absent(from, to)) {
            Ok(Moved::Renamed) => Ok(Placed::Here),
            Ok(Moved::Exists) if !is_same_file(from, to)? => Ok(Placed::Not),
            Ok(moved) => {
                linked.push((from.to_path_buf(), to.to_path_buf()));
                Ok(if moved == Moved::Linked { Placed::Here } else { Placed::Before })
            }
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(Placed::Away),
            Err(e) => Err(e),
        }
    }

    /// As [`Batch::in_dir`], for moving a file: if that one is missing, another collection has moved it, and there is
    /// nothing to try again.
    fn in_dir_of<T>(&self, from: &Path, act: impl Fn() -> Result<T>) -> Result<T> {
        for _ in 1..TRIES {
            match act() {
                Err(e) if e.errno() == Some(libc::ENOENT) && disk::lstat_revalidated(from)?.is_some() => {
                    self.create()?;
                }
                done => return done,
            }
        }
        act()
    }

    /// Leaves the batch to the next collection. What is in it is old enough, so the batch gets that age.
    pub(super) fn leave(&self, min_age: Duration, report: &mut GcReport) -> Result<()> {
        let dir = self.dir();
        let before = report.in_trash.files;
        trash::add_all(&dir, &mut report.in_trash)?;
        self.left(report.in_trash.files - before);
        // Its time is that of the last file that was moved in, by the store's own clock.
        if let Some(meta) = disk::lstat(&dir)? {
            match self.store.disk().set_mtime(&dir, meta.mtime() - min_age.as_secs() as i64, 0) {
                Err(e) if e.errno() == Some(libc::ENOENT) => {}
                done => done?,
            }
        }
        self.close(report);
        Ok(())
    }

    /// Puts back what is needed and nowhere else in place, and frees the other files. Then it does the same with
    /// `rest`, batches that hold more copies of the same content.
    pub(super) fn empty(
        &self,
        mut rest: Vec<OsString>,
        marks: &Marks,
        report: &mut GcReport,
        progress: &Progress,
    ) -> Result<()> {
        let mut left = HashSet::new();
        loop {
            self.empty_own(marks, &mut left, report, progress)?;
            let adopted = self.adopt(&rest)?;
            if adopted.files == 0 {
                break;
            }
            rest = adopted.rest;
        }
        self.close(report);
        Ok(())
    }

    fn empty_own(
        &self,
        marks: &Marks,
        left: &mut HashSet<OsString>,
        report: &mut GcReport,
        progress: &Progress,
    ) -> Result<()> {
        // Listed anew each time: a pack that was put back is one of them.
        let mut copies = None;
        loop {
            let items = self.some_items(left)?;
            if items.is_empty() {
                return Ok(());
            }
            let is_garbage = |item: &Item| matches!(item, Item::Object(of) if !marks.needs(of, BlobKind::Content));
            let (garbage, others): (Vec<_>, Vec<_>) = items.into_iter().partition(is_garbage);
            let names: Vec<_> = garbage.iter().filter_map(|item| self.name_of(item)).collect();
            let freed = moves::free(self.store.disk(), &self.dir(), &names, progress)?;
            report.freed.files += freed.files;
            report.freed.bytes += freed.bytes;
            self.left(freed.files);
            for item in others {
                progress.check_cancelled()?;
                let path = item.trashed(self.store, &self.name);
                let Some(meta) = disk::lstat(&path)? else { continue };
                let file = item.file(path, meta.size());
                match fate(self.store, marks, &item, &file, &mut copies)? {
                    Fate::Free => {
                        self.store.disk().remove_file(&file.path)?;
                        report.freed.add(file.size);
                        self.left(1);
                    }
                    Fate::PutBack => left.extend(self.put_back(item, file.size, report)?),
                }
            }
        }
    }

    fn name_of(&self, item: &Item) -> Option<OsString> {
        item.trashed(self.store, &self.name).file_name().map(OsStr::to_owned)
    }

    /// Files left the batch, or are accounted for.
    fn left(&self, files: u64) {
        let _ = self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(files)));
    }

    /// Reports what another collection took over, and removes the directory if nothing is in it.
    fn close(&self, report: &mut GcReport) {
        report.taken_over += self.files.load(Ordering::Relaxed);
        let _ = self.store.disk().remove_dir(&self.dir());
    }

    /// Returns its name if it stays in the batch.
    fn put_back(&self, item: Item, size: u64, report: &mut GcReport) -> Result<Option<OsString>> {
        let from = |item: &Item| item.trashed(self.store, &self.name);
        let place = item.place(self.store);
        let dir = place.parent().expect("content lies in a directory").to_path_buf();
        self.store.disk().create_dir(&dir)?;
        match self.relocate(std::slice::from_ref(&item), from, |_| place.clone(), &dir)?[..] {
            [Placed::Here | Placed::Before] => report.put_back.add(size),
            [Placed::Not] => {
                self.left(1);
                report.damaged.push(format!("{}: it is damaged, and stays in the trash too", show_path(&place)));
                return Ok(self.name_of(&item));
            }
            _ => return Ok(None),
        }
        self.left(1);
        Ok(None)
    }

    /// What is in it, without these names; not all at once if it is very much.
    fn some_items(&self, without: &HashSet<OsString>) -> Result<Vec<Item>> {
        let dir = self.dir();
        let mut items = Vec::new();
        let failed = |e| Error::io("list", &dir, e);
        let opened = match DirHandle::open(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(items), // another collection took it over
            opened => opened.map_err(failed)?,
        };
        let listed = opened.list(&mut |name| {
            let name = OsStr::from_bytes(name.to_bytes());
            if items.len() < MAX_LISTED && !without.contains(name) {
                items.extend(name.to_str().and_then(Item::parse));
            }
        });
        match listed {
            // It was removed after it was opened: another collection took it over.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            listed => listed.map_err(failed)?,
        }
        Ok(items)
    }
}

/// Whether both names are of one file: a crash came between the two steps of a move.
fn is_same_file(a: &Path, b: &Path) -> Result<bool> {
    let id = |path| Ok(disk::lstat(path)?.map(|meta| (meta.dev(), meta.ino())));
    let a = id(a)?;
    Ok(a.is_some() && a == id(b)?)
}
