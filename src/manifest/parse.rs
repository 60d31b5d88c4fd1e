//! Reading and checking the hashed bytes of a node.

use super::format::{CHILD_LEN, FILE_LEN, HAS_DIGEST, HAS_ETAG, HAS_SIZE, MAX_INLINE, MAX_LEVEL, MAX_NODE, kind, tag};
use super::reference::{MAX_TARGET, Reference, bad_target};
use super::totals::{MAX_BYTES, Totals};
use crate::error::{Error, Result, show_bytes};
use crate::types::MAX_NAME;

/// Where the parts of a node lie, as found by [`parse`].
pub(super) struct NodeShape {
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

/// Offsets of a leaf's entries, for later lookups.
#[derive(Default)]
pub(super) struct LeafIndex {
    /// Offset of the entry's own bytes, and its first slot.
    pub payload: Vec<(u16, u16)>,
    /// Pre-order entries before it. Empty if that equals its position for all.
    pub before: Vec<u64>,
}

impl LeafIndex {
    /// Entry `i` has its bytes at `payload`, after all that `shape` has summed up so far.
    fn note(&mut self, i: usize, payload: usize, shape: &NodeShape) {
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
struct ColumnReader {
    at: usize,
    end: usize,
}

impl ColumnReader {
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
pub(super) fn parse(b: &[u8], mut index: Option<&mut LeafIndex>) -> Result<NodeShape> {
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
    let mut shape = NodeShape { level, count, ends, names, body: 0, totals: Totals::default(), slots: 0 };
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
    columns.iter().try_for_each(ColumnReader::finished)?;
    Ok(shape)
}

/// The column table: known tags, ascending, no empty column, nothing left over.
fn read_columns(b: &[u8], count: usize) -> Result<[ColumnReader; tag::END]> {
    let mut columns: [ColumnReader; tag::END] = std::array::from_fn(|_| ColumnReader { at: 0, end: 0 });
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
        columns[usize::from(tag)] = ColumnReader { at, end: at + len };
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
            return Err(damaged(format!("`{}` comes after `{}`", show_bytes(name), show_bytes(last))));
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

/// Checks the next entry of its kind. Returns where its bytes are, what it adds to the sums, and how many locations it
/// has.
fn read_entry(b: &[u8], kind: u8, columns: &mut [ColumnReader; tag::END]) -> Result<(usize, Below, usize)> {
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

/// Reads and checks the reference at the front of `b`. Returns its length, too.
pub(super) fn read_reference(b: &[u8]) -> Result<(Reference, usize)> {
    let mut part = ColumnReader { at: 0, end: b.len() };
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
