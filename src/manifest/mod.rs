//! Manifests: what a version contains, as a forest of order-statistics prolly trees. Pure: no I/O.
//!
//! There is one tree for each directory, keyed by raw names in byte order. A directory whose only leaf is at most 2 KiB
//! is inlined in its parent's leaf. Guarantees:
//! * a root digest depends only on the entries, not on how they came together (L2): the cut is a function of the keys
//!   (`cut`), and each list of entries has one encoding (`encode`);
//! * d changes on n entries read and write O(d log n) nodes (`recut`, L3), also for maliciously chosen names;
//! * equal subtrees are skipped unread, by digest (`diff`, `merge`, L5);
//! * every node is checked when it is decoded, and against its parent when it is stepped into (L6).
//!
//! Not here: where nodes are stored ([`NodeSource`], [`NodeSink`]), whether their bytes have their digest (the source
//! checks that), and whether the blobs exist. Locations are passed along and never interpreted.

mod apply;
mod build;
mod census;
mod cursor;
mod cut;
mod cut_check;
mod diff;
mod encode;
mod entry;
mod format;
mod levels;
mod memory_nodes;
mod merge;
mod node;
mod node_entries;
mod node_ref;
mod node_store;
mod occurrences;
mod ownership;
mod parse;
mod passed;
mod path;
mod rebase;
mod recut;
mod reference;
mod relocate;
mod renames;
mod totals;
mod tree;
mod walk;

pub use cursor::{ListedEntry, Listing};
pub use diff::{Change, Diff};
pub use entry::{Entry, Subtree};
pub use reference::Reference;
pub use totals::Totals;
pub use tree::{FoundEntry, RankedEntry, Tree};
pub use walk::{Visit, Walk};

pub(crate) use internals::*;

/// Nodes, and what is done with them: for the other modules, and through [`crate::internals`] for tests and benches.
pub(crate) mod internals {
    pub use crate::manifest::apply::{Action, Edit, apply, apply_sorted};
    pub use crate::manifest::build::{Builder, RootNode};
    pub use crate::manifest::census::{Census, Visitor};
    pub use crate::manifest::cut_check::digest_by_the_rule;
    pub use crate::manifest::diff::diff;
    pub use crate::manifest::format::{MAX_INLINE, MAX_NODE};
    pub use crate::manifest::memory_nodes::{MemoryNodeCounts, MemoryNodes};
    pub use crate::manifest::merge::{Choice, Conflict, Part, merge};
    pub use crate::manifest::node::{NODE_DOMAIN, Node};
    pub use crate::manifest::node_ref::NodeRef;
    pub use crate::manifest::node_store::{NodeSink, NodeSource};
    pub use crate::manifest::occurrences::Occurrences;
    pub use crate::manifest::ownership::Ownership;
    pub use crate::manifest::passed::{EntryAtRank, PassedDirectories};
    pub use crate::manifest::path::path_order;
    pub use crate::manifest::rebase::{Rebased, rebase};
    pub use crate::manifest::reference::{MAX_ETAG, MAX_TARGET, MAX_URI};
    pub use crate::manifest::relocate::{NodeRelocator, carry};
    pub use crate::manifest::renames::{Renames, renames};
    pub use crate::manifest::totals::MAX_BYTES;
}

#[cfg(test)]
mod tests;
