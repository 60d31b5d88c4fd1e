//! What an error knows beyond its text: data for programs that decide what to do next.

use crate::types::{AliasName, ArtifactName, ArtifactType, DistributedId, RelPath, VersionNumber};
use serde::{Deserialize, Serialize};

/// The data of an error, for programs. In JSON it is an object whose `type` is the name of the variant.
///
/// ```
/// use cairn::error::Detail;
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let mut artifact = cairn::Artifact::new("photos", None)?;
/// artifact.add_bytes("a.png", "…")?;
/// artifact.save(&store)?;
/// let e = cairn::resolve(&store, &cairn::VersionSpec::parse("photo")?).unwrap_err();
/// match e.detail() {
///     Some(Detail::NotFound { candidates, .. }) => assert_eq!(candidates, &["photos"]),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Detail {
    /// Two changes disagree at these paths, or files with other content are in the way of a checkout.
    Conflict {
        /// The paths, sorted; of very many the first.
        #[serde(with = "paths")]
        paths: Vec<RelPath>,
    },
    /// Another process holds what is needed.
    Locked {
        /// Which process.
        holder: Holder,
    },
    /// An alias does not point where it was expected to.
    AliasMoved {
        /// The alias.
        alias: AliasName,
        /// The version that was expected; `None`: that the alias does not exist.
        expected: Option<VersionNumber>,
        /// The version that was found.
        found: Option<VersionNumber>,
    },
    /// The draft was finished: it takes no more contributions.
    Finished {
        /// The artifact.
        artifact: ArtifactName,
        /// The distributed id, which stays closed.
        distributed_id: DistributedId,
        /// The version that the draft became; `None` if its number is not claimed yet.
        version: Option<VersionNumber>,
    },
    /// The draft cannot be finished yet.
    NotReady {
        /// What is missing, a line each: runs that have not contributed, runs that are still writing.
        waiting_for: Vec<String>,
    },
    /// An artifact has one type.
    OtherType {
        /// The type that it has.
        found: ArtifactType,
        /// The type that was asked for.
        wanted: ArtifactType,
    },
    /// A newer release of cairn made the store.
    UnsupportedFormat {
        /// The store's format.
        found: u64,
        /// The highest format that this release can read.
        supported: u64,
    },
    /// The store uses features that this release does not know.
    UnsupportedFeatures {
        /// Their names.
        features: Vec<String>,
    },
    /// What was named does not exist.
    NotFound {
        /// What was looked for.
        what: Missing,
        /// The name that was given.
        name: String,
        /// Names that exist and are near to it, best first.
        candidates: Vec<String>,
    },
    /// The caller asked the work to stop.
    Interrupted,
}

/// What was looked for and does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Missing {
    /// A store.
    Store,
    /// An artifact.
    Artifact,
    /// A version or an alias of an artifact.
    Version,
    /// A draft.
    Draft,
    /// A path in a version.
    Path,
}

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// What it holds the lock for: `put`, `mount`, `alias`, …
    pub purpose: String,
    /// Its host.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Its user.
    pub user: String,
    /// When it took the lock, by its host's clock (RFC 3339).
    pub since: String,
}

impl Holder {
    pub(crate) fn new(purpose: &str, host: &str, pid: u32, user: &str, since: &str) -> Holder {
        Holder { purpose: purpose.into(), host: host.into(), pid, user: user.into(), since: since.into() }
    }
}

/// Paths in JSON: text, or `{"path_b64": …}` where a path is not UTF-8.
mod paths {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserializer, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Path {
        Text(String),
        Bytes { path_b64: String },
    }

    pub fn serialize<S: Serializer>(paths: &[RelPath], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(paths.iter().map(|path| match std::str::from_utf8(path.as_bytes()) {
            Ok(text) => Path::Text(text.to_owned()),
            Err(_) => Path::Bytes { path_b64: STANDARD.encode(path.as_bytes()) },
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<RelPath>, D::Error> {
        let parse = |path| {
            let bytes = match path {
                Path::Text(text) => text.into_bytes(),
                Path::Bytes { path_b64 } => STANDARD.decode(path_b64).map_err(D::Error::custom)?,
            };
            RelPath::parse_or_root(&bytes).map_err(D::Error::custom)
        };
        Vec::<Path>::deserialize(d)?.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_json_paths_that_are_not_utf_8_included() {
        let paths = vec![RelPath::parse(b"a/b").unwrap(), RelPath::parse(b"\xff").unwrap()];
        let detail = Detail::Conflict { paths };
        let json = serde_json::to_value(&detail).unwrap();
        assert_eq!(json, serde_json::json!({"type": "conflict", "paths": ["a/b", {"path_b64": "/w=="}]}));
        assert_eq!(serde_json::from_value::<Detail>(json).unwrap(), detail);
    }
}
