//! Content and manifest nodes that are lost here: stored again under the same digests.

use super::report::Repaired;
use crate::catalog::{artifact, version};
use crate::error::Result;
use crate::manifest::{Node, NodeRef, NodeSink, NodeSource};
use crate::objects::{Content, SMALL_MAX, ThreadWriter};
use crate::store::Store;
use crate::types::Digest;
use crate::verify::VerifyReport;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Stores again what is lost, as far as it is elsewhere. `dir` is a token's directory.
///
/// # Errors
/// I/O.
pub(super) fn repair(
    store: &Store,
    others: &[Store],
    found: &VerifyReport,
    dir: &Path,
    done: &mut Repaired,
) -> Result<()> {
    let lost = found.lost();
    if lost.content.is_empty() && lost.nodes.is_empty() {
        return Ok(());
    }
    let writer = store.objects().writer(dir)?;
    let mut lane = writer.thread_writer();
    let mut content = lost.content.clone();
    let mut nodes = Vec::new();
    let own = if lost.nodes.is_empty() { HashMap::new() } else { own_roots(store)? };
    let mut next: Vec<Digest> = lost.nodes.iter().copied().collect();
    let mut seen: HashSet<Digest> = next.iter().copied().collect();
    while let Some(digest) = next.pop() {
        let Some(node) = node_elsewhere(&own, others, &digest)? else { continue };
        for child in node.children() {
            if seen.insert(child.digest) && damaged(store.objects().load(&child))? {
                next.push(child.digest);
            }
        }
        missing_content(&node, &mut lane, &mut content)?;
        nodes.push(node);
    }
    let (sources, whole) = by_use(store, &content)?;
    for (digest, size) in sources {
        if !lane.has_source(&digest, size)? {
            done.contents += u64::from(bring_source(store, others, &mut lane, &digest, size)?);
        }
    }
    for (digest, size) in whole {
        // Composed content is whole again if what it takes parts of was stored again.
        if lane.find(&digest, size)?.is_none() {
            done.contents += u64::from(bring(others, &mut lane, &digest, size)?);
        }
    }
    lane.close()?;
    let mut lane = writer.thread_writer();
    let mut sink = writer.node_writer()?;
    // Those below come first.
    for node in nodes.iter().rev() {
        sink.store(&placed(node, &mut lane)?)?;
        done.nodes += 1;
    }
    sink.close()?;
    lane.close()?;
    if done.contents > 0 || done.nodes > 0 {
        writer.seal(&[], &[])?;
        // On a file system that keeps the order of names, this sync makes all of them durable.
        store.disk().sync_dir(&store.layout().packs())?;
    }
    Ok(())
}

/// Contents with their sizes.
type Sized = BTreeMap<Digest, u64>;

/// Contents that others take parts of, and all others.
fn by_use(store: &Store, content: &Sized) -> Result<(Sized, Sized)> {
    let sources = store.objects().sources_of_all(&content.keys().copied().collect())?;
    Ok(content.iter().partition(|(digest, _)| sources.contains(*digest)))
}

/// The root nodes of all versions, from their own `manifest` files.
fn own_roots(store: &Store) -> Result<HashMap<Digest, Arc<Node>>> {
    let mut out = HashMap::new();
    for name in artifact::all(store)? {
        for (_, version) in version::each(store, &name)? {
            if let Ok(manifest) = version.and_then(|version| version.manifest_file()) {
                out.insert(manifest.root().digest(), manifest.root().clone());
            }
        }
    }
    Ok(out)
}

fn node_elsewhere(own: &HashMap<Digest, Arc<Node>>, others: &[Store], digest: &Digest) -> Result<Option<Arc<Node>>> {
    if let Some(node) = own.get(digest) {
        return Ok(Some(node.clone()));
    }
    for other in others {
        match other.objects().load(&NodeRef::from(*digest)) {
            Ok(node) => return Ok(Some(node)),
            Err(e) if e.is_loss() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Adds the content that a node names and that is not in the store.
fn missing_content(node: &Node, lane: &mut ThreadWriter<'_>, content: &mut BTreeMap<Digest, u64>) -> Result<()> {
    for (digest, size, _) in node.blobs() {
        if !content.contains_key(&digest) && lane.find(&digest, size)?.is_none() {
            content.insert(digest, size);
        }
    }
    Ok(())
}

/// The node with this store's hints: its own may name packs of another store.
fn placed(node: &Node, lane: &mut ThreadWriter<'_>) -> Result<Node> {
    node.with_places(&mut |_, _, _| None)?.with_blob_places(&mut |digest, size| {
        Ok(if size < SMALL_MAX { lane.find(digest, size)?.flatten() } else { None })
    })
}

/// Stores content that others take parts of, from this store, where it may be composed itself, or from another one.
/// `false`: none has it.
fn bring_source(
    store: &Store,
    others: &[Store],
    lane: &mut ThreadWriter<'_>,
    digest: &Digest,
    size: u64,
) -> Result<bool> {
    if size < SMALL_MAX {
        return bring(others, lane, digest, size);
    }
    for from in [store].into_iter().chain(others) {
        match from.objects().content(digest, size, None) {
            Ok(content) => match lane.put_source(digest, &content) {
                Ok(false) => {}
                Err(e) if e.is_loss() => {}
                stored => return stored,
            },
            Err(e) if e.is_loss() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Stores content from another store. `false`: none has it.
fn bring(others: &[Store], lane: &mut ThreadWriter<'_>, digest: &Digest, size: u64) -> Result<bool> {
    for other in others {
        match other.objects().content(digest, size, None) {
            Ok(Content::Small(bytes)) if size < SMALL_MAX => return Ok(lane.put_small(*digest, &bytes)?.new),
            Ok(Content::Small(bytes)) => return Ok(lane.put_large_bytes(*digest, &bytes)?.new),
            Ok(Content::Large(large)) if !damaged(large.verify())? => {
                let put = lane.put_large(large.file(), large.path(), &mut |_| Ok(()))?;
                return Ok(put.new && put.digest == *digest);
            }
            Ok(Content::Composed(composed)) if !damaged(other.objects().verify_composed(&composed))? => {
                let put = lane.put_composed(&composed, &mut |_| Ok(()))?;
                return Ok(put.new && put.digest == *digest);
            }
            Ok(Content::Large(_) | Content::Composed(_)) => {}
            Err(e) if e.is_loss() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Whether something is missing, damaged or unreadable.
fn damaged<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(false),
        Err(e) if e.is_loss() => Ok(true),
        Err(e) => Err(e),
    }
}
