//! Reading content and nodes. What is returned has the requested digest (L6, L15).

use super::composed_file::ComposedFile;
use super::content_store::Objects;
use super::hints::{self, Hints};
use super::miss::{Miss, ReadAttempt};
use super::object_file::LargeObject;
use super::pack::{BlobKind, MAX_BLOB, SMALL_MAX};
use super::pack_file::PackFile;
use super::recipe::RECIPE_MIN;
use super::search::{Query, SearchDepth, SearchOrder};
use crate::disk::{self, read_full_at};
use crate::error::{Error, Kind, Result, show_path};
use crate::manifest::{Node, NodeRef, NodeSource};
use crate::types::{Digest, Location, PackRef};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at once if a node's length is not known. Most nodes are shorter.
const NODE_GUESS: u32 = 24 << 10;

/// A file's content, ready to be read.
#[derive(Debug)]
pub enum Content<S = Vec<u8>> {
    /// All of it, checked.
    Small(S),
    /// A file, checked by size and time.
    Large(LargeObject),
    /// Parts of other contents.
    Composed(ComposedFile),
}

impl Objects {
    /// A file's content.
    ///
    /// # Errors
    /// Damaged: missing everywhere, or wrong wherever it is. I/O.
    pub fn content(&self, digest: &Digest, size: u64, place: Option<Location>) -> Result<Content> {
        let mut buffer = Vec::new();
        Ok(match self.content_into(digest, size, place, &mut buffer)? {
            Content::Small(()) => Content::Small(buffer),
            Content::Large(large) => Content::Large(large),
            Content::Composed(composed) => Content::Composed(composed),
        })
    }

    /// As [`Objects::content`], into a buffer, which it replaces. The size decides where it is searched first: a
    /// release with another bound may have packed large content, or stored small content as a file.
    ///
    /// # Errors
    /// As [`Objects::content`].
    pub fn content_into(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
    ) -> Result<Content<()>> {
        let found = self.content_from(digest, size, place, buffer, SearchDepth::Full)?;
        match &found {
            Content::Small(()) => {}
            Content::Large(object) => {
                if let Err(refused) = self.refuse_damaged(object) {
                    return self.composed_instead(digest, size, refused);
                }
            }
            Content::Composed(composed) => self.refuse_damaged_parts(composed)?,
        }
        Ok(found)
    }

    /// The composed form of content whose object was refused.
    fn composed_instead(&self, digest: &Digest, size: u64, refused: Error) -> Result<Content<()>> {
        if size < RECIPE_MIN || refused.kind() != Kind::Damaged {
            return Err(refused);
        }
        match self.composed(digest, size, SearchDepth::Full) {
            Ok(composed) if self.refuse_damaged_parts(&composed).is_ok() => Ok(Content::Composed(composed)),
            _ => Err(refused),
        }
    }

    /// As [`Objects::content_into`], to the given depth, without a look at the list of known damage.
    /// [`SearchDepth::Known`] is for a caller with much to search, which then reads all footers once
    /// ([`Objects::locations_by_footers`]).
    ///
    /// # Errors
    /// As [`Objects::content`].
    pub fn content_from(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
        depth: SearchDepth,
    ) -> Result<Content<()>> {
        if self.read_by_hint(digest, size, place, buffer) {
            return Ok(Content::Small(()));
        }
        if size < RECIPE_MIN {
            return self.plain_content(digest, size, place, buffer, depth);
        }
        // First where it is known to be, in both forms: a full search lists and opens every pack.
        match self.plain_or_composed(digest, size, place, buffer, SearchDepth::Known) {
            Err(_) if depth == SearchDepth::Full => self.plain_or_composed(digest, size, place, buffer, depth),
            found => found,
        }
    }

    fn plain_or_composed(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
        depth: SearchDepth,
    ) -> Result<Content<()>> {
        let plain = match self.plain_content(digest, size, place, buffer, depth) {
            Ok(found) => return Ok(found),
            Err(e) => e,
        };
        match self.composed(digest, size, depth) {
            Ok(composed) => Ok(Content::Composed(composed)),
            Err(e) if e.kind() == Kind::Damaged => Err(neither(self, digest, plain, e)),
            Err(e) => Err(e),
        }
    }

    /// Content that is an object file or packed, as [`Objects::content_from`] gets it.
    pub(super) fn plain_content(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
        depth: SearchDepth,
    ) -> Result<Content<()>> {
        let small = size < SMALL_MAX;
        let buffer = RefCell::new(buffer);
        let mut from_pack = |file: &Arc<PackFile>, _: PackRef, offset: u32, guess: u32| {
            let buffer = &mut *buffer.borrow_mut();
            file.read(digest, BlobKind::Content, offset, guess, buffer)?;
            check(digest, size, buffer).map_err(|why| file.wrong(offset, &why))?;
            Ok(Content::Small(()))
        };
        let mut from_object = |path: PathBuf| {
            if !small {
                return LargeObject::open(self, path, digest, size).map(Content::Large);
            }
            read_object(path, digest, size, &mut buffer.borrow_mut())?;
            Ok(Content::Small(()))
        };
        let order = if small { SearchOrder::PacksFirst } else { SearchOrder::ObjectsFirst };
        let query = Query { digest, kind: BlobKind::Content, hint: place, guess: length_guess(size), order, depth };
        self.search(query, &mut from_pack, Some(&mut from_object))
    }

    /// The path of nearly all reads: the hint is right, and its pack is open. `false`: search.
    fn read_by_hint(&self, digest: &Digest, size: u64, place: Option<Location>, buffer: &mut Vec<u8>) -> bool {
        if size >= SMALL_MAX {
            return false;
        }
        let Some((place, file)) = place.and_then(|p| Some((p, self.open_packs().get(p.pack)?))) else { return false };
        let is_right = file.read(digest, BlobKind::Content, place.offset, length_guess(size), buffer).is_ok()
            && buffer.len() as u64 == size
            && Digest::of(buffer) == *digest;
        if !is_right {
            // The search opens it again: the handle may be stale, or a repair has replaced the file.
            self.open_packs().forget(place.pack);
        }
        is_right
    }

    /// A small file's bytes, hashed and compared (L15).
    ///
    /// # Errors
    /// Usage: it is not small. Damaged: missing everywhere, or wrong wherever it is. I/O.
    pub fn read_small(&self, digest: &Digest, size: u64, place: Option<Location>) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.read_small_into(digest, size, place, &mut buffer)?;
        Ok(buffer)
    }

    /// As [`Objects::read_small`], into a buffer, which it replaces.
    ///
    /// # Errors
    /// As [`Objects::read_small`].
    pub fn read_small_into(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        if size >= SMALL_MAX {
            return Err(Error::usage(format!("{digest} has {size} bytes: too many to be read into memory")));
        }
        self.content_into(digest, size, place, buffer).map(drop)
    }

    /// A large blob's file.
    ///
    /// # Errors
    /// Damaged: missing everywhere, or wrong. I/O.
    pub fn open_large(&self, digest: &Digest, size: u64) -> Result<LargeObject> {
        // A file cannot come from a pack.
        let mut from_pack = |_: &Arc<PackFile>, _: PackRef, _: u32, _: u32| Err(Miss::Gone);
        let mut from_object = |path: PathBuf| LargeObject::open(self, path, digest, size);
        let (order, depth) = (SearchOrder::OnlyObjects, SearchDepth::Full);
        let query = Query { digest, kind: BlobKind::Content, hint: None, guess: 0, order, depth };
        self.search(query, &mut from_pack, Some(&mut from_object))
    }

    /// The bytes of a node as stored outside of packs, in a version's `manifest`.
    ///
    /// # Errors
    /// Usage: a hint into a pack that is still open.
    pub fn encode_node(&self, node: &Node) -> Result<Vec<u8>> {
        hints::encode(node, None, self.table())
    }

    /// The bytes of a node as stored in the pack `own`. Counts them as written.
    ///
    /// # Errors
    /// Usage: a hint into another pack that is still open.
    pub(super) fn encode_stored_node(&self, node: &Node, own: PackRef) -> Result<Vec<u8>> {
        let bytes = hints::encode(node, Some(own), self.table())?;
        self.counts().add_written(bytes.len());
        Ok(bytes)
    }

    /// The node that [`Objects::encode_node`] encoded, and whether its hints are as written.
    ///
    /// # Errors
    /// Damaged.
    pub fn decode_node(&self, bytes: &[u8]) -> Result<(Node, bool)> {
        hints::decode(bytes, None, self.table()).map(|(node, hints)| (node, hints == Hints::Whole))
    }
}

impl NodeSource for Objects {
    /// One read if the hint is right; otherwise by the index or from the trash. Recently read nodes come from memory.
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.node_cache().get(&at.digest) {
            return Ok(node);
        }
        let mut buffer = Vec::new();
        let mut from_pack = |file: &Arc<PackFile>, pack: PackRef, offset: u32, guess: u32| -> ReadAttempt<Node> {
            file.read(&at.digest, BlobKind::Node, offset, guess, &mut buffer)?;
            self.counts().add_read(buffer.len());
            let (node, _) =
                hints::decode(&buffer, Some(pack), self.table()).map_err(|e| file.wrong(offset, &format!("{e:#}")))?;
            if node.digest() != at.digest {
                let why = format!("the node has digest {}, expected {}", node.digest(), at.digest);
                return Err(file.wrong(offset, &why));
            }
            Ok(node)
        };
        let (order, depth) = (SearchOrder::PacksFirst, SearchDepth::Full);
        let query = Query { digest: &at.digest, kind: BlobKind::Node, hint: at.place, guess: NODE_GUESS, order, depth };
        let node = Arc::new(self.search(query, &mut from_pack, None)?);
        self.node_cache().put(at.digest, node.clone(), node.memory());
        Ok(node)
    }
}

/// The error for content that is stored in neither form: what is wrong with a recipe says more than that there is no
/// object.
fn neither(objects: &Objects, digest: &Digest, plain: Error, composed: Error) -> Error {
    if composed.causes().is_empty() {
        return plain;
    }
    let root = show_path(objects.layout().root());
    let error = Error::damaged(format!("content {digest} cannot be read from {root}"));
    composed.causes().into_iter().chain(plain.causes()).fold(error, Error::with_cause)
}

/// How many bytes to read for content of that size.
fn length_guess(size: u64) -> u32 {
    u32::try_from(size).map_or(MAX_BLOB, |n| n.min(MAX_BLOB))
}

fn check(digest: &Digest, size: u64, bytes: &[u8]) -> std::result::Result<(), String> {
    if bytes.len() as u64 != size {
        return Err(format!("content {digest} has {} bytes, expected {size}", bytes.len()));
    }
    let found = Digest::of(bytes);
    if found == *digest { Ok(()) } else { Err(format!("the bytes have digest {found}, expected {digest}")) }
}

/// Reads small content that is stored as a file of its own.
fn read_object(path: PathBuf, digest: &Digest, size: u64, buffer: &mut Vec<u8>) -> ReadAttempt<()> {
    let (file, _) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
    buffer.resize(size as usize + 1, 0);
    let n = read_full_at(&file, buffer, 0).map_err(|e| Miss::of_io("read", &path, e))?;
    buffer.truncate(n);
    check(digest, size, buffer).map_err(|why| Miss::Wrong(format!("{}: {why}", show_path(&path))))
}
