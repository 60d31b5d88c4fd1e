//! Writing the hashed bytes of a node.

use super::entry::{DirAt, Entry, Subtree};
use super::format::{CHILD_LEN, FILE_LEN, HAS_DIGEST, HAS_ETAG, HAS_SIZE, kind, tag};
use super::node_ref::ChildRef;
use super::reference::Reference;
use crate::types::Location;

/// An entry under its name, on its way into a node. At inner levels the entry is the child, as a stored directory.
#[derive(Clone, Debug)]
pub(super) struct NodeItem {
    pub name: Box<[u8]>,
    pub entry: Entry,
    /// For [`super::recut`]: this item began an old node, this many unchanged items after the last edit.
    pub mark: Option<u32>,
}

impl NodeItem {
    pub fn new(name: &[u8], entry: Entry) -> NodeItem {
        NodeItem { name: name.into(), entry, mark: None }
    }

    pub fn child(name: &[u8], child: ChildRef) -> NodeItem {
        NodeItem::new(name, Entry::Directory(Subtree(DirAt::Stored(child))))
    }

    /// The bytes this item adds to a node of that level: the header apart, a node is as long as its items weigh.
    pub fn weight(&self, level: u8) -> usize {
        let name = 2 + self.name.len();
        if level > 0 {
            return name + CHILD_LEN;
        }
        name + 1
            + match &self.entry {
                Entry::File { .. } => FILE_LEN,
                Entry::Symlink { target } => 2 + target.len(),
                Entry::Reference(r) => reference_len(r),
                Entry::Directory(Subtree(DirAt::Stored(_))) => CHILD_LEN,
                Entry::Directory(Subtree(DirAt::Inline(node))) => 2 + node.bytes().len(),
            }
    }
}

fn reference_len(r: &Reference) -> usize {
    3 + r.uri.len()
        + if r.size.is_some() { 8 } else { 0 }
        + if r.digest.is_some() { 32 } else { 0 }
        + r.etag.as_ref().map_or(0, |e| 2 + e.len())
}

fn u16_of(n: usize) -> [u8; 2] {
    u16::try_from(n).expect("a node is at most 32 KiB").to_le_bytes()
}

/// The hashed bytes and the places of a node with these items, which are in order, distinct and light enough.
pub(super) fn encode(level: u8, items: &[NodeItem]) -> (Vec<u8>, Vec<Option<Location>>) {
    let mut columns: [Vec<u8>; tag::END] = Default::default();
    let mut places = Vec::new();
    for item in items {
        columns[usize::from(tag::NAMES)].extend_from_slice(&item.name);
        let end = u16_of(columns[usize::from(tag::NAMES)].len());
        columns[usize::from(tag::NAME_ENDS)].extend_from_slice(&end);
        let (kind, tag) = match &item.entry {
            Entry::File { exec: false, .. } => (kind::FILE, tag::FILES),
            Entry::File { exec: true, .. } => (kind::EXECUTABLE, tag::FILES),
            Entry::Symlink { .. } => (kind::SYMLINK, tag::LINKS),
            Entry::Reference(_) => (kind::REFERENCE, tag::REFERENCES),
            Entry::Directory(Subtree(DirAt::Stored(_))) if level > 0 => (kind::DIRECTORY, tag::CHILDREN),
            Entry::Directory(Subtree(DirAt::Stored(_))) => (kind::DIRECTORY, tag::DIRECTORIES),
            Entry::Directory(Subtree(DirAt::Inline(_))) => (kind::INLINED, tag::INLINED),
        };
        if level == 0 {
            columns[usize::from(tag::KINDS)].push(kind);
        }
        let out = &mut columns[usize::from(tag)];
        match &item.entry {
            Entry::File { digest, size, place, .. } => {
                out.extend_from_slice(&digest.0);
                out.extend_from_slice(&size.to_le_bytes());
                places.push(*place);
            }
            Entry::Symlink { target } => {
                out.extend_from_slice(&u16_of(target.len()));
                out.extend_from_slice(target);
            }
            Entry::Reference(r) => encode_reference(r, out),
            Entry::Directory(Subtree(DirAt::Stored(s))) => {
                out.extend_from_slice(&s.at.digest.0);
                s.totals.encode(out);
                places.push(s.at.place);
            }
            Entry::Directory(Subtree(DirAt::Inline(node))) => {
                out.extend_from_slice(&u16_of(node.bytes().len()));
                out.extend_from_slice(node.bytes());
                places.extend(node.places());
            }
        }
    }
    let used = || columns.iter().enumerate().filter(|(_, c)| !c.is_empty());
    let mut bytes = Vec::with_capacity(64 + columns.iter().map(Vec::len).sum::<usize>());
    bytes.push(level);
    bytes.push(u8::try_from(used().count()).expect("there are ten columns"));
    bytes.extend_from_slice(&u16_of(items.len()));
    for (tag, column) in used() {
        bytes.push(u8::try_from(tag).expect("there are ten columns"));
        bytes.extend_from_slice(&u16_of(column.len()));
    }
    for column in &columns {
        bytes.extend_from_slice(column);
    }
    (bytes, places)
}

fn encode_reference(r: &Reference, out: &mut Vec<u8>) {
    let bit = |has: bool, flag: u8| if has { flag } else { 0 };
    out.push(bit(r.size.is_some(), HAS_SIZE) | bit(r.digest.is_some(), HAS_DIGEST) | bit(r.etag.is_some(), HAS_ETAG));
    out.extend_from_slice(&u16_of(r.uri.len()));
    out.extend_from_slice(r.uri.as_bytes());
    if let Some(size) = r.size {
        out.extend_from_slice(&size.to_le_bytes());
    }
    if let Some(digest) = r.digest {
        out.extend_from_slice(&digest.0);
    }
    if let Some(etag) = &r.etag {
        out.extend_from_slice(&u16_of(etag.len()));
        out.extend_from_slice(etag.as_bytes());
    }
}
