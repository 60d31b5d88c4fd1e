//! A pack that is open for reading: blobs, headers and the footer.

use super::cached_pack::CachedPack;
use super::codec;
use super::frames::{FrameTable, MAX_TABLE};
use super::miss::{Miss, ReadAttempt, is_unreadable};
use super::pack::{self, BLOB_HEADER, Blob, BlobKind, Codec, ENTRY, Footer, MAX_BLOB, PackTime, TRAILER};
use crate::cache::{Cache, Item};
use crate::disk::{self, read_full_at, read_two_at};
use crate::error::{Error, Result, show_path};
use crate::types::Digest;
use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the bytes of a pack come from.
#[derive(Debug)]
enum PackBytes {
    InStore(File),
    Cached(CachedPack),
}

/// A pack open for reading.
#[derive(Debug)]
pub(super) struct PackFile {
    bytes: PackBytes,
    path: PathBuf,
    len: u64,
    time: PackTime,
}

impl PackFile {
    /// Opens the pack at `path`.
    pub(super) fn open(path: PathBuf) -> ReadAttempt<PackFile> {
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        let bytes = PackBytes::InStore(file);
        Ok(PackFile { bytes, path, len: meta.len(), time: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Opens the pack at `path` for reading through a cache. If the cache knows it, its file in the store is not
    /// opened yet.
    pub(super) fn open_cached(path: PathBuf, name: &Digest, cache: &Arc<Cache>) -> ReadAttempt<PackFile> {
        let key = CachedPack::key(name);
        if let Some(size) = cache.size_of(&key) {
            let pack = CachedPack::new(cache, Item { key, size }, path.clone(), None);
            return Ok(PackFile { bytes: PackBytes::Cached(pack), path, len: size, time: (0, 0) });
        }
        let (file, meta) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
        let pack = CachedPack::new(cache, Item { key, size: meta.len() }, path.clone(), Some(file));
        let time = (meta.mtime(), meta.mtime_nsec());
        Ok(PackFile { bytes: PackBytes::Cached(pack), path, len: meta.len(), time })
    }

    /// When it was written, by its writer's clock. Use it only to prefer one pack to another.
    pub(super) fn time(&self) -> PackTime {
        self.time
    }

    /// Its file in the store, unless it is read through a cache.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.bytes {
            PackBytes::InStore(file) => Some(file),
            PackBytes::Cached(_) => None,
        }
    }

    /// The header at `offset`. The blob ends within the file.
    pub(super) fn header(&self, offset: u32) -> ReadAttempt<Blob> {
        let mut head = [0; BLOB_HEADER];
        let n = self.read_at(&mut head, u64::from(offset))?;
        let blob =
            Blob::from_header(&head[..n], offset).ok_or_else(|| self.wrong(offset, "there is no blob header"))?;
        // At least its own footer entry and the trailer follow it.
        if blob.end() + (ENTRY + TRAILER) as u64 > self.len {
            return Err(self.wrong(
                offset,
                &format!("a blob of {} bytes begins here, but the file ends at {}", blob.len, self.len),
            ));
        }
        Ok(blob)
    }

    /// Reads the bytes of a blob into `out`, by one read if they are stored as no more than `guess`. Checks the header;
    /// the caller must hash the bytes.
    pub(super) fn read(
        &self,
        digest: &Digest,
        kind: BlobKind,
        offset: u32,
        guess: u32,
        out: &mut Vec<u8>,
    ) -> ReadAttempt<()> {
        let blob = self.read_stored(digest, kind, offset, guess, out)?;
        codec::unpack(blob.codec, out).map_err(|why| self.wrong(offset, &why))
    }

    /// As [`PackFile::read`], the bytes as they are stored.
    pub(super) fn read_stored(
        &self,
        digest: &Digest,
        kind: BlobKind,
        offset: u32,
        guess: u32,
        out: &mut Vec<u8>,
    ) -> ReadAttempt<Blob> {
        let body = u64::from(offset) + BLOB_HEADER as u64;
        // Never allocates more than the file has, whatever a hint or a manifest claims.
        out.resize(u64::from(guess.min(MAX_BLOB)).min(self.len.saturating_sub(body)) as usize, 0);
        let mut head = [0; BLOB_HEADER];
        let n = match &self.bytes {
            PackBytes::InStore(file) => {
                read_two_at(file, &mut head, out, u64::from(offset)).map_err(|e| Miss::of_io("read", &self.path, e))?
            }
            PackBytes::Cached(pack) => pack.read_two_at(&mut head, out, u64::from(offset))?,
        };
        let blob = self.expected_header(&head[..n.min(BLOB_HEADER)], digest, kind, offset)?;
        let (len, have) = (blob.len as usize, n - BLOB_HEADER);
        if len > have {
            out.resize(len, 0);
            if self.read_at(&mut out[have..], body + have as u64)? < len - have {
                return Err(self.wrong(offset, "the file ends inside the blob"));
            }
        }
        out.truncate(len);
        Ok(blob)
    }

    /// The blob of which `head` is the header, if it is the expected one and ends inside the file.
    fn expected_header(&self, head: &[u8], digest: &Digest, kind: BlobKind, offset: u32) -> ReadAttempt<Blob> {
        let blob = Blob::from_header(head, offset).ok_or_else(|| self.wrong(offset, "there is no blob header"))?;
        if blob.digest != *digest || blob.kind != kind {
            return Err(self.wrong(offset, &format!("found {} {}, expected {kind} {digest}", blob.kind, blob.digest)));
        }
        if blob.end() > self.len {
            return Err(self.wrong(
                offset,
                &format!("{kind} of {} bytes begins here, but the file ends at {}", blob.len, self.len),
            ));
        }
        Ok(blob)
    }

    /// The table of content that is stored in frames. Checks the header and the table.
    pub(super) fn read_table(&self, digest: &Digest, offset: u32) -> ReadAttempt<FrameTable> {
        let mut bytes = vec![0; BLOB_HEADER + MAX_TABLE];
        let n = self.read_at(&mut bytes, u64::from(offset))?;
        let blob = self.expected_header(&bytes[..n.min(BLOB_HEADER)], digest, BlobKind::Content, offset)?;
        if blob.codec != Codec::Frames {
            return Err(self.wrong(offset, &format!("content {digest} is not stored in frames")));
        }
        let end = n.min(BLOB_HEADER + blob.len as usize);
        FrameTable::parse(&bytes[BLOB_HEADER..end], blob.len).map_err(|why| self.wrong(offset, &why))
    }

    /// The footer, checked against the pack's name, and its offset.
    pub(super) fn footer(&self, name: &Digest) -> ReadAttempt<(Footer, u64)> {
        let (start, _) = self.trailer()?;
        let mut bytes = vec![0; (self.len - start) as usize];
        if self.read_at(&mut bytes, start)? < bytes.len() {
            return Err(self.no_footer());
        }
        Ok((Footer::parse(&bytes, start, name)?, start))
    }

    /// Searches the footer in the file, without reading or checking all of it. The blob's own header must confirm what
    /// is found.
    pub(super) fn search(&self, digest: &Digest, kind: BlobKind) -> ReadAttempt<Option<Blob>> {
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

    fn trailer(&self) -> ReadAttempt<(u64, usize)> {
        let mut trailer = [0; TRAILER];
        let at = self.len.checked_sub(TRAILER as u64).ok_or_else(|| self.no_footer())?;
        if self.read_at(&mut trailer, at)? < TRAILER {
            return Err(self.no_footer());
        }
        pack::footer_start(&trailer, self.len).ok_or_else(|| self.no_footer())
    }

    /// Reads at `at`, fewer bytes only at the end.
    pub(super) fn read_at(&self, out: &mut [u8], at: u64) -> ReadAttempt<usize> {
        match &self.bytes {
            PackBytes::InStore(file) => read_full_at(file, out, at).map_err(|e| Miss::of_io("read", &self.path, e)),
            PackBytes::Cached(pack) => pack.read_at(out, at),
        }
    }

    pub(super) fn wrong(&self, offset: u32, what: &str) -> Miss {
        Miss::Wrong(format!("{} at {offset}: {what}", show_path(&self.path)))
    }

    fn no_footer(&self) -> Miss {
        Miss::Wrong(format!("{} does not have a footer that fits its {} bytes", show_path(&self.path), self.len))
    }
}

/// Reads and checks a pack's footer.
///
/// # Errors
/// Damaged: also if it is missing, or the disk cannot read it. I/O.
pub(super) fn read_footer(path: PathBuf, name: &Digest) -> Result<Footer> {
    match PackFile::open(path).and_then(|pack| pack.footer(name)) {
        Ok((footer, _)) => Ok(footer),
        Err(Miss::Io(e)) if is_unreadable(&e) => {
            Err(Error::damaged(format!("pack {name} cannot be read")).with_source(e))
        }
        Err(Miss::Io(e)) => Err(e),
        Err(Miss::Gone) => Err(Error::damaged(format!("pack {name} is missing"))),
        Err(Miss::Wrong(why) | Miss::Incomplete(why)) => Err(Error::damaged(why)),
    }
}
