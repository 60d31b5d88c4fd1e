//! Content: large blobs as files, small ones and manifest nodes in packs, the index over the packs (FORMAT.md).
//!
//! Guarantees: what is read is what its digest says, or an error; nothing is visible before it is durable (F1, F2). Hints, index
//! and caches decide how fast it goes, never what is right.

mod cache;
mod check;
mod hints;
mod index;
mod large;
mod pack;
mod pack_writer;
mod read;
mod run;
mod table;
mod write;

pub use check::{Damage, PackContents, Stored};
pub use large::{LargeObject, OBJECT_MODE, OBJECT_MTIME};
pub use pack::Kind;
pub use read::Content;
pub use write::{Lane, LargePut, NodeLane, NodePacks, ObjectWriter, Sealed, SmallPut};

use crate::disk::Disk;
use crate::error::Result;
use crate::layout::Layout;
use crate::words::PackRef;
use cache::NodeCache;
use index::Index;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use table::PackTable;

/// Content of this many bytes or more is a file of its own; less is packed.
pub const SMALL_MAX: u64 = 128 << 10;
/// Packs kept open for reading.
const OPEN_PACKS: usize = 256;
/// Memory for decoded nodes, in bytes.
const NODE_CACHE: usize = 24 << 20;

/// The content of one store. Reading one file by its hint lists nothing and reads no footer; the index is loaded when it is first needed.
pub struct Objects {
    layout: Layout,
    disk: Arc<Disk>,
    table: PackTable,
    index: RwLock<Option<Arc<Index>>>,
    files: Mutex<HashMap<PackRef, Arc<File>>>,
    nodes: NodeCache,
    counts: Counters,
}

/// Manifest nodes that went through since the store was opened, and their bytes as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Read from packs; what a cache gave is not counted.
    pub read: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Written to packs.
    pub written: u64,
    /// Their bytes.
    pub written_bytes: u64,
}

#[derive(Default)]
struct Counters {
    read: AtomicU64,
    read_bytes: AtomicU64,
    written: AtomicU64,
    written_bytes: AtomicU64,
}

impl Objects {
    /// The content of the store with that layout.
    ///
    /// # Errors
    /// None yet.
    pub fn open(layout: Layout, disk: Arc<Disk>) -> Result<Objects> {
        Ok(Objects { layout, disk, table: PackTable::default(), index: RwLock::default(), files: Mutex::default(), nodes: NodeCache::new(NODE_CACHE), counts: Counters::default() })
    }

    /// What was read and written of manifests.
    pub fn node_counts(&self) -> NodeCounts {
        let c = &self.counts;
        let [read, read_bytes, written, written_bytes] = [&c.read, &c.read_bytes, &c.written, &c.written_bytes].map(|n| n.load(Ordering::Relaxed));
        NodeCounts { read, read_bytes, written, written_bytes }
    }

    /// The index as it was last loaded.
    fn index(&self) -> Result<Arc<Index>> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(index.clone());
        }
        self.fresh_index()
    }

    /// The index over the packs that are in place now.
    fn fresh_index(&self) -> Result<Arc<Index>> {
        let before = self.index.read().clone();
        let index = Arc::new(Index::load(&self.layout, &self.table, self.disk.kind(), before.as_deref())?);
        *self.index.write() = Some(index.clone());
        Ok(index)
    }
}
