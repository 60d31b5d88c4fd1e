//! Files that are open for passthrough. The kernel requires that all opens of an inode use the same backing.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The open files, by inode.
pub(super) struct Opens<B> {
    table: Mutex<HashMap<u64, Opened<B>>>,
}

/// The backing of all opens of an inode (`None`: they go through the daemon), and their number.
struct Opened<B> {
    backing: Arc<Option<B>>,
    count: u64,
}

impl<B> Default for Opens<B> {
    fn default() -> Self {
        Opens::new()
    }
}

impl<B> Opens<B> {
    pub(super) fn new() -> Opens<B> {
        Opens { table: Mutex::default() }
    }

    /// Counts an open of an inode that is open already.
    pub(super) fn join(&self, ino: u64) -> Option<Arc<Option<B>>> {
        let mut table = self.table.lock();
        let opened = table.get_mut(&ino)?;
        opened.count += 1;
        Some(opened.backing.clone())
    }

    /// Counts an open. The first one decides the backing.
    pub(super) fn begin(&self, ino: u64, backing: Option<B>) -> Arc<Option<B>> {
        let mut table = self.table.lock();
        let opened = table.entry(ino).or_insert_with(|| Opened { backing: Arc::new(backing), count: 0 });
        opened.count += 1;
        opened.backing.clone()
    }

    /// Counts a close.
    pub(super) fn end(&self, ino: u64) {
        let mut table = self.table.lock();
        if let Some(opened) = table.get_mut(&ino) {
            opened.count -= 1;
            if opened.count == 0 {
                let gone = table.remove(&ino);
                drop(table);
                drop(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_opens_of_an_inode_share_the_backing_of_the_first_until_the_last_is_closed() {
        let opens = Opens::new();
        assert!(opens.join(7).is_none());
        assert_eq!(*opens.begin(7, Some("a")), Some("a"));
        assert_eq!(*opens.begin(7, Some("late")), Some("a"), "two came at once");
        assert_eq!(opens.join(7).as_deref(), Some(&Some("a")));
        (0..3).for_each(|_| opens.end(7));
        opens.end(7);
        assert!(opens.join(7).is_none());
        assert_eq!(*opens.begin(7, None), None);
    }
}
