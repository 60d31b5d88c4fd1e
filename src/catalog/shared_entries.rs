//! Which entries of a version were added from other versions.

use super::shared::SourceRecord;
use super::version::Version;
use crate::error::Result;
use crate::manifest::{Entry, Tree};
use crate::types::RelPath;

/// Tells which entries of a version were added from other versions.
#[derive(Debug)]
pub struct SharedEntries<'a> {
    version: &'a Version,
    /// The trees of source versions, by the place of their record; `None`: it cannot be read.
    trees: Vec<Option<Option<Tree>>>,
}

impl<'a> SharedEntries<'a> {
    /// Of a version.
    pub fn of(version: &'a Version) -> SharedEntries<'a> {
        SharedEntries { version, trees: vec![None; version.record().shared.len()] }
    }

    /// The URI that `entry`, at `path` of the version, was added from. For an entry below a directory that was added,
    /// the source version is read; if it is freed, the answer is none.
    ///
    /// # Errors
    /// I/O.
    pub fn source(&mut self, path: &RelPath, entry: &Entry) -> Result<Option<String>> {
        for (i, record) in self.version.record().shared.iter().enumerate().rev() {
            let (Some(at), Some(from)) = (&record.at, &record.path) else { continue };
            if let Some(content) = &record.content {
                if at == path && matches!(entry, Entry::File { digest, .. } if digest == content) {
                    return Ok(Some(record.uri()));
                }
            } else if path.is_inside(at) || path == at {
                let there = path.seen_from(at).below(from)?;
                let tree = self.trees[i].get_or_insert_with(|| tree_of(self.version, &record.source));
                let found = tree.as_ref().map(|tree| tree.lookup(&there)).and_then(Result::ok).flatten();
                if found.is_some_and(|found| found.entry.same(entry)) {
                    return Ok(Some(record.uri_of(&there)));
                }
            }
        }
        Ok(None)
    }
}

fn tree_of(version: &Version, source: &SourceRecord) -> Option<Tree> {
    if source.store_id.is_some() {
        return None;
    }
    let found = Version::read(version.store(), &source.artifact, source.version).ok().flatten()?;
    if found.digest() == source.digest { found.tree().ok() } else { None }
}
