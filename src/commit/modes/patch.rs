//! Patch mode: changes of a version become the next version, at the cost of the changes, and no other change is lost
//! (L9).
//!
//! A patch claims *exactly* the number after the newest version. If the newest version is not its base, what changed in
//! between is compared with what the patch changes. If they are disjoint, the same edits are made on the newest version
//! (a rebase); if they overlap, that is a conflict, and nothing is published. If another version takes the number
//! first, the patch removes its record and starts again with a new token.

use super::annotations::annotate;
use super::conflicts::conflict;
use super::content_check;
use super::edit_session::EditSession;
use super::pack_retention;
use crate::catalog::{Mode, Version, artifact as catalog_artifact, removal};
use crate::commit::artifact::{Artifact, Basis, collect, or_keep};
use crate::commit::content_writer::content_writer;
use crate::commit::publication::{self, Published, SaveOptions, VersionDraft, retry_with_recovery};
use crate::error::{Error, Result};
use crate::ingest::Sink;
use crate::lock::AdvisoryTurn;
use crate::manifest::{self, MemoryNodes, NodeRef, NodeSource, Rebased, RootNode, Tree, rebase};
use crate::objects::{NodePacks, ObjectWriter};
use crate::store::Store;
use crate::txn::{AttemptOutcome, Txn};
use crate::types::{ArtifactName, VersionNumber};
use std::sync::Arc;
use std::time::Duration;

/// How long a patch waits for others of the same artifact before it continues concurrently.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of new nodes that fill a pack.
const PACK_OF_NODES: u64 = 48 << 20;

/// Patch mode.
pub(in crate::commit) fn patch(
    store: &Store,
    artifact: &Artifact,
    basis: &Basis,
    options: &SaveOptions,
) -> Result<Published> {
    store.check_writable()?;
    if artifact.kind.is_some() || basis.base.is_none() {
        catalog_artifact::check_type(store, &artifact.name, artifact.kind.as_ref())?;
    }
    if [&basis.base, &basis.onto]
        .into_iter()
        .flatten()
        .any(|v| v.store().root() != store.root() || *v.artifact() != artifact.name)
    {
        return Err(Error::usage(format!(
            "the base of a patch of {} must be one of its versions, in the same store",
            artifact.name
        )));
    }
    let mut published = retry_with_recovery(store, &artifact.name, || attempt(store, artifact, basis, options))?;
    annotate(store, artifact, options, &mut published)?;
    Ok(published)
}

/// One token's try.
fn attempt(
    store: &Store,
    artifact: &Artifact,
    basis: &Basis,
    options: &SaveOptions,
) -> Result<AttemptOutcome<Published>> {
    let name = &artifact.name;
    let work = Txn::begin(store, &options.purpose("patch", name), &store.layout().versions(name))?;
    for version in [&basis.base, &basis.onto].into_iter().flatten() {
        pin_base(&work, version)?;
    }
    let writer = content_writer(store, &work.dir())?;
    let base = tree_of(basis.base.as_ref(), store)?;
    let mut stage = EditSession::new(&base, &work.dir());
    let removed = stage.base_ops(&basis.ops)?;
    if !basis.changes.is_empty() {
        let mut lane = writer.thread_writer();
        for changes in &basis.changes {
            stage.change(changes, &mut |digest, size| lane.find(digest, size))?;
        }
        lane.close()?;
    }
    let collected = collect(store, artifact, &removed, &Sink::Store(&writer), &options.progress);
    let (added, writer) = or_keep(collected, writer, &options.progress)?;
    stage.add(&added.into_tree()?)?;
    check_known(&writer, &stage, artifact)?;
    // If nothing changes, the base is the answer, even if a newer version has changed it since.
    if let Some(base) =
        basis.base.as_ref().filter(|b| basis.onto.is_none() && b.digest() == stage.tree.digest() && !options.always_new)
    {
        return publication::unchanged(store, writer, base.clone());
    }
    let _turn = AdvisoryTurn::exclusive(&store.layout().versions(name), TIMEOUT);
    // The number first, then the newest version: what is published in between takes the exact number.
    let (highest, newest) = publication::newest(store, name, basis.base.as_ref(), &work)?;
    let newest = usable_newest(newest, basis, name)?;
    let from = VersionNumber::after(highest);
    let target = basis.onto.as_ref().or(newest.as_ref());
    let rebased = target.map(Version::number).filter(|n| Some(*n) != basis.base.as_ref().map(Version::number));
    if let (Some(target), Some(_)) = (target, rebased) {
        put_on(&mut stage, &base, target)?;
        check_known(&writer, &stage, artifact)?;
    }
    if let Some(newest) = newest.as_ref().filter(|n| n.digest() == stage.tree.digest() && !options.always_new) {
        return publication::unchanged(store, writer, newest.clone());
    }
    let root = settle(store, &writer, &stage, target)?;
    let draft = VersionDraft {
        base: target.map(Version::number),
        exact: basis.onto.is_none(),
        known_version: target,
        ..VersionDraft::new(artifact, options, Mode::Patch, from)
    };
    let record = draft.record(store, &work, &root, &writer)?;
    Ok(match publication::publish(store, work, writer, &root, record)? {
        AttemptOutcome::Done(published) => AttemptOutcome::Done(Published { rebased, ..published }),
        other => other,
    })
}

/// The newest version, if the patch can be made. A patch with a given target does not need it.
fn usable_newest(newest: Option<Result<Version>>, basis: &Basis, name: &ArtifactName) -> Result<Option<Version>> {
    let newest = match newest.transpose() {
        Err(e) if basis.onto.is_none() => {
            let hint = format!(
                "`cairn patch --onto vN` makes the changes on another version; \
                 `cairn rm {name}:latest` removes the damaged one"
            );
            return Err(e
                .context(format!("the newest version of {name} is damaged: this patch cannot be made on it"))
                .with_hint(hint));
        }
        newest => newest.unwrap_or_default(),
    };
    let is_lost = |base: &&Version| newest.as_ref().is_none_or(|n| n.number() < base.number());
    match basis.base.as_ref().filter(|_| basis.onto.is_none()).filter(is_lost) {
        Some(base) => Err(Error::conflict(format!("{base} cannot be patched: it was removed meanwhile"))),
        None => Ok(newest),
    }
}

/// Refuses a version that names content known to be damaged. If the store has no known damage, nothing is looked up.
fn check_known(writer: &ObjectWriter, stage: &EditSession, artifact: &Artifact) -> Result<()> {
    if !writer.knows_damage() {
        return Ok(());
    }
    let hint = "add these files again in the patch, or remove them; `cairn verify` lists what is damaged";
    content_check::check(writer, &stage.tree, &format!("{} cannot be patched", artifact.name), hint)
}

/// Pins a version, then makes a revalidated lookup that it is not removed.
fn pin_base(work: &Txn, version: &Version) -> Result<()> {
    work.pin_base(version.artifact(), version.number())?;
    if removal::is_removed(version.store(), version.artifact(), version.number())? {
        let hint = format!("`cairn list {}` lists its versions", version.artifact());
        return Err(Error::conflict(format!("{version} cannot be patched: it is removed")).with_hint(hint));
    }
    Ok(())
}

/// A version's manifest; the empty one for none.
pub(in crate::commit) fn tree_of(version: Option<&Version>, store: &Store) -> Result<Tree> {
    match version {
        Some(version) => version.tree(),
        None => {
            let source: Arc<dyn NodeSource> = store.objects().clone();
            Ok(Tree::of(&manifest::Builder::new(&mut MemoryNodes::new()).finish()?, source))
        }
    }
}

/// Makes the changes on `target` instead of `base`, if nothing that they touch was changed in between.
fn put_on(stage: &mut EditSession, base: &Tree, target: &Version) -> Result<()> {
    let theirs = target.tree()?;
    match rebase(base, &stage.tree, &theirs)? {
        Rebased::Conflicts(paths) => {
            let hint = format!(
                "look at {target}, and patch that; `cairn patch --onto vN` makes the changes on vN without those of \
                 newer versions"
            );
            Err(conflict(&format!("{target} changed what this patch changes"), &paths).with_hint(hint))
        }
        Rebased::Edits(edits) => {
            stage.turn_to(&theirs);
            stage.apply(edits.into_iter().map(Ok))
        }
    }
}

/// Stores the new nodes of the edited manifest, and those from packs that are not kept.
pub(in crate::commit) fn settle(
    store: &Store,
    writer: &ObjectWriter,
    stage: &EditSession,
    target: Option<&Version>,
) -> Result<RootNode> {
    keep_nodes(store, writer, target, stage.nodes.bytes())?;
    let mut lane = writer.node_writer()?;
    let home = |at: &NodeRef| {
        if stage.nodes.has(&at.digest) { Ok(None) } else { writer.find_kept_node(&at.digest, at.place) }
    };
    let root = manifest::carry(&stage.tree.as_root(), &stage.nodes, &home, &mut lane)?;
    lane.close()?;
    Ok(root)
}

/// Lets the writer keep nodes of `target` in their packs, as far as the list has room for new packs of `bytes` bytes.
pub(in crate::commit) fn keep_nodes(
    store: &Store,
    writer: &ObjectWriter,
    target: Option<&Version>,
    bytes: u64,
) -> Result<()> {
    let new = 1 + (bytes / PACK_OF_NODES) as usize;
    let kept = match target {
        Some(target) => pack_retention::kept(store, writer, &target.manifest_file()?, new)?,
        None => NodePacks::default(),
    };
    writer.keep_nodes_in(&kept);
    Ok(())
}
