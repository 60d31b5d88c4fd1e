//! References to nodes.

use super::totals::Totals;
use crate::types::{Digest, Location};

/// A reference to a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeRef {
    /// Its digest.
    pub digest: Digest,
    /// Where it probably lies.
    pub place: Option<Location>,
}

impl From<Digest> for NodeRef {
    fn from(digest: Digest) -> Self {
        NodeRef { digest, place: None }
    }
}

/// A stored node as its parent records it: where it is, and its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildRef {
    pub at: NodeRef,
    pub totals: Totals,
}
