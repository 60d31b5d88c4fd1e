//! [`Objects`]: the handle to one store's content. The operations are in the other files of this module.

use super::damage::ReportedDamage;
use super::distrusted::Distrusted;
use super::index::{Index, IndexScope};
use super::node_counts::{NodeCounters, NodeCounts};
use super::open_packs::OpenPacks;
use super::pack_table::PackTable;
use super::recent_misses::RecentMisses;
use super::verified_objects::VerifiedObjects;
use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::Result;
use crate::layout::Layout;
use crate::locks::RwLock;
use crate::manifest::Node;
use crate::recent_cache::RecentCache;
use crate::types::{Digest, Location, PackRef};
use std::sync::{Arc, OnceLock};

/// Memory for decoded nodes, in bytes (L4).
const NODE_CACHE_BYTES: usize = 24 << 20;
const NODE_CACHE_SHARDS: usize = 8;

/// The content of one store. Reading one file by its hint lists no directory and reads no footer; the index is loaded
/// when it is first needed.
pub struct Objects {
    layout: Layout,
    disk: Arc<Disk>,
    table: PackTable,
    /// A forked child loads it again: its segments have locks of their own.
    index: RwLock<Option<Arc<Index>>>,
    open_packs: Arc<OpenPacks>,
    node_cache: RecentCache<Node>,
    verified_objects: VerifiedObjects,
    reported_damage: ReportedDamage,
    distrusted: Distrusted,
    recent_misses: RecentMisses,
    counts: NodeCounters,
    cache: OnceLock<Arc<Cache>>,
    compresses: bool,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Objects {
    /// The content of the store with that layout. Small content is stored as it is.
    ///
    /// # Errors
    /// None yet.
    pub fn open(layout: Layout, disk: Arc<Disk>) -> Result<Objects> {
        Ok(Objects {
            layout,
            disk,
            table: PackTable::default(),
            index: RwLock::of_process(),
            open_packs: Arc::default(),
            node_cache: RecentCache::sharded(NODE_CACHE_SHARDS, NODE_CACHE_BYTES),
            verified_objects: VerifiedObjects::default(),
            reported_damage: ReportedDamage::default(),
            distrusted: Distrusted::default(),
            recent_misses: RecentMisses::default(),
            counts: NodeCounters::default(),
            cache: OnceLock::new(),
            compresses: false,
        })
    }

    /// The same, whose writers compress small content. The store must have the feature for it.
    pub fn with_compression(self, compresses: bool) -> Objects {
        Objects { compresses, ..self }
    }

    /// How many manifest nodes were read and written.
    pub fn node_counts(&self) -> NodeCounts {
        self.counts.now()
    }

    /// A location for a record: the pack's name and the offset in it. `None` while the pack is being written.
    pub fn place_in_pack(&self, place: Location) -> Option<(Digest, u32)> {
        Some((self.table.name(place.pack)?, place.offset))
    }

    /// The location that a record names.
    pub fn place_of(&self, pack: &Digest, offset: u32) -> Location {
        Location { pack: self.table.intern(pack), offset }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    pub(super) fn table(&self) -> &PackTable {
        &self.table
    }

    pub(super) fn open_packs(&self) -> &Arc<OpenPacks> {
        &self.open_packs
    }

    pub(super) fn node_cache(&self) -> &RecentCache<Node> {
        &self.node_cache
    }

    pub(super) fn verified_objects(&self) -> &VerifiedObjects {
        &self.verified_objects
    }

    pub(super) fn reported_damage(&self) -> &ReportedDamage {
        &self.reported_damage
    }

    pub(super) fn distrusted(&self) -> &Distrusted {
        &self.distrusted
    }

    pub(super) fn recent_misses(&self) -> &RecentMisses {
        &self.recent_misses
    }

    pub(super) fn counts(&self) -> &NodeCounters {
        &self.counts
    }

    pub(super) fn compresses(&self) -> bool {
        self.compresses
    }

    pub(super) fn cache_slot(&self) -> &OnceLock<Arc<Cache>> {
        &self.cache
    }

    /// The number of the pack with that name.
    pub(super) fn pack_number(&self, name: &Digest) -> PackRef {
        self.table.intern(name)
    }

    /// A pack's name; `None` while it is being written.
    pub(super) fn pack_name(&self, number: PackRef) -> Option<Digest> {
        self.table.name(number)
    }

    /// A number for a pack that will be written.
    pub(super) fn reserve_pack_number(&self) -> PackRef {
        self.table.reserve()
    }

    /// The pack that was being written has a name now.
    pub(super) fn name_pack(&self, number: PackRef, name: Digest) {
        self.table.set_name(number, name);
    }

    /// The index as it was last loaded.
    pub(super) fn index(&self) -> Result<Arc<Index>> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(index.clone());
        }
        self.load_index(IndexScope::Packs)
    }

    /// The index as it is now.
    pub(super) fn load_index(&self, scope: IndexScope) -> Result<Arc<Index>> {
        let before = self.index.read().clone();
        let index = Arc::new(Index::load(&self.layout, &self.table, before.as_deref(), scope)?);
        *self.index.write() = Some(index.clone());
        Ok(index)
    }

    /// Whether the index was loaded.
    #[cfg(test)]
    pub(super) fn has_index(&self) -> bool {
        self.index.read().is_some()
    }
}
