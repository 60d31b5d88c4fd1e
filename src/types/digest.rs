//! SHA-256 digests: the names of all content.

use crate::error::{Error, Result};
use sha2::Digest as _;
use std::fmt;

/// A SHA-256 digest. Of a file it is what `sha256sum` prints; of a manifest node it is domain-separated (see
/// FORMAT.md).
///
/// ```
/// use cairn::types::Digest;
/// let d = Digest::of(b"hello");
/// assert_eq!(d.to_string(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
/// assert_eq!(Digest::parse(&d.to_string()).unwrap(), d);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

/// The value of each byte as a lower-case hexadecimal digit; 255 if it is not one.
const DIGIT_VALUES: [u8; 256] = {
    let (mut values, mut i) = ([255; 256], 0);
    while i < 16 {
        values[b"0123456789abcdef"[i] as usize] = i as u8;
        i += 1;
    }
    values
};

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// Parses 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// A usage error when the text is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of_hex(text.as_bytes()).ok_or_else(|| {
            Error::usage(format!("`{text}` is not a SHA-256 digest: expected 64 lower-case hexadecimal digits"))
        })
    }

    /// Parses 64 lower-case hexadecimal digits; `None` for any other text.
    pub(crate) fn of_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        // All digits are looked up first, and a wrong one is found at the end: garbage collections parse millions.
        let (mut out, mut wrong) = ([0; 32], 0);
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (DIGIT_VALUES[usize::from(pair[0])], DIGIT_VALUES[usize::from(pair[1])]);
            wrong |= high | low;
            *byte = high << 4 | low & 15;
        }
        if wrong > 15 {
            return None;
        }
        Some(Digest(out))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            out.push(DIGITS[usize::from(byte >> 4)] as char);
            out.push(DIGITS[usize::from(byte & 15)] as char);
        }
        out
    }

    /// The first eight bytes: enough to spread or pre-sort by, but not to identify content by.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("a digest has 32 bytes"))
    }
}

impl std::str::FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.hex())
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Digest::of_hex(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("not a SHA-256 digest"))
    }
}

/// Hashes bytes piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    /// A new hasher.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
