//! The stat cache: the digest that a file had when it was last read, by file system, inode, size, mtime and ctime.
//!
//! Each user has a cache with one file for each source directory. It can be deleted at any time. With it, an unchanged
//! put only walks the directory, and an interrupted put continues. `disk/stamps.rs` describes which file systems' stats
//! are trusted, and why. A file is remembered only if it was read in a state in which any later change also changes its
//! ctime ([`StatCache::before`]). A damaged cache is not used: the file has a SHA-256 of itself.

use super::source::Home;
use super::stat_records::{RecordLookup, Records, Runs, write_merged};
use super::tree::SourceStat;
use crate::cache::put_cache_directory;
use crate::disk::{self, Access, Disk, FileStat, Volume};
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::{Digest, Token};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// After this many files that were read, a thread hands them on.
pub(super) const RUN: usize = if cfg!(test) { 2 } else { 1 << 14 };

/// After this many nanoseconds a change gets another ctime than the change before: twice the longest tick of the
/// kernel's clock (100 Hz). File systems with coarser times are recognized by their whole seconds.
const TICK: i64 = 20_000_000;
/// For how long the kernel may delay a change after it has set the ctime, if a process may be writing.
const HELD_UP: i64 = 10_000_000_000;
/// On a network volume, the server's clock may differ from this host's, and the server's own dirty pages are not
/// visible: it writes them back after some 35 s.
const NETWORK: i64 = 120_000_000_000;

/// The digests remembered for one source.
#[derive(Debug)]
pub struct StatCache {
    file: Option<PathBuf>,
    /// Whether to hash all files again. The cache is then not used, but files that are read are remembered.
    rehash: bool,
    records: Records,
    /// The files that were read now.
    read: Mutex<Runs>,
}

/// Looks up files, for one thread.
#[derive(Debug)]
pub struct StatLookup<'a>(RecordLookup<'a>);

/// The key of a remembered file: its `dev` is its volume's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatKey(SourceStat);

impl StatKey {
    /// The key of a file with the attributes `stat` on `volume`; `None` for a time of whole seconds, which tools and
    /// coarse file systems write.
    fn of(stat: &SourceStat, volume: &Volume) -> Option<StatKey> {
        (stat.ctime % 1_000_000_000 != 0).then_some(StatKey(SourceStat { dev: volume.id, ..*stat }))
    }
}

/// What shows, before a file is read, that a later change will change its ctime.
#[derive(Debug)]
pub struct Proof {
    key: StatKey,
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// No process has it open for writing.
    NoWriter,
    /// No page of it is dirty, before and after the read.
    CleanPages,
    /// Its last change is longer ago than a page can stay dirty.
    Age,
}

impl StatCache {
    /// Loads what is remembered for the source directory `source` from `$CAIRN_CACHE_DIR`, `$XDG_CACHE_HOME/cairn` or
    /// `~/.cache/cairn`. It is empty if the cache is missing, damaged or turned off (`CAIRN_STAT_CACHE=off`, or
    /// `CAIRN_CACHE_DIR` set and empty), or with `rehash`.
    /// The files that are read now are spilled to the file system of `temporary`.
    pub fn open(source: &Path, rehash: bool, temporary: &Path) -> StatCache {
        use std::os::unix::ffi::OsStrExt;
        let canonical = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_path_buf());
        let file =
            put_cache_directory().map(|d| d.join("stat").join(Digest::of(canonical.as_os_str().as_bytes()).hex()));
        StatCache::of(file, rehash, temporary)
    }

    fn of(file: Option<PathBuf>, rehash: bool, temporary: &Path) -> StatCache {
        let records = file.as_deref().filter(|_| !rehash).and_then(Records::open).unwrap_or_default();
        StatCache { file, rehash, records, read: Mutex::new(Runs::new(temporary)) }
    }

    /// A cache that remembers one file, in the file at `file`.
    #[cfg(test)]
    pub(super) fn of_one(file: &Path, stat: &SourceStat, volume: &Volume, digest: &Digest) -> StatCache {
        let of = || StatCache::of(Some(file.to_path_buf()), false, &std::env::temp_dir());
        let cache = of();
        cache.remember(vec![(StatKey::of(stat, volume).expect("a fraction of a second"), *digest)]);
        cache.save();
        of()
    }

    /// For the lookups of one thread.
    pub fn lookup(&self) -> StatLookup<'_> {
        StatLookup(RecordLookup::new(&self.records))
    }

    /// Call this before a file with the attributes `stat` is read. It returns the proof that [`StatCache::after`]
    /// needs, or `None`: then the file will not be remembered.
    ///
    /// Suppose that the file's pages are clean at this moment, or that no process has it open for writing. Then no
    /// memory map of it has a page that a process can store into without the kernel setting a new ctime. So each change
    /// from now on sets the ctime to the present time or later, or back by a tick. The file's ctime is older than that,
    /// so the new one differs. If the attributes are the same after the read, the bytes belong to this ctime, and they
    /// do so whenever the attributes are the same again.
    pub fn before(&self, file: &File, stat: &FileStat, home: &Home, now: i64) -> Option<Proof> {
        let volume = home.volume.filter(|_| self.file.is_some() && home.holds(stat) && !stat.dax)?;
        let key = StatKey::of(&SourceStat::from(*stat), &volume)?;
        let age = now.saturating_sub(stat.ctime);
        if age < if volume.network { NETWORK } else { TICK } {
            return None;
        }
        let clean = disk::pages_are_clean(file);
        let by = match clean {
            Some(true) if age >= HELD_UP => By::CleanPages,
            _ if !volume.network && disk::has_no_writer(file) => By::NoWriter,
            Some(true) => By::CleanPages,
            None if disk::max_dirty_page_age().is_some_and(|oldest| age >= oldest) => By::Age,
            _ => return None,
        };
        // If this client has the file open for writing, its cache may hold older bytes.
        (!volume.network || disk::read_from_server(file)).then_some(Proof { key, by })
    }

    /// The key of a file that was read after `proof` was made and has the same attributes `now`.
    pub fn after(&self, proof: Proof, file: &File, now: i64) -> Option<StatKey> {
        let clean = || now.saturating_sub(proof.key.0.ctime) >= HELD_UP && disk::pages_are_clean(file) == Some(true);
        (proof.by != By::CleanPages || clean()).then_some(proof.key)
    }

    /// How long to wait until the next change must give the file another ctime; zero if the wait is already over.
    pub fn wait_for_tick(&self, stat: &FileStat, home: &Home, now: i64) -> Option<Duration> {
        let age = now.saturating_sub(stat.ctime);
        let wanted = self.file.is_some() && home.volume.is_some_and(|v| !v.network) && (0..TICK).contains(&age);
        wanted.then(|| Duration::from_nanos((TICK - age) as u64))
    }

    /// Remembers files that were read.
    pub fn remember(&self, read: Vec<(StatKey, Digest)>) {
        if !read.is_empty() {
            // If they cannot be kept, they are read again the next time.
            let _: Result<()> = self.read.lock().add(read.into_iter().map(|(key, digest)| (key.0, digest)).collect());
        }
    }

    /// Writes the cache: the records that were looked up and were still valid, and the files that were read now. A
    /// failure is not an error, because it is only a cache.
    pub fn save(self) {
        let read = self.read.into_inner();
        if let Some(file) = &self.file
            && (self.rehash || !read.is_empty() || !self.records.all_hold())
        {
            let _: Result<()> = write(file, &self.records, &read);
        }
    }
}

impl StatLookup<'_> {
    /// The digest of a file with the attributes `stat` on `volume`, if it is remembered. On a network volume the stat
    /// must come from the server, not from this host's cache.
    pub fn get(&mut self, stat: &SourceStat, volume: &Volume) -> Option<Digest> {
        self.0.get(&StatKey::of(stat, volume)?.0)
    }
}

fn write(file: &Path, records: &Records, read: &Runs) -> Result<()> {
    let dir = file.parent().expect("the cache's file has a directory");
    let disk = Disk::of(dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
    disk.create_dirs(dir)?;
    let mut out = disk.create_file(dir.join(format!(".{}", Token::fresh())))?;
    let written = write_merged(records, read, &mut out).and_then(|()| disk.rename(out.path(), file));
    if written.is_err() {
        let _: Result<()> = disk.remove_file(out.path());
    }
    written
}

/// Nanoseconds since 1970 by this host's clock, from which local file systems take their times.
pub fn clock_now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const VOLUME: Volume = Volume { id: 77, network: false };

    fn stat(ino: u64, ctime: i64) -> SourceStat {
        SourceStat { dev: 1, ino, size: 5, mtime: 10 * S, ctime: ctime * S + 7 }
    }

    #[test]
    fn a_changed_file_and_one_of_another_volume_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        let cache = || StatCache::of(Some(file.clone()), false, dir.path());
        let key = |ino, ctime| StatKey::of(&stat(ino, ctime), &VOLUME).unwrap();
        let digest = Digest::of(b"hello");
        let first = cache();
        first.remember(vec![(key(3, 10), digest), (key(2, 11), digest), (key(5, 10), digest)]);
        first.remember((20..40).rev().map(|ino| (key(ino, 10), digest)).collect());
        first.save();
        let second = cache();
        let mut read = second.lookup();
        assert_eq!(read.get(&stat(3, 10), &VOLUME), Some(digest));
        assert_eq!(
            read.get(&SourceStat { dev: 99, ..stat(2, 11) }, &VOLUME),
            Some(digest),
            "the device number does not count"
        );
        assert_eq!(read.get(&stat(2, 12), &VOLUME), None, "its ctime changed");
        assert!((20..40).all(|ino| read.get(&stat(ino, 10), &VOLUME) == Some(digest)));
        assert!([1, 4, 19, 41].into_iter().all(|ino| read.get(&stat(ino, 10), &VOLUME).is_none()));
        assert_eq!(
            read.get(&stat(2, 11), &Volume { id: 78, network: false }),
            None,
            "another file system at the same place"
        );
        // Records that were not looked up again are forgotten, changed ones are replaced, new ones are added.
        second.remember(vec![(key(2, 12), Digest::of(b"two")), (key(9, 12), digest)]);
        second.remember(vec![(key(9, 12), digest)]);
        second.save();
        let third = cache();
        let mut again = third.lookup();
        assert_eq!(again.get(&stat(2, 12), &VOLUME), Some(Digest::of(b"two")));
        assert_eq!(again.get(&stat(3, 10), &VOLUME), Some(digest));
        assert_eq!(again.get(&stat(9, 12), &VOLUME), Some(digest));
        assert_eq!(again.get(&stat(5, 10), &VOLUME), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 8 + 23 * 72 + 32);
    }

    #[test]
    fn a_whole_second_is_no_proof() {
        assert_eq!(StatKey::of(&SourceStat { ctime: 10 * S, ..stat(3, 10) }, &VOLUME), None);
    }

    #[test]
    fn a_file_is_remembered_when_nothing_can_change_it_unseen() {
        use crate::disk::{DirHandle, stat_file};
        use std::io::Write;
        let tmp = tempfile::tempdir().unwrap();
        let dir = DirHandle::open(tmp.path()).unwrap();
        let home = Home::of(&dir, &dir.stat().unwrap());
        if home.volume.is_none() {
            return; // the temporary directory may be on a tmpfs
        }
        let cache = StatCache::of(Some(tmp.path().join("c")), false, tmp.path());
        let path = tmp.path().join("f");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"hello").unwrap();
        let reader = File::open(&path).unwrap();
        let stat = stat_file(&reader).unwrap();
        let by = |age: i64| cache.before(&reader, &stat, &home, stat.ctime + age).map(|p| p.by);
        let remembered = |age: i64| {
            cache
                .before(&reader, &stat, &home, stat.ctime + age)
                .and_then(|p| cache.after(p, &reader, stat.ctime + age))
                .is_some()
        };
        assert_eq!(by(TICK - 1), None, "it may change in this tick");
        assert_eq!(cache.wait_for_tick(&stat, &home, stat.ctime + TICK - 1), Some(Duration::from_nanos(1)));
        assert_eq!(cache.wait_for_tick(&stat, &home, stat.ctime + TICK), None);
        if disk::pages_are_clean(&reader).is_none() {
            return; // before Linux 6.5
        }
        assert_eq!(by(900 * S), None, "it is dirty and open for writing: a map of it may be stored into");
        writer.sync_all().unwrap();
        assert!(by(900 * S) == Some(By::CleanPages) && remembered(900 * S));
        assert!(!remembered(S), "it is open for writing, and a write may be held up");
        drop(writer);
        assert!(by(S) == Some(By::NoWriter) && remembered(S));
        let elsewhere = FileStat { dev: stat.dev + 1, ..stat };
        assert!(
            cache.before(&reader, &elsewhere, &home, stat.ctime + 900 * S).is_none(),
            "it is on another mount than its directory"
        );
        assert!(cache.before(&reader, &FileStat { dax: true, ..stat }, &home, stat.ctime + 900 * S).is_none());
        let network = Home::of(&dir, &dir.stat().unwrap()).over_the_network();
        assert!(
            cache.before(&reader, &stat, &network, stat.ctime + NETWORK - 1).is_none()
                && !reads_past_the_cache(&reader)
        );
        assert!(cache.before(&reader, &stat, &network, stat.ctime + NETWORK).is_some());
        assert!(reads_past_the_cache(&reader), "bytes in this host's cache may be older than the ctime");
    }

    fn reads_past_the_cache(file: &File) -> bool {
        use std::os::fd::AsRawFd;
        // SAFETY: an open descriptor; no memory is involved.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) & libc::O_DIRECT != 0 }
    }
}
