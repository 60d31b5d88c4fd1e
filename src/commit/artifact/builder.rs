//! An artifact: what will become a version when it is saved.

use super::basis::{BaseOp, Basis};
use super::change_runs::Changes;
use super::spool::Spool;
use crate::catalog::{Metadata, SharedRecord, Version, note};
use crate::error::{Error, Result, show_path};
use crate::ingest::{Body, FileBody, Overwrite, ScanOptions, SourceStat, lstat_source};
use crate::types::{AliasName, ArtifactName, ArtifactType, Digest, RelPath, Tag};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files, directories, bytes and references that become one version when it is saved.
///
/// Every method that adds at a path takes the path in the version first, then what comes there: `add_file_at(at,
/// source)`, `add_bytes(at, bytes)`. Sources are of type `Path`, which a path in a version is not: a swap compiles only
/// with two texts, and then the source is not found at once. What stays elsewhere comes first, since it has a name:
/// `add_reference(uri, name)`.
///
/// Contents are read when it is saved. A file or directory entry added by [`Artifact::add_file`] that changed in
/// between is refused then: a version holds the bytes at the time of adding, or nothing.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
/// let mut artifact = cairn::Artifact::new("greetings", "dataset")?;
/// artifact.add_bytes("en/hello.txt", "hello")?;
/// artifact.add_bytes("de/hallo.txt", "hallo")?;
/// let published = artifact.save(&store)?;
/// assert_eq!(published.version.to_string(), "greetings:v0");
/// # Ok::<(), cairn::Error>(())
/// ```
#[derive(Debug)]
pub struct Artifact {
    pub(in crate::commit) name: ArtifactName,
    pub(in crate::commit) kind: Option<ArtifactType>,
    /// For a patch: its base and changes.
    pub(in crate::commit) basis: Option<Basis>,
    pub(in crate::commit) adds: Vec<Add>,
    pub(in crate::commit) overwrite: Overwrite,
    pub(in crate::commit) description: Option<String>,
    pub(in crate::commit) metadata: Option<Metadata>,
    pub(in crate::commit) tags: Vec<Tag>,
    pub(in crate::commit) aliases: Vec<AliasName>,
    /// What contributions to a draft added from other versions.
    pub(in crate::commit) contributed: Vec<SharedRecord>,
}

/// One addition, in the order they were made.
#[derive(Debug)]
pub(in crate::commit) enum Add {
    Entry { at: RelPath, body: Body, spool: Option<Spool> },
    Directory { at: RelPath, source: PathBuf, options: ScanOptions },
    Version(AddedEntry),
    Remove { at: RelPath },
}

/// An entry of another version that is added.
#[derive(Debug)]
pub(in crate::commit) struct AddedEntry {
    pub at: RelPath,
    pub version: Version,
    pub path: RelPath,
    /// Of a file: the digest of its content.
    pub content: Option<Digest>,
    /// Whether the version's record is to say where it came from. Not of the files that an object needs.
    pub is_recorded: bool,
}

impl Artifact {
    /// An empty artifact. Without a type it gets the type of its name, or `dataset` for a new name.
    ///
    /// # Errors
    /// Usage: a name or type that is not allowed.
    pub fn new<'a>(name: &str, kind: impl Into<Option<&'a str>>) -> Result<Artifact> {
        let kind = kind.into().map(ArtifactType::parse).transpose()?;
        Ok(Artifact::without_changes(ArtifactName::parse(name)?, kind, None))
    }

    fn without_changes(name: ArtifactName, kind: Option<ArtifactType>, basis: Option<Basis>) -> Artifact {
        Artifact {
            name,
            kind,
            basis,
            adds: Vec::new(),
            overwrite: Overwrite::Refuse,
            description: None,
            metadata: None,
            tags: Vec::new(),
            aliases: Vec::new(),
            contributed: Vec::new(),
        }
    }

    /// A patch of an empty version: it makes the first version of a name or, if another process publishes one
    /// meanwhile, adds to that.
    ///
    /// # Errors
    /// As [`Artifact::new`].
    pub fn patch_from_empty<'a>(name: &str, kind: impl Into<Option<&'a str>>) -> Result<Artifact> {
        Ok(Artifact { basis: Some(Basis::on(None)), ..Artifact::new(name, kind)? })
    }

    /// The name.
    pub fn name(&self) -> &ArtifactName {
        &self.name
    }

    /// Adds one file under its base name, with its exec bit. A symlink is followed.
    ///
    /// # Errors
    /// Not found; usage: not a regular file, a name that is not allowed.
    pub fn add_file(&mut self, source: impl AsRef<Path>) -> Result<&mut Self> {
        let source = source.as_ref();
        // A path without a base name is that of a directory, which `add_file_at` refuses.
        let name = source.file_name().unwrap_or(source.as_os_str());
        self.add_file_at(name.as_bytes(), source)
    }

    /// Adds one file at `at`, with its exec bit. A symlink is followed.
    ///
    /// # Errors
    /// Not found; usage: not a regular file, a path that is not allowed.
    pub fn add_file_at(&mut self, at: impl AsRef<[u8]>, source: impl AsRef<Path>) -> Result<&mut Self> {
        let source = source.as_ref();
        lstat_source(source)?;
        let meta = std::fs::metadata(source).map_err(|e| Error::io("look at", source, e))?;
        if !meta.is_file() {
            return Err(Error::usage(format!("{} is not a regular file", show_path(source)))
                .with_hint("a directory is added by add_dir"));
        }
        let source = std::path::absolute(source).map_err(|e| Error::io("find", source, e))?;
        let body = FileBody::Disk(Arc::new(source), SourceStat::of(&meta));
        self.entry(at.as_ref(), Body::File { exec: meta.mode() & 0o111 != 0, body }, None)
    }

    /// Adds all of a directory at the root of the version. Symlinks, empty directories and exec bits are kept. All of
    /// it is added, or the save fails.
    ///
    /// # Errors
    /// Not found; usage: not a directory.
    pub fn add_dir(&mut self, source: impl AsRef<Path>) -> Result<&mut Self> {
        self.add_dir_at("", source, &ScanOptions::default())
    }

    /// [`Artifact::add_dir`] below `at` (`""` is the root of the version), with options.
    ///
    /// # Errors
    /// Not found; usage: not a directory, a path that is not allowed.
    pub fn add_dir_at(
        &mut self,
        at: impl AsRef<[u8]>,
        source: impl AsRef<Path>,
        options: &ScanOptions,
    ) -> Result<&mut Self> {
        let source = source.as_ref();
        lstat_source(source)?;
        if !std::fs::metadata(source).map_err(|e| Error::io("look at", source, e))?.is_dir() {
            return Err(Error::usage(format!("{} is not a directory", show_path(source)))
                .with_hint("a file is added by add_file"));
        }
        let source = std::path::absolute(source).map_err(|e| Error::io("find", source, e))?;
        self.adds.push(Add::Directory { at: RelPath::parse_or_root(at.as_ref())?, source, options: options.clone() });
        Ok(self)
    }

    /// Adds a file with these bytes at `at`.
    ///
    /// # Errors
    /// Usage: a path that is not allowed.
    pub fn add_bytes(&mut self, at: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Result<&mut Self> {
        let body = Body::File { exec: false, body: FileBody::Bytes(bytes.as_ref().into()) };
        self.entry(at.as_ref(), body, None)
    }

    /// Removes what was added before at `at`, a directory with all that is in it; for a patch, also what its base has
    /// there. If there is nothing, the save fails.
    ///
    /// # Errors
    /// Usage: a path that is not allowed.
    pub fn remove(&mut self, at: impl AsRef<[u8]>) -> Result<&mut Self> {
        let at = RelPath::parse(at.as_ref())?;
        if let Some(basis) = &mut self.basis {
            basis.ops.push(BaseOp::Remove(at.clone()));
        }
        self.adds.push(Add::Remove { at });
        Ok(self)
    }

    /// Renames what a patch's base has at `old`; `new` must not exist. Removals and renames are done in the order of
    /// the calls, before anything is added. A rename reads and stores no content. If it is not possible, the save
    /// fails.
    ///
    /// # Errors
    /// Usage: this is not a patch, or a path is not allowed.
    pub fn rename(&mut self, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Result<&mut Self> {
        let op = BaseOp::Rename(RelPath::parse(old.as_ref())?, RelPath::parse(new.as_ref())?);
        self.basis()?.ops.push(op);
        Ok(self)
    }

    /// Adds a difference that was made elsewhere (see [`parse_changes`](super::parse_changes)) to a patch. It is
    /// applied before anything is added by path. Each path must be as the difference says it was, and the contents it
    /// names must be in the store, else the save fails.
    ///
    /// # Errors
    /// Usage: this is not a patch.
    pub fn apply_changes(&mut self, changes: Changes) -> Result<&mut Self> {
        self.basis()?.changes.push(changes);
        Ok(self)
    }

    /// Makes the patch's changes on `version`, even if newer versions exist: the next version is that one with these
    /// changes, without those of the newer ones.
    ///
    /// # Errors
    /// Usage: this is not a patch.
    pub fn onto(&mut self, version: &Version) -> Result<&mut Self> {
        self.basis()?.onto = Some(version.clone());
        Ok(self)
    }

    fn basis(&mut self) -> Result<&mut Basis> {
        let name = &self.name;
        self.basis.as_mut().ok_or_else(|| {
            Error::usage(format!("{name} is not a patch: it has no base version"))
                .with_hint("begin with Version::new_draft")
        })
    }

    /// Allows a path to be added again with other content; the later one counts. Without this it is an error.
    pub fn overwrite(&mut self) -> &mut Self {
        self.overwrite = Overwrite::Allow;
        self
    }

    /// Sets a text for people.
    pub fn set_description(&mut self, text: impl Into<String>) -> &mut Self {
        self.description = Some(text.into());
        self
    }

    /// Sets the user's metadata, a JSON object.
    ///
    /// # Errors
    /// Usage: more than 100 top-level keys or 64 KiB.
    pub fn set_metadata(&mut self, metadata: Metadata) -> Result<&mut Self> {
        note::check_metadata(&metadata)?;
        self.metadata = Some(metadata);
        Ok(self)
    }

    /// Whether it has a type or annotations.
    pub fn has_annotations(&self) -> bool {
        self.kind.is_some()
            || self.description.is_some()
            || self.metadata.is_some()
            || !self.tags.is_empty()
            || !self.aliases.is_empty()
    }

    /// Takes the type and annotations of `other`.
    pub(crate) fn copy_annotations(&mut self, other: &Artifact) {
        self.kind = other.kind.clone().or(self.kind.take());
        self.description.clone_from(&other.description);
        self.metadata.clone_from(&other.metadata);
        self.tags.clone_from(&other.tags);
        self.aliases.clone_from(&other.aliases);
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// Usage: a tag that is not allowed.
    pub fn add_tag(&mut self, tag: &str) -> Result<&mut Self> {
        let tag = Tag::parse(tag)?;
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        Ok(self)
    }

    /// Adds an alias that moves to the version when it is published. `latest` is ignored: it moves by itself.
    ///
    /// # Errors
    /// Usage: an alias that is not allowed.
    pub fn add_alias(&mut self, alias: &str) -> Result<&mut Self> {
        if alias != "latest" {
            self.aliases.push(AliasName::parse(alias)?);
        }
        Ok(self)
    }

    /// Refuses a patch where whole content is needed: in drafts.
    pub(in crate::commit) fn refuse_patch(&self, done: &str) -> Result<()> {
        match self.basis {
            None => Ok(()),
            Some(_) => Err(Error::usage(format!("{} is a patch: it cannot be {done}", self.name))
                .with_hint("begin with Artifact::new")),
        }
    }

    pub(super) fn entry(&mut self, at: &[u8], body: Body, spool: Option<Spool>) -> Result<&mut Self> {
        self.adds.push(Add::Entry { at: RelPath::parse(at)?, body, spool });
        Ok(self)
    }
}

impl Version {
    /// A patch of this version: when it is saved, its changes become the next version, at the cost of the changes. If a
    /// newer version was published meanwhile, the changes are made on that one; if both changed the same path in
    /// different ways, the save fails with a conflict.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let store = cairn::Store::init(&dir.path().join("s"), &Default::default())?;
    /// let mut first = cairn::Artifact::new("log", None)?;
    /// first.add_bytes("2026-11-24.csv", "1,2")?.add_bytes("README", "a file a day")?;
    /// let v0 = first.save(&store)?.version;
    /// let mut today = v0.new_draft();
    /// today.add_bytes("2026-11-25.csv", "3,4")?.remove("README")?;
    /// let v1 = today.save(&store)?.version;
    /// assert_eq!((v1.to_string().as_str(), v1.record().files), ("log:v1", 2));
    /// # Ok::<(), cairn::Error>(())
    /// ```
    pub fn new_draft(&self) -> Artifact {
        Artifact::without_changes(self.artifact().clone(), None, Some(Basis::on(Some(self.clone()))))
    }
}
