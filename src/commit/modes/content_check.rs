//! Whether the content that a manifest names is still in the store, as far as lookups show it: one for each large
//! object, one for each pack of small ones, the list of known damage for all. Manifest nodes are read.

use super::conflicts::listed_up_to;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Census, Tree, Visitor};
use crate::objects::{ObjectWriter, ThreadWriter};
use crate::types::{Digest, Location, RelPath};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// How many paths an error names.
const LISTED: usize = 10;
/// How many entries a search for lost paths visits at most.
const MOST: u64 = 1 << 22;

/// A check of one manifest or several. Each node is visited once, however many name it.
pub(in crate::commit) struct ContentCheck<'a> {
    census: Census,
    seen: Seen<'a>,
}

struct Seen<'a> {
    lane: ThreadWriter<'a>,
    lost: HashSet<Digest>,
    why: Option<Error>,
}

impl Visitor for Seen<'_> {
    fn file(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        let lost = !self.lane.has(digest, size, place)?;
        if lost {
            self.lost.insert(*digest);
        }
        Ok(lost)
    }

    fn fault(&mut self, digest: &Digest, error: Error) -> Result<()> {
        if error.kind() != Kind::Damaged {
            return Err(error);
        }
        self.lost.insert(*digest);
        self.why.get_or_insert(error);
        Ok(())
    }
}

impl<'a> ContentCheck<'a> {
    /// Against what `writer` sees of the store, and what it stored itself.
    pub(in crate::commit) fn new(writer: &'a ObjectWriter) -> ContentCheck<'a> {
        ContentCheck {
            census: Census::new(),
            seen: Seen { lane: writer.thread_writer(), lost: HashSet::new(), why: None },
        }
    }

    /// Whether all that the manifest names is in the store.
    ///
    /// # Errors
    /// I/O.
    pub(in crate::commit) fn is_whole(&mut self, tree: &Tree) -> Result<bool> {
        Ok(!self.census.visit(tree, &mut self.seen)?)
    }

    /// Calls `found` with the paths of a manifest whose content is lost: files, and directories that cannot be read.
    pub(in crate::commit) fn lost(&self, tree: &Tree, found: &mut dyn FnMut(&RelPath)) {
        let mut left = MOST;
        let _: ControlFlow<()> =
            self.census.marked(tree, &mut left, &|digest| self.seen.lost.contains(digest), &mut |_, path| found(path));
    }
}

/// Refuses to name content that is known to be damaged, or is missing. `what` is not done then.
///
/// # Errors
/// Damaged: something is. I/O.
pub(in crate::commit) fn check(writer: &ObjectWriter, tree: &Tree, what: &str, hint: &str) -> Result<()> {
    let mut whole = ContentCheck::new(writer);
    if whole.is_whole(tree)? {
        return Ok(());
    }
    let mut paths = Vec::new();
    whole.lost(tree, &mut |path| paths.push(path.to_string()));
    let why = whole.seen.why.take();
    let error = damaged(what, paths);
    Err(why.into_iter().fold(error, |e, why| e.with_cause(why.message())).with_hint(hint))
}

/// The error for such paths.
pub(in crate::commit) fn damaged(what: &str, paths: Vec<String>) -> Error {
    let error = Error::damaged(format!("{what}: content that it names is missing from the store or damaged"));
    listed_up_to(LISTED, error, paths.into_iter())
}
