//! Inodes of alias links. A link never changes, since the kernel may keep its target: an alias that moves is another inode.

use crate::words::VersionNumber;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What a link is: an alias of an artifact while it points at a version.
type Key = (u32, String, VersionNumber);

/// The links that the kernel was told of. Bounded by what it remembers.
#[derive(Default)]
pub(super) struct Links(Mutex<Table>);

#[derive(Default)]
struct Table {
    inodes: HashMap<Key, u64>,
    /// By inode: what it is, and how often the kernel was told of it.
    links: HashMap<u64, (Key, u64)>,
    last: u64,
}

impl Links {
    /// The inode of a link.
    pub(super) fn of(&self, artifact: u32, alias: &str, to: VersionNumber) -> u64 {
        let mut table = self.0.lock();
        let key = (artifact, alias.to_owned(), to);
        if let Some(ino) = table.inodes.get(&key) {
            return *ino;
        }
        table.last = table.last.max(super::ROOT) + 1;
        let ino = table.last;
        table.inodes.insert(key.clone(), ino);
        table.links.insert(ino, (key, 0));
        ino
    }

    /// The artifact and the version that a link's inode leads to.
    pub(super) fn target(&self, ino: u64) -> Option<(u32, VersionNumber)> {
        self.0.lock().links.get(&ino).map(|((artifact, _, to), _)| (*artifact, *to))
    }

    /// The kernel is told of it once more.
    pub(super) fn looked_up(&self, ino: u64) {
        if let Some((_, times)) = self.0.lock().links.get_mut(&ino) {
            *times += 1;
        }
    }

    /// The kernel no longer knows it.
    pub(super) fn forget(&self, ino: u64, times: u64) {
        let mut table = self.0.lock();
        let Some((_, known)) = table.links.get_mut(&ino) else { return };
        *known = known.saturating_sub(times);
        if *known == 0
            && let Some((key, _)) = table.links.remove(&ino)
        {
            table.inodes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_inode_until_it_is_forgotten_and_a_moved_one_has_another() {
        let links = Links::default();
        let to = VersionNumber;
        let first = links.of(0, "prod", to(1));
        links.looked_up(first);
        assert_eq!(links.of(0, "prod", to(1)), first);
        assert_ne!(links.of(0, "prod", to(2)), first);
        assert_eq!(links.target(first), Some((0, to(1))));
        links.forget(first, 1);
        assert_eq!(links.target(first), None);
        assert_ne!(links.of(0, "prod", to(1)), first, "a number is not used twice");
    }
}
