//! The open packs of a transaction that no thread is filling at the moment.

use super::pack_writer::PackWriter;
use crate::disk::Disk;
use crate::error::Result;
use crate::locks::Mutex;
use std::sync::Arc;

/// Open packs that wait for the next thread. Dropping the set removes their files.
pub(super) struct PackSet {
    disk: Arc<Disk>,
    idle: Mutex<Vec<PackWriter>>,
}

impl PackSet {
    pub(super) fn new(disk: Arc<Disk>) -> PackSet {
        PackSet { disk, idle: Mutex::default() }
    }

    /// A pack with room for `len` bytes, if there is one.
    pub(super) fn take_with_room(&self, len: usize) -> Option<PackWriter> {
        let mut idle = self.idle.lock();
        let i = idle.iter().position(|pack| pack.has_room_for(len))?;
        Some(idle.swap_remove(i))
    }

    /// All packs.
    pub(super) fn take_all(&self) -> Vec<PackWriter> {
        std::mem::take(&mut *self.idle.lock())
    }

    /// Takes a pack back.
    pub(super) fn put_back(&self, pack: Option<PackWriter>) {
        self.idle.lock().extend(pack);
    }
}

impl Drop for PackSet {
    /// If a file cannot be removed, a collector removes it.
    fn drop(&mut self) {
        for pack in self.idle.get_mut() {
            let _: Result<()> = self.disk.remove_file(pack.path());
        }
    }
}
