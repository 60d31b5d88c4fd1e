//! The directory of a cache: looking up, publishing, removing what was used least recently.

use super::flights::Flights;
use super::node_lock::NodeLock;
use crate::disk::CacheDir;
use crate::error::{Error, Result};
use crate::locks::Mutex;
use crate::types::Digest;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where files are written.
const TEMPORARY: &str = "tmp";
/// A temporary file that has not grown for this long was left by a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);
/// A use is noted at most once in this time.
const NOTED: Duration = Duration::from_secs(60);
/// The byte of the lock file that is locked for trimming. The bytes of keys are above it.
const TRIMMING: u64 = 0;
/// The text of `CACHEDIR.TAG`: backups leave such a directory out.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of cairn. It may be deleted at any time.\n";

/// A directory of cached files. See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: CacheDir,
    limit: u64,
    /// Of this process: what it believes to be in the cache, and what it added since it looked.
    known: Mutex<Known>,
    filling: Flights<Arc<File>>,
}

#[derive(Debug, Default)]
struct Known {
    bytes: Option<u64>,
    added: u64,
}

/// What is in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a trim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// What it removed.
    pub removed: Usage,
    /// What is left.
    pub left: Usage,
}

struct Found {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Cache {
    /// Opens the cache in `dir` with at most `limit` bytes. A missing directory is made, for this user alone; files in
    /// it are as open as the directory is.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn open(dir: &Path, limit: u64) -> Result<Cache> {
        let dir = CacheDir::open(dir)?;
        dir.tag("CACHEDIR.TAG", TAG);
        Ok(Cache { dir, limit, known: Mutex::default(), filling: Flights::default() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether every user of this host may write to it.
    pub(crate) fn is_open_to_all(&self) -> bool {
        self.dir.mode() & 0o002 != 0
    }

    fn place(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.dir.path().join(&hex[..2]).join(&hex[2..])
    }

    /// The file of `key`, unchecked, which counts as used now.
    pub(crate) fn get(&self, key: &Digest) -> Option<File> {
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NOFOLLOW).open(self.place(key)).ok()?;
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        if meta.modified().ok().and_then(|at| at.elapsed().ok()).is_none_or(|age| age > NOTED) {
            self.dir.touch(&file);
        }
        Some(file)
    }

    /// Publishes what `write` writes as the file of `key`, and returns it. `write` may be called twice: if the disk is
    /// full, half of the cache is removed first.
    ///
    /// # Errors
    /// Those of `write`; I/O. The caller has its bytes and continues without the cache.
    pub(crate) fn put(&self, key: &Digest, write: &mut dyn FnMut(&mut File) -> Result<()>) -> Result<File> {
        match self.try_put(key, write) {
            Err(e) if matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                let half = self.usage()?.bytes / 2;
                self.trim(half)?;
                self.try_put(key, write)
            }
            done => done,
        }
    }

    fn try_put(&self, key: &Digest, write: &mut dyn FnMut(&mut File) -> Result<()>) -> Result<File> {
        let failed = |e| Error::io("write to the cache", self.path(), e);
        let (mut file, temporary) = self.dir.create(TEMPORARY).map_err(failed)?;
        let published = write(&mut file).and_then(|()| {
            let to = self.place(key);
            self.dir.make_dir(&key.hex()[..2]).and_then(|_| self.dir.publish(&file, &temporary, &to)).map_err(failed)
        });
        if let Err(e) = published {
            drop(self.dir.remove(&temporary));
            return Err(e);
        }
        self.added(file.metadata().map_or(0, |m| m.len()));
        Ok(file)
    }

    /// The file of `key`: the one that is there, if `is_right` says so, else what `write` writes. One thread of the
    /// process and, if others do not take longer than `patience`, one process of the node writes it.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub(crate) fn get_or_put(
        &self,
        key: &Digest,
        patience: Duration,
        is_right: &dyn Fn(&File) -> bool,
        write: &mut dyn FnMut(&mut File) -> Result<()>,
    ) -> Result<Arc<File>> {
        let present = || {
            let found = self.get(key)?;
            if is_right(&found) {
                return Some(Arc::new(found));
            }
            self.remove(key);
            None
        };
        if let Some(found) = present() {
            return Ok(found);
        }
        self.filling.run(key, || {
            let _lock = self.lock(key, patience);
            match present() {
                Some(found) => Ok(found),
                None => self.put(key, write).map(Arc::new),
            }
        })
    }

    /// The right to fill `key`, among the processes of this node; `None` if another process has it for longer than
    /// `patience`, or the cache has no locks. It saves work and proves nothing: without it, two fill the same.
    pub(crate) fn lock(&self, key: &Digest, patience: Duration) -> Option<NodeLock> {
        NodeLock::take(self.dir.open_lock("lock").ok()?, key.prefix() | 1, patience)
    }

    /// Removes the file of `key`, because it is damaged.
    pub(crate) fn remove(&self, key: &Digest) {
        drop(self.dir.remove(&self.place(key)));
    }

    /// Counts a new file; trims when the cache may be over its limit.
    fn added(&self, bytes: u64) {
        let mut known = self.known.lock();
        known.added += bytes;
        let (seen, added) = (known.bytes, known.added);
        let over = seen.is_none_or(|seen| seen + added > self.limit || added > self.limit / 16);
        if !over {
            return;
        }
        // Other threads continue meanwhile: they see a cache that was just looked at.
        *known = Known { bytes: Some(seen.unwrap_or(0)), added: 0 };
        drop(known);
        let now = match self.usage() {
            Ok(usage) if usage.bytes > self.limit => self.trim(self.limit / 10 * 9).map(|t| t.left),
            usage => usage,
        };
        if let Ok(usage) = now {
            self.known.lock().bytes = Some(usage.bytes);
        }
    }

    /// What is in it.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        self.each(&mut |found| {
            usage.files += 1;
            usage.bytes += found.bytes;
        })?;
        Ok(usage)
    }

    /// Removes what was used least recently until at most `limit` bytes are left, and what dead processes left. If
    /// another process is doing that, this one does nothing.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn trim(&self, limit: u64) -> Result<Trimmed> {
        let lock = self.dir.open_lock("lock").ok().map(|file| NodeLock::take(file, TRIMMING, Duration::ZERO));
        if matches!(lock, Some(None)) {
            return Ok(Trimmed { left: self.usage()?, ..Trimmed::default() });
        }
        self.remove_abandoned();
        let mut all = Vec::new();
        self.each(&mut |found| all.push(found))?;
        all.sort_by_key(|found| found.used);
        let left = Usage { files: all.len() as u64, bytes: all.iter().map(|found| found.bytes).sum() };
        let mut done = Trimmed { left, ..Trimmed::default() };
        for found in all {
            if done.left.bytes <= limit {
                break;
            }
            if self.dir.remove(&found.path).is_ok() {
                done.left.files -= 1;
                done.left.bytes -= found.bytes;
                done.removed.files += 1;
                done.removed.bytes += found.bytes;
            }
        }
        Ok(done)
    }

    fn remove_abandoned(&self) {
        let Ok(names) = std::fs::read_dir(self.path().join(TEMPORARY)) else { return };
        for entry in names.flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                drop(self.dir.remove(&entry.path()));
            }
        }
    }

    fn each(&self, see: &mut dyn FnMut(Found)) -> Result<()> {
        for first in 0..=255u8 {
            let dir = self.path().join(format!("{first:02x}"));
            let names = match std::fs::read_dir(&dir) {
                Ok(names) => names,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("list", &dir, e)),
            };
            for entry in names.flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let is_ours = entry.file_name().to_str().is_some_and(|n| n.len() == 62);
                if is_ours && meta.is_file() {
                    let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    see(Found { used, bytes: meta.blocks() * 512, path: entry.path() });
                }
            }
        }
        Ok(())
    }
}

/// The directory of the user's caches: `$CAIRN_CACHE_DIR` (none if it is set and empty), `$XDG_CACHE_HOME/cairn` or
/// `~/.cache/cairn`.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CAIRN_CACHE_DIR") {
        return (!dir.is_empty()).then(|| dir.into());
    }
    let absolute = |v: std::ffi::OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
    let base = std::env::var_os("XDG_CACHE_HOME").and_then(absolute);
    base.or_else(|| std::env::var_os("HOME").and_then(absolute).map(|h| h.join(".cache"))).map(|b| b.join("cairn"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn fill(cache: &Cache, key: &[u8], bytes: &[u8]) {
        let mut write = |file: &mut File| file.write_all(bytes).map_err(|e| Error::io("write", Path::new("x"), e));
        cache.put(&Digest::of(key), &mut write).unwrap();
    }

    fn text(cache: &Cache, key: &[u8]) -> Option<String> {
        let mut text = String::new();
        cache.get(&Digest::of(key))?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn two_caches_on_one_directory_share_files_and_what_is_removed_is_filled_again() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a/b");
        let (one, two) = (Cache::open(&dir, 1 << 20).unwrap(), Cache::open(&dir, 1 << 20).unwrap());
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700, "for this user alone");
        fill(&one, b"k", b"hello");
        assert_eq!(text(&two, b"k").as_deref(), Some("hello"));
        let right = |wanted: &'static [u8]| {
            move |file: &File| {
                let mut found = Vec::new();
                (&mut &*file).read_to_end(&mut found).is_ok() && found == wanted
            }
        };
        let written = AtomicUsize::new(0);
        let key = Digest::of(b"k");
        let again = |wanted| {
            let mut write = |file: &mut File| {
                written.fetch_add(1, Ordering::Relaxed);
                file.write_all(b"other").map_err(|e| Error::io("write", Path::new("x"), e))
            };
            two.get_or_put(&key, Duration::ZERO, &right(wanted), &mut write).unwrap()
        };
        again(b"hello");
        assert_eq!(written.load(Ordering::Relaxed), 0);
        again(b"other");
        assert_eq!((written.load(Ordering::Relaxed), text(&one, b"k").as_deref()), (1, Some("other")));
    }

    #[test]
    fn over_its_limit_it_loses_what_was_used_least_recently_and_what_dead_writers_left() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = Cache::open(tmp.path(), 100 << 10).unwrap();
        let old = SystemTime::now() - Duration::from_secs(7200);
        let left = cache.dir.create(TEMPORARY).unwrap();
        left.0.set_modified(old).unwrap();
        for i in 0..20u8 {
            fill(&cache, &[i], &[i; 8 << 10]);
            let path = cache.place(&Digest::of(&[i]));
            File::open(path).unwrap().set_modified(old + Duration::from_secs(i.into())).unwrap();
            assert!(text(&cache, &[0]).is_some(), "it is used again and again");
        }
        let usage = cache.usage().unwrap();
        assert!(usage.bytes <= 100 << 10 && usage.files >= 8, "{usage:?}");
        assert!(text(&cache, &[19]).is_some() && text(&cache, &[1]).is_none());
        assert!(!left.1.exists());
        assert_eq!(cache.trim(0).unwrap().left, Usage::default());
    }

    #[test]
    fn one_process_fills_a_key_and_the_lock_ends_with_its_holder() {
        let tmp = tempfile::tempdir().unwrap();
        let (one, two) = (Cache::open(tmp.path(), 1).unwrap(), Cache::open(tmp.path(), 1).unwrap());
        let key = Digest::of(b"k");
        let held = one.lock(&key, Duration::ZERO).unwrap();
        assert!(two.lock(&key, Duration::from_millis(20)).is_none());
        assert!(two.lock(&Digest::of(b"other"), Duration::ZERO).is_some());
        drop(held);
        assert!(two.lock(&key, Duration::ZERO).is_some());
    }
}
