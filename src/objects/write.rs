//! Storing the content of one transaction: lanes of threads, packs, object files; then durable, then visible (F1, F2).

use super::index::{self, Index};
use super::large::{OBJECT_MODE, OBJECT_MTIME};
use super::pack::Kind;
use super::pack_writer::{ClosedPack, PackWriter};
use super::{Objects, SMALL_MAX, hints};
use crate::disk::{self, FsKind, NewFile};
use crate::error::{Error, Result};
use crate::manifest::{Node, NodeSink};
use crate::words::{Digest, Hasher, PackRef, Place};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this many new files on, one `syncfs` is cheaper than a sync of each.
const MANY_FILES: usize = 64;
/// With more new content than this, nodes go into packs of their own.
const NODES_APART: u64 = 4 << 20;
/// New bytes after which what is there is made durable and visible, so that an interrupted put stores only the rest when it is said again.
const CHECKPOINT: u64 = 1 << 30;
/// At most this many packs hold the nodes of a version that is put (patches add theirs, up to 16), and when they would be more, at most
/// this many old ones go on.
const MAX_NODE_PACKS: usize = 12;
const KEPT_NODE_PACKS: usize = 7;
/// Files synced side by side where each must be synced by itself.
const SYNCERS: usize = 8;
const SHARDS: usize = 64;
const CHUNK: usize = 1 << 20;
const PAGE: usize = 64 << 10;

/// What came of storing a small blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallPut {
    /// Where it lies.
    pub place: Place,
    /// Whether it was not in the store before.
    pub new: bool,
}

/// What came of storing a large blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LargePut {
    /// The digest of the bytes stored.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// Whether it was not in the store before.
    pub new: bool,
}

/// The packs that hold a version's nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePacks {
    /// Their names; those that patches added come last, in order of age.
    pub names: Vec<Digest>,
    /// How many patches added.
    pub chained: usize,
}

/// What a transaction brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sealed {
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
}

/// Stores the content of one transaction. Made after its token: every look is against what was in place then (L14).
pub struct ObjectWriter {
    objects: Arc<Objects>,
    dir: PathBuf,
    index: Arc<Index>,
    shards: Vec<Mutex<HashMap<Digest, Place>>>,
    larges: Mutex<HashSet<Digest>>,
    state: Mutex<State>,
    nodes: Mutex<Nodes>,
    checkpoint: Mutex<()>,
    new_bytes: AtomicU64,
    unpublished: AtomicU64,
    temps: AtomicU64,
}

#[derive(Default)]
struct State {
    idle: Vec<PackWriter>,
    packs: Vec<ClosedPack>,
    larges: Vec<(PathBuf, Digest)>,
    /// Directories whose names the version relies on without having made them.
    relied: BTreeSet<PathBuf>,
    published: usize,
}

#[derive(Default)]
struct Nodes {
    /// How many nodes each pack holds of this version.
    packs: HashMap<PackRef, usize>,
    /// For a patch: the packs whose nodes stay, in order, and how many of them patches added. Nodes elsewhere are stored again.
    kept: Option<(Vec<PackRef>, usize)>,
    /// Packs whose nodes are stored again.
    passed_over: HashSet<PackRef>,
    seen: HashMap<Digest, Place>,
}

impl Objects {
    /// A writer whose temporary files go to `dir`, a token's directory.
    ///
    /// # Errors
    /// I/O.
    pub fn writer(self: &Arc<Self>, dir: &Path) -> Result<ObjectWriter> {
        Ok(ObjectWriter {
            objects: self.clone(),
            dir: dir.to_path_buf(),
            index: self.fresh_index()?,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            larges: Mutex::default(),
            state: Mutex::default(),
            nodes: Mutex::default(),
            checkpoint: Mutex::default(),
            new_bytes: AtomicU64::new(0),
            unpublished: AtomicU64::new(0),
            temps: AtomicU64::new(0),
        })
    }
}

impl ObjectWriter {
    /// A lane for one thread.
    pub fn lane(&self) -> Lane<'_> {
        Lane { writer: self, pack: None, chunk: Vec::new() }
    }

    /// Where a manifest's nodes go. After all lanes are closed.
    ///
    /// # Errors
    /// I/O.
    pub fn nodes(&self) -> Result<NodeLane<'_>> {
        let mut lane = self.lane();
        let apart = self.new_bytes.load(Ordering::Relaxed) > NODES_APART;
        let mut idle = std::mem::take(&mut self.state.lock().idle);
        if !apart {
            lane.pack = idle.pop();
        }
        for pack in idle {
            self.close(pack)?;
        }
        self.nodes.lock().packs.clear();
        Ok(NodeLane { lane })
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

    /// The packs that hold the nodes built last, once all are closed.
    pub fn node_packs(&self) -> NodePacks {
        let nodes = self.nodes.lock();
        let name = |p: &PackRef| self.objects.table.name(*p);
        let Some((kept, chained)) = &nodes.kept else {
            let mut names: Vec<Digest> = nodes.packs.keys().filter_map(name).collect();
            names.sort();
            return NodePacks { names, chained: 0 };
        };
        // Numbers are given in the order in which packs are begun, and a node names none in a pack begun after its own.
        let mut new: Vec<PackRef> = nodes.packs.keys().filter(|p| !kept.contains(p)).copied().collect();
        new.sort_unstable();
        NodePacks { names: kept.iter().chain(&new).filter_map(name).collect(), chained: chained + new.len() }
    }

    /// From now on nodes are taken to be stored only where they lie in these packs (the last `chained` of them added by patches):
    /// they stay in the version's list, and new packs join them.
    pub fn keep_nodes_in(&self, packs: &[Digest], chained: usize) {
        self.nodes.lock().kept = Some((packs.iter().map(|p| self.objects.table.intern(p)).collect(), chained));
    }

    /// Where a node lies in one of the packs that are kept, `hint` being where it is thought to.
    pub fn node_home(&self, digest: &Digest, hint: Option<Place>) -> Option<Place> {
        let nodes = self.nodes.lock();
        let (kept, _) = nodes.kept.as_ref()?;
        hint.filter(|p| kept.contains(&p.pack)).or_else(|| self.kept_place(digest, kept))
    }

    fn kept_place(&self, digest: &Digest, kept: &[PackRef]) -> Option<Place> {
        self.index.find_all(digest, Kind::Node, &self.objects.table).into_iter().find(|p| kept.contains(&p.pack))
    }

    /// Whether the nodes built last lie in too many packs. The small ones among those are passed over from now on: building the manifest
    /// once more stores their nodes again, in one pack.
    pub fn spread_too_far(&self) -> bool {
        let mut nodes = self.nodes.lock();
        if nodes.packs.len() <= MAX_NODE_PACKS || !nodes.passed_over.is_empty() {
            return false; // few enough, or as few as it gets
        }
        let mut by_size: Vec<(usize, PackRef)> = nodes.packs.iter().map(|(p, n)| (*n, *p)).collect();
        by_size.sort_unstable_by(|a, b| b.cmp(a));
        nodes.passed_over = by_size[KEPT_NODE_PACKS..].iter().map(|(_, p)| *p).collect();
        let passed_over = nodes.passed_over.clone();
        nodes.seen.retain(|_, place| !passed_over.contains(&place.pack));
        true
    }

    /// Makes everything durable, `extra` (the version's own files) with it, then visible. After all lanes are closed.
    ///
    /// # Errors
    /// I/O: nothing may be published then.
    pub fn seal(self, extra: &[NewFile]) -> Result<Sealed> {
        self.close_packs()?;
        self.publish(extra)?;
        let state = self.state.lock();
        if self.objects.disk.kind() != FsKind::Ordered {
            // Another writer may have made these names a moment ago, and not durable yet. On Ordered ones the claim's sync serves.
            for dir in &state.relied {
                self.objects.disk.sync_dir(dir)?;
            }
        }
        // Listing all packs again costs more with each of them: only where there may be something to gather.
        let loose = self.index.loose_counts();
        let much = self.new_bytes() > NODES_APART || loose.0 + state.published > index::LOOSE_PACKS || loose.1 > index::LOOSE_ENTRIES / 2;
        if state.published > 0 && much {
            // A cache: what goes wrong here takes nothing from the version.
            let tidied = self.objects.fresh_index().and_then(|i| i.tidy(&self.objects.layout, &self.objects.table, &self.objects.disk, &self.dir));
            drop(tidied);
        }
        Ok(Sealed { new_bytes: self.new_bytes() })
    }

    fn temp(&self, what: char) -> PathBuf {
        self.dir.join(format!("{what}{}", self.temps.fetch_add(1, Ordering::Relaxed)))
    }

    fn close(&self, pack: PackWriter) -> Result<()> {
        let number = pack.number();
        let closed = pack.close()?;
        self.objects.table.named(number, closed.name);
        self.state.lock().packs.push(closed);
        Ok(())
    }

    /// Syncs what is closed, then renames it to its place (F2: never the other way round).
    fn publish(&self, extra: &[NewFile]) -> Result<()> {
        let disk = &self.objects.disk;
        let layout = &self.objects.layout;
        let (packs, larges) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.packs), std::mem::take(&mut state.larges))
        };
        let temps: Vec<&Path> = packs.iter().map(|p| p.temp.as_path()).chain(larges.iter().map(|(t, _)| t.as_path())).collect();
        let many = disk.kind().is_local() && temps.len() >= MANY_FILES;
        if many {
            disk.sync_fs(layout.root())?;
        } else {
            for file in extra {
                file.start_writeback(0, 0);
            }
            self.sync_each(&temps)?;
            for file in extra {
                disk.sync_file(file)?;
            }
        }
        let mut dirs = BTreeSet::new();
        for pack in &packs {
            disk.rename(&pack.temp, &layout.pack(&pack.name))?;
            dirs.insert(layout.packs());
        }
        for (temp, digest) in &larges {
            let dir = layout.object_dir(digest);
            if !dirs.contains(&dir) && disk.create_dir(&dir)? == disk::Created::New {
                dirs.insert(layout.objects());
            }
            disk.rename(temp, &layout.object(digest))?;
            dirs.insert(dir);
        }
        match disk.kind() {
            FsKind::Ordered => {} // the claim's own sync comes after these renames in the journal
            FsKind::Local if many => disk.sync_fs(layout.root())?,
            FsKind::Local | FsKind::Shared => dirs.iter().try_for_each(|dir| disk.sync_dir(dir))?,
        }
        self.state.lock().published += packs.len() + larges.len();
        Ok(())
    }

    fn sync_each(&self, temps: &[&Path]) -> Result<()> {
        let disk = &self.objects.disk;
        if disk.kind().is_local() || temps.len() < 2 {
            return temps.iter().try_for_each(|t| disk.sync_path(t));
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let failed = Mutex::new(None);
        std::thread::scope(|s| {
            for _ in 0..SYNCERS.min(temps.len()) {
                s.spawn(|| {
                    while let Some(temp) = temps.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(e) = disk.sync_path(temp) {
                            failed.lock().get_or_insert(e);
                        }
                    }
                });
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Counts new bytes; now and then publishes what is closed.
    fn grew(&self, bytes: u64) -> Result<()> {
        self.new_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.unpublished.fetch_add(bytes, Ordering::Relaxed) + bytes >= CHECKPOINT
            && let Some(_one) = self.checkpoint.try_lock()
        {
            self.unpublished.store(0, Ordering::Relaxed);
            self.publish(&[])?;
        }
        Ok(())
    }

    fn shard(&self, digest: &Digest) -> &Mutex<HashMap<Digest, Place>> {
        &self.shards[usize::from(digest.0[0]) % SHARDS]
    }

    fn find_small(&self, digest: &Digest) -> Option<Place> {
        if let Some(place) = self.shard(digest).lock().get(digest) {
            return Some(*place);
        }
        let place = self.index.find(digest, Kind::Content, &self.objects.table)?;
        self.shard(digest).lock().insert(*digest, place);
        Some(place)
    }

    fn has_large(&self, digest: &Digest, size: u64) -> Result<bool> {
        let path = self.objects.layout.object(digest);
        let found = if self.objects.disk.kind().is_local() { disk::look(&path)? } else { disk::look_fresh(&path)? };
        Ok(found.is_some_and(|m| m.is_file() && m.len() == size && super::large::untouched(&m)))
    }

    fn rely_on(&self, dir: PathBuf) {
        if self.objects.disk.kind() != FsKind::Ordered {
            self.state.lock().relied.insert(dir);
        }
    }
}

/// One thread's way into the store: fills its own packs, in the order in which it is given blobs.
pub struct Lane<'a> {
    writer: &'a ObjectWriter,
    pack: Option<PackWriter>,
    chunk: Vec<u8>,
}

impl<'a> Lane<'a> {
    /// Stores bytes of this digest, shorter than [`SMALL_MAX`].
    ///
    /// # Errors
    /// I/O.
    pub fn put_small(&mut self, digest: Digest, bytes: &[u8]) -> Result<SmallPut> {
        let writer = self.writer;
        // Held while appending: who comes second with the same bytes finds the first one's place.
        let mut shard = writer.shard(&digest).lock();
        if let Some(place) = shard.get(&digest) {
            return Ok(SmallPut { place: *place, new: false });
        }
        if let Some(place) = writer.index.find(&digest, Kind::Content, &writer.objects.table) {
            shard.insert(digest, place);
            drop(shard);
            writer.rely_on(writer.objects.layout.packs());
            return Ok(SmallPut { place, new: false });
        }
        let place = self.append(digest, Kind::Content, bytes)?;
        shard.insert(digest, place);
        drop(shard);
        writer.grew(bytes.len() as u64)?;
        Ok(SmallPut { place, new: true })
    }

    /// Whether content of this digest and size is stored: `Some` with its place if it is packed.
    ///
    /// # Errors
    /// I/O.
    pub fn find(&self, digest: &Digest, size: u64) -> Result<Option<Option<Place>>> {
        let writer = self.writer;
        if size < SMALL_MAX {
            let found = writer.find_small(digest);
            if found.is_some() {
                writer.rely_on(writer.objects.layout.packs());
            }
            return Ok(found.map(Some));
        }
        let there = writer.larges.lock().contains(digest) || writer.has_large(digest, size)?;
        if there {
            writer.rely_on(writer.objects.layout.object_dir(digest));
        }
        Ok(there.then_some(None))
    }

    /// Stores a whole file as a large blob: its blocks are shared where the file system can, else it is copied, holes as holes.
    /// The digest is that of the bytes stored.
    ///
    /// # Errors
    /// I/O.
    pub fn put_large(&mut self, source: &File, path: &Path) -> Result<LargePut> {
        let temp = self.writer.objects.disk.create_file(self.writer.temp('o'))?;
        let (digest, size) = if temp.reflink_from(source)? {
            super::large::hash_file(temp.file(), temp.path())?
        } else {
            self.copy(source, path, &temp)?
        };
        self.settle(temp, digest, size)
    }

    /// Stores bytes at hand as a large blob.
    ///
    /// # Errors
    /// I/O.
    pub fn put_large_bytes(&mut self, digest: Digest, bytes: &[u8]) -> Result<LargePut> {
        let mut temp = self.writer.objects.disk.create_file(self.writer.temp('o'))?;
        temp.write_all(bytes)?;
        self.settle(temp, digest, bytes.len() as u64)
    }

    /// Reads, hashes and writes in one pass.
    fn copy(&mut self, source: &File, path: &Path, temp: &NewFile) -> Result<(Digest, u64)> {
        let mut hasher = Hasher::new();
        self.chunk.resize(CHUNK, 0);
        let (mut at, mut started, mut end) = (0u64, 0u64, 0u64);
        loop {
            let n = match source.read_at(&mut self.chunk, at) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io("read", path, e)),
            };
            if n == 0 {
                break;
            }
            let bytes = &self.chunk[..n];
            hasher.update(bytes);
            end = write_sparse(temp, bytes, at)?.unwrap_or(end);
            at += n as u64;
            if at - started >= 8 * CHUNK as u64 {
                temp.start_writeback(started, at - started);
                started = at;
            }
        }
        if end < at {
            temp.set_len(at)?; // it ends with a hole
        }
        temp.start_writeback(started, 0);
        Ok((hasher.finish(), at))
    }

    /// Keeps a temporary file as the blob, or drops it when the blob is there already.
    fn settle(&mut self, temp: NewFile, digest: Digest, size: u64) -> Result<LargePut> {
        let writer = self.writer;
        let in_flight = !writer.larges.lock().insert(digest);
        if in_flight || writer.has_large(&digest, size)? {
            writer.objects.disk.remove_file(temp.path())?;
            writer.rely_on(writer.objects.layout.object_dir(&digest));
            return Ok(LargePut { digest, size, new: false });
        }
        temp.set_mode(OBJECT_MODE)?;
        temp.set_mtime(OBJECT_MTIME)?;
        writer.state.lock().larges.push((temp.path().to_path_buf(), digest));
        writer.grew(size)?;
        Ok(LargePut { digest, size, new: true })
    }

    fn append(&mut self, digest: Digest, kind: Kind, bytes: &[u8]) -> Result<Place> {
        let writer = self.writer;
        if let Some(full) = self.pack.take_if(|p| !p.takes(bytes.len())) {
            writer.close(full)?;
        }
        if self.pack.is_none() {
            let idle = writer.state.lock().idle.pop();
            self.pack = match idle.filter(|p| p.takes(bytes.len())) {
                Some(pack) => Some(pack),
                None => Some(PackWriter::create(&writer.objects.disk, writer.temp('p'), writer.objects.table.reserve())?),
            };
        }
        self.pack.as_mut().expect("just opened").append(digest, kind, bytes)
    }

    /// Hands the open pack back, for the next lane or the nodes.
    ///
    /// # Errors
    /// None yet: a lane is closed so that its pack is not lost.
    pub fn close(mut self) -> Result<()> {
        self.writer.state.lock().idle.extend(self.pack.take());
        Ok(())
    }
}

/// The way of a manifest's nodes into the store. Nodes that are stored already, in packs that are not passed over, are not stored again.
pub struct NodeLane<'a> {
    lane: Lane<'a>,
}

impl NodeLane<'_> {
    /// Hands the open pack back.
    ///
    /// # Errors
    /// As [`Lane::close`].
    pub fn close(self) -> Result<()> {
        self.lane.close()
    }
}

impl NodeSink for NodeLane<'_> {
    fn store(&mut self, node: &Node) -> Result<Option<Place>> {
        let writer = self.lane.writer;
        let digest = node.digest();
        let mut nodes = writer.nodes.lock();
        let known = nodes.seen.get(&digest).copied();
        let known = known.or_else(|| match &nodes.kept {
            Some((kept, _)) => writer.kept_place(&digest, kept),
            None => writer.index.find(&digest, Kind::Node, &writer.objects.table).filter(|p| !nodes.passed_over.contains(&p.pack)),
        });
        let place = match known {
            Some(place) => {
                writer.rely_on(writer.objects.layout.packs());
                place
            }
            None => {
                // The pack must be known before the bytes are: hints into it say "self".
                let own = self.lane.room_for(node)?;
                let bytes = hints::encode(node, Some(own), &writer.objects.table)?;
                writer.objects.counts.written.fetch_add(1, Ordering::Relaxed);
                writer.objects.counts.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.lane.append(digest, Kind::Node, &bytes)?
            }
        };
        nodes.seen.insert(digest, place);
        *nodes.packs.entry(place.pack).or_default() += 1;
        Ok(Some(place))
    }
}

impl Lane<'_> {
    /// The pack that the next node goes into: one with room for it, whatever its hints take.
    fn room_for(&mut self, node: &Node) -> Result<PackRef> {
        let most = node.bytes().len() + 64 + node.places().len() * (6 + 32);
        if let Some(full) = self.pack.take_if(|p| !p.takes(most)) {
            self.writer.close(full)?;
        }
        if self.pack.is_none() {
            self.pack = Some(PackWriter::create(&self.writer.objects.disk, self.writer.temp('p'), self.writer.objects.table.reserve())?);
        }
        Ok(self.pack.as_ref().expect("just opened").number())
    }
}

/// Writes bytes at `at`, but for pages of zeros; the end of the last page written.
fn write_sparse(to: &NewFile, bytes: &[u8], at: u64) -> Result<Option<u64>> {
    let mut end = None;
    let mut from = 0;
    let pages: Vec<bool> = bytes.chunks(PAGE).map(|p| p.iter().all(|b| *b == 0)).collect();
    for (i, zero) in pages.iter().chain([&true]).enumerate() {
        let here = (i * PAGE).min(bytes.len());
        if *zero {
            if from < here {
                to.write_at(&bytes[from..here], at + from as u64)?;
                end = Some(at + here as u64);
            }
            from = (here + PAGE).min(bytes.len());
        }
    }
    Ok(end)
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectWriter in {}", self.dir.display())
    }
}

const _: () = assert!(SMALL_MAX < super::pack::MAX_BLOB as u64);
