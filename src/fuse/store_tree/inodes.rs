//! Inode numbers of a whole-store mount that are not in a version.

use super::super::attributes::ROOT;

/// The first inode number of artifacts. Below it are the root and links.
pub(super) const ARTIFACTS: u64 = 1 << 32;
/// The first inode number of links to staging directories: the root's, then those of artifacts.
pub(super) const STAGING: u64 = 1 << 31;

/// What an inode outside the versions is.
pub(super) enum InodeKind {
    Root,
    Artifact(u32),
    AliasLink,
    /// A link to the staging directories, of an artifact or of all.
    StagingLink(Option<u32>),
}

impl InodeKind {
    /// The kind of the inode with this number.
    pub(super) fn of(ino: u64) -> InodeKind {
        match ino {
            ROOT => InodeKind::Root,
            _ if ino >= ARTIFACTS => InodeKind::Artifact((ino - ARTIFACTS) as u32),
            STAGING => InodeKind::StagingLink(None),
            _ if ino > STAGING => InodeKind::StagingLink(Some((ino - STAGING - 1) as u32)),
            _ => InodeKind::AliasLink,
        }
    }
}
