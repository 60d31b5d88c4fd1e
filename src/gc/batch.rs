//! Content on its way out: moved into a batch of the trash, where readers still find it, then put back or freed.

use super::marks::Marks;
use super::report::{Amount, GcReport};
use crate::disk::{self, Created, DirHandle, FsKind};
use crate::error::{Error, Result};
use crate::objects::{Damage, StoredFile};
use crate::progress::Progress;
use crate::store::Store;
use crate::types::{Digest, Token};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many files are moved between two syncs, and listed at once.
const GROUP: usize = 4096;

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

/// What is needed of a piece of content.
pub(super) enum Need {
    /// All of it, or, of a pack, this many bytes of those that it has.
    Some { of: u64 },
    /// Nothing.
    None,
    /// Unknown, because the pack is damaged.
    Unknown(String),
}

/// What is needed of a file in place or in the trash.
pub(super) fn need(store: &Store, marks: &Marks, item: &Item, file: &StoredFile) -> Result<Need> {
    let name = match item {
        Item::Object(digest) if marks.has_object(digest) => return Ok(Need::Some { of: file.size }),
        Item::Object(_) => return Ok(Need::None),
        Item::Pack(name) => name,
    };
    let mut damage = Vec::new();
    let contents = store.objects().list_pack(file, &mut damage)?;
    if let Some(damage) = damage.into_iter().next() {
        let why = match damage {
            Damage::Footer(why) => why,
            other => format!("{other:?}"),
        };
        return Ok(Need::Unknown(format!("packs/{name}: {why}")));
    }
    let needed = marks.needed_bytes(&contents);
    Ok(if needed > 0 || marks.lists_pack(name) { Need::Some { of: needed } } else { Need::None })
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
        self.relocate(items, from, |item| item.trashed(self.store, &self.name), &self.dir())
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

    /// Moves files to another place. On local file systems that may write the old directory before the new one, a file
    /// has both names until the new one is durable, so that a power cut never takes both.
    fn relocate(
        &self,
        items: &[Item],
        from: impl Fn(&Item) -> PathBuf,
        to: impl Fn(&Item) -> PathBuf,
        dir: &Path,
    ) -> Result<()> {
        let disk = self.store.disk();
        if disk.kind() != FsKind::Local {
            return items.iter().try_for_each(|item| self.rename(&from(item), &to(item)));
        }
        for item in items {
            match disk.hard_link(&from(item), &to(item)) {
                Err(e) if matches!(e.errno(), Some(libc::EEXIST | libc::ENOENT)) => {}
                linked => linked?,
            }
        }
        disk.sync_dir(dir)?;
        items.iter().try_for_each(|item| match disk::lstat(&to(item))? {
            Some(_) => disk.remove_file(&from(item)),
            None => Ok(()), // gone before it was linked
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let disk = self.store.disk();
        match disk.rename_if_absent(from, to) {
            Ok(Created::Exists) => disk.remove_file(from),
            Ok(Created::New) => Ok(()),
            Err(e) if e.errno() == Some(libc::ENOENT) && disk::lstat_revalidated(from)?.is_some() => {
                self.create()?; // another collection adopted the empty batch
                disk.rename_if_absent(from, to).map(drop)
            }
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()), // another collection moved it
            Err(e) => Err(e),
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

    /// Puts back what is needed, and frees the rest.
    pub(super) fn empty(&self, marks: &Marks, report: &mut GcReport, progress: &Progress) -> Result<()> {
        loop {
            let names = self.some_names()?;
            if names.is_empty() {
                break;
            }
            let (mut back, mut freed) = (Vec::new(), Vec::new());
            for name in names {
                let Some(item) = name.to_str().and_then(Item::parse) else { continue };
                let path = item.trashed(self.store, &self.name);
                let Some(meta) = disk::lstat(&path)? else { continue };
                let file = item.file(path, meta.size());
                match need(self.store, marks, &item, &file)? {
                    Need::None => freed.push(file),
                    Need::Some { .. } | Need::Unknown(_) => back.push((item, file.size)),
                }
            }
            if back.is_empty() && freed.is_empty() {
                break; // what is left is not content
            }
            self.put_back(back, report)?;
            for file in freed {
                progress.check_cancelled()?;
                self.store.disk().remove_file(&file.path)?;
                report.freed.add(file.size);
            }
        }
        let _ = self.store.disk().remove_dir(&self.dir());
        Ok(())
    }

    fn put_back(&self, items: Vec<(Item, u64)>, report: &mut GcReport) -> Result<()> {
        let from = |item: &Item| item.trashed(self.store, &self.name);
        for (item, size) in items {
            let place = item.place(self.store);
            let dir = place.parent().expect("content lies in a directory").to_path_buf();
            self.store.disk().create_dir(&dir)?;
            self.relocate(std::slice::from_ref(&item), from, |_| place.clone(), &dir)?;
            report.put_back.add(size);
        }
        Ok(())
    }

    /// Some of the names in it.
    fn some_names(&self) -> Result<Vec<OsString>> {
        let dir = self.dir();
        let mut names = Vec::new();
        let failed = |e| Error::io("list", &dir, e);
        DirHandle::open(&dir)
            .map_err(failed)?
            .list(&mut |name| {
                if names.len() < GROUP {
                    names.push(std::ffi::OsStr::from_bytes(name.to_bytes()).to_owned());
                }
            })
            .map_err(failed)?;
        names.retain(|name| name.to_str().and_then(Item::parse).is_some());
        Ok(names)
    }
}

/// Content in place that nothing needs.
pub(super) fn unneeded(
    store: &Store,
    marks: &Marks,
    report: &mut GcReport,
    progress: &Progress,
    mut found: impl FnMut(Vec<Item>) -> Result<()>,
) -> Result<()> {
    let objects = store.layout().objects();
    for shard in disk::list(&objects)? {
        progress.check_cancelled()?;
        let dir = objects.join(&shard);
        if !disk::lstat(&dir)?.is_some_and(|meta| meta.is_dir()) {
            report.unknown.push(dir);
            continue;
        }
        let of = |name: &str| Some(Item::Object(Digest::of_hex(format!("{}{name}", shard.to_str()?).as_bytes())?));
        directory(store, marks, &dir, of, report, &mut found)?;
    }
    let of = |name: &str| Digest::of_hex(name.as_bytes()).map(Item::Pack);
    directory(store, marks, &store.layout().packs(), of, report, &mut found)
}

fn directory(
    store: &Store,
    marks: &Marks,
    dir: &Path,
    of: impl Fn(&str) -> Option<Item>,
    report: &mut GcReport,
    found: &mut impl FnMut(Vec<Item>) -> Result<()>,
) -> Result<()> {
    let mut items = Vec::new();
    for name in disk::list(dir)? {
        let path = dir.join(&name);
        let Some(meta) = disk::lstat(&path)? else { continue };
        let Some(item) = name.to_str().and_then(&of).filter(|_| meta.is_file()) else {
            report.unknown.push(path);
            continue;
        };
        let file = item.file(path, meta.size());
        match need(store, marks, &item, &file)? {
            Need::None => {
                report.moved.add(file.size);
                items.push(item);
            }
            Need::Some { of } => report.unused_in_packs += file.size.saturating_sub(of),
            Need::Unknown(why) => report.damaged.push(why),
        }
        if items.len() == GROUP {
            found(std::mem::take(&mut items))?;
        }
    }
    if items.is_empty() { Ok(()) } else { found(items) }
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
