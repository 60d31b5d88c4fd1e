//! The one door: from an artifact in the making to a published version (FORMAT.md, "The claim").

use super::artifact::Artifact;
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::{Mode, Note, RunRecord, Version, VersionRecord, alias, artifact as catalog_artifact, note, version};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::manifest;
use crate::objects::ObjectWriter;
use crate::progress::Progress;
use crate::record;
use crate::store::Store;
use crate::words::{ArtifactName, ArtifactType, Token, VersionNumber};
use crate::work::claim::{self, Claimed};
use crate::work::{self, Outcome, Work};
use std::path::Path;
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
}

/// Where a committed version came to stand.
enum Placed {
    /// At this number.
    At(VersionNumber),
    /// Nowhere: on its way up it met this version with the same content (case 12).
    SameAs(VersionNumber),
    /// Nowhere: the one number it may have is another's.
    Taken,
}

/// How one token's try ended.
pub(super) enum Ended {
    /// With a version.
    Published(Published),
    /// Fenced: somebody judged it dead. Everything again, with a new token.
    Fenced,
    /// Its exact number went to another, and its record was dropped. Again, with that one read.
    Taken,
}

/// What goes into the record of a version that is being made.
pub(super) struct Making<'a> {
    pub artifact: &'a Artifact,
    pub options: &'a SaveOptions,
    pub mode: Mode,
    pub base: Option<VersionNumber>,
    pub from: VersionNumber,
    pub exact: bool,
    /// The type where the artifact does not say it.
    pub kind: Option<ArtifactType>,
}

impl Making<'_> {
    /// The record, for an artifact that is there from now on.
    pub(super) fn record(&self, store: &Store, work: &Work, root: &manifest::Root, writer: &ObjectWriter) -> Result<VersionRecord> {
        let Making { artifact, options, .. } = self;
        let name = &artifact.name;
        let kind = match (artifact.kind.as_ref().or(self.kind.as_ref()), catalog_artifact::find(store, name)?) {
            (Some(kind), _) => kind.clone(),
            (None, Some(found)) => found.kind,
            (None, None) => ArtifactType::parse("dataset")?,
        };
        catalog_artifact::ensure(store, name, &kind)?;
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
            from: self.from,
            exact: self.exact,
            always_new: options.always_new,
        })
    }
}

/// The newest version has the content already: it is the answer.
pub(super) fn unchanged(store: &Store, writer: ObjectWriter, newest: Version) -> Result<Ended> {
    let sealed = writer.seal(&[], &[])?; // nothing, unless what the newest names was lost and is stored again now
    store.disk().sync_dir(&store.layout().versions(newest.artifact()))?; // its publisher may not have done so yet
    Ok(Ended::Published(Published { version: newest, created: false, new_bytes: sealed.new_bytes, rebased: None }))
}

/// Steps 4 to 7: the version's directory, durable with its content; commit; claim; acknowledge.
pub(super) fn publish(store: &Store, mut work: Work, writer: ObjectWriter, root: &manifest::Root, record: VersionRecord) -> Result<Ended> {
    let disk = store.disk();
    let versions = store.layout().versions(&record.artifact);
    let dir = versions.join(work.token().record_name());
    writer.close_packs()?; // gives the packs their names, which the manifest file lists
    let manifest = ManifestFile::encode(root, &writer.node_packs(), store.objects())?;
    disk.create_dir(&dir)?;
    let files = [disk.write_file(dir.join("version.json"), &record::encode(&record)?)?, disk.write_file(dir.join("manifest"), &manifest)?];
    let sealed = writer.seal(&files, &[&dir, &versions])?; // on Ordered file systems the sync after the claim serves for the entries
    work.note_record(&dir)?;
    if work.commit()? == Outcome::Fenced {
        let _ = disk.remove_tree(&dir); // else a collector does
        return Ok(Ended::Fenced);
    }
    let placed = place(store, work.token(), &record)?;
    disk.sync_dir(&versions).map_err(|e| e.while_doing("the version is published, but may not outlast a loss of power").hint("look at the disk and the kernel's log, then say it again"))?;
    if !matches!(placed, Placed::At(_)) {
        let _ = disk.remove_tree(&dir); // it can never be published: its owner drops it, or a collector
    }
    work.end();
    let (number, created) = match placed {
        Placed::At(number) => (number, true),
        Placed::SameAs(number) => (number, false),
        Placed::Taken => return Ok(Ended::Taken),
    };
    let version = Version::read(store, &record.artifact, number)?;
    let version = version.ok_or_else(|| Error::damaged(format!("{}:{number} vanished after it was published", record.artifact)))?;
    Ok(Ended::Published(Published { version, created, new_bytes: sealed.new_bytes, rebased: None }))
}

/// Step 6: walks up from the number in the record, past what it has read, and claims the first free one; an exact record has one number only
/// (L9). The rule for equal content depends on published, immutable records alone, so every helper comes to the same end.
fn place(store: &Store, token: &Token, record: &VersionRecord) -> Result<Placed> {
    let name = &record.artifact;
    let mut number = record.from;
    loop {
        match claim::claim(store, &store.layout().version(name, number), token)? {
            Claimed::Own => return Ok(Placed::At(number)),
            Claimed::Other(other) => {
                let other = version::read_record(store, name, &other)?;
                if record.exact {
                    return Ok(Placed::Taken);
                }
                if other.digest == record.digest && record.mode == Mode::Simple && !record.always_new {
                    return Ok(Placed::SameAs(number));
                }
                number.0 += 1;
            }
        }
    }
}

/// Does step 6 for every committed token of an artifact whose holder may be dead (FORMAT.md, "Helping"). Harmless beside a living one.
///
/// # Errors
/// Damaged; I/O.
pub fn help(store: &Store, name: &ArtifactName) -> Result<()> {
    for token in work::tokens(store)? {
        // What cannot be read here is not this writer's to judge: its record is not acknowledged, and a collector looks at it again.
        if !work::read_outcome(store, &token).is_ok_and(|o| o == Some(Outcome::Committed)) {
            continue;
        }
        let Ok(Some(at)) = claim::read_link_fresh(&store.layout().token_record(&token)) else { continue };
        let versions = store.layout().versions(name);
        let dir = versions.join(token.record_name());
        if store.root().join(Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(&at)))) != dir {
            continue;
        }
        // Missing or in part only: its owner drops it, at this moment or until it died.
        let record = match version::read_record(store, name, &token) {
            Err(e) if e.kind() == Kind::Damaged => continue,
            other => other?,
        };
        match place(store, &token, &record) {
            Ok(Placed::At(_)) => {
                store.disk().sync_dir(&versions)?;
                work::remove_ended(store, &token)?;
            }
            Ok(Placed::SameAs(_) | Placed::Taken) => {}
            // A version on its way is damaged: nobody gets past that (L10), and it concerns this token alone.
            Err(e) if e.kind() == Kind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What was said of a version beside its content: its aliases, and of one that stood already its tags and the rest.
pub(super) fn annotate(store: &Store, artifact: &Artifact, options: &SaveOptions, published: &Published) -> Result<()> {
    let version = &published.version;
    for name in &artifact.aliases {
        alias::set(store, version.artifact(), name, alias::Expected::Any, Some(version.number()))
            .map_err(|e| e.while_doing(format!("{version} stands, but alias {name} did not move to it")))?;
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
    note::add(version, change).map_err(|e| e.while_doing(format!("{version} has this content already, but what is said of it was not recorded")))
}
