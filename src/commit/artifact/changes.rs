//! A difference as a document: what `cairn diff --json` prints, read back to be patched with, in this store or another.

use super::change_record::{ParsedChange, Side};
use super::change_runs::{ChangeCollector, Changes};
use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::types::{Digest, RelPath};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;

#[derive(Deserialize)]
struct Line {
    path: String,
    path_b64: Option<String>,
    old: Option<Fields>,
    new: Option<Fields>,
}

#[derive(Deserialize)]
struct Fields {
    kind: String,
    size: Option<u64>,
    digest: Option<String>,
    exec: Option<bool>,
    target: Option<String>,
    target_b64: Option<String>,
    uri: Option<String>,
    etag: Option<String>,
}

/// Reads a difference. Each path may come once. A large one is kept in a temporary file on the file system of `dir`.
///
/// # Errors
/// Usage: it is not such a document. I/O.
pub fn parse_changes(json: impl Read, dir: &Path) -> Result<Changes> {
    let mut reader = ChangesReader { collector: ChangeCollector::new(dir), failed: None };
    let mut from = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, json));
    let read = from.deserialize_map(DocumentVisitor(&mut reader)).and_then(|()| from.end());
    if let Some(failed) = reader.failed {
        return Err(failed);
    }
    match read {
        Ok(()) => reader.collector.finish(),
        Err(e) if e.is_io() => Err(Error::io_message("the difference cannot be read").with_source(e)),
        Err(e) => Err(Error::usage("this is not a diff made by `cairn diff --json`")
            .with_source(e)
            .with_hint("`cairn diff A B --json` makes one")),
    }
}

/// Takes the changes out of a document while it is read.
struct ChangesReader {
    collector: ChangeCollector,
    /// Why a change was refused.
    failed: Option<Error>,
}

impl ChangesReader {
    fn add(&mut self, line: Line) -> Result<()> {
        self.collector.add(line.change()?)
    }
}

struct DocumentVisitor<'a>(&'a mut ChangesReader);

impl<'de> Visitor<'de> for DocumentVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `changes`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "changes" {
                map.next_value_seed(LinesSeed(self.0))?;
                found = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(A::Error::missing_field("changes")) }
    }
}

struct LinesSeed<'a>(&'a mut ChangesReader);

impl<'de> DeserializeSeed<'de> for LinesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for LinesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of changes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> std::result::Result<(), A::Error> {
        while let Some(line) = lines.next_element::<Line>()? {
            if let Err(e) = self.0.add(line) {
                self.0.failed = Some(e);
                return Err(A::Error::custom("a change was refused"));
            }
        }
        Ok(())
    }
}

impl Line {
    fn change(self) -> Result<ParsedChange> {
        let path = RelPath::parse(&exact(self.path, self.path_b64)?)?;
        let side = |fields: Option<Fields>| fields.map(|f| f.side(&path)).transpose();
        let (old, new) = (side(self.old)?, side(self.new)?);
        if old.is_none() && new.is_none() {
            return Err(Error::usage(format!("the difference has neither an old nor a new entry for {path}")));
        }
        Ok(ParsedChange { path, old, new })
    }
}

/// A name's bytes: in Base64 if that is given.
fn exact(readable: String, b64: Option<String>) -> Result<Vec<u8>> {
    match b64 {
        Some(text) => {
            STANDARD.decode(&text).map_err(|e| Error::usage(format!("`{text}` is not Base64")).with_source(e))
        }
        None => Ok(readable.into_bytes()),
    }
}

impl Fields {
    fn side(self, path: &RelPath) -> Result<Side> {
        let lacks = |what: &str| Error::usage(format!("the difference lacks the {what} of {path}"));
        let digest = self.digest.as_deref().map(Digest::parse).transpose()?;
        Ok(match self.kind.as_str() {
            "directory" => Side::Directory,
            "file" => Side::File {
                digest: digest.ok_or_else(|| lacks("digest"))?,
                size: self.size.ok_or_else(|| lacks("size"))?,
                exec: self.exec.unwrap_or(false),
            },
            "symlink" => Side::Symlink(exact(self.target.ok_or_else(|| lacks("target"))?, self.target_b64)?),
            "reference" => Side::Reference(Box::new(Reference {
                uri: self.uri.ok_or_else(|| lacks("URI"))?,
                size: self.size,
                etag: self.etag,
                digest,
            })),
            other => {
                return Err(Error::usage(format!(
                    "the difference calls {path} a {other}, which this release does not know"
                )));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Changes> {
        parse_changes(json.as_bytes(), &std::env::temp_dir())
    }

    #[test]
    fn other_documents_are_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"changes": [{"path": "a"}]}"#,
            r#"{"changes": [{"path": "../a", "new": {"kind": "directory"}}]}"#,
            r#"{"changes": [{"path": "a", "new": {"kind": "file", "size": 1}}]}"#,
            r#"{"changes": [{"path": "a", "new": {"kind": "fifo"}}]}"#,
            r#"{"changes": [{"path": "a", "new": {"kind": "directory"}},
                {"path": "./a", "new": {"kind": "directory"}}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse(r#"{"from": "x", "changes": [], "to": {"a": [1]}}"#).unwrap().iter().unwrap().count(), 0);
        assert!(parse(r#"{"changes": []} and more"#).is_err());
    }
}
