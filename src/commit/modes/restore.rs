//! Brings a removed version back, until a collector has freed of it.
//!
//! A restore is a writer: its token comes first, then it looks for all content of the version, then it publishes. So a
//! collector that moves content of the version either sees the token, and waits for it, or moved the content before;
//! then the restore finds it missing, and puts it back from the trash, or fails because it was freed.

use super::conflicts::listed_up_to;
use super::content_check::ContentCheck;
use crate::catalog::Version;
use crate::catalog::origin::Actor;
use crate::catalog::removal::{self, ChangeRecord, State};
use crate::clock;
use crate::commit::publication::retry_with_recovery;
use crate::error::{Error, Kind, Result};
use crate::lock::{self, LockRecord, Purpose};
use crate::locks::Mutex;
use crate::manifest::{Census, Node, NodeRef, NodeSink, NodeSource, RootNode, Tree, Visitor};
use crate::objects::{ObjectWriter, Objects, ThreadWriter};
use crate::record;
use crate::store::{RESTORED_VERSIONS, Store};
use crate::txn::{AttemptOutcome, Commit, Place, Prepared, Txn};
use crate::types::{ArtifactName, Digest, Location, VersionNumber};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often content is searched in the trash: a collector may move it from batch to batch meanwhile.
const PASSES: usize = 4;
/// How many paths of freed content an error names.
const LISTED: usize = 10;

/// Brings a removed version back. Returns it, and whether it was removed.
///
/// # Errors
/// Not found: there is no such version, or a collector has freed content of it. Conflict: a collector of
/// an older release is at work. Damaged; I/O.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = cairn::Store::init(dir.path().join("s"), &Default::default())?;
/// use cairn::catalog::remove::{Force, remove};
/// let mut artifact = cairn::Artifact::new("images", "dataset")?;
/// artifact.add_bytes("a.txt", "a")?;
/// let version = artifact.save(&store)?.version;
/// remove(&store, version.artifact(), version.number(), Force::No)?;
/// assert!(store.version("images:v0").is_err());
/// let (restored, was_removed) = store.restore("images", "v0".parse()?)?;
/// assert!(was_removed && store.version("images")?.number() == restored.number());
/// # Ok::<(), cairn::Error>(())
/// ```
pub fn restore(store: &Store, name: &ArtifactName, number: VersionNumber) -> Result<(Version, bool)> {
    store.check_writable()?;
    let version = Version::read(store, name, number)?.ok_or_else(|| {
        Error::not_found(format!("there is no version {name}:{number}"))
            .with_hint(format!("`cairn log {name}` lists what was published and removed"))
    })?;
    if removal::is_removed(store, name, number)? {
        prepare_store(store)?;
    }
    let restored = retry_with_recovery(store, name, || attempt(store, &version))?;
    Ok((version, restored))
}

impl Store {
    /// Brings a removed version back, until a garbage collection has freed content of it. Returns the version, and
    /// whether it was removed.
    ///
    /// # Errors
    /// Usage: a name that is not allowed. Else as `restore` in `cairn::internals::commit`: not found if content of it
    /// was freed.
    pub fn restore(&self, artifact: &str, number: VersionNumber) -> Result<(Version, bool)> {
        restore(self, &ArtifactName::parse(artifact)?, number)
    }
}

/// The store gets the feature that keeps older releases, which do not know of restored versions, from freeing their
/// content. A collector of such a release that began before may still be at work, also if an earlier restore added the
/// feature.
fn prepare_store(store: &Store) -> Result<()> {
    store.add_compatible_feature(RESTORED_VERSIONS)?;
    let knows = |lock: &LockRecord| lock.features.iter().any(|feature| feature == RESTORED_VERSIONS);
    let collectors = lock::live(store, |lock| lock.purpose == "gc" && !knows(lock))?;
    let Some(one) = collectors.first() else { return Ok(()) };
    Err(Error::conflict(format!(
        "nothing is restored while a garbage collection of an older release is at work, which does not know of \
         restored versions (of {} on {}, process {})",
        one.user, one.host, one.pid
    ))
    .with_hint("run the command again when it has ended"))
}

/// One token's try. Returns whether the version was removed.
fn attempt(store: &Store, version: &Version) -> Result<AttemptOutcome<bool>> {
    let (name, number) = (version.artifact(), version.number());
    let dir = store.layout().removed(name);
    let purpose = Purpose { purpose: "restore", artifact: Some(name.as_str()), ..Purpose::default() };
    let txn = Txn::begin(store, &purpose, &dir)?;
    txn.pin_base(name, number)?;
    let changes = match removal::changes(store, name, number)? {
        Some(changes) if removal::is_removed_after(changes) => changes,
        Some(_) => {
            store.disk().sync_dir(&dir)?; // restored a moment ago, perhaps, and not durable yet
            return Ok(AttemptOutcome::Done(false));
        }
        None => return Ok(AttemptOutcome::Done(false)),
    };
    let (writer, mut dirs) = put_back(store, version, &txn.dir())?;
    let record = ChangeRecord {
        version: number,
        from: changes + 1,
        state: State::Restored,
        at: clock::now(),
        by: Actor::of(store),
    };
    dirs.insert(dir.clone());
    let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    let place = removal::place_of_change(&dir, number, changes + 1);
    let prepared = Prepared::one_file(store, txn, place, &record::encode(&record)?)?;
    let (durable, _) = prepared.durable_with(writer, &dirs)?;
    let Commit::Committed(committed) = durable.commit()? else { return Ok(AttemptOutcome::Again) };
    Ok(match committed.place()?.end() {
        Place::At(_) => AttemptOutcome::Done(true),
        Place::Refused(()) => AttemptOutcome::Again,
    })
}

/// Puts back what the trash has of a version, until all of it is in place. Returns the writer that has seen it there,
/// and the directories whose names are new. A root node that was freed is stored again: the version's `manifest` file
/// has it.
fn put_back(store: &Store, version: &Version, work: &Path) -> Result<(ObjectWriter, BTreeSet<PathBuf>)> {
    let nodes = Arc::new(NodesRead { objects: store.objects().clone(), read: Mutex::default() });
    let root = RootNode { node: version.manifest_file()?.root().clone(), place: None };
    let root_digest = root.node.digest();
    let tree = Tree::of(&root, nodes.clone());
    let mut dirs = BTreeSet::new();
    let mut passes = 0;
    loop {
        passes += 1;
        let writer = store.objects().writer(work)?;
        let missing = missing(store, &writer, &tree, &nodes)?;
        if missing.is_empty() {
            return Ok((writer, dirs));
        }
        if passes == PASSES {
            if missing.iter().eq([&root_digest]) {
                let mut sink = writer.node_writer()?;
                sink.store(&root.node)?;
                sink.close()?;
                return Ok((writer, dirs));
            }
            return Err(freed(version, &writer, &tree)?);
        }
        let trash = store.objects().trash()?;
        let sources = store.objects().sources_of_all(&missing)?;
        let missing: HashSet<Digest> = missing.into_iter().chain(sources).collect();
        for digest in &missing {
            dirs.extend(store.objects().put_object_back(&trash, digest)?);
        }
        for pack in store.objects().packs_in_trash_with(&trash, &missing)? {
            dirs.extend(store.objects().put_pack_back(&trash, &pack)?);
        }
    }
}

/// Remembers which nodes are read. They may come from the trash, or from memory.
struct NodesRead {
    objects: Arc<Objects>,
    read: Mutex<Vec<NodeRef>>,
}

impl NodeSource for NodesRead {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        self.read.lock().push(*at);
        self.objects.load(at)
    }
}

/// Looks for the content that a manifest names, in its place alone.
struct InPlace<'a> {
    thread: ThreadWriter<'a>,
    missing: HashSet<Digest>,
}

impl Visitor for InPlace<'_> {
    fn file(&mut self, digest: &Digest, size: u64, place: Option<Location>) -> Result<bool> {
        if !self.thread.has_in_place(digest, size, place)? {
            self.missing.insert(*digest);
        }
        Ok(false)
    }

    fn fault(&mut self, digest: &Digest, error: Error) -> Result<()> {
        if error.kind() != Kind::Damaged {
            return Err(error);
        }
        self.missing.insert(*digest);
        Ok(())
    }
}

/// The content and the nodes of a version that are not in place.
fn missing(store: &Store, writer: &ObjectWriter, tree: &Tree, nodes: &NodesRead) -> Result<HashSet<Digest>> {
    nodes.read.lock().clear();
    let mut content = InPlace { thread: writer.thread_writer(), missing: HashSet::new() };
    Census::new().visit(tree, &mut content)?;
    let InPlace { mut missing, .. } = content;
    // The root is not read: a version has it in its own file.
    let root = NodeRef::from(tree.digest());
    for at in nodes.read.lock().iter().chain([&root]) {
        if !writer.has_node(at)? {
            missing.insert(at.digest);
        }
    }
    if !missing.is_empty() {
        let found = store.objects().in_packs_in_place(&missing)?;
        missing.retain(|digest| !found.contains(digest));
        let composed = store.objects().composed_in_place(&missing)?;
        missing.retain(|digest| !composed.contains(digest));
    }
    Ok(missing)
}

/// The error for content that is neither in place nor in the trash.
fn freed(version: &Version, writer: &ObjectWriter, tree: &Tree) -> Result<Error> {
    let mut check = ContentCheck::new(writer);
    check.is_whole(tree)?;
    let mut paths = Vec::new();
    check.lost(tree, &mut |path| paths.push(path.to_string()));
    let error = Error::not_found(format!(
        "{version} cannot be restored: content of it is not in the store any more, because a garbage collection \
         has freed it, or it is damaged"
    ));
    Ok(listed_up_to(LISTED, error, paths.into_iter())
        .with_hint(format!("put it again, if you still have it: `cairn put {} SRC`", version.artifact())))
}
