//! Packs and object files that are read through a node-local cache.

use super::miss::{Miss, ReadAttempt};
use crate::cache::{Cache, Item};
use crate::disk::{self, read_full_at};
use crate::error::{Error, Kind, Result, show_path};
use crate::types::{Digest, Hasher};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A pack that is read through a cache.
#[derive(Debug)]
pub(super) struct CachedPack {
    cache: Arc<Cache>,
    item: Item,
    path: PathBuf,
    /// Its file in the store, which is opened when the cache lacks a block.
    file: OnceLock<File>,
}

impl CachedPack {
    /// Its key in a cache.
    pub(super) fn key(name: &Digest) -> Digest {
        key("cairn-pack-1\n", name)
    }

    pub(super) fn new(cache: &Arc<Cache>, item: Item, path: PathBuf, file: Option<File>) -> CachedPack {
        CachedPack { cache: cache.clone(), item, path, file: file.map_or_else(OnceLock::new, OnceLock::from) }
    }

    /// Reads at `at`, fewer bytes only at the end.
    pub(super) fn read_at(&self, out: &mut [u8], at: u64) -> ReadAttempt<usize> {
        let length = out.len().min(self.item.size.saturating_sub(at) as usize);
        let read = self.cache.read_through(&self.item, at, &mut out[..length], &|range| self.fetch(range));
        match read {
            Ok(()) => Ok(length),
            Err(e) if e.kind() == Kind::NotFound => Err(Miss::Gone),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads at `at` into `head`, and what follows into `body`.
    pub(super) fn read_two_at(&self, head: &mut [u8], body: &mut [u8], at: u64) -> ReadAttempt<usize> {
        let first = self.read_at(head, at)?;
        if first < head.len() { Ok(first) } else { Ok(first + self.read_at(body, at + first as u64)?) }
    }

    fn fetch(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let file = match self.file.get() {
            Some(file) => file,
            None => {
                let gone = || Error::not_found(format!("{} does not exist", show_path(&self.path)));
                let (file, meta) = disk::open_file(&self.path)?.ok_or_else(gone)?;
                if meta.len() != self.item.size {
                    let (path, found) = (show_path(&self.path), meta.len());
                    return Err(Error::damaged(format!("{path} has {found} bytes, expected {}", self.item.size)));
                }
                self.file.get_or_init(|| file)
            }
        };
        match read_range(file, range) {
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {
                Err(Error::not_found(format!("{} was moved", show_path(&self.path))))
            }
            read => read.map_err(|e| Error::io("read", &self.path, e)),
        }
    }
}

/// Reads a range of a file, all of it.
fn read_range(file: &File, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    match read_full_at(file, &mut bytes, range.start)? {
        n if n == bytes.len() => Ok(bytes),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

fn key(what: &str, digest: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(what.as_bytes());
    hasher.update(&digest.0);
    hasher.finish()
}

/// What a cache has of an object file.
pub(crate) fn cached_object(digest: &Digest, size: u64) -> Item {
    Item { key: key("cairn-object-1\n", digest), size }
}
