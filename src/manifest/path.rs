//! Paths in a manifest: their order, and those that are not allowed.

use crate::error::Error;
use crate::types::RelPath;
use std::cmp::Ordering;

/// The order in which a walk, a diff and a builder see paths: part by part, so that what is in a directory comes right
/// after it. (Bytewise `a-b` stands before `a/b`; here `a`, `a/b`, `a-b`.)
pub fn path_order(a: &RelPath, b: &RelPath) -> Ordering {
    // A slash sorts before every byte that a name can have.
    let key = |b: &u8| if *b == b'/' { 0 } else { *b };
    a.as_bytes().iter().map(key).cmp(b.as_bytes().iter().map(key))
}

/// A path in a manifest that is too long is the manifest's fault, not the reader's.
pub(super) fn path_error(e: Error) -> Error {
    Error::damaged("manifest: a path is not allowed").with_source(e)
}
