//! Content on its way out: moved into a batch of the trash, where readers still find it, then put back or freed.

use super::marks::Marks;
use super::report::{Amount, GcReport};
use crate::disk::{self, DirHandle, FsKind, Moved};
use crate::error::{Error, Result, show_path};
use crate::objects::{BlobKind, Copies, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::types::{Digest, Token};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many files are listed at once.
const MAX_LISTED: usize = 1 << 20;

/// Temporary files of a collection in its batch: the history while it is written, and a file whose mtime is the store's
/// present time.
pub(super) const HISTORY: &str = "gc.json";
pub(super) const PROBE: &str = "probe";

/// A directory `trash/TOKEN` that this collection fills.
pub(super) struct Batch<'a> {
    store: &'a Store,
    name: OsString,
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
        let batch = Batch { store, name: Token::fresh().to_string().into() };
        batch.create()?;
        Ok(batch)
    }

    fn create(&self) -> Result<()> {
        self.store.disk().create_dir(&self.dir()).map(drop)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.store.layout().trash().join(&self.name)
    }

    pub(super) fn name(&self) -> &OsString {
        &self.name
    }

    /// Moves files in.
    pub(super) fn take(&self, items: &[Item]) -> Result<()> {
        let from = |item: &Item| item.place(self.store);
        self.relocate(items, from, |item| item.trashed(self.store, &self.name), &self.dir()).map(drop)
    }

    /// Takes over what is in another batch, and removes it.
    pub(super) fn adopt(&self, other: &OsString) -> Result<()> {
        let dir = self.store.layout().trash().join(other);
        for temporary in [HISTORY, PROBE] {
            self.store.disk().remove_file(&dir.join(temporary))?;
        }
        let items: Vec<_> = disk::list(&dir)?.iter().filter_map(|name| Item::parse(name.to_str()?)).collect();
        let to = |item: &Item| item.trashed(self.store, &self.name);
        self.relocate(&items, |item| item.trashed(self.store, other), to, &self.dir())?;
        // If something else is in it, that stays, and the directory with it.
        let _ = self.store.disk().remove_dir(&dir);
        Ok(())
    }

    /// Moves files to another place, as [`Disk::move_if_absent`] does: a file that is linked there loses its old name
    /// when the new one is durable. A file stays if another one has that name: which of the two is right is not known
    /// here. Returns which stayed.
    ///
    /// [`Disk::move_if_absent`]: crate::disk::Disk::move_if_absent
    fn relocate(
        &self,
        items: &[Item],
        from: impl Fn(&Item) -> PathBuf,
        to: impl Fn(&Item) -> PathBuf,
        dir: &Path,
    ) -> Result<Vec<bool>> {
        let disk = self.store.disk();
        let (mut stayed, mut linked) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            let moved = self.move_file(&from(item), &to(item))?;
            stayed.push(moved == Moved::Exists);
            if moved == Moved::Linked {
                linked.push(item);
            }
        }
        if disk.kind() == FsKind::Local || !linked.is_empty() {
            disk.sync_dir(dir)?;
        }
        for item in linked {
            // Otherwise another collection has moved it on.
            if disk::lstat(&to(item))?.is_some() {
                disk.remove_file(&from(item))?;
            }
        }
        Ok(stayed)
    }

    /// A file that another collection has moved meanwhile counts as moved.
    fn move_file(&self, from: &Path, to: &Path) -> Result<Moved> {
        let disk = self.store.disk();
        match disk.move_if_absent(from, to) {
            Ok(Moved::Exists) if is_same_file(from, to)? => Ok(Moved::Linked),
            Err(e) if e.errno() == Some(libc::ENOENT) && disk::lstat_revalidated(from)?.is_some() => {
                self.create()?; // another collection adopted the empty batch
                disk.move_if_absent(from, to)
            }
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(Moved::Renamed),
            moved => moved,
        }
    }

    /// Leaves the batch to the next collection. What is in it is old enough, so the batch gets that age.
    pub(super) fn leave(&self, min_age: Duration, in_trash: &mut Amount) -> Result<()> {
        let dir = self.dir();
        add_all(&dir, in_trash)?;
        // Its time is that of the last file that was moved in, by the store's own clock.
        let moved = disk::lstat(&dir)?.map_or(0, |meta| meta.mtime());
        self.store.disk().set_mtime(&dir, moved - min_age.as_secs() as i64, 0)?;
        let _ = self.store.disk().remove_dir(&dir); // if nothing is in it
        Ok(())
    }

    /// Puts back what is needed and nowhere else in place, and frees the rest.
    pub(super) fn empty(&self, marks: &Marks, report: &mut GcReport, progress: &Progress) -> Result<()> {
        let (mut copies, mut left) = (None, HashSet::new());
        loop {
            let items = self.some_items(&left)?;
            if items.is_empty() {
                break;
            }
            for item in items {
                progress.check_cancelled()?;
                let path = item.trashed(self.store, &self.name);
                let Some(meta) = disk::lstat(&path)? else { continue };
                let file = item.file(path, meta.size());
                match fate(self.store, marks, &item, &file, &mut copies)? {
                    Fate::Free => {
                        self.store.disk().remove_file(&file.path)?;
                        report.freed.add(file.size);
                    }
                    Fate::PutBack => left.extend(self.put_back(item, file.size, report)?),
                }
            }
        }
        let _ = self.store.disk().remove_dir(&self.dir());
        Ok(())
    }

    /// Returns its name if it stays in the batch.
    fn put_back(&self, item: Item, size: u64, report: &mut GcReport) -> Result<Option<OsString>> {
        let from = |item: &Item| item.trashed(self.store, &self.name);
        let place = item.place(self.store);
        let dir = place.parent().expect("content lies in a directory").to_path_buf();
        self.store.disk().create_dir(&dir)?;
        let stayed = self.relocate(std::slice::from_ref(&item), from, |_| place.clone(), &dir)?;
        if !stayed.contains(&true) {
            report.put_back.add(size);
            return Ok(None);
        }
        report.damaged.push(format!("{}: it is damaged, and stays in the trash too", show_path(&place)));
        Ok(from(&item).file_name().map(OsStr::to_owned))
    }

    /// What is in it, without these names; not all at once if it is very much.
    fn some_items(&self, without: &HashSet<OsString>) -> Result<Vec<Item>> {
        let dir = self.dir();
        let mut items = Vec::new();
        let failed = |e| Error::io("list", &dir, e);
        DirHandle::open(&dir)
            .map_err(failed)?
            .list(&mut |name| {
                let name = OsStr::from_bytes(name.to_bytes());
                if items.len() < MAX_LISTED && !without.contains(name) {
                    items.extend(name.to_str().and_then(Item::parse));
                }
            })
            .map_err(failed)?;
        Ok(items)
    }
}

/// Whether both names are of one file: a crash came between the two steps of a move.
fn is_same_file(a: &Path, b: &Path) -> Result<bool> {
    let id = |path| Ok(disk::lstat(path)?.map(|meta| (meta.dev(), meta.ino())));
    let a = id(a)?;
    Ok(a.is_some() && a == id(b)?)
}

/// Adds everything in a directory to `amount`.
fn add_all(dir: &Path, amount: &mut Amount) -> Result<()> {
    for name in disk::list(dir)? {
        amount.add(disk::lstat(&dir.join(name))?.map_or(0, |meta| meta.size()));
    }
    Ok(())
}

/// The batches of the trash that are at least this old by the store's own clock, and what the others hold. `probe` is a
/// file that was written just now.
pub(super) fn older(
    store: &Store,
    probe: &Path,
    min_age: Duration,
    own: &[&OsString],
    waiting: &mut Amount,
) -> Result<Vec<OsString>> {
    let trash = store.layout().trash();
    let now = disk::lstat(probe)?.map_or(0, |meta| meta.mtime());
    let mut out = Vec::new();
    for batch in disk::list(&trash)? {
        let dir = trash.join(&batch);
        let Some(meta) = disk::lstat(&dir)? else { continue };
        if !meta.is_dir() || own.contains(&&batch) || batch.to_str().and_then(Token::of_text).is_none() {
            continue;
        }
        if now - meta.mtime() >= min_age.as_secs() as i64 {
            out.push(batch);
        } else {
            add_all(&dir, waiting)?;
        }
    }
    Ok(out)
}
