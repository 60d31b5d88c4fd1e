//! Simple mode: one run adds all files.

use super::annotations::annotate;
use crate::catalog::{Mode, artifact as catalog_artifact, version};
use crate::commit::artifact::{Artifact, collect_or_keep};
use crate::commit::content_writer::content_writer;
use crate::commit::publication::{self, Published, SaveOptions, VersionDraft, retry_with_recovery};
use crate::error::{Error, Result};
use crate::ingest::Sources;
use crate::lock::Purpose;
use crate::manifest::{self, Builder, Entry};
use crate::objects::ObjectWriter;
use crate::store::Store;
use crate::txn::{AttemptOutcome, Txn};
use crate::types::{Digest, VersionNumber};

/// Simple mode.
pub(in crate::commit) fn put(store: &Store, artifact: &Artifact, options: &SaveOptions) -> Result<Published> {
    store.check_writable()?;
    catalog_artifact::check_type(store, &artifact.name, artifact.kind.as_ref())?;
    let mut published = retry_with_recovery(store, &artifact.name, || attempt(store, artifact, options))?;
    annotate(store, artifact, options, &mut published)?;
    Ok(published)
}

/// Publishes a manifest whose files share a few contents, made by `fill`: for benches with a version of ten
/// million files.
///
/// # Errors
/// As of a put, and those of `fill`.
#[doc(hidden)]
pub fn publish_generated(
    store: &Store,
    artifact: &Artifact,
    contents: &[&[u8]],
    fill: &mut dyn FnMut(&mut Builder<'_>, &[Entry]) -> Result<()>,
) -> Result<Published> {
    let options = SaveOptions::default();
    let work = Txn::begin(
        store,
        &Purpose { purpose: "put", artifact: Some(artifact.name.as_str()), ..Purpose::default() },
        &store.layout().versions(&artifact.name),
    )?;
    let writer = store.objects().writer(&work.dir())?;
    let mut lane = writer.thread_writer();
    let mut files = Vec::with_capacity(contents.len());
    for bytes in contents {
        let digest = Digest::of(bytes);
        files.push(Entry::File {
            digest,
            size: bytes.len() as u64,
            exec: false,
            place: Some(lane.put_small(digest, bytes)?.place),
        });
    }
    lane.close()?;
    let mut nodes = writer.node_writer()?;
    let mut builder = Builder::new(&mut nodes);
    fill(&mut builder, &files)?;
    let root = builder.finish()?;
    nodes.close()?;
    let from = VersionNumber::after(version::highest(store, &artifact.name)?);
    let draft = VersionDraft::new(artifact, &options, Mode::Simple, from);
    let record = draft.record(store, &work, &root, &writer)?;
    match publication::publish(store, work, writer, &root, record)? {
        AttemptOutcome::Done(published) => Ok(published),
        AttemptOutcome::Again => Err(Error::conflict("another process fenced this attempt")),
    }
}

/// One token's try.
fn attempt(store: &Store, artifact: &Artifact, options: &SaveOptions) -> Result<AttemptOutcome<Published>> {
    let name = &artifact.name;
    let work = Txn::begin(store, &options.purpose("put", name), &store.layout().versions(name))?;
    let writer = content_writer(store, &work.dir())?;
    let (sources, writer) = collect_or_keep(store, artifact, writer, &options.progress)?;
    let root = build_nodes(&sources, &writer)?;
    drop(sources);
    // The number first, then the newest version: what is published in between is found on the walk, and compared there.
    let (highest, newest) = publication::newest_unrelied(store, name)?;
    let newest = newest.and_then(Result::ok); // a damaged one equals no other
    if let Some(newest) = newest.as_ref().filter(|_| !options.always_new)
        && newest.is_readable_as(&root.digest())?
    {
        return publication::unchanged(store, writer, newest.clone());
    }
    let from = VersionNumber::after(highest);
    let draft =
        VersionDraft { known_version: newest.as_ref(), ..VersionDraft::new(artifact, options, Mode::Simple, from) };
    let record = draft.record(store, &work, &root, &writer)?;
    Ok(match publication::publish(store, work, writer, &root, record)? {
        AttemptOutcome::Done(published) => AttemptOutcome::Done(Published { previous: newest, ..published }),
        other => other,
    })
}

/// Builds the manifest into the store, once more when its nodes would lie in too many packs.
///
/// # Errors
/// I/O.
pub(in crate::commit) fn build_nodes(sources: &Sources, writer: &ObjectWriter) -> Result<manifest::RootNode> {
    writer.content_is_complete();
    loop {
        let mut lane = writer.node_writer()?;
        let root = sources.build(&mut lane)?;
        lane.close()?;
        if !writer.spread_too_far() {
            return Ok(root);
        }
    }
}
