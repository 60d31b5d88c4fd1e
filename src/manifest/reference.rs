//! References and targets of symbolic links: the limits.

use super::totals::MAX_BYTES;
use crate::types::Digest;

/// The longest target of a symbolic link, in bytes (what Linux allows).
pub const MAX_TARGET: usize = 4095;
/// The longest URI of a reference, in bytes.
pub const MAX_URI: usize = 16_383;
/// The longest ETag of a reference, in bytes.
pub const MAX_ETAG: usize = 1_023;

/// A file that is stored elsewhere: what is recorded about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its URI: 1–16,383 bytes, no control characters.
    pub uri: String,
    /// Its length, if known.
    pub size: Option<u64>,
    /// The ETag its server gave, at most 1,023 bytes.
    pub etag: Option<String>,
    /// SHA-256 of its content, if known.
    pub digest: Option<Digest>,
}

/// Why `target` is not valid for a symbolic link.
pub(super) fn bad_target(target: &[u8]) -> Option<&'static str> {
    match target.len() {
        0 => Some("its target is empty"),
        1..=MAX_TARGET if target.contains(&0) => Some("its target has a NUL byte"),
        1..=MAX_TARGET => None,
        _ => Some("its target is longer than 4,095 bytes"),
    }
}

impl Reference {
    /// Why this reference is not valid in a manifest.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let control = |s: &str| s.bytes().any(|b| b < 0x20 || b == 0x7f);
        if self.uri.is_empty() {
            Some("its URI is empty")
        } else if self.uri.len() > MAX_URI {
            Some("its URI is longer than 16,383 bytes")
        } else if control(&self.uri) {
            Some("its URI has control characters")
        } else if self.etag.as_ref().is_some_and(|e| e.len() > MAX_ETAG) {
            Some("its ETag is longer than 1,023 bytes")
        } else if self.etag.as_ref().is_some_and(|e| control(e)) {
            Some("its ETag has control characters")
        } else if self.size.is_some_and(|n| n > MAX_BYTES) {
            Some("its size is too large")
        } else {
            None
        }
    }
}
