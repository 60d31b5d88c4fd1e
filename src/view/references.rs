//! What a checkout makes of references: entries whose bytes are not in the store.

use crate::error::{Error, Result};
use crate::manifest::Reference;

/// What a checkout makes of references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum References {
    /// Fetch the bytes. Not available yet: a version with references is refused.
    #[default]
    Fetch,
    /// Leave them out, and touch nothing at their paths.
    Skip,
    /// Make a symlink to what a `file://` URI names; others are refused.
    Link,
}

impl References {
    /// The target of the symlink that a reference is written as; `None` when nothing is written.
    ///
    /// # Errors
    /// Usage: it cannot be written in this way.
    pub(super) fn target(self, reference: &Reference) -> Result<Option<Vec<u8>>> {
        let uri = &reference.uri;
        match self {
            References::Skip => Ok(None),
            References::Link => match local_path(uri) {
                Some(path) => Ok(Some(path)),
                None => Err(Error::usage(format!("{uri} cannot be linked to: only file:/// URIs can"))
                    .with_hint("--references skip leaves references out")),
            },
            References::Fetch => Err(Error::usage(format!(
                "it is a reference to {uri}, and get cannot fetch references yet"
            ))
            .with_hint("--references skip writes everything else; --references link makes symlinks of file:/// URIs")),
        }
    }
}

/// The absolute path that a `file://` URI of this host names.
fn local_path(uri: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = uri.split_once("://")?;
    let path =
        if rest.starts_with('/') { rest } else { rest.strip_prefix("localhost").filter(|p| p.starts_with('/'))? };
    let bytes = path.split(['?', '#']).next().unwrap_or_default().as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 16).ok());
        match digits.filter(|b| bytes[at] == b'%' && *b != 0) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    (scheme.eq_ignore_ascii_case("file") && out.len() > 1 && out.len() < libc::PATH_MAX as usize).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_uris_of_this_host_are_paths() {
        for (uri, path) in [
            ("file:///data/a%20b", Some("/data/a b")),
            ("FILE://localhost/data/%zz", Some("/data/%zz")),
            ("file:///data/x?y#z", Some("/data/x")),
            ("file://host/data", None),
            ("s3://bucket/key", None),
            ("file:///", None),
        ] {
            assert_eq!(local_path(uri).as_deref(), path.map(str::as_bytes), "{uri}");
        }
    }
}
