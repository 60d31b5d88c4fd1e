//! The format of stored nodes: the hashed bytes, followed by location hints, which no digest covers. See FORMAT.md,
//! "Stored nodes".
//!
//! Hints say where a node's blobs and child nodes probably lie. Each is checked against the blob's header when it is
//! used. A section of hints without the right checksum is ignored.

use super::pack_table::PackTable;
use crate::error::{Error, Result};
use crate::manifest::Node;
use crate::types::{Digest, Location, PackRef};

const VERSION: u8 = 1;
/// The longest hashed part.
const MAX_HASHED: usize = 8 << 20;
/// A hint: pack (2 bytes: 0 none, 1 this pack, otherwise an index into the table of names + 2) and offset (4 bytes).
const HINT: usize = 6;

/// The most bytes that a node may take as it is stored, whatever its hints.
pub(super) fn max_len(node: &Node) -> usize {
    node.bytes().len() + 64 + node.places().len() * (HINT + 32)
}

/// The bytes of `node` as stored in the pack `own` (`None`: outside of packs).
///
/// # Errors
/// Usage: a hint names a pack that is still open, so it does not have a name yet.
pub(super) fn encode(node: &Node, own: Option<PackRef>, table: &PackTable) -> Result<Vec<u8>> {
    let places: Vec<Option<Location>> = node.places().collect();
    let mut packs: Vec<PackRef> = places.iter().flatten().map(|p| p.pack).filter(|p| Some(*p) != own).collect();
    packs.sort_unstable();
    packs.dedup();
    packs.truncate(usize::from(u16::MAX) - 2);
    let hashed = node.bytes();
    let mut out = Vec::with_capacity(4 + hashed.len() + 16 + packs.len() * 32 + places.len() * HINT);
    out.extend_from_slice(&(hashed.len() as u32).to_le_bytes());
    out.extend_from_slice(hashed);
    let section = out.len();
    out.push(VERSION);
    out.extend_from_slice(&(packs.len() as u16).to_le_bytes());
    for pack in &packs {
        let name = table.name(*pack).ok_or_else(|| Error::usage("a hint names a pack that is still open"))?;
        out.extend_from_slice(&name.0);
    }
    for place in &places {
        let (pack, offset) = match place {
            None => (0, 0),
            Some(p) if Some(p.pack) == own => (1, p.offset),
            Some(p) => packs.binary_search(&p.pack).map_or((0, 0), |i| (i as u16 + 2, p.offset)),
        };
        out.extend_from_slice(&pack.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    }
    let sum = Digest::of(&out[section..]);
    out.extend_from_slice(&sum.0[..8]);
    Ok(out)
}

/// Whether the hints of a stored node are as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hints {
    /// As written.
    Whole,
    /// Damaged, so they are ignored.
    Damaged,
}

/// The node stored as `bytes` in the pack `own`. The caller must check its digest.
///
/// # Errors
/// Damaged: the hashed part.
pub(super) fn decode(bytes: &[u8], own: Option<PackRef>, table: &PackTable) -> Result<(Node, Hints)> {
    let short = || Error::damaged("a stored node is shorter than its header says");
    let len =
        bytes.get(..4).map(|b| super::pack::u32_at(b, 0) as usize).filter(|n| *n <= MAX_HASHED).ok_or_else(short)?;
    let hashed = bytes.get(4..4 + len).ok_or_else(short)?;
    let places = section(&bytes[4 + len..], own, table);
    let slots = places.as_ref().map(Vec::len);
    let node = Node::decode(hashed.to_vec(), places.unwrap_or_default())?;
    let hints = if slots == Some(node.places().len()) { Hints::Whole } else { Hints::Damaged };
    Ok((node, hints))
}

fn section(bytes: &[u8], own: Option<PackRef>, table: &PackTable) -> Option<Vec<Option<Location>>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    if Digest::of(body).0[..8] != *sum || *body.first()? != VERSION {
        return None;
    }
    let n = usize::from(u16::from_le_bytes(body.get(1..3)?.try_into().ok()?));
    let names = body.get(3..3 + n * 32)?;
    let hints = body.get(3 + n * 32..)?;
    if !hints.len().is_multiple_of(HINT) {
        return None;
    }
    let packs: Vec<PackRef> = names.chunks_exact(32).map(|n| table.intern(&super::pack::digest_at(n, 0))).collect();
    let place = |hint: &[u8]| {
        let (pack, offset) = (u16::from_le_bytes([hint[0], hint[1]]), super::pack::u32_at(hint, 2));
        let pack = match pack {
            0 => return None,
            1 => own?,
            i => *packs.get(usize::from(i) - 2)?,
        };
        Some(Location { pack, offset })
    };
    Some(hints.chunks_exact(HINT).map(place).collect())
}
