//! How an entry of a version is shown: the JSON form that `ls` and `diff` share, and the line of `ls -l`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn::manifest::Entry;
use cairn::types::Digest;
use serde::Serialize;
use std::borrow::Cow;

/// A name in JSON: readable, with the exact bytes if it is not UTF-8.
pub fn json_name(name: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let readable = String::from_utf8_lossy(name);
    let exact = matches!(readable, Cow::Owned(_)).then(|| STANDARD.encode(name));
    (readable, exact)
}

/// An entry in JSON: what applies.
#[derive(Serialize)]
pub struct Fields<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Of an entry.
    pub fn of(entry: &'a Entry) -> Fields<'a> {
        let none = Fields {
            kind: "directory",
            size: None,
            digest: None,
            exec: None,
            target: None,
            target_b64: None,
            uri: None,
            etag: None,
        };
        match entry {
            Entry::File { digest, size, exec, .. } => {
                Fields { kind: "file", size: Some(*size), digest: Some(*digest), exec: Some(*exec), ..none }
            }
            Entry::Symlink { target } => {
                let (readable, exact) = json_name(target);
                Fields { kind: "symlink", target: Some(readable), target_b64: exact, ..none }
            }
            Entry::Reference(r) => Fields {
                kind: "reference",
                size: r.size,
                digest: r.digest,
                uri: Some(&r.uri),
                etag: r.etag.as_deref(),
                ..none
            },
            Entry::Directory(_) => none,
        }
    }
}

/// One line of `ls --json`.
#[derive(Serialize)]
pub struct Line<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(flatten)]
    fields: Fields<'a>,
}

impl<'a> Line<'a> {
    /// Of an entry at a path.
    pub fn of(path: &'a [u8], entry: &'a Entry) -> Line<'a> {
        let (path, path_b64) = json_name(path);
        Line { path, path_b64, fields: Fields::of(entry) }
    }
}

/// What is printed before the path in `ls -l`: mode, bytes, the beginning of the digest.
pub fn long(entry: &Entry) -> String {
    let (mode, size, digest) = match entry {
        Entry::File { digest, size, exec, .. } => {
            (if *exec { "-rwxr-xr-x" } else { "-rw-r--r--" }, Some(*size), Some(*digest))
        }
        Entry::Symlink { target } => ("lrwxrwxrwx", Some(target.len() as u64), None),
        Entry::Reference(r) => ("-r--r--r--", r.size, r.digest),
        Entry::Directory(_) => ("drwxr-xr-x", None, None),
    };
    let size = size.map_or("-".to_owned(), |n| n.to_string());
    let digest = digest.map_or("-".to_owned(), |d| d.hex()[..12].to_owned());
    format!("{mode}  {size:>12}  {digest:<12}  ")
}

/// What is printed after the path in `ls -l`: where it points.
pub fn points_at(entry: &Entry) -> Option<&[u8]> {
    match entry {
        Entry::Symlink { target } => Some(target),
        Entry::Reference(r) => Some(r.uri.as_bytes()),
        _ => None,
    }
}
