//! The bytes of files: exactly the manifest's size of them, or an error (L15).

use super::VerifyMode;
use super::errno::{Failure, FuseResult};
use super::inode_tree::Readable;
use crate::error::{Error, Result};
use crate::objects::{Content, LargeObject, Objects, SMALL_MAX};
use crate::recent_cache::RecentCache;
use crate::types::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// Bytes of small blobs kept after they were verified.
const RECENT_BYTES: usize = 8 << 20;
/// How many object files are kept open between reads.
const OPEN_OBJECTS: usize = 128;
/// How many large objects `--verify all` remembers to have hashed; beyond that some are hashed again.
const HASHED_OBJECTS: usize = 1 << 16;

/// An object file that was opened and checked, and how it looked then. Looked at again before each read: one that was
/// changed, replaced or removed meanwhile is opened and checked anew.
pub(super) struct Checked {
    object: LargeObject,
    state: (u64, i64, i64),
}

impl Checked {
    /// The open file.
    pub(super) fn file(&self) -> &File {
        self.object.file()
    }
}

/// The files of one mount. Its memory is bounded, whatever is open.
pub(super) struct Files {
    objects: Arc<Objects>,
    verify: VerifyMode,
    small: RecentCache<Vec<u8>>,
    large: RecentCache<Checked>,
    /// Objects hashed in this process, with the inode and change time that were hashed: a replaced one is another.
    hashed: Mutex<HashMap<Digest, (u64, i64, i64)>>,
}

impl Files {
    pub(super) fn new(objects: Arc<Objects>, verify: VerifyMode) -> Files {
        Files {
            objects,
            verify,
            small: RecentCache::new(RECENT_BYTES),
            large: RecentCache::new(OPEN_OBJECTS),
            hashed: Mutex::default(),
        }
    }

    /// Puts into `out` what the file holds at `offset`: `length` bytes, or all up to its end. After an error `out`
    /// holds nothing of meaning.
    pub(super) fn read(&self, of: &Readable, offset: u64, length: u32, out: &mut Vec<u8>) -> FuseResult<()> {
        let Readable { digest, size, place, .. } = *of;
        let wanted = size.saturating_sub(offset).min(u64::from(length)) as usize;
        if wanted == 0 {
            out.clear();
            return Ok(());
        }
        let large = match self.open_already(&digest)? {
            Some(large) => large,
            None => {
                if let Some(bytes) = self.small.get(&digest) {
                    return cut(&bytes, size, offset, wanted, out);
                }
                match self.objects.content_into(&digest, size, place, out)? {
                    Content::Small(()) if offset == 0 && wanted == out.len() => return Ok(()),
                    Content::Small(()) => {
                        let whole = Arc::new(std::mem::take(out));
                        self.small.put(digest, whole.clone(), whole.len());
                        return cut(&whole, size, offset, wanted, out);
                    }
                    Content::Large(large) => self.checked(&digest, large)?,
                }
            }
        };
        let read = read_whole(large.file(), size, offset, wanted, out);
        if read.is_err() {
            // After an error the object is looked for anew: a repair shows at the next read.
            self.large.remove(&digest);
        }
        read
    }

    /// The object file behind a large file, checked as for a read; `None` when its bytes are packed.
    pub(super) fn object(&self, of: &Readable) -> FuseResult<Option<Arc<Checked>>> {
        if of.size < SMALL_MAX {
            return Ok(None);
        }
        if let Some(large) = self.open_already(&of.digest)? {
            return Ok(Some(large));
        }
        match self.objects.content(&of.digest, of.size, of.place)? {
            Content::Small(_) => Ok(None),
            Content::Large(large) => self.checked(&of.digest, large).map(Some),
        }
    }

    /// Closes what was not read for two of these calls.
    pub(super) fn close_idle(&self) {
        self.large.turn();
        self.small.turn();
    }

    /// An object file that is open and as it was when it was checked.
    fn open_already(&self, digest: &Digest) -> FuseResult<Option<Arc<Checked>>> {
        let Some(large) = self.large.get(digest) else { return Ok(None) };
        if is_as_checked(&large)? {
            return Ok(Some(large));
        }
        self.large.remove(digest);
        Ok(None)
    }

    /// Keeps an object open. `--verify all`: each is hashed once per process, before its first byte is served.
    fn checked(&self, digest: &Digest, object: LargeObject) -> FuseResult<Arc<Checked>> {
        let meta = look_at(&object)?;
        if self.verify == VerifyMode::All {
            let is = (meta.ino(), meta.ctime(), meta.ctime_nsec());
            if self.hashed.lock().get(digest) != Some(&is) {
                self.objects.verify_object(&object)?;
                let mut hashed = self.hashed.lock();
                if hashed.len() >= HASHED_OBJECTS {
                    hashed.clear();
                }
                hashed.insert(*digest, is);
            }
        }
        let checked = Arc::new(Checked { object, state: (meta.len(), meta.mtime(), meta.mtime_nsec()) });
        self.large.put(*digest, checked.clone(), 1);
        Ok(checked)
    }
}

fn look_at(object: &LargeObject) -> Result<std::fs::Metadata> {
    object.file().metadata().map_err(|e| Error::io("look at", object.path(), e))
}

fn is_as_checked(checked: &Checked) -> FuseResult<bool> {
    let meta = look_at(&checked.object)?;
    Ok(meta.nlink() > 0 && checked.state == (meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn cut(bytes: &[u8], size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> FuseResult<()> {
    // The blob has its digest and its size, so this cannot fail; a short reply would be wrong data, so it is looked at
    // all the same.
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes
        .get(from..)
        .and_then(|rest| rest.get(..wanted))
        .ok_or(Failure::TooShort { size, end: bytes.len() as u64 })?;
    out.clear();
    out.extend_from_slice(part);
    Ok(())
}

fn read_whole(file: &File, size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> FuseResult<()> {
    // Not cleared first: what the last read left is overwritten, so that nothing is filled with zeros for nothing.
    out.resize(wanted, 0);
    let mut done = 0;
    while done < wanted {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => return Err(Failure::TooShort { size, end: offset + done as u64 }),
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
