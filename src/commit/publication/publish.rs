//! From an artifact to a published version.

use super::outcome::{Published, SaveOptions};
use super::version_numbers::{VersionNumbers, VersionRefusal};
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::origin::Origin;
use crate::catalog::{Mode, SourceRecord, Version, VersionRecord, artifact as catalog_artifact};
use crate::clock;
use crate::commit::artifact::Artifact;
use crate::disk::NewFile;
use crate::error::{Error, Result};
use crate::manifest;
use crate::objects::ObjectWriter;
use crate::record;
use crate::store::Store;
use crate::txn::{AttemptOutcome, Commit, Place, Prepared, Txn};
use crate::types::{ArtifactType, DistributedId, VersionNumber};

/// What goes into the record of a version that is being made.
pub(in crate::commit) struct VersionDraft<'a> {
    pub artifact: &'a Artifact,
    pub options: &'a SaveOptions,
    pub mode: Mode,
    pub base: Option<VersionNumber>,
    pub from: VersionNumber,
    pub exact: bool,
    /// The type if the artifact has none.
    pub kind: Option<ArtifactType>,
    /// The draft that it finishes.
    pub distributed_id: Option<&'a DistributedId>,
    /// What it is a copy of.
    pub source: Option<SourceRecord>,
    /// A version of the artifact, if one is known. Then the artifact exists durably and has that version's type (F9).
    pub known_version: Option<&'a Version>,
}

impl<'a> VersionDraft<'a> {
    /// A version that is based on no other one and finishes no draft.
    pub(in crate::commit) fn new(
        artifact: &'a Artifact,
        options: &'a SaveOptions,
        mode: Mode,
        from: VersionNumber,
    ) -> VersionDraft<'a> {
        VersionDraft {
            artifact,
            options,
            mode,
            base: None,
            from,
            exact: false,
            kind: None,
            distributed_id: None,
            source: None,
            known_version: None,
        }
    }

    /// The record. Makes the artifact if it is new.
    pub(in crate::commit) fn record(
        &self,
        store: &Store,
        work: &Txn,
        root: &manifest::RootNode,
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
            origin: Origin::here(),
            description: artifact.description.clone(),
            metadata: artifact.metadata.clone().unwrap_or_default(),
            tags: artifact.tags.clone(),
            base: self.base,
            distributed_id: self.distributed_id.cloned(),
            source: self.source.clone(),
            shared: artifact.shared(store),
            from: self.from,
            exact: self.exact,
            always_new: options.always_new,
        })
    }
}

/// The newest version has the content already: it is the answer.
pub(in crate::commit) fn unchanged(
    store: &Store,
    writer: ObjectWriter,
    newest: Version,
) -> Result<AttemptOutcome<Published>> {
    // This writes only content that the newest version had lost and that this put stored again.
    let sealed = writer.seal(&[], &[])?;
    store.disk().sync_dir(&store.layout().versions(newest.artifact()))?; // its publisher may not have done so yet
    Ok(AttemptOutcome::Done(Published::new(newest, false, sealed.new_bytes)))
}

/// Writes a version's directory, whole, where its number will be. Not yet durable.
pub(in crate::commit) fn write_version(
    store: &Store,
    txn: &Txn,
    writer: &ObjectWriter,
    root: &manifest::RootNode,
    record: &VersionRecord,
) -> Result<[NewFile; 2]> {
    let disk = store.disk();
    let dir = store.layout().versions(&record.artifact).join(txn.token().record_name());
    writer.close_packs()?; // gives the packs their names, which the manifest file lists
    let manifest = ManifestFile::encode(root, &writer.node_packs(), store.objects())?;
    disk.create_dir(&dir)?;
    Ok([
        disk.write_file(dir.join("version.json"), &record::encode(record)?)?,
        disk.write_file(dir.join("manifest"), &manifest)?,
    ])
}

/// Publishes a version whose content was stored through `writer`.
pub(in crate::commit) fn publish(
    store: &Store,
    txn: Txn,
    writer: ObjectWriter,
    root: &manifest::RootNode,
    record: VersionRecord,
) -> Result<AttemptOutcome<Published>> {
    let token = txn.token().clone();
    let versions = store.layout().versions(&record.artifact);
    let dir = versions.join(token.record_name());
    let files = write_version(store, &txn, &writer, root, &record)?;
    let numbers = VersionNumbers { store, record: &record };
    let prepared = Prepared::new(store, txn, numbers, files.into(), vec![dir.clone()]);
    let (durable, new_bytes) = prepared.durable_with(writer, &[&dir, &versions])?;
    let Commit::Committed(committed) = durable.commit()? else { return Ok(AttemptOutcome::Again) };
    let (version, created) = match committed.place()?.end() {
        Place::At(number) => (Version::claimed(store, VersionNumber(number), token, record), true),
        Place::Refused(VersionRefusal::SameAs(number)) => {
            let version = Version::read(store, &record.artifact, number)?;
            let vanished = || Error::damaged(format!("{}:{number} vanished after it was read", record.artifact));
            (version.ok_or_else(vanished)?, false)
        }
        Place::Refused(VersionRefusal::Taken) => return Ok(AttemptOutcome::Again),
    };
    Ok(AttemptOutcome::Done(Published::new(version, created, new_bytes)))
}
