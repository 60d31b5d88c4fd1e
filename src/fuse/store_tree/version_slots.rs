//! The versions of a whole-store mount: a slot for each version that was looked up, with its tree while it is in use,
//! and its pin.
//!
//! A version is pinned before the first look-up below its root, and unpinned when the kernel has forgotten the root.
//! Until then open files stay readable, even if another process removes the version. A version keeps its slot, and with
//! it its inode numbers, as long as the mount exists.

use super::super::attributes::{Attributes, FOREVER, RANK_BITS};
use super::super::errno::{FuseResult, RequestFailure};
use super::super::version::VersionTree;
use super::inodes::ARTIFACTS;
use super::listings::ArtifactListings;
use crate::catalog::{Version, removal};
use crate::clock;
use crate::error::{Error, Result};
use crate::manifest::PassedDirectories;
use crate::pins::Pins;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Slot numbers have 20 bits, so that an inode number fits into 53 bits, which even a floating-point number can hold.
const MAX_SLOTS: usize = 1 << 20;
/// How many trees are open at a time. The one that was opened first is closed, and opened again when it is needed. Each
/// holds a root node.
const OPEN_TREES: usize = 256;

/// A mount that holds more pins than this asks the kernel to forget the versions that it pinned first, until half as
/// many are left. So a walk over all versions does not leave a pin for each. (Small in development builds, so that the
/// tests reach it.)
const MAX_PINNED: usize = if cfg!(debug_assertions) { 32 } else { 1 << 10 };

/// One version.
struct VersionSlot {
    artifact: u32,
    number: VersionNumber,
    time: OnceLock<i64>,
    /// The kernel's look-up count of the root.
    lookups: AtomicU64,
    tree: RwLock<Option<Arc<VersionTree>>>,
    /// Whether it is pinned. Locked while the version is pinned, opened or released.
    pinned: Mutex<bool>,
}

/// The slots of one mount.
pub(super) struct VersionSlots {
    store: Store,
    owner: (u32, u32),
    generation: u32,
    pins: Option<Arc<Pins>>,
    passed: Arc<PassedDirectories>,
    table: RwLock<SlotTable>,
    /// Slots with open trees, oldest first.
    open: Mutex<VecDeque<u32>>,
    /// Pinned slots, those that were pinned first in front.
    pinned: Mutex<VecDeque<u32>>,
    /// Slots whose root the kernel has forgotten.
    forgotten: Mutex<Vec<u32>>,
}

#[derive(Default)]
struct SlotTable {
    /// Slot n is at n − 1.
    slots: Vec<Arc<VersionSlot>>,
    numbers: HashMap<(u32, VersionNumber), u32>,
}

impl VersionSlots {
    pub(super) fn new(store: Store, owner: (u32, u32), generation: u32, pins: Option<Arc<Pins>>) -> VersionSlots {
        VersionSlots {
            store,
            owner,
            generation,
            pins,
            passed: Arc::default(),
            table: RwLock::default(),
            open: Mutex::default(),
            pinned: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }

    /// The slot of a version; a new one if it has none.
    ///
    /// # Errors
    /// Refused when a million versions have been looked up.
    pub(super) fn of(&self, artifact: u32, number: VersionNumber) -> Result<u32> {
        if let Some(slot) = self.table.read().numbers.get(&(artifact, number)) {
            return Ok(*slot);
        }
        let table = &mut *self.table.write();
        if table.slots.len() + 1 >= MAX_SLOTS {
            return Err(Error::conflict(
                "this mount has shown a million versions, which is the limit: unmount the store and mount it again",
            ));
        }
        Ok(*table.numbers.entry((artifact, number)).or_insert_with(|| {
            let (time, lookups) = (OnceLock::new(), AtomicU64::new(0));
            table.slots.push(Arc::new(VersionSlot {
                artifact,
                number,
                time,
                lookups,
                tree: RwLock::default(),
                pinned: Mutex::default(),
            }));
            table.slots.len() as u32
        }))
    }

    fn at(&self, slot: u32) -> FuseResult<Arc<VersionSlot>> {
        self.table.read().slots.get((slot as usize).wrapping_sub(1)).cloned().ok_or(RequestFailure::Stale)
    }

    /// The inode of the root of a slot's version.
    pub(super) fn root(slot: u32) -> u64 {
        (u64::from(slot) << RANK_BITS) + 1
    }

    /// Whether `ino` is the inode of a version's root.
    pub(super) fn is_root(&self, ino: u64) -> bool {
        ino & ((1 << RANK_BITS) - 1) == 1
    }

    /// The version in a slot.
    pub(super) fn version(&self, slot: u32) -> FuseResult<(u32, VersionNumber)> {
        self.at(slot).map(|s| (s.artifact, s.number))
    }

    /// When a slot's version was committed, if its record was read already.
    pub(super) fn known_time(&self, slot: u32) -> Option<i64> {
        self.at(slot).ok()?.time.get().copied()
    }

    /// When a slot's version was committed.
    pub(super) fn time(&self, slot: u32, name: &ArtifactName) -> FuseResult<i64> {
        let slot = self.at(slot)?;
        if let Some(time) = slot.time.get() {
            return Ok(*time);
        }
        let version = Version::read(&self.store, name, slot.number)?.ok_or(RequestFailure::Gone)?;
        Ok(*slot.time.get_or_init(|| clock::parse(&version.record().created_at).unwrap_or(0)))
    }

    /// The attributes of a version's root; the kernel may cache its name for `keep`.
    pub(super) fn attributes(&self, slot: u32, time: i64, keep: Duration) -> Attributes {
        Attributes {
            attributes_for: FOREVER,
            ..Attributes::directory(VersionSlots::root(slot), self.generation, self.owner, (time, 0), keep)
        }
    }

    /// The tree of a slot's version, which is opened and pinned if necessary.
    pub(super) fn tree(&self, number: u32, listings: &ArtifactListings) -> FuseResult<Arc<VersionTree>> {
        let slot = self.at(number)?;
        if let Some(tree) = &*slot.tree.read() {
            return Ok(tree.clone());
        }
        let name = listings.name(slot.artifact).ok_or(RequestFailure::Stale)?;
        let mut pinned = slot.pinned.lock();
        if let Some(tree) = &*slot.tree.read() {
            return Ok(tree.clone());
        }
        if !*pinned {
            *pinned = self.pin(&name, slot.number)?;
            if *pinned {
                self.pinned.lock().push_back(number);
            }
        }
        let version = Version::read(&self.store, &name, slot.number)?.ok_or(RequestFailure::Gone)?;
        let time = *slot.time.get_or_init(|| clock::parse(&version.record().created_at).unwrap_or(0));
        let above = ARTIFACTS + u64::from(slot.artifact);
        let tree = Arc::new(VersionTree::in_slot(
            version.tree()?,
            self.passed.clone(),
            time,
            number.into(),
            self.generation,
            above,
            self.owner,
        ));
        *slot.tree.write() = Some(tree.clone());
        drop(pinned);
        self.close_oldest(number);
        Ok(tree)
    }

    /// Pins a version, then checks with a revalidated lookup that it is not removed. Returns false if this mount holds
    /// no pins.
    fn pin(&self, name: &ArtifactName, number: VersionNumber) -> FuseResult<bool> {
        let pinned = self.pins.as_ref().is_some_and(|pins| pins.pin(name, number).is_ok());
        if !removal::is_removed(&self.store, name, number)? {
            return Ok(pinned);
        }
        self.unpin(name, number);
        Err(RequestFailure::Gone)
    }

    fn unpin(&self, name: &ArtifactName, number: VersionNumber) {
        if let Some(pins) = &self.pins {
            // A pin that cannot be removed now goes away with the mount.
            drop(pins.unpin(name, number));
        }
    }

    fn close_oldest(&self, opened: u32) {
        let mut open = self.open.lock();
        open.push_back(opened);
        let oldest = if open.len() > OPEN_TREES { open.pop_front() } else { None };
        drop(open);
        if let Some(slot) = oldest.and_then(|n| self.at(n).ok()) {
            slot.tree.write().take();
        }
    }

    /// Whether the kernel knows the root of a slot's version.
    pub(super) fn is_known(&self, slot: u32) -> bool {
        self.at(slot).is_ok_and(|slot| slot.lookups.load(Ordering::Relaxed) > 0)
    }

    /// Counts a look-up of a version's root by the kernel.
    pub(super) fn looked_up(&self, slot: u32) {
        if let Ok(slot) = self.at(slot) {
            slot.lookups.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Subtracts look-ups that the kernel has forgotten. [`VersionSlots::release_forgotten`] does the rest later.
    pub(super) fn forget(&self, number: u32, times: u64) {
        let Ok(slot) = self.at(number) else { return };
        if slot.lookups.fetch_sub(times, Ordering::Relaxed) == times {
            self.forgotten.lock().push(number);
        }
    }

    /// Closes and unpins the versions whose roots the kernel has forgotten.
    pub(super) fn release_forgotten(&self, listings: &ArtifactListings) {
        let forgotten = std::mem::take(&mut *self.forgotten.lock());
        for number in forgotten {
            let Ok(slot) = self.at(number) else { continue };
            let mut pinned = slot.pinned.lock();
            // If it was looked up again meanwhile, it is in use, and another forget will come.
            if slot.lookups.load(Ordering::Relaxed) > 0 {
                continue;
            }
            slot.tree.write().take();
            self.open.lock().retain(|n| *n != number);
            if std::mem::take(&mut *pinned)
                && let Some(name) = listings.name(slot.artifact)
            {
                self.unpin(&name, slot.number);
                self.pinned.lock().retain(|n| *n != number);
            }
        }
    }

    /// The slots that were pinned first, if there are too many. Those that are in use stay pinned, and come again after
    /// the others.
    pub(super) fn pinned_too_long(&self) -> Vec<u32> {
        let mut pinned = self.pinned.lock();
        let surplus = if pinned.len() > MAX_PINNED { pinned.len() - MAX_PINNED / 2 } else { 0 };
        pinned.rotate_left(surplus);
        pinned.iter().rev().take(surplus).copied().collect()
    }

    /// The slots of versions whose pins another process asks for.
    pub(super) fn wanted(&self, listings: &ArtifactListings) -> Vec<u32> {
        let wanted = self.pins.as_ref().and_then(|pins| pins.wanted().ok()).unwrap_or_default();
        let find = |(name, number): (ArtifactName, VersionNumber)| {
            let artifact = listings.find(name.as_str().as_bytes()).ok()??;
            self.table.read().numbers.get(&(artifact, number)).copied()
        };
        wanted.into_iter().filter_map(find).collect()
    }

    /// The slots of removed versions that this mount still uses.
    pub(super) fn removed_in_use(&self, listings: &ArtifactListings) -> Vec<u32> {
        let slots: Vec<Arc<VersionSlot>> = self.table.read().slots.clone();
        let mut by_artifact: BTreeMap<u32, Vec<(VersionNumber, u32)>> = BTreeMap::new();
        for (slot, number) in
            slots.iter().zip(1..).filter(|(s, _)| s.lookups.load(Ordering::Relaxed) > 0 && s.tree.read().is_some())
        {
            by_artifact.entry(slot.artifact).or_default().push((slot.number, number));
        }
        let mut found = Vec::new();
        for (artifact, numbers) in by_artifact {
            let Some(name) = listings.name(artifact) else { continue };
            // If the store cannot be read now, the next call tries again.
            let removed = removal::removed(&self.store, &name).unwrap_or_default();
            found.extend(numbers.into_iter().filter(|(v, _)| removed.binary_search(v).is_ok()).map(|(_, slot)| slot));
        }
        found
    }
}
