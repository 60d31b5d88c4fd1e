//! What a patch is a difference on, and the changes of it that come before what is added.

use super::changes::Change;
use crate::catalog::Version;
use crate::types::RelPath;

/// What an artifact in the making is a difference on.
#[derive(Debug)]
pub(in crate::commit) struct Basis {
    /// The version; none: the empty one.
    pub base: Option<Version>,
    /// What is done to it first, in order.
    pub ops: Vec<BaseOp>,
    /// A difference made elsewhere, done after that.
    pub changes: Vec<Change>,
    /// The version that it is knowingly put on, whatever was published since.
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
    /// Takes a path away, a directory with all below it.
    Remove(RelPath),
    /// Gives what stands at the first path the second.
    Rename(RelPath, RelPath),
}
