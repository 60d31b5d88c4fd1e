//! What is needed: the content and manifest nodes that the roots lead to.
//!
//! Content is remembered by the first eight bytes of its digest: if two digests share them, garbage only stays longer.
//! Nodes are remembered by their whole digest, because a node that is taken for another would not be walked.

use super::report::Amount;
use crate::error::Result;
use crate::manifest::{Entry, Node, NodeSource, Tree};
use crate::objects::{BlobKind, Objects, RecipeSource, RecipesInPacks, unreadable_recipe};
use crate::prefixes::Prefixes;
use crate::progress::Progress;
use crate::types::Digest;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A set of whole digests.
pub(super) type Digests = HashSet<Digest, BuildHasherDefault<DigestHasher>>;

/// The marks of one collection. They only grow: the second mark walks what the first did not.
#[derive(Default)]
pub(super) struct Marks {
    content: Prefixes,
    nodes: Digests,
    /// What is needed only because composed contents have parts of it: the first bytes of the digests of objects, and
    /// how many bytes these have.
    sources: HashSet<u64, BuildHasherDefault<DigestHasher>>,
    source_bytes: u64,
}

/// A digest is random already: its first bytes are its hash.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {} // the length, which is always the same
}

impl Marks {
    /// Marks everything that a manifest names. Subtrees that are marked are skipped (L5).
    ///
    /// # Errors
    /// If a node cannot be read: then nothing may be freed. A conflict, if the collection was cancelled.
    pub(super) fn add(&mut self, tree: &Tree, progress: &Progress) -> Result<()> {
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
                    self.content.insert(&digest);
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

    /// Marks what the recipes of needed contents take parts of.
    ///
    /// # Errors
    /// Damaged: what a needed content takes parts of cannot be read. Then nothing may be freed.
    pub(super) fn add_sources(&mut self, recipes: &RecipesInPacks, objects: &Objects) -> Result<()> {
        let mut waiting: Vec<&Digest> = recipes.contents().collect();
        loop {
            self.settle();
            let (needed, others): (Vec<&Digest>, Vec<&Digest>) =
                waiting.into_iter().partition(|d| self.needs(d, BlobKind::Recipe));
            if needed.is_empty() {
                return Ok(());
            }
            // Sources are added after the loop: `count_source` asks whether something else names them.
            let mut found = Prefixes::default();
            for digest in needed {
                match recipes.sources(digest) {
                    Ok(sources) => sources.for_each(|source| {
                        self.count_source(source);
                        found.insert(&source.digest);
                    }),
                    // Content that also has an object does not need its recipe.
                    Err(_) if objects.has_object_file(digest)? => {}
                    Err(why) => return Err(unreadable_recipe(objects, digest, why)),
                }
            }
            self.content.append(found);
            // A source may be composed too, besides being an object.
            waiting = others;
        }
    }

    /// Counts an object if nothing else needs it.
    fn count_source(&mut self, source: &RecipeSource) {
        let is_named = source.is_packed() || self.content.position(&source.digest).is_some();
        if !is_named && self.sources.insert(source.digest.prefix()) {
            self.source_bytes += source.size();
        }
    }

    /// The objects that are needed only because composed contents have parts of them.
    pub(super) fn kept_for_parts(&self) -> Amount {
        Amount { files: self.sources.len() as u64, bytes: self.source_bytes }
    }

    /// Ends a mark. From then on the questions below are answered.
    pub(super) fn settle(&mut self) {
        self.content.settle();
    }

    /// Whether a blob is needed.
    pub(super) fn needs(&self, digest: &Digest, kind: BlobKind) -> bool {
        match kind {
            // A recipe has the digest of the content that it composes.
            BlobKind::Content | BlobKind::Recipe => self.content.position(digest).is_some(),
            BlobKind::Node => self.nodes.contains(digest),
        }
    }

    /// The number of a content that is needed: below [`Marks::contents`], and its own until more is marked.
    pub(super) fn content_number(&self, digest: &Digest) -> Option<usize> {
        self.content.position(digest)
    }

    /// How many contents are needed.
    pub(super) fn contents(&self) -> usize {
        self.content.len()
    }
}
