//! What a mount of a published version shows, and what it holds meanwhile.

use super::{Guard, VersionView};
use crate::catalog::Version;
use crate::clock;
use crate::error::Result;
use crate::lock::{LockFile, Purpose};
use crate::words::Token;

impl VersionView {
    /// The view of a version, and the lock file that tells others of the mount. For the daemon itself: the lock is its process's.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn of(version: &Version) -> Result<(VersionView, Guard)> {
        let purpose = Purpose { purpose: "mount", artifact: Some(version.artifact().as_str()), ..Purpose::default() };
        let guard: Guard = match LockFile::take(version.store(), &Token::fresh(), &purpose) {
            Ok(lock) => Box::new(lock),
            // Who may only read the store may mount it all the same.
            Err(_) => Box::new(()),
        };
        let view = VersionView {
            tree: version.tree()?,
            objects: version.store().objects().clone(),
            commit_time: clock::parse(&version.record().created_at).unwrap_or(0),
            label: version.to_string(),
        };
        Ok((view, guard))
    }
}
