//! The checkpoint of a verification: which packs and objects were read whole and found right. It is a file in the
//! user's cache directory, so that a verification of days can continue after it was interrupted.
//!
//! It has 16 bytes for each file: the beginning of a SHA-256 over path, inode, size and times. If a file was changed or
//! replaced since, its sum is another one, and it is read again. A damaged checkpoint is not used.

use super::options::Checkpoint;
use crate::cache::cache_directory;
use crate::clock;
use crate::disk::{self, Access, Disk};
use crate::error::Result;
use crate::locks::Mutex;
use crate::objects::StoredFile;
use crate::store::Store;
use crate::types::{Digest, Hasher, Token};
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: &[u8; 8] = b"cairnvc1";
/// The magic number, and the time at which the verification began.
const HEAD: usize = 16;

/// The first checkpoint is written after the first interval. Each interval is twice the one before, up to the last one.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const LAST_INTERVAL: Duration = Duration::from_secs(30);
/// Writing takes at most about one part in `WRITE_SHARE` of the time.
const WRITE_SHARE: u32 = 20;
/// A file that was changed less than this many seconds ago is not recorded: the next change could get the same time.
const SETTLED: i64 = 2;

/// What identifies a file in the state in which it was read.
pub(super) type FileSum = [u8; 16];

/// What was read whole and found right, now and by the interrupted verification that this one continues.
#[derive(Debug)]
pub(super) struct Verified {
    root: PathBuf,
    /// Where the checkpoint is; `None`: there is none.
    file: Option<PathBuf>,
    /// When the verification began, in seconds since 1970.
    begun: i64,
    /// Whether an interrupted verification is continued.
    continues: bool,
    /// What it had read.
    before: HashSet<FileSum>,
    read: Mutex<ReadFiles>,
}

#[derive(Debug)]
struct ReadFiles {
    sums: Vec<FileSum>,
    due: Instant,
    interval: Duration,
}

impl Verified {
    /// Begins a verification of the whole store, or continues one.
    pub fn begin(store: &Store, checkpoint: Checkpoint) -> Verified {
        let id = Digest::of(store.config().store_id.as_bytes()).hex();
        let dir = cache_directory().filter(|_| checkpoint != Checkpoint::Off);
        let file = dir.map(|dir| dir.join("verify").join(id));
        let saved = match (checkpoint, &file) {
            (Checkpoint::Resume, Some(file)) => std::fs::read(file).ok().and_then(|bytes| parse(&bytes)),
            _ => None,
        };
        let continues = saved.is_some();
        let (begun, sums) = saved.unwrap_or_else(|| (clock::unix_now(), Vec::new()));
        let before = sums.iter().copied().collect();
        let read = ReadFiles { sums, due: Instant::now() + FIRST_INTERVAL, interval: FIRST_INTERVAL };
        Verified { root: store.root().to_path_buf(), file, begun, continues, before, read: Mutex::new(read) }
    }

    /// When the verification that this one continues began.
    pub fn continued(&self) -> Option<String> {
        self.continues.then(|| clock::show(self.begun))
    }

    /// The sum of a file as it is now. Take it before the file is read. `None`: the file is not recorded.
    pub fn sum(&self, stored: &StoredFile) -> Option<FileSum> {
        self.file.as_ref()?;
        let meta = disk::lstat(&stored.path).ok()?.filter(std::fs::Metadata::is_file)?;
        if meta.ctime() > clock::unix_now() - SETTLED {
            return None;
        }
        let mut hasher = Hasher::new();
        hasher.update(stored.path.strip_prefix(&self.root).unwrap_or(&stored.path).as_os_str().as_bytes());
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(i64::cast_unsigned);
        for n in [meta.ino(), meta.size()].into_iter().chain(times) {
            hasher.update(&n.to_le_bytes());
        }
        hasher.finish().0.first_chunk().copied()
    }

    /// Whether the interrupted verification read a file with that sum, and found it right.
    pub fn has(&self, sum: &FileSum) -> bool {
        self.before.contains(sum)
    }

    /// Records a file that was read whole and is right. Writes the checkpoint if it is due. A failure to write is not
    /// an error: then more is read again.
    pub fn add(&self, sum: FileSum) {
        let Some(file) = &self.file else { return };
        let mut read = self.read.lock();
        read.sums.push(sum);
        let begun = Instant::now();
        if begun < read.due {
            return;
        }
        let _ = write(file, self.begun, &read.sums);
        read.interval = (read.interval * 2).min(LAST_INTERVAL).max(begun.elapsed() * WRITE_SHARE);
        read.due = Instant::now() + read.interval;
    }

    /// Forgets the checkpoint: the verification is complete.
    pub fn end(&self) {
        let Some(file) = self.file.as_ref().filter(|file| file.exists()) else { return };
        let _ = Disk::of(parent(file), Access::Umask).and_then(|disk| disk.remove_file(file));
    }
}

fn parent(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

fn write(file: &Path, begun: i64, sums: &[FileSum]) -> Result<()> {
    let dir = parent(file);
    let disk = Disk::of(dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/")), Access::Umask)?;
    disk.create_dirs(dir)?;
    let mut bytes = Vec::with_capacity(HEAD + size_of_val(sums) + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&begun.to_le_bytes());
    sums.iter().for_each(|sum| bytes.extend_from_slice(sum));
    let sum = Digest::of(&bytes);
    bytes.extend_from_slice(&sum.0);
    let mut out = disk.create_file(dir.join(format!(".{}", Token::fresh())))?;
    out.write_all(&bytes)?;
    disk.rename(out.path(), file)
}

/// The time and the sums of a checkpoint that is as it was written.
fn parse(bytes: &[u8]) -> Option<(i64, Vec<FileSum>)> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let sums = body.strip_prefix(MAGIC).filter(|_| Digest::of(body).0 == sum)?;
    let (begun, sums) = sums.split_first_chunk()?;
    let (sums, rest) = sums.as_chunks();
    rest.is_empty().then(|| (i64::from_le_bytes(*begun), sums.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_a_damaged_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("verify/x");
        let sums: Vec<FileSum> = (0..5).map(|i| [i; 16]).collect();
        write(&file, 1_700_000_000, &sums).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(parse(&bytes), Some((1_700_000_000, sums)));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(parse(&bad).is_none() && parse(&bytes[..i]).is_none());
        }
        assert_eq!(std::fs::read_dir(parent(&file)).unwrap().count(), 1, "no temporary file is left");
    }
}
