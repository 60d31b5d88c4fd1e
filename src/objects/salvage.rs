//! Packs with a damaged footer: their right blobs are found by the blobs' own headers, and stored again.

use super::check::Window;
use super::content_store::Objects;
use super::damage::StoredFile;
use super::miss::Miss;
use super::pack::{BLOB_HEADER, Blob, BlobKind, HEAD};
use super::pack_file::PackFile;
use crate::disk;
use crate::error::Result;
use crate::progress::Progress;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Bytes that look like headers and are not are hashed too, up to this many times the pack's length.
const MAX_HASHED: u64 = 8;
/// If bytes cannot be read, the search continues at the next multiple of this.
const SECTOR: u64 = 4096;

/// What was found in a pack without its footer.
#[derive(Debug, Default)]
struct Found {
    blobs: Vec<Blob>,
    /// The whole file was read and searched.
    is_all: bool,
}

/// What came of the right blobs of a pack with a damaged footer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Content that was in no other place.
    pub contents: u64,
    /// Manifest nodes that were in no other place.
    pub nodes: u64,
    /// Every right blob that the file has is stored elsewhere now.
    pub is_all: bool,
}

impl Objects {
    /// Stores the right blobs of a pack with a damaged footer in new packs, unless they are in place elsewhere.
    /// Temporary files go to `dir`, a token's directory.
    ///
    /// # Errors
    /// I/O. A conflict, if it was cancelled.
    pub fn salvage(self: &Arc<Self>, dir: &Path, pack: &StoredFile, progress: &Progress) -> Result<Salvaged> {
        let Some(name) = pack.name else { return Ok(Salvaged::default()) };
        let found = self.search_without_footer(pack, progress)?;
        let mut copies = self.copies()?;
        let mut lost = Vec::new();
        for blob in found.blobs {
            if !copies.has(&blob.digest, blob.kind)? {
                lost.push(blob);
            }
        }
        let is_stored = lost.is_empty() || self.rewrite_blobs(dir, &name, &lost, progress)?;
        let count = |kind| if is_stored { lost.iter().filter(|blob| blob.kind == kind).count() as u64 } else { 0 };
        let (contents, nodes) = (count(BlobKind::Content) + count(BlobKind::Recipe), count(BlobKind::Node));
        Ok(Salvaged { contents, nodes, is_all: found.is_all && is_stored })
    }

    /// Finds the blobs that follow their headers and have their digests. After bytes that are neither, every offset is
    /// tried.
    fn search_without_footer(&self, pack: &StoredFile, progress: &Progress) -> Result<Found> {
        let Some((file, meta)) = disk::open_file(&pack.path)? else { return Ok(Found::default()) };
        let len = meta.len().min(u64::from(u32::MAX));
        let mut window = Window::new(&file, &pack.path, len);
        let mut out = Found { blobs: Vec::new(), is_all: len == meta.len() };
        let (mut at, mut hashed, mut seen) = (HEAD.len() as u64, 0, HashSet::new());
        while at + BLOB_HEADER as u64 <= len {
            if at % SECTOR == 0 {
                progress.check_cancelled()?;
            }
            let blob = match window.get(at, BLOB_HEADER) {
                Ok(bytes) => Blob::from_header(bytes, at as u32).filter(|blob| blob.end() <= len),
                Err(e) if e.is_about_one_file() => {
                    out.is_all = false;
                    at = (at / SECTOR + 1) * SECTOR;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let Some(blob) = blob else {
                at += 1;
                continue;
            };
            if hashed > MAX_HASHED * len {
                out.is_all = false;
                break;
            }
            hashed += u64::from(blob.len);
            let mut damage = Vec::new();
            if self.check_blob(&blob, &mut window, &mut damage)? {
                at = blob.end();
                if seen.insert((blob.digest, blob.kind)) {
                    out.blobs.push(blob);
                }
            } else {
                at += 1;
            }
        }
        Ok(out)
    }

    /// Whether a pack's footer is damaged.
    ///
    /// # Errors
    /// I/O.
    pub fn has_damaged_footer(&self, pack: &StoredFile) -> Result<bool> {
        let Some(name) = pack.name else { return Ok(false) };
        match PackFile::open(pack.path.clone()).and_then(|file| file.footer(&name)) {
            Ok(_) | Err(Miss::Gone) => Ok(false),
            Err(Miss::Wrong(_) | Miss::Incomplete(_)) => Ok(true),
            Err(Miss::Io(e)) if e.is_about_one_file() => Ok(true),
            Err(Miss::Io(e)) => Err(e),
        }
    }
}
