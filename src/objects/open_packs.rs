//! Packs that are kept open for reading.

use super::pack_file::PackFile;
use crate::locks::RwLock;
use crate::types::PackRef;
use std::sync::Arc;

/// At most this many packs are kept open.
const MAX_OPEN_PACKS: usize = 256;

type PackSlot = RwLock<Option<(PackRef, Arc<PackFile>)>>;

/// Open packs, each in the slot of its number modulo [`MAX_OPEN_PACKS`]: bounded, and without one lock for all readers.
#[derive(Debug)]
pub(super) struct OpenPacks(Box<[PackSlot]>);

impl Default for OpenPacks {
    fn default() -> Self {
        OpenPacks((0..MAX_OPEN_PACKS).map(|_| RwLock::cache()).collect())
    }
}

impl OpenPacks {
    fn slot(&self, pack: PackRef) -> &PackSlot {
        &self.0[pack.0 as usize % MAX_OPEN_PACKS]
    }

    pub(super) fn get(&self, pack: PackRef) -> Option<Arc<PackFile>> {
        self.slot(pack).read().as_ref().filter(|(p, _)| *p == pack).map(|(_, file)| file.clone())
    }

    pub(super) fn put(&self, pack: PackRef, file: Arc<PackFile>) {
        let before = self.slot(pack).write().replace((pack, file));
        drop(before); // closing may wait for a server, so not under the lock
    }

    /// Closes all packs.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slot| drop(slot.write().take()));
    }

    /// Closes a pack: its handle is stale, or a repair may have replaced the file.
    pub(super) fn forget(&self, pack: PackRef) {
        let before = self.slot(pack).write().take_if(|(p, _)| *p == pack);
        drop(before);
    }
}
