//! Long content in a pack, compressed so that a part of it can be read: frames of 64 KiB of content each, and before
//! them a table of their lengths. See FORMAT.md, "Compressed blobs".
//!
//! A frame has a checksum of its content, and the table one of itself. So what is read of a part is checked without
//! reading all of it; who reads all of it compares the digest, too.

use super::pack::{MAX_BLOB, u32_at};
use crate::types::Digest;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, WriteBuf};

/// How many bytes of the content a frame has. The last one has the rest.
pub(super) const FRAME: usize = 64 << 10;
/// The most bytes of content that a writer stores in this form. They fit into a blob also if they do not get smaller.
pub(super) const MAX_FRAMED: usize = 255 * FRAME;
/// The most bytes that a table has.
pub(super) const MAX_TABLE: usize = TABLE_HEAD + 4 * (MAX_BLOB as usize).div_ceil(FRAME) + SUM;

/// Before the lengths: a magic number, the length of what follows, the length of the content.
const TABLE_HEAD: usize = 12;
/// After them: the first bytes of a digest.
const SUM: usize = 8;
/// The table is a frame that decompressors skip.
const SKIPPED: [u8; 4] = 0x184d_2a5c_u32.to_le_bytes();
/// What a frame with compressed content begins with.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Higher levels save nothing of text in frames of this size.
const LEVEL: i32 = 1;
/// Content is compressed if that saves at least this part of it.
const MIN_SAVING: usize = 8;

/// The most bytes that compressed content may have. If it has more, it is stored as it is.
pub(super) fn most_compressed(length: usize) -> usize {
    length - length / MIN_SAVING
}

/// What the descriptor in a frame's header says, apart from the size of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameForm {
    /// A single segment with the length of its content.
    Plain = 0x20,
    /// The same, and a checksum at the end.
    WithChecksum = 0x24,
}

/// The length of the content of a frame, as its header states it. `None` if the frame does not have this form.
pub(super) fn content_length(frame: &[u8], form: FrameForm) -> Option<usize> {
    let (descriptor, rest) = frame.strip_prefix(&MAGIC)?.split_first()?;
    if descriptor & 0x3f != form as u8 {
        return None;
    }
    let length = match descriptor >> 6 {
        0 => u32::from(*rest.first()?),
        1 => u32::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?)) + 256,
        2 => u32::from_le_bytes(rest.get(..4)?.try_into().ok()?),
        _ => return None,
    };
    (length <= MAX_BLOB).then_some(length as usize)
}

thread_local! {
    /// It is made with the first frame that the thread reads.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses a frame into `out`, which bounds the length. Returns how many bytes there are.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decompress(frame: &[u8], out: &mut (impl WriteBuf + ?Sized)) -> Result<usize, String> {
    let failed = |e: io::Error| format!("it cannot be decompressed: {e}");
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let zstd = match slot {
            Some(zstd) => zstd,
            none => none.insert(Decompressor::new().map_err(failed)?),
        };
        zstd.decompress_to_buffer(frame, out).map_err(failed)
    })
}

/// Where the frames of a blob are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FrameTable {
    length: u32,
    /// Where each frame begins in the blob; the last one is the blob's end.
    starts: Vec<u32>,
}

impl FrameTable {
    /// The table at the beginning of a blob of `stored` bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8], stored: u32) -> Result<FrameTable, String> {
        let wrong = || String::from("its table of frames is wrong");
        if bytes.len() < TABLE_HEAD || bytes[..4] != SKIPPED {
            return Err(wrong());
        }
        let length = u32_at(bytes, 8);
        let count = (length as usize).div_ceil(FRAME);
        let end = TABLE_HEAD + 4 * count;
        let fits = (1..=MAX_BLOB).contains(&length)
            && u32_at(bytes, 4) as usize == end + SUM - 8
            && bytes.len() >= end + SUM
            && bytes[end..end + SUM] == sum(&bytes[..end]);
        if !fits {
            return Err(wrong());
        }
        let mut at = Some((end + SUM) as u32);
        let mut starts = vec![(end + SUM) as u32];
        for i in 0..count {
            at = at.and_then(|at| at.checked_add(u32_at(bytes, TABLE_HEAD + 4 * i)));
            starts.extend(at);
        }
        if at == Some(stored) { Ok(FrameTable { length, starts }) } else { Err(wrong()) }
    }

    /// The length of the content.
    pub(super) fn content_length(&self) -> u64 {
        u64::from(self.length)
    }

    /// How much memory its list takes.
    pub(super) fn memory(&self) -> u64 {
        size_of_val(&self.starts[..]) as u64
    }

    /// Which frames have bytes of a range that is not empty.
    pub(super) fn frames_of(&self, range: &Range<u64>) -> Range<usize> {
        let frame = FRAME as u64;
        (range.start / frame) as usize..range.end.div_ceil(frame) as usize
    }

    /// Which bytes of the blob some frames are.
    pub(super) fn stored_at(&self, frames: &Range<usize>) -> Range<u32> {
        self.starts[frames.start]..self.starts[frames.end]
    }

    /// Which bytes of the content a frame has.
    pub(super) fn content_of(&self, frame: usize) -> Range<u64> {
        let start = (frame * FRAME) as u64;
        start..(start + FRAME as u64).min(self.content_length())
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Decompresses a frame into `out`, which has exactly the length of its content.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decompress_one(frame: &[u8], out: &mut [u8]) -> Result<(), String> {
    if content_length(frame, FrameForm::WithChecksum) != Some(out.len()) {
        return Err("a compressed part of it does not begin as it must".into());
    }
    match decompress(frame, out)? {
        n if n == out.len() => Ok(()),
        n => Err(format!("a compressed part of it has {n} bytes, expected {}", out.len())),
    }
}

/// All of the content of a blob in this form.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decompress_all(blob: &[u8]) -> Result<Vec<u8>, String> {
    let stored = u32::try_from(blob.len()).map_err(|_| "it is too long")?;
    let table = FrameTable::parse(blob, stored)?;
    let mut out = vec![0; table.length as usize];
    for frame in 0..table.count() {
        let stored = table.stored_at(&(frame..frame + 1));
        let content = table.content_of(frame);
        decompress_one(
            &blob[stored.start as usize..stored.end as usize],
            &mut out[content.start as usize..content.end as usize],
        )?;
    }
    Ok(out)
}

/// Compresses contents in this form.
#[derive(Default)]
pub(super) struct FrameCompressor {
    /// `None` until something is compressed.
    zstd: Option<Compressor<'static>>,
    blob: Vec<u8>,
}

impl FrameCompressor {
    /// The blob for a content of 1 to [`MAX_FRAMED`] bytes.
    ///
    /// # Errors
    /// There is too little memory.
    pub(super) fn compress(&mut self, content: &[u8]) -> io::Result<&[u8]> {
        let count = content.len().div_ceil(FRAME);
        let end = TABLE_HEAD + 4 * count;
        self.blob.clear();
        self.blob.extend_from_slice(&SKIPPED);
        self.blob.extend_from_slice(&((end + SUM - 8) as u32).to_le_bytes());
        self.blob.extend_from_slice(&(content.len() as u32).to_le_bytes());
        self.blob.resize(end + SUM, 0);
        for (i, part) in content.chunks(FRAME).enumerate() {
            let n = self.append(part)? as u32;
            self.blob[TABLE_HEAD + 4 * i..TABLE_HEAD + 4 * (i + 1)].copy_from_slice(&n.to_le_bytes());
        }
        let sum = sum(&self.blob[..end]);
        self.blob[end..end + SUM].copy_from_slice(&sum);
        Ok(&self.blob)
    }

    /// Whether compression saves enough of these samples.
    ///
    /// # Errors
    /// There is too little memory.
    pub(super) fn saves_enough(&mut self, samples: &[u8]) -> io::Result<bool> {
        self.blob.clear();
        for part in samples.chunks(FRAME) {
            self.append(part)?;
        }
        Ok(self.blob.len() <= most_compressed(samples.len()))
    }

    /// Appends the frame for some content. Returns its length.
    fn append(&mut self, content: &[u8]) -> io::Result<usize> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => {
                let mut zstd = Compressor::new(LEVEL)?;
                zstd.set_parameter(CParameter::ChecksumFlag(true))?;
                none.insert(zstd)
            }
        };
        let start = self.blob.len();
        self.blob.resize(start + zstd::zstd_safe::compress_bound(content.len()), 0);
        let n = zstd.compress_to_buffer(content, &mut self.blob[start..])?;
        self.blob.truncate(start + n);
        Ok(n)
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let Digest(digest) = Digest::of(bytes);
    let mut out = [0; SUM];
    out.copy_from_slice(&digest[..SUM]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;

    fn text(len: usize) -> Vec<u8> {
        (0u64..).flat_map(|n| format!("line {n}: {}\n", n * n % 977).into_bytes()).take(len).collect()
    }

    fn blob(content: &[u8]) -> Vec<u8> {
        FrameCompressor::default().compress(content).unwrap().to_vec()
    }

    #[test]
    fn contents_of_all_lengths_are_read_back_whole_and_in_parts() {
        for len in [1, 100, 255, 256, FRAME - 1, FRAME, FRAME + 1, 5 * FRAME, MAX_FRAMED] {
            for content in [text(len), random_bytes(7, len), vec![0; len]] {
                let blob = blob(&content);
                assert!(blob.len() <= MAX_BLOB as usize);
                assert!(decompress_all(&blob).unwrap() == content, "{len}");
                let table = FrameTable::parse(&blob[..blob.len().min(MAX_TABLE)], blob.len() as u32).unwrap();
                assert_eq!(table.content_length(), len as u64);
                let range = len as u64 / 3..len as u64 / 3 + 1;
                let frames = table.frames_of(&range);
                assert_eq!(frames.len(), 1);
                let content_of = table.content_of(frames.start);
                assert!(content_of.start <= range.start && range.end <= content_of.end);
                let stored = table.stored_at(&frames);
                let mut out = vec![0; (content_of.end - content_of.start) as usize];
                decompress_one(&blob[stored.start as usize..stored.end as usize], &mut out).unwrap();
                assert!(out == content[content_of.start as usize..content_of.end as usize]);
            }
        }
    }

    #[test]
    fn text_is_worth_compression_and_random_bytes_are_not() {
        let mut compressor = FrameCompressor::default();
        assert!(compressor.saves_enough(&text(3 * FRAME)).unwrap());
        assert!(!compressor.saves_enough(&random_bytes(3, 3 * FRAME)).unwrap());
        assert!(blob(&text(FRAME * 3)).len() < FRAME * 2);
    }

    #[test]
    fn any_changed_byte_is_noticed_also_by_who_reads_a_part() {
        let content = text(2 * FRAME + 100);
        let blob = blob(&content);
        for at in 0..blob.len() {
            let mut changed = blob.clone();
            changed[at] ^= 0x10;
            // A few bits of a frame have no meaning.
            assert!(decompress_all(&changed).is_err() || decompress_all(&changed).unwrap() == content, "byte {at}");
        }
        for cut in 0..blob.len() {
            assert!(decompress_all(&blob[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decompress_all(&[&blob[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn two_frames_in_each_others_place_are_refused_if_their_lengths_differ() {
        let content = [text(FRAME), random_bytes(1, FRAME)].concat();
        let right = blob(&content);
        let table = FrameTable::parse(&right, right.len() as u32).unwrap();
        let (first, second) = (table.stored_at(&(0..1)), table.stored_at(&(1..2)));
        let mut swapped = right[..first.start as usize].to_vec();
        swapped.extend_from_slice(&right[second.start as usize..second.end as usize]);
        swapped.extend_from_slice(&right[first.start as usize..first.end as usize]);
        assert!(decompress_all(&swapped).is_err());
    }
}
