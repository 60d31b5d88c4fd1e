//! Which sizes the store's objects have. A large file is new if no object of its size has the same bytes at a few
//! places, so it is copied at once. Any other is hashed first: copying what is stored already wastes time and space.

use super::content_store::Objects;
use crate::disk::{self, read_full_at};
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Smaller files are copied without a check.
pub(super) const CHECK_SIZES_FROM: u64 = 8 << 20;
/// One object is checked for this many bytes to be stored, so that the checks cost little compared with a copy.
const BYTES_PER_CHECK: u64 = 64 << 10;
/// Of a file and an object of its size, this many blocks are compared.
const BLOCKS: u64 = 4;
const BLOCK: usize = 4 << 10;
/// If more objects have one size, their bytes are not compared.
const MAX_COMPARED: usize = 64;

/// The sizes that are known so far.
#[derive(Default)]
pub(super) struct ObjectSizes(Mutex<KnownSizes>);

#[derive(Default)]
struct KnownSizes {
    /// By size, objects of that size: of one size, no more than one too many to be compared.
    objects: HashMap<u64, Vec<Digest>>,
    /// All objects were checked.
    complete: bool,
    /// This many checks were not enough.
    tried: u64,
}

impl ObjectSizes {
    /// Whether an object that may have the content of a file of `size` bytes is in place, as far as a bounded number of
    /// checks can tell. A wrong answer costs only time.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn may_have(&self, objects: &Objects, file: &File, size: u64) -> Result<bool> {
        let of_size = self.of_size(objects, size)?;
        if of_size.len() > MAX_COMPARED {
            return Ok(true);
        }
        for digest in of_size {
            if is_equal_at_places(&objects.layout().object(&digest), file, size) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Objects of that size.
    fn of_size(&self, objects: &Objects, size: u64) -> Result<Vec<Digest>> {
        let mut known = self.0.lock();
        let checks = size / BYTES_PER_CHECK;
        if !known.objects.contains_key(&size) && !known.complete && checks > known.tried {
            known.tried = checks;
            known.objects.clear();
            known.complete = objects.collect_sizes(checks, &mut known.objects)?;
        }
        Ok(known.objects.get(&size).cloned().unwrap_or_default())
    }
}

/// Whether an object and a file of `size` bytes have the same bytes at a few places. `true` if one cannot be read.
fn is_equal_at_places(object: &Path, file: &File, size: u64) -> bool {
    let object = match disk::open_file(object) {
        Ok(Some((object, _))) => object,
        Ok(None) => return false,
        Err(_) => return true,
    };
    let (mut here, mut there) = ([0; BLOCK], [0; BLOCK]);
    for i in 1..=BLOCKS {
        let at = size / BLOCKS * i - BLOCK as u64;
        let read = read_full_at(file, &mut here, at).and_then(|_| read_full_at(&object, &mut there, at));
        if read.is_ok() && here != there {
            return false;
        }
    }
    true
}

impl Objects {
    /// Collects at most `max` objects by their sizes. Returns whether these were all.
    fn collect_sizes(&self, max: u64, found: &mut HashMap<u64, Vec<Digest>>) -> Result<bool> {
        let mut remaining = max;
        let all = self.layout().objects();
        for shard in disk::list(&all)? {
            let dir = all.join(&shard);
            for name in disk::list(&dir).unwrap_or_default() {
                if remaining == 0 {
                    return Ok(false);
                }
                remaining -= 1;
                let hex = [shard.as_encoded_bytes(), name.as_encoded_bytes()].concat();
                let Some(digest) = Digest::of_hex(&hex) else { continue };
                let Some(meta) = disk::lstat(&dir.join(name))?.filter(|meta| meta.is_file()) else { continue };
                let of_size = found.entry(meta.len()).or_default();
                if of_size.len() <= MAX_COMPARED {
                    of_size.push(digest);
                }
            }
        }
        Ok(true)
    }
}
