//! Open files, and their bytes: exactly the manifest's size of them, or an error (L15).

use super::VerifyMode;
use super::errno::{Answer, Failure};
use super::recent::Recent;
use crate::objects::{Content, LargeObject, Objects};
use crate::words::{Digest, Place};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of small blobs kept after they were verified.
const RECENT_BYTES: usize = 8 << 20;
/// How many large objects `--verify all` remembers to have hashed; beyond that some are hashed again.
const HASHED_OBJECTS: usize = 1 << 16;

/// What a file entry says of its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) place: Option<Place>,
}

/// A file somebody has open. The object behind a large one is opened at its first read, as it would be without an open.
struct OpenFile {
    blob: Blob,
    large: Mutex<Option<Arc<LargeObject>>>,
}

/// The files of one mount. Its memory is bounded by what is open, and [`RECENT_BYTES`].
pub(super) struct Files {
    objects: Arc<Objects>,
    verify: VerifyMode,
    recent: Recent,
    open: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next: AtomicU64,
    /// Objects hashed in this process, with the inode and change time that were hashed: a replaced one is another.
    hashed: Mutex<HashMap<Digest, (u64, i64, i64)>>,
}

impl Files {
    pub(super) fn new(objects: Arc<Objects>, verify: VerifyMode) -> Files {
        Files { objects, verify, recent: Recent::new(RECENT_BYTES), open: Mutex::default(), next: AtomicU64::new(1), hashed: Mutex::default() }
    }

    /// A handle for reading `blob`; nothing is read or checked yet.
    pub(super) fn open(&self, blob: Blob) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(handle, Arc::new(OpenFile { blob, large: Mutex::default() }));
        handle
    }

    pub(super) fn release(&self, handle: u64) {
        let gone = self.open.lock().remove(&handle);
        // Closing a file may wait for a server: not under the table's lock.
        drop(gone);
    }

    /// Reads through a handle; `None` when there is no such handle.
    pub(super) fn read_open(&self, handle: u64, offset: u64, length: u32, out: &mut Vec<u8>) -> Option<Answer<()>> {
        let file = self.open.lock().get(&handle).cloned()?;
        Some(self.read_file(&file, offset, length, out))
    }

    /// Reads without a handle.
    pub(super) fn read(&self, blob: Blob, offset: u64, length: u32, out: &mut Vec<u8>) -> Answer<()> {
        self.read_file(&OpenFile { blob, large: Mutex::default() }, offset, length, out)
    }

    fn read_file(&self, file: &OpenFile, offset: u64, length: u32, out: &mut Vec<u8>) -> Answer<()> {
        let Blob { digest, size, place } = file.blob;
        let wanted = size.saturating_sub(offset).min(u64::from(length)) as usize;
        if wanted == 0 {
            out.clear();
            return Ok(());
        }
        let known = file.large.lock().clone();
        let large = match known {
            Some(large) => large,
            None => {
                if let Some(bytes) = self.recent.get(&digest) {
                    return cut(&bytes, size, offset, wanted, out);
                }
                match self.objects.content_into(&digest, size, place, out)? {
                    Content::Small(()) if offset == 0 && wanted == out.len() => return Ok(()),
                    Content::Small(()) => {
                        let whole = Arc::new(std::mem::take(out));
                        self.recent.put(digest, whole.clone());
                        return cut(&whole, size, offset, wanted, out);
                    }
                    Content::Large(large) => self.checked(&digest, large)?,
                }
            }
        };
        let read = read_whole(&large, size, offset, wanted, out);
        // After an error the object is looked for anew: a repair shows at the next read.
        *file.large.lock() = read.is_ok().then_some(large);
        read
    }

    /// `--verify all`: each object is hashed once per process, before its first byte is served.
    fn checked(&self, digest: &Digest, large: LargeObject) -> Answer<Arc<LargeObject>> {
        if self.verify == VerifyMode::All {
            let meta = large.file().metadata().map_err(|e| crate::error::Error::io_message(format!("cannot look at object {digest}")).because(e))?;
            let is = (meta.ino(), meta.ctime(), meta.ctime_nsec());
            if self.hashed.lock().get(digest) != Some(&is) {
                large.verify()?;
                let mut hashed = self.hashed.lock();
                if hashed.len() >= HASHED_OBJECTS {
                    hashed.clear();
                }
                hashed.insert(*digest, is);
            }
        }
        Ok(Arc::new(large))
    }
}

fn cut(bytes: &[u8], size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> Answer<()> {
    // The blob has its digest and its size, so this cannot fail; a short reply would be wrong data, so it is looked at all the same.
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes.get(from..).and_then(|rest| rest.get(..wanted)).ok_or(Failure::TooShort { size, end: bytes.len() as u64 })?;
    out.clear();
    out.extend_from_slice(part);
    Ok(())
}

fn read_whole(large: &LargeObject, size: u64, offset: u64, wanted: usize, out: &mut Vec<u8>) -> Answer<()> {
    // Not cleared first: what the last read left is overwritten, so that nothing is filled with zeros for nothing.
    out.resize(wanted, 0);
    let mut done = 0;
    while done < wanted {
        match large.file().read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => return Err(Failure::TooShort { size, end: offset + done as u64 }),
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                let number = e.raw_os_error();
                return Err(crate::error::Error::io_message(format!("cannot read an object's bytes at {offset} (error number {number:?})")).because(e).into());
            }
        }
    }
    Ok(())
}
