//! Taking a large file over with its inode, without copying a byte: for files that a staging directory on the store's
//! own local disk holds.
//!
//! A read lease (fcntl(2)) shows that nobody has the file open for writing, and makes whoever opens or truncates it
//! from now on wait. What was hashed under the lease is linked into the store. The lease is kept until the file's other
//! names are gone. When somebody waits before that, or another name is found after it, the object gets an inode of its
//! own, hashed as it is copied, before they are let in. So no write can reach an object.

use super::copy::copy_in;
use super::large::{OBJECT_MODE, OBJECT_MTIME, hash_file};
use super::{LargePut, Objects, ThreadWriter};
use crate::disk::{self, NewFile};
use crate::error::{Error, Result, show_path};
use crate::types::{Digest, Token};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long leases stay after the last name is gone: whoever found the name before that and has not come to the lease
/// yet finds it still there.
const LINGER: Duration = Duration::from_millis(20);
/// Descriptors that are left to everything else.
const SPARE: usize = 256;

/// The files taken over in one sealing, each under its lease until this is dropped.
#[derive(Debug)]
pub struct Leases {
    held: Mutex<Held>,
    /// Where copies are made: what their names begin with.
    aside: PathBuf,
    /// With more files than this under lease, the rest is copied: each holds a descriptor.
    most: usize,
    /// Whether a file of the stage was given another name.
    linked: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    files: Vec<Taken>,
    /// An object whose bytes are not to be had any more.
    spoilt: Option<PathBuf>,
}

#[derive(Debug)]
struct Taken {
    file: File,
    digest: Digest,
    size: u64,
    /// The name in the store until the object is visible.
    temp: PathBuf,
    /// Mode and modification time before.
    was: (u32, i64, i64),
}

/// What other names the files may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherNames {
    /// Those in the stage are there.
    Staged,
    /// None: the stage is gone.
    Gone,
}

impl Leases {
    /// Ready to take files over; `aside` is what the names of copies begin with. From now on this process ignores
    /// SIGIO, by which the kernel says that somebody waits for a lease.
    pub fn new(aside: PathBuf) -> Leases {
        disk::ignore_lease_breaks();
        Leases {
            held: Mutex::default(),
            aside,
            most: disk::open_files_limit().saturating_sub(SPARE) / 2,
            linked: AtomicBool::new(false),
        }
    }

    /// Whether no file was taken over, so that the stage is as it was.
    pub fn took_none(&self) -> bool {
        !self.linked.load(Ordering::Relaxed)
    }

    /// How many files are held.
    pub fn len(&self) -> usize {
        self.held.lock().files.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn copy_path(&self) -> PathBuf {
        let mut path = self.aside.clone().into_os_string();
        path.push(Token::fresh().as_str());
        path.into()
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Whether a file looks as an object does.
fn is_objects(meta: &Metadata) -> bool {
    meta.mode() & 0o7777 == OBJECT_MODE && meta.mtime() == OBJECT_MTIME
}

fn look_at(file: &File, path: &Path) -> Result<Metadata> {
    file.metadata().map_err(|e| Error::io("look at", path, e))
}

impl Objects {
    /// Gives each object whose file somebody waits to write to, or has another name for, an inode of its own. Returns
    /// how many these were.
    ///
    /// # Errors
    /// Refused: a file was changed under its lease, which the kernel allows after the system's lease-break-time (45 s);
    /// the object is gone. I/O.
    pub fn secure(&self, leases: &Leases, names: OtherNames) -> Result<usize> {
        let mut held = leases.held.lock();
        let mut replaced = 0;
        let mut i = 0;
        while i < held.files.len() {
            let taken = &held.files[i];
            let alone = names == OtherNames::Staged || look_at(&taken.file, &taken.temp)?.nlink() == 1;
            if alone && disk::lease_is_whole(&taken.file) {
                i += 1;
                continue;
            }
            let taken = held.files.swap_remove(i);
            if !self.give_own_inode(&taken, leases)? {
                held.spoilt = Some(self.layout.object(&taken.digest));
            }
            replaced += 1;
        }
        match &held.spoilt {
            Some(path) => Err(Error::conflict(format!(
                "a file of the stage was written to, beside its mount, while it was sealed (as {})",
                show_path(path)
            ))
            .with_hint("end what writes to the store's staging directory, then seal again")),
            None => Ok(replaced),
        }
    }

    /// Ends the leases, after the last name in the stage is gone.
    ///
    /// # Errors
    /// As [`Objects::secure`].
    pub fn release(&self, leases: &Leases) -> Result<()> {
        if !leases.is_empty() {
            std::thread::sleep(LINGER);
            self.secure(leases, OtherNames::Gone)?;
            leases.held.lock().files.clear();
        }
        Ok(())
    }

    /// `false`: its bytes have changed, and it was removed.
    fn give_own_inode(&self, taken: &Taken, leases: &Leases) -> Result<bool> {
        let object = self.layout.object(&taken.digest);
        // Made visible while this goes on, it stands under its other name by the time that it is looked for there.
        for name in [&taken.temp, &object, &taken.temp, &object] {
            if disk::lstat(name)?.is_none_or(|m| Some(id(&m)) != look_at(&taken.file, name).ok().map(|t| id(&t))) {
                continue;
            }
            let (copy, found) = self.own_copy(&taken.file, name, leases)?;
            if found != (taken.digest, taken.size) {
                self.disk.remove_file(copy.path())?;
                self.disk.remove_file(name)?;
                return Ok(false);
            }
            self.disk.rename(copy.path(), name)?;
            self.disk.sync_dir(name.parent().expect("a file is in a directory"))?;
        }
        Ok(true)
    }

    /// A durable copy that could be an object, and what is in it.
    fn own_copy(&self, source: &File, path: &Path, leases: &Leases) -> Result<(NewFile, (Digest, u64))> {
        let mut copy = self.disk.create_file(leases.copy_path())?;
        let found = copy_in(source, path, &mut copy, &AtomicBool::new(false), &mut Vec::new(), &mut |_| Ok(()))?;
        copy.set_mode(OBJECT_MODE)?;
        copy.set_mtime(OBJECT_MTIME)?;
        self.disk.sync_file(&copy)?;
        Ok((copy, found))
    }

    /// What a stage that is not sealed after all needs, also one whose sealer died: no file below `dir` shares its
    /// inode with an object any more, and each can be written to as before. It is the objects that get inodes of their
    /// own, with the bytes that were hashed as they were copied: whoever has the stage's file open keeps that.
    ///
    /// # Errors
    /// I/O.
    pub fn part(&self, dir: &Path, leases: &Leases) -> Result<()> {
        if disk::lstat(dir)?.is_none() {
            return Ok(()); // its files are gone already
        }
        let home = self.home()?;
        let mut shared: HashMap<(u64, u64), (u64, u64, PathBuf)> = HashMap::new();
        for entry in walkdir::WalkDir::new(dir) {
            let entry = entry.map_err(|e| disk::walk_error(dir, &e))?;
            let meta = entry.metadata().map_err(|e| disk::walk_error(entry.path(), &e))?;
            if !meta.is_file() || meta.uid() != home.uid() {
                continue; // never taken
            }
            if meta.nlink() > 1 {
                shared.entry(id(&meta)).or_insert((meta.nlink(), 0, entry.path().to_path_buf())).1 += 1;
            }
            if is_objects(&meta) {
                shared.entry(id(&meta)).or_insert((meta.nlink(), 1, entry.path().to_path_buf()));
            }
        }
        for (inode, (links, names, path)) in shared {
            if links > names {
                self.part_one(inode, &path, leases)?;
            }
            self.restore(&path, leases)?;
        }
        Ok(())
    }

    fn part_one(&self, inode: (u64, u64), path: &Path, leases: &Leases) -> Result<()> {
        let Some((file, meta)) = disk::open_file(path)? else { return Ok(()) };
        let (copy, (digest, _)) = self.own_copy(&file, path, leases)?;
        let object = self.layout.object(&digest);
        if disk::lstat(&object)?.is_some_and(|m| id(&m) == inode) {
            self.disk.rename(copy.path(), &object)?;
            return self.disk.sync_dir(&self.layout.object_dir(&digest));
        }
        if let Some(spoilt) = self.object_with(inode)? {
            // It has been written to since, and does not hold what it says.
            self.disk.remove_file(copy.path())?;
            return self.disk.remove_file(&spoilt);
        }
        // Another sealer has it, which may only stand still: what it took stays as it is.
        if !is_objects(&meta) {
            copy.set_mode(meta.mode() & 0o7777)?;
        }
        self.disk.rename(copy.path(), path)
    }

    /// Where objects are, and whose.
    fn home(&self) -> Result<Metadata> {
        let home = self.layout.objects();
        std::fs::metadata(&home).map_err(|e| Error::io("look at", &home, e))
    }

    fn object_with(&self, inode: (u64, u64)) -> Result<Option<PathBuf>> {
        for dir in disk::list(&self.layout.objects())? {
            let dir = self.layout.objects().join(dir);
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let found = entries.flatten().find(|e| e.ino() == inode.1).map(|e| e.path());
            if let Some(path) = found
                && disk::lstat(&path)?.is_some_and(|m| id(&m) == inode)
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Mode and time as they were, as far as that is known.
    fn restore(&self, path: &Path, leases: &Leases) -> Result<()> {
        let Some(meta) = disk::lstat(path)? else { return Ok(()) };
        let held = leases.held.lock();
        let known =
            held.files.iter().find(|t| look_at(&t.file, path).is_ok_and(|m| id(&m) == id(&meta))).map(|t| t.was);
        if known.is_none() && !is_objects(&meta) {
            return Ok(());
        }
        let now = || (0o644, crate::clock::unix_now(), 0);
        let (mode, seconds, nanos) = known.unwrap_or_else(now);
        self.disk.set_mode(path, mode)?;
        self.disk.set_mtime(path, seconds, nanos)
    }
}

impl ThreadWriter<'_> {
    /// Takes a file over; `None` where that is not to be had: another file system or owner, other names, a writer at
    /// work, or an exec bit, which an object does not keep for a stage that is not sealed after all.
    pub(super) fn take_large(
        &mut self,
        source: &File,
        path: &Path,
        leases: &Leases,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<LargePut>> {
        let objects = self.objects().clone();
        let home = objects.home()?;
        let fits =
            |m: &Metadata| m.nlink() == 1 && m.dev() == home.dev() && m.uid() == home.uid() && m.mode() & 0o111 == 0;
        if !objects.disk.kind().is_local()
            || !fits(&look_at(source, path)?)
            || leases.len() >= leases.most
            || !disk::take_lease(source)
        {
            return Ok(None);
        }
        let before = look_at(source, path)?;
        let (digest, size) = hash_file(source, path, tick)?;
        let after = look_at(source, path)?;
        let state = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        if state(&before) != state(&after) || size != after.len() || !fits(&after) {
            return Ok(None);
        }
        let clone = || source.try_clone().map_err(|e| Error::io("keep open", path, e));
        let temp = self.temp('o');
        leases.linked.store(true, Ordering::Relaxed);
        let linked = objects.disk.link_open(clone()?, temp.clone())?;
        if !disk::lease_is_whole(source) || look_at(source, path)?.nlink() != 2 {
            objects.disk.remove_file(linked.path())?;
            return Ok(None); // somebody waits to write, or has a name for it: what they will write to is not ours
        }
        let put = LargePut { taken: true, ..self.settle(linked, Ok((digest, size)))? };
        if put.new {
            let was = (before.mode() & 0o7777, before.mtime(), before.mtime_nsec());
            leases.held.lock().files.push(Taken { file: clone()?, digest, size, temp, was });
        }
        Ok(Some(put))
    }
}
