//! What entries are written as in a checkout, and what becomes of references: entries whose bytes are not in the store.

use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::remote::{is_readable, local_path, shown_uri};
use crate::types::{Digest, Location};
use std::borrow::Cow;

/// What a checkout makes of references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum References {
    /// Fetch the bytes, which must be what was recorded.
    #[default]
    Fetch,
    /// Leave them out, and touch nothing at their paths.
    Skip,
    /// Make a symlink to what a `file://` URI names; others are refused.
    Link,
}

/// What an entry is written as.
pub(super) enum WrittenAs<'a> {
    Directory,
    File {
        digest: Digest,
        size: u64,
        exec: bool,
        place: Option<Location>,
    },
    Symlink(Cow<'a, [u8]>),
    /// The bytes of a reference.
    Fetched(&'a Reference),
    Nothing,
}

impl References {
    /// What a reference is written as.
    ///
    /// # Errors
    /// Usage: it cannot be written in this way.
    pub(super) fn written(self, reference: &Reference) -> Result<WrittenAs<'_>> {
        match self {
            References::Skip => Ok(WrittenAs::Nothing),
            References::Link => match local_path(&reference.uri) {
                Some(path) => Ok(WrittenAs::Symlink(Cow::Owned(path))),
                None => {
                    let uri = shown_uri(&reference.uri);
                    Err(Error::usage(format!("{uri} cannot be linked to: only file:/// URIs can"))
                        .with_hint("--references skip leaves references out"))
                }
            },
            References::Fetch => is_readable(reference).map(|()| WrittenAs::Fetched(reference)),
        }
    }
}
