//! The stat cache: which digest a file had when it was last read, by device, inode, size, mtime and ctime.
//!
//! A cache of the user's, one file for each source directory, droppable at any time: an unchanged put is then a walk, and an
//! interrupted one goes on. git's "racy" rule: a file changed shortly before it was read could be changed again within the same
//! time stamp, so it is not remembered. What a damaged cache holds is not used: the file carries a SHA-256 of itself.

use super::tree::Stat;
use crate::disk::{Access, Disk, FsKind};
use crate::error::Result;
use crate::words::{Digest, Token};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"cairnsc1";
/// dev, ino, size, mtime s, ctime s: 8 bytes each; mtime ns, ctime ns: 4 each; digest: 32.
const RECORD: usize = 80;

/// How old a file's change must be to be remembered, in seconds. Across the network the server's clock may differ from ours.
const RACY_LOCAL: i64 = 2;
const RACY_SHARED: i64 = 120;

/// The digests remembered for one source.
#[derive(Debug)]
pub struct StatCache {
    file: Option<PathBuf>,
    racy: i64,
    /// Records sorted by device and inode.
    records: Vec<u8>,
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
        StatCache { file, racy, records }
    }

    /// The digest of a file that looks as `stat`, if it is remembered.
    pub fn get(&self, stat: &Stat) -> Option<Digest> {
        let n = self.records.len() / RECORD;
        let key = (stat.dev, stat.ino);
        let (mut low, mut high) = (0, n);
        while low < high {
            let mid = (low + high) / 2;
            let record = &self.records[mid * RECORD..][..RECORD];
            match key_of(record).cmp(&key) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Greater => high = mid,
                std::cmp::Ordering::Equal => {
                    let (found, digest) = decode(record);
                    return (found == *stat).then_some(digest);
                }
            }
        }
        None
    }

    /// Replaces what is remembered by `found`. Failures are not errors: it is a cache.
    pub fn save(&self, found: &mut Vec<(Stat, Digest)>, now: i64) {
        let Some(file) = &self.file else { return };
        found.retain(|(s, _)| s.ctime.0.max(s.mtime.0) < now - self.racy);
        found.sort_unstable_by_key(|(s, _)| (s.dev, s.ino));
        found.dedup_by_key(|(s, _)| (s.dev, s.ino));
        let mut bytes = Vec::with_capacity(found.len() * RECORD + 40);
        bytes.extend_from_slice(MAGIC);
        for (stat, digest) in found.iter() {
            encode(stat, digest, &mut bytes);
        }
        if bytes[MAGIC.len()..] == self.records[..] {
            return;
        }
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(&sum.0);
        let _ = write(file, &bytes);
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let dir = file.parent().expect("the cache's file has a directory");
    let disk = Disk::of(dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
    disk.create_dirs(dir)?;
    let temp = disk.write_file(dir.join(format!(".{}", Token::fresh())), bytes)?;
    disk.rename(temp.path(), file)
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

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

fn decode(record: &[u8]) -> (Stat, Digest) {
    let stat = Stat {
        dev: u64_at(record, 0),
        ino: u64_at(record, 8),
        size: u64_at(record, 16),
        mtime: (u64_at(record, 24) as i64, u32_at(record, 40)),
        ctime: (u64_at(record, 32) as i64, u32_at(record, 44)),
    };
    (stat, Digest(record[48..80].try_into().expect("32 bytes")))
}

fn encode(stat: &Stat, digest: &Digest, out: &mut Vec<u8>) {
    for n in [stat.dev, stat.ino, stat.size, stat.mtime.0 as u64, stat.ctime.0 as u64] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for n in [stat.mtime.1, stat.ctime.1] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&digest.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_damaged_or_racy_file_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        let cache = |records| StatCache { file: Some(file.clone()), racy: 2, records };
        let stat = |ino, ctime| Stat { dev: 1, ino, size: 5, mtime: (10, 7), ctime: (ctime, 8) };
        let digest = Digest::of(b"hello");
        cache(vec![]).save(&mut vec![(stat(3, 10), digest), (stat(2, 11), digest), (stat(4, 99), digest)], 100);
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
    }
}
