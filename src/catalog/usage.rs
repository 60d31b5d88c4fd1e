//! How many bytes artifacts and versions have, and how many of them they alone have.

use super::stored_as::StoredAs;
use super::version::{self, Version};
use super::{artifact, draft};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Ownership, Tree};
use crate::store::Store;
use crate::types::{ArtifactName, Digest, VersionNumber};

/// What one artifact or version uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The version; `None`: all versions of the artifact that are not removed.
    pub version: Option<VersionNumber>,
    /// The bytes of its files; of an artifact those of its newest version.
    pub bytes: u64,
    /// The bytes that are stored for it alone: for no other version, and no unfinished draft. Of an artifact: for no
    /// other artifact.
    pub alone: u64,
}

/// Usages, and what could not be counted.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct UsageReport {
    /// In order of names and numbers.
    pub usages: Vec<Usage>,
    /// Versions and drafts that cannot be read. What only they have may be missing in other counts.
    pub damaged: Vec<Error>,
}

/// Represents everything that is not listed.
const OTHERS: u32 = u32::MAX;

/// What each artifact uses.
///
/// # Errors
/// I/O.
pub fn of_artifacts(store: &Store) -> Result<UsageReport> {
    let names = artifact::all(store)?;
    let mut count = Count::new(store)?;
    for (owner, name) in (0..).zip(&names) {
        count.versions(store, name, |_| owner)?;
        count.drafts(store, name, owner)?;
    }
    let mut usages = Vec::new();
    for other in artifact::all_with_drafts(store)?.iter().filter(|other| !names.contains(other)) {
        count.drafts(store, other, OTHERS)?;
    }
    for (owner, name) in (0..).zip(names) {
        let newest = match Version::newest(store, &name) {
            Err(e) if e.kind() == Kind::Damaged => None, // reported above
            newest => newest?,
        };
        let bytes = newest.map_or(0, |version| version.record().bytes);
        usages.push(Usage { artifact: name, version: None, bytes, alone: count.ownership.alone(owner) });
    }
    Ok(UsageReport { usages, damaged: count.damaged })
}

/// What each version of an artifact uses.
///
/// # Errors
/// Not found: the artifact. I/O.
pub fn of_versions(store: &Store, name: &ArtifactName) -> Result<UsageReport> {
    if artifact::find(store, name)?.is_none() {
        return Err(artifact::no_artifact(store, name)?);
    }
    let mut count = Count::new(store)?;
    let own = count.versions(store, name, |number| u32::try_from(number.0).unwrap_or(OTHERS))?;
    count.drafts(store, name, OTHERS)?;
    for other in artifact::all_with_drafts(store)?.iter().filter(|other| *other != name) {
        count.versions(store, other, |_| OTHERS)?;
        count.drafts(store, other, OTHERS)?;
    }
    let usage = |version: &Version| Usage {
        artifact: name.clone(),
        version: Some(version.number()),
        bytes: version.record().bytes,
        alone: u32::try_from(version.number().0).map_or(0, |owner| count.ownership.alone(owner)),
    };
    Ok(UsageReport { usages: own.iter().map(usage).collect(), damaged: count.damaged })
}

struct Count<'a> {
    stored_as: StoredAs<'a>,
    ownership: Ownership,
    damaged: Vec<Error>,
}

impl Count<'_> {
    fn new(store: &Store) -> Result<Count<'_>> {
        Ok(Count { stored_as: StoredAs::read(store)?, ownership: Ownership::default(), damaged: Vec::new() })
    }

    fn versions(
        &mut self,
        store: &Store,
        name: &ArtifactName,
        owner: impl Fn(VersionNumber) -> u32,
    ) -> Result<Vec<Version>> {
        let mut readable = Vec::new();
        for (number, version) in version::each(store, name)? {
            match version {
                Ok(version) => {
                    self.tree(owner(number), version.tree(), &version.to_string())?;
                    readable.push(version);
                }
                Err(e) => self.damaged.push(e),
            }
        }
        Ok(readable)
    }

    fn drafts(&mut self, store: &Store, name: &ArtifactName, owner: u32) -> Result<()> {
        for draft in draft::all(store, name)? {
            let (draft, state) = match draft.and_then(|draft| draft.state().map(|state| (draft, state))) {
                Ok(found) => found,
                Err(e) if e.kind() == Kind::Damaged => {
                    self.damaged.push(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if state.finish.is_none() {
                for contribution in &state.contributions {
                    self.tree(owner, contribution.tree(store), &format!("the draft {}", draft.id()))?;
                }
            }
        }
        Ok(())
    }

    fn tree(&mut self, owner: u32, tree: Result<Tree>, of: &str) -> Result<()> {
        let parts = |digest: &Digest, size: u64, each: &mut dyn FnMut(&Digest, u64)| {
            self.stored_as.each(digest, size, each);
        };
        match tree.and_then(|tree| self.ownership.add(owner, &tree, &parts)) {
            Err(e) if e.kind() == Kind::Damaged => {
                self.damaged.push(e.context(format!("{of} cannot be read")));
                Ok(())
            }
            result => result,
        }
    }
}
