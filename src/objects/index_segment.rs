//! An index segment: sorted (digest, kind) → pack and offset, for the packs that it covers. A cache: it may be missing
//! or damaged. Header and blocks have checksums, which are checked before they are used. See FORMAT.md, "Index
//! segments".

use super::pack::{BlobKind, digest_at, u32_at, u64_at};
use crate::disk;
use crate::locks::RwLock;
use crate::types::Digest;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

pub(super) const MAGIC: &[u8; 8] = b"cairnix2";
/// A file that agrees with the magic in this many bytes is a segment: of another release, or with a damaged byte there.
const MIN_MAGIC_BYTES: usize = 6;
/// magic, entries (8), packs (4), blocks (4)
pub(super) const FIXED_HEADER: usize = 24;
/// digest, pack in this segment's table (4), offset (4), kind, 3 zeros
pub(super) const ENTRY: usize = 44;
/// Entries per block, which makes 4092 bytes.
pub(super) const PER_BLOCK: usize = 93;
/// A block's entry in the header: the first eight bytes of its first digest, and of its SHA-256.
pub(super) const TABLE_ENTRY: usize = 16;
/// A segment no longer than this is read and checked whole, by one read.
const WHOLE_MAX: usize = if cfg!(test) { 2 << 10 } else { 8 << 10 };
/// Blocks of an index that are cached in memory, about 4 KiB each. Its segments share them.
const MAX_CACHED_BLOCKS: usize = 8192;

/// An entry of a segment. `pack` is an index into a table of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentEntry {
    pub digest: Digest,
    pub kind: BlobKind,
    pub pack: u32,
    pub offset: u32,
}

impl SegmentEntry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.pack.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
    }
}

/// Never mapped: a bad sector, a truncated file, or another host's unlink would cause a SIGBUS.
enum SegmentData {
    /// All of a short segment.
    Whole(Vec<u8>),
    Read {
        file: File,
        cached: RwLock<HashMap<usize, Arc<Vec<u8>>>>,
    },
}

/// An open segment.
pub(super) struct Segment {
    pub name: Digest,
    /// The names of its packs: offset, count, and the digest over all.
    names: (u64, usize, Digest),
    packs: OnceLock<Vec<Digest>>,
    table: Vec<u8>,
    entries: usize,
    body: u64,
    data: SegmentData,
    /// One bit for each block whose checksum was checked and is right.
    checked: Vec<AtomicU64>,
    /// How many blocks are cached at most.
    max_cached: AtomicUsize,
    damaged: AtomicBool,
    /// Device and inode.
    file: (u64, u64),
}

/// The result of opening a segment.
pub(super) enum OpenedSegment {
    /// Its header is right.
    Valid(Segment),
    /// There is no such file.
    Gone,
    /// Its header is damaged, or it cannot be read.
    Damaged,
}

impl Segment {
    /// Opens a segment. Reads only the header, unless the segment is short.
    pub(super) fn open(path: &Path, name: Digest) -> OpenedSegment {
        match disk::open_file(path) {
            Ok(None) => OpenedSegment::Gone,
            Ok(Some((file, meta))) => {
                Segment::of(file, &meta, name).map_or(OpenedSegment::Damaged, OpenedSegment::Valid)
            }
            Err(_) => OpenedSegment::Damaged,
        }
    }

    fn of(file: File, meta: &Metadata, name: Digest) -> Option<Segment> {
        let len = meta.len();
        let mut start = vec![0; len.min(WHOLE_MAX as u64) as usize];
        file.read_exact_at(&mut start, 0).ok()?;
        let fixed = start.get(..FIXED_HEADER).filter(|f| &f[..8] == MAGIC)?;
        let (entries, packs, blocks) = (u64_at(fixed, 8), u32_at(fixed, 16) as u64, u32_at(fixed, 20) as u64);
        let head = FIXED_HEADER as u64 + blocks * TABLE_ENTRY as u64 + 32;
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
        let table = start[FIXED_HEADER..head - 32].to_vec();
        let names = (head as u64 + 32, packs as usize, digest_at(&start, head - 32));
        let data = if len <= WHOLE_MAX as u64 {
            SegmentData::Whole(start)
        } else {
            SegmentData::Read { file, cached: RwLock::cache() }
        };
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let file = (meta.dev(), meta.ino());
        let segment = Segment {
            name,
            names,
            packs: OnceLock::new(),
            table,
            entries: entries as usize,
            body,
            data,
            checked,
            max_cached: AtomicUsize::new(MAX_CACHED_BLOCKS),
            damaged: AtomicBool::new(false),
            file,
        };
        let whole = !matches!(segment.data, SegmentData::Whole(_))
            || (segment.packs().len() == packs as usize
                && (0..segment.blocks()).all(|i| segment.try_block(i, |_| ()).is_some()));
        whole.then_some(segment)
    }

    /// It is one of `segments` in an index.
    pub(super) fn share_cache(&self, segments: usize) {
        self.max_cached.store((MAX_CACHED_BLOCKS / segments.max(1)).max(1), Relaxed);
    }

    /// How many packs it covers.
    pub(super) fn pack_count(&self) -> usize {
        self.names.1
    }

    /// The names of the packs that it covers; empty if they are damaged.
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

    /// Calls `use_bytes` with bytes of the file.
    fn bytes<T>(&self, at: u64, len: usize, use_bytes: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let range = at as usize..at as usize + len;
        match &self.data {
            SegmentData::Whole(bytes) => bytes.get(range).map(use_bytes),
            SegmentData::Read { file, .. } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).ok()?;
                Some(use_bytes(&bytes))
            }
        }
    }

    /// Whether a block with a wrong checksum was seen. Then the segment no longer covers its packs.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }

    /// Whether the file at `path` is a segment and may be removed: it begins as a segment does, or as one that a power
    /// failure has torn. Anything else was put there by others.
    pub(super) fn is_ours(path: &Path) -> bool {
        let Ok(Some((file, _))) = disk::open_file(path) else { return false };
        let mut start = [0; MAGIC.len()];
        let start = match disk::read_full_at(&file, &mut start, 0) {
            Ok(n) => &start[..n],
            Err(e) => return e.raw_os_error() == Some(libc::EIO), // a bad sector
        };
        let same = start.iter().zip(MAGIC).filter(|(a, b)| a == b).count();
        same >= MIN_MAGIC_BYTES || start.iter().all(|b| *b == 0)
    }

    /// Whether `path` is still the file that was opened.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        disk::lstat(path).ok().flatten().is_some_and(|m| (m.dev(), m.ino()) == self.file)
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Appends the entries for a blob: several if several packs have it.
    pub(super) fn find(&self, digest: &Digest, kind: BlobKind, found: &mut Vec<SegmentEntry>) {
        let prefix = digest.prefix();
        let first = |i: usize| {
            u64::from_be_bytes(self.table[i * TABLE_ENTRY..i * TABLE_ENTRY + 8].try_into().expect("eight bytes"))
        };
        let blocks = self.blocks();
        // The last block that begins before the digest, then those that begin with the same eight bytes.
        let mut at = partition(blocks, |i| first(i) < prefix).saturating_sub(1);
        while at < blocks && first(at) <= prefix {
            let hit = self.with_block(at, |bytes| {
                let n = bytes.len() / ENTRY;
                let key = |i: usize| (&bytes[i * ENTRY..i * ENTRY + 32], bytes[i * ENTRY + 40]);
                // The first eight bytes nearly always decide, and comparing numbers is faster.
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
                return; // the block is damaged
            }
            at += 1;
        }
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> usize {
        self.table.len() / TABLE_ENTRY
    }

    /// The entries of a block in order; `None` if it is damaged. For passes over all blocks: the block is not cached.
    pub(super) fn block(&self, i: usize) -> Option<Vec<SegmentEntry>> {
        let entries = |bytes: &[u8]| bytes.chunks_exact(ENTRY).map(entry).collect();
        self.or_damaged(self.read_block(i, entries)).flatten()
    }

    fn with_block<T>(&self, i: usize, use_bytes: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.or_damaged(self.try_block(i, use_bytes))
    }

    fn or_damaged<T>(&self, seen: Option<T>) -> Option<T> {
        if seen.is_none() {
            self.damaged.store(true, Relaxed);
        }
        seen
    }

    /// A block through the cache.
    fn try_block<T>(&self, i: usize, use_bytes: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let SegmentData::Read { cached, .. } = &self.data else { return self.read_block(i, use_bytes) };
        let known = cached.read().get(&i).cloned();
        if let Some(bytes) = known {
            return Some(use_bytes(&bytes));
        }
        let bytes = self.read_block(i, <[u8]>::to_vec)?;
        let out = use_bytes(&bytes);
        let mut cached = cached.write();
        if cached.len() >= self.max_cached.load(Relaxed) {
            cached.clear();
        }
        cached.insert(i, Arc::new(bytes));
        Some(out)
    }

    fn read_block<T>(&self, i: usize, use_bytes: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let from = self.body + (i * PER_BLOCK * ENTRY) as u64;
        let len = ENTRY * PER_BLOCK.min(self.entries - i * PER_BLOCK);
        let seen = self.bytes(from, len, |bytes| {
            self.check(i, bytes)?;
            Some(use_bytes(bytes))
        });
        seen.flatten()
    }

    /// How many blocks are cached.
    #[cfg(test)]
    pub(super) fn cached_blocks(&self) -> usize {
        match &self.data {
            SegmentData::Whole(_) => 0,
            SegmentData::Read { cached, .. } => cached.read().len(),
        }
    }

    /// Compares a block with its checksum when it is first read.
    fn check(&self, i: usize, bytes: &[u8]) -> Option<()> {
        let (word, bit) = (&self.checked[i / 64], 1 << (i % 64));
        if word.load(Relaxed) & bit == 0 {
            (Digest::of(bytes).0[..8] == self.table[i * TABLE_ENTRY + 8..i * TABLE_ENTRY + 16]).then_some(())?;
            word.fetch_or(bit, Relaxed);
        }
        Some(())
    }
}

fn entry(bytes: &[u8]) -> Option<SegmentEntry> {
    let kind = BlobKind::from_byte(bytes[40])?;
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
