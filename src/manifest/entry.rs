//! What a directory holds: files, symbolic links, references and directories.

use super::node::Node;
use super::nodes::{NodeRef, NodeSource, load_checked};
use super::totals::{MAX_BYTES, Totals};
use crate::error::{Error, Result, show_bytes};
use crate::types::{Digest, Location};
use std::sync::Arc;

/// The longest target of a symbolic link, in bytes (what Linux allows).
pub const MAX_TARGET: usize = 4095;
/// The longest URI of a reference, in bytes.
pub const MAX_URI: usize = 16_383;
/// The longest ETag of a reference, in bytes.
pub const MAX_ETAG: usize = 1_023;

/// One entry of a directory.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A regular file whose content is a blob.
    File {
        /// SHA-256 of the content.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Whether it may be executed.
        exec: bool,
        /// Where the blob is thought to lie; never part of what the entry *is*.
        place: Option<Location>,
    },
    /// A symbolic link.
    Symlink {
        /// The target as stored in the link: 1–4,095 bytes, no NUL.
        target: Vec<u8>,
    },
    /// A file that lies elsewhere.
    Reference(Box<Reference>),
    /// A directory.
    Directory(Dir),
}

/// A file that lies elsewhere: what is recorded about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it lies: 1–16,383 bytes, no control characters.
    pub uri: String,
    /// Its length, if known.
    pub size: Option<u64>,
    /// The ETag its server gave, at most 1,023 bytes.
    pub etag: Option<String>,
    /// SHA-256 of its content, if known.
    pub digest: Option<Digest>,
}

impl Entry {
    /// True when both are the same content: kind, exec bit, digest and size, target, or subtree. Places don't count.
    pub fn same(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::File { digest: a, size: n, exec: x, .. }, Entry::File { digest: b, size: m, exec: y, .. }) => {
                a == b && n == m && x == y
            }
            (Entry::Symlink { target: a }, Entry::Symlink { target: b }) => a == b,
            (Entry::Reference(a), Entry::Reference(b)) => a == b,
            (Entry::Directory(a), Entry::Directory(b)) => a.same(b),
            _ => false,
        }
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Entry::Directory(_))
    }

    /// "file", "symbolic link", "reference" or "directory".
    pub fn kind_name(&self) -> &'static str {
        match self {
            Entry::File { .. } => "file",
            Entry::Symlink { .. } => "symbolic link",
            Entry::Reference(_) => "reference",
            Entry::Directory(_) => "directory",
        }
    }

    /// Refuses an entry that no manifest may hold.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Entry::File { size, .. } if *size > MAX_BYTES => {
                Err(Error::usage(format!("a file of {size} bytes is too large")))
            }
            Entry::File { .. } | Entry::Directory(_) => Ok(()),
            Entry::Symlink { target } => match bad_target(target) {
                Some(why) => {
                    Err(Error::usage(format!("symbolic link to `{}` is not allowed: {why}", show_bytes(target))))
                }
                None => Ok(()),
            },
            Entry::Reference(r) => match r.fault() {
                Some(why) => {
                    Err(Error::usage(format!("reference to `{}` is not allowed: {why}", show_bytes(r.uri.as_bytes()))))
                }
                None => Ok(()),
            },
        }
    }
}

/// Why `target` cannot be a symbolic link's.
pub(super) fn bad_target(target: &[u8]) -> Option<&'static str> {
    match target.len() {
        0 => Some("its target is empty"),
        1..=MAX_TARGET if target.contains(&0) => Some("its target has a NUL byte"),
        1..=MAX_TARGET => None,
        _ => Some("its target is longer than 4,095 bytes"),
    }
}

impl Reference {
    /// Why this reference cannot stand in a manifest.
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

/// A directory as an entry: enough to descend into it, to count it, or to put it whole into another tree.
#[derive(Clone, Debug)]
pub struct Dir(pub(super) DirAt);

/// Where the directory's tree is.
#[derive(Clone, Debug)]
pub(super) enum DirAt {
    /// Its root node is a node of its own.
    Stored(Stored),
    /// Its only leaf lies in the parent's leaf.
    Inline(Arc<Node>),
}

/// A stored node seen from above: where it is, and what it must add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub at: NodeRef,
    pub totals: Totals,
}

impl Dir {
    /// An empty directory.
    pub fn empty() -> Dir {
        Dir(DirAt::Inline(Arc::new(Node::empty())))
    }

    /// What is below it.
    pub fn totals(&self) -> Totals {
        match &self.0 {
            DirAt::Stored(s) => s.totals,
            DirAt::Inline(node) => *node.totals(),
        }
    }

    /// Its root node when that is a node of its own; `None` when the directory lies in its parent's leaf.
    pub fn node_ref(&self) -> Option<NodeRef> {
        match &self.0 {
            DirAt::Stored(s) => Some(s.at),
            DirAt::Inline(_) => None,
        }
    }

    /// The digest of its root node, inlined or not: what a version with exactly this content would have.
    pub fn digest(&self) -> Digest {
        match &self.0 {
            DirAt::Stored(s) => s.at.digest,
            DirAt::Inline(node) => node.digest(),
        }
    }

    /// True when both hold the same entries.
    pub fn same(&self, other: &Dir) -> bool {
        match (&self.0, &other.0) {
            (DirAt::Stored(a), DirAt::Stored(b)) => a.at.digest == b.at.digest,
            (DirAt::Inline(a), DirAt::Inline(b)) => a.bytes() == b.bytes(),
            _ => false,
        }
    }

    /// Its root node, loaded unless it is inlined, and checked against what the parent says.
    ///
    /// # Errors
    /// What the source says; damage when the node does not fit its parent's words.
    pub fn open(&self, source: &dyn NodeSource) -> Result<Arc<Node>> {
        match &self.0 {
            DirAt::Inline(node) => Ok(node.clone()),
            DirAt::Stored(s) => {
                let node = load_checked(source, s)?;
                node.check_root()?;
                if node.fits_inline() {
                    return Err(Error::damaged(format!(
                        "manifest node {}: a directory of {} bytes stands apart from its parent's leaf",
                        s.at.digest,
                        node.bytes().len()
                    )));
                }
                Ok(node)
            }
        }
    }
}
