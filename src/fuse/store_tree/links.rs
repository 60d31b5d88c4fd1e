//! Inodes of alias links. The target of a link never changes, because the kernel may cache it: an alias that moves gets
//! another inode.

use super::super::attributes::ROOT;
use crate::types::VersionNumber;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Identifies a link: an alias of an artifact, and the version that it points to.
type LinkKey = (u32, String, VersionNumber);

/// The links that were shown. They keep their inode numbers as long as the mount exists.
#[derive(Default)]
pub(super) struct AliasLinks(Mutex<LinkTable>);

#[derive(Default)]
struct LinkTable {
    inodes: HashMap<LinkKey, u64>,
    /// Ordered by inode.
    targets: Vec<(u32, VersionNumber)>,
}

/// The inode of the first link, after the root's.
const FIRST: u64 = ROOT + 1;

impl AliasLinks {
    /// The inode of a link.
    pub(super) fn of(&self, artifact: u32, alias: &str, to: VersionNumber) -> u64 {
        let LinkTable { inodes, targets } = &mut *self.0.lock();
        *inodes.entry((artifact, alias.to_owned(), to)).or_insert_with(|| {
            targets.push((artifact, to));
            FIRST + targets.len() as u64 - 1
        })
    }

    /// The artifact and the version to which a link points.
    pub(super) fn target(&self, ino: u64) -> Option<(u32, VersionNumber)> {
        self.0.lock().targets.get(usize::try_from(ino.checked_sub(FIRST)?).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_its_inode_and_a_moved_one_has_another() {
        let links = AliasLinks::default();
        let to = VersionNumber;
        let first = links.of(0, "prod", to(1));
        assert_eq!(links.of(0, "prod", to(1)), first);
        let moved = links.of(0, "prod", to(2));
        assert_ne!(moved, first);
        assert_eq!((links.target(first), links.target(moved)), (Some((0, to(1))), Some((0, to(2)))));
        assert_eq!(links.target(moved + 1), None);
        assert_eq!(links.target(1), None);
    }
}
