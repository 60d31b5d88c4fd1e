//! The one door: from an artifact in the making to a published version (FORMAT.md, "The claim").

use super::artifact::Artifact;
use super::help::{Placed, help_finished, place};
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::{
    Mode, Note, Recorded, RunRecord, Version, VersionRecord, alias, artifact as catalog_artifact, note, removal,
    version,
};
use crate::clock;
use crate::disk::NewFile;
use crate::error::{Error, Kind, Result};
use crate::manifest;
use crate::objects::ObjectWriter;
use crate::progress::Progress;
use crate::record;
use crate::store::Store;
use crate::txn::{Outcome, Txn, claim};
use crate::types::{ArtifactName, ArtifactType, DistributedId, VersionNumber};
use std::sync::Arc;

/// How an artifact is saved.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// The run that makes it.
    pub run: Option<RunRecord>,
    /// Whether that run is recorded beside the producer when the content is not new: a run that somebody named.
    pub note_run: bool,
    /// Make a version although the newest has the same content.
    pub always_new: bool,
    /// Counters to move.
    pub progress: Arc<Progress>,
}

/// What came of a save.
#[derive(Debug)]
pub struct Published {
    /// The version that has the content.
    pub version: Version,
    /// Whether it was made now.
    pub created: bool,
    /// Bytes of content that were not in the store before.
    pub new_bytes: u64,
    /// For a patch whose base was no longer the newest: the version it was put on instead.
    pub rebased: Option<VersionNumber>,
    /// For a put: the newest version before it, if there was one.
    pub previous: Option<Version>,
    /// For a version that existed before: what was recorded of it now.
    pub recorded: Recorded,
}

impl Published {
    pub(super) fn new(version: Version, created: bool, new_bytes: u64) -> Published {
        Published { version, created, new_bytes, rebased: None, previous: None, recorded: Recorded::default() }
    }
}

/// How one token's try ended.
pub(super) enum AttemptOutcome {
    /// With a version.
    Published(Published),
    /// Fenced: somebody judged it dead. Everything again, with a new token.
    Fenced,
    /// Its exact number went to another, and its record was dropped. Again, with that one read.
    Taken,
}

/// What goes into the record of a version that is being made.
pub(super) struct VersionDraft<'a> {
    pub artifact: &'a Artifact,
    pub options: &'a SaveOptions,
    pub mode: Mode,
    pub base: Option<VersionNumber>,
    pub from: VersionNumber,
    pub exact: bool,
    /// The type where the artifact does not say it.
    pub kind: Option<ArtifactType>,
    /// The draft that it is the end of.
    pub distributed_id: Option<&'a DistributedId>,
    /// A version of the artifact, if one was known_version: then the artifact is there, durably, and has that version's type
    /// (F9).
    pub known_version: Option<&'a Version>,
}

impl VersionDraft<'_> {
    /// The record, for an artifact that is there from now on.
    pub(super) fn record(
        &self,
        store: &Store,
        work: &Txn,
        root: &manifest::Root,
        writer: &ObjectWriter,
    ) -> Result<VersionRecord> {
        let VersionDraft { artifact, options, .. } = self;
        let name = &artifact.name;
        let kind = match self.known_version.map(|v| &v.record().kind) {
            Some(kind) if artifact.kind.as_ref().is_none_or(|k| k == kind) => kind.clone(),
            _ => catalog_artifact::ensure(store, name, artifact.kind.as_ref().or(self.kind.as_ref()))?,
        };
        Ok(VersionRecord {
            token: work.token().to_string(),
            artifact: name.clone(),
            kind,
            digest: root.digest(),
            entries: root.totals().entries,
            files: root.totals().files,
            bytes: root.totals().bytes,
            new_bytes: writer.new_bytes(),
            created_at: clock::now(),
            mode: self.mode,
            run: options.run.clone(),
            description: artifact.description.clone(),
            metadata: artifact.metadata.clone().unwrap_or_default(),
            tags: artifact.tags.clone(),
            base: self.base,
            distributed_id: self.distributed_id.cloned(),
            from: self.from,
            exact: self.exact,
            always_new: options.always_new,
        })
    }
}

/// The newest version, as far as it can be read: one that is damaged is written past.
pub(super) type Newest = Option<Result<Version>>;

/// The highest number and the newest version, which the token relies on from now on; `known` is relied on already.
/// Removed ones are stepped over.
pub(super) fn newest(
    store: &Store,
    name: &ArtifactName,
    known: Option<&Version>,
    work: &Txn,
) -> Result<(Option<VersionNumber>, Newest)> {
    loop {
        let highest = highest(store, name, known)?;
        let Some(number) = Version::newest_up_to(store, name, highest)? else { return Ok((highest, None)) };
        if let Some(known) = known.filter(|k| k.number() == number) {
            return Ok((highest, Some(Ok(known.clone()))));
        }
        work.pin_base(name, number)?;
        if !removal::is_removed(store, name, number)? {
            return Ok((highest, as_far_as_readable(store, name, number)?));
        }
    }
}

/// [`newest`] for those who rely on nothing of it.
pub(super) fn newest_unrelied(store: &Store, name: &ArtifactName) -> Result<(Option<VersionNumber>, Newest)> {
    let highest = highest(store, name, None)?;
    let number = Version::newest_up_to(store, name, highest)?;
    Ok((highest, number.map(|n| as_far_as_readable(store, name, n)).transpose()?.flatten()))
}

/// The highest number that was given, looked for from the `known` version on; that of a finished draft's version
/// included.
fn highest(store: &Store, name: &ArtifactName, known: Option<&Version>) -> Result<Option<VersionNumber>> {
    let look = || {
        let highest = known.map(|k| version::highest_after(store, name, Some(k.number()))).transpose()?.flatten();
        if highest.is_some() { Ok(highest) } else { version::highest(store, name) }
    };
    let highest = look()?;
    if help_finished(store, name, highest)? { look() } else { Ok(highest) }
}

fn as_far_as_readable(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<Newest> {
    match Version::read(store, name, number) {
        Err(e) if e.kind() != Kind::Damaged => Err(e),
        read => Ok(read.transpose()),
    }
}

/// The newest version has the content already: it is the answer.
pub(super) fn unchanged(store: &Store, writer: ObjectWriter, newest: Version) -> Result<AttemptOutcome> {
    let sealed = writer.seal(&[], &[])?; // nothing, unless what the newest names was lost and is stored again now
    store.disk().sync_dir(&store.layout().versions(newest.artifact()))?; // its publisher may not have done so yet
    Ok(AttemptOutcome::Published(Published::new(newest, false, sealed.new_bytes)))
}

/// Step 3: the version's directory, whole, where its number will stand. Not yet durable.
pub(super) fn write_version(
    store: &Store,
    work: &Txn,
    writer: &ObjectWriter,
    root: &manifest::Root,
    record: &VersionRecord,
) -> Result<[NewFile; 2]> {
    let disk = store.disk();
    let dir = store.layout().versions(&record.artifact).join(work.token().record_name());
    writer.close_packs()?; // gives the packs their names, which the manifest file lists
    let manifest = ManifestFile::encode(root, &writer.node_packs(), store.objects())?;
    disk.create_dir(&dir)?;
    Ok([
        disk.write_file(dir.join("version.json"), &record::encode(record)?)?,
        disk.write_file(dir.join("manifest"), &manifest)?,
    ])
}

/// Steps 4 to 7: the version's directory, durable with its content; commit; claim; acknowledge.
pub(super) fn publish(
    store: &Store,
    mut work: Txn,
    writer: ObjectWriter,
    root: &manifest::Root,
    record: VersionRecord,
) -> Result<AttemptOutcome> {
    let disk = store.disk();
    let versions = store.layout().versions(&record.artifact);
    let dir = versions.join(work.token().record_name());
    let files = write_version(store, &work, &writer, root, &record)?;
    let sealed = writer.seal(&files, &[&dir, &versions])?; // on Ordered file systems the sync after the claim serves for the entries
    let token = work.token().clone();
    let numbers = (record.from.0..).map(|n| store.layout().version(&record.artifact, VersionNumber(n)));
    match work.commit(|| claim::is_claimed(&token, numbers))? {
        Outcome::Committed => {}
        Outcome::Fenced => {
            let _ = disk.remove_tree(&dir); // else a collector does
            return Ok(AttemptOutcome::Fenced);
        }
        Outcome::Revoked => return Ok(AttemptOutcome::Fenced),
    }
    let placed = place(store, &token, &record)?;
    disk.sync_dir(&versions).map_err(|e| {
        e.context("the version is published, but may not outlast a loss of power")
            .with_hint("look at the disk and the kernel's log, then say it again")
    })?;
    if !matches!(placed, Placed::At(_)) {
        let _ = disk.remove_tree(&dir); // it can never be published: its owner drops it, or a collector
    }
    work.end();
    let (version, created) = match placed {
        Placed::At(number) => (Version::claimed(store, number, token, record), true),
        Placed::SameAs(number) => {
            let version = Version::read(store, &record.artifact, number)?;
            (
                version.ok_or_else(|| {
                    Error::damaged(format!("{}:{number} vanished after it was read", record.artifact))
                })?,
                false,
            )
        }
        Placed::Taken => return Ok(AttemptOutcome::Taken),
    };
    Ok(AttemptOutcome::Published(Published::new(version, created, sealed.new_bytes)))
}

/// Records the annotations of a version: its aliases and, if the version existed before, its tags, description,
/// metadata and run.
pub(super) fn annotate(
    store: &Store,
    artifact: &Artifact,
    options: &SaveOptions,
    published: &mut Published,
) -> Result<()> {
    let version = &published.version;
    let mut moved = Vec::new();
    for name in &artifact.aliases {
        if !published.created && alias::get(store, version.artifact(), name)? != Some(version.number()) {
            moved.push(name.clone());
        }
        alias::set(store, version.artifact(), name, alias::Expected::Any, Some(version.number()))
            .map_err(|e| e.context(format!("{version} stands, but alias {name} did not move to it")))?;
    }
    if published.created {
        return Ok(());
    }
    let change = Note {
        description: artifact.description.clone(),
        metadata: artifact.metadata.clone(),
        add_tags: artifact.tags.clone(),
        produced_by: options.run.clone().filter(|_| options.note_run),
        ..Note::default()
    };
    let recorded = note::add(version, change);
    let recorded = recorded
        .map_err(|e| e.context(format!("{version} has this content already, but its annotations were not recorded")))?;
    published.recorded = Recorded { aliases: moved, ..recorded };
    Ok(())
}
