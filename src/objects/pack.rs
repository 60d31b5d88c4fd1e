//! The format of packs: blob header, footer, name. See FORMAT.md, "Packs".

use crate::error::{Error, Result};
use crate::types::Digest;

/// The kind of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum BlobKind {
    /// The content of a file.
    Content = 1,
    /// A manifest node, with its hints.
    Node = 2,
    /// How a large content is composed of parts of other contents.
    Recipe = 3,
}

impl BlobKind {
    pub(super) fn from_byte(byte: u8) -> Option<BlobKind> {
        match byte {
            1 => Some(BlobKind::Content),
            2 => Some(BlobKind::Node),
            3 => Some(BlobKind::Recipe),
            _ => None,
        }
    }
}

impl std::fmt::Display for BlobKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BlobKind::Content => "content",
            BlobKind::Node => "manifest node",
            BlobKind::Recipe => "recipe",
        })
    }
}

/// How the bytes of a blob are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Codec {
    /// As they are.
    Raw = 0,
    /// As one frame of Zstandard.
    Zstd = 1,
    /// As several frames of Zstandard, after a table of them.
    Frames = 2,
}

impl Codec {
    pub(super) fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::Frames),
            _ => None,
        }
    }
}

/// The first bytes of a pack.
pub(super) const HEAD: &[u8; 8] = b"cairnpk1";
/// The last bytes of a pack.
const TAIL: &[u8; 8] = b"cairnpkE";
/// Bytes before each blob.
pub(super) const BLOB_HEADER: usize = 40;
/// Bytes of a footer entry.
pub(super) const ENTRY: usize = 44;
/// Bytes at the end of a pack: footer offset (8), entries (4), format version (4), tail (8).
pub(super) const TRAILER: usize = 24;
/// A pack is closed before its blobs exceed this many bytes.
pub(super) const MAX_PACK: u64 = 64 << 20;
/// The limit for a pack of nodes alone. Sixteen of them hold the nodes of about 200 million entries.
pub(super) const MAX_NODE_PACK: u64 = 1 << 30;
/// A pack has at most this many blobs.
pub const MAX_BLOBS: usize = 65_536;
/// The longest blob. Files' content is shorter than [`SMALL_MAX`], nodes are bounded by the manifest; both are far
/// below. Compressed parts of files come near it.
pub(super) const MAX_BLOB: u32 = (16 << 20) - 1;
/// Content of this many bytes or more is a file of its own; shorter content is packed.
pub const SMALL_MAX: u64 = 128 << 10;

const _: () = assert!(SMALL_MAX <= MAX_BLOB as u64);

/// When a pack was written, by its writer's clock: seconds and nanoseconds.
pub(super) type PackTime = (i64, i64);

/// One blob of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: BlobKind,
    /// Offset of its header.
    pub offset: u32,
    /// Stored length, without the header.
    pub len: u32,
    /// How the bytes are stored.
    pub codec: Codec,
}

impl Blob {
    /// The header before the blob's bytes.
    pub(super) fn header(&self) -> [u8; BLOB_HEADER] {
        let mut out = [0; BLOB_HEADER];
        out[..32].copy_from_slice(&self.digest.0);
        out[32..36].copy_from_slice(&self.len.to_le_bytes());
        (out[36], out[37]) = (self.kind as u8, self.codec as u8);
        out
    }

    /// Parses a header at `offset`; `None` if it is not one.
    pub(super) fn from_header(bytes: &[u8], offset: u32) -> Option<Blob> {
        let bytes = bytes.get(..BLOB_HEADER)?;
        if bytes[38..] != [0; 2] {
            return None;
        }
        Some(Blob {
            digest: digest_at(bytes, 0),
            kind: BlobKind::from_byte(bytes[36])?,
            offset,
            len: u32_at(bytes, 32),
            codec: Codec::from_byte(bytes[37])?,
        })
        .filter(|b| b.len <= MAX_BLOB)
    }

    fn entry(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, self.codec as u8, 0, 0]);
    }

    /// Parses a footer entry; `None` if this release does not know it.
    pub(super) fn from_entry(bytes: &[u8]) -> Option<Blob> {
        if bytes[42..] != [0; 2] {
            return None;
        }
        Some(Blob {
            digest: digest_at(bytes, 0),
            kind: BlobKind::from_byte(bytes[40])?,
            offset: u32_at(bytes, 32),
            len: u32_at(bytes, 36),
            codec: Codec::from_byte(bytes[41])?,
        })
        .filter(|b| b.len <= MAX_BLOB)
    }

    /// The offset of its end.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + BLOB_HEADER as u64 + u64::from(self.len)
    }
}

pub(super) fn digest_at(bytes: &[u8], at: usize) -> Digest {
    Digest(bytes[at..at + 32].try_into().expect("32 bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The footer for `blobs`, which end at `end`, and the pack's name. Sorts `blobs`.
pub(super) fn footer(blobs: &mut [Blob], end: u64) -> (Vec<u8>, Digest) {
    blobs.sort_unstable_by_key(|b| (b.digest, b.kind));
    let mut out = Vec::with_capacity(blobs.len() * ENTRY + TRAILER);
    for blob in blobs.iter() {
        blob.entry(&mut out);
    }
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&(blobs.len() as u32).to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(TAIL);
    let name = Digest::of(&out);
    (out, name)
}

/// A pack's footer. It has the digest that the pack's name says, is sorted, and its blobs fill the pack without gaps
/// (F1).
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub blobs: Vec<Blob>,
}

/// Where a footer begins and how many entries it has, from the last [`TRAILER`] bytes of a pack of `len` bytes.
pub(super) fn footer_start(trailer: &[u8], len: u64) -> Option<(u64, usize)> {
    let (start, count) = (u64_at(trailer, 0), u64::from(u32_at(trailer, 8)));
    let fits = u32_at(trailer, 12) == 1
        && &trailer[16..] == TAIL
        && count <= MAX_BLOBS as u64
        && start >= HEAD.len() as u64
        && start.checked_add(count * ENTRY as u64 + TRAILER as u64) == Some(len);
    fits.then_some((start, count as usize))
}

impl Footer {
    /// The blob of this digest and kind.
    pub(super) fn find(&self, digest: &Digest, kind: BlobKind) -> Option<&Blob> {
        let at = self.blobs.binary_search_by(|blob| (&blob.digest, blob.kind).cmp(&(digest, kind))).ok()?;
        self.blobs.get(at)
    }

    /// Parses the bytes from the footer's start to the end of the pack.
    ///
    /// # Errors
    /// Damaged.
    pub(super) fn parse(bytes: &[u8], start: u64, name: &Digest) -> Result<Footer> {
        let bad = |why: &str| Error::damaged(format!("pack {name}: {why}"));
        let found = Digest::of(bytes);
        if found != *name {
            return Err(bad(&format!("its footer has digest {found}, expected its name")));
        }
        let entries = &bytes[..bytes.len() - TRAILER];
        let mut blobs = Vec::with_capacity(entries.len() / ENTRY);
        for entry in entries.chunks_exact(ENTRY) {
            let blob =
                Blob::from_entry(entry).ok_or_else(|| bad("its footer has an entry of an unknown kind or codec"))?;
            if blobs.last().is_some_and(|last: &Blob| (last.digest, last.kind) >= (blob.digest, blob.kind)) {
                return Err(bad("its footer is not sorted"));
            }
            blobs.push(blob);
        }
        let mut order: Vec<&Blob> = blobs.iter().collect();
        order.sort_unstable_by_key(|b| b.offset);
        let mut at = HEAD.len() as u64;
        for blob in order {
            if u64::from(blob.offset) != at {
                return Err(bad("its blobs leave gaps or overlap"));
            }
            at = blob.end();
        }
        if at != start {
            return Err(bad("its blobs leave gaps or overlap"));
        }
        Ok(Footer { blobs })
    }
}
