//! A difference as a document: what `cairn diff --json` prints, read back to be patched with, in this store or another.

use crate::error::{Error, Result};
use crate::manifest::Reference;
use crate::types::{Digest, RelPath};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// One path that differs.
#[derive(Clone, Debug)]
pub struct ParsedChange {
    /// Where.
    pub(in crate::commit) path: RelPath,
    /// What was there before.
    pub(in crate::commit) old: Option<Side>,
    /// What is there now.
    pub(in crate::commit) new: Option<Side>,
}

/// An entry at a path, without the location of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commit) enum Side {
    Directory,
    File { digest: Digest, size: u64, exec: bool },
    Symlink(Vec<u8>),
    Reference(Box<Reference>),
}

#[derive(Deserialize)]
struct Document {
    changes: Vec<Line>,
}

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

/// Reads a difference. Each path may come once.
///
/// # Errors
/// Usage: it is not such a document.
pub fn parse_changes(json: &[u8]) -> Result<Vec<ParsedChange>> {
    let document: Document = serde_json::from_slice(json).map_err(|e| {
        Error::usage("this is not a diff made by `cairn diff --json`")
            .with_source(e)
            .with_hint("`cairn diff A B --json` makes one")
    })?;
    let mut seen = std::collections::HashSet::with_capacity(document.changes.len());
    let mut out = Vec::with_capacity(document.changes.len());
    for line in document.changes {
        let path = RelPath::parse(&exact(line.path, line.path_b64)?)?;
        if !seen.insert(path.clone()) {
            return Err(Error::usage(format!("the difference names {path} twice")));
        }
        let side = |fields: Option<Fields>| fields.map(|f| f.side(&path)).transpose();
        let (old, new) = (side(line.old)?, side(line.new)?);
        if old.is_none() && new.is_none() {
            return Err(Error::usage(format!("the difference has neither an old nor a new entry for {path}")));
        }
        out.push(ParsedChange { path, old, new });
    }
    Ok(out)
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
            assert!(parse_changes(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(parse_changes(br#"{"from": "x", "changes": []}"#).unwrap().len(), 0);
    }
}
