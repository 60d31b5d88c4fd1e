//! How much content only some versions hold: what a garbage collection can free when they are removed.

use super::stored_as::StoredAs;
use super::version::{self, Version};
use super::{artifact, draft};
use crate::error::{Error, Result};
use crate::manifest::{Census, Tree, Visitor};
use crate::store::Store;
use crate::types::{ArtifactName, Digest, Location, VersionNumber};
use std::collections::HashSet;

/// How many files are visited at most, of the versions that stay and of the others each. More would take seconds.
const MOST_FILES: u64 = 2_000_000;

/// Content that only some versions hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SoleContent {
    /// The bytes that are stored for them, and for no other version and no unfinished draft.
    pub bytes: u64,
    /// Whether that is an estimate: there are too many files to visit them all, or a manifest cannot be read.
    pub is_estimate: bool,
}

/// The content that only these versions hold, removed or not. Equal subtrees are visited once (L5).
///
/// # Errors
/// I/O.
pub fn sole_content(store: &Store, versions: &[(ArtifactName, VersionNumber)]) -> Result<SoleContent> {
    sole_content_within(store, versions, MOST_FILES)
}

/// [`sole_content`] that visits at most `most` files of the versions that stay, and of the others.
///
/// # Errors
/// I/O.
pub fn sole_content_within(
    store: &Store,
    versions: &[(ArtifactName, VersionNumber)],
    most: u64,
) -> Result<SoleContent> {
    let own: HashSet<_> = versions.iter().cloned().collect();
    let mut count = Count::new(StoredAs::read(store)?, most);
    count.others(store, &own)?;
    count.files.left = most;
    count.files.is_counting = true;
    for (name, number) in versions {
        count.version(store, name, *number)?;
    }
    Ok(SoleContent { bytes: count.files.bytes, is_estimate: count.files.is_estimate })
}

/// Visits manifests, each node once.
struct Count<'a> {
    census: Census,
    files: Files<'a>,
}

struct Files<'a> {
    stored_as: StoredAs<'a>,
    /// The first eight bytes of each digest. If two share them, the count is a little too low.
    seen: HashSet<u64>,
    bytes: u64,
    left: u64,
    is_counting: bool,
    is_estimate: bool,
}

impl Visitor for Files<'_> {
    fn file(&mut self, digest: &Digest, size: u64, _: Option<Location>) -> Result<bool> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Error::conflict("too many files"))?;
        let Files { stored_as, seen, bytes, is_counting, .. } = self;
        stored_as.each(digest, size, &mut |part, size| {
            if seen.insert(part.prefix()) && *is_counting {
                *bytes += size;
            }
        });
        Ok(false)
    }

    fn fault(&mut self, _: &Digest, _: Error) -> Result<()> {
        self.is_estimate = true;
        Ok(())
    }
}

impl Count<'_> {
    fn new(stored_as: StoredAs<'_>, most: u64) -> Count<'_> {
        let seen = HashSet::new();
        Count {
            census: Census::new(),
            files: Files { stored_as, seen, bytes: 0, left: most, is_counting: false, is_estimate: false },
        }
    }

    /// Everything that stays: versions of the same artifacts first, because they share most.
    fn others(&mut self, store: &Store, own: &HashSet<(ArtifactName, VersionNumber)>) -> Result<()> {
        let mut names = artifact::all_with_drafts(store)?;
        let has_own: HashSet<_> = own.iter().map(|(name, _)| name).collect();
        names.sort_by_key(|name| !has_own.contains(name));
        for name in names {
            for number in version::live_numbers(store, &name)?.into_iter().rev() {
                if !own.contains(&(name.clone(), number)) {
                    self.version(store, &name, number)?;
                }
            }
            for draft in draft::all(store, &name)? {
                self.draft(store, draft)?;
            }
            if self.files.left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn draft(&mut self, store: &Store, draft: Result<draft::Draft>) -> Result<()> {
        let open = draft.and_then(|draft| Ok(if draft.is_finished()? { None } else { Some(draft.state()?) }));
        match open {
            Ok(Some(state)) => state.contributions.iter().for_each(|one| self.tree(one.tree(store))),
            Ok(None) => {}
            Err(_) => self.files.is_estimate = true,
        }
        Ok(())
    }

    fn version(&mut self, store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<()> {
        match Version::read(store, name, number) {
            Ok(Some(version)) => self.tree(version.tree()),
            Ok(None) => {}
            Err(_) => self.files.is_estimate = true,
        }
        Ok(())
    }

    fn tree(&mut self, tree: Result<Tree>) {
        let visited = tree.and_then(|tree| self.census.visit(&tree, &mut self.files));
        self.files.is_estimate |= visited.is_err();
    }
}
