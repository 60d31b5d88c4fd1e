//! Rewriting packs for a garbage collector: the blobs that are needed go into new packs, which are durable and visible
//! before the old ones may leave their place.
//!
//! Content comes first, then nodes, in packs of their own. So the hints of a node that moves can name the new places of
//! what moves with it. Each blob is hashed before it is written: a pack with a wrong blob among the wanted ones stays
//! as it is.

use super::codec::{self, BlobCompressor, StoredBytes};
use super::content_store::Objects;
use super::damage::DamagedItem;
use super::hints;
use super::index::{Index, IndexScope};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::pack::{Blob, BlobKind, Codec, MAX_NODE_PACK, MAX_PACK};
use super::pack_file::PackFile;
use super::pack_writer::PackWriter;
use super::recipe::Recipe;
use super::staged_files::{StagedAs, StagedFiles};
use super::temp_names::TempNames;
use crate::disk;
use crate::error::Result;
use crate::manifest::Node;
use crate::progress::Progress;
use crate::types::{Digest, Location, PackRef};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A set of the blobs of one pack, by their positions in its footer.
#[derive(Clone, Debug, Default)]
pub struct BlobSet(Box<[u64]>);

impl BlobSet {
    /// No blob of a pack that has `count`.
    pub fn new(count: usize) -> BlobSet {
        BlobSet(vec![0; count.div_ceil(64)].into())
    }

    /// Adds a blob.
    pub fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Whether it has a blob.
    pub fn contains(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    /// How many blobs it has.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// What a rewriting did.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Packs of which every wanted blob is in a new pack.
    pub complete: Vec<Digest>,
    /// Packs that stay, because a wanted blob is wrong or cannot be read: why.
    pub damaged: Vec<String>,
    /// Bytes of the new packs.
    pub bytes: u64,
    /// How many new packs there are.
    pub packs: u64,
}

impl Objects {
    /// Copies the wanted blobs of these packs into new packs and makes these durable and visible. Temporary files go to
    /// `dir`, a token's directory.
    ///
    /// # Errors
    /// I/O. A conflict, if it was cancelled. Then nothing may be freed; new packs that are visible hold right copies.
    pub fn rewrite_packs(
        self: &Arc<Self>,
        dir: &Path,
        packs: &[(Digest, &BlobSet)],
        progress: &Progress,
    ) -> Result<Rewritten> {
        let mut rewriter = Rewriter::new(self, dir, progress)?;
        for kind in [BlobKind::Content, BlobKind::Recipe, BlobKind::Node] {
            for (name, wanted) in packs {
                rewriter.copy(name, wanted, kind)?;
            }
            // Contents and recipes share packs.
            if kind != BlobKind::Content {
                rewriter.close_pack()?;
            }
        }
        rewriter.publish(packs.iter().map(|(name, _)| *name))
    }

    /// Copies these blobs of a pack whose footer is damaged, as [`Objects::rewrite_packs`] does. Returns whether all of
    /// them were right.
    ///
    /// # Errors
    /// As [`Objects::rewrite_packs`].
    pub(super) fn rewrite_blobs(
        self: &Arc<Self>,
        dir: &Path,
        name: &Digest,
        blobs: &[Blob],
        progress: &Progress,
    ) -> Result<bool> {
        let mut rewriter = Rewriter::new(self, dir, progress)?;
        for kind in [BlobKind::Content, BlobKind::Recipe, BlobKind::Node] {
            match PackFile::open(self.layout().pack(name)) {
                Ok(file) => rewriter.copy_blobs(name, &file, blobs.iter().filter(|blob| blob.kind == kind).copied())?,
                Err(miss) => rewriter.fail(name, miss, DamagedItem::Pack(*name))?,
            }
            if kind != BlobKind::Content {
                rewriter.close_pack()?;
            }
        }
        Ok(rewriter.publish([*name].into_iter())?.complete.contains(name))
    }
}

struct Rewriter<'a> {
    objects: &'a Arc<Objects>,
    staged: StagedFiles,
    temps: TempNames,
    index: Arc<Index>,
    progress: &'a Progress,
    pack: Option<PackWriter>,
    /// Where blobs went, by the first bytes of their digests. Only for hints, which are checked when they are used.
    moved: HashMap<u64, Location>,
    failed: HashSet<Digest>,
    report: Rewritten,
    buffer: Vec<u8>,
    compressor: BlobCompressor,
}

impl<'a> Rewriter<'a> {
    fn new(objects: &'a Arc<Objects>, dir: &Path, progress: &'a Progress) -> Result<Rewriter<'a>> {
        Ok(Rewriter {
            objects,
            staged: StagedFiles::begin(objects, dir)?,
            temps: TempNames::new(dir),
            index: objects.load_index(IndexScope::Packs)?,
            progress,
            pack: None,
            moved: HashMap::new(),
            failed: HashSet::new(),
            report: Rewritten::default(),
            buffer: Vec::new(),
            compressor: BlobCompressor::default(),
        })
    }

    /// Copies the wanted blobs of one kind, in the order in which they lie in the pack.
    fn copy(&mut self, name: &Digest, wanted: &BlobSet, kind: BlobKind) -> Result<()> {
        self.progress.check_cancelled()?;
        if self.failed.contains(name) {
            return Ok(());
        }
        let opened = PackFile::open(self.objects.layout().pack(name)).and_then(|file| Ok((file.footer(name)?.0, file)));
        let (footer, file) = match opened {
            Ok(opened) => opened,
            Err(miss) => return self.fail(name, miss, DamagedItem::Pack(*name)),
        };
        let wanted = footer.blobs.iter().enumerate().filter(|(i, blob)| blob.kind == kind && wanted.contains(*i));
        let mut blobs: Vec<Blob> = wanted.map(|(_, blob)| *blob).collect();
        blobs.sort_unstable_by_key(|blob| blob.offset);
        self.copy_blobs(name, &file, blobs.into_iter())
    }

    fn copy_blobs(&mut self, name: &Digest, file: &PackFile, blobs: impl Iterator<Item = Blob>) -> Result<()> {
        let number = self.objects.pack_number(name);
        for blob in blobs {
            match self.read(file, &blob, number) {
                Ok(codec) => self.append(&blob, codec)?,
                Err(miss) => {
                    let damaged = DamagedItem::Blob { digest: blob.digest, kind: blob.kind, pack: *name };
                    return self.fail(name, miss, damaged);
                }
            }
        }
        Ok(())
    }

    /// Reads a blob into the buffer as it will be stored, and compares its digest. What is compressed stays so.
    fn read(&mut self, file: &PackFile, blob: &Blob, pack: PackRef) -> ReadAttempt<Codec> {
        let Blob { digest, kind, offset, len, .. } = *blob;
        let mut codec = file.read_stored(&digest, kind, offset, len, &mut self.buffer)?.codec;
        let wrong = |why: String| file.wrong(offset, &why);
        let bytes = codec::unpacked(StoredBytes { codec, bytes: &self.buffer }).map_err(wrong)?;
        let found = match kind {
            BlobKind::Content => Digest::of(&bytes),
            BlobKind::Recipe => Recipe::parse(&bytes, &digest).map(|_| digest).map_err(wrong)?,
            BlobKind::Node => {
                let (node, _) = hints::decode(&bytes, Some(pack), self.objects.table())
                    .map_err(|e| file.wrong(offset, &format!("{e:#}")))?;
                let found = node.digest();
                self.buffer = self.encode(&node)?;
                codec = self.compress_again(codec);
                found
            }
        };
        if found == digest {
            return Ok(codec);
        }
        Err(file.wrong(offset, &format!("the bytes have digest {found}, expected {digest}")))
    }

    /// Compresses the node in the buffer if it was compressed before its hints changed.
    fn compress_again(&mut self, before: Codec) -> Codec {
        if before != Codec::Zstd {
            return Codec::Raw;
        }
        match self.compressor.stored(&self.buffer) {
            StoredBytes { codec: Codec::Zstd, bytes } => {
                self.buffer = bytes.to_vec();
                Codec::Zstd
            }
            _ => Codec::Raw,
        }
    }

    /// A node as it is stored in the open pack, with hints to where the things that it names lie now.
    fn encode(&mut self, node: &Node) -> Result<Vec<u8>> {
        let max_len = hints::max_len(node);
        let number = self.open_pack(BlobKind::Node, max_len)?;
        let node = node.with_places(&mut |digest, kind, place| {
            if let Some(moved) = self.moved.get(&digest.prefix()) {
                return Some(*moved);
            }
            let name = self.objects.pack_name(place?.pack)?;
            if !self.index.lacks_pack(&name) {
                return place;
            }
            let kind = if kind { BlobKind::Node } else { BlobKind::Content };
            self.index.find_location(digest, kind, self.objects.table(), Some)
        })?;
        hints::encode(&node, Some(number), self.objects.table())
    }

    /// The open pack, with room for `len` bytes.
    fn open_pack(&mut self, kind: BlobKind, len: usize) -> Result<PackRef> {
        if self.pack.as_ref().is_some_and(|pack| !pack.has_room_for(len)) {
            self.close_pack()?;
        }
        let limit = if kind == BlobKind::Node { MAX_NODE_PACK } else { MAX_PACK };
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => {
                let number = self.objects.reserve_pack_number();
                none.insert(PackWriter::create(self.objects.disk(), self.temps.next('p'), number, limit)?)
            }
        };
        Ok(pack.number())
    }

    /// Writes the buffer as this blob, unless it was written before.
    fn append(&mut self, blob: &Blob, codec: Codec) -> Result<()> {
        self.open_pack(blob.kind, self.buffer.len())?;
        let Some(pack) = &mut self.pack else { return Ok(()) };
        let place = pack.append(blob.digest, blob.kind, StoredBytes { codec, bytes: &self.buffer })?;
        self.moved.insert(blob.digest.prefix(), place);
        Ok(())
    }

    fn close_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let number = pack.number();
        let closed = pack.close()?;
        self.objects.name_pack(number, closed.name);
        self.report.packs += 1;
        self.report.bytes += disk::lstat(closed.file.path())?.map_or(0, |meta| meta.len());
        self.staged.stage(closed.file, StagedAs::Pack(closed.name))
    }

    /// A pack that cannot be rewritten stays. What was copied of it is a second copy.
    fn fail(&mut self, name: &Digest, miss: Miss, item: DamagedItem) -> Result<()> {
        self.failed.insert(*name);
        match miss {
            Miss::Gone => {} // another collection moved it
            Miss::Wrong(why) | Miss::Incomplete(why) => {
                self.objects.list_as_damaged(item);
                self.report.damaged.push(why);
            }
            Miss::Io(e) if is_unreadable(&e) => {
                self.objects.list_unreadable(item);
                self.report.damaged.push(format!("{e:#}"));
            }
            Miss::Io(e) => return Err(e),
        }
        Ok(())
    }

    fn publish(mut self, packs: impl Iterator<Item = Digest>) -> Result<Rewritten> {
        self.staged.publish(&[], BTreeSet::new())?;
        let new = self.staged.take_published_packs();
        if !new.is_empty() {
            // The index is a cache: an error here does not concern the packs.
            let _: Result<()> = self.objects.maintain_index(&self.index, &new, self.temps.dir());
        }
        self.report.complete = packs.filter(|name| !self.failed.contains(name)).collect();
        Ok(std::mem::take(&mut self.report))
    }
}

impl Drop for Rewriter<'_> {
    /// If the file cannot be removed, the next collection removes it with its token.
    fn drop(&mut self) {
        if let Some(pack) = self.pack.take() {
            let _: Result<()> = self.objects.disk().remove_file(pack.path());
        }
    }
}
