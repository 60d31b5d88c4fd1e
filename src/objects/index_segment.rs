//! An index run: sorted (digest, kind) → pack and offset, over the packs that it names. A cache: it may be missing or
//! damaged. Header and blocks have checksums that are looked at before they are believed. See FORMAT.md, "Index segments".

use super::pack::{Kind, digest_at, u32_at, u64_at};
use crate::disk::{self, NewFile};
use crate::error::{Error, Result};
use crate::types::Digest;
use parking_lot::RwLock;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const MAGIC: &[u8; 8] = b"cairnix2";
/// A file whose first bytes agree with the magic in so many is a run: of another release, or with a damaged byte there.
const MAGIC_BYTES_OF_OURS: usize = 6;
/// magic, entries (8), packs (4), blocks (4)
const FIXED: usize = 24;
/// digest, pack in this run's table (4), offset (4), kind, 3 zeros
const ENTRY: usize = 44;
/// Entries of a block: 4092 bytes.
pub(super) const PER_BLOCK: usize = 93;
/// A block's line in the header: the first eight bytes of its first digest, and of its SHA-256.
const LINE: usize = 16;
/// Blocks written at once.
const WRITE_BLOCKS: usize = 64;
/// A run that is no longer than this is read and checked whole, by one read.
const WHOLE: usize = if cfg!(test) { 2 << 10 } else { 8 << 10 };
/// Blocks of a run that are kept in memory.
const KEPT_BLOCKS: usize = 4096;

/// An entry of a run: the pack by its place in a table of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentEntry {
    pub digest: Digest,
    pub kind: Kind,
    pub pack: u32,
    pub offset: u32,
}

impl SegmentEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.pack.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
    }
}

/// Writes the run over `packs` into a new file: `count` entries, which come sorted by digest and kind. Returns its
/// name.
///
/// # Errors
/// I/O; those of `entries`, and when they are not as many.
pub(super) fn write(
    file: &mut NewFile,
    packs: &[Digest],
    count: usize,
    entries: &mut dyn Iterator<Item = Result<SegmentEntry>>,
) -> Result<Digest> {
    let blocks = count.div_ceil(PER_BLOCK);
    let names: Vec<u8> = packs.iter().flat_map(|p| p.0).collect();
    let mut head = Vec::with_capacity(FIXED + blocks * LINE + 64 + names.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&(count as u64).to_le_bytes());
    head.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    head.extend_from_slice(&(blocks as u32).to_le_bytes());
    // The blocks first; the header, which has their checksums, is put before them when they are known.
    let mut at = (FIXED + blocks * LINE + 64 + names.len()) as u64;
    let mut buffer = Vec::with_capacity(ENTRY * count.min(WRITE_BLOCKS * PER_BLOCK));
    let mut written = 0;
    loop {
        let next = entries.next().transpose()?;
        if next.is_none() || buffer.len() == WRITE_BLOCKS * PER_BLOCK * ENTRY {
            for block in buffer.chunks(PER_BLOCK * ENTRY) {
                head.extend_from_slice(&block[..8]);
                head.extend_from_slice(&Digest::of(block).0[..8]);
            }
            file.write_at(&buffer, at)?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        let Some(entry) = next else { break };
        entry.encode(&mut buffer);
        written += 1;
    }
    if written != count {
        return Err(Error::io_message(format!("an index run got {written} entries, expected {count}")));
    }
    head.extend_from_slice(&Digest::of(&names).0);
    let name = Digest::of(&head);
    head.extend_from_slice(&name.0);
    head.extend_from_slice(&names);
    file.write_at(&head, 0)?;
    Ok(name)
}

/// Never mapped: a bad sector, a file that is cut, or another host's unlink would be a SIGBUS.
enum Data {
    /// A short one: all of it.
    Whole(Vec<u8>),
    Read {
        file: File,
        kept: RwLock<HashMap<usize, Arc<Vec<u8>>>>,
    },
}

/// An open run.
pub(super) struct Segment {
    pub name: Digest,
    /// Where the names of its packs stand, and the digest of them all.
    names: (u64, usize, Digest),
    packs: OnceLock<Vec<Digest>>,
    lines: Vec<u8>,
    entries: usize,
    body: u64,
    data: Data,
    /// One bit for each block whose checksum was seen right.
    checked: Vec<AtomicU64>,
    damaged: AtomicBool,
    /// Device and inode.
    file: (u64, u64),
}

/// What opening a run gave.
pub(super) enum Opened {
    /// A run whose header is right.
    Segment(Segment),
    /// Nothing stands there.
    Gone,
    /// Its header is damaged, or it cannot be read.
    Damaged,
}

impl Segment {
    /// Opens a run. Its header alone is read, unless it is short.
    pub(super) fn open(path: &Path, name: Digest) -> Opened {
        match disk::open_file(path) {
            Ok(None) => Opened::Gone,
            Ok(Some((file, meta))) => Segment::of(file, &meta, name).map_or(Opened::Damaged, Opened::Segment),
            Err(_) => Opened::Damaged,
        }
    }

    fn of(file: File, meta: &Metadata, name: Digest) -> Option<Segment> {
        let len = meta.len();
        let mut start = vec![0; len.min(WHOLE as u64) as usize];
        file.read_exact_at(&mut start, 0).ok()?;
        let fixed = start.get(..FIXED).filter(|f| &f[..8] == MAGIC)?;
        let (entries, packs, blocks) = (u64_at(fixed, 8), u32_at(fixed, 16) as u64, u32_at(fixed, 20) as u64);
        let head = FIXED as u64 + blocks * LINE as u64 + 32;
        let body = head + 32 + packs * 32;
        if entries.div_ceil(PER_BLOCK as u64) != blocks
            || entries.checked_mul(ENTRY as u64)?.checked_add(body)? != len
            || body > 1 << 30
        {
            return None;
        }
        let (head, have) = (head as usize, start.len());
        if head + 32 > have {
            start.resize(head + 32, 0);
            file.read_exact_at(&mut start[have..], have as u64).ok()?;
        }
        if Digest::of(&start[..head]) != name || start[head..head + 32] != name.0 {
            return None;
        }
        let lines = start[FIXED..head - 32].to_vec();
        let names = (head as u64 + 32, packs as usize, digest_at(&start, head - 32));
        let data = if len <= WHOLE as u64 { Data::Whole(start) } else { Data::Read { file, kept: RwLock::default() } };
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let file = (meta.dev(), meta.ino());
        let run = Segment {
            name,
            names,
            packs: OnceLock::new(),
            lines,
            entries: entries as usize,
            body,
            data,
            checked,
            damaged: AtomicBool::new(false),
            file,
        };
        let whole = !matches!(run.data, Data::Whole(_))
            || (run.packs().len() == packs as usize && (0..run.blocks()).all(|i| run.try_block(i, |_| ()).is_some()));
        whole.then_some(run)
    }

    /// The names of the packs that it covers; none when they are damaged.
    pub(super) fn packs(&self) -> &[Digest] {
        self.packs.get_or_init(|| {
            let (at, count, sum) = self.names;
            let names = self.bytes(at, count * 32, |bytes| {
                (Digest::of(bytes) == sum).then(|| bytes.chunks_exact(32).map(|n| digest_at(n, 0)).collect())
            });
            names.flatten().unwrap_or_else(|| {
                self.damaged.store(true, Relaxed);
                Vec::new()
            })
        })
    }

    /// Calls `look` with bytes of the file.
    fn bytes<T>(&self, at: u64, len: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let range = at as usize..at as usize + len;
        match &self.data {
            Data::Whole(bytes) => bytes.get(range).map(look),
            Data::Read { file, .. } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).ok()?;
                Some(look(&bytes))
            }
        }
    }

    /// Whether a block was seen that does not have its checksum. Then the run no longer stands for its packs.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }

    /// Whether the file at `path` may be removed: it begins as a run does, or as one that a loss of power has torn.
    /// What else somebody put there is not ours.
    pub(super) fn is_ours(path: &Path) -> bool {
        let Ok(Some((file, _))) = disk::open_file(path) else { return false };
        let mut start = [0; MAGIC.len()];
        let start = match disk::read_full_at(&file, &mut start, 0) {
            Ok(n) => &start[..n],
            Err(e) => return e.raw_os_error() == Some(libc::EIO), // a bad sector
        };
        let same = start.iter().zip(MAGIC).filter(|(a, b)| a == b).count();
        same >= MAGIC_BYTES_OF_OURS || start.iter().all(|b| *b == 0)
    }

    /// Whether `path` is still the file that was opened.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        disk::lstat(path).ok().flatten().is_some_and(|m| (m.dev(), m.ino()) == self.file)
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The entries for a blob: several when several packs hold it.
    pub(super) fn find(&self, digest: &Digest, kind: Kind, found: &mut Vec<SegmentEntry>) {
        let prefix = digest.prefix();
        let line = |i: usize| u64::from_be_bytes(self.lines[i * LINE..i * LINE + 8].try_into().expect("eight bytes"));
        let blocks = self.blocks();
        // The last block that begins before the digest, and those that begin with the same eight bytes.
        let mut at = partition(blocks, |i| line(i) < prefix).saturating_sub(1);
        while at < blocks && line(at) <= prefix {
            let hit = self.with_block(at, |bytes| {
                let n = bytes.len() / ENTRY;
                let key = |i: usize| (&bytes[i * ENTRY..i * ENTRY + 32], bytes[i * ENTRY + 40]);
                // The first eight bytes tell nearly always, and comparing a number is faster.
                let start =
                    |i: usize| u64::from_be_bytes(bytes[i * ENTRY..i * ENTRY + 8].try_into().expect("eight bytes"));
                let from = partition(n, |i| match start(i).cmp(&prefix) {
                    Ordering::Less => true,
                    Ordering::Equal => key(i) < (&digest.0[..], kind as u8),
                    Ordering::Greater => false,
                });
                (from..n)
                    .take_while(|i| key(*i) == (&digest.0[..], kind as u8))
                    .filter_map(|i| entry(&bytes[i * ENTRY..][..ENTRY]))
                    .for_each(|e| found.push(e));
            });
            if hit.is_none() {
                return; // a damaged block knows nothing
            }
            at += 1;
        }
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> usize {
        self.lines.len() / LINE
    }

    /// The entries of a block in order; `None` when it is damaged.
    pub(super) fn block(&self, i: usize) -> Option<Vec<SegmentEntry>> {
        self.with_block(i, |bytes| bytes.chunks_exact(ENTRY).map(entry).collect())?
    }

    fn with_block<T>(&self, i: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let seen = self.try_block(i, look);
        if seen.is_none() {
            self.damaged.store(true, Relaxed);
        }
        seen
    }

    fn try_block<T>(&self, i: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let from = self.body + (i * PER_BLOCK * ENTRY) as u64;
        let len = ENTRY * PER_BLOCK.min(self.entries - i * PER_BLOCK);
        if let Data::Read { kept, .. } = &self.data {
            let known = kept.read().get(&i).cloned();
            if let Some(bytes) = known {
                return Some(look(&bytes));
            }
            let bytes = self.bytes(from, len, <[u8]>::to_vec)?;
            self.check(i, &bytes)?;
            let out = look(&bytes);
            let mut kept = kept.write();
            if kept.len() >= KEPT_BLOCKS {
                kept.clear();
            }
            kept.insert(i, Arc::new(bytes));
            return Some(out);
        }
        let seen = self.bytes(from, len, |bytes| {
            self.check(i, bytes)?;
            Some(look(bytes))
        });
        seen.flatten()
    }

    /// Compares a block with its checksum, the first time that it is seen.
    fn check(&self, i: usize, bytes: &[u8]) -> Option<()> {
        let (word, bit) = (&self.checked[i / 64], 1 << (i % 64));
        if word.load(Relaxed) & bit == 0 {
            (Digest::of(bytes).0[..8] == self.lines[i * LINE + 8..i * LINE + 16]).then_some(())?;
            word.fetch_or(bit, Relaxed);
        }
        Some(())
    }
}

fn entry(bytes: &[u8]) -> Option<SegmentEntry> {
    let kind = match bytes[40] {
        1 => Kind::Content,
        2 => Kind::Node,
        _ => return None,
    };
    Some(SegmentEntry { digest: digest_at(bytes, 0), kind, pack: u32_at(bytes, 32), offset: u32_at(bytes, 36) })
}

/// The first index below `n` for which `before` is false.
fn partition(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let mid = (low + high) / 2;
        if before(mid) { low = mid + 1 } else { high = mid }
    }
    low
}
