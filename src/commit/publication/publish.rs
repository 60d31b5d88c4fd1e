//! The one door: from an artifact in the making to a published version (FORMAT.md, "The claim").

use super::outcome::{AttemptOutcome, Published, SaveOptions};
use super::place::{Placed, place};
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::{Mode, Version, VersionRecord, artifact as catalog_artifact};
use crate::clock;
use crate::commit::artifact::Artifact;
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::manifest;
use crate::objects::ObjectWriter;
use crate::record;
use crate::store::Store;
use crate::txn::{Outcome, Txn, claim};
use crate::types::{ArtifactType, DistributedId, VersionNumber};

/// What goes into the record of a version that is being made.
pub(in crate::commit) struct VersionDraft<'a> {
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
    pub(in crate::commit) fn record(
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

/// The newest version has the content already: it is the answer.
pub(in crate::commit) fn unchanged(store: &Store, writer: ObjectWriter, newest: Version) -> Result<AttemptOutcome> {
    let sealed = writer.seal(&[], &[])?; // nothing, unless what the newest names was lost and is stored again now
    store.disk().sync_dir(&store.layout().versions(newest.artifact()))?; // its publisher may not have done so yet
    Ok(AttemptOutcome::Published(Published::new(newest, false, sealed.new_bytes)))
}

/// Step 3: the version's directory, whole, where its number will stand. Not yet durable.
pub(in crate::commit) fn write_version(
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
pub(in crate::commit) fn publish(
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
