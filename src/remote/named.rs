//! What a URI names, and how it is asked.

use super::uri::shown_uri;
use crate::error::Error;
use crate::manifest::Reference;
use crate::progress::Progress;
use crate::types::RelPath;

/// How a URI is added.
#[derive(Debug)]
pub(crate) struct FindOptions<'a> {
    /// Ask the source what identifies its bytes, and record that.
    pub(crate) checksum: bool,
    /// More objects than this are an error.
    pub(crate) max_objects: u64,
    /// Counters to move.
    pub(crate) progress: &'a Progress,
}

/// What a URI names.
#[derive(Debug)]
pub(crate) enum Named {
    /// One object.
    One(Reference),
    /// All objects below it, with their paths from there, in path order.
    Many(Vec<(RelPath, Reference)>),
}

/// A reference of which only the URI is recorded.
pub(super) fn bare(uri: &str) -> Reference {
    Reference { uri: uri.to_owned(), size: None, etag: None, digest: None }
}

/// The error for more objects than are wanted.
pub(super) fn too_many(uri: &str, most: u64) -> Error {
    Error::usage(format!("{} has more than {most} objects", shown_uri(uri)))
        .with_hint("nothing was added; --max-objects N allows more, a longer prefix names fewer")
}
