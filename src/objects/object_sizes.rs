//! Which sizes the store's objects have. A large file of a size that no object has is new, so it is copied at once. Any
//! other is hashed first: copying what is stored already wastes time and space.

use super::content_store::Objects;
use crate::disk;
use crate::error::Result;
use crate::locks::Mutex;
use std::collections::HashSet;

/// Smaller files are copied without a check.
pub(super) const CHECK_SIZES_FROM: u64 = 8 << 20;
/// One object is checked for this many bytes to be stored, so that the checks cost little compared with a copy.
const BYTES_PER_CHECK: u64 = 64 << 10;

/// The sizes that are known so far.
#[derive(Default)]
pub(super) struct ObjectSizes(Mutex<KnownSizes>);

#[derive(Default)]
struct KnownSizes {
    sizes: HashSet<u64>,
    /// All objects were checked.
    complete: bool,
    /// This many checks were not enough.
    tried: u64,
}

impl ObjectSizes {
    /// Whether an object of `size` bytes is in place, as far as a bounded number of checks can tell. A wrong answer
    /// costs only time.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn may_have(&self, objects: &Objects, size: u64) -> Result<bool> {
        let mut known = self.0.lock();
        if known.sizes.contains(&size) {
            return Ok(true);
        }
        let checks = size / BYTES_PER_CHECK;
        if !known.complete && checks > known.tried {
            known.tried = checks;
            known.complete = objects.collect_sizes(checks, &mut known.sizes)?;
        }
        Ok(known.sizes.contains(&size))
    }
}

impl Objects {
    /// Collects the sizes of at most `max` objects. Returns whether these were all.
    fn collect_sizes(&self, max: u64, sizes: &mut HashSet<u64>) -> Result<bool> {
        let mut remaining = max;
        let all = self.layout().objects();
        for shard in disk::list(&all)? {
            let dir = all.join(shard);
            for name in disk::list(&dir).unwrap_or_default() {
                if remaining == 0 {
                    return Ok(false);
                }
                remaining -= 1;
                sizes.extend(disk::lstat(&dir.join(name))?.filter(|m| m.is_file()).map(|m| m.len()));
            }
        }
        Ok(true)
    }
}
