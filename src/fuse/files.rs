//! The content of files: exactly as many bytes as the manifest says, or an error (L15).

use super::VerifyMode;
use super::cached_files::CachedFiles;
use super::errno::{FuseResult, RequestFailure};
use super::inode_tree::Readable;
use super::shared_files::SharedFiles;
use crate::error::{Error, Result};
use crate::objects::{ComposedFile, Content, LargeObject, Objects, SMALL_MAX};
use crate::recent_cache::RecentCache;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// How many bytes of verified small files are cached.
const RECENT_BYTES: usize = 8 << 20;
/// How many object files are kept open between reads.
const OPEN_OBJECTS: usize = 128;
/// How much memory of composed content weighs as much as an open object file.
const MEMORY_OF_ONE: u64 = 256 << 10;
/// How many hashed objects `--verify all` remembers. If there are more, some are hashed again.
const HASHED_OBJECTS: usize = 1 << 16;

/// An object file that was opened and checked, with its size and time. These are compared before each read: if the file
/// was changed, replaced or removed, it is opened and checked again.
pub(super) struct CheckedObject {
    object: LargeObject,
    state: (u64, i64, i64),
}

/// How the content of a large file can be read.
pub(super) enum Backing {
    /// By the kernel, from an object file of the store.
    Object(Arc<CheckedObject>),
    /// By the kernel, from a file of the cache.
    Cached(File),
    /// By the kernel, from a file that shares the blocks of the objects of composed content.
    Shared(Arc<File>),
    /// Through the daemon: not all of it is in the cache yet.
    Daemon,
}

impl Backing {
    /// The file that the kernel can read.
    pub(super) fn file(&self) -> Option<&File> {
        match self {
            Backing::Object(object) => Some(object.object.file()),
            Backing::Cached(file) => Some(file),
            Backing::Shared(file) => Some(file),
            Backing::Daemon => None,
        }
    }
}

/// Composed content that was opened and checked, with the sizes and times of its objects. Before each read those are
/// compared that the read touches.
struct CheckedParts {
    composed: ComposedFile,
    /// By the numbers of the sources.
    states: HashMap<usize, (u64, i64, i64)>,
}

/// The files of one mount. Its memory does not grow with the number of open files.
pub(super) struct Files {
    objects: Arc<Objects>,
    verify: VerifyMode,
    small: RecentCache<Vec<u8>>,
    large: RecentCache<CheckedObject>,
    composed: RecentCache<CheckedParts>,
    shared: SharedFiles,
    /// The objects that were hashed, with inode and change time, so that a replaced object is hashed again.
    hashed: Mutex<HashMap<Digest, (u64, i64, i64)>>,
    /// The cache through which large files are read.
    cached: Option<CachedFiles>,
}

impl Files {
    pub(super) fn new(objects: Arc<Objects>, verify: VerifyMode) -> Files {
        let cached = objects.cache().map(|cache| CachedFiles::new(cache.clone(), verify));
        Files {
            objects,
            cached,
            verify,
            small: RecentCache::new(RECENT_BYTES),
            large: RecentCache::new(OPEN_OBJECTS),
            composed: RecentCache::new(OPEN_OBJECTS),
            shared: SharedFiles::new(),
            hashed: Mutex::default(),
        }
    }

    /// Reads `length` bytes of a file at `offset` into `out`, fewer only at its end. After an error the content of
    /// `out` is undefined.
    pub(super) fn read(&self, of: &Readable, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        let size = of.size;
        let wanted = size.saturating_sub(offset).min(u64::from(length)) as usize;
        if wanted == 0 {
            out.clear();
            return Ok(());
        }
        let store = |offset, wanted, out: &mut Vec<u8>| self.read_from_store(of, offset, wanted, out);
        match &self.cached {
            Some(cached) if size >= SMALL_MAX && cached.read(of, offset, wanted, out, &store)? => Ok(()),
            _ => store(offset, wanted, out),
        }
    }

    /// [`Files::read`], without the cache for large files.
    fn read_from_store(&self, of: &Readable, offset: u64, wanted: usize, out: &mut Vec<u8>) -> FuseResult<()> {
        let Readable { digest, size, place, .. } = *of;
        let large = match self.open_already(&digest)? {
            Some(large) => large,
            None => {
                if let Some(bytes) = self.small.get(&digest) {
                    return cut(&bytes, size, offset, wanted, out);
                }
                if let Some(parts) = self.open_parts(&digest, offset..offset + wanted as u64)? {
                    return self.read_parts(&digest, &parts, offset, wanted, out);
                }
                match self.objects.content_into(&digest, size, place, out)? {
                    Content::Small(()) if offset == 0 && wanted == out.len() => return Ok(()),
                    Content::Small(()) => {
                        let whole = Arc::new(std::mem::take(out));
                        self.small.put(digest, whole.clone(), whole.len());
                        return cut(&whole, size, offset, wanted, out);
                    }
                    Content::Large(large) => self.checked(&digest, large)?,
                    Content::Composed(composed) => {
                        let parts = self.checked_parts(&digest, composed)?;
                        return self.read_parts(&digest, &parts, offset, wanted, out);
                    }
                }
            }
        };
        let read = read_whole(large.object.file(), size, offset, wanted, out);
        if read.is_err() {
            // After an error the next read opens the object again, so that it notices a repair.
            self.large.remove(&digest);
        }
        read
    }

    /// How the content of a large file can be read; `None` for a packed file.
    pub(super) fn backing(&self, of: &Readable) -> FuseResult<Option<Backing>> {
        match &self.cached {
            _ if of.size < SMALL_MAX => Ok(None),
            Some(cached) => Ok(Some(cached.whole(of).map_or(Backing::Daemon, Backing::Cached))),
            None => self.backing_in_store(of).map(Some),
        }
    }

    /// [`Files::backing`], without the cache for large files. What it opens is checked as for a read.
    fn backing_in_store(&self, of: &Readable) -> FuseResult<Backing> {
        if let Some(large) = self.open_already(&of.digest)? {
            return Ok(Backing::Object(large));
        }
        if let Some(file) = self.shared.get(&of.digest) {
            return Ok(Backing::Shared(file));
        }
        let parts = match self.open_parts(&of.digest, 0..of.size)? {
            Some(parts) => parts,
            None => match self.objects.content(&of.digest, of.size, of.place)? {
                Content::Small(_) => return Ok(Backing::Daemon),
                Content::Large(large) => return self.checked(&of.digest, large).map(Backing::Object),
                Content::Composed(composed) => self.checked_parts(&of.digest, composed)?,
            },
        };
        let shared = self.shared.make(&self.objects, &of.digest, &parts.composed);
        Ok(shared.map_or(Backing::Daemon, Backing::Shared))
    }

    /// Closes what was not read since the last but one call.
    pub(super) fn close_idle(&self) {
        self.large.turn();
        self.composed.turn();
        self.small.turn();
        self.shared.close_idle();
        if let Some(cached) = &self.cached {
            cached.close_idle();
        }
    }

    /// An object file that is open and unchanged since it was checked.
    fn open_already(&self, digest: &Digest) -> FuseResult<Option<Arc<CheckedObject>>> {
        let Some(large) = self.large.get(digest) else { return Ok(None) };
        if is_in_state(&large.object, large.state)? && !self.objects.is_listed(digest) {
            return Ok(Some(large));
        }
        self.large.remove(digest);
        Ok(None)
    }

    /// Caches an open object. With `--verify all` it is hashed once per process, before its first byte is served.
    fn checked(&self, digest: &Digest, object: LargeObject) -> FuseResult<Arc<CheckedObject>> {
        self.hash_once(&object)?;
        let state = state_of(&object)?;
        let checked = Arc::new(CheckedObject { object, state });
        self.large.put(*digest, checked.clone(), 1);
        Ok(checked)
    }

    /// With `--verify all`, hashes an object, unless this process has done so.
    fn hash_once(&self, object: &LargeObject) -> FuseResult<()> {
        if self.verify != VerifyMode::All {
            return Ok(());
        }
        let meta = metadata(object)?;
        let (digest, is) = (object.digest(), (meta.ino(), meta.ctime(), meta.ctime_nsec()));
        if self.hashed.lock().get(&digest) != Some(&is) {
            self.objects.verify_object(object)?;
            let mut hashed = self.hashed.lock();
            if hashed.len() >= HASHED_OBJECTS {
                hashed.clear();
            }
            hashed.insert(digest, is);
        }
        Ok(())
    }

    /// Composed content that is open. The objects that have parts of the range are unchanged since they were checked.
    fn open_parts(&self, digest: &Digest, range: Range<u64>) -> FuseResult<Option<Arc<CheckedParts>>> {
        let Some(parts) = self.composed.get(digest) else { return Ok(None) };
        for (source, object) in parts.composed.objects_in(range) {
            let is_same = match parts.states.get(&source) {
                Some(state) => is_in_state(object, *state)? && !self.objects.is_listed(&object.digest()),
                None => false,
            };
            if !is_same {
                self.composed.remove(digest);
                return Ok(None);
            }
        }
        Ok(Some(parts))
    }

    /// Caches open composed content. With `--verify all` each of its objects is hashed once per process.
    fn checked_parts(&self, digest: &Digest, composed: ComposedFile) -> FuseResult<Arc<CheckedParts>> {
        let mut states = HashMap::new();
        for (source, object) in composed.objects_in(0..composed.size()) {
            self.hash_once(object)?;
            states.insert(source, state_of(object)?);
        }
        let memory = (composed.memory() / MEMORY_OF_ONE) as usize;
        // At most a generation of the cache: else it would be opened for each read.
        let weight = states.len().max(memory).clamp(1, OPEN_OBJECTS / 2);
        let parts = Arc::new(CheckedParts { composed, states });
        self.composed.put(*digest, parts.clone(), weight);
        Ok(parts)
    }

    fn read_parts(
        &self,
        digest: &Digest,
        parts: &CheckedParts,
        offset: u64,
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> FuseResult<()> {
        out.resize(wanted, 0);
        let failed = match parts.composed.read_at(out, offset) {
            Ok(n) if n == wanted => return Ok(()),
            Ok(n) => RequestFailure::TooShort { size: parts.composed.size(), end: offset + n as u64 },
            Err(e) => Error::io_message(format!("cannot read the parts of a file at {offset}")).with_source(e).into(),
        };
        // The next read opens the objects again, so that it notices a repair.
        self.composed.remove(digest);
        Err(failed)
    }
}

fn metadata(object: &LargeObject) -> Result<std::fs::Metadata> {
    object.file().metadata().map_err(|e| Error::io("read the attributes of", object.path(), e))
}

/// What differs after an object was changed: its size and time.
fn state_of(object: &LargeObject) -> Result<(u64, i64, i64)> {
    let meta = metadata(object)?;
    Ok((meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn is_in_state(object: &LargeObject, state: (u64, i64, i64)) -> Result<bool> {
    let meta = metadata(object)?;
    Ok(meta.nlink() > 0 && state == (meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn cut(bytes: &[u8], size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> FuseResult<()> {
    // The content was verified, so this cannot fail. It is checked anyway, because a short reply would be wrong data.
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes
        .get(from..)
        .and_then(|rest| rest.get(..wanted))
        .ok_or(RequestFailure::TooShort { size, end: bytes.len() as u64 })?;
    out.clear();
    out.extend_from_slice(part);
    Ok(())
}

fn read_whole(file: &File, size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> FuseResult<()> {
    // The buffer is not cleared first, because zeros would only be overwritten.
    out.resize(wanted, 0);
    let mut done = 0;
    while done < wanted {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => return Err(RequestFailure::TooShort { size, end: offset + done as u64 }),
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                let number = e.raw_os_error();
                return Err(Error::io_message(format!(
                    "cannot read an object's bytes at {offset} (error number {number:?})"
                ))
                .with_source(e)
                .into());
            }
        }
    }
    Ok(())
}
