//! [`ObjectWriter`]: stores the content of one transaction.
//!
//! The work is divided: [`Deduplication`] knows what is stored already, [`PackSet`] holds the open packs,
//! [`StagedFiles`] makes finished files durable and then visible, [`NodeTracker`] decides in which packs a version's
//! nodes lie. Each thread writes through a [`super::thread_writer::ThreadWriter`], nodes go through a
//! [`super::node_writer::NodeThreadWriter`].
//!
//! Guarantees: nothing is visible before it is durable (F2), and nothing is visible before `seal` or a checkpoint.

use super::backoff::Backoff;
use super::beginnings::Beginnings;
use super::checkpoint::Checkpoints;
use super::content_store::Objects;
use super::copy_in::ReflinkSupport;
use super::deduplication::Deduplication;
use super::index_maintenance::IndexUpdate;
use super::leases::Leases;
use super::node_tracker::NodeTracker;
use super::object_file::{OBJECT_MODE, OBJECT_MTIME};
use super::pack::MAX_PACK;
use super::pack_set::PackSet;
use super::pack_writer::PackWriter;
use super::staged_files::{StagedAs, StagedFiles};
use super::temp_names::TempNames;
use crate::disk::NewFile;
use crate::error::Result;
use crate::locks::Mutex;
use crate::types::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// What a sealed transaction added to the store.
#[derive(Debug)]
pub struct SealSummary {
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
    /// What is left to do in the index, if packs are new. It is done when this is dropped.
    pub index: Option<IndexUpdate>,
}

/// Stores the content of one transaction. Create it after the transaction's token: then each lookup sees what was in
/// place after the token was made (L14).
///
/// What it stores can be read once it is sealed, also in this process. If it is dropped unsealed, it removes its
/// temporary files.
pub struct ObjectWriter {
    objects: Arc<Objects>,
    temps: TempNames,
    dedup: Deduplication,
    staged: StagedFiles,
    packs: PackSet,
    nodes: Mutex<NodeTracker>,
    checkpoints: Checkpoints,
    reflink: ReflinkSupport,
    /// Whether files are compared with files at other paths.
    other_paths: Mutex<Backoff>,
    /// What is known of the beginnings of large contents.
    beginnings: Beginnings,
    /// If set, large files are adopted with their inodes and held under these leases.
    leases: Option<Arc<Leases>>,
    /// Whether large files are compressed as a whole.
    compresses_large: bool,
}

impl Objects {
    /// A writer that puts its temporary files into `dir`, the token's directory.
    ///
    /// # Errors
    /// I/O.
    pub fn writer(self: &Arc<Self>, dir: &Path) -> Result<ObjectWriter> {
        // The watch must see every write of this transaction, so it comes first.
        let staged = StagedFiles::begin(self, dir)?;
        Ok(ObjectWriter {
            objects: self.clone(),
            temps: TempNames::new(dir),
            dedup: Deduplication::begin(self, dir)?,
            staged,
            packs: PackSet::new(self.disk().clone()),
            nodes: Mutex::default(),
            checkpoints: Checkpoints::begin(),
            reflink: ReflinkSupport::default(),
            other_paths: Mutex::default(),
            beginnings: Beginnings::of_user(),
            leases: None,
            compresses_large: false,
        })
    }
}

impl ObjectWriter {
    /// From now on adopts large files with their inodes where possible, which changes the source files. Use it only for
    /// files that only this store names.
    pub fn adopt_files_with(&mut self, leases: Arc<Leases>) {
        self.leases = Some(leases);
    }

    /// From now on stores large files as compressed parts, if they get smaller by it. The store must have the features
    /// for that.
    pub fn compress_large_files(&mut self) {
        self.compresses_large = true;
    }

    /// Bytes of content stored so far that were not in the store before.
    pub fn new_bytes(&self) -> u64 {
        self.checkpoints.new_bytes()
    }

    /// Closes every pack, so that each has a name. Call it after all thread writers are closed.
    ///
    /// # Errors
    /// I/O.
    pub fn close_packs(&self) -> Result<()> {
        self.packs.take_all().into_iter().try_for_each(|pack| self.close_pack(pack))
    }

    /// Makes everything durable, together with `extra` (the version's own files), then visible. Call it after all
    /// thread writers are closed. The directory entries of `dirs` become durable together with the names made here.
    ///
    /// On ext4 and xfs the names made here reach the disk no later than the claim, whose directory is synced: their
    /// journals keep the order of changes. On other file systems the names are durable when this returns.
    ///
    /// # Errors
    /// I/O, also if storing failed earlier: then nothing may be published.
    pub fn seal(self, extra: &[NewFile], dirs: &[&Path]) -> Result<SealSummary> {
        self.close_packs()?;
        self.staged.check_failed()?;
        self.dedup.forget_small(); // nothing is stored any more, and the index takes memory
        let mut names = self.dedup.take_relied_dirs();
        names.extend(dirs.iter().map(|d| d.to_path_buf()));
        self.staged.publish(extra, names)?;
        let packs = self.staged.take_published_packs();
        let index = (!packs.is_empty()).then(|| self.objects.index_update(self.dedup.index(), packs, self.temps.dir()));
        Ok(SealSummary { new_bytes: self.new_bytes(), index })
    }

    /// All content is stored: frees the memory for it. Content that is stored after this may be stored a second time.
    pub fn content_is_complete(&self) {
        self.dedup.forget_small();
    }

    /// Whether a pack of that name was in place when this writer first checked.
    ///
    /// # Errors
    /// I/O.
    pub fn has_pack_named(&self, name: &Digest) -> Result<bool> {
        self.dedup.has_pack(self.objects.pack_number(name))
    }

    /// Whether anything in the store is known to be damaged.
    pub fn knows_damage(&self) -> bool {
        self.dedup.knows_damage()
    }

    pub(super) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    pub(super) fn dedup(&self) -> &Deduplication {
        &self.dedup
    }

    pub(super) fn nodes(&self) -> &Mutex<NodeTracker> {
        &self.nodes
    }

    /// The token's directory.
    pub fn directory(&self) -> &Path {
        self.temps.dir()
    }

    pub(super) fn temps(&self) -> &TempNames {
        &self.temps
    }

    pub(super) fn reflink(&self) -> &ReflinkSupport {
        &self.reflink
    }

    pub(super) fn other_paths(&self) -> &Mutex<Backoff> {
        &self.other_paths
    }

    pub(super) fn beginnings(&self) -> &Beginnings {
        &self.beginnings
    }

    /// From now on keeps what is known of beginnings in this directory.
    #[cfg(test)]
    pub(super) fn keep_beginnings_in(&mut self, dir: &Path) {
        self.beginnings = Beginnings::in_directory(dir);
    }

    pub(super) fn leases(&self) -> Option<&Arc<Leases>> {
        self.leases.as_ref()
    }

    pub(super) fn compresses_large(&self) -> bool {
        self.compresses_large
    }

    /// A new temporary file for an object.
    pub(super) fn create_object(&self) -> Result<NewFile> {
        self.objects.disk().create_file(self.temps.next('o'))
    }

    /// Removes a temporary file that is not needed.
    pub(super) fn remove_temp(&self, file: &NewFile) -> Result<()> {
        self.objects.disk().remove_file(file.path())
    }

    /// Whether the file system shares the blocks of `source` with a new file. Tried once per writer: the sources of one
    /// put usually lie on one file system.
    pub(super) fn can_reflink(&self, source: &File) -> Result<bool> {
        self.reflink.probe(source, || self.create_object(), |temp| self.remove_temp(temp))
    }

    /// A new pack for `limit` bytes of blobs.
    pub(super) fn create_pack(&self, limit: u64) -> Result<PackWriter> {
        let number = self.objects.reserve_pack_number();
        PackWriter::create(self.objects.disk(), self.temps.next('p'), number, limit)
    }

    /// An open pack with room for `len` bytes: one that another thread returned, or a new one.
    pub(super) fn open_pack_for(&self, len: usize) -> Result<PackWriter> {
        self.packs.take_with_room(len).map_or_else(|| self.create_pack(MAX_PACK), Ok)
    }

    /// Takes back a thread's open pack.
    pub(super) fn return_pack(&self, pack: Option<PackWriter>) {
        self.packs.put_back(pack);
    }

    /// Takes all open packs that no thread uses.
    pub(super) fn take_packs(&self) -> Vec<PackWriter> {
        self.packs.take_all()
    }

    /// Closes a pack and stages its file.
    pub(super) fn close_pack(&self, pack: PackWriter) -> Result<()> {
        let number = pack.number();
        let closed = self.fail_on_error(pack.close())?;
        self.objects.name_pack(number, closed.name);
        self.staged.stage(closed.file, StagedAs::Pack(closed.name))
    }

    /// Stages a complete temporary file as the object `digest`.
    pub(super) fn stage_object(&self, temp: NewFile, digest: Digest) -> Result<()> {
        let staged = temp.set_mode(OBJECT_MODE).and_then(|()| temp.set_mtime(OBJECT_MTIME)).and_then(|()| {
            temp.start_writeback(0, 0);
            self.staged.stage(temp, StagedAs::Object(digest))
        });
        self.fail_on_error(staged)
    }

    /// Counts new bytes. If a checkpoint is due, publishes what is staged, so that an interrupted put stores only the
    /// rest when it runs again.
    pub(super) fn count_new_bytes(&self, bytes: u64) -> Result<()> {
        match self.checkpoints.count(bytes) {
            Some(_one_at_a_time) => self.staged.publish(&[], BTreeSet::new()),
            None => Ok(()),
        }
    }

    /// Passes `result` on. After an error, content that was reported as stored may be missing, so this writer
    /// seals nothing any more.
    pub(super) fn fail_on_error<T>(&self, result: Result<T>) -> Result<T> {
        self.staged.fail_on_error(result)
    }
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectWriter in {}", self.temps.dir().display())
    }
}
