//! What has a manifest: a version, and a contribution to a draft that is not finished.

use crate::catalog::{Contribution, Draft, Version, removal};
use crate::error::Result;
use crate::manifest::Tree;
use crate::store::Store;
use crate::types::Digest;
use std::fmt;

/// Something with a manifest.
pub(super) enum Root {
    Version(Version),
    Contribution(Draft, Contribution),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Root::Version(version) => version.fmt(f),
            Root::Contribution(draft, contribution) => write!(f, "{draft}, number {}", contribution.number),
        }
    }
}

impl Root {
    pub fn tree(&self, store: &Store) -> Result<Tree> {
        match self {
            Root::Version(version) => version.tree(),
            Root::Contribution(_, contribution) => contribution.tree(store),
        }
    }

    pub fn packs(&self) -> Result<Vec<Digest>> {
        match self {
            Root::Version(version) => Ok(version.manifest_file()?.packs().to_vec()),
            Root::Contribution(_, contribution) => Ok(contribution.record.packs.clone()),
        }
    }

    pub fn sums(&self) -> (u64, u64, u64) {
        match self {
            Root::Version(version) => (version.record().entries, version.record().files, version.record().bytes),
            Root::Contribution(_, Contribution { record, .. }) => (record.entries, record.files, record.bytes),
        }
    }

    /// Whether its content must be there: what is removed, finished or discarded meanwhile is not missed.
    pub fn counts(&self, store: &Store) -> Result<bool> {
        match self {
            Root::Version(version) => Ok(!removal::is_removed(store, version.artifact(), version.number())?),
            Root::Contribution(draft, contribution) => {
                let state = draft.state()?;
                Ok(state.finish.is_none() && state.contributions.iter().any(|c| c.number == contribution.number))
            }
        }
    }
}
