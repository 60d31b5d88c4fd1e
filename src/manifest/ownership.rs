//! Which of several owners alone has which content: each node is read at most twice, however many manifests share it.

use super::entry::{DirAt, Entry, Subtree};
use super::node::Node;
use super::node_ref::ChildRef;
use super::tree::Tree;
use crate::error::Result;
use crate::types::Digest;
use std::collections::HashMap;
use std::sync::Arc;

/// Who has a node or a file.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    One(u32),
    Several,
}

/// Calls the function that it gets with everything that a file's content is stored as, and its size.
pub type Parts<'a> = &'a dyn Fn(&Digest, u64, &mut dyn FnMut(&Digest, u64));

/// The content of owners, which are numbered from 0. An owner can have any number of manifests.
#[derive(Debug, Default)]
pub struct Ownership {
    nodes: HashMap<Digest, Owner>,
    /// By the first eight bytes of the digest. If two contents share them, one counts as the other.
    parts: HashMap<u64, Owner>,
    alone: HashMap<u32, u64>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Owner::One(owner) => write!(f, "{owner}"),
            Owner::Several => f.write_str("several"),
        }
    }
}

impl Ownership {
    /// Records that `owner` has what is in `tree`. `parts` says as what the content of its files is stored.
    ///
    /// # Errors
    /// Damaged or I/O: a node cannot be read. What was visited before counts.
    pub fn add(&mut self, owner: u32, tree: &Tree, parts: Parts<'_>) -> Result<()> {
        if !self.enter(owner, tree.digest()) {
            return Ok(());
        }
        let mut stack: Vec<(Arc<Node>, usize)> = vec![(tree.root().clone(), 0)];
        while let Some((node, next)) = stack.last_mut() {
            let i = *next;
            if i == node.len() {
                stack.pop();
                continue;
            }
            *next += 1;
            let below: ChildRef = if node.is_leaf() {
                match node.entry(i) {
                    Entry::File { digest, size, .. } => {
                        parts(&digest, size, &mut |part, size| self.part(owner, part, size));
                        continue;
                    }
                    Entry::Directory(Subtree(DirAt::Inline(inlined))) => {
                        stack.push((inlined, 0));
                        continue;
                    }
                    Entry::Directory(Subtree(DirAt::Stored(below))) => below,
                    Entry::Symlink { .. } | Entry::Reference(_) => continue,
                }
            } else {
                node.child(i)
            };
            if self.enter(owner, below.at.digest) {
                stack.push((tree.source().load(&below.at)?, 0));
            }
        }
        Ok(())
    }

    /// The bytes of what only `owner` has.
    pub fn alone(&self, owner: u32) -> u64 {
        self.alone.get(&owner).copied().unwrap_or(0)
    }

    /// Whether what is below a node is still to be visited for `owner`.
    fn enter(&mut self, owner: u32, digest: Digest) -> bool {
        match self.nodes.get(&digest) {
            None => {
                self.nodes.insert(digest, Owner::One(owner));
                true
            }
            Some(Owner::Several) => false,
            Some(Owner::One(first)) if *first == owner => false,
            Some(Owner::One(_)) => {
                self.nodes.insert(digest, Owner::Several);
                true
            }
        }
    }

    fn part(&mut self, owner: u32, digest: &Digest, size: u64) {
        let key = digest.prefix();
        match self.parts.get(&key) {
            None => {
                self.parts.insert(key, Owner::One(owner));
                *self.alone.entry(owner).or_default() += size;
            }
            Some(Owner::One(first)) if *first != owner => {
                let alone = self.alone.entry(*first).or_default();
                *alone = alone.saturating_sub(size);
                self.parts.insert(key, Owner::Several);
            }
            Some(_) => {}
        }
    }
}
