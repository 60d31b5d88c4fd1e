//! References to nodes.

use super::totals::Totals;
use crate::types::{Digest, Location};

/// A node as its parent names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeRef {
    /// Its digest.
    pub digest: Digest,
    /// Where it is thought to lie.
    pub place: Option<Location>,
}

impl From<Digest> for NodeRef {
    fn from(digest: Digest) -> Self {
        NodeRef { digest, place: None }
    }
}

/// A stored node seen from above: where it is, and what it must add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildRef {
    pub at: NodeRef,
    pub totals: Totals,
}
