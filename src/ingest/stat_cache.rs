//! The stat cache: the digest that a file had when it was last read, by file system, inode, size, mtime and ctime.
//!
//! Each user has a cache with one file for each source directory. It can be deleted at any time. With it, an unchanged
//! put only walks the directory, and an interrupted put continues. `disk/stamps.rs` describes which file systems' stats
//! are trusted, and why. A file is remembered only if it was read in a state in which any later change also changes its
//! ctime ([`StatCache::before`]). A damaged cache is not used: the file has a SHA-256 of itself.

use super::source::Home;
use super::tree::SourceStat;
use crate::cache::cache_directory;
use crate::disk::{self, Access, Disk, FileStat, Volume};
use crate::error::Result;
use crate::types::{Digest, Hasher, Token};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Older caches trusted device numbers and every file system. They begin with another magic number and are not read.
const MAGIC: &[u8; 8] = b"cairnsc3";
/// Volume, inode, size, mtime, ctime: 8 bytes each; digest: 32 bytes.
const RECORD: usize = 72;
/// How many bytes are collected before they are written.
const BUFFER: usize = 1 << 20;

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
    /// Records sorted by volume and inode.
    records: Vec<u8>,
    /// One bit for each record that was looked up and was still valid.
    held: Vec<AtomicU64>,
}

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
    pub fn open(source: &Path, rehash: bool) -> StatCache {
        use std::os::unix::ffi::OsStrExt;
        let canonical = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_path_buf());
        let file = directory().map(|d| d.join("stat").join(Digest::of(canonical.as_os_str().as_bytes()).hex()));
        let records = file.as_deref().filter(|_| !rehash).and_then(|f| std::fs::read(f).ok()).and_then(checked);
        StatCache::of(file, rehash, records.unwrap_or_default())
    }

    fn of(file: Option<PathBuf>, rehash: bool, records: Vec<u8>) -> StatCache {
        let held = (0..(records.len() / RECORD).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        StatCache { file, rehash, records, held }
    }

    /// A cache that remembers one file.
    #[cfg(test)]
    pub(super) fn of_one(stat: &SourceStat, volume: &Volume, digest: &Digest) -> StatCache {
        let mut record = Vec::new();
        encode(&StatKey::of(stat, volume).expect("a fraction of a second").0, digest, &mut record);
        StatCache::of(None, false, record)
    }

    /// The digest of a file with the attributes `stat` on `volume`, if it is remembered. On a network volume the stat
    /// must come from the server, not from this host's cache.
    pub fn get(&self, stat: &SourceStat, volume: &Volume) -> Option<Digest> {
        if self.records.is_empty() {
            return None;
        }
        let wanted = StatKey::of(stat, volume)?.0;
        let key = (wanted.dev, wanted.ino);
        let (mut low, mut high) = (0, self.records.len() / RECORD);
        while low < high {
            let mid = (low + high) / 2;
            let record = self.record(mid);
            match key_of(record).cmp(&key) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
                std::cmp::Ordering::Equal => {
                    let (found, digest) = decode(record);
                    if found != wanted {
                        return None;
                    }
                    self.held[mid / 64].fetch_or(1 << (mid % 64), Ordering::Relaxed);
                    return Some(digest);
                }
            }
        }
        None
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

    /// Writes the cache: the records that were looked up and were still valid, and the files that were read now. A
    /// failure is not an error, because it is only a cache.
    pub fn save(self, mut read: Vec<(StatKey, Digest)>) {
        let held: usize = self.held.iter().map(|w| w.load(Ordering::Relaxed).count_ones() as usize).sum();
        let Some(file) =
            self.file.as_deref().filter(|_| self.rehash || !read.is_empty() || held * RECORD != self.records.len())
        else {
            return;
        };
        read.sort_unstable_by_key(|(k, _)| (k.0.dev, k.0.ino));
        read.dedup_by_key(|(k, _)| (k.0.dev, k.0.ino));
        let _ = self.write(file, &read);
    }

    fn write(&self, file: &Path, read: &[(StatKey, Digest)]) -> Result<()> {
        let dir = file.parent().expect("the cache's file has a directory");
        let disk = Disk::of(dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
        disk.create_dirs(dir)?;
        let mut out = disk.create_file(dir.join(format!(".{}", Token::fresh())))?;
        let mut hasher = Hasher::new();
        let mut buffer = MAGIC.to_vec();
        let kept =
            (0..self.records.len() / RECORD).filter(|i| self.held[i / 64].load(Ordering::Relaxed) >> (i % 64) & 1 == 1);
        let mut kept = kept.map(|i| self.record(i)).peekable();
        let mut read = read.iter().peekable();
        loop {
            let from_kept = match (kept.peek(), read.peek()) {
                (None, None) => break,
                (Some(old), Some((key, _))) => key_of(old) < (key.0.dev, key.0.ino),
                (old, _) => old.is_some(),
            };
            if from_kept {
                buffer.extend_from_slice(kept.next().expect("just seen"));
            } else if let Some((key, digest)) = read.next() {
                kept.next_if(|old| key_of(old) == (key.0.dev, key.0.ino));
                encode(&key.0, digest, &mut buffer);
            }
            if buffer.len() >= BUFFER {
                hasher.update(&buffer);
                out.write_all(&buffer)?;
                buffer.clear();
            }
        }
        hasher.update(&buffer);
        buffer.extend_from_slice(&hasher.finish().0);
        out.write_all(&buffer)?;
        disk.rename(out.path(), file)
    }

    fn record(&self, i: usize) -> &[u8] {
        &self.records[i * RECORD..][..RECORD]
    }
}

/// Nanoseconds since 1970 by this host's clock, from which local file systems take their times.
pub fn clock_now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Whether `CAIRN_STAT_CACHE` turns the cache off: any value that doesn't mean yes does.
fn turned_off(value: &std::ffi::OsStr) -> bool {
    !["", "on", "yes", "true", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// The directory of the user's caches, if the stat cache is on.
fn directory() -> Option<PathBuf> {
    let is_off = std::env::var_os("CAIRN_STAT_CACHE").is_some_and(|value| turned_off(&value));
    if is_off { None } else { cache_directory() }
}

/// The records of a cache file whose magic and sum are right and whose keys ascend.
fn checked(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let body = bytes.len().checked_sub(32).filter(|n| *n >= MAGIC.len() && (n - MAGIC.len()).is_multiple_of(RECORD))?;
    if !bytes.starts_with(MAGIC) || Digest::of(&bytes[..body]).0 != bytes[body..] {
        return None;
    }
    bytes.truncate(body);
    bytes.drain(..MAGIC.len());
    Some(bytes)
}

fn key_of(record: &[u8]) -> (u64, u64) {
    (u64_at(record, 0), u64_at(record, 8))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"))
}

fn decode(record: &[u8]) -> (SourceStat, Digest) {
    let stat = SourceStat {
        dev: u64_at(record, 0),
        ino: u64_at(record, 8),
        size: u64_at(record, 16),
        mtime: u64_at(record, 24) as i64,
        ctime: u64_at(record, 32) as i64,
    };
    (stat, Digest(record[40..RECORD].try_into().expect("32 bytes")))
}

fn encode(stat: &SourceStat, digest: &Digest, out: &mut Vec<u8>) {
    for n in [stat.dev, stat.ino, stat.size, stat.mtime as u64, stat.ctime as u64] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&digest.0);
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
    fn a_changed_or_damaged_file_and_one_of_another_volume_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        let cache = |records| StatCache::of(Some(file.clone()), false, records);
        let key = |ino, ctime| StatKey::of(&stat(ino, ctime), &VOLUME).unwrap();
        let digest = Digest::of(b"hello");
        cache(vec![]).save(vec![(key(3, 10), digest), (key(2, 11), digest), (key(5, 10), digest)]);
        let bytes = std::fs::read(&file).unwrap();
        let read = cache(checked(bytes.clone()).unwrap());
        assert_eq!(read.get(&stat(3, 10), &VOLUME), Some(digest));
        assert_eq!(
            read.get(&SourceStat { dev: 99, ..stat(2, 11) }, &VOLUME),
            Some(digest),
            "the device number does not count"
        );
        assert_eq!(read.get(&stat(2, 12), &VOLUME), None, "its ctime changed");
        assert_eq!(
            read.get(&stat(2, 11), &Volume { id: 78, network: false }),
            None,
            "another file system at the same place"
        );
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(checked(bad).is_none());
        }
        // Records that were not looked up again are forgotten, changed ones are replaced, new ones are added.
        read.save(vec![(key(2, 12), Digest::of(b"two")), (key(9, 12), digest)]);
        let again = cache(checked(std::fs::read(&file).unwrap()).unwrap());
        assert_eq!(again.get(&stat(2, 12), &VOLUME), Some(Digest::of(b"two")));
        assert_eq!(again.get(&stat(3, 10), &VOLUME), Some(digest));
        assert_eq!(again.get(&stat(9, 12), &VOLUME), Some(digest));
        assert_eq!(again.get(&stat(5, 10), &VOLUME), None);
    }

    #[test]
    fn a_cache_of_an_older_version_is_not_believed() {
        let mut old = b"cairnsc2".to_vec();
        encode(&stat(3, 10), &Digest::of(b"hello"), &mut old);
        let sum = Digest::of(&old);
        old.extend_from_slice(&sum.0);
        assert!(checked(old).is_none());
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
        let cache = StatCache::of(Some(tmp.path().join("c")), false, vec![]);
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

    #[test]
    fn the_cache_stays_on_only_if_every_answer_is_yes() {
        for (value, off) in [
            ("", false),
            ("on", false),
            ("1", false),
            ("off", true),
            ("OFF", true),
            ("0", true),
            ("no", true),
            ("of", true),
        ] {
            assert_eq!(turned_off(value.as_ref()), off, "{value}");
        }
    }
}
