//! Which sizes the objects of the store have: a large file of a size that none has is new, and is copied at once;
//! another is hashed first, since copying what is there already takes time and space for nothing.

use super::Objects;
use crate::disk;
use crate::error::Result;
use parking_lot::Mutex;
use std::collections::HashSet;

/// Smaller files are copied without a question.
pub(super) const ASK_FROM: u64 = 8 << 20;
/// One object is looked at for so many bytes to be stored: the looks cost little beside a copy.
const BYTES_A_LOOK: u64 = 64 << 10;

/// The sizes, as far as they were looked at.
#[derive(Default)]
pub(super) struct Sizes(Mutex<Looked>);

#[derive(Default)]
struct Looked {
    sizes: HashSet<u64>,
    /// All were looked at.
    complete: bool,
    /// How many looks were not enough.
    tried: u64,
}

impl Sizes {
    /// Whether an object of `size` bytes is in its place, as far as some looks can tell. A wrong answer costs time
    /// alone.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn may_have(&self, objects: &Objects, size: u64) -> Result<bool> {
        let mut looked = self.0.lock();
        if looked.sizes.contains(&size) {
            return Ok(true);
        }
        let looks = size / BYTES_A_LOOK;
        if !looked.complete && looks > looked.tried {
            looked.tried = looks;
            looked.complete = objects.look_at_sizes(looks, &mut looked.sizes)?;
        }
        Ok(looked.sizes.contains(&size))
    }
}

impl Objects {
    /// Gathers sizes by at most `looks` looks; whether that was all.
    fn look_at_sizes(&self, looks: u64, sizes: &mut HashSet<u64>) -> Result<bool> {
        let mut left = looks;
        let all = self.layout.objects();
        for shard in disk::list(&all)? {
            let dir = all.join(shard);
            for name in disk::list(&dir).unwrap_or_default() {
                if left == 0 {
                    return Ok(false);
                }
                left -= 1;
                sizes.extend(disk::lstat(&dir.join(name))?.filter(|m| m.is_file()).map(|m| m.len()));
            }
        }
        Ok(true)
    }
}
