//! Which requests of which users a staging mount answers.

use super::admission::{Admission, Requester};
use super::tree::StagingTree;
use crate::error::{Error, Result};
use crate::fuse::errno::ErrnoResult;
use std::sync::Arc;

/// The permissions of users in a mount.
pub(super) struct Permissions {
    tree: Arc<StagingTree>,
    admission: Admission,
}

impl Permissions {
    pub(super) fn new(tree: Arc<StagingTree>, admission: Admission) -> Permissions {
        Permissions { tree, admission }
    }

    /// Whether to answer a request. EACCES for a change by a user who may not write to the store, and for a request
    /// that would resume the open run of another user.
    pub(super) fn admit(&self, requester: Requester, node: u64, changes: bool) -> ErrnoResult<()> {
        if self.admission.is_private() {
            return Ok(());
        }
        let may = match self.tree.owner_of_open(node) {
            Some(owner) => {
                self.admission.is_own(requester) || owner == requester.uid && self.admission.may_write(requester)
            }
            None => true,
        };
        if may && (!changes || self.admission.may_write(requester)) { Ok(()) } else { Err(libc::EACCES) }
    }

    /// Refuses to seal the run of another user.
    ///
    /// # Errors
    /// Refused.
    pub(super) fn check_may_seal(&self, requester: Requester, node: u64) -> Result<()> {
        if self.admission.is_own(requester) {
            return Ok(());
        }
        let owner = self.tree.owner_of_run(node).filter(|owner| *owner != requester.uid);
        match owner {
            Some(owner) => Err(Error::conflict(format!("user {} may not seal the run of user {owner}", requester.uid))
                .with_hint(format!("user {owner} can seal it, and so can the user who mounted"))),
            None if !self.admission.may_write(requester) => {
                Err(Error::conflict(format!("user {} may not write to the store", requester.uid)))
            }
            None => Ok(()),
        }
    }
}
