//! What is in a cache, and removing what was used least recently.

use super::content::{DATA, SUMS};
use super::directory::{Cache, TEMPORARY};
use super::node_lock::NodeLock;
use crate::error::{Error, Result};
use crate::types::Token;
use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is being made and has not changed for this long was left by a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);
/// The byte of the lock file that is locked for trimming. The bytes of keys are above it.
const TRIMMING: u64 = 0;

/// What is in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many contents and records.
    pub entries: u64,
    /// Their bytes on the disk.
    pub bytes: u64,
    /// When the one was used that was used least recently, to within a minute.
    pub oldest_use: Option<SystemTime>,
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
    is_dir: bool,
}

impl Usage {
    fn add(&mut self, found: &Found) {
        self.entries += 1;
        self.bytes += found.bytes;
        self.oldest_use = Some(self.oldest_use.map_or(found.used, |oldest| oldest.min(found.used)));
    }
}

impl Cache {
    /// What is in it.
    ///
    /// # Errors
    /// I/O.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        self.each(&mut |found| usage.add(&found))?;
        Ok(usage)
    }

    /// Removes what was used least recently until at most `limit` bytes are left, and what dead processes left. If
    /// another process is doing that, this one does nothing.
    ///
    /// # Errors
    /// I/O.
    pub fn trim(&self, limit: u64) -> Result<Trimmed> {
        let lock = self.dir.open_lock("lock").ok().map(|file| NodeLock::take(file, TRIMMING, Duration::ZERO));
        if matches!(lock, Some(None)) {
            return Ok(Trimmed { left: self.usage()?, ..Trimmed::default() });
        }
        self.remove_abandoned();
        let mut all = Vec::new();
        self.each(&mut |found| all.push(found))?;
        all.sort_by_key(|found| found.used);
        let mut over = all.iter().map(|found| found.bytes).sum::<u64>().saturating_sub(limit);
        let mut done = Trimmed::default();
        for found in all {
            if over > 0 && self.remove_found(&found).is_ok() {
                over = over.saturating_sub(found.bytes);
                done.removed.add(&found);
            } else {
                done.left.add(&found);
            }
        }
        Ok(done)
    }

    fn remove_found(&self, found: &Found) -> io::Result<()> {
        if found.is_dir { self.dir.remove_dir(&found.path, TEMPORARY, &|_| true) } else { self.dir.remove(&found.path) }
    }

    fn remove_abandoned(&self) {
        let Ok(names) = std::fs::read_dir(self.path().join(TEMPORARY)) else { return };
        // What has another name is not the cache's own.
        let is_own = |entry: &DirEntry| entry.file_name().to_str().is_some_and(|name| Token::of_text(name).is_some());
        for entry in names.flatten().filter(is_own) {
            let Ok(meta) = entry.metadata() else { continue };
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                let path = entry.path();
                drop(self.remove_found(&Found { used: SystemTime::now(), bytes: 0, path, is_dir: meta.is_dir() }));
            }
        }
    }

    fn each(&self, see: &mut dyn FnMut(Found)) -> Result<()> {
        for first in 0..=255u8 {
            let dir = self.path().join(format!("{first:02x}"));
            let names = match std::fs::read_dir(&dir) {
                Ok(names) => names,
                // A process of another user was killed before it opened the directory to the others.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => continue,
                Err(e) => return Err(Error::io("list", &dir, e)),
            };
            for entry in names.flatten() {
                if entry.file_name().to_str().is_some_and(|name| name.len() == 62)
                    && let Some(found) = look(entry.path())
                {
                    see(found);
                }
            }
        }
        Ok(())
    }
}

/// A content or a record. One that is not whole counts as not used, so that it is removed first.
fn look(path: PathBuf) -> Option<Found> {
    let meta = std::fs::symlink_metadata(&path).ok()?;
    let used = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if !meta.is_dir() {
        return Some(Found { used: used(&path), bytes: meta.blocks() * 512, path, is_dir: false });
    }
    let bytes = |name| std::fs::metadata(path.join(name)).map_or(0, |m| m.blocks() * 512);
    let bytes = bytes(DATA) + bytes(SUMS);
    Some(Found { used: used(&path.join(SUMS)), bytes, path, is_dir: true })
}
