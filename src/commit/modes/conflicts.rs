//! Errors that list paths: where runs differ, where a patch conflicts, what is lost.

use crate::catalog::Draft;
use crate::error::{Detail, Error};
use crate::manifest::{Conflict, Entry};
use crate::types::{Digest, RelPath};

/// How many paths an error lists.
const LISTED: usize = 50;
/// How many different entries are shown for each.
const SIDES: usize = 8;
/// How many paths an error's detail has at most.
pub(in crate::commit) const DETAILED: usize = 10_000;

/// The error for paths where changes conflict.
pub(in crate::commit) fn conflict(why: &str, paths: &[RelPath]) -> Error {
    conflict_at(paths.len(), why, paths)
}

/// As [`conflict`], for `count` paths of which these are the first.
pub(in crate::commit) fn conflict_at(count: usize, why: &str, first: &[RelPath]) -> Error {
    let s = if count == 1 { "" } else { "s" };
    let error = Error::conflict(format!("conflict at {count} path{s}: {why}"))
        .with_detail(Detail::Conflict { paths: first.iter().take(DETAILED).cloned().collect() });
    listed_of(count, LISTED, error, first.iter().map(|path| path.to_string()))
}

pub(in crate::commit) fn listed(error: Error, lines: impl ExactSizeIterator<Item = String>) -> Error {
    listed_up_to(LISTED, error, lines)
}

/// An error with the first `most` lines as its causes, and how many more there are.
pub(in crate::commit) fn listed_up_to(
    most: usize,
    error: Error,
    lines: impl ExactSizeIterator<Item = String>,
) -> Error {
    listed_of(lines.len(), most, error, lines)
}

/// As [`listed_up_to`], for `count` lines of which these are the first.
fn listed_of(count: usize, most: usize, error: Error, lines: impl Iterator<Item = String>) -> Error {
    let more = count.saturating_sub(most);
    let error = lines.take(most).fold(error, Error::with_cause);
    if more > 0 { error.with_cause(format!("and {more} more")) } else { error }
}

/// The paths in conflict: how many there are, and for the first ones which run has which entry.
#[derive(Default)]
pub(in crate::commit) struct Conflicts {
    first: Vec<Conflicting>,
    paths: u64,
    last: Option<RelPath>,
}

/// One of them: the entry of each part, by the part's number.
struct Conflicting {
    path: RelPath,
    sides: Vec<(usize, Entry)>,
}

impl Conflicts {
    /// Adds a conflict. Those of one path come one after the other, each a pair: the first entry, and one that differs.
    pub(in crate::commit) fn see(&mut self, conflict: &Conflict) {
        if self.last.as_ref() != Some(&conflict.path) {
            self.last = Some(conflict.path.clone());
            self.paths += 1;
            if self.first.len() < LISTED {
                self.first.push(Conflicting { path: conflict.path.clone(), sides: vec![conflict.earlier.clone()] });
            }
        }
        if let Some(listed) = self.first.last_mut().filter(|listed| listed.path == conflict.path) {
            listed.sides.push(conflict.later.clone());
        }
    }

    pub(in crate::commit) fn error(&self, draft: &Draft, who: impl Fn(usize) -> String) -> Error {
        let s = if self.paths == 1 { "" } else { "s" };
        let error = Error::conflict(format!("{} is not finished: runs differ at {} path{s}", draft, self.paths));
        let paths = self.first.iter().map(|c| c.path.clone()).collect();
        let error = error.with_detail(Detail::Conflict { paths });
        let line = |c: &Conflicting| {
            let mut sides: Vec<_> =
                c.sides.iter().take(SIDES).map(|(i, entry)| format!("{} by {}", describe(entry), who(*i))).collect();
            sides.extend(c.sides.len().checked_sub(SIDES + 1).map(|more| format!("and {} more", more + 1)));
            format!("{}: {}", c.path, sides.join("; "))
        };
        let error = self.first.iter().map(line).fold(error, Error::with_cause);
        let more = self.paths - self.first.len() as u64;
        let error = if more > 0 { error.with_cause(format!("and {more} more")) } else { error };
        error.with_hint(
            "let a run upsert the right content again, drop a run with `cairn draft drop`, or finish with \
             --on-conflict latest",
        )
    }
}

/// The beginning of a digest, as `cairn ls -l` prints it.
fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::File { digest, exec: false, .. } => format!("sha256 {}", short(digest)),
        Entry::File { digest, exec: true, .. } => format!("executable, sha256 {}", short(digest)),
        Entry::Symlink { target } => format!("symlink to {}", crate::error::show_bytes(target)),
        Entry::Reference(reference) => format!("reference to {}", reference.uri),
        Entry::Directory(_) => "a directory".to_owned(),
    }
}
