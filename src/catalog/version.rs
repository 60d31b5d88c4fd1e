//! Versions: the handle on one that was resolved, and the versions of an artifact.

use super::manifest_file::ManifestFile;
use super::shared::SourceRecord;
use super::version_record::{VersionRecord, read_record_at};
use super::{alias, artifact, numbers, removal};
use crate::error::{Error, Kind, Result, show_path};
use crate::manifest::{self, Diff, RootNode, Tree};
use crate::store::Store;
use crate::txn::claim;
use crate::types::{AliasName, ArtifactName, Digest, Token, VersionNumber};

/// One published version of one artifact.
#[derive(Clone)]
pub struct Version {
    store: Store,
    number: VersionNumber,
    token: Token,
    record: VersionRecord,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self} {}", self.record.digest)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.record.artifact, self.number)
    }
}

impl Version {
    /// Version `number` of an artifact, removed or not; `None` when that number was never claimed.
    ///
    /// # Errors
    /// Damaged, a record that belongs to another number included; I/O.
    pub fn read(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<Version>> {
        let found = Version::read_anywhere(store, name, number)?;
        if let Some(version) = &found {
            numbers::check_number(&version.record, number.0, &store.layout().version(name, number))?;
        }
        Ok(found)
    }

    /// [`Version::read`] without a comparison of the record with its number: `verify` reports that in detail.
    pub(crate) fn read_anywhere(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Option<Version>> {
        let found = read_record_at(store, name, number)?;
        Ok(found.map(|(token, record)| Version { store: store.clone(), number, token, record }))
    }

    /// The version whose record was written under `token` and is claimed at `number`.
    pub(crate) fn claimed(store: &Store, number: VersionNumber, token: Token, record: VersionRecord) -> Version {
        Version { store: store.clone(), number, token, record }
    }

    /// The newest version of an artifact that is not removed.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn newest(store: &Store, name: &ArtifactName) -> Result<Option<Version>> {
        Ok(Version::newest_number(store, name)?.map(|n| Version::read(store, name, n)).transpose()?.flatten())
    }

    /// The artifact's name.
    pub fn artifact(&self) -> &ArtifactName {
        &self.record.artifact
    }

    /// The number.
    pub fn number(&self) -> VersionNumber {
        self.number
    }

    /// The digest of its root.
    pub fn digest(&self) -> Digest {
        self.record.digest
    }

    /// What was recorded at its commit.
    pub fn record(&self) -> &VersionRecord {
        &self.record
    }

    /// It, as a source in a record of `store`.
    pub(crate) fn as_source_in(&self, store: &Store) -> SourceRecord {
        let is_here = self.store.root() == store.root();
        SourceRecord {
            artifact: self.artifact().clone(),
            version: self.number,
            digest: self.digest(),
            store_id: (!is_here).then(|| self.store.config().store_id.to_string()),
        }
    }

    /// The token under which it was made.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The names of the packs that hold its nodes.
    ///
    /// # Errors
    /// Damaged; I/O.
    #[doc(hidden)]
    pub fn manifest_file(&self) -> Result<ManifestFile> {
        let path = self.store.layout().versions(self.artifact()).join(self.token.record_name()).join("manifest");
        let manifest = claim::retry_until_consistent(&path, || ManifestFile::read(&path, self.store.objects()))?;
        if manifest.root().digest() != self.record.digest {
            return Err(Error::damaged(format!(
                "{} has root {}, version.json says {}",
                show_path(&path),
                manifest.root().digest(),
                self.record.digest
            )));
        }
        Ok(manifest)
    }

    /// Whether its content has this digest, and its manifest can be read: a damaged version equals no other.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn is_readable_as(&self, digest: &Digest) -> Result<bool> {
        if self.record.digest != *digest {
            return Ok(false);
        }
        match self.manifest_file() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == Kind::Damaged => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Its entries as a tree. Reads the version's own directory only (L4).
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn tree(&self) -> Result<Tree> {
        Ok(self.tree_of(&self.manifest_file()?))
    }

    /// [`Version::tree`] by its manifest, which was read already.
    pub(crate) fn tree_of(&self, manifest: &ManifestFile) -> Tree {
        let root = RootNode { node: manifest.root().clone(), place: None };
        Tree::of(&root, self.store.objects().clone())
    }

    /// What changed from this version to `other`, in path order. Equal directories are not read.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn diff(&self, other: &Version) -> Result<Diff> {
        Ok(manifest::diff(&self.tree()?, &other.tree()?))
    }

    /// Moves an alias to this version, wherever it points now. `alias::set` compares with an expected version first.
    ///
    /// # Errors
    /// Usage: an alias that is not allowed. Conflict: the version is removed meanwhile. Not found: it is removed. I/O.
    pub fn add_alias(&self, alias: &str) -> Result<()> {
        let alias = AliasName::parse(alias)?;
        alias::set(&self.store, self.artifact(), &alias, alias::Expected::Any, Some(self.number)).map(drop)
    }

    /// Removes an alias that points to this version.
    ///
    /// # Errors
    /// Usage: an alias that is not allowed. Conflict: it points to another version, or does not exist. I/O.
    pub fn remove_alias(&self, alias: &str) -> Result<()> {
        let alias = AliasName::parse(alias)?;
        let here = alias::Expected::Exactly(Some(self.number));
        alias::set(&self.store, self.artifact(), &alias, here, None).map(drop).map_err(|e| match e.kind() {
            Kind::Conflict => e.with_hint("Version::aliases has those that point to it"),
            _ => e,
        })
    }

    /// The aliases that point here, `latest` among them if it is the newest.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn aliases(&self) -> Result<Vec<String>> {
        let all = alias::all(&self.store, self.artifact())?;
        let latest = Version::newest_number(&self.store, self.artifact())?;
        Ok(aliases_of(self.number, &all, latest))
    }

    /// The number of the newest version that is not removed.
    ///
    /// # Errors
    /// I/O.
    pub fn newest_number(store: &Store, name: &ArtifactName) -> Result<Option<VersionNumber>> {
        let highest = highest(store, name)?;
        Version::newest_up_to(store, name, highest)
    }

    /// The number of the newest version that is not removed, up to `highest`. Removed ones are stepped over unread.
    ///
    /// # Errors
    /// I/O.
    pub fn newest_up_to(
        store: &Store,
        name: &ArtifactName,
        highest: Option<VersionNumber>,
    ) -> Result<Option<VersionNumber>> {
        let Some(highest) = highest else { return Ok(None) };
        if !removal::is_removed(store, name, highest)? {
            return Ok(Some(highest));
        }
        let mut removed = removal::removed(store, name)?; // one listing, however many they are
        for number in (0..highest.0).rev().map(VersionNumber) {
            while removed.pop_if(|last| *last > number).is_some() {}
            if removed.last() != Some(&number) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// The highest number of an artifact that was ever claimed, by revalidated lookups. A number that is lost and has a
/// marker in `removed/` counts: it is never given again, and numbers can come after it.
///
/// # Errors
/// I/O.
pub fn highest(store: &Store, name: &ArtifactName) -> Result<Option<VersionNumber>> {
    highest_after(store, name, numbers::highest(&store.layout().versions(name))?)
}

/// [`highest`], searched from `known` on, a number that was claimed; `None`: none is known.
///
/// # Errors
/// I/O.
pub fn highest_after(
    store: &Store,
    name: &ArtifactName,
    known: Option<VersionNumber>,
) -> Result<Option<VersionNumber>> {
    let versions = store.layout().versions(name);
    let mut highest = match known {
        Some(known) => numbers::highest_after(&versions, known)?,
        None => None,
    };
    loop {
        let next = VersionNumber::after(highest);
        if !removal::was_removed(store, name, next)? {
            return Ok(highest);
        }
        highest = numbers::highest_after(&versions, VersionNumber::after(Some(next)))?.or(Some(next));
    }
}

/// The names of a version: `latest` first, then its aliases.
pub fn aliases_of(
    number: VersionNumber,
    all: &[(AliasName, VersionNumber)],
    latest: Option<VersionNumber>,
) -> Vec<String> {
    let latest = (latest == Some(number)).then(|| "latest".to_owned());
    latest.into_iter().chain(all.iter().filter(|(_, v)| *v == number).map(|(a, _)| a.to_string())).collect()
}

/// The numbers of the versions that are not removed, ascending.
///
/// # Errors
/// I/O.
pub fn live_numbers(store: &Store, name: &ArtifactName) -> Result<Vec<VersionNumber>> {
    let numbers = numbers::versions(&store.layout().versions(name))?;
    let removed = removal::removed(store, name)?;
    Ok(numbers.into_iter().filter(|n| removed.binary_search(n).is_err()).collect())
}

/// The versions of an artifact that are not removed, ascending, each with its error if it is damaged.
///
/// # Errors
/// I/O.
pub fn each(store: &Store, name: &ArtifactName) -> Result<Vec<(VersionNumber, Result<Version>)>> {
    let mut out = Vec::new();
    for number in live_numbers(store, name)? {
        out.push((number, read_live(store, name, number)?));
    }
    Ok(out)
}

/// A version that was listed, or its error if it is damaged.
///
/// # Errors
/// I/O.
pub fn read_live(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Result<Version>> {
    match Version::read(store, name, number) {
        Ok(Some(version)) => Ok(Ok(version)),
        Ok(None) => Ok(Err(Error::damaged(format!("{name}:{number} vanished while it was read")))),
        Err(e) if e.kind() == Kind::Damaged => Ok(Err(e)),
        Err(e) => Err(e),
    }
}

/// All versions of an artifact that are not removed, ascending.
///
/// # Errors
/// Not found: the artifact. Damaged; I/O.
pub fn versions(store: &Store, name: &ArtifactName) -> Result<Vec<Version>> {
    if artifact::find(store, name)?.is_none() {
        return Err(artifact::no_artifact(store, name)?);
    }
    live_numbers(store, name)?.into_iter().filter_map(|n| Version::read(store, name, n).transpose()).collect()
}
