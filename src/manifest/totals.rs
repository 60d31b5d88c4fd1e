//! The sums over a subtree, which make ranks, counts and sizes O(log n).

use crate::types::MAX_PATH;

/// The largest file size and the largest sum: the limit of a signed 64-bit offset.
pub const MAX_BYTES: u64 = i64::MAX as u64;

/// The sums over a directory, or over the part of it below one node: everything below, not the directory itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Totals {
    /// Immediate entries: those of this directory itself.
    pub own: u64,
    /// Entries at any depth, directories included: how far the pre-order rank moves on.
    pub entries: u64,
    /// Regular files and references at any depth.
    pub files: u64,
    /// Directories at any depth.
    pub directories: u64,
    /// Sum of the sizes of files and of references whose size is known.
    pub bytes: u64,
    /// Length of the longest path below, in bytes, relative to this directory; 0 when it is empty.
    pub longest: u16,
}

/// Encoded length of [`Totals`].
pub(super) const TOTALS_LEN: usize = 42;

impl Totals {
    /// Symbolic links at any depth.
    pub fn symlinks(&self) -> u64 {
        self.entries - self.files - self.directories
    }

    /// Adds another part of the same directory. `None` if a sum exceeds its limit.
    pub(super) fn add(&mut self, part: &Totals) -> Option<()> {
        self.own = self.own.checked_add(part.own)?;
        self.entries = self.entries.checked_add(part.entries).filter(|n| *n <= MAX_BYTES)?;
        self.files += part.files;
        self.directories += part.directories;
        self.bytes = self.bytes.checked_add(part.bytes).filter(|n| *n <= MAX_BYTES)?;
        self.longest = self.longest.max(part.longest);
        Some(())
    }

    /// Adds an entry that is not a directory.
    pub(super) fn add_leaf(&mut self, name_len: usize, files: u64, bytes: u64) -> Option<()> {
        let longest = u16::try_from(name_len).ok()?;
        self.add(&Totals { own: 1, entries: 1, files, directories: 0, bytes, longest })
    }

    /// Adds a directory with everything below it. `None` also if a path becomes too long.
    pub(super) fn add_directory(&mut self, name_len: usize, below: &Totals) -> Option<()> {
        let longest = name_len + if below.longest > 0 { 1 + usize::from(below.longest) } else { 0 };
        if longest > MAX_PATH {
            return None;
        }
        self.add(&Totals {
            own: 1,
            entries: below.entries.checked_add(1)?,
            files: below.files,
            directories: below.directories.checked_add(1)?,
            bytes: below.bytes,
            longest: u16::try_from(longest).ok()?,
        })
    }

    /// Appends the encoded form: five little-endian 64-bit numbers and a 16-bit one, in the order of the fields.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for n in [self.own, self.entries, self.files, self.directories, self.bytes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.longest.to_le_bytes());
    }

    /// Reads the encoded form without checks.
    pub(super) fn read(bytes: &[u8]) -> Totals {
        let n = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes were asked for"));
        Totals {
            own: n(0),
            entries: n(1),
            files: n(2),
            directories: n(3),
            bytes: n(4),
            longest: u16::from_le_bytes([bytes[40], bytes[41]]),
        }
    }

    /// Whether these can be the sums of a part that is not empty.
    pub(super) fn plausible(&self) -> bool {
        self.own >= 1
            && self.own <= self.entries
            && self.entries <= MAX_BYTES
            && self.files <= self.entries
            && self.directories <= self.entries - self.files
            && self.bytes <= MAX_BYTES
            && (self.files > 0 || self.bytes == 0)
            && self.longest >= 1
            && usize::from(self.longest) <= MAX_PATH
    }
}
