//! Writing an index segment.

use super::index_segment::{ENTRY, FIXED_HEADER, MAGIC, PER_BLOCK, SegmentEntry, TABLE_ENTRY};
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::types::Digest;

/// Blocks per write.
const WRITE_BLOCKS: usize = 64;

/// Writes a segment that covers `packs` into a new file: `count` entries, sorted by digest and kind. Returns its name.
///
/// # Errors
/// I/O, also if `entries` are not `count`; the errors of `entries`.
pub(super) fn write_segment(
    file: &mut NewFile,
    packs: &[Digest],
    count: usize,
    entries: &mut dyn Iterator<Item = Result<SegmentEntry>>,
) -> Result<Digest> {
    let blocks = count.div_ceil(PER_BLOCK);
    let names: Vec<u8> = packs.iter().flat_map(|p| p.0).collect();
    let mut header = Vec::with_capacity(FIXED_HEADER + blocks * TABLE_ENTRY + 64 + names.len());
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&(count as u64).to_le_bytes());
    header.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    header.extend_from_slice(&(blocks as u32).to_le_bytes());
    // The blocks come first. The header has their checksums, so it is written before them at the end.
    let body = (FIXED_HEADER + blocks * TABLE_ENTRY + 64 + names.len()) as u64;
    let written = write_blocks(file, body, count, entries, &mut header)?;
    if written != count {
        return Err(Error::io_message(format!("an index segment got {written} entries, expected {count}")));
    }
    header.extend_from_slice(&Digest::of(&names).0);
    let name = Digest::of(&header);
    header.extend_from_slice(&name.0);
    header.extend_from_slice(&names);
    file.write_at(&header, 0)?;
    Ok(name)
}

/// Writes the blocks from offset `at` on and appends their table entries to `header`. Returns how many entries it
/// wrote.
fn write_blocks(
    file: &mut NewFile,
    mut at: u64,
    count: usize,
    entries: &mut dyn Iterator<Item = Result<SegmentEntry>>,
    header: &mut Vec<u8>,
) -> Result<usize> {
    let mut buffer = Vec::with_capacity(ENTRY * count.min(WRITE_BLOCKS * PER_BLOCK));
    let mut written = 0;
    loop {
        let next = entries.next().transpose()?;
        if next.is_none() || buffer.len() == WRITE_BLOCKS * PER_BLOCK * ENTRY {
            for block in buffer.chunks(PER_BLOCK * ENTRY) {
                header.extend_from_slice(&block[..8]);
                header.extend_from_slice(&Digest::of(block).0[..8]);
            }
            file.write_at(&buffer, at)?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        let Some(entry) = next else { return Ok(written) };
        entry.encode(&mut buffer);
        written += 1;
    }
}
