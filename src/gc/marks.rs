//! What is needed: the content, manifest nodes and packs that the roots lead to.
//!
//! Content is remembered by the first eight bytes of its digest: if two digests share them, garbage only stays longer.
//! Nodes are remembered by their whole digest, because a node that is taken for another would not be walked.

use crate::error::Result;
use crate::manifest::{Entry, Node, NodeSource, Tree};
use crate::objects::{BlobKind, PackContents};

use crate::progress::Progress;
use crate::types::Digest;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// The marks of one collection. They only grow: the second mark walks what the first did not.
#[derive(Default)]
pub(super) struct Marks {
    content: HashSet<u64, BuildHasherDefault<Prefix>>,
    nodes: HashSet<Digest>,
    /// Packs that a manifest lists: they hold its nodes.
    packs: HashSet<Digest>,
}

/// A digest is random already: its prefix is its hash.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 are hashed");
    }

    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }
}

impl Marks {
    /// Marks everything that a manifest names, and the packs that it lists. Subtrees that are marked are skipped (L5).
    ///
    /// # Errors
    /// If a node cannot be read: then nothing may be freed. A conflict, if the collection was cancelled.
    pub(super) fn add(&mut self, tree: &Tree, packs: &[Digest], progress: &Progress) -> Result<()> {
        self.packs.extend(packs);
        if !self.nodes.insert(tree.digest()) {
            return Ok(());
        }
        let mut stack = vec![(tree.root().clone(), 0)];
        while let Some((node, next)) = stack.last_mut() {
            if *next == node.len() {
                stack.pop();
                continue;
            }
            let (node, i) = (node.clone(), *next);
            *next += 1;
            if i == 0 {
                progress.check_cancelled()?;
            }
            if let Some(below) = self.entry(&node, i, &**tree.source())? {
                stack.push((below, 0));
            }
        }
        Ok(())
    }

    /// Marks entry `i` of a node. Returns the node below it if that has to be walked.
    fn entry(&mut self, node: &Node, i: usize, source: &dyn NodeSource) -> Result<Option<Arc<Node>>> {
        let stored = if node.is_leaf() {
            match node.entry(i) {
                Entry::File { digest, .. } => {
                    self.content.insert(digest.prefix());
                    return Ok(None);
                }
                Entry::Symlink { .. } | Entry::Reference(_) => return Ok(None),
                Entry::Directory(dir) => match dir.node_ref() {
                    Some(at) => at,
                    None => return dir.open(source).map(Some),
                },
            }
        } else {
            node.child_ref(i)
        };
        if self.nodes.insert(stored.digest) { source.load(&stored).map(Some) } else { Ok(None) }
    }

    /// Whether an object file is needed.
    pub(super) fn has_object(&self, digest: &Digest) -> bool {
        self.content.contains(&digest.prefix())
    }

    /// Whether a manifest lists a pack.
    pub(super) fn lists_pack(&self, pack: &Digest) -> bool {
        self.packs.contains(pack)
    }

    /// The bytes of a pack's blobs that are needed.
    pub(super) fn needed_bytes(&self, pack: &PackContents) -> u64 {
        let needed = |(digest, kind, len): &(Digest, BlobKind, u32)| {
            let needed = match kind {
                BlobKind::Content => self.content.contains(&digest.prefix()),
                BlobKind::Node => self.nodes.contains(digest),
            };
            if needed { u64::from(*len) } else { 0 }
        };
        pack.blobs.iter().map(needed).sum()
    }
}
