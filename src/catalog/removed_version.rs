//! The error about a version that was removed: when, by whom, and whether it can be restored.

use super::manifest_file::ManifestFile;
use super::removal;
use crate::error::{Detail, Error, Kind, Missing, Result};
use crate::manifest::{Entry, RootNode, Tree};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{ArtifactName, VersionNumber};

/// How many entries show whether a version may be restored.
const LOOKED_AT: usize = 32;

/// The error for a version that is removed; `None` if it is not.
///
/// # Errors
/// I/O.
pub(crate) fn removed_error(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<Error>> {
    let when = match removal::last_removal(store, name, number) {
        Ok(None) => return Ok(None),
        Ok(Some((at, by))) => format!(" at {at}{by}"),
        Err(e) if e.kind() == Kind::Damaged => String::new(), // its marker is there, but cannot be read
        Err(e) => return Err(e),
    };
    let spec = format!("{name}:{number}");
    let hint = if may_be_restored(store, name, number)? {
        format!("`cairn restore {spec}` brings it back, until a garbage collection frees content of it")
    } else {
        format!(
            "a garbage collection has freed content of it, or its number is lost: it cannot be restored; `cairn list \
             {name}` shows the versions that there are"
        )
    };
    let detail = Detail::NotFound { what: Missing::Version, name: spec.clone(), candidates: Vec::new() };
    Ok(Some(Error::not_found(format!("{spec} was removed{when}")).with_detail(detail).with_hint(hint)))
}

/// Whether the first files of a version can be read, from their place or from the trash. Whether all of it can be
/// restored, a restore finds out.
fn may_be_restored(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<bool> {
    let first_files = || -> Result<bool> {
        let Some(token) = claim::holder(&store.layout().version(name, number))? else { return Ok(false) };
        let path = store.layout().versions(name).join(token.record_name()).join("manifest");
        let manifest = ManifestFile::read(&path, store.objects())?;
        let root = RootNode { node: manifest.root().clone(), place: None };
        let tree = Tree::of(&root, store.objects().clone());
        for visit in tree.walk().take(LOOKED_AT) {
            if let Entry::File { digest, size, place, .. } = visit?.entry {
                store.objects().content(&digest, size, place)?;
            }
        }
        Ok(true)
    };
    match first_files() {
        Err(e) if e.kind() == Kind::Damaged => Ok(false),
        other => other,
    }
}
