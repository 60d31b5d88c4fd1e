//! Content: large blobs as files, small ones and manifest nodes in packs, the index over the packs (FORMAT.md).
//!
//! Guarantees: what is read is what its digest says, or an error; nothing is visible before it is durable (F1, F2).
//! Hints, index and caches decide how fast it goes, never what is right.

mod adopt;
mod cache;
mod check;
mod copy;
mod counts;
mod hints;
mod index;
mod index_maintenance;
mod index_segment;
mod known_damage;
mod large;
mod merge;
mod nodes;
mod pack;
mod pack_file;
mod pack_looks;
mod pack_writer;
mod read;
mod seal;
mod search;
mod sizes;
mod table;
#[cfg(test)]
mod tests;
mod thread_writer;
mod write;

pub use adopt::{Leases, OtherNames};
pub use check::{Damage, PackContents, Stored};
pub use counts::NodeCounts;
pub use known_damage::{Damaged, KnownDamage};
pub use large::{LargeObject, OBJECT_MODE, OBJECT_MTIME};
pub use nodes::{NodePacks, NodeThreadWriter};
pub use pack::Kind;
pub use read::Content;
pub use seal::Sealed;
pub use thread_writer::{LargePut, SmallPut, ThreadWriter};
pub use write::ObjectWriter;

use crate::disk::{self, Disk};
use crate::error::Result;
use crate::layout::Layout;
use crate::types::{Digest, Location};
use cache::{Hashed, NodeCache};
use counts::Counters;
use index::{Index, Look};
use known_damage::Listed;
use pack_file::OpenPacks;
use parking_lot::RwLock;
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use table::PackTable;

/// Content of this many bytes or more is a file of its own; less is packed.
pub const SMALL_MAX: u64 = 128 << 10;
/// Memory for decoded nodes, in bytes.
const NODE_CACHE: usize = 24 << 20;

/// The content of one store. Reading one file by its hint lists nothing and reads no footer; the index is loaded when
/// it is first needed.
pub struct Objects {
    layout: Layout,
    disk: Arc<Disk>,
    table: PackTable,
    index: RwLock<Option<Arc<Index>>>,
    open_packs: OpenPacks,
    nodes: NodeCache,
    hashed: Hashed,
    listed: Listed,
    counts: Counters,
}

impl Objects {
    /// The content of the store with that layout.
    ///
    /// # Errors
    /// None yet.
    pub fn open(layout: Layout, disk: Arc<Disk>) -> Result<Objects> {
        Ok(Objects {
            layout,
            disk,
            table: PackTable::default(),
            index: RwLock::default(),
            open_packs: OpenPacks::default(),
            nodes: NodeCache::new(NODE_CACHE),
            hashed: Hashed::default(),
            listed: Listed::default(),
            counts: Counters::default(),
        })
    }

    /// Bounds the memory for decoded nodes, in bytes; 24 MiB unless set (L4).
    pub fn set_node_cache(&self, bytes: usize) {
        self.nodes.set_bytes(bytes);
    }

    /// What was read and written of manifests.
    pub fn node_counts(&self) -> NodeCounts {
        self.counts.now()
    }

    /// A place for a record: the pack's name and the offset in it. `None` while the pack is being written.
    pub fn place_in_pack(&self, place: Location) -> Option<(Digest, u32)> {
        Some((self.table.name(place.pack)?, place.offset))
    }

    /// The place that a record speaks of.
    pub fn place_of(&self, pack: &Digest, offset: u32) -> Location {
        Location { pack: self.table.intern(pack), offset }
    }

    /// Looks at a file of the store's, FRESH.
    fn look(&self, path: &Path) -> Result<Option<Metadata>> {
        if self.disk.kind().is_local() { disk::lstat(path) } else { disk::lstat_revalidated(path) }
    }

    /// The index as it was last loaded.
    fn index(&self) -> Result<Arc<Index>> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(index.clone());
        }
        self.load_index(Look::Packs)
    }

    /// The index as it is now.
    fn load_index(&self, look: Look) -> Result<Arc<Index>> {
        let before = self.index.read().clone();
        let index = Arc::new(Index::load(&self.layout, &self.table, before.as_deref(), look)?);
        *self.index.write() = Some(index.clone());
        Ok(index)
    }
}

const _: () = assert!(SMALL_MAX <= pack::MAX_BLOB as u64);
