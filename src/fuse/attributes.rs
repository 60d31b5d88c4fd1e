//! What a mount says of its files: kinds, attributes, names in a listing, and for how long the kernel may believe it.

use crate::types::MAX_NAME;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The root's inode number.
pub(super) const ROOT: u64 = 1;
/// Bits of an inode number that tell entries of one version apart: rank + 1.
pub(super) const RANK_BITS: u32 = 33;
/// What is below a version never changes: what the kernel has learnt it may keep as long as the mount stands (136
/// years).
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Of a one-version mount's root the kernel asks once a second, so that a `stat` of the mount point shows that its
/// daemon was killed.
pub(super) const ROOT_FOR: Duration = Duration::from_secs(1);
/// What a directory's own size is said to be.
pub(super) const DIRECTORY_SIZE: u64 = 4096;

/// What kind of file the kernel is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
}

/// A point in time: seconds since 1970, nanoseconds.
pub(super) type Time = (i64, u32);

/// What `stat` shows, and how long it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub(super) ino: u64,
    /// Differs between what the same inode number may stand for in two mounts, so that an NFS handle of one is stale in
    /// the other.
    pub(super) generation: u32,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) mode: u16,
    /// User and group of the mounter.
    pub(super) owner: (u32, u32),
    /// All three times.
    pub(super) time: Time,
    /// For how long the name stands for this.
    pub(super) name_for: Duration,
    /// For how long these attributes are right.
    pub(super) attributes_for: Duration,
}

impl Attributes {
    /// For how long name and attributes hold, where one time has to do for both.
    pub(super) fn both_for(&self) -> Duration {
        self.name_for.min(self.attributes_for)
    }

    /// A directory outside of any version, of which all is asked again after `keep`.
    pub(super) fn directory(ino: u64, generation: u32, owner: (u32, u32), time: Time, keep: Duration) -> Attributes {
        Attributes {
            ino,
            generation,
            kind: FileKind::Directory,
            size: DIRECTORY_SIZE,
            mode: 0o755,
            owner,
            time,
            name_for: keep,
            attributes_for: keep,
        }
    }
}

/// A look-up's answer: what stands there, or nothing, which the kernel may remember for so long.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked {
    Found(Attributes),
    Nothing(Duration),
}

/// One name of a directory listing.
pub(super) struct Item<'a> {
    pub(super) name: &'a [u8],
    pub(super) attributes: Attributes,
    /// The offset at which the listing goes on after this one.
    pub(super) next: u64,
}

/// The most that is gathered of a listing at a time.
const LARGEST_PAGE: usize = 1 << 20;

/// A page of a listing on its way into a reply.
pub(super) struct Page {
    names: Vec<u8>,
    items: Vec<(usize, Attributes, u64)>,
    room: usize,
    left: usize,
    header: usize,
}

impl Page {
    /// A page of `room` bytes, in which each name takes `header` bytes more, rounded up to eight.
    pub(super) fn new(room: usize, header: usize) -> Page {
        Page { names: Vec::new(), items: Vec::new(), room, left: room, header }
    }

    /// Takes a name; true when there was no room for it any more.
    pub(super) fn is_full_for(&mut self, item: &Item<'_>) -> bool {
        let takes = (self.header + item.name.len()).next_multiple_of(8);
        if takes > self.left && !self.items.is_empty() {
            return true;
        }
        self.left = self.left.saturating_sub(takes);
        self.names.extend_from_slice(item.name);
        self.items.push((self.names.len(), item.attributes, item.next));
        false
    }

    /// Hands the names over in order until `is_full` says so, and notes in `room` how much was taken, or that it could
    /// have been more.
    pub(super) fn add_to(&self, room: &AtomicUsize, mut is_full: impl FnMut(Item<'_>) -> bool) {
        let (mut from, mut taken) = (0, 0);
        for (end, attributes, next) in &self.items {
            let name = &self.names[from..*end];
            let takes = (self.header + name.len()).next_multiple_of(8);
            if is_full(Item { name, attributes: *attributes, next: *next }) {
                // One name more, so that a request with more room is noticed.
                room.store(taken + takes, Ordering::Relaxed);
                return;
            }
            (from, taken) = (*end, taken + takes);
        }
        if self.left < self.header + MAX_NAME {
            room.store((2 * self.room).min(LARGEST_PAGE), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_what_the_kernel_has_room_for_and_gives_it_back_in_order() {
        let attributes = Attributes::directory(7, 0, (0, 0), (0, 0), FOREVER);
        let mut page = Page::new(100, 24);
        let names: [&[u8]; 4] = [b"a", b"longer-name", b"c", b"d"];
        let full: Vec<bool> = names.iter().map(|name| page.is_full_for(&Item { name, attributes, next: 3 })).collect();
        assert_eq!(full, [false, false, true, true], "32 and 40 fit into 100");
        let (room, mut back) = (AtomicUsize::new(0), Vec::new());
        page.add_to(&room, |item| {
            back.push(item.name.to_vec());
            false
        });
        assert_eq!(back, names[..2]);
        assert_eq!(room.load(Ordering::Relaxed), 200, "all was taken: next time more is gathered");
        page.add_to(&room, |item| item.name == b"longer-name");
        assert_eq!(room.load(Ordering::Relaxed), 72, "what was taken and one more");
    }
}
