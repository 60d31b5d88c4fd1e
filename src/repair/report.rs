//! What a repair did.

use crate::verify::VerifyReport;
use serde::Serialize;

/// What a repair changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Repaired {
    /// File contents that were stored again.
    pub contents: u64,
    /// Manifest nodes that were stored again.
    pub nodes: u64,
    /// Records, numbers and `manifest` files that were written again.
    pub records: u64,
    /// Index segments that were written again.
    pub segments: u64,
    /// Objects and packs that are right, and have their mode and time again.
    pub modes: u64,
    /// Damaged objects that nothing names, and damaged packs of which all that is right was kept: removed.
    pub cleared: u64,
}

impl Repaired {
    pub(super) fn is_empty(&self) -> bool {
        *self == Repaired::default()
    }

    pub(super) fn add(&mut self, other: &Repaired) {
        self.contents += other.contents;
        self.nodes += other.nodes;
        self.records += other.records;
        self.segments += other.segments;
        self.modes += other.modes;
        self.cleared += other.cleared;
    }
}

/// What a repair did, and what is still wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was changed.
    pub repaired: Repaired,
    /// What `verify` finds afterwards.
    #[serde(flatten)]
    pub after: VerifyReport,
}
