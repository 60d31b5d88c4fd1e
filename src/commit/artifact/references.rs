//! Adding what stays elsewhere: references, and content of other versions of the store.

use super::builder::{Add, AddedEntry, Artifact};
use crate::catalog::{self, SharedRecord, Version, VersionSpec, shared};
use crate::error::{Error, Result};
use crate::ingest::Body;
use crate::manifest::{Entry, Reference, Tree};
use crate::progress::Progress;
use crate::remote::{self, FindOptions, Location, Named, Uri};
use crate::setters::setters;
use crate::store::Store;
use crate::types::RelPath;
use std::sync::Arc;

/// The most objects of a directory or prefix, unless another number is given.
pub const MAX_OBJECTS: u64 = 1_000_000;

/// How a reference is added.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReferenceOptions {
    /// Ask the source what identifies its bytes (size; ETag or SHA-256) and record that: then a change there makes a
    /// new version, and is noticed when the reference is read. Without it only the URI counts.
    pub checksum: bool,
    /// If a directory or a prefix has more objects than this, it is an error and nothing is added.
    pub max_objects: u64,
    /// The store that `cairn://` URIs are in.
    pub store: Option<Store>,
    /// All goes below this path; without it, to the root of the version.
    pub below: Option<RelPath>,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

impl Default for ReferenceOptions {
    fn default() -> Self {
        let progress = Arc::default();
        ReferenceOptions { checksum: true, max_objects: MAX_OBJECTS, store: None, below: None, progress }
    }
}

setters! {
    ReferenceOptions {
        checksum: bool,
        max_objects: u64,
        store: Store => Some(store),
        below: RelPath => Some(below),
        progress: Arc<Progress>,
    }
}

impl Artifact {
    /// Adds what a URI names without its content. One object is added under `name`, by default the last part of the
    /// URI; a directory or a prefix becomes one entry for each object, below `name`, by default the root.
    ///
    /// `file://` directories are walked, `s3://`, `gs://` and `az://` prefixes are listed, and of each object is
    /// recorded what identifies its bytes there (see [`ReferenceOptions::checksum`]). `cairn://NAME:V/PATH` names a
    /// file or a directory of another version of the same store: its content is shared, not referred to. Any other URI
    /// is recorded as it is.
    ///
    /// # Errors
    /// Usage: a URI without a scheme or with a password in it, a path that is not allowed, more objects than
    /// `max_objects`. Not found; I/O. Nothing is added then.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// # std::fs::write(dir.path().join("big.bin"), "many bytes").unwrap();
    /// # let uri = format!("file://{}", dir.path().join("big.bin").display());
    /// use cairn::ReferenceOptions;
    /// let mut artifact = cairn::Artifact::new("corpus", None)?;
    /// artifact.add_reference(&uri, None, &ReferenceOptions::default())?;
    /// let version = artifact.save(&store)?.version;
    /// let mut bytes = [0; 4];
    /// version.open("big.bin")?.read_at(&mut bytes, 5).unwrap();
    /// assert_eq!(&bytes, b"byte");
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn add_reference<'a>(
        &mut self,
        uri: &str,
        name: impl Into<Option<&'a [u8]>>,
        options: &ReferenceOptions,
    ) -> Result<&mut Self> {
        let uri = Uri::parse(uri)?;
        let below = options.below.clone().unwrap_or_else(RelPath::root);
        let name = name.into().map(RelPath::parse_or_root).transpose()?;
        if let Location::Version { spec, path } = &uri.at {
            let store = options.store.as_ref().ok_or_else(|| {
                Error::usage(format!("{} needs the store that it is in", uri.text))
                    .with_hint("ReferenceOptions::store gives it; add_entry_of takes a version")
            })?;
            let version = catalog::resolve(store, &VersionSpec::parse(spec)?)?;
            return self.add_named_entry(&version, &RelPath::parse_or_root(path.as_bytes())?, name, &below);
        }
        let found =
            FindOptions { checksum: options.checksum, max_objects: options.max_objects, progress: &options.progress };
        match remote::find(&uri, &found)? {
            Named::One(reference) => {
                let at = name.filter(|name| !name.is_root()).map_or_else(|| last_part(&uri.text), Ok)?;
                self.add_found(at.below(&below)?, reference);
            }
            Named::Many(all) => {
                let below = name.unwrap_or_else(RelPath::root).below(&below)?;
                let placed = all.into_iter().map(|(path, reference)| Ok((path.below(&below)?, reference)));
                for (at, reference) in placed.collect::<Result<Vec<_>>>()? {
                    self.add_found(at, reference);
                }
            }
        }
        Ok(self)
    }

    /// Adds the entry at `path` of a version of the store that this artifact is saved in, as `name`: a file or symbolic
    /// link under its base name by default, a directory's entries at the root by default. Content is shared, not
    /// copied, and stays in the store as long as one of the versions does.
    ///
    /// # Errors
    /// Not found; usage: a path that is not allowed. Damaged; I/O.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut images = cairn::Artifact::new("images", None)?;
    /// images.add_bytes("train/1.png", "…")?;
    /// let v0 = images.save(&store)?.version;
    /// let mut mixed = cairn::Artifact::new("mixed", None)?;
    /// mixed.add_entry_of(&v0, "train", b"images".as_slice())?;
    /// assert!(mixed.save(&store)?.version.open("images/1.png").is_ok());
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn add_entry_of<'a>(
        &mut self,
        version: &Version,
        path: impl AsRef<[u8]>,
        name: impl Into<Option<&'a [u8]>>,
    ) -> Result<&mut Self> {
        let name = name.into().map(RelPath::parse_or_root).transpose()?;
        self.add_named_entry(version, &RelPath::parse_or_root(path.as_ref())?, name, &RelPath::root())
    }

    fn add_named_entry(
        &mut self,
        version: &Version,
        path: &RelPath,
        name: Option<RelPath>,
        below: &RelPath,
    ) -> Result<&mut Self> {
        let entry = match version.tree()?.lookup(path)? {
            Some(found) => Some(found.entry),
            None if path.is_root() => None,
            None => return Err(no_entry(version, path)),
        };
        let is_directory = entry.as_ref().is_none_or(Entry::is_directory);
        let at = match name {
            Some(name) if is_directory || !name.is_root() => name,
            _ if is_directory => RelPath::root(),
            _ => RelPath::parse(path.name())?,
        };
        let content = match entry {
            Some(Entry::File { digest, .. }) => Some(digest),
            _ => None,
        };
        let (at, version, path) = (at.below(below)?, version.clone(), path.clone());
        self.adds.push(Add::Version(AddedEntry { at, version, path, content, is_recorded: true }));
        Ok(self)
    }

    /// Adds a file of a version that an object needs, at the same path. The object is recorded, its files are not.
    pub(crate) fn add_needed(&mut self, tree: &Tree, version: &Version, path: &str) -> Result<()> {
        let path = RelPath::parse(path.as_bytes())?;
        if tree.lookup(&path)?.is_none() {
            return Err(no_entry(version, &path));
        }
        let (at, version) = (path.clone(), version.clone());
        self.adds.push(Add::Version(AddedEntry { at, version, path, content: None, is_recorded: false }));
        Ok(())
    }

    /// What was added from other versions, for a record of `store`.
    pub(in crate::commit) fn shared(&self, store: &Store) -> Vec<SharedRecord> {
        let mut all = self.contributed.clone();
        let adds = self.adds.iter().filter_map(|add| match add {
            Add::Version(added) if added.is_recorded => Some(added),
            _ => None,
        });
        shared::unite(&mut all, adds.map(|added| added.record(store)));
        all
    }

    fn add_found(&mut self, at: RelPath, reference: Reference) {
        self.adds.push(Add::Entry { at, body: Body::Reference(Box::new(reference)), spool: None });
    }
}

impl AddedEntry {
    fn record(&self, store: &Store) -> SharedRecord {
        let AddedEntry { at, version, path, content, .. } = self;
        SharedRecord {
            source: version.as_source_in(store),
            path: Some(path.clone()),
            at: Some(at.clone()),
            content: *content,
        }
    }
}

fn no_entry(version: &Version, path: &RelPath) -> Error {
    Error::not_found(format!("there is no {path} in {version}")).with_hint(format!("`cairn ls {version}` lists it"))
}

/// What a URI is called in a version: its last part.
fn last_part(uri: &str) -> Result<RelPath> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let name = match remote::local_path(uri) {
        Some(path) => path.rsplit(|b| *b == b'/').find(|part| !part.is_empty()).unwrap_or_default().to_vec(),
        None => {
            let path = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
            path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec()
        }
    };
    if name.is_empty() {
        return Err(Error::usage(format!("{} names nothing", remote::shown_uri(uri)))
            .with_hint("SCHEME://HOST/PATH or file:///PATH"));
    }
    RelPath::parse(&name)
}
