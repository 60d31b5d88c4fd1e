//! A long packed source of composed content, open for reading. Only the frames that have bytes of a read are
//! decompressed, and those that a read needs a part of are kept for the next one.
//!
//! Each frame has a checksum. What is wrong is put on the list of known damage, so that the next reader that opens the
//! content finds another copy, if there is one.

use super::damage::DamagedItem;
use super::frames::{FRAME, FrameTable, decompress_one};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::open_packs::OpenPacks;
use super::pack::{BLOB_HEADER, BlobKind};
use super::pack_file::PackFile;
use crate::disk::Disk;
use crate::error::Error;
use crate::layout::Layout;
use crate::locks::Mutex;
use crate::types::{Digest, PackRef};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How many frames a content keeps: 1 MiB.
const KEPT: usize = 16;
/// How many frames are read at once.
const AT_ONCE: usize = 16;

/// Frames that were read last, of all sources of a content: the number of the source, that of the frame, its bytes.
#[derive(Debug)]
pub(super) struct KeptFrames(Mutex<VecDeque<(u32, usize, Arc<Vec<u8>>)>>);

impl KeptFrames {
    pub(super) fn new() -> KeptFrames {
        KeptFrames(Mutex::cache())
    }

    /// How much memory they take.
    pub(super) const MEMORY: u64 = (KEPT * FRAME) as u64;

    fn get(&self, source: u32, frame: usize) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(s, f, _)| (*s, *f) == (source, frame))?;
        let found = kept.remove(at)?;
        let bytes = found.2.clone();
        kept.push_back(found);
        Some(bytes)
    }

    fn put(&self, source: u32, frame: usize, bytes: Arc<Vec<u8>>) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((source, frame, bytes));
    }
}

/// Where a source was found, and what to do if it is wrong there.
#[derive(Debug)]
pub(super) struct FoundAt {
    pub digest: Digest,
    /// The pack, its number and its name. Its file may be read through a cache.
    pub file: Arc<PackFile>,
    pub number: PackRef,
    pub pack: Option<Digest>,
    /// The offset of the blob.
    pub offset: u32,
    pub open_packs: Arc<OpenPacks>,
    pub layout: Layout,
    pub disk: Arc<Disk>,
}

/// A long packed source.
#[derive(Debug)]
pub(super) struct FramedSource {
    at: FoundAt,
    table: FrameTable,
}

impl FramedSource {
    pub(super) fn new(at: FoundAt, table: FrameTable) -> FramedSource {
        FramedSource { at, table }
    }

    /// How much memory it takes.
    pub(super) fn memory(&self) -> u64 {
        (size_of::<FramedSource>() as u64) + self.table.memory()
    }

    /// Fills the buffer with the bytes from `from` on. `source` is its number in the content that keeps frames.
    ///
    /// # Errors
    /// Damaged: the bytes are wrong, or there are fewer. I/O.
    pub(super) fn fill(&self, out: &mut [u8], from: u64, source: u32, kept: &KeptFrames) -> io::Result<()> {
        let range = from..from + out.len() as u64;
        if range.is_empty() {
            return Ok(());
        }
        if range.end > self.table.content_length() {
            return Err(self.wrong("it ends before the part of it that is needed"));
        }
        let frames = self.table.frames_of(&range);
        let mut next = frames.start;
        while next < frames.end {
            if let Some(bytes) = kept.get(source, next) {
                copy_overlap(&bytes, self.table.content_of(next).start, out, &range);
                next += 1;
                continue;
            }
            let some = next..frames.end.min(next + AT_ONCE);
            next = some.end;
            self.read(some, out, &range, source, kept)?;
        }
        Ok(())
    }

    /// Reads some frames, and copies what they have of a range of the content to `out`.
    fn read(
        &self,
        frames: Range<usize>,
        out: &mut [u8],
        range: &Range<u64>,
        source: u32,
        kept: &KeptFrames,
    ) -> io::Result<()> {
        let mut read = self.read_from(&self.at.file, &frames, out, range, source, kept);
        // A cache may have what the store had before it was repaired: the store decides.
        if matches!(read, Err(Miss::Wrong(_)))
            && self.at.file.file().is_none()
            && let Some(pack) = &self.at.pack
            && let Ok(file) = PackFile::open(self.at.layout.pack(pack))
        {
            read = self.read_from(&file, &frames, out, range, source, kept);
        }
        read.map_err(|miss| match miss {
            Miss::Io(e) if is_unreadable(&e) => self.wrong(&format!("{e:#}")),
            Miss::Io(e) => io::Error::other(e),
            Miss::Wrong(why) | Miss::Incomplete(why) => self.wrong(&why),
            Miss::Gone => self.wrong("its pack was moved"),
        })
    }

    /// As [`FramedSource::read`], from this file of the pack.
    fn read_from(
        &self,
        file: &PackFile,
        frames: &Range<usize>,
        out: &mut [u8],
        range: &Range<u64>,
        source: u32,
        kept: &KeptFrames,
    ) -> ReadAttempt<()> {
        let stored = self.table.stored_at(frames);
        let mut bytes = vec![0; (stored.end - stored.start) as usize];
        let at = u64::from(self.at.offset) + BLOB_HEADER as u64 + u64::from(stored.start);
        if file.read_at(&mut bytes, at)? < bytes.len() {
            return Err(Miss::Wrong("its pack ends inside it".into()));
        }
        for frame in frames.clone() {
            let (content, this) = (self.table.content_of(frame), self.table.stored_at(&(frame..frame + 1)));
            let compressed = &bytes[(this.start - stored.start) as usize..(this.end - stored.start) as usize];
            let length = (content.end - content.start) as usize;
            if range.start <= content.start && content.end <= range.end {
                let to = (content.start - range.start) as usize;
                decompress_one(compressed, &mut out[to..to + length]).map_err(Miss::Wrong)?;
                continue;
            }
            let mut whole = vec![0; length];
            decompress_one(compressed, &mut whole).map_err(Miss::Wrong)?;
            copy_overlap(&whole, content.start, out, range);
            kept.put(source, frame, Arc::new(whole));
        }
        Ok(())
    }

    /// The error for bytes that are wrong, after they were put on the list of known damage. Best effort, as everywhere.
    fn wrong(&self, why: &str) -> io::Error {
        let FoundAt { digest, number, pack, offset, open_packs, layout, disk, .. } = &self.at;
        // The open file may be one that was replaced since.
        open_packs.forget(*number);
        if let Some(pack) = pack {
            let kind = BlobKind::Content;
            let right = PackFile::open(layout.pack(pack)).and_then(|file| {
                let is_there = file.search(digest, kind)?.is_some_and(|blob| blob.offset == *offset);
                let mut bytes = Vec::new();
                file.read(digest, kind, *offset, 0, &mut bytes)?;
                Ok(!is_there || Digest::of(&bytes) == *digest)
            });
            let is_lost = match right {
                Ok(right) => !right,
                Err(Miss::Wrong(_)) => true,
                Err(Miss::Io(e)) => is_unreadable(&e) && disk.kind().is_local(),
                Err(Miss::Gone | Miss::Incomplete(_)) => false,
            };
            if is_lost {
                DamagedItem::Blob { digest: *digest, kind, pack: *pack }.list(layout, disk);
            }
        }
        io::Error::other(Error::damaged(format!("content {digest}, of which another has parts: {why}")))
    }
}

/// Copies what `bytes`, which begin at `at`, have of a range to `out`.
fn copy_overlap(bytes: &[u8], at: u64, out: &mut [u8], range: &Range<u64>) {
    let (start, end) = (range.start.max(at), range.end.min(at + bytes.len() as u64));
    if start < end {
        let to = &mut out[(start - range.start) as usize..(end - range.start) as usize];
        to.copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]);
    }
}
