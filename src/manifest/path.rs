//! Paths in a manifest: their order, and those that are not allowed.

use crate::error::Error;
use crate::types::RelPath;
use std::cmp::Ordering;

/// The order of paths in walks, diffs and builders: part by part, so that a directory is followed by what is in it.
/// (Bytewise `a-b` comes before `a/b`; here `a`, `a/b`, `a-b`.)
pub fn path_order(a: &RelPath, b: &RelPath) -> Ordering {
    // A slash sorts before every byte that a name can have.
    let key = |b: &u8| if *b == b'/' { 0 } else { *b };
    a.as_bytes().iter().map(key).cmp(b.as_bytes().iter().map(key))
}

/// A path in a manifest that is too long means damage, not a mistake of the caller.
pub(super) fn path_error(e: Error) -> Error {
    Error::damaged("manifest: a path is not allowed").with_source(e)
}
