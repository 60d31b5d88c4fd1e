//! `cairn.json`: the format version, the feature lists, and the options that the store was made with.

use crate::error::{Detail, Error, Result, show_path};
use crate::layout::Layout;
use crate::{clock, disk, record};
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// An incompatible feature: content of 128 KiB or more may be composed, of compressed parts alone, and recipes may have
/// many sources. Releases that do not know it look for recipes only of content of 1 MiB or more, with few sources.
pub const COMPRESSED_FILES: &str = "compressed-files";

/// What a store has whose writers compress files of any size.
const FEATURES_OF_ALL: [&str; 4] = [COMPRESSED_CONTENT, COMPOSED_FILES, COMPRESSED_PARTS, COMPRESSED_FILES];

/// The features of each list that this release knows.
const KNOWN_COMPATIBLE: [&str; 1] = [RESTORED_VERSIONS];
const KNOWN_READ_ONLY: [&str; 0] = [];
const KNOWN_INCOMPATIBLE: [&str; 4] = FEATURES_OF_ALL;
/// The features that a collector takes into account, of those that a store can get when it is made already.
pub(crate) const KNOWN_TO_COLLECTORS: [&str; 5] =
    [RESTORED_VERSIONS, COMPOSED_FILES, COMPRESSED_CONTENT, COMPRESSED_PARTS, COMPRESSED_FILES];

/// What a store's writers compress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Small files, and what is new in a changed large file, if they get smaller by it. Other large files are stored as
    /// they are, so that programs read the store's own files.
    #[default]
    Auto,
    /// Files of any size, if they get smaller by it.
    All,
    /// They store everything as it is. Earlier releases can use the store.
    None,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Auto => "auto",
            Compression::All => "all",
            Compression::None => "none",
        })
    }
}

impl Compression {
    /// The incompatible features of a store with it.
    pub(super) fn features(self) -> &'static [&'static str] {
        match self {
            Compression::None => &[],
            Compression::Auto => &[COMPRESSED_CONTENT],
            Compression::All => &FEATURES_OF_ALL,
        }
    }

    /// What `cairn.json` says in the field `compression`, if it has that.
    pub(super) fn setting(self) -> Option<&'static str> {
        (self == Compression::All).then_some("all")
    }
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
    /// `all`: writers compress files of any size. Without it, the features say what they compress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    /// Features in use.
    pub features: Features,
}

/// The cache bound of a store that was made without one, in seconds.
pub const DEFAULT_CACHE_BOUND: u64 = 120;

impl Config {
    /// The configuration of a new store.
    pub fn new(cache_bound_seconds: u64, group: Option<String>, compression: Compression) -> Self {
        let incompatible = compression.features().iter().map(|feature| (*feature).to_owned()).collect();
        Config {
            format: FORMAT,
            store_id: crate::types::Token::fresh().to_string(),
            created_at: clock::now(),
            cache_bound_seconds,
            group,
            compression: compression.setting().map(str::to_owned),
            features: Features { incompatible, ..Features::default() },
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

    /// What the store's writers compress.
    pub fn compression(&self) -> Compression {
        let has = |compression: &Compression| {
            let has = |feature: &&str| self.features.incompatible.iter().any(|found| found == feature);
            compression.features().iter().all(has)
        };
        let all = Some(Compression::All).filter(|all| self.compression.as_deref() == all.setting() && has(all));
        all.or_else(|| Some(Compression::Auto).filter(has)).unwrap_or(Compression::None)
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
