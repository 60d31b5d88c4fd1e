//! Paths inside a version: raw bytes between slashes, in one canonical form.

use crate::error::{Error, Result, show_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// The longest name of one entry, in bytes.
pub const MAX_NAME: usize = 255;

/// True when `name` can be the name of an entry: 1–255 bytes, no `/`, no NUL, not `.` or `..`.
pub fn is_entry_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// A path inside a version in canonical form: names joined by single slashes; never absolute, never `..`.
/// Empty only as [`RelPath::root`].
///
/// ```
/// use cairn::types::RelPath;
/// assert_eq!(RelPath::parse(b"./a//b/").unwrap().as_bytes(), b"a/b");
/// assert!(RelPath::parse(b"../a").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The version's root itself.
    pub fn root() -> Self {
        RelPath(Vec::new())
    }

    /// Parses a path into its canonical form.
    ///
    /// # Errors
    /// A usage error for an empty or absolute path, `.` alone, any `..`, NUL, a part over 255 bytes, a path over 4,096
    /// bytes.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::usage(format!("path `{}` is not allowed: {why}", show_bytes(text)));
        if text.is_empty() {
            return Err(Error::usage("the path is empty"));
        }
        if text[0] == b'/' {
            return Err(bad("it is absolute").with_hint("name it relative to the version's root"));
        }
        let mut out = Vec::with_capacity(text.len());
        for part in text.split(|b| *b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(bad("it has a `..`")),
                _ => {}
            }
            if part.contains(&0) {
                return Err(bad("it has a NUL byte"));
            }
            if part.len() > MAX_NAME {
                return Err(bad("a part is longer than 255 bytes"));
            }
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(part);
        }
        if out.is_empty() {
            return Err(bad("it names nothing"));
        }
        if out.len() > MAX_PATH {
            return Err(bad("it is longer than 4,096 bytes"));
        }
        Ok(RelPath(out))
    }

    /// Parses like [`RelPath::parse`], but takes `` and `.` and `/` as the root.
    ///
    /// # Errors
    /// As [`RelPath::parse`].
    pub fn parse_or_root(text: &[u8]) -> Result<Self> {
        let rest = text.iter().all(|b| matches!(b, b'/' | b'.')) && !text.windows(2).any(|w| w == b"..");
        if rest { Ok(Self::root()) } else { Self::parse(text) }
    }

    /// This path with one more name.
    ///
    /// # Errors
    /// A usage error when `name` cannot be an entry's name or the path grows over 4,096 bytes.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        if !is_entry_name(name) {
            return Err(Error::usage(format!("`{}` cannot be a name in a version", show_bytes(name))));
        }
        let mut out = self.0.clone();
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(name);
        if out.len() > MAX_PATH {
            return Err(Error::usage(format!("path `{}` is longer than 4,096 bytes", show_bytes(&out))));
        }
        Ok(RelPath(out))
    }

    /// This path below `prefix`.
    ///
    /// # Errors
    /// A usage error when the whole is longer than 4,096 bytes.
    pub fn below(&self, prefix: &RelPath) -> Result<Self> {
        self.parts().try_fold(prefix.clone(), |at, name| at.join(name))
    }

    /// This path as seen from the directory `dir`, which it is inside.
    pub(crate) fn seen_from(&self, dir: &RelPath) -> RelPath {
        let names: Vec<&[u8]> = self.parts().skip(dir.parts().count()).collect();
        RelPath(names.join(&b'/'))
    }

    /// Whether this path is inside the directory `dir`, at any depth. A path is not inside itself.
    pub fn is_inside(&self, dir: &RelPath) -> bool {
        let rest = self.as_bytes().strip_prefix(dir.as_bytes());
        rest.is_some_and(|rest| if dir.is_root() { !rest.is_empty() } else { rest.first() == Some(&b'/') })
    }

    /// The names, from the root.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|p| !p.is_empty())
    }

    /// The path without its last name; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(RelPath(self.0[..end].to_vec()))
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or(b"")
    }

    /// True for the version's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// This path below `dir` on disk. This is the only way from a version's path to a path on disk.
    pub fn on_disk(&self, dir: &Path) -> PathBuf {
        if self.is_root() { dir.to_path_buf() } else { dir.join(OsStr::from_bytes(&self.0)) }
    }
}

impl std::str::FromStr for RelPath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text.as_bytes())
    }
}

/// In records: the path as text or, if it is not UTF-8, `{"base64": …}`.
impl serde::Serialize for RelPath {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => Recorded::Bytes { base64: STANDARD.encode(&self.0) }.serialize(s),
        }
    }
}

impl<'de> serde::Deserialize<'de> for RelPath {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let bytes = match Recorded::deserialize(d)? {
            Recorded::Text(text) => text.into_bytes(),
            Recorded::Bytes { base64 } => STANDARD.decode(base64).map_err(serde::de::Error::custom)?,
        };
        RelPath::parse_or_root(&bytes).map_err(serde::de::Error::custom)
    }
}

/// A path in a record.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Recorded {
    Text(String),
    Bytes { base64: String },
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_bytes(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_and_refusals_are_those_of_case_3() {
        for (text, want) in [("a//b", "a/b"), ("./a", "a"), ("a/", "a"), ("a/./b", "a/b"), ("C:x\\y\n", "C:x\\y\n")] {
            assert_eq!(RelPath::parse(text.as_bytes()).unwrap().as_bytes(), want.as_bytes());
        }
        let long_part = "x".repeat(256);
        let long = ["y".repeat(200).as_str(); 21].join("/");
        for text in ["", ".", "./", "/a", "..", "a/../b", "a\0b", &long_part, &long] {
            assert!(RelPath::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(RelPath::parse(b"\xff/\xfe").unwrap().as_bytes(), b"\xff/\xfe");
        for root in ["", ".", "/", "./"] {
            assert!(RelPath::parse_or_root(root.as_bytes()).unwrap().is_root());
        }
        assert!(RelPath::parse_or_root(b"..").is_err());
        assert!(RelPath::parse_or_root(b"../").is_err());
    }
}
