//! How the bytes of a blob are stored in a pack: as they are, or compressed. See FORMAT.md, "Compressed blobs".

use super::backoff::Backoff;
use super::frames::{self, FrameCompressor, FrameForm, content_length, most_compressed};
use super::pack::{Codec, SMALL_MAX};
use std::borrow::Cow;
use std::io;
use zstd::bulk::Compressor;

/// The bytes of a blob as a pack has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredBytes<'a> {
    pub codec: Codec,
    pub bytes: &'a [u8],
}

impl<'a> StoredBytes<'a> {
    pub(super) fn raw(bytes: &'a [u8]) -> StoredBytes<'a> {
        StoredBytes { codec: Codec::Raw, bytes }
    }

    /// As a writer stores them that may compress.
    pub(super) fn by(compressor: &'a mut Option<BlobCompressor>, bytes: &'a [u8]) -> StoredBytes<'a> {
        match compressor {
            Some(compressor) => compressor.stored(bytes),
            None => StoredBytes::raw(bytes),
        }
    }
}

/// Higher levels gain a few percent of text, and take several times as long.
const LEVEL: i32 = 1;
/// Shorter blobs are stored as they are: their headers take more than compression would save.
const MIN_LENGTH: usize = 128;
/// Longer ones are recipes of many parts, which are rare.
const MAX_LENGTH: usize = SMALL_MAX as usize;

/// Compresses the blobs that one thread stores.
#[derive(Default)]
pub(super) struct BlobCompressor {
    /// `None` until a blob is compressed, and if there is too little memory.
    zstd: Option<Compressor<'static>>,
    frame: Vec<u8>,
    backoff: Backoff,
    frames: FrameCompressor,
}

impl BlobCompressor {
    /// The bytes as they will be stored: compressed if that is worth it.
    pub(super) fn stored<'a>(&'a mut self, bytes: &'a [u8]) -> StoredBytes<'a> {
        let is_tried =
            (MIN_LENGTH..=MAX_LENGTH).contains(&bytes.len()) && !looks_random(bytes) && self.backoff.is_next_tried();
        if is_tried {
            let is_smaller = self.compress(bytes);
            self.backoff.record(is_smaller);
            if is_smaller {
                return StoredBytes { codec: Codec::Zstd, bytes: &self.frame };
            }
        }
        StoredBytes::raw(bytes)
    }

    /// Long bytes as they will be stored so that a part of them can be read.
    ///
    /// # Errors
    /// There is too little memory.
    pub(super) fn framed<'a>(&'a mut self, bytes: &[u8]) -> io::Result<StoredBytes<'a>> {
        Ok(StoredBytes { codec: Codec::Frames, bytes: self.frames.compress(bytes)? })
    }

    /// Whether these samples of a long content show that it gets smaller.
    pub(super) fn shrinks(&mut self, samples: &[u8]) -> bool {
        self.frames.saves_enough(samples).unwrap_or(false)
    }

    /// Compresses the bytes into the frame. `false` if that does not save enough.
    fn compress(&mut self, bytes: &[u8]) -> bool {
        if self.zstd.is_none() {
            self.zstd = Compressor::new(LEVEL).ok();
        }
        let Some(zstd) = &mut self.zstd else { return false };
        self.frame.clear();
        let most = most_compressed(bytes.len());
        self.frame.reserve(most);
        // The frame's capacity can be larger, from an earlier blob.
        zstd.compress_to_buffer(bytes, &mut self.frame).is_ok()
            && self.frame.len() <= most
            && content_length(&self.frame, FrameForm::Plain) == Some(bytes.len())
    }
}

/// How many pieces of a blob are looked at, and how long each is.
const SAMPLES: usize = 16;
const SAMPLE: usize = 64;

/// Whether the bytes in a sample occur equally often, as those of random, encrypted and compressed data do.
fn looks_random(bytes: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    let mut count = |piece: &[u8]| piece.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let n = if bytes.len() <= SAMPLES * SAMPLE {
        count(bytes);
        bytes.len()
    } else {
        let step = (bytes.len() - SAMPLE) / (SAMPLES - 1);
        (0..SAMPLES).for_each(|i| count(&bytes[i * step..i * step + SAMPLE]));
        SAMPLES * SAMPLE
    };
    let pairs: u64 = counts.iter().map(|&n| u64::from(n) * u64::from(n.saturating_sub(1)) / 2).sum();
    // Of random bytes, one pair in 256 is equal. In a sample of 1,024, an eighth more is far beyond chance.
    let expected = (n * n.saturating_sub(1) / 2) as u64 / 256;
    pairs * 8 <= expected * 9
}

/// Replaces what a pack has of a blob by the blob's bytes. The caller must hash them.
///
/// # Errors
/// What is wrong with the frame. Then no bytes are left.
pub(super) fn unpack(codec: Codec, bytes: &mut Vec<u8>) -> Result<(), String> {
    let stored = match codec {
        Codec::Raw => return Ok(()),
        Codec::Zstd | Codec::Frames => std::mem::take(bytes),
    };
    *bytes = unpacked(StoredBytes { codec, bytes: &stored })?.into_owned();
    Ok(())
}

/// The bytes of a blob of which a pack has `stored`. The caller must hash them.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn unpacked(stored: StoredBytes<'_>) -> Result<Cow<'_, [u8]>, String> {
    Ok(match stored.codec {
        Codec::Raw => stored.bytes.into(),
        Codec::Zstd => decompress(stored.bytes)?.into(),
        Codec::Frames => frames::decompress_all(stored.bytes)?.into(),
    })
}

/// The content of a frame. Allocates no more than the longest blob has.
fn decompress(frame: &[u8]) -> Result<Vec<u8>, String> {
    let length = content_length(frame, FrameForm::Plain).filter(|length| frame.len() < *length);
    let length = length.ok_or("its compressed bytes do not begin as they must")?;
    let mut out = Vec::with_capacity(length);
    frames::decompress(frame, &mut out)?;
    if out.len() == length {
        return Ok(out);
    }
    Err(format!("it has {} bytes when decompressed, expected {length}", out.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::random_bytes;

    fn text(len: usize) -> Vec<u8> {
        let line = |n: u64| format!("line {n}: the value is {}\n", n * n % 977);
        (0..).flat_map(|n| line(n).into_bytes()).take(len).collect()
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        let mut compressor = BlobCompressor::default();
        let stored = compressor.stored(bytes);
        assert_eq!(stored.codec, Codec::Zstd);
        stored.bytes.to_vec()
    }

    #[test]
    fn what_gets_smaller_is_compressed_and_read_back() {
        let mut compressor = BlobCompressor::default();
        for len in [128, 255, 256, 300, 4096, 65_791, 65_792, 131_071] {
            for bytes in [text(len), vec![0; len]] {
                let stored = compressor.stored(&bytes);
                assert_eq!(stored.codec, Codec::Zstd, "{len}");
                assert!(stored.bytes.len() <= len - len / 8, "{len}");
                assert!(unpacked(stored).unwrap() == bytes, "{len}");
                let mut read = stored.bytes.to_vec();
                unpack(stored.codec, &mut read).unwrap();
                assert!(read == bytes, "{len}");
            }
        }
    }

    #[test]
    fn what_is_short_or_does_not_get_smaller_is_stored_as_it_is() {
        let mut compressor = BlobCompressor::default();
        // Of 32 values each occurs equally often: it looks compressible, and eight bits become five or more.
        let mixed = |n: usize| random_bytes(9, n).iter().map(|byte| byte | 0x80).collect::<Vec<u8>>();
        for bytes in [vec![], text(127), text(3_000_000), random_bytes(1, 128), random_bytes(2, 131_071), mixed(5000)] {
            let stored = compressor.stored(&bytes);
            assert_eq!((stored.codec, stored.bytes), (Codec::Raw, &bytes[..]));
            assert!(unpacked(stored).unwrap() == bytes);
        }
    }

    #[test]
    fn a_changed_frame_is_refused_or_gives_other_bytes_or_the_same_and_never_more_than_a_blob_has() {
        for bytes in [text(200), text(5000)] {
            let frame = frame(&bytes);
            let mut same = 0;
            for bit in 0..frame.len() * 8 {
                let mut changed = frame.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                if decompress(&changed).is_ok_and(|found| found == bytes) {
                    same += 1;
                }
            }
            // Few bits have no meaning. Of all others, the digest of the bytes shows that they changed.
            assert!(same * 100 < frame.len() * 8, "{same} of {} bits", frame.len() * 8);
            for cut in 0..frame.len() {
                assert!(decompress(&frame[..cut]).is_err(), "cut to {cut}");
            }
            assert!(decompress(&[&frame[..], b"\0"].concat()).is_err());
        }
    }
}
