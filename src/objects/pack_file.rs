//! Open packs: reading a blob, a header, the footer; and a bounded set of them.

use super::pack::{self, BLOB_HEADER, Blob, ENTRY, Footer, Kind, MAX_BLOB, Made, TRAILER};
use crate::disk::{self, read_full_at, read_two_at};
use crate::error::{Error, Kind as ErrorKind, Result, show_path};
use crate::types::{Digest, PackRef};
use parking_lot::RwLock;
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why one copy of something could not be had.
#[derive(Debug)]
pub(super) enum Miss {
    /// It isn't there.
    Gone,
    /// It is there and wrong: what was expected and found.
    Wrong(String),
    /// The system failed; another copy may be readable.
    Io(Error),
}

impl Miss {
    /// Of a failed call. A stale handle means that another host moved or removed the file.
    pub(super) fn of_io(action: &str, path: &Path, e: io::Error) -> Miss {
        if e.raw_os_error() == Some(libc::ESTALE) { Miss::Gone } else { Miss::Io(Error::io(action, path, e)) }
    }
}

/// Whether the disk could not read what is there: as good as nothing. Other errors (no memory, no permission, no
/// connection) say nothing of what is there.
pub(super) fn is_unreadable(e: &Error) -> bool {
    matches!(
        e.errno(),
        Some(libc::EIO | libc::EREMOTEIO | libc::EUCLEAN | libc::EBADMSG | libc::EILSEQ | libc::ENODATA)
    )
}

impl From<Error> for Miss {
    fn from(e: Error) -> Miss {
        if e.kind() == ErrorKind::Damaged { Miss::Wrong(format!("{e:#}")) } else { Miss::Io(e) }
    }
}

/// What a look for one copy gives.
pub(super) type Tried<T> = std::result::Result<T, Miss>;

/// A pack open for reading.
#[derive(Debug)]
pub(super) struct PackFile {
    file: File,
    path: PathBuf,
    len: u64,
    made: Made,
}

impl PackFile {
    /// Opens the pack at `path`.
    pub(super) fn open(path: PathBuf) -> Tried<PackFile> {
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        Ok(PackFile { file, path, len: meta.len(), made: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// When it was written, by its writer's clock: a preference at most.
    pub(super) fn made(&self) -> Made {
        self.made
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The header at `offset`, of a blob that ends in the file.
    pub(super) fn header(&self, offset: u32) -> Tried<Blob> {
        let mut head = [0; BLOB_HEADER];
        let n = self.read_at(&mut head, u64::from(offset))?;
        let blob =
            Blob::from_header(&head[..n], offset).ok_or_else(|| self.wrong(offset, "there is no blob header"))?;
        // At least its own entry and the trailer come after it.
        if blob.end() + (ENTRY + TRAILER) as u64 > self.len {
            return Err(self.wrong(
                offset,
                &format!("a blob of {} bytes begins here, and the file ends at {}", blob.len, self.len),
            ));
        }
        Ok(blob)
    }

    /// Reads the stored bytes of a blob into `out`, by one read if `guess` is at least how long they are. The header is
    /// checked; the bytes are for the caller to hash.
    pub(super) fn read(&self, digest: &Digest, kind: Kind, offset: u32, guess: u32, out: &mut Vec<u8>) -> Tried<()> {
        let body = u64::from(offset) + BLOB_HEADER as u64;
        // Never more memory than the file has bytes, whatever a hint or a manifest claims.
        out.resize(u64::from(guess.min(MAX_BLOB)).min(self.len.saturating_sub(body)) as usize, 0);
        let mut head = [0; BLOB_HEADER];
        let n = read_two_at(&self.file, &mut head, out, u64::from(offset))
            .map_err(|e| Miss::of_io("read", &self.path, e))?;
        let blob = Blob::from_header(&head[..n.min(BLOB_HEADER)], offset)
            .ok_or_else(|| self.wrong(offset, "there is no blob header"))?;
        if blob.digest != *digest || blob.kind != kind {
            return Err(
                self.wrong(offset, &format!("there is {} {}, expected {kind} {digest}", blob.kind, blob.digest))
            );
        }
        if blob.end() > self.len {
            return Err(self.wrong(
                offset,
                &format!("{kind} of {} bytes is said to begin here, and the file ends at {}", blob.len, self.len),
            ));
        }
        let (len, have) = (blob.len as usize, n - BLOB_HEADER);
        if len > have {
            out.resize(len, 0);
            if self.read_at(&mut out[have..], body + have as u64)? < len - have {
                return Err(self.wrong(offset, "the file ends inside the blob"));
            }
        }
        out.truncate(len);
        Ok(())
    }

    /// The footer, checked against the pack's name; and where it begins.
    pub(super) fn footer(&self, name: &Digest) -> Tried<(Footer, u64)> {
        let (start, _) = self.trailer()?;
        let mut bytes = vec![0; (self.len - start) as usize];
        if self.read_at(&mut bytes, start)? < bytes.len() {
            return Err(self.no_footer());
        }
        Ok((Footer::parse(&bytes, start, name)?, start))
    }

    /// Searches the footer where it lies, without reading or checking all of it: what is found is for the blob's own
    /// header to confirm.
    pub(super) fn search(&self, digest: &Digest, kind: Kind) -> Tried<Option<Blob>> {
        let (start, count) = self.trailer()?;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; ENTRY];
            self.read_at(&mut entry, start + (middle * ENTRY) as u64)?;
            let blob = Blob::from_entry(&entry).ok_or_else(|| self.no_footer())?;
            match (blob.digest, blob.kind).cmp(&(*digest, kind)) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some(blob)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn trailer(&self) -> Tried<(u64, usize)> {
        let mut trailer = [0; TRAILER];
        let at = self.len.checked_sub(TRAILER as u64).ok_or_else(|| self.no_footer())?;
        if self.read_at(&mut trailer, at)? < TRAILER {
            return Err(self.no_footer());
        }
        pack::footer_start(&trailer, self.len).ok_or_else(|| self.no_footer())
    }

    fn read_at(&self, out: &mut [u8], at: u64) -> Tried<usize> {
        read_full_at(&self.file, out, at).map_err(|e| Miss::of_io("read", &self.path, e))
    }

    pub(super) fn wrong(&self, offset: u32, what: &str) -> Miss {
        Miss::Wrong(format!("{} at {offset}: {what}", show_path(&self.path)))
    }

    fn no_footer(&self) -> Miss {
        Miss::Wrong(format!("{} has no footer that fits its {} bytes", show_path(&self.path), self.len))
    }
}

/// Packs kept open for reading.
const OPEN_PACKS: usize = 256;

type Slot = RwLock<Option<(PackRef, Arc<PackFile>)>>;

/// Open packs, each in the slot of its number modulo [`OPEN_PACKS`]: bounded, and no lock at which all readers meet.
#[derive(Debug)]
pub(super) struct OpenPacks(Box<[Slot]>);

impl Default for OpenPacks {
    fn default() -> Self {
        OpenPacks((0..OPEN_PACKS).map(|_| RwLock::new(None)).collect())
    }
}

impl OpenPacks {
    fn slot(&self, pack: PackRef) -> &Slot {
        &self.0[pack.0 as usize % OPEN_PACKS]
    }

    pub(super) fn get(&self, pack: PackRef) -> Option<Arc<PackFile>> {
        self.slot(pack).read().as_ref().filter(|(p, _)| *p == pack).map(|(_, file)| file.clone())
    }

    pub(super) fn put(&self, pack: PackRef, file: Arc<PackFile>) {
        let before = self.slot(pack).write().replace((pack, file));
        drop(before); // closing may wait for a server: not under the lock
    }

    /// Forgets a pack: its handle went stale, or a repair may have replaced the file.
    pub(super) fn forget(&self, pack: PackRef) {
        let before = self.slot(pack).write().take_if(|(p, _)| *p == pack);
        drop(before);
    }
}

/// Reads and checks a pack's footer.
///
/// # Errors
/// Damaged, missing, or not to be read from the disk; I/O.
pub(super) fn read_footer(path: PathBuf, name: &Digest) -> Result<Footer> {
    match PackFile::open(path).and_then(|pack| pack.footer(name)) {
        Ok((footer, _)) => Ok(footer),
        Err(Miss::Io(e)) if is_unreadable(&e) => {
            Err(Error::damaged(format!("pack {name} cannot be read")).with_source(e))
        }
        Err(Miss::Io(e)) => Err(e),
        Err(Miss::Gone) => Err(Error::damaged(format!("pack {name} is missing"))),
        Err(Miss::Wrong(why)) => Err(Error::damaged(why)),
    }
}
