//! Storing the content of one transaction: what its lanes share. Nothing is visible before `seal` or a checkpoint (F2).

use super::adopt::Leases;
use super::index::{Index, Look};
use super::known_damage::KnownDamage;
use super::nodes::Nodes;
use super::pack::{Kind, MAX_PACK};
use super::pack_looks::PackLooks;
use super::pack_writer::PackWriter;
use super::seal::{Becomes, Temp};
use super::sizes::Sizes;
use super::thread_writer::ThreadWriter;
use super::{Objects, nodes::NodeThreadWriter};
use crate::disk::Watch;
use crate::error::{Error, Result};
use crate::types::{Digest, Location, PackRef};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// New bytes, or the time, after which what is there is made durable and visible, so that an interrupted put stores
/// only the rest when it is said again.
const CHECKPOINT: u64 = 1 << 30;
pub(super) const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
const SHARDS: usize = 64;
/// A writer that looked in vain for so many blobs lists the packs: it will store much, and a listing costs little
/// beside that.
const LISTS_AFTER: usize = 64;
/// One writer in so many lists the packs from the beginning, so that what the runs miss is found some time.
const ONE_LISTS: u8 = 64;

/// Stores the content of one transaction. Made after its token: every look is against what was in place then (L14).
///
/// What is stored here can be read, by this process too, when it is sealed. Dropped unsealed, it removes its temporary
/// files.
pub struct ObjectWriter {
    pub(super) objects: Arc<Objects>,
    pub(super) dir: PathBuf,
    index: RwLock<Arc<Index>>,
    /// Blobs that were looked for in vain.
    missed: AtomicUsize,
    /// Packs that others made.
    looks: PackLooks,
    /// What was known to be damaged when this writer began.
    pub(super) damage: KnownDamage,
    /// On local file systems; begun before anything is written.
    pub(super) watch: Option<Watch>,
    shards: Vec<Mutex<HashMap<Digest, Location>>>,
    pub(super) larges: Mutex<HashSet<Digest>>,
    /// Of the objects that were there before.
    pub(super) sizes: Sizes,
    pub(super) state: Mutex<State>,
    pub(super) nodes: Mutex<Nodes>,
    checkpoint: Mutex<()>,
    begun: Instant,
    /// When the next one is due, in seconds after that.
    due: AtomicU64,
    pub(super) no_reflink: AtomicBool,
    reflinks: AtomicBool,
    /// The version relies on packs that others made.
    pub(super) relies_on_packs: AtomicBool,
    failed: AtomicBool,
    new_bytes: AtomicU64,
    unpublished: AtomicU64,
    temps: AtomicU64,
    /// Large files are taken over, and held by these.
    pub(super) taking: Option<Arc<Leases>>,
}

/// What lanes leave.
#[derive(Default)]
pub(super) struct State {
    /// Open packs.
    pub idle: Vec<PackWriter>,
    /// Whole files, to be made durable and visible.
    pub temps: Vec<Temp>,
    /// Directories of objects on which the version relies without having made them.
    pub relied: BTreeSet<PathBuf>,
    /// The packs that were made visible.
    pub published: Vec<Digest>,
}

impl Objects {
    /// A writer whose temporary files go to `dir`, a token's directory.
    ///
    /// # Errors
    /// I/O.
    pub fn writer(self: &Arc<Self>, dir: &Path) -> Result<ObjectWriter> {
        let watch = if self.disk.kind().is_local() { Some(self.disk.watch(dir)?) } else { None };
        let mut index = self.load_index(if is_to_list(dir) { Look::Packs } else { Look::Runs })?;
        if index.is_poor() {
            // The index was lost or is damaged: looking for each blob without it would be slow, or in vain.
            let _: Result<()> = self.mend(dir);
            index = self.load_index(Look::Packs)?;
        }
        Ok(ObjectWriter {
            objects: self.clone(),
            dir: dir.to_path_buf(),
            index: RwLock::new(index),
            missed: AtomicUsize::new(0),
            looks: PackLooks::default(),
            damage: self.known_damage()?,
            watch,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            larges: Mutex::default(),
            sizes: Sizes::default(),
            state: Mutex::default(),
            nodes: Mutex::default(),
            checkpoint: Mutex::default(),
            begun: Instant::now(),
            due: AtomicU64::new(CHECKPOINT_AFTER.as_secs()),
            no_reflink: AtomicBool::new(false),
            reflinks: AtomicBool::new(false),
            relies_on_packs: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            new_bytes: AtomicU64::new(0),
            unpublished: AtomicU64::new(0),
            temps: AtomicU64::new(0),
            taking: None,
        })
    }
}

/// Whether the writer of this token lists the packs: by the last digits of its name, which are random.
fn is_to_list(dir: &Path) -> bool {
    let digits = dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.get(n.len().saturating_sub(2)..));
    digits.and_then(|d| u8::from_str_radix(d, 16).ok()).is_none_or(|n| n % ONE_LISTS == 0)
}

impl ObjectWriter {
    /// From now on large files are taken over where that can be, and not left as they were: for what only this store
    /// has a name for.
    pub fn take_with(&mut self, leases: Arc<Leases>) {
        self.taking = Some(leases);
    }

    /// A lane for one thread.
    pub fn lane(&self) -> ThreadWriter<'_> {
        ThreadWriter::new(self)
    }

    /// Where a manifest's nodes go. After all lanes are closed.
    ///
    /// # Errors
    /// I/O.
    pub fn nodes(&self) -> Result<NodeThreadWriter<'_>> {
        NodeThreadWriter::new(self)
    }

    /// Bytes of content stored so far that were not in the store before.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes.load(Ordering::Relaxed)
    }

    /// Closes every pack, so that all have names. After all lanes are closed.
    ///
    /// # Errors
    /// I/O.
    pub fn close_packs(&self) -> Result<()> {
        let idle = std::mem::take(&mut self.state.lock().idle);
        idle.into_iter().try_for_each(|pack| self.close(pack))
    }

    /// The index as this writer saw it.
    pub(super) fn index(&self) -> Arc<Index> {
        self.index.read().clone()
    }

    /// Where a blob lies in a pack that was in place when this writer first looked, and that `takes` takes; of several
    /// the newest, if it is a node.
    ///
    /// # Errors
    /// I/O.
    pub(super) fn find(
        &self,
        digest: &Digest,
        kind: Kind,
        takes: impl Fn(PackRef) -> bool,
    ) -> Result<Option<Location>> {
        let confirm = |place: Location| {
            if !takes(place.pack) {
                return Ok(None);
            }
            self.looks.confirm(&self.objects, &self.damage, |name| self.index().has_pack(name), place, digest, kind)
        };
        let look = |index: &Index| match kind {
            Kind::Content => self.objects.find(index, digest, kind, &confirm),
            Kind::Node => self.objects.find_newest(index, digest, kind, &confirm),
        };
        let found = look(&self.index())?;
        if found.is_some()
            || self.missed.fetch_add(1, Ordering::Relaxed) + 1 < LISTS_AFTER
            || self.index().has_listing()
        {
            return Ok(found);
        }
        {
            let mut index = self.index.write();
            if !index.has_listing() {
                *index = self.objects.load_index(Look::Packs)?;
            }
        }
        look(&self.index())
    }

    /// Whether a pack of others was in place when this writer first looked.
    pub(super) fn has_pack(&self, pack: PackRef) -> Result<bool> {
        self.looks.is_in_place(&self.objects, |name| self.index().has_pack(name), pack)
    }

    /// Whether a pack of that name was in place when this writer first looked.
    ///
    /// # Errors
    /// I/O.
    pub fn has_pack_named(&self, name: &Digest) -> Result<bool> {
        self.has_pack(self.objects.table.intern(name))
    }

    /// Whether anything in the store is known to be damaged.
    pub fn knows_damage(&self) -> bool {
        !self.damage.is_empty()
    }

    /// Whether a node's copy in a pack is known to be damaged.
    pub(super) fn is_damaged(&self, digest: &Digest, kind: Kind, pack: PackRef) -> bool {
        !self.damage.is_empty()
            && self.objects.table.name(pack).is_some_and(|name| self.damage.has_blob(digest, kind, &name))
    }

    pub(super) fn temp(&self, what: char) -> PathBuf {
        self.dir.join(format!("{what}{}", self.temps.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new pack for `limit` bytes.
    pub(super) fn open_pack(&self, limit: u64) -> Result<PackWriter> {
        PackWriter::create(&self.objects.disk, self.temp('p'), self.objects.table.reserve(), limit)
    }

    /// An open pack that another lane left, or a new one.
    pub(super) fn take_pack(&self, len: usize) -> Result<PackWriter> {
        {
            let mut state = self.state.lock();
            if let Some(i) = state.idle.iter().position(|p| p.takes(len)) {
                return Ok(state.idle.swap_remove(i));
            }
        }
        self.open_pack(MAX_PACK)
    }

    pub(super) fn close(&self, pack: PackWriter) -> Result<()> {
        let number = pack.number();
        let closed = self.or_fail(pack.close())?;
        self.objects.table.named(number, closed.name);
        self.keep(closed.file, Becomes::Pack(closed.name))
    }

    /// Counts new bytes; now and then publishes what is closed.
    pub(super) fn grew(&self, bytes: u64) -> Result<()> {
        self.new_bytes.fetch_add(bytes, Ordering::Relaxed);
        let much = self.unpublished.fetch_add(bytes, Ordering::Relaxed) + bytes >= CHECKPOINT;
        let now = self.begun.elapsed().as_secs();
        if (much || now >= self.due.load(Ordering::Relaxed))
            && let Some(_one) = self.checkpoint.try_lock()
        {
            self.unpublished.store(0, Ordering::Relaxed);
            self.due.store(now + CHECKPOINT_AFTER.as_secs(), Ordering::Relaxed);
            self.publish(&[], BTreeSet::new())?;
        }
        Ok(())
    }

    /// Whether the file system shares the blocks of `source` with a new file: tried once, since all sources of a put
    /// tend to be alike.
    pub(super) fn can_reflink(&self, source: &File) -> Result<bool> {
        if self.reflinks.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let temp = self.objects.disk.create_file(self.temp('o'))?;
        let shared = temp.reflink_from(source);
        self.objects.disk.remove_file(temp.path())?;
        let shared = shared?;
        self.no_reflink.store(!shared, Ordering::Relaxed);
        self.reflinks.store(shared, Ordering::Relaxed);
        Ok(shared)
    }

    /// What this writer knows of where small content lies.
    pub(super) fn shard(&self, digest: &Digest) -> &Mutex<HashMap<Digest, Location>> {
        &self.shards[usize::from(digest.0[0]) % SHARDS]
    }

    /// Remembers a failure after which something that a lane was told is stored may not be: nothing is sealed then.
    pub(super) fn or_fail<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        result
    }

    /// # Errors
    /// I/O: storing failed before.
    pub(super) fn check_failed(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(Error::io_message("storing content failed before: nothing that relies on it is published"));
        }
        Ok(())
    }
}

impl Drop for ObjectWriter {
    /// Removes what was not made visible, as far as that goes; the rest is a collector's.
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut());
        let paths = state.temps.iter().map(Temp::path).chain(state.idle.iter().map(PackWriter::path));
        for path in paths {
            let _: Result<()> = self.objects.disk.remove_file(path);
        }
    }
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectWriter in {}", self.dir.display())
    }
}
