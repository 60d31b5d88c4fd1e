//! Reading content and nodes: by the hint, else by the index, else wherever it may have gone.

use super::hints::{self, Hints};
use super::index::{self, Index};
use super::large::LargeObject;
use super::pack::{BLOB_HEADER, Blob, Kind, MAX_BLOB};
use super::{Objects, SMALL_MAX};
use crate::disk;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::manifest::{Node, NodeRef, NodeSource};
use crate::words::{Digest, PackRef, Place};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes read at once where a blob's length is not known before: most nodes are shorter.
const FIRST_READ: usize = 24 << 10;

/// A file's content, ready to be read.
#[derive(Debug)]
pub enum Content<S = Vec<u8>> {
    /// All of it, checked.
    Small(S),
    /// A file, checked by size and time.
    Large(LargeObject),
}

impl Objects {
    /// A file's content.
    ///
    /// # Errors
    /// Damaged: missing everywhere, or wrong wherever it is. I/O.
    pub fn content(&self, digest: &Digest, size: u64, place: Option<Place>) -> Result<Content> {
        let mut buffer = Vec::new();
        Ok(match self.content_into(digest, size, place, &mut buffer)? {
            Content::Small(()) => Content::Small(buffer),
            Content::Large(large) => Content::Large(large),
        })
    }

    /// [`Objects::content`] into a buffer, which it replaces: `Small` says that the content is there.
    ///
    /// # Errors
    /// As [`Objects::content`].
    pub fn content_into(&self, digest: &Digest, size: u64, place: Option<Place>, buffer: &mut Vec<u8>) -> Result<Content<()>> {
        if size < SMALL_MAX {
            match self.read_small_into(digest, size, place, buffer) {
                Ok(()) => Ok(Content::Small(())),
                // A release with another bound may have made it a file.
                Err(e) => self.open_large(digest, size).map(Content::Large).map_err(|_| e),
            }
        } else {
            match self.open_large(digest, size) {
                Ok(large) => Ok(Content::Large(large)),
                Err(e) if size <= u64::from(MAX_BLOB) => self.read_small_into(digest, size, place, buffer).map(|()| Content::Small(())).map_err(|_| e),
                Err(e) => Err(e),
            }
        }
    }

    /// A packed blob's bytes, hashed and compared (L15).
    ///
    /// # Errors
    /// Damaged: missing everywhere, or wrong wherever it is. I/O.
    pub fn read_small(&self, digest: &Digest, size: u64, place: Option<Place>) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.read_small_into(digest, size, place, &mut buffer)?;
        Ok(buffer)
    }

    /// [`Objects::read_small`] into a buffer, which it replaces.
    ///
    /// # Errors
    /// As [`Objects::read_small`].
    pub fn read_small_into(&self, digest: &Digest, size: u64, place: Option<Place>, buffer: &mut Vec<u8>) -> Result<()> {
        let right = |bytes: &[u8]| bytes.len() as u64 == size && Digest::of(bytes) == *digest;
        if let Some(place) = place
            && self.read_place(place, digest, Kind::Content, Some(size), buffer)?
            && right(buffer)
        {
            return Ok(());
        }
        self.search(digest, Kind::Content, |place| Ok(self.read_place(place, digest, Kind::Content, Some(size), buffer)? && right(buffer)))
    }

    /// A large blob's file.
    ///
    /// # Errors
    /// Damaged: missing everywhere, or wrong. I/O.
    pub fn open_large(&self, digest: &Digest, size: u64) -> Result<LargeObject> {
        let mut wrong = None;
        self.passes(|batch| {
            let path = match batch {
                None => self.layout.object(digest),
                Some(batch) => self.layout.trashed_object(batch, digest),
            };
            let Some(file) = open(&path)? else { return Ok(None) };
            match LargeObject::check(file, path, digest, size) {
                Ok(large) => Ok(Some(large)),
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    wrong = Some(e);
                    Ok(None)
                }
                Err(e) => Err(e),
            }
        })?
        .ok_or_else(|| wrong.unwrap_or_else(|| Error::damaged(format!("object {digest} is missing"))))
    }

    /// Looks in place, then in each batch of the trash, then again from the start, FRESH, until one pass more was made than there
    /// are batches (DESIGN, "Readers").
    fn passes<T>(&self, mut look: impl FnMut(Option<&OsString>) -> Result<Option<T>>) -> Result<Option<T>> {
        let mut pass = 0;
        loop {
            if let Some(found) = look(None)? {
                return Ok(Some(found));
            }
            let batches = disk::list(&self.layout.trash())?;
            for batch in &batches {
                if let Some(found) = look(Some(batch))? {
                    return Ok(Some(found));
                }
            }
            pass += 1;
            if pass > batches.len() {
                return Ok(None);
            }
        }
    }

    /// Tries every place where a blob may lie: what the index says, the index anew, and the packs in the trash.
    fn search(&self, digest: &Digest, kind: Kind, mut try_place: impl FnMut(Place) -> Result<bool>) -> Result<()> {
        let mut seen = false;
        let mut try_all = |index: &Index, try_place: &mut dyn FnMut(Place) -> Result<bool>| -> Result<bool> {
            for place in index.find_all(digest, kind, &self.table) {
                seen = true;
                if try_place(place)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if try_all(&*self.index()?, &mut try_place)? || try_all(&*self.fresh_index()?, &mut try_place)? {
            return Ok(());
        }
        let found = self.passes(|batch| {
            let Some(batch) = batch else { return Ok(try_all(&*self.fresh_index()?, &mut try_place)?.then_some(())) };
            for name in disk::list(&self.layout.trash().join(batch))? {
                let Some(name) = name.to_str().and_then(|n| n.strip_prefix("pack-")).and_then(|n| Digest::from_hex(n.as_bytes())) else { continue };
                let Ok(footer) = index::read_footer(&self.layout.trashed_pack(batch, &name), &name) else { continue };
                if let Ok(i) = footer.blobs.binary_search_by_key(&(*digest, kind), |b| (b.digest, b.kind))
                    && try_place(Place { pack: self.table.intern(&name), offset: footer.blobs[i].offset })?
                {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
        let what = match kind {
            Kind::Content => "packed content",
            Kind::Node => "manifest node",
        };
        found.ok_or_else(|| Error::damaged(if seen { format!("{what} {digest} is damaged wherever it is") } else { format!("{what} {digest} is missing") }))
    }

    /// Reads what a place says into `buffer`; `false` when the pack is gone or the blob there is another.
    fn read_place(&self, place: Place, digest: &Digest, kind: Kind, len: Option<u64>, buffer: &mut Vec<u8>) -> Result<bool> {
        let Some(file) = self.pack_file(place.pack)? else { return Ok(false) };
        let at = u64::from(place.offset);
        let first = BLOB_HEADER + len.map_or(FIRST_READ, |n| n as usize);
        buffer.resize(first, 0);
        let got = read_up_to(&file, buffer, at).map_err(|e| self.pack_error(place.pack, e))?;
        let Some(blob) = Blob::from_header(&buffer[..got], place.offset) else { return Ok(false) };
        if blob.digest != *digest || blob.kind != kind || len.is_some_and(|n| n != u64::from(blob.len)) {
            return Ok(false);
        }
        let whole = BLOB_HEADER + blob.len as usize;
        if whole > got {
            buffer.resize(whole, 0);
            let more = read_up_to(&file, &mut buffer[got..], at + got as u64).map_err(|e| self.pack_error(place.pack, e))?;
            if got + more < whole {
                return Ok(false);
            }
        }
        buffer.truncate(whole);
        buffer.drain(..BLOB_HEADER);
        Ok(true)
    }

    fn pack_error(&self, pack: PackRef, e: io::Error) -> Error {
        let name = self.table.name(pack).unwrap_or_default();
        Error::io("read", &self.layout.pack(&name), e)
    }

    /// A pack's file, in place or in the trash; `None` when it is nowhere.
    fn pack_file(&self, pack: PackRef) -> Result<Option<Arc<File>>> {
        if let Some(file) = self.files.lock().get(&pack) {
            return Ok(Some(file.clone()));
        }
        let Some(name) = self.table.name(pack) else { return Ok(None) };
        let found = self.passes(|batch| match batch {
            None => open(&self.layout.pack(&name)),
            Some(batch) => open(&self.layout.trashed_pack(batch, &name)),
        })?;
        let Some(file) = found.map(Arc::new) else { return Ok(None) };
        let mut files = self.files.lock();
        if files.len() >= super::OPEN_PACKS {
            files.clear();
        }
        files.insert(pack, file.clone());
        Ok(Some(file))
    }

    /// The node stored as `bytes`, if it is `digest`.
    fn node_of(&self, bytes: &[u8], own: Option<PackRef>, digest: &Digest) -> Option<Arc<Node>> {
        let (node, _) = hints::decode(bytes, own, &self.table).ok()?;
        (node.digest() == *digest).then(|| Arc::new(node))
    }

    /// The bytes of a node as they stand outside of packs, in a version's `manifest`.
    ///
    /// # Errors
    /// Usage: a hint into a pack that is still open.
    pub fn encode_node(&self, node: &Node) -> Result<Vec<u8>> {
        hints::encode(node, None, &self.table)
    }

    /// The node that [`Objects::encode_node`] gave, and whether its hints are whole.
    ///
    /// # Errors
    /// Damaged.
    pub fn decode_node(&self, bytes: &[u8]) -> Result<(Node, bool)> {
        hints::decode(bytes, None, &self.table).map(|(node, hints)| (node, hints == Hints::Whole))
    }
}

impl NodeSource for Objects {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(&at.digest) {
            return Ok(node);
        }
        let mut buffer = Vec::new();
        let mut found = None;
        let mut try_place = |place: Place| -> Result<bool> {
            if self.read_place(place, &at.digest, Kind::Node, None, &mut buffer)? {
                found = self.node_of(&buffer, Some(place.pack), &at.digest);
                self.counts.read.fetch_add(1, Ordering::Relaxed);
                self.counts.read_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            }
            Ok(found.is_some())
        };
        let hinted = at.place.map(&mut try_place).transpose()?.unwrap_or(false);
        if !hinted {
            self.search(&at.digest, Kind::Node, try_place)?;
        }
        let node = found.ok_or_else(|| Error::damaged(format!("manifest node {} is missing", at.digest)))?;
        self.nodes.insert(at.digest, node.clone());
        Ok(node)
    }
}

/// Opens a file for reading; `None` when it does not exist.
fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || e.raw_os_error() == Some(libc::ESTALE) => Ok(None),
        Err(e) => Err(Error::io("open", path, e)),
    }
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
