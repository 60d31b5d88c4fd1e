//! `file://` references: files of this host. Their bytes are served only while the file is in a state in which its
//! content was hashed and found to be what was recorded.

use super::caching::cache;
use super::uri::shown_uri;
use crate::cache::Flights;
use crate::disk::{self, DirHandle, FileStat};
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::recent_cache::RecentCache;
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

/// After this many nanoseconds a change gets another ctime than the change before.
const TICK: i64 = 20_000_000;
/// For how long the kernel may delay a change after it has set the ctime, if a process may be writing.
const HELD_UP: i64 = 10_000_000_000;
/// How many files this process remembers to have hashed.
const HASHED: usize = 1 << 16;

/// What files of this process were found to hold, by state.
static FOUND: LazyLock<RecentCache<Digest>> = LazyLock::new(|| RecentCache::new(HASHED));
static HASHING: LazyLock<Flights<Digest>> = LazyLock::new(Flights::default);

/// A local file, open, whose content is as recorded.
#[derive(Debug)]
pub(super) struct LocalFile {
    file: File,
    stat: FileStat,
    path: PathBuf,
}

impl LocalFile {
    /// Opens the file of a reference and checks it. If the reference has a digest and this state of the file was not
    /// hashed yet, that reads all of it.
    pub(super) fn open(reference: &Reference, path: &Path) -> Result<LocalFile> {
        let shown = shown_uri(&reference.uri);
        let cannot = |e: Error| e.context(format!("cannot read {shown}")).with_hint("is its file system mounted?");
        let file = File::open(path).map_err(|e| cannot(Error::io("open", path, e)))?;
        let stat = stat(&file, path)?;
        if file.metadata().is_ok_and(|m| !m.is_file()) {
            return Err(cannot(Error::io_message(format!("{shown} is not a regular file"))));
        }
        if let Some(size) = reference.size.filter(|size| *size != stat.size) {
            return Err(changed(&shown, &format!("expected {size} bytes, found {}", stat.size)));
        }
        if let Some(digest) = &reference.digest {
            let found = content(&file, &stat, path, &mut |_| Ok(()))?;
            if found != *digest {
                return Err(changed(&shown, &format!("expected SHA-256 {digest}, found {found}")));
            }
        }
        Ok(LocalFile { file, stat, path: path.to_path_buf() })
    }

    /// Its size.
    pub(super) fn size(&self) -> u64 {
        self.stat.size
    }

    /// Reads at `offset`. The file is compared with its state afterwards, so that no byte of a later state is served.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let n = self.file.read_at(buffer, offset).map_err(|e| Error::io("read", &self.path, e))?;
        self.check()?;
        Ok(n)
    }

    /// Fails if the file is not in the state in which it was checked.
    pub(super) fn check(&self) -> Result<()> {
        if same(&stat(&self.file, &self.path)?, &self.stat) {
            return Ok(());
        }
        Err(changed(&format!("file://{}", self.path.display()), "it was written to while it was read"))
    }
}

/// The error for a source that is not what was recorded.
pub(super) fn changed(shown: &str, how: &str) -> Error {
    Error::io_message(format!("cannot read {shown}: it changed since it was added: {how}"))
        .with_hint("put it again to record what is there now, or bring the old content back")
}

fn stat(file: &File, path: &Path) -> Result<FileStat> {
    disk::stat_file(file).map_err(|e| Error::io("look at", path, e))
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.dev, a.ino, a.size, a.mtime, a.ctime) == (b.dev, b.ino, b.size, b.mtime, b.ctime)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A local file's size and digest.
///
/// # Errors
/// I/O; it changed while it was read.
pub(super) fn identify(path: &Path, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<(u64, Digest)> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let stat = stat(&file, path)?;
    Ok((stat.size, content(&file, &stat, path, tick)?))
}

/// The digest of a file in the state `stat`: remembered by this process or by the cache, else hashed.
fn content(file: &File, stat: &FileStat, path: &Path, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<Digest> {
    let state = state_of(&[stat.dev, stat.ino], stat);
    if let Some(found) = FOUND.get(&state) {
        return Ok(*found);
    }
    HASHING.run(&state, || {
        let lasting = lasting_state(path, stat);
        if let Some(found) = lasting.as_ref().and_then(remembered) {
            FOUND.put(state, Arc::new(found), 1);
            return Ok(found);
        }
        // A change in the tick of the last one could leave the same times behind.
        let age = now().saturating_sub(stat.ctime);
        if (0..TICK).contains(&age) {
            std::thread::sleep(Duration::from_nanos((TICK - age) as u64));
        }
        let age = now().saturating_sub(stat.ctime);
        let no_writer = disk::has_no_writer(file);
        let clean = || disk::pages_are_clean(file) == Some(true);
        let by_pages = !no_writer && age >= HELD_UP && clean();
        let (digest, size) = disk::hash_file(file, path, tick)?;
        if size != stat.size || !same(&self::stat(file, path)?, stat) {
            return Err(changed(&format!("file://{}", path.display()), "it was written to while it was hashed"));
        }
        FOUND.put(state, Arc::new(digest), 1);
        if let Some(lasting) = lasting.filter(|_| no_writer || by_pages && clean()) {
            remember(&lasting, &digest);
        }
        Ok(digest)
    })
}

fn state_of(place: &[u64], stat: &FileStat) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"cairn-file-state-1\n");
    for n in place.iter().copied().chain([stat.size, stat.mtime as u64, stat.ctime as u64]) {
        hasher.update(&n.to_le_bytes());
    }
    hasher.finish()
}

/// A name for this state of a file that no other state has, also after a boot; `None` where time stamps do not prove
/// that.
fn lasting_state(path: &Path, stat: &FileStat) -> Option<Digest> {
    let dir = DirHandle::open(path.canonicalize().ok()?.parent()?).ok()?;
    let home = dir.stat().ok()?;
    let volume = disk::volume(&dir, &home).filter(|volume| !volume.network)?;
    let sound = (stat.dev, stat.mount) == (home.dev, home.mount) && !stat.dax && stat.ctime % 1_000_000_000 != 0;
    sound.then(|| state_of(&[volume.id, stat.ino], stat))
}

/// What the cache says that a file in this state holds.
fn remembered(state: &Digest) -> Option<Digest> {
    let mut bytes = Vec::new();
    cache()?.get(state)?.take(65).read_to_end(&mut bytes).ok()?;
    let (digest, sum) = bytes.split_at_checked(32)?;
    if Digest::of(&[&state.0, digest].concat()).0 != *sum {
        return None;
    }
    Some(Digest(digest.try_into().ok()?))
}

fn remember(state: &Digest, digest: &Digest) {
    let Some(cache) = cache() else { return };
    let sum = Digest::of(&[state.0, digest.0].concat());
    let bytes = [digest.0, sum.0].concat();
    let mut write = |file: &mut File| file.write_all(&bytes).map_err(|e| Error::io("write to", cache.path(), e));
    drop(cache.put(state, &mut write)); // without it, it is hashed again
}
