//! Changes in path order, however many there are and in whatever order they come: parts are sorted in memory and kept
//! in a temporary file without a name, and merged when they are read.

use super::change_record::{ParsedChange, decode, encode};
use crate::error::{Error, Result};
use crate::ingest::{Fields, Span, Spill};
use crate::manifest::path_order;
use crate::types::RelPath;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;

/// The bytes of changes that are sorted in memory.
const SORTED: usize = if cfg!(test) { 500 } else { 8 << 20 };
/// The bytes that are read at a time.
const BLOCK: usize = 64 << 10;

/// A difference between versions: its changes, in path order.
#[derive(Clone, Debug)]
pub struct Changes {
    spill: Arc<Spill>,
    /// Each is sorted: parts that follow each other.
    runs: Vec<Vec<Span>>,
}

/// Collects changes.
pub(super) struct ChangeCollector {
    spill: Spill,
    runs: Vec<Vec<Span>>,
    pending: Vec<(RelPath, Vec<u8>)>,
    pending_bytes: usize,
    /// The last path of the last run.
    last: Option<RelPath>,
}

impl ChangeCollector {
    /// The temporary file is made on the file system of `dir`.
    pub(super) fn new(dir: &Path) -> ChangeCollector {
        let (spill, pending, runs) = (Spill::new(dir), Vec::new(), Vec::new());
        ChangeCollector { spill, runs, pending, pending_bytes: 0, last: None }
    }

    pub(super) fn add(&mut self, change: ParsedChange) -> Result<()> {
        let encoded = encode(&change);
        self.pending_bytes += encoded.len() + change.path.as_bytes().len() + size_of::<(RelPath, Vec<u8>)>();
        self.pending.push((change.path, encoded));
        if self.pending_bytes >= SORTED { self.sort() } else { Ok(()) }
    }

    /// Writes what is pending.
    fn sort(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        pending.sort_by(|a, b| path_order(&a.0, &b.0));
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return Ok(()) };
        let bytes: Vec<u8> = pending.iter().flat_map(|(_, encoded)| encoded).copied().collect();
        let span = self.spill.append(&bytes)?;
        let follows = self.last.as_ref().is_some_and(|last| path_order(last, &first.0) == Ordering::Less);
        match self.runs.last_mut().filter(|_| follows) {
            Some(run) => run.push(span),
            None => self.runs.push(vec![span]),
        }
        self.last = Some(last.0.clone());
        Ok(())
    }

    /// All changes.
    ///
    /// # Errors
    /// Usage: two have the same path. I/O.
    pub(super) fn finish(mut self) -> Result<Changes> {
        self.sort()?;
        let changes = Changes { spill: Arc::new(self.spill), runs: self.runs };
        let mut last: Option<RelPath> = None;
        for change in changes.iter()? {
            let path = change?.path;
            if last.as_ref() == Some(&path) {
                return Err(Error::usage(format!("the difference names {path} twice")));
            }
            last = Some(path);
        }
        Ok(changes)
    }
}

impl Changes {
    /// The changes in path order.
    ///
    /// # Errors
    /// I/O.
    pub(in crate::commit) fn iter(&self) -> Result<ChangeIter<'_>> {
        let mut iter = ChangeIter { runs: Vec::new(), next: BinaryHeap::new() };
        for spans in &self.runs {
            iter.runs.push(RunReader { spill: &self.spill, spans, read: 0, buffer: Vec::new(), at: 0 });
            iter.read_ahead(iter.runs.len() - 1)?;
        }
        Ok(iter)
    }
}

/// Merges the runs.
pub(in crate::commit) struct ChangeIter<'a> {
    runs: Vec<RunReader<'a>>,
    next: BinaryHeap<Reverse<Next>>,
}

/// The next change of a run.
struct Next {
    change: ParsedChange,
    run: usize,
}

impl ChangeIter<'_> {
    fn read_ahead(&mut self, run: usize) -> Result<()> {
        let next = self.runs[run].next()?;
        self.next.extend(next.map(|change| Reverse(Next { change, run })));
        Ok(())
    }
}

impl Iterator for ChangeIter<'_> {
    type Item = Result<ParsedChange>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(Next { change, run }) = self.next.pop()?;
        Some(self.read_ahead(run).map(|()| change))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Next) -> Ordering {
        path_order(&self.change.path, &other.change.path).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Next) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

struct RunReader<'a> {
    spill: &'a Spill,
    spans: &'a [Span],
    /// How much of the first span is in the buffer, or was.
    read: usize,
    buffer: Vec<u8>,
    at: usize,
}

impl RunReader<'_> {
    fn next(&mut self) -> Result<Option<ParsedChange>> {
        if !self.has(4)? {
            return Ok(None);
        }
        let len = Fields(&self.buffer[self.at..]).u32()? as usize;
        self.has(4 + len)?;
        let change = decode(Fields(&self.buffer[self.at..]).text()?)?;
        self.at += 4 + len;
        Ok(Some(change))
    }

    /// Reads until `len` bytes are there. `false`: the run ends before.
    fn has(&mut self, len: usize) -> Result<bool> {
        while self.buffer.len() - self.at < len {
            let Some((span, rest)) = self.spans.split_first() else { return Ok(false) };
            let block = self.spill.read_part(*span, self.read, BLOCK)?;
            if block.is_empty() {
                (self.spans, self.read) = (rest, 0);
                continue;
            }
            self.read += block.len();
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.extend_from_slice(&block);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::change_record::Side;
    use super::*;
    use crate::manifest::Reference;
    use crate::types::Digest;

    fn change(path: &str, old: Option<Side>, new: Option<Side>) -> ParsedChange {
        ParsedChange { path: RelPath::parse(path.as_bytes()).unwrap(), old, new }
    }

    fn file(n: u64) -> Option<Side> {
        Some(Side::File { digest: Digest::of(&n.to_le_bytes()), size: n, exec: n.is_multiple_of(2) })
    }

    fn collected(changes: impl IntoIterator<Item = ParsedChange>) -> Result<Changes> {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = ChangeCollector::new(dir.path());
        changes.into_iter().for_each(|change| collector.add(change).unwrap());
        collector.finish()
    }

    #[test]
    fn changes_in_any_order_are_read_in_path_order_and_those_in_path_order_are_one_run() {
        let all = |n: u64| change(&format!("d{}/{n:04}", n % 7), file(n), file(n + 1));
        let mut sorted: Vec<_> = (0..300).map(all).collect();
        sorted.sort_by(|a, b| path_order(&a.path, &b.path));
        for (given, runs) in [((0..300).map(all).collect(), 10..500), (sorted.clone(), 1..2)] {
            let given: Vec<_> = given;
            let changes = collected(given).unwrap();
            assert!(runs.contains(&changes.runs.len()), "{}", changes.runs.len());
            for _ in 0..2 {
                let read: Vec<_> = changes.iter().unwrap().map(|change| change.unwrap()).collect();
                assert_eq!(read, sorted);
            }
        }
    }

    #[test]
    fn each_kind_of_entry_is_read_as_it_was_added_and_a_path_comes_once() {
        let reference = |size, etag: Option<&str>, digest| {
            Some(Side::Reference(Box::new(Reference {
                uri: "s3://b/k".to_owned(),
                size,
                etag: etag.map(str::to_owned),
                digest,
            })))
        };
        let all = vec![
            change("a", None, Some(Side::Directory)),
            change("b", Some(Side::Symlink(b"t\xff".to_vec())), None),
            change("c", reference(None, None, None), reference(Some(5), Some("e"), Some(Digest::of(b"x")))),
            change("d", reference(None, Some("f"), None), file(3)),
        ];
        let changes = collected(all.clone()).unwrap();
        assert_eq!(changes.iter().unwrap().map(|change| change.unwrap()).collect::<Vec<_>>(), all);
        let twice = (0..300).map(|n| change(&format!("{:03}", n % 299), None, file(n)));
        assert!(collected(twice).unwrap_err().to_string().contains("twice"));
    }
}
