//! Reading content and nodes. What is given back has the digest that was asked for (L6, L15).

use super::hints::{self, Hints};
use super::large::LargeObject;
use super::pack::{Kind, MAX_BLOB};
use super::pack_file::{Miss, PackFile, Tried};
use super::search::{First, Want};
use super::{Objects, SMALL_MAX};
use crate::disk::{self, read_full_at};
use crate::error::{Error, Result, show_path};
use crate::manifest::{Node, NodeRef, NodeSource};
use crate::types::{Digest, Location, PackRef};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at once where a node's length is not known before: most are shorter.
const NODE_GUESS: u32 = 24 << 10;

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
    pub fn content(&self, digest: &Digest, size: u64, place: Option<Location>) -> Result<Content> {
        let mut buffer = Vec::new();
        Ok(match self.content_into(digest, size, place, &mut buffer)? {
            Content::Small(()) => Content::Small(buffer),
            Content::Large(large) => Content::Large(large),
        })
    }

    /// [`Objects::content`] into a buffer, which it replaces: `Small` says that the content is there. Size says where
    /// it is looked for first: a release with another bound may have packed what is large, or made a file of what is
    /// small.
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
        self.content_from(digest, size, place, buffer, false)
    }

    /// [`Objects::content_into`] that asks no pack but those which the hint and the index name: who has much to look
    /// for looks through all packs once ([`Objects::places_by_footers`]).
    ///
    /// # Errors
    /// As [`Objects::content`].
    pub fn content_by_index(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
    ) -> Result<Content<()>> {
        self.content_from(digest, size, place, buffer, true)
    }

    fn content_from(
        &self,
        digest: &Digest,
        size: u64,
        place: Option<Location>,
        buffer: &mut Vec<u8>,
        shallow: bool,
    ) -> Result<Content<()>> {
        let small = size < SMALL_MAX;
        let guess = u32::try_from(size).map_or(MAX_BLOB, |n| n.min(MAX_BLOB));
        // The way nearly all reads go: the hint is right, and its pack is open.
        if small
            && let Some(place) = place
            && let Some(file) = self.open_packs.get(place.pack)
            && file.read(digest, Kind::Content, place.offset, guess, buffer).is_ok()
            && buffer.len() as u64 == size
            && Digest::of(buffer) == *digest
        {
            return Ok(Content::Small(()));
        }
        let buffer = std::cell::RefCell::new(buffer);
        let mut from_pack = |file: &PackFile, _: PackRef, offset: u32, guess: u32| {
            let buffer = &mut *buffer.borrow_mut();
            file.read(digest, Kind::Content, offset, guess, buffer)?;
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
        let first = if small { First::Packs } else { First::Objects };
        let want = Want { digest, kind: Kind::Content, hint: place, guess, first };
        if shallow {
            return self.search_shallow(want, &mut from_pack, Some(&mut from_object));
        }
        self.search(want, &mut from_pack, Some(&mut from_object))
    }

    /// A small file's bytes, hashed and compared (L15).
    ///
    /// # Errors
    /// Usage when it is not small; damaged: missing everywhere, or wrong wherever it is. I/O.
    pub fn read_small(&self, digest: &Digest, size: u64, place: Option<Location>) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.read_small_into(digest, size, place, &mut buffer)?;
        Ok(buffer)
    }

    /// [`Objects::read_small`] into a buffer, which it replaces.
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
        // No file is to be had from a pack.
        let mut from_pack = |_: &PackFile, _: PackRef, _: u32, _: u32| Err(Miss::Gone);
        let mut from_object = |path: PathBuf| LargeObject::open(self, path, digest, size);
        self.search(
            Want { digest, kind: Kind::Content, hint: None, guess: 0, first: First::OnlyObjects },
            &mut from_pack,
            Some(&mut from_object),
        )
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
    /// By its hint one read; else by the index, or from the trash. What was read lately comes from memory.
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(&at.digest) {
            return Ok(node);
        }
        let mut buffer = Vec::new();
        let mut from_pack = |file: &PackFile, pack: PackRef, offset: u32, guess: u32| -> Tried<Node> {
            file.read(&at.digest, Kind::Node, offset, guess, &mut buffer)?;
            self.counts.read(buffer.len());
            let (node, _) =
                hints::decode(&buffer, Some(pack), &self.table).map_err(|e| file.wrong(offset, &format!("{e:#}")))?;
            if node.digest() != at.digest {
                return Err(
                    file.wrong(offset, &format!("the node has digest {}, expected {}", node.digest(), at.digest))
                );
            }
            Ok(node)
        };
        let want =
            Want { digest: &at.digest, kind: Kind::Node, hint: at.place, guess: NODE_GUESS, first: First::Packs };
        let node = Arc::new(self.search(want, &mut from_pack, None)?);
        self.nodes.insert(at.digest, node.clone());
        Ok(node)
    }
}

fn check(digest: &Digest, size: u64, bytes: &[u8]) -> std::result::Result<(), String> {
    if bytes.len() as u64 != size {
        return Err(format!("content {digest} has {} bytes, expected {size}", bytes.len()));
    }
    let found = Digest::of(bytes);
    if found == *digest { Ok(()) } else { Err(format!("the bytes have digest {found}, expected {digest}")) }
}

/// Reads small content that stands as a file of its own.
fn read_object(path: PathBuf, digest: &Digest, size: u64, buffer: &mut Vec<u8>) -> Tried<()> {
    let (file, _) = disk::open_file(&path)?.ok_or(Miss::Gone)?;
    buffer.resize(size as usize + 1, 0);
    let n = read_full_at(&file, buffer, 0).map_err(|e| Miss::of_io("read", &path, e))?;
    buffer.truncate(n);
    check(digest, size, buffer).map_err(|why| Miss::Wrong(format!("{}: {why}", show_path(&path))))
}
