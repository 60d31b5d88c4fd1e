//! The versions of a whole-store mount: a slot for each that was looked up, its tree while it is in use, and its pin.
//!
//! A version is pinned before the first look below its root, and unpinned when the kernel no longer knows the root:
//! until then what is open stays readable, whoever removes the version. Slots stay for the mount's life, so inode
//! numbers do too.

use super::super::attributes::{Attributes, FOREVER, RANK_BITS};
use super::super::errno::{Answer, Failure};
use super::super::version::VersionTree;
use super::shelves::Shelves;
use crate::catalog::{Version, removal};
use crate::clock;
use crate::error::{Error, Result};
use crate::pins::Pins;
use crate::store::Store;
use crate::types::{ArtifactName, VersionNumber};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Slots are numbered with 20 bits, so that an inode number keeps within the 53 bits that any program's numbers hold.
const MOST_SLOTS: usize = 1 << 20;
/// Trees that are open at a time; the one opened first goes, and is opened again when it is needed. Each holds a root
/// node.
const OPEN_TREES: usize = 256;

/// One version.
struct Slot {
    artifact: u32,
    number: VersionNumber,
    time: OnceLock<i64>,
    /// How often the kernel was told of the root and has not forgotten it.
    looked_up: AtomicU64,
    tree: RwLock<Option<Arc<VersionTree>>>,
    /// Held while the version is pinned, opened or let go of.
    pinned: Mutex<bool>,
}

/// The slots of one mount.
pub(super) struct Slots {
    store: Store,
    owner: (u32, u32),
    generation: u32,
    pins: Option<Arc<Pins>>,
    table: RwLock<Table>,
    /// Slots with open trees, in the order in which they were opened.
    open: Mutex<VecDeque<u32>>,
    /// Slots whose root the kernel has forgotten.
    forgotten: Mutex<Vec<u32>>,
}

#[derive(Default)]
struct Table {
    /// Slot n is at n − 1.
    slots: Vec<Arc<Slot>>,
    numbers: HashMap<(u32, VersionNumber), u32>,
}

impl Slots {
    pub(super) fn new(store: Store, owner: (u32, u32), generation: u32, pins: Option<Arc<Pins>>) -> Slots {
        Slots {
            store,
            owner,
            generation,
            pins,
            table: RwLock::default(),
            open: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }

    /// The slot of a version, a new one if it has none yet.
    ///
    /// # Errors
    /// Refused when a million versions were looked up.
    pub(super) fn of(&self, artifact: u32, number: VersionNumber) -> Result<u32> {
        if let Some(slot) = self.table.read().numbers.get(&(artifact, number)) {
            return Ok(*slot);
        }
        let table = &mut *self.table.write();
        if table.slots.len() + 1 >= MOST_SLOTS {
            return Err(Error::conflict("this mount has shown a million versions: mount the store anew"));
        }
        Ok(*table.numbers.entry((artifact, number)).or_insert_with(|| {
            let (time, looked_up) = (OnceLock::new(), AtomicU64::new(0));
            table.slots.push(Arc::new(Slot {
                artifact,
                number,
                time,
                looked_up,
                tree: RwLock::default(),
                pinned: Mutex::default(),
            }));
            table.slots.len() as u32
        }))
    }

    fn at(&self, slot: u32) -> Answer<Arc<Slot>> {
        self.table.read().slots.get((slot as usize).wrapping_sub(1)).cloned().ok_or(Failure::Stale)
    }

    /// The inode of the root of a slot's version.
    pub(super) fn root(slot: u32) -> u64 {
        (u64::from(slot) << RANK_BITS) + 1
    }

    /// Whether that is the inode of a version's root.
    pub(super) fn is_root(&self, ino: u64) -> bool {
        ino & ((1 << RANK_BITS) - 1) == 1
    }

    /// The version in a slot.
    pub(super) fn version(&self, slot: u32) -> Answer<(u32, VersionNumber)> {
        self.at(slot).map(|s| (s.artifact, s.number))
    }

    /// When a slot's version was committed, if that was read already.
    pub(super) fn known_time(&self, slot: u32) -> Option<i64> {
        self.at(slot).ok()?.time.get().copied()
    }

    /// When a slot's version was committed.
    pub(super) fn time(&self, slot: u32, name: &ArtifactName) -> Answer<i64> {
        let slot = self.at(slot)?;
        if let Some(time) = slot.time.get() {
            return Ok(*time);
        }
        let version = Version::read(&self.store, name, slot.number)?.ok_or(Failure::Gone)?;
        Ok(*slot.time.get_or_init(|| clock::parse(&version.record().created_at).unwrap_or(0)))
    }

    /// What `stat` shows of a version's root, whose name may be kept for so long.
    pub(super) fn attributes(&self, slot: u32, time: i64, keep: Duration) -> Attributes {
        Attributes {
            attributes_for: FOREVER,
            ..Attributes::directory(Slots::root(slot), self.generation, self.owner, (time, 0), keep)
        }
    }

    /// The tree of a slot's version, opened and pinned when it is not.
    pub(super) fn tree(&self, number: u32, shelves: &Shelves) -> Answer<Arc<VersionTree>> {
        let slot = self.at(number)?;
        if let Some(tree) = &*slot.tree.read() {
            return Ok(tree.clone());
        }
        let name = shelves.name(slot.artifact).ok_or(Failure::Stale)?;
        let mut pinned = slot.pinned.lock();
        if let Some(tree) = &*slot.tree.read() {
            return Ok(tree.clone());
        }
        if !*pinned {
            *pinned = self.pin(&name, slot.number)?;
        }
        let version = Version::read(&self.store, &name, slot.number)?.ok_or(Failure::Gone)?;
        let time = *slot.time.get_or_init(|| clock::parse(&version.record().created_at).unwrap_or(0));
        let above = super::ARTIFACTS + u64::from(slot.artifact);
        let tree =
            Arc::new(VersionTree::in_slot(version.tree()?, time, number.into(), self.generation, above, self.owner));
        *slot.tree.write() = Some(tree.clone());
        drop(pinned);
        self.close_oldest(number);
        Ok(tree)
    }

    /// Pins a version and then looks, FRESH, that it is not removed. False when this mount holds no pins.
    fn pin(&self, name: &ArtifactName, number: VersionNumber) -> Answer<bool> {
        let pinned = self.pins.as_ref().is_some_and(|pins| pins.pin(name, number).is_ok());
        if !removal::is_removed(&self.store, name, number)? {
            return Ok(pinned);
        }
        self.unpin(name, number);
        Err(Failure::Gone)
    }

    fn unpin(&self, name: &ArtifactName, number: VersionNumber) {
        if let Some(pins) = &self.pins {
            // One that stays goes with the mount.
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
        self.at(slot).is_ok_and(|slot| slot.looked_up.load(Ordering::Relaxed) > 0)
    }

    /// The kernel is told of a version's root once more.
    pub(super) fn looked_up(&self, slot: u32) {
        if let Ok(slot) = self.at(slot) {
            slot.looked_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kernel no longer knows a root. What follows from that waits for a quiet moment.
    pub(super) fn forget(&self, number: u32, times: u64) {
        let Ok(slot) = self.at(number) else { return };
        if slot.looked_up.fetch_sub(times, Ordering::Relaxed) == times {
            self.forgotten.lock().push(number);
        }
    }

    /// Closes and unpins the versions whose roots the kernel has forgotten.
    pub(super) fn release_forgotten(&self, shelves: &Shelves) {
        let forgotten = std::mem::take(&mut *self.forgotten.lock());
        for number in forgotten {
            let Ok(slot) = self.at(number) else { continue };
            let mut pinned = slot.pinned.lock();
            // Looked up again meanwhile: it is in use, and the next forget comes.
            if slot.looked_up.load(Ordering::Relaxed) > 0 {
                continue;
            }
            slot.tree.write().take();
            self.open.lock().retain(|n| *n != number);
            if std::mem::take(&mut *pinned)
                && let Some(name) = shelves.name(slot.artifact)
            {
                self.unpin(&name, slot.number);
            }
        }
    }

    /// The slots of versions whose pins somebody wants back.
    pub(super) fn wanted(&self, shelves: &Shelves) -> Vec<u32> {
        let wanted = self.pins.as_ref().and_then(|pins| pins.wanted().ok()).unwrap_or_default();
        let find = |(name, number): (ArtifactName, VersionNumber)| {
            let artifact = shelves.find(name.as_str().as_bytes()).ok()??;
            self.table.read().numbers.get(&(artifact, number)).copied()
        };
        wanted.into_iter().filter_map(find).collect()
    }

    /// The slots of versions that this mount uses although they are removed.
    pub(super) fn removed_in_use(&self, shelves: &Shelves) -> Vec<u32> {
        let slots: Vec<Arc<Slot>> = self.table.read().slots.clone();
        let mut by_artifact: BTreeMap<u32, Vec<(VersionNumber, u32)>> = BTreeMap::new();
        for (slot, number) in
            slots.iter().zip(1..).filter(|(s, _)| s.looked_up.load(Ordering::Relaxed) > 0 && s.tree.read().is_some())
        {
            by_artifact.entry(slot.artifact).or_default().push((slot.number, number));
        }
        let mut found = Vec::new();
        for (artifact, numbers) in by_artifact {
            let Some(name) = shelves.name(artifact) else { continue };
            // A store that can't be read now is looked at the next time.
            let removed = removal::removed(&self.store, &name).unwrap_or_default();
            found.extend(numbers.into_iter().filter(|(v, _)| removed.binary_search(v).is_ok()).map(|(_, slot)| slot));
        }
        found
    }
}
