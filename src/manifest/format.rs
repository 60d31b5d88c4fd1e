//! The hashed bytes of a node: writing them, and reading them with suspicion.
//!
//! ```text
//! level u8 | columns u8 | entries u16 | per column: tag u8, length u16 | the columns, in that order
//! ```
//! All numbers are little-endian. FORMAT.md describes the columns. For one list of entries there is one encoding;
//! everything else is damage. Nothing here trusts a length, a count or an order, and nothing recurses further than
//! the 2 KiB of an inlined directory allow.

use super::totals::TOTALS_LEN;

/// The largest node, in bytes.
pub const MAX_NODE: usize = 32 * 1024;
/// The largest directory that is inlined in its parent's leaf, in bytes of its own node.
pub const MAX_INLINE: usize = 2 * 1024;
/// What a run of entries may weigh and still be one node: the rest is the header's.
pub(super) const MAX_WEIGHT: usize = MAX_NODE - 40;
/// More levels than any tree can have (each level shrinks even trees made of ground names).
pub(super) const MAX_LEVEL: u8 = 63;

/// Column tags.
pub(super) mod tag {
    pub const NAME_ENDS: u8 = 1;
    pub const NAMES: u8 = 2;
    pub const KINDS: u8 = 3;
    pub const FILES: u8 = 4;
    pub const LINKS: u8 = 5;
    pub const REFERENCES: u8 = 6;
    pub const DIRECTORIES: u8 = 7;
    pub const INLINED: u8 = 8;
    pub const CHILDREN: u8 = 9;
    /// Tags below this one are known.
    pub const END: usize = 10;
}

/// Entry kinds in the KINDS column. 6 is kept for a file stored as a list of blobs.
pub(super) mod kind {
    pub const FILE: u8 = 0;
    pub const EXECUTABLE: u8 = 1;
    pub const SYMLINK: u8 = 2;
    pub const REFERENCE: u8 = 3;
    pub const DIRECTORY: u8 = 4;
    pub const INLINED: u8 = 5;
}

pub(super) const FILE_LEN: usize = 40;
pub(super) const CHILD_LEN: usize = 32 + TOTALS_LEN;
pub(super) const HAS_SIZE: u8 = 1;
pub(super) const HAS_DIGEST: u8 = 2;
pub(super) const HAS_ETAG: u8 = 4;
