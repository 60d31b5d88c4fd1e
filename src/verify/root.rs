//! What has a manifest: a version, and a contribution to a draft that is not finished.

use crate::catalog::{Contribution, Draft, Version, removal};
use crate::error::Result;
use crate::manifest::Tree;
use crate::store::Store;
use crate::types::Digest;
use std::fmt;

/// A manifest, read once.
pub(super) struct OwnedManifest {
    pub tree: Tree,
    /// The packs that it lists.
    pub packs: Vec<Digest>,
    /// How many of these, the last ones, were added by patches.
    pub chained: usize,
    /// Whether its root's place hints are what was written.
    pub hints_whole: bool,
}

/// Something with a manifest.
pub(super) enum ManifestOwner {
    Version(Version),
    Contribution(Draft, Contribution),
}

impl fmt::Display for ManifestOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestOwner::Version(version) => version.fmt(f),
            ManifestOwner::Contribution(draft, contribution) => write!(f, "{draft}, number {}", contribution.number),
        }
    }
}

impl ManifestOwner {
    pub fn manifest(&self, store: &Store) -> Result<OwnedManifest> {
        Ok(match self {
            ManifestOwner::Version(version) => {
                let file = version.manifest_file()?;
                let (packs, chained, hints_whole) = (file.packs().to_vec(), file.chained(), file.hints_whole());
                OwnedManifest { tree: version.tree_of(&file), packs, chained, hints_whole }
            }
            ManifestOwner::Contribution(_, contribution) => {
                let packs = contribution.record.packs.clone();
                OwnedManifest { tree: contribution.tree(store)?, packs, chained: 0, hints_whole: true }
            }
        })
    }

    /// The digest of its root node, if that is in a pack only.
    pub fn packed_root(&self) -> Option<Digest> {
        match self {
            ManifestOwner::Version(_) => None,
            ManifestOwner::Contribution(_, contribution) => Some(contribution.record.root.digest),
        }
    }

    pub fn sums(&self) -> (u64, u64, u64) {
        match self {
            ManifestOwner::Version(version) => {
                (version.record().entries, version.record().files, version.record().bytes)
            }
            ManifestOwner::Contribution(_, Contribution { record, .. }) => (record.entries, record.files, record.bytes),
        }
    }

    /// Whether its content must be there: what is removed, finished or discarded meanwhile is not missed.
    pub fn counts(&self, store: &Store) -> Result<bool> {
        match self {
            ManifestOwner::Version(version) => Ok(!removal::is_removed(store, version.artifact(), version.number())?),
            ManifestOwner::Contribution(draft, contribution) => {
                let state = draft.state()?;
                Ok(state.finish.is_none() && state.contributions.iter().any(|c| c.number == contribution.number))
            }
        }
    }
}
