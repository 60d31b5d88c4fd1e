//! The hashed bytes of a node: writing them, and reading them with suspicion.
//!
//! ```text
//! level u8 | columns u8 | entries u16 | per column: tag u8, length u16 | the columns, in that order
//! ```
//! All numbers are little-endian. FORMAT.md describes the columns. For one list of entries there is one encoding;
//! everything else is damage. Nothing here trusts a length, a count or an order, and nothing recurses further than
//! the 2 KiB of an inlined directory allow.

use super::entry::{Dir, DirAt, Entry, MAX_TARGET, Reference, Stored, bad_target};
use super::totals::{MAX_BYTES, TOTALS_LEN, Totals};
use crate::error::{Error, Result, show_bytes};
use crate::types::{Location, MAX_NAME};

/// The largest node, in bytes.
pub const MAX_NODE: usize = 32 * 1024;
/// The largest directory that lies in its parent's leaf, in bytes of its own node.
pub const MAX_INLINE: usize = 2 * 1024;
/// What a run of entries may weigh and still be one node: the rest is the header's.
pub(super) const MAX_WEIGHT: usize = MAX_NODE - 40;
/// More levels than any tree can have (each level shrinks even trees made of ground names).
pub(super) const MAX_LEVEL: u8 = 63;

/// Column tags.
pub(super) mod tag {
    pub const NAME_ENDS: u8 = 1;
    pub const NAMES: u8 = 2;
    pub const KINDS: u8 = 3;
    pub const FILES: u8 = 4;
    pub const LINKS: u8 = 5;
    pub const REFERENCES: u8 = 6;
    pub const DIRECTORIES: u8 = 7;
    pub const INLINED: u8 = 8;
    pub const CHILDREN: u8 = 9;
    /// Tags below this one are known.
    pub const END: usize = 10;
}

/// Entry kinds in the KINDS column. 6 is kept for a file stored as a list of blobs.
pub(super) mod kind {
    pub const FILE: u8 = 0;
    pub const EXECUTABLE: u8 = 1;
    pub const SYMLINK: u8 = 2;
    pub const REFERENCE: u8 = 3;
    pub const DIRECTORY: u8 = 4;
    pub const INLINED: u8 = 5;
}

pub(super) const FILE_LEN: usize = 40;
pub(super) const CHILD_LEN: usize = 32 + TOTALS_LEN;
const HAS_SIZE: u8 = 1;
const HAS_DIGEST: u8 = 2;
const HAS_ETAG: u8 = 4;

/// An entry under its name, on its way into a node. At inner levels the entry is the child, as a stored directory.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub name: Box<[u8]>,
    pub entry: Entry,
    /// For [`super::recut`]: this item began an old node, so many unchanged items after the last edit.
    pub mark: Option<u32>,
}

impl Item {
    pub fn new(name: &[u8], entry: Entry) -> Item {
        Item { name: name.into(), entry, mark: None }
    }

    pub fn child(name: &[u8], child: Stored) -> Item {
        Item::new(name, Entry::Directory(Dir(DirAt::Stored(child))))
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
                Entry::Directory(Dir(DirAt::Stored(_))) => CHILD_LEN,
                Entry::Directory(Dir(DirAt::Inline(node))) => 2 + node.bytes().len(),
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
pub(super) fn encode(level: u8, items: &[Item]) -> (Vec<u8>, Vec<Option<Location>>) {
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
            Entry::Directory(Dir(DirAt::Stored(_))) if level > 0 => (kind::DIRECTORY, tag::CHILDREN),
            Entry::Directory(Dir(DirAt::Stored(_))) => (kind::DIRECTORY, tag::DIRECTORIES),
            Entry::Directory(Dir(DirAt::Inline(_))) => (kind::INLINED, tag::INLINED),
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
            Entry::Directory(Dir(DirAt::Stored(s))) => {
                out.extend_from_slice(&s.at.digest.0);
                s.totals.encode(out);
                places.push(s.at.place);
            }
            Entry::Directory(Dir(DirAt::Inline(node))) => {
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

/// Where the parts of a node lie, as found by [`parse`].
pub(super) struct Shape {
    pub level: u8,
    pub count: usize,
    /// Offset of the first name's end.
    pub ends: usize,
    /// Offset of the names.
    pub names: usize,
    /// Offset of the kinds of a leaf, of the children of an inner node.
    pub body: usize,
    pub totals: Totals,
    /// How many places belong to the node.
    pub slots: usize,
}

/// Per entry of a leaf, for looking it up later.
#[derive(Default)]
pub(super) struct Index {
    /// Offset of the entry's own bytes, and its first slot.
    pub payload: Vec<(u16, u16)>,
    /// Pre-order entries before it; left empty when that is its position.
    pub before: Vec<u64>,
}

impl Index {
    /// Entry `i` has its bytes at `payload`, after all that `shape` has summed up so far.
    fn note(&mut self, i: usize, payload: usize, shape: &Shape) {
        // Both fit: a node is at most 32 KiB.
        self.payload.push((payload as u16, shape.slots as u16));
        let entries = shape.totals.entries;
        if self.before.is_empty() && entries != i as u64 {
            self.before.extend(0..i as u64);
        }
        if entries != i as u64 || !self.before.is_empty() {
            self.before.push(entries);
        }
    }
}

pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::damaged(format!("manifest node: {what}"))
}

/// A part of the bytes, taken from its front.
struct Part {
    at: usize,
    end: usize,
}

impl Part {
    fn take(&mut self, len: usize) -> Result<usize> {
        if self.end - self.at < len {
            return Err(damaged("a column is too short for its entries"));
        }
        self.at += len;
        Ok(self.at - len)
    }

    fn finished(&self) -> Result<()> {
        if self.at == self.end { Ok(()) } else { Err(damaged("a column is too long for its entries")) }
    }
}

pub(super) fn u16_at(b: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([b[at], b[at + 1]]))
}

pub(super) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes were asked for"))
}

/// Checks every byte of a node and finds its parts. `index` is filled for a leaf.
pub(super) fn parse(b: &[u8], mut index: Option<&mut Index>) -> Result<Shape> {
    if b.len() < 4 {
        return Err(damaged("it is shorter than its header"));
    }
    if b.len() > MAX_NODE {
        return Err(damaged("it is longer than 32 KiB"));
    }
    let (level, column_count, count) = (b[0], usize::from(b[1]), u16_at(b, 2));
    if level > MAX_LEVEL {
        return Err(damaged(format!("level {level} is too high")));
    }
    let mut columns = read_columns(b, column_count)?;
    let ends = columns[usize::from(tag::NAME_ENDS)].take(2 * count)?;
    let names_len = if count == 0 { 0 } else { u16_at(b, ends + 2 * count - 2) };
    let names = columns[usize::from(tag::NAMES)].take(names_len)?;
    check_names(&b[ends..ends + 2 * count], &b[names..names + names_len])?;
    let mut shape = Shape { level, count, ends, names, body: 0, totals: Totals::default(), slots: 0 };
    let too_large = || damaged("its sums are too large or a path below is too long");
    if level > 0 {
        if count == 0 {
            return Err(damaged("an inner node has no children"));
        }
        shape.body = columns[usize::from(tag::CHILDREN)].take(CHILD_LEN * count)?;
        shape.slots = count;
        for child in b[shape.body..shape.body + CHILD_LEN * count].chunks_exact(CHILD_LEN) {
            let totals = Totals::read(&child[32..]);
            if !totals.plausible() {
                return Err(damaged("a child's sums contradict each other"));
            }
            shape.totals.add(&totals).ok_or_else(too_large)?;
        }
    } else {
        shape.body = columns[usize::from(tag::KINDS)].take(count)?;
        if let Some(index) = index.as_deref_mut() {
            index.payload.reserve_exact(count);
        }
        let mut start = 0;
        for i in 0..count {
            let end = u16_at(b, ends + 2 * i);
            let (payload, below, slots) = read_entry(b, b[shape.body + i], &mut columns)?;
            if let Some(index) = index.as_deref_mut() {
                index.note(i, payload, &shape);
            }
            let added = match below {
                Below::Leaf { files, bytes } => shape.totals.add_leaf(end - start, files, bytes),
                Below::Directory(totals) => shape.totals.add_directory(end - start, &totals),
            };
            added.ok_or_else(too_large)?;
            shape.slots += slots;
            start = end;
        }
    }
    columns.iter().try_for_each(Part::finished)?;
    Ok(shape)
}

/// The column table: known tags, ascending, no empty column, nothing left over.
fn read_columns(b: &[u8], count: usize) -> Result<[Part; tag::END]> {
    let mut columns: [Part; tag::END] = std::array::from_fn(|_| Part { at: 0, end: 0 });
    let mut at = 4 + 3 * count;
    if b.len() < at {
        return Err(damaged("it is shorter than its table of columns"));
    }
    let mut last = 0;
    for entry in b[4..at].chunks_exact(3) {
        let (tag, len) = (entry[0], u16_at(entry, 1));
        if usize::from(tag) >= tag::END || tag == 0 {
            return Err(damaged(format!("column {tag} is unknown to this release")));
        }
        if tag <= last || len == 0 {
            return Err(damaged(format!("column {tag} is empty or out of order")));
        }
        columns[usize::from(tag)] = Part { at, end: at + len };
        at += len;
        last = tag;
    }
    if at != b.len() {
        return Err(damaged(format!("it has {} bytes, its columns say {at}", b.len())));
    }
    Ok(columns)
}

/// Names that can be names, in strict byte order.
fn check_names(ends: &[u8], names: &[u8]) -> Result<()> {
    // One pass over all names that the compiler can vectorise.
    if names.iter().fold(0u8, |bad, b| bad | u8::from(*b == b'/') | u8::from(*b == 0)) != 0 {
        return Err(damaged("a name has a slash or a NUL byte"));
    }
    let mut start = 0;
    let mut last: &[u8] = b"";
    for end in ends.chunks_exact(2) {
        let end = u16_at(end, 0);
        let name = names.get(start..end).ok_or_else(|| damaged("the lengths of the names contradict each other"))?;
        if name.is_empty() || name.len() > MAX_NAME || name == b"." || name == b".." {
            return Err(damaged(format!("`{}` cannot be a name", show_bytes(name))));
        }
        if name <= last {
            return Err(damaged(format!("`{}` stands after `{}`", show_bytes(name), show_bytes(last))));
        }
        (start, last) = (end, name);
    }
    Ok(())
}

/// What an entry adds to its directory's sums.
enum Below {
    Leaf { files: u64, bytes: u64 },
    Directory(Totals),
}

/// Checks the next entry of its kind: where its bytes are, what it adds, how many places it has.
fn read_entry(b: &[u8], kind: u8, columns: &mut [Part; tag::END]) -> Result<(usize, Below, usize)> {
    Ok(match kind {
        kind::FILE | kind::EXECUTABLE => {
            let at = columns[usize::from(tag::FILES)].take(FILE_LEN)?;
            let bytes = u64_at(b, at + 32);
            if bytes > MAX_BYTES {
                return Err(damaged(format!("a file of {bytes} bytes")));
            }
            (at, Below::Leaf { files: 1, bytes }, 1)
        }
        kind::SYMLINK => {
            let column = &mut columns[usize::from(tag::LINKS)];
            let at = column.take(2)?;
            let len = u16_at(b, at);
            let target = column.take(len.min(MAX_TARGET + 1))?;
            if let Some(why) = bad_target(&b[target..target + len.min(MAX_TARGET + 1)]) {
                return Err(damaged(format!("a symbolic link: {why}")));
            }
            (at, Below::Leaf { files: 0, bytes: 0 }, 0)
        }
        kind::REFERENCE => {
            let column = &mut columns[usize::from(tag::REFERENCES)];
            let (at, end) = (column.at, column.end);
            let (reference, len) = read_reference(&b[at..end])?;
            column.take(len)?;
            (at, Below::Leaf { files: 1, bytes: reference.size.unwrap_or(0) }, 0)
        }
        kind::DIRECTORY => {
            let at = columns[usize::from(tag::DIRECTORIES)].take(CHILD_LEN)?;
            let totals = Totals::read(&b[at + 32..at + CHILD_LEN]);
            if !totals.plausible() {
                return Err(damaged("a directory's sums contradict each other"));
            }
            (at, Below::Directory(totals), 1)
        }
        kind::INLINED => {
            let column = &mut columns[usize::from(tag::INLINED)];
            let at = column.take(2)?;
            let len = u16_at(b, at);
            let node = column.take(len)?;
            if len > MAX_INLINE {
                return Err(damaged(format!("an inlined directory of {len} bytes")));
            }
            // Each nesting takes at least 21 bytes (two headers, a name, a kind, a length), so this ends below 100
            // calls.
            let shape = parse(&b[node..node + len], None)?;
            if shape.level > 0 {
                return Err(damaged("an inlined directory is not a leaf"));
            }
            (at, Below::Directory(shape.totals), shape.slots)
        }
        _ => return Err(damaged(format!("entry kind {kind} is unknown to this release"))),
    })
}

/// Reads and checks the reference at the front of `b`; also says how long it is.
pub(super) fn read_reference(b: &[u8]) -> Result<(Reference, usize)> {
    let mut part = Part { at: 0, end: b.len() };
    let flags_at = part.take(3)?;
    let (flags, uri_len) = (b[flags_at], u16_at(b, flags_at + 1));
    if flags & !(HAS_SIZE | HAS_DIGEST | HAS_ETAG) != 0 {
        return Err(damaged(format!("a reference has flags {flags:#x}, unknown to this release")));
    }
    let text = |at: usize, len: usize| {
        String::from_utf8(b[at..at + len].to_vec()).map_err(|_| damaged("a reference is not UTF-8"))
    };
    let uri = text(part.take(uri_len)?, uri_len)?;
    let size = if flags & HAS_SIZE != 0 { Some(u64_at(b, part.take(8)?)) } else { None };
    let digest = if flags & HAS_DIGEST != 0 {
        let at = part.take(32)?;
        Some(crate::types::Digest(b[at..at + 32].try_into().expect("32 bytes were asked for")))
    } else {
        None
    };
    let etag = if flags & HAS_ETAG != 0 {
        let len = u16_at(b, part.take(2)?);
        Some(text(part.take(len)?, len)?)
    } else {
        None
    };
    let reference = Reference { uri, size, etag, digest };
    match reference.fault() {
        Some(why) => Err(damaged(format!("a reference: {why}"))),
        None => Ok((reference, part.at)),
    }
}
