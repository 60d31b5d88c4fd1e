//! The attributes and listings that a mount shows, and how long the kernel may cache them.

use crate::types::MAX_NAME;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The root's inode number.
pub(super) const ROOT: u64 = 1;
/// The number of bits of an inode number that identify an entry of a version: its rank + 1.
pub(super) const RANK_BITS: u32 = 33;
/// A version never changes, so the kernel may cache it as long as the mount exists (this is 136 years).
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// The kernel asks for the attributes of a one-version mount's root once a second, so that `stat` of the mount point
/// fails if the daemon was killed.
pub(super) const ROOT_FOR: Duration = Duration::from_secs(1);
/// The size that directories show.
pub(super) const DIRECTORY_SIZE: u64 = 4096;

/// The size of a reference whose size is not known yet. If it were 0, the kernel would answer a read by itself, and a
/// program would take the file for empty. The kernel may not keep it: before it takes it for the end of the file, it
/// asks again.
pub(super) const UNKNOWN_SIZE: u64 = 1;

/// The file types of a read-only mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
}

/// A point in time: seconds since 1970, nanoseconds.
pub(super) type Time = (i64, u32);

/// What `stat` shows, and how long the kernel may cache it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub(super) ino: u64,
    /// Differs between mounts in which an inode number can mean different files, so that an NFS handle of one mount is
    /// stale in the other.
    pub(super) generation: u32,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) mode: u16,
    /// The mounting user and group.
    pub(super) owner: (u32, u32),
    /// The access, modification and change time.
    pub(super) time: Time,
    /// How long the kernel may cache the name.
    pub(super) name_for: Duration,
    /// How long the kernel may cache the attributes.
    pub(super) attributes_for: Duration,
}

impl Attributes {
    /// How long the kernel may cache both, where the protocol has one time for name and attributes.
    pub(super) fn both_for(&self) -> Duration {
        self.name_for.min(self.attributes_for)
    }

    /// Whether it may be a reference whose size is not known.
    pub(super) fn may_lack_size(&self) -> bool {
        self.kind == FileKind::File && self.size == UNKNOWN_SIZE && self.attributes_for.is_zero()
    }

    /// A directory outside the versions; the kernel may cache it for `keep`.
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

/// The result of a look-up: what has the name, or that nothing has it, which the kernel may cache for that time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked {
    Found(Attributes),
    Nothing(Duration),
}

/// One name of a directory listing.
pub(super) struct ListedName<'a> {
    pub(super) name: &'a [u8],
    pub(super) attributes: Attributes,
    /// The offset of the entry after this one.
    pub(super) next: u64,
}

/// The most bytes of a listing that are collected at a time.
const LARGEST_PAGE: usize = 1 << 20;

/// A part of a listing that is collected for a reply.
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

    /// Adds a name. Returns true if there was no room for it.
    pub(super) fn is_full_for(&mut self, item: &ListedName<'_>) -> bool {
        let takes = (self.header + item.name.len()).next_multiple_of(8);
        if takes > self.left && !self.items.is_empty() {
            return true;
        }
        self.left = self.left.saturating_sub(takes);
        self.names.extend_from_slice(item.name);
        self.items.push((self.names.len(), item.attributes, item.next));
        false
    }

    /// Passes the names on in order until `is_full` returns true. Stores in `room` how much was taken, or a larger
    /// number if all was.
    pub(super) fn add_to(&self, room: &AtomicUsize, mut is_full: impl FnMut(ListedName<'_>) -> bool) {
        let (mut from, mut taken) = (0, 0);
        for (end, attributes, next) in &self.items {
            let name = &self.names[from..*end];
            let takes = (self.header + name.len()).next_multiple_of(8);
            if is_full(ListedName { name, attributes: *attributes, next: *next }) {
                // One name more is collected next time, to notice a request with more room.
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
        let full: Vec<bool> =
            names.iter().map(|name| page.is_full_for(&ListedName { name, attributes, next: 3 })).collect();
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
