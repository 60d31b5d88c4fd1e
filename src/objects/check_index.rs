//! Checking the index, for `verify` (F12). Segments are caches: a damaged one is ignored and written again.

use super::content_store::Objects;
use super::damage::Damage;
use super::index_segment::{OpenedSegment, Segment};
use super::pack_file::read_footer;
use crate::disk;
use crate::error::Result;
use crate::types::Digest;
use std::ffi::OsString;

impl Objects {
    /// Compares every index segment with its checksums and with the footers of its packs.
    ///
    /// # Errors
    /// I/O.
    pub fn check_index(&self) -> Result<Vec<(OsString, Damage)>> {
        let mut out = Vec::new();
        for name in disk::list(&self.layout().index())? {
            let path = self.layout().index().join(&name);
            let why = match Digest::of_hex(name.as_encoded_bytes()) {
                None => Some("its name is not a digest".to_owned()),
                Some(digest) => match Segment::open(&path, digest) {
                    OpenedSegment::Gone => None, // merged into another meanwhile
                    OpenedSegment::Damaged => Some("its header is damaged".to_owned()),
                    OpenedSegment::Valid(segment) => self.check_segment(&segment)?,
                },
            };
            out.extend(why.map(|why| (name, Damage::Segment(why))));
        }
        Ok(out)
    }

    /// What is wrong with a segment.
    fn check_segment(&self, segment: &Segment) -> Result<Option<String>> {
        let counts = match count_entries(segment) {
            Ok(counts) => counts,
            Err(why) => return Ok(Some(why)),
        };
        for (i, (name, count)) in segment.packs().iter().zip(counts).enumerate() {
            let path = self.layout().pack(name);
            // A pack that is gone or damaged proves nothing against the segment.
            if disk::lstat(&path)?.is_none() {
                continue;
            }
            let footer = match read_footer(path, name) {
                Ok(footer) => footer,
                Err(e) if e.is_loss() => continue,
                Err(e) => return Err(e),
            };
            let mut found = Vec::new();
            let all_known = footer.blobs.len() == count
                && footer.blobs.iter().all(|blob| {
                    found.clear();
                    segment.find(&blob.digest, blob.kind, &mut found);
                    found.iter().any(|e| e.pack as usize == i && e.offset == blob.offset)
                });
            if !all_known {
                return Ok(Some(format!("it differs from the footer of pack {name}")));
            }
        }
        Ok(None)
    }
}

/// How many entries a segment has for each of its packs. Checks the order of the entries.
fn count_entries(segment: &Segment) -> std::result::Result<Vec<usize>, String> {
    let mut counts = vec![0; segment.packs().len()];
    let mut before = None;
    for i in 0..segment.blocks() {
        let entries = segment.block(i).ok_or_else(|| format!("block {i} is damaged"))?;
        for entry in entries {
            let key = (entry.digest, entry.kind);
            let in_order = before.is_none_or(|b| b <= key);
            let count = counts.get_mut(entry.pack as usize).filter(|_| in_order);
            *count.ok_or_else(|| format!("block {i} has an entry out of order or bounds"))? += 1;
            before = Some(key);
        }
    }
    Ok(counts)
}
