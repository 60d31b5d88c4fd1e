//! `cairn.json`: the format version, the feature lists, and the options that the store was made with.

use crate::error::{Detail, Error, Result, show_path};
use crate::layout::Layout;
use crate::{clock, disk, record};
use serde::{Deserialize, Serialize};

/// The format this release reads and writes.
pub const FORMAT: u32 = 1;

/// Features, grouped by what a release that does not know them may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// A release may ignore unknown ones.
    pub compatible: Vec<String>,
    /// With an unknown one, a release may read the store, but not write to it.
    pub read_only: Vec<String>,
    /// With an unknown one, a release may not open the store.
    pub incompatible: Vec<String>,
}

/// A compatible feature: versions were restored after they were removed. Releases that do not know it see them as
/// removed, and free nothing.
pub const RESTORED_VERSIONS: &str = "restored-versions";

/// An incompatible feature: content is composed of parts of other contents, by recipes. Releases that do not know it
/// would not find that content, and would free what it takes parts of.
pub const COMPOSED_FILES: &str = "composed-files";

/// An incompatible feature: small content may be compressed, and writers compress it. Releases that do not know it
/// cannot read that content.
pub const COMPRESSED_CONTENT: &str = "compressed-content";

/// An incompatible feature: parts of composed content may be packed and compressed although they are long. Releases
/// that do not know it cannot read them.
pub const COMPRESSED_PARTS: &str = "compressed-parts";

/// The features of each list that this release knows.
const KNOWN_COMPATIBLE: [&str; 1] = [RESTORED_VERSIONS];
const KNOWN_READ_ONLY: [&str; 0] = [];
const KNOWN_INCOMPATIBLE: [&str; 3] = [COMPOSED_FILES, COMPRESSED_CONTENT, COMPRESSED_PARTS];
/// The features that a collector takes into account, of those that a store can get when it is made already.
pub(crate) const KNOWN_TO_COLLECTORS: [&str; 4] =
    [RESTORED_VERSIONS, COMPOSED_FILES, COMPRESSED_CONTENT, COMPRESSED_PARTS];

/// Whether a store's writers compress small content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// They compress what gets smaller by it.
    #[default]
    Auto,
    /// They store everything as it is. Earlier releases can use the store.
    None,
}

/// The content of `cairn.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The format version; a higher one is refused.
    pub format: u32,
    /// A random id that never changes; it distinguishes stores.
    pub store_id: String,
    /// When the store was made.
    pub created_at: String,
    /// The cache bound: for how many seconds a client of a shared file system may cache directories.
    pub cache_bound_seconds: u64,
    /// The group whose members may all write, if the store was made with `--group`.
    pub group: Option<String>,
    /// Features in use.
    pub features: Features,
}

/// The cache bound of a store that was made without one, in seconds.
pub const DEFAULT_CACHE_BOUND: u64 = 120;

impl Config {
    /// The configuration of a new store.
    pub fn new(cache_bound_seconds: u64, group: Option<String>, compression: Compression) -> Self {
        let mut features = Features::default();
        if compression == Compression::Auto {
            features.incompatible.push(COMPRESSED_CONTENT.to_owned());
        }
        Config {
            format: FORMAT,
            store_id: crate::types::Token::fresh().to_string(),
            created_at: clock::now(),
            cache_bound_seconds,
            group,
            features,
        }
    }

    /// Reads and checks a store's configuration; `None` if there is none.
    ///
    /// # Errors
    /// Damaged; a conflict, if this release does not know the format or an incompatible feature.
    pub fn read(layout: &Layout) -> Result<Option<Config>> {
        let path = layout.config();
        let mut bytes = disk::read_small(&path, record::MAX_RECORD)?;
        if bytes.is_none() {
            disk::open_parent(&path); // another host may have made it a moment ago
            bytes = disk::read_small(&path, record::MAX_RECORD)?;
        }
        let Some(bytes) = bytes else { return Ok(None) };
        // Read the format version first, and leniently: a later format may have other fields, and even another
        // checksum.
        let loose: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        if let Some(found) = loose.as_ref().and_then(|v| v.get("format")?.as_u64()).filter(|f| *f > u64::from(FORMAT)) {
            return Err(Error::conflict(format!(
                "store {} has format {found}, this release knows up to {FORMAT}",
                show_path(layout.root())
            ))
            .with_detail(Detail::UnsupportedFormat { found, supported: FORMAT.into() })
            .with_hint("use a newer release of cairn"));
        }
        let config: Config = record::decode(&bytes, &show_path(&path))?;
        let unknown = unknown(&config.features.incompatible, &KNOWN_INCOMPATIBLE);
        if !unknown.is_empty() {
            return Err(Error::conflict(format!(
                "store {} uses features that this release does not know: {}",
                show_path(layout.root()),
                unknown.join(", ")
            ))
            .with_detail(Detail::UnsupportedFeatures { features: unknown })
            .with_hint("use a newer release of cairn"));
        }
        Ok(Some(config))
    }

    /// Whether the store's writers compress small content.
    pub fn compression(&self) -> Compression {
        let compresses = self.features.incompatible.iter().any(|feature| feature == COMPRESSED_CONTENT);
        if compresses { Compression::Auto } else { Compression::None }
    }

    /// Features in use with which this release may not write.
    pub fn unknown_read_only(&self) -> Vec<String> {
        unknown(&self.features.read_only, &KNOWN_READ_ONLY)
    }

    /// Features in use that this release does not know, of all lists. An incompatible one is refused by
    /// [`Config::read`] already.
    pub fn unknown_features(&self) -> Vec<String> {
        [unknown(&self.features.compatible, &KNOWN_COMPATIBLE), self.unknown_read_only()].concat()
    }
}

fn unknown(used: &[String], known: &[&str]) -> Vec<String> {
    used.iter().filter(|f| !known.contains(&f.as_str())).cloned().collect()
}
