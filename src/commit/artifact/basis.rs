//! The base of a patch, and the changes that are made to it before anything is added.

use super::change_runs::Changes;
use crate::catalog::Version;
use crate::types::RelPath;

/// The base of a patch, and its changes.
#[derive(Debug)]
pub(in crate::commit) struct Basis {
    /// The base version; `None`: an empty one.
    pub base: Option<Version>,
    /// What is done to it first, in this order.
    pub ops: Vec<BaseOp>,
    /// Differences made elsewhere, applied after that, in this order.
    pub changes: Vec<Changes>,
    /// The version that the changes are made on instead of the newest one.
    pub onto: Option<Version>,
}

impl Basis {
    pub(in crate::commit) fn on(base: Option<Version>) -> Basis {
        Basis { base, ops: Vec::new(), changes: Vec::new(), onto: None }
    }
}

/// A change of what the base holds, before anything is added.
#[derive(Clone, Debug)]
pub(in crate::commit) enum BaseOp {
    /// Removes a path, a directory with all that is in it.
    Remove(RelPath),
    /// Renames the first path to the second.
    Rename(RelPath, RelPath),
}
