//! What a directory has: files, symbolic links, references and directories.

use super::node::Node;
use super::node_ref::{ChildRef, NodeRef};
use super::node_store::{NodeSource, load_checked};
use super::reference::{Reference, bad_target};
use super::totals::{MAX_BYTES, Totals};
use crate::error::{Error, Result, show_bytes};
use crate::types::{Digest, Location};
use std::sync::Arc;

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
        /// Where the blob probably lies. Never part of the entry's identity.
        place: Option<Location>,
    },
    /// A symbolic link.
    Symlink {
        /// The target as stored in the link: 1–4,095 bytes, no NUL.
        target: Vec<u8>,
    },
    /// A file that is stored elsewhere.
    Reference(Box<Reference>),
    /// A directory.
    Directory(Subtree),
}

impl Entry {
    /// Whether both are the same content: kind, exec bit, digest and size, target, or subtree. Locations do not count.
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

/// A directory as an entry: enough to step into it, to count it, or to put it whole into another tree.
#[derive(Clone, Debug)]
pub struct Subtree(pub(super) DirAt);

/// Where the directory's tree is.
#[derive(Clone, Debug)]
pub(super) enum DirAt {
    /// Its root node is a node of its own.
    Stored(ChildRef),
    /// Its only leaf is inlined in the parent's leaf.
    Inline(Arc<Node>),
}

impl Subtree {
    /// An empty directory.
    pub fn empty() -> Subtree {
        Subtree(DirAt::Inline(Arc::new(Node::empty())))
    }

    /// What is below it.
    pub fn totals(&self) -> Totals {
        match &self.0 {
            DirAt::Stored(s) => s.totals,
            DirAt::Inline(node) => *node.totals(),
        }
    }

    /// A reference to its root node; `None` if the directory is inlined in its parent's leaf.
    #[doc(hidden)]
    pub fn node_ref(&self) -> Option<NodeRef> {
        match &self.0 {
            DirAt::Stored(s) => Some(s.at),
            DirAt::Inline(_) => None,
        }
    }

    /// The digest of its root node, inlined or not: the digest of a version with exactly this content.
    pub fn digest(&self) -> Digest {
        match &self.0 {
            DirAt::Stored(s) => s.at.digest,
            DirAt::Inline(node) => node.digest(),
        }
    }

    /// Whether both have the same entries.
    pub fn same(&self, other: &Subtree) -> bool {
        match (&self.0, &other.0) {
            (DirAt::Stored(a), DirAt::Stored(b)) => a.at.digest == b.at.digest,
            (DirAt::Inline(a), DirAt::Inline(b)) => a.bytes() == b.bytes(),
            _ => false,
        }
    }

    /// Its root node: loaded unless it is inlined, and checked against what the parent records.
    ///
    /// # Errors
    /// Those of the source. Damaged: the node differs from what its parent records.
    #[doc(hidden)]
    pub fn open(&self, source: &dyn NodeSource) -> Result<Arc<Node>> {
        match &self.0 {
            DirAt::Inline(node) => Ok(node.clone()),
            DirAt::Stored(s) => {
                let node = load_checked(source, s)?;
                node.check_root()?;
                if node.fits_inline() {
                    return Err(Error::damaged(format!(
                        "manifest node {}: a directory of {} bytes is not inlined in its parent's leaf",
                        s.at.digest,
                        node.bytes().len()
                    )));
                }
                Ok(node)
            }
        }
    }
}
