//! An index run: sorted (digest, kind) → pack and offset, over the packs that it names. A cache: it may be missing or damaged.
//! Header and blocks have checksums that are looked at before they are believed. See FORMAT.md, "Index runs".

use super::pack::{Kind, digest_at, u32_at, u64_at};
use crate::words::Digest;
use memmap2::Mmap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 8] = b"cairnix1";
/// magic, entries (8), packs (4), blocks (4)
const FIXED: usize = 24;
/// digest, pack in this run's table (4), offset (4), kind, 3 zeros
const ENTRY: usize = 44;
/// Entries of a block.
const PER_BLOCK: usize = 1489;
/// A block's line in the header: the first eight bytes of its first digest, and of its SHA-256.
const LINE: usize = 16;
/// Blocks kept where a run is not mapped.
const KEPT_BLOCKS: usize = 1024;

/// An entry of a run: the pack by its place in a table of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RunEntry {
    pub digest: Digest,
    pub kind: Kind,
    pub pack: u32,
    pub offset: u32,
}

/// The bytes of a run over `packs`, whose entries come sorted by digest and kind; and its name.
pub(super) fn encode(packs: &[Digest], entries: &[RunEntry]) -> (Vec<u8>, Digest) {
    let blocks = entries.len().div_ceil(PER_BLOCK);
    let mut body = Vec::with_capacity(entries.len() * ENTRY);
    for e in entries {
        body.extend_from_slice(&e.digest.0);
        body.extend_from_slice(&e.pack.to_le_bytes());
        body.extend_from_slice(&e.offset.to_le_bytes());
        body.extend_from_slice(&[e.kind as u8, 0, 0, 0]);
    }
    let mut head = Vec::with_capacity(FIXED + packs.len() * 32 + blocks * LINE + 32);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    head.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    head.extend_from_slice(&(blocks as u32).to_le_bytes());
    for pack in packs {
        head.extend_from_slice(&pack.0);
    }
    for block in body.chunks(PER_BLOCK * ENTRY) {
        head.extend_from_slice(&block[..8]);
        head.extend_from_slice(&Digest::of(block).0[..8]);
    }
    let name = Digest::of(&head);
    head.extend_from_slice(&name.0);
    head.append(&mut body);
    (head, name)
}

enum Data {
    /// Local file systems only: elsewhere another host's unlink would be a SIGBUS.
    Mapped(Mmap),
    Read { file: File, kept: Mutex<HashMap<usize, Arc<Vec<u8>>>> },
}

/// An open run.
pub(super) struct Run {
    pub name: Digest,
    pub packs: Vec<Digest>,
    lines: Vec<u8>,
    entries: usize,
    body: u64,
    data: Data,
    /// One bit for each block whose checksum was seen right.
    checked: Vec<AtomicU64>,
}

impl Run {
    /// Opens a run; `None` when it is missing or its header is damaged.
    pub(super) fn open(path: &Path, name: Digest, map: bool) -> Option<Run> {
        let file = File::open(path).ok()?;
        let len = file.metadata().ok()?.len();
        let mut fixed = [0; FIXED];
        file.read_exact_at(&mut fixed, 0).ok()?;
        let (entries, packs, blocks) = (u64_at(&fixed, 8), u32_at(&fixed, 16) as u64, u32_at(&fixed, 20) as u64);
        let head = FIXED as u64 + packs * 32 + blocks * LINE as u64;
        let fits = &fixed[..8] == MAGIC && entries.div_ceil(PER_BLOCK as u64) == blocks && entries.checked_mul(ENTRY as u64)?.checked_add(head + 32)? == len;
        if !fits || head > 1 << 30 {
            return None;
        }
        let mut bytes = vec![0; head as usize + 32];
        file.read_exact_at(&mut bytes, 0).ok()?;
        if Digest::of(&bytes[..head as usize]) != name || bytes[head as usize..] != name.0 {
            return None;
        }
        let names = bytes[FIXED..FIXED + packs as usize * 32].chunks_exact(32).map(|n| digest_at(n, 0)).collect();
        let lines = bytes[FIXED + packs as usize * 32..head as usize].to_vec();
        let data = if map && entries > 0 {
            // SAFETY: the file is local, and only ever unlinked, never truncated or written.
            Data::Mapped(unsafe { Mmap::map(&file) }.ok()?)
        } else {
            Data::Read { file, kept: Mutex::default() }
        };
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Some(Run { name, packs: names, lines, entries: entries as usize, body: head + 32, data, checked })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The entries for a blob: several when several packs hold it.
    pub(super) fn find(&self, digest: &Digest, kind: Kind, found: &mut Vec<RunEntry>) {
        let prefix = digest.prefix();
        let line = |i: usize| u64::from_be_bytes(self.lines[i * LINE..i * LINE + 8].try_into().expect("eight bytes"));
        let blocks = self.lines.len() / LINE;
        // The last block that begins before the digest, and those that begin with the same eight bytes.
        let mut at = partition(blocks, |i| line(i) < prefix).saturating_sub(1);
        while at < blocks && line(at) <= prefix {
            let hit = self.with_block(at, |bytes| {
                let n = bytes.len() / ENTRY;
                let key = |i: usize| (&bytes[i * ENTRY..i * ENTRY + 32], bytes[i * ENTRY + 40]);
                let from = partition(n, |i| key(i) < (&digest.0[..], kind as u8));
                (from..n).take_while(|i| key(*i) == (&digest.0[..], kind as u8)).filter_map(|i| entry(&bytes[i * ENTRY..][..ENTRY])).for_each(|e| found.push(e));
            });
            if hit.is_none() {
                return; // a damaged block knows nothing
            }
            at += 1;
        }
    }

    /// All entries in order; `None` when a block is damaged.
    pub(super) fn all(&self) -> Option<Vec<RunEntry>> {
        let mut out = Vec::with_capacity(self.entries);
        for i in 0..self.lines.len() / LINE {
            self.with_block(i, |bytes| bytes.chunks_exact(ENTRY).map(entry).collect::<Option<Vec<_>>>())??.into_iter().for_each(|e| out.push(e));
        }
        Some(out)
    }

    fn with_block<T>(&self, i: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let from = self.body + (i * PER_BLOCK * ENTRY) as u64;
        let len = ENTRY * PER_BLOCK.min(self.entries - i * PER_BLOCK);
        match &self.data {
            Data::Mapped(map) => {
                let bytes = map.get(from as usize..from as usize + len)?;
                let (word, bit) = (&self.checked[i / 64], 1 << (i % 64));
                if word.load(Ordering::Relaxed) & bit == 0 {
                    self.right(i, bytes)?;
                    word.fetch_or(bit, Ordering::Relaxed);
                }
                Some(look(bytes))
            }
            Data::Read { file, kept } => {
                if let Some(bytes) = kept.lock().get(&i).cloned() {
                    return Some(look(&bytes));
                }
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, from).ok()?;
                self.right(i, &bytes)?;
                let out = look(&bytes);
                let mut kept = kept.lock();
                if kept.len() >= KEPT_BLOCKS {
                    kept.clear();
                }
                kept.insert(i, Arc::new(bytes));
                Some(out)
            }
        }
    }

    fn right(&self, i: usize, bytes: &[u8]) -> Option<()> {
        (Digest::of(bytes).0[..8] == self.lines[i * LINE + 8..i * LINE + 16]).then_some(())
    }
}

fn entry(bytes: &[u8]) -> Option<RunEntry> {
    let kind = match bytes[40] {
        1 => Kind::Content,
        2 => Kind::Node,
        _ => return None,
    };
    Some(RunEntry { digest: digest_at(bytes, 0), kind, pack: u32_at(bytes, 32), offset: u32_at(bytes, 36) })
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
