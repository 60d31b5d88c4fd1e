//! The stat cache: which digest a file had when it was last read, by device, inode, size, mtime and ctime.
//!
//! A cache of the user's, one file for each source directory, droppable at any time: an unchanged put is then a walk, and an
//! interrupted one goes on. git's "racy" rule: a file changed shortly before it was read could be changed again within the same
//! time stamp, so it is not remembered. What a damaged cache holds is not used: the file carries a SHA-256 of itself.

use super::tree::Stat;
use crate::disk::{Access, Disk, FsKind};
use crate::error::Result;
use crate::words::{Digest, Hasher, Token};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 8] = b"cairnsc2";
/// dev, ino, size, mtime, ctime: 8 bytes each; digest: 32.
const RECORD: usize = 72;
/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// How old a file's change must be to be remembered, in nanoseconds. Across the network the server's clock may differ from ours.
const RACY_LOCAL: i64 = 2_000_000_000;
const RACY_SHARED: i64 = 120_000_000_000;

/// The digests remembered for one source.
#[derive(Debug)]
pub struct StatCache {
    file: Option<PathBuf>,
    racy: i64,
    /// Records sorted by device and inode.
    records: Vec<u8>,
    /// One bit for each record that was asked for and still held.
    held: Vec<AtomicU64>,
}

impl StatCache {
    /// What is remembered for the source directory `source`. Nothing when the cache is missing, damaged or turned off
    /// (`CAIRN_CACHE_DIR` set and empty; else `$XDG_CACHE_HOME/cairn`, else `~/.cache/cairn`).
    pub fn open(source: &Path) -> StatCache {
        use std::os::unix::ffi::OsStrExt;
        let racy = match FsKind::of(source) {
            Ok(kind) if kind.is_local() => RACY_LOCAL,
            _ => RACY_SHARED,
        };
        let canonical = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_path_buf());
        let file = directory().map(|d| d.join("stat").join(Digest::of(canonical.as_os_str().as_bytes()).hex()));
        let records = file.as_deref().and_then(|f| std::fs::read(f).ok()).and_then(checked).unwrap_or_default();
        StatCache::of(file, racy, records)
    }

    fn of(file: Option<PathBuf>, racy: i64, records: Vec<u8>) -> StatCache {
        let held = (0..(records.len() / RECORD).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        StatCache { file, racy, records, held }
    }

    /// The digest of a file that looks as `stat`, if it is remembered.
    pub fn get(&self, stat: &Stat) -> Option<Digest> {
        let key = (stat.dev, stat.ino);
        let (mut low, mut high) = (0, self.records.len() / RECORD);
        while low < high {
            let mid = (low + high) / 2;
            let record = self.record(mid);
            match key_of(record).cmp(&key) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
                std::cmp::Ordering::Equal => {
                    let (found, digest) = decode(record);
                    if found != *stat {
                        return None;
                    }
                    self.held[mid / 64].fetch_or(1 << (mid % 64), Ordering::Relaxed);
                    return Some(digest);
                }
            }
        }
        None
    }

    /// Remembers, beside what was asked for and still held, the files that were read now. Failures are not errors: it is a cache.
    /// `now` is when the reading began, in nanoseconds since 1970.
    pub fn save(self, mut read: Vec<(Stat, Digest)>, now: i64) {
        let held: usize = self.held.iter().map(|w| w.load(Ordering::Relaxed).count_ones() as usize).sum();
        let Some(file) = self.file.as_deref().filter(|_| !read.is_empty() || held * RECORD != self.records.len()) else { return };
        read.retain(|(s, _)| s.ctime.max(s.mtime) < now - self.racy);
        read.sort_unstable_by_key(|(s, _)| (s.dev, s.ino));
        read.dedup_by_key(|(s, _)| (s.dev, s.ino));
        let _ = self.write(file, &read);
    }

    fn write(&self, file: &Path, read: &[(Stat, Digest)]) -> Result<()> {
        let dir = file.parent().expect("the cache's file has a directory");
        let disk = Disk::of(dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
        disk.create_dirs(dir)?;
        let mut out = disk.create_file(dir.join(format!(".{}", Token::fresh())))?;
        let mut hasher = Hasher::new();
        let mut buffer = MAGIC.to_vec();
        let kept = (0..self.records.len() / RECORD).filter(|i| self.held[i / 64].load(Ordering::Relaxed) >> (i % 64) & 1 == 1);
        let mut kept = kept.map(|i| self.record(i)).peekable();
        let mut read = read.iter().peekable();
        loop {
            let from_kept = match (kept.peek(), read.peek()) {
                (None, None) => break,
                (Some(old), Some((stat, _))) => key_of(old) < (stat.dev, stat.ino),
                (old, _) => old.is_some(),
            };
            if from_kept {
                buffer.extend_from_slice(kept.next().expect("just seen"));
            } else if let Some((stat, digest)) = read.next() {
                kept.next_if(|old| key_of(old) == (stat.dev, stat.ino));
                encode(stat, digest, &mut buffer);
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

/// Where the user's caches are.
fn directory() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CAIRN_CACHE_DIR") {
        return (!dir.is_empty()).then(|| dir.into());
    }
    let absolute = |v: std::ffi::OsString| Some(PathBuf::from(v)).filter(|p| p.is_absolute());
    let base = std::env::var_os("XDG_CACHE_HOME").and_then(absolute);
    base.or_else(|| std::env::var_os("HOME").and_then(absolute).map(|h| h.join(".cache"))).map(|b| b.join("cairn"))
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

fn decode(record: &[u8]) -> (Stat, Digest) {
    let stat = Stat {
        dev: u64_at(record, 0),
        ino: u64_at(record, 8),
        size: u64_at(record, 16),
        mtime: u64_at(record, 24) as i64,
        ctime: u64_at(record, 32) as i64,
    };
    (stat, Digest(record[40..RECORD].try_into().expect("32 bytes")))
}

fn encode(stat: &Stat, digest: &Digest, out: &mut Vec<u8>) {
    for n in [stat.dev, stat.ino, stat.size, stat.mtime as u64, stat.ctime as u64] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&digest.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn a_changed_damaged_or_racy_file_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        let cache = |records| StatCache::of(Some(file.clone()), RACY_LOCAL, records);
        let stat = |ino, ctime| Stat { dev: 1, ino, size: 5, mtime: 10 * S, ctime: ctime * S };
        let digest = Digest::of(b"hello");
        cache(vec![]).save(vec![(stat(3, 10), digest), (stat(2, 11), digest), (stat(4, 99), digest), (stat(5, 10), digest)], 100 * S);
        let bytes = std::fs::read(&file).unwrap();
        let read = cache(checked(bytes.clone()).unwrap());
        assert_eq!(read.get(&stat(3, 10)), Some(digest));
        assert_eq!(read.get(&stat(2, 11)), Some(digest));
        assert_eq!(read.get(&stat(2, 12)), None, "its ctime changed");
        assert_eq!(read.get(&stat(4, 99)), None, "it was racy");
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(checked(bad).is_none());
        }
        // What was not asked for again is forgotten, what changed is replaced, what is new is added.
        read.save(vec![(stat(2, 12), Digest::of(b"two")), (stat(9, 12), digest)], 100 * S);
        let again = cache(checked(std::fs::read(&file).unwrap()).unwrap());
        assert_eq!(again.get(&stat(2, 12)), Some(Digest::of(b"two")));
        assert_eq!(again.get(&stat(3, 10)), Some(digest));
        assert_eq!(again.get(&stat(9, 12)), Some(digest));
        assert_eq!(again.get(&stat(5, 10)), None);
    }
}
