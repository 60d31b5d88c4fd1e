//! The one door: from an artifact in the making to a published version (FORMAT.md, "The claim").

use super::artifact::{Add, Artifact};
use crate::catalog::manifest_file::ManifestFile;
use crate::catalog::{Mode, Note, RunRecord, Version, VersionRecord, alias, artifact as catalog_artifact, note, numbers, version};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::ingest::{self, ScanOptions, Sink, StatCache, Tree};
use crate::lock::Purpose;
use crate::manifest::{self, MemoryNodes};
use crate::objects::ObjectWriter;
use crate::progress::Progress;
use crate::record;
use crate::store::Store;
use crate::threads;
use crate::words::{ArtifactName, ArtifactType, RelPath, Token, VersionNumber};
use crate::work::claim::{self, Claimed};
use crate::work::{self, Outcome, Work};
use std::os::unix::fs::MetadataExt;
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
}

/// Where a committed version came to stand.
enum Placed {
    /// At this number.
    At(VersionNumber),
    /// Nowhere: on its way up it met this version with the same content (case 12).
    SameAs(VersionNumber),
}

/// Simple mode.
pub(super) fn simple(store: &Store, artifact: &Artifact, options: &SaveOptions) -> Result<Published> {
    store.check_writable()?;
    catalog_artifact::check_type(store, &artifact.name, artifact.kind.as_ref())?;
    loop {
        help(store, &artifact.name)?;
        // A fence means that somebody may have freed what was looked at: everything again, with a new token.
        if let Some(published) = attempt(store, artifact, options)? {
            annotate(store, artifact, options, &published)?;
            return Ok(published);
        }
    }
}

/// One token's try; `None` when it was fenced.
fn attempt(store: &Store, artifact: &Artifact, options: &SaveOptions) -> Result<Option<Published>> {
    let name = &artifact.name;
    let purpose = Purpose { purpose: "put", artifact: Some(name.as_str()), run: options.run.as_ref().map(|r| r.id.as_str()), ..Purpose::default() };
    let work = Work::begin(store, &purpose)?;
    let writer = store.objects().writer(&work.dir())?;
    let root = {
        let tree = match collect(store, artifact, &Sink::Store(&writer), &options.progress) {
            Err(e) if options.progress.is_stopped() => {
                writer.seal(&[], &[])?; // what is whole is kept for the next time
                return Err(e);
            }
            collected => collected?,
        };
        build_nodes(&tree, &writer)?
    };
    // The number first, then the newest: whoever publishes in between is met on the walk, and compared with there.
    let from = numbers::highest(&store.layout().versions(name))?.map_or(VersionNumber(0), |n| VersionNumber(n.0 + 1));
    let newest = Version::newest(store, name)?;
    if let Some(newest) = newest.filter(|n| n.digest() == root.digest() && !options.always_new) {
        let sealed = writer.seal(&[], &[])?; // nothing, unless what the newest names was lost and is stored again now
        store.disk().sync_dir(&store.layout().versions(name))?; // its publisher may not have done so yet
        return Ok(Some(Published { version: newest, created: false, new_bytes: sealed.new_bytes }));
    }
    let kind = match (&artifact.kind, catalog_artifact::find(store, name)?) {
        (Some(kind), _) => kind.clone(),
        (None, Some(found)) => found.kind,
        (None, None) => ArtifactType::parse("dataset")?,
    };
    catalog_artifact::ensure(store, name, &kind)?;
    let record = VersionRecord {
        token: work.token().to_string(),
        artifact: name.clone(),
        kind,
        digest: root.digest(),
        entries: root.totals().entries,
        files: root.totals().files,
        bytes: root.totals().bytes,
        new_bytes: writer.new_bytes(),
        created_at: clock::now(),
        mode: Mode::Simple,
        run: options.run.clone(),
        description: artifact.description.clone(),
        metadata: artifact.metadata.clone().unwrap_or_default(),
        tags: artifact.tags.clone(),
        from,
        always_new: options.always_new,
    };
    publish(store, work, writer, &root, record)
}

/// Builds the manifest into the store, once more when its nodes would lie in too many packs.
fn build_nodes(tree: &Tree, writer: &ObjectWriter) -> Result<manifest::Root> {
    loop {
        let mut lane = writer.nodes()?;
        let root = ingest::build(tree, &mut lane)?;
        lane.close()?;
        if !writer.spread_too_far() {
            return Ok(root);
        }
    }
}

/// Steps 4 to 7: the version's directory, durable with its content; commit; claim; acknowledge. `None` when fenced.
fn publish(store: &Store, mut work: Work, writer: ObjectWriter, root: &manifest::Root, record: VersionRecord) -> Result<Option<Published>> {
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
        return Ok(None);
    }
    let placed = place(store, work.token(), &record)?;
    disk.sync_dir(&versions).map_err(|e| e.while_doing("the version is published, but may not outlast a loss of power").hint("look at the disk and the kernel's log, then say it again"))?;
    if let Placed::SameAs(_) = placed {
        let _ = disk.remove_tree(&dir); // it can never be published: its owner drops it, or a collector
    }
    work.end();
    let (number, created) = match placed {
        Placed::At(number) => (number, true),
        Placed::SameAs(number) => (number, false),
    };
    let version = Version::read(store, &record.artifact, number)?;
    let version = version.ok_or_else(|| Error::damaged(format!("{}:{number} vanished after it was published", record.artifact)))?;
    Ok(Some(Published { version, created, new_bytes: sealed.new_bytes }))
}

/// Step 6: walks up from the number in the record, past what it has read, and claims the first free one. The rule for equal content
/// depends on published, immutable records alone, so every helper comes to the same end.
fn place(store: &Store, token: &Token, record: &VersionRecord) -> Result<Placed> {
    let name = &record.artifact;
    let mut number = record.from;
    loop {
        match claim::claim(store, &store.layout().version(name, number), token)? {
            Claimed::Own => return Ok(Placed::At(number)),
            Claimed::Other(other) => {
                let other = version::read_record(store, name, &other)?;
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
            Ok(Placed::SameAs(_)) => {}
            // A version on its way is damaged: nobody gets past that (L10), and it concerns this token alone.
            Err(e) if e.kind() == Kind::Damaged => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What was said of a version beside its content: its aliases, and of one that stood already its tags and the rest.
fn annotate(store: &Store, artifact: &Artifact, options: &SaveOptions, published: &Published) -> Result<()> {
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

/// Everything that was added, stored through `sink`, as one settled tree.
fn collect(store: &Store, artifact: &Artifact, sink: &Sink<'_>, progress: &Progress) -> Result<Tree> {
    let own = std::fs::metadata(store.root()).map(|m| (m.dev(), m.ino())).ok();
    let mut tree = Tree::default();
    for add in &artifact.adds {
        match add {
            Add::Entry { at, body, .. } => {
                progress.expect(1, 0);
                tree.add(at, body.clone())?;
            }
            Add::Directory { at, source, options } => {
                let part = stored_dir(source, options, own, sink, progress)?;
                tree.graft(at, part)?;
            }
            Add::Remove { at } => tree.remove(at)?,
        }
    }
    ingest::store_files(&mut tree, sink, None, threads::count(), progress)?;
    tree.settle(artifact.overwrite)?;
    Ok(tree)
}

/// One source directory, scanned and stored.
fn stored_dir(source: &Path, options: &ScanOptions, skip: Option<(u64, u64)>, sink: &Sink<'_>, progress: &Progress) -> Result<Tree> {
    let mut tree = ingest::scan(source, options, skip, threads::count(), progress)?;
    let cache = StatCache::open(source);
    let now = clock::unix_now().saturating_mul(1_000_000_000);
    let read = ingest::store_files(&mut tree, sink, Some(&cache), threads::count(), progress)?;
    cache.save(read, now);
    Ok(tree)
}

/// The manifest that a put of this directory would give, without a store: for differences against a directory.
///
/// # Errors
/// As a put's, as far as the source goes.
pub fn scan_dir(dir: &Path, options: &ScanOptions, skip_store: Option<&Store>, progress: &Progress) -> Result<manifest::Tree> {
    let skip = skip_store.and_then(|s| std::fs::metadata(s.root()).ok()).map(|m| (m.dev(), m.ino()));
    let mut tree = Tree::default();
    tree.graft(&RelPath::root(), stored_dir(dir, options, skip, &Sink::Nowhere, progress)?)?;
    tree.settle(ingest::Overwrite::Refuse)?;
    let mut nodes = MemoryNodes::new();
    let root = ingest::build(&tree, &mut nodes)?;
    Ok(manifest::Tree::of(&root, Arc::new(nodes)))
}
