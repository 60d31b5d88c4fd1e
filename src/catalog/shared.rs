//! Where the content of a version came from: the version that it is a copy of, and those that content was added from.
//!
//! It is in the version's record, not in its entries: equal entries have equal digests (L2), wherever they came from.

use crate::types::{ArtifactName, Digest, RelPath, VersionNumber};
use serde::{Deserialize, Serialize};

/// How many additions are recorded one by one. If there are more, each source version is recorded once.
pub(crate) const MAX_SHARED: usize = 100;

/// The version that a copy was made of, or that content was added from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The number.
    pub version: VersionNumber,
    /// The digest of its root.
    pub digest: Digest,
    /// The id of its store, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
}

impl std::fmt::Display for SourceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}@{}", self.artifact, self.version, self.digest)?;
        self.store_id.as_ref().map_or(Ok(()), |id| write!(f, " in store {id}"))
    }
}

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

    pub(super) fn uri_of(&self, path: &RelPath) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
