//! Publishes a version's content under another name, or in another store, at the cost of what is missing there.

use super::annotations::annotate;
use super::content_check::{self, ContentCheck};
use super::edit_session::EditSession;
use super::patch::{keep_nodes, settle, tree_of};
use crate::catalog::{Mode, Version, artifact as catalog_artifact, removal};
use crate::commit::artifact::{Artifact, bring, or_keep};
use crate::commit::content_writer::content_writer;
use crate::commit::publication::{self, Published, SaveOptions, VersionDraft, retry_with_recovery};
use crate::error::{Error, Kind, Result};
use crate::manifest::{self, Entry, Node, NodeRef, NodeSink, RootNode, diff};
use crate::objects::{NodeThreadWriter, ObjectWriter, SMALL_MAX, ThreadWriter};
use crate::progress::Progress;
use crate::store::Store;
use crate::txn::{AttemptOutcome, Txn};
use crate::types::{Digest, Location, VersionNumber};
use std::sync::Arc;

/// The most bytes of nodes on the way to one entry, except in crafted stores.
const WAY_BYTES: u64 = 128 << 10;
/// The bytes of one entry in all nodes together.
const ENTRY_BYTES: u64 = 400;

/// Publishes the content of `source` as the next version of `artifact` in `store`, the same or another. `artifact`
/// gives the name, the type (the source's if it has none) and the annotations of the new version; files added to it are
/// ignored. As with a put there is no new version if the newest one has that content.
///
/// # Errors
/// Conflict: another type; the source is removed. Damaged; I/O.
pub fn copy(store: &Store, source: &Version, artifact: &Artifact, options: &SaveOptions) -> Result<Published> {
    store.check_writable()?;
    let kind = artifact.kind.as_ref();
    catalog_artifact::check_type(store, &artifact.name, kind.or(Some(&source.record().kind)))?;
    let mut published = retry_with_recovery(store, &artifact.name, || attempt(store, source, artifact, options))?;
    annotate(store, artifact, options, &mut published)?;
    Ok(published)
}

/// One token's try.
fn attempt(
    store: &Store,
    source: &Version,
    artifact: &Artifact,
    options: &SaveOptions,
) -> Result<AttemptOutcome<Published>> {
    let name = &artifact.name;
    let work = Txn::begin(store, &options.purpose("copy", name), &store.layout().versions(name))?;
    let here = source.store().root() == store.root();
    if here {
        work.pin_base(source.artifact(), source.number())?;
    }
    if removal::is_removed(source.store(), source.artifact(), source.number())? {
        return Err(Error::conflict(format!("{source} cannot be copied: it is removed")));
    }
    let (highest, newest) = publication::newest_unrelied(store, name)?;
    let newest = newest.and_then(Result::ok);
    let from = VersionNumber::after(highest);
    let writer = content_writer(store, &work.dir())?;
    if here {
        check_source(source, &writer)?;
    }
    let same = |digest: &Digest| match newest.as_ref().filter(|_| !options.always_new) {
        Some(newest) => newest.is_readable_as(digest),
        None => Ok(false),
    };
    // What the newest version here has lost can be stored again from the source.
    let known = match &newest {
        Some(newest) if !here && !is_whole(newest, &writer)? => None,
        newest => newest.as_ref(),
    };
    if (here || known.is_some())
        && let Some(newest) = &newest
        && same(&source.digest())?
    {
        return publication::unchanged(store, writer, newest.clone());
    }
    let (root, writer) = if here {
        (settle(store, &writer, &EditSession::new(&source.tree()?, &work.dir()), Some(source))?, writer)
    } else {
        if let Some(newest) = known {
            work.pin_base(name, newest.number())?;
            if removal::is_removed(store, name, newest.number())? {
                return Ok(AttemptOutcome::Again); // removed since it was looked up: everything again
            }
        }
        let brought = brought(store, source, known, &writer, options);
        or_keep(brought, writer, &options.progress)?
    };
    if let Some(newest) = &newest
        && same(&root.digest())?
    {
        return publication::unchanged(store, writer, newest.clone());
    }
    let draft = VersionDraft {
        kind: Some(source.record().kind.clone()),
        known_version: newest.as_ref(),
        source: Some(source.as_source_in(store)),
        ..VersionDraft::new(artifact, options, Mode::Simple, from)
    };
    let record = draft.record(store, &work, &root, &writer)?;
    publication::publish(store, work, writer, &root, record)
}

/// Refuses a source in this store whose content is known to be missing or damaged.
fn check_source(source: &Version, writer: &ObjectWriter) -> Result<()> {
    let hint =
        format!("put the content again: `cairn put {} SRC`; `cairn verify` lists what is damaged", source.artifact());
    content_check::check(writer, &source.tree()?, &format!("{source} cannot be copied"), &hint)
}

/// Whether all that a version names is in the store, as far as lookups show it.
fn is_whole(version: &Version, writer: &ObjectWriter) -> Result<bool> {
    match version.tree() {
        Ok(tree) => ContentCheck::new(writer).is_whole(&tree),
        Err(e) if e.kind() == Kind::Damaged => Ok(false),
        Err(e) => Err(e),
    }
}

/// Brings a version of another store over: its content, except what `newest`, the newest version here, has, and then
/// its manifest. The difference is walked twice: nodes name the locations of content, which are known when its packs
/// are closed.
fn brought(
    store: &Store,
    source: &Version,
    newest: Option<&Version>,
    writer: &ObjectWriter,
    options: &SaveOptions,
) -> Result<RootNode> {
    let tree = source.tree()?;
    let mut lane = writer.thread_writer();
    let brought = bring_files(source, &tree_of(newest, store)?, &tree, &mut lane, &options.progress);
    lane.close()?; // also if it was interrupted: complete contents are kept
    let changes = brought?;
    // A change makes no more nodes than are on the way to it, and all together no more than the version has.
    let most = (changes * WAY_BYTES).min(tree.totals().entries * ENTRY_BYTES);
    keep_nodes(store, writer, newest, most)?;
    let mut sink = RelocatingSink { lane: writer.thread_writer(), nodes: writer.node_writer()? };
    // Its own hints name packs of the other store.
    let home = |at: &NodeRef| writer.find_kept_node(&at.digest, None);
    let root = manifest::carry(&tree.as_root(), &**tree.source(), &home, &mut sink)?;
    let root = RootNode { node: Arc::new(sink.placed(&root.node)?), place: root.place };
    sink.nodes.close()?;
    Ok(root)
}

/// Stores the content of each file of `tree` that is not in `known`, and counts the differences.
fn bring_files(
    source: &Version,
    known: &manifest::Tree,
    tree: &manifest::Tree,
    lane: &mut ThreadWriter<'_>,
    progress: &Progress,
) -> Result<u64> {
    let mut changes = 0;
    for change in diff(known, tree) {
        if let Some(Entry::File { digest, size, place, .. }) = change?.new {
            progress.add_total(1, size);
            progress.check_cancelled()?;
            bring(source, lane, &digest, size, place, progress)?;
            progress.add_done(1, size);
        }
        changes += 1;
    }
    Ok(changes)
}

/// Stores nodes with the locations that content has in this store.
struct RelocatingSink<'a> {
    lane: ThreadWriter<'a>,
    nodes: NodeThreadWriter<'a>,
}

impl RelocatingSink<'_> {
    fn placed(&mut self, node: &Node) -> Result<Node> {
        node.with_blob_places(&mut |digest, size| {
            Ok(if size < SMALL_MAX { self.lane.find(digest, size)?.flatten() } else { None })
        })
    }
}

impl NodeSink for RelocatingSink<'_> {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let node = self.placed(node)?;
        self.nodes.store(&node)
    }
}
