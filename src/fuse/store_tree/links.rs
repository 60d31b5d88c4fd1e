//! Inodes of alias links. A link never changes, since the kernel may keep its target: an alias that moves is another
//! inode.

use crate::types::VersionNumber;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What a link is: an alias of an artifact while it points at a version.
type Key = (u32, String, VersionNumber);

/// The links that were shown. They keep their numbers for the mount's life; there are as many as moves that were seen.
#[derive(Default)]
pub(super) struct Links(Mutex<Table>);

#[derive(Default)]
struct Table {
    inodes: HashMap<Key, u64>,
    /// In the order of their inodes.
    targets: Vec<(u32, VersionNumber)>,
}

/// The first link's inode: after the root's.
const FIRST: u64 = super::ROOT + 1;

impl Links {
    /// The inode of a link.
    pub(super) fn of(&self, artifact: u32, alias: &str, to: VersionNumber) -> u64 {
        let Table { inodes, targets } = &mut *self.0.lock();
        *inodes.entry((artifact, alias.to_owned(), to)).or_insert_with(|| {
            targets.push((artifact, to));
            FIRST + targets.len() as u64 - 1
        })
    }

    /// The artifact and the version that a link's inode leads to.
    pub(super) fn target(&self, ino: u64) -> Option<(u32, VersionNumber)> {
        self.0.lock().targets.get(usize::try_from(ino.checked_sub(FIRST)?).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_its_inode_and_a_moved_one_has_another() {
        let links = Links::default();
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
