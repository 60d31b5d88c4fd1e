//! Reading a version's content ahead of its readers: into the page cache, or into a node-local cache.
//!
//! Files are read by many threads, each in order: parts of large objects, and stretches of packs that hold the small
//! files. That is much faster than what a program reaches that reads one file after the other, above all on shared
//! disks.

use super::options::{CheckoutOptions, selected};
use crate::cache::{BLOCK, CacheOptions};
use crate::catalog::{Selector, Version, VersionSpec, resolve};
use crate::error::Result;
use crate::manifest::{Entry, Reference, Visit};
use crate::objects::{Objects, PackedFile, SMALL_MAX};
use crate::progress::{Activity, Progress};
use crate::remote::{is_readable, read_whole_into_cache, use_cache};
use crate::setters::setters;
use crate::store::Store;
use crate::threads;
use crate::types::{Digest, Location, PackRef, RelPath};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a piece: what one thread reads in one go.
const PIECE: u64 = 16 << 20;
/// The same for large files, if there is enough of them for all threads: the kernel's readahead reaches its full speed,
/// and the largest pages of its cache, after some megabytes only.
const LARGE_PIECE: u64 = 128 << 20;
/// Two files in a pack with a gap of at most this many bytes between them are read in one go.
const GAP: u64 = 256 << 10;
/// How many threads read, if nothing else is asked for.
const THREADS: usize = 8;

/// What to read ahead, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WarmOptions {
    /// Only this directory or file.
    pub path: Option<RelPath>,
    /// How many threads read.
    pub threads: usize,
    /// The node-local cache through which content is read. Without it, it is read into the page cache alone.
    pub cache: Option<CacheOptions>,
    /// Read references too.
    pub references: bool,
    /// How far it is.
    pub progress: Arc<Progress>,
}

setters! {
    WarmOptions {
        path: RelPath => Some(path),
        threads: usize,
        cache: CacheOptions => Some(cache),
        references: bool,
        progress: Arc<Progress>,
    }
}

impl Default for WarmOptions {
    fn default() -> Self {
        WarmOptions { path: None, threads: THREADS, cache: None, references: false, progress: Arc::default() }
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warmed {
    /// Files with different content.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// References that were not read.
    pub skipped: u64,
    /// How many bytes the cache may have, if there is one.
    pub limit: Option<u64>,
}

impl Version {
    /// Reads the content of this version, so that later reads are fast: see [`WarmOptions`].
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// # let mut artifact = cairn::Artifact::new("a", None)?;
    /// # artifact.add_bytes("letters", "abcdefgh")?;
    /// # let version = artifact.save(&store)?.version;
    /// use cairn::view::{CacheOptions, WarmOptions};
    ///
    /// let cache = CacheOptions::new(dir.path().join("node")).size(1 << 30);
    /// let warmed = version.warm(&WarmOptions::default().cache(cache))?;
    /// assert_eq!((warmed.files, warmed.bytes), (1, 8));
    /// # Ok::<(), cairn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not found: the path. Those of opening the cache. A conflict, if it was asked to stop. Damaged; I/O.
    pub fn warm(&self, options: &WarmOptions) -> Result<Warmed> {
        let mut limit = None;
        let version = match &options.cache {
            None => self.clone(),
            Some(cache) => {
                let (cache, store) = (cache.open()?, Store::open(self.store().root())?);
                limit = Some(cache.limit());
                use_cache(cache.clone());
                store.objects().read_through(cache);
                let selector = Selector::Number(self.number());
                resolve(&store, &VersionSpec { artifact: self.artifact().clone(), selector })?
            }
        };
        let chosen = CheckoutOptions { path: options.path.clone(), ..CheckoutOptions::default() };
        let warmed = warm(selected(&version, &chosen)?, version.store().objects(), options)?;
        Ok(Warmed { limit, ..warmed })
    }
}

/// Reads the content of entries, through the cache that `objects` has.
///
/// # Errors
/// A conflict, if it was asked to stop. Damaged; I/O.
pub(crate) fn warm(
    entries: impl Iterator<Item = Result<Visit>>,
    objects: &Arc<Objects>,
    options: &WarmOptions,
) -> Result<Warmed> {
    options.progress.set_activity(Activity::Scanning);
    let plan = Plan::of(entries, options)?;
    options.progress.set_activity(Activity::Unknown);
    let (warmed, objects_of_plan) = (plan.warmed, plan.large.clone());
    let pieces = plan.pieces(objects, options.threads)?;
    let progress = &options.progress;
    threads::for_each_with(
        options.threads,
        &pieces,
        Vec::new,
        |buffer, piece| {
            progress.check_cancelled()?;
            piece.read(objects, buffer)?;
            progress.add_done(piece.files, piece.bytes);
            Ok(())
        },
        |_| Ok(()),
    )?;
    // What is whole now can be read by the kernel by itself, after it was checked.
    threads::for_each(options.threads, &objects_of_plan, |(digest, size)| {
        progress.check_cancelled()?;
        objects.check_cached_object(digest, *size);
        Ok(())
    })?;
    Ok(warmed)
}

/// What is to be read.
#[derive(Default)]
struct Plan {
    seen: HashSet<Digest>,
    packed: BTreeMap<PackRef, Vec<PackedFile>>,
    /// Small files whose place is not known.
    searched: Vec<(Digest, u64)>,
    large: Vec<(Digest, u64)>,
    references: Vec<Reference>,
    warmed: Warmed,
}

/// What one thread reads in one go.
struct Piece {
    what: What,
    files: u64,
    bytes: u64,
}

enum What {
    Packed(PackRef, Vec<PackedFile>),
    Searched(Digest, u64),
    Large(Digest, u64, Range<u64>),
    Reference(Reference),
}

impl Plan {
    fn of(entries: impl Iterator<Item = Result<Visit>>, options: &WarmOptions) -> Result<Plan> {
        let mut plan = Plan::default();
        for visit in entries {
            options.progress.check_cancelled()?;
            match visit?.entry {
                Entry::File { digest, size, place, .. } => plan.add(digest, size, place, options),
                Entry::Reference(reference) if options.references && is_readable(&reference).is_ok() => {
                    plan.warmed.files += 1;
                    plan.warmed.bytes += reference.size.unwrap_or(0);
                    options.progress.add_total(1, reference.size.unwrap_or(0));
                    plan.references.push(*reference);
                }
                Entry::Reference(_) => plan.warmed.skipped += 1,
                Entry::Symlink { .. } | Entry::Directory(_) => {}
            }
        }
        Ok(plan)
    }

    fn add(&mut self, digest: Digest, size: u64, place: Option<Location>, options: &WarmOptions) {
        if size == 0 || !self.seen.insert(digest) {
            return;
        }
        self.warmed.files += 1;
        self.warmed.bytes += size;
        options.progress.add_total(1, size);
        match place {
            _ if size >= SMALL_MAX => self.large.push((digest, size)),
            Some(place) => {
                self.packed.entry(place.pack).or_default().push(PackedFile { digest, size, offset: place.offset });
            }
            None => self.searched.push((digest, size)),
        }
    }

    /// The pieces, in the order of the disk: packs from their beginning to their end, objects by inode.
    fn pieces(mut self, objects: &Objects, threads: usize) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for (pack, mut files) in std::mem::take(&mut self.packed) {
            files.sort_unstable_by_key(|file| file.offset);
            let mut at: Vec<PackedFile> = Vec::new();
            for file in files {
                let apart = at.last().is_some_and(|last| u64::from(file.offset) > last.end() + GAP);
                let full = at.first().is_some_and(|first| file.end() > u64::from(first.offset) + PIECE);
                if apart || full {
                    pieces.push(Piece::packed(pack, std::mem::take(&mut at)));
                }
                at.push(file);
            }
            pieces.push(Piece::packed(pack, at));
        }
        let share = self.large.iter().map(|(_, size)| size).sum::<u64>() / threads.max(1) as u64;
        let length = share.clamp(PIECE, LARGE_PIECE).next_multiple_of(BLOCK);
        for (digest, size) in objects.in_order_of_the_disk(std::mem::take(&mut self.large))? {
            pieces.extend((0..size).step_by(length as usize).map(|from| {
                let bytes = length.min(size - from);
                Piece { what: What::Large(digest, size, from..from + bytes), files: u64::from(from == 0), bytes }
            }));
        }
        let searched = self.searched.drain(..);
        pieces.extend(searched.map(|(digest, size)| Piece {
            what: What::Searched(digest, size),
            files: 1,
            bytes: size,
        }));
        pieces.extend(self.references.drain(..).map(|reference| {
            let bytes = reference.size.unwrap_or(0);
            Piece { what: What::Reference(reference), files: 1, bytes }
        }));
        Ok(pieces)
    }
}

impl Piece {
    fn packed(pack: PackRef, files: Vec<PackedFile>) -> Piece {
        let bytes = files.iter().map(|file| file.size).sum();
        Piece { files: files.len() as u64, bytes, what: What::Packed(pack, files) }
    }

    fn read(&self, objects: &Objects, buffer: &mut Vec<u8>) -> Result<()> {
        match &self.what {
            What::Packed(pack, files) => {
                let from = files.first().map_or(0, |file| u64::from(file.offset));
                let to = files.last().map_or(0, PackedFile::end);
                if !objects.read_pack_ahead(*pack, from..to, buffer)? {
                    // The pack was rewritten: each file is searched.
                    for file in files {
                        objects.read_small_into(&file.digest, file.size, None, buffer)?;
                    }
                }
                Ok(())
            }
            What::Searched(digest, size) => objects.read_small_into(digest, *size, None, buffer),
            What::Large(digest, size, range) => objects.read_object_ahead(digest, *size, range.clone(), buffer),
            What::Reference(reference) => read_whole_into_cache(reference),
        }
    }
}
