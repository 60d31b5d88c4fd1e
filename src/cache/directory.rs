//! The directory of a cache: opening it, its limit, small files, and counting what is added.

use super::content::Content;
use super::flights::Flights;
use super::node_lock::NodeLock;
use crate::disk::{CacheDir, FsKind};
use crate::error::{Error, Result, show_path};
use crate::locks::Mutex;
use crate::recent_cache::RecentCache;
use crate::types::Digest;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where files are written.
pub(super) const TEMPORARY: &str = "tmp";
/// The file with the limit.
const LIMIT: &str = "limit";
/// The limit, if none was set.
const DEFAULT_LIMIT: u64 = 10 << 30;
/// A use is noted at most once in this time.
const NOTED: Duration = Duration::from_secs(60);
/// If the disk is full, space is made at most once in this time.
const FULL: Duration = Duration::from_secs(10);
/// How long a process counts with the limit that it read: reads ask for it.
const LIMIT_IS_RECENT: Duration = Duration::from_secs(1);
/// How many contents a process keeps open.
const OPEN: usize = 256;
/// Marks a directory as a cache.
const TAG_FILE: &str = "CACHEDIR.TAG";
/// Its text: backups leave such a directory out.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of cairn. It may be deleted at any time.\n";

/// A directory with this file is a store.
const STORE_FILE: &str = "cairn.json";

/// A directory of cached content. See the module.
#[derive(Debug)]
pub struct Cache {
    pub(super) dir: CacheDir,
    /// The limit that this process was given for itself.
    limit: Option<u64>,
    /// The limit of the directory, and when it was read.
    read_limit: Mutex<Option<(Instant, u64)>>,
    /// Of this process: what it believes to be in the cache, and what it added since it looked.
    known: Mutex<Known>,
    pub(super) open: RecentCache<Content>,
    pub(super) reading: Flights<Arc<Vec<u8>>>,
    /// When it made space on a full disk.
    made_space: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    bytes: Option<u64>,
    added: u64,
}

impl Cache {
    /// Opens the cache in `dir`. A missing directory is made, for this user alone; files in it are as open as the
    /// directory is. `limit` is for this process alone; without it, the limit of the directory counts.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn open(dir: &Path, limit: Option<u64>) -> Result<Cache> {
        Ok(Cache::on(CacheDir::open(dir)?, limit))
    }

    fn on(dir: CacheDir, limit: Option<u64>) -> Cache {
        dir.tag(TAG_FILE, TAG);
        let (read_limit, known, made_space) = (Mutex::cache(), Mutex::cache(), Mutex::cache());
        let (open, reading) = (RecentCache::new(2 * OPEN), Flights::default());
        Cache { dir, limit, read_limit, known, open, reading, made_space }
    }

    /// Opens a cache for the content of stores. `limit` becomes the limit of the directory.
    ///
    /// # Errors
    /// Usage: the directory is not on a disk of this node, is in a store, or has files of something else. A conflict:
    /// every user may write to it. I/O.
    pub fn for_stores(dir: &Path, limit: Option<u64>) -> Result<Cache> {
        refuse_other_directories(dir)?;
        let dir = CacheDir::open(dir)?;
        let shown = show_path(dir.path());
        if FsKind::of(dir.path())? == FsKind::Shared {
            return Err(Error::usage(format!("{shown} is on a shared or user-space file system"))
                .with_hint("a cache must be on a disk of this node"));
        }
        let cache = Cache::on(dir, None);
        if cache.is_open_to_all() {
            return Err(Error::conflict(format!(
                "{shown} cannot be a cache: every user of this node may write to it, and so change what others read"
            ))
            .with_hint(
                "name a directory in it that does not exist; it is made for you alone. For a group: chmod 2770",
            ));
        }
        if let Some(limit) = limit {
            let set = cache.dir.replace(LIMIT, &format!("{limit}\n"), TEMPORARY);
            set.map_err(|e| Error::io("set the size of the cache", cache.path(), e))?;
        }
        Ok(cache)
    }

    /// Opens a cache that exists.
    ///
    /// # Errors
    /// Not found, if there is none: the directory does not exist, or is empty. Usage, if it is something else. I/O.
    pub fn existing(dir: &Path) -> Result<Cache> {
        let shown = show_path(dir);
        match std::fs::read(dir.join(TAG_FILE)) {
            // It may be cut: the disk was full.
            Ok(tag) if TAG.as_bytes().starts_with(&tag) => return Cache::open(dir, None),
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Err(Error::io("read the tag of the cache in", dir, e));
            }
            _ => {}
        }
        let is_empty = || std::fs::read_dir(dir).is_ok_and(|mut names| names.next().is_none());
        if !dir.exists() || is_empty() {
            return Err(Error::not_found(format!("there is no cache in {shown}: nothing was cached there yet"))
                .with_hint("`cairn mount --cache DIR` and `cairn warm --cache DIR` make one"));
        }
        Err(Error::usage(format!("{shown} is not a cache of cairn: it lacks the {TAG_FILE} that cairn writes"))
            .with_hint("name the directory that was given to --cache"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// How many bytes it may have: those of this process, else those that were set for the directory, else 10 GiB.
    pub fn limit(&self) -> u64 {
        let set = || std::fs::read_to_string(self.path().join(LIMIT)).ok()?.trim().parse().ok();
        self.limit.or_else(set).unwrap_or(DEFAULT_LIMIT)
    }

    /// As [`Cache::limit`], perhaps as it was a second ago.
    pub(super) fn recent_limit(&self) -> u64 {
        let mut read = self.read_limit.lock();
        if let Some((at, limit)) = *read
            && at.elapsed() < LIMIT_IS_RECENT
        {
            return limit;
        }
        let limit = self.limit();
        *read = Some((Instant::now(), limit));
        limit
    }

    /// A file of it, with which the kernel is asked what it can do with its files.
    ///
    /// # Errors
    /// I/O.
    #[cfg(feature = "fuse")]
    pub(crate) fn probe(&self) -> Result<File> {
        let path = self.path().join("CACHEDIR.TAG");
        File::open(&path).map_err(|e| Error::io("open", &path, e))
    }

    /// Whether every user of this host may write to it.
    pub(crate) fn is_open_to_all(&self) -> bool {
        self.dir.mode() & 0o002 != 0
    }

    /// Whether only this user, and root, may write to it.
    pub(crate) fn is_own(&self) -> bool {
        self.dir.is_own()
    }

    pub(super) fn place(&self, key: &Digest) -> PathBuf {
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

    /// Publishes what `write` writes as the file of `key`.
    ///
    /// # Errors
    /// Those of `write`; I/O. The caller has its bytes and continues without the cache.
    pub(crate) fn put(&self, key: &Digest, write: &mut dyn FnMut(&mut File) -> Result<()>) -> Result<()> {
        let failed = |e| Error::io("write to the cache", self.path(), e);
        let (mut file, temporary) = self.dir.create(TEMPORARY).map_err(failed)?;
        let published = write(&mut file).and_then(|()| {
            let to = self.place(key);
            self.dir.make_dir(&key.hex()[..2]).and_then(|_| self.dir.publish(&file, &temporary, &to)).map_err(failed)
        });
        if let Err(e) = published {
            drop(self.dir.remove(&temporary));
            if let Some(number) = e.errno() {
                self.note_failure(number);
            }
            return Err(e);
        }
        self.added(file.metadata().map_or(0, |m| m.len()));
        Ok(())
    }

    /// If the disk is full, removes half of the cache, but not again and again: others may have filled the disk.
    pub(super) fn note_failure(&self, errno: i32) {
        if !matches!(errno, libc::ENOSPC | libc::EDQUOT) {
            return;
        }
        let mut made = self.made_space.lock();
        if made.is_some_and(|at| at.elapsed() < FULL) {
            return;
        }
        *made = Some(Instant::now());
        drop(made);
        let halved = self.usage().and_then(|usage| self.trim(usage.bytes / 2));
        if let Ok(trimmed) = halved {
            *self.known.lock() = Known { bytes: Some(trimmed.left.bytes), added: 0 };
        }
    }

    /// The right to fill `key`, among the processes of this node; `None` if another process has it for longer than
    /// `patience`, or the cache has no locks. It saves work and proves nothing: without it, two fill the same.
    pub(crate) fn lock(&self, key: &Digest, patience: Duration) -> Option<NodeLock> {
        NodeLock::take(self.dir.open_lock("lock").ok()?, key.prefix() | 1, patience)
    }

    /// Removes what is cached under `key`, because it is damaged.
    pub(crate) fn remove(&self, key: &Digest) {
        self.remove_if(key, &|_| true);
    }

    /// Removes what is cached under `key`, if it is a file, or a directory that `is_it` accepts. So a process or thread
    /// that found damage does not remove what another one has made in its place since.
    pub(super) fn remove_if(&self, key: &Digest, is_it: &dyn Fn(&Path) -> bool) {
        self.open.remove(key);
        let place = self.place(key);
        if self.dir.remove(&place).is_err() && is_it(&place) {
            drop(self.dir.remove_dir(&place, TEMPORARY, is_it));
        }
    }

    /// Counts what was added; trims when the cache may be over its limit.
    pub(super) fn added(&self, bytes: u64) {
        let mut known = self.known.lock();
        known.added += bytes;
        let (seen, added) = (known.bytes, known.added);
        let limit = self.recent_limit();
        if seen.is_some_and(|seen| seen + added <= limit && added <= limit / 16) {
            return;
        }
        // Other threads continue meanwhile: they see a cache that was just looked at.
        *known = Known { bytes: Some(seen.unwrap_or(0)), added: 0 };
        drop(known);
        let now = match self.usage() {
            Ok(usage) if usage.bytes > limit => self.trim(limit / 10 * 9).map(|t| t.left),
            usage => usage,
        };
        if let Ok(usage) = now {
            self.known.lock().bytes = Some(usage.bytes);
        }
    }
}

/// The directory of the user's caches: `$CAIRN_CACHE_DIR` (none if it is set and empty), `$XDG_CACHE_HOME/cairn` or
/// `~/.cache/cairn`.
pub fn cache_directory() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CAIRN_CACHE_DIR") {
        return (!dir.is_empty()).then(|| dir.into());
    }
    let absolute = |v: std::ffi::OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
    let base = std::env::var_os("XDG_CACHE_HOME").and_then(absolute);
    base.or_else(|| std::env::var_os("HOME").and_then(absolute).map(|h| h.join(".cache"))).map(|b| b.join("cairn"))
}

/// The directory of the caches of puts: the user's, unless `CAIRN_STAT_CACHE` turns these caches off.
pub fn put_cache_directory() -> Option<PathBuf> {
    let is_off = std::env::var_os("CAIRN_STAT_CACHE").is_some_and(|value| turns_off(&value));
    if is_off { None } else { cache_directory() }
}

/// Whether this value of `CAIRN_STAT_CACHE` turns the caches off: any value that doesn't mean yes does.
fn turns_off(value: &std::ffi::OsStr) -> bool {
    !["", "on", "yes", "true", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Refuses a directory in which backups must not leave anything out: a store, a directory of one, and one with files of
/// something else, such as a store.
fn refuse_other_directories(dir: &Path) -> Result<()> {
    let shown = show_path(dir);
    let absolute = dir.canonicalize().or_else(|_| std::path::absolute(dir)).map_err(|e| Error::io("find", dir, e))?;
    if let Some(store) = absolute.ancestors().find(|above| above.join(STORE_FILE).exists()) {
        let what = if store == absolute { "it is a store" } else { "it is inside a store" };
        return Err(Error::usage(format!("{shown} cannot be a cache: {what}"))
            .with_hint("name a directory outside the store; a missing one is made"));
    }
    // The names first: another process that makes the cache writes the tag before anything else.
    let has_names = std::fs::read_dir(dir).is_ok_and(|mut names| names.next().is_some());
    let is_missing = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    if has_names && std::fs::read(dir.join(TAG_FILE)).as_ref().is_err_and(is_missing) {
        return Err(Error::usage(format!(
            "{shown} cannot be a cache: it is not empty, and lacks the {TAG_FILE} of a cache"
        ))
        .with_hint("name an empty directory, or one that does not exist; it is made for you alone"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
