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
mod parse;
mod path;
mod rebase;
mod recut;
mod reference;
mod relocate;
mod totals;
mod tree;
mod walk;

pub use apply::{Action, Edit, apply, apply_sorted};
pub use build::{Builder, Root};
pub use census::{Census, Visitor};
pub use cursor::{ListedEntry, Listing};
pub use diff::{Change, Diff, diff};
pub use entry::{Dir, Entry};
pub use format::{MAX_INLINE, MAX_NODE};
pub use memory_nodes::{MemoryNodeCounts, MemoryNodes};
pub use merge::{Choice, Conflict, Part, merge};
pub use node::{NODE_DOMAIN, Node};
pub use node_ref::NodeRef;
pub use node_store::{NodeSink, NodeSource};
pub use path::path_order;
pub use rebase::{Rebased, rebase};
pub use reference::{MAX_ETAG, MAX_TARGET, MAX_URI, Reference};
pub use relocate::{Layered, NodeRelocator, carry};
pub use totals::{MAX_BYTES, Totals};
pub use tree::{FoundEntry, RankedEntry, Tree};
pub use walk::{Visit, Walk};

#[cfg(test)]
mod tests;
