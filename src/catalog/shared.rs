//! What a version shares with others: content that was added to it from another version, and where that came from.
//!
//! It is in the version's record, not in its entries: equal entries have equal digests (L2), wherever they came from.

use super::version::Version;
use super::version_record::SourceRecord;
use crate::error::Result;
use crate::manifest::{Entry, Tree};
use crate::types::{Digest, RelPath};
use serde::{Deserialize, Serialize};

/// How many additions are recorded one by one. If there are more, each source version is recorded once.
pub(crate) const MAX_SHARED: usize = 100;

/// What was added from another version: as `cairn://NAME:V/PATH`, or as an object of that version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedRecord {
    /// The version that it was added from.
    #[serde(flatten)]
    pub source: SourceRecord,
    /// Where it is in that version; the root: all of it. `None`: additions are not recorded one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelPath>,
    /// Where it was added; the root: its entries were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<RelPath>,
    /// Of a file: the digest of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
}

impl SharedRecord {
    /// `cairn://NAME:vN/PATH`
    pub fn uri(&self) -> String {
        self.uri_of(self.path.as_ref().unwrap_or(&RelPath::root()))
    }

    fn uri_of(&self, path: &RelPath) -> String {
        let SourceRecord { artifact, version, .. } = &self.source;
        let path = if path.is_root() { String::new() } else { format!("/{path}") };
        format!("cairn://{artifact}:{version}{path}")
    }
}

/// Adds the records of `more` that `all` does not have, within the bound.
pub(crate) fn unite(all: &mut Vec<SharedRecord>, more: impl IntoIterator<Item = SharedRecord>) {
    for record in more {
        if !all.contains(&record) {
            all.push(record);
        }
    }
    if all.len() > MAX_SHARED {
        let mut versions: Vec<SharedRecord> = Vec::new();
        for SharedRecord { source, .. } in all.drain(..) {
            if versions.iter().all(|known| known.source != source) {
                versions.push(SharedRecord { source, path: None, at: None, content: None });
            }
        }
        *all = versions;
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ArtifactName, VersionNumber};

    fn record(version: u64, path: &[u8]) -> SharedRecord {
        let artifact = ArtifactName::parse("images").unwrap();
        let (digest, store_id) = (Digest::of(b""), None);
        let source = SourceRecord { artifact, version: VersionNumber(version), digest, store_id };
        let path = RelPath::parse(path).unwrap();
        SharedRecord { source, at: Some(path.clone()), path: Some(path), content: Some(digest) }
    }

    #[test]
    fn a_record_keeps_a_path_that_is_not_utf_8() {
        for path in [b"a/b".as_slice(), b"a/\xff"] {
            let json = serde_json::to_string(&record(3, path)).unwrap();
            assert_eq!(serde_json::from_str::<SharedRecord>(&json).unwrap(), record(3, path), "{json}");
        }
    }

    #[test]
    fn beyond_the_bound_each_source_version_is_recorded_once() {
        let mut all = Vec::new();
        let of = |n: usize| (0..n).map(|i| record(i as u64 % 3, format!("f{i}").as_bytes()));
        unite(&mut all, of(MAX_SHARED).chain(of(MAX_SHARED)));
        assert_eq!(all.len(), MAX_SHARED);
        unite(&mut all, [record(0, b"one-more")]);
        let kept: Vec<_> = all.iter().map(|r| (r.source.version.0, &r.path, r.uri())).collect();
        let expected = [0, 1, 2].map(|v| (v, &None, format!("cairn://images:v{v}")));
        assert_eq!(kept, expected);
    }
}
