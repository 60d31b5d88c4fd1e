//! The nodes that the kernel knows, and their names.
//!
//! Paths are built for each request. So a node with a name needs no descriptor, and a renamed directory takes
//! everything below it along. When the last known name of a node is removed, the node keeps a descriptor of the file
//! (`O_PATH`), which is opened before the removal. So a process that looked the name up before, has the file open or
//! works in the directory gets the same results as in a local file system, not ESTALE. The kernel forgets such a node
//! as soon as no process uses it, so their number is about that of the removed files that are open. `MAX_DESCRIPTORS`
//! limits it; beyond that, requests fail with ESTALE.
//!
//! A mount may have a million nodes, so each is small: about 170 bytes with its name.
//!
//! A node is found by device and inode only within its own run, and only while its file is known to exist: a file
//! system reuses the inode numbers of removed files, and the files of a sealed run are removed.

use super::known_names::KnownNames;
use super::open_stage::{LONGEST_PATH, OpenStage};
use super::sealed_view::SealedView;
use crate::disk::backing::{Backing, Stat};
use crate::disk::open_files_limit;
use crate::types::{ArtifactName, DistributedId, RunId};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The root's number.
pub(super) const ROOT: u64 = 1;
/// The first number of nodes that cannot have their own inode number: directories above the runs, and inodes that were
/// reused while the kernel still knows the previous file.
pub(super) const ALIASES: u64 = 1 << 62;

/// The most nodes without a name that keep a descriptor. A quarter of the process's limit of open files is another
/// bound.
const MAX_DESCRIPTORS: u64 = 1 << 16;

/// A table with room for more nodes than this, and for four times as many as it has, is made smaller.
const SHRINK_FROM: usize = 1 << 16;

/// Identifies a file on disk: the run, the device and the inode.
pub(super) type InodeKey = (u64, u64, u64);

/// The key of a file that was found in a run.
pub(super) fn inode_key(run: &OpenStage, stat: &Stat) -> InodeKey {
    (run.number, stat.st_dev, stat.st_ino)
}

/// What a node is.
#[derive(Clone)]
pub(super) enum NodeKind {
    /// The root of a mount of all runs: its entries are artifacts.
    Root,
    /// An artifact: its entries are drafts.
    Artifact(ArtifactName),
    /// A draft: its entries are runs.
    Draft(ArtifactName, DistributedId),
    /// A run's own directory, whose stage this mount has not opened: the first use opens it.
    UnopenedRun(ArtifactName, DistributedId, RunId),
    /// A run's own directory, or something in it.
    InRun(Arc<OpenStage>),
}

struct StagedNode {
    place: NodePlace,
    /// Its device and inode on disk; `None` once the file was removed.
    file: Option<(u64, NonZeroU64)>,
    /// The names under which it was looked up. A run's own directory has none.
    names: KnownNames,
    /// The descriptor of the file, when it has no known name.
    kept: Option<Arc<Backing>>,
    lookups: u64,
    /// Its file type.
    format: u32,
    /// Whether it is the top directory of a run.
    top: bool,
    /// It was made through this mount and was given no extended attribute since.
    has_no_xattrs: bool,
}

/// As [`NodeKind`], but small for the many nodes that are in runs.
enum NodePlace {
    InRun(Arc<OpenStage>),
    Above(Box<NodeKind>),
}

impl NodePlace {
    fn of(kind: NodeKind) -> NodePlace {
        match kind {
            NodeKind::InRun(run) => NodePlace::InRun(run),
            above => NodePlace::Above(Box::new(above)),
        }
    }

    fn kind(&self) -> NodeKind {
        match self {
            NodePlace::InRun(run) => NodeKind::InRun(run.clone()),
            NodePlace::Above(kind) => (**kind).clone(),
        }
    }
}

impl StagedNode {
    fn new(place: NodePlace, file: Option<(u64, NonZeroU64)>, format: u32, top: bool) -> StagedNode {
        let names = KnownNames::default();
        StagedNode { place, file, names, kept: None, lookups: 0, format, top, has_no_xattrs: false }
    }

    /// What identifies its file, while that exists.
    fn key(&self) -> Option<InodeKey> {
        match (&self.place, self.file) {
            (NodePlace::InRun(run), Some((device, inode))) => Some((run.number, device, inode.get())),
            _ => None,
        }
    }
}

/// All nodes.
pub(super) struct NodeTable {
    nodes: HashMap<u64, Box<StagedNode>>,
    /// The nodes whose numbers are not the inode numbers of their files.
    aliases: HashMap<InodeKey, u64>,
    /// The nodes above the runs, and the top directories of runs.
    above: Vec<u64>,
    next_alias: u64,
    /// How many nodes keep a descriptor, and how many may.
    kept: u64,
    most_kept: u64,
    /// Counts removed and changed names.
    changes: u64,
}

/// Where a node is.
pub(super) enum ResolvedNode {
    /// Above the runs.
    Namespace(NodeKind),
    /// In a run.
    InRun(RunPath),
}

/// A path in a run: below the run's top directory, or below a removed directory, or a file without a name itself.
#[derive(Clone)]
pub(super) struct RunPath {
    pub(super) run: Arc<OpenStage>,
    base: Option<Arc<Backing>>,
    path: PathBuf,
}

impl RunPath {
    /// The top directory of a run.
    pub(super) fn top(run: Arc<OpenStage>) -> RunPath {
        RunPath { run, base: None, path: PathBuf::new() }
    }

    /// The directory to which the path is relative.
    pub(super) fn backing(&self) -> &Backing {
        self.base.as_deref().unwrap_or(&self.run.backing)
    }

    /// The relative path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file without a name, if it is one.
    pub(super) fn nameless(&self) -> Option<&Backing> {
        self.base.as_deref()
    }

    /// The sealed contribution that this path shows, if the run is sealed. A file without a name is still the stage's
    /// own.
    pub(super) fn sealed(&self) -> Option<Arc<SealedView>> {
        if self.base.is_some() { None } else { self.run.sealed() }
    }

    /// `name` in it, if it is a directory.
    pub(super) fn join(&self, name: &OsStr) -> RunPath {
        RunPath { run: self.run.clone(), base: self.base.clone(), path: self.path.join(name) }
    }

    /// The path of a new name in it; ENAMETOOLONG if sealing could not reach it.
    pub(super) fn new_name(&self, name: &OsStr) -> Result<RunPath, i32> {
        let at = self.join(name);
        let length = at.length();
        if at.base.is_none() {
            if length > LONGEST_PATH {
                return Err(libc::ENAMETOOLONG);
            }
            self.run.longest.fetch_max(length, Ordering::Relaxed);
        }
        Ok(at)
    }

    /// The length of its path in bytes.
    pub(super) fn length(&self) -> usize {
        self.path.as_os_str().len()
    }

    /// Its path, for messages.
    pub(super) fn label(&self) -> String {
        self.path.display().to_string()
    }
}

impl NodeTable {
    /// A table with only the root.
    pub(super) fn new(kind: NodeKind) -> NodeTable {
        let top = matches!(kind, NodeKind::InRun(_));
        let root = StagedNode { lookups: 1, ..StagedNode::new(NodePlace::of(kind), None, libc::S_IFDIR, top) };
        let most_kept = MAX_DESCRIPTORS.min(open_files_limit() as u64 / 4);
        let (nodes, aliases) = (HashMap::from([(ROOT, Box::new(root))]), HashMap::new());
        NodeTable { nodes, aliases, above: Vec::new(), next_alias: ALIASES, kept: 0, most_kept, changes: 0 }
    }

    /// Counts removed and changed names. If it has changed, what was found on disk before may not exist any more.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Where a node is; ESTALE if it has neither a name nor a descriptor, ENOENT if it is unknown.
    pub(super) fn resolve(&self, id: u64) -> Result<ResolvedNode, i32> {
        let node = self.nodes.get(&id).ok_or(libc::ENOENT)?;
        let NodePlace::InRun(run) = &node.place else { return Ok(ResolvedNode::Namespace(node.place.kind())) };
        let mut parts: Vec<&OsStr> = Vec::new();
        let base = self.climb(node, &mut parts, libc::PATH_MAX as usize).ok_or(libc::ESTALE)?;
        let path = parts.iter().rev().collect();
        Ok(ResolvedNode::InRun(RunPath { run: run.clone(), base, path }))
    }

    /// Collects the names from a node up to its run's top directory, or up to a node that keeps a descriptor. A file
    /// can have several names, and the kernel may have forgotten the directory of one.
    fn climb<'a>(
        &'a self,
        node: &'a StagedNode,
        parts: &mut Vec<&'a OsStr>,
        left: usize,
    ) -> Option<Option<Arc<Backing>>> {
        if node.top {
            return Some(None);
        }
        for (parent, name) in node.names.iter() {
            let (Some(parent), Some(left)) = (self.nodes.get(parent), left.checked_sub(2)) else { continue };
            let before = parts.len();
            parts.push(name);
            if let Some(base) = self.climb(parent, parts, left) {
                return Some(base);
            }
            parts.truncate(before);
        }
        node.kept.clone().map(Some)
    }

    /// The run that a node is in.
    pub(super) fn run_of(&self, id: u64) -> Option<&Arc<OpenStage>> {
        match &self.nodes.get(&id)?.place {
            NodePlace::InRun(run) => Some(run),
            NodePlace::Above(_) => None,
        }
    }

    /// The node of a file that was found under `name`; counts the look-up. `format` is its mode.
    pub(super) fn enter(&mut self, parent: u64, name: &OsStr, key: InodeKey, format: u32) -> Result<u64, i32> {
        let kind = self.nodes.get(&parent).ok_or(libc::ESTALE)?.place.kind();
        let format = format & libc::S_IFMT;
        let same = |id: &u64| self.nodes.get(id).is_some_and(|node| node.format == format);
        let known = self.known(key).filter(same);
        let id = known.unwrap_or_else(|| self.insert(kind, key, format));
        let Some(node) = self.nodes.get_mut(&id) else { return Err(libc::ESTALE) };
        node.lookups += 1;
        if format == libc::S_IFDIR {
            node.names = KnownNames::default(); // a directory has one name
        }
        node.names.add(parent, name);
        self.kept -= u64::from(node.kept.take().is_some());
        Ok(id)
    }

    /// A file that this mount has just made has no extended attributes. (A directory can inherit some.)
    pub(super) fn made(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.has_no_xattrs = true;
        }
    }

    /// Whether a file surely has no extended attributes.
    pub(super) fn has_no_xattrs(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.has_no_xattrs)
    }

    /// A file may have extended attributes from here on.
    pub(super) fn has_xattrs(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.has_no_xattrs = false;
        }
    }

    /// Makes a node for a file on disk. If another node has its key, that node is of a removed file, and loses the key.
    fn insert(&mut self, kind: NodeKind, key: InodeKey, format: u32) -> u64 {
        let inode = key.2;
        let id = if inode > ROOT && inode < ALIASES && !self.nodes.contains_key(&inode) { inode } else { self.alias() };
        if let Some(old) = self.known(key).and_then(|old| self.nodes.get_mut(&old)) {
            old.file = None;
        }
        self.aliases.remove(&key);
        if id != inode {
            self.aliases.insert(key, id);
        }
        let file = NonZeroU64::new(inode).map(|inode| (key.1, inode));
        self.nodes.insert(id, Box::new(StagedNode::new(NodePlace::of(kind), file, format, false)));
        id
    }

    /// The node of a directory above the runs, or of the top directory of a run.
    pub(super) fn enter_in_namespace(&mut self, parent: u64, name: &OsStr, kind: NodeKind) -> u64 {
        let top = matches!(kind, NodeKind::InRun(_));
        let same = |k: &NodeKind| match (k, &kind) {
            (NodeKind::Artifact(a), NodeKind::Artifact(b)) => a == b,
            (NodeKind::Draft(a, b), NodeKind::Draft(c, d)) => (a, b) == (c, d),
            (NodeKind::UnopenedRun(a, b, c), NodeKind::UnopenedRun(d, e, f)) => (a, b, c) == (d, e, f),
            (NodeKind::InRun(a), NodeKind::InRun(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let known = self
            .above
            .iter()
            .copied()
            .find(|id| self.nodes.get(id).is_some_and(|n| n.top == top && same(&n.place.kind())));
        let id = known.unwrap_or_else(|| {
            let id = self.alias();
            self.above.push(id);
            id
        });
        let node = self.nodes.entry(id).or_insert_with(|| {
            let mut node = StagedNode::new(NodePlace::of(kind), None, libc::S_IFDIR, top);
            node.names.add(parent, name);
            Box::new(node)
        });
        node.lookups += 1;
        id
    }

    /// Notes that this mount holds the stage of a run's directory.
    pub(super) fn set_open(&mut self, id: u64, run: Arc<OpenStage>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.place, node.top) = (NodePlace::InRun(run), true);
        }
    }

    fn alias(&mut self) -> u64 {
        self.next_alias += 1;
        self.next_alias
    }

    /// Subtracts look-ups that the kernel has forgotten. Drop the result without the lock of the table: it may be the
    /// last use of a large file.
    pub(super) fn forget(&mut self, id: u64, count: u64) -> Option<Arc<Backing>> {
        let node = self.nodes.get_mut(&id).filter(|_| id != ROOT)?;
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 {
            return None;
        }
        let gone = self.nodes.remove(&id)?;
        if self.nodes.capacity() > SHRINK_FROM.max(4 * self.nodes.len()) {
            self.nodes.shrink_to(2 * self.nodes.len());
        }
        if let Some(key) = gone.key()
            && self.aliases.get(&key) == Some(&id)
        {
            self.aliases.remove(&key);
        }
        if id >= ALIASES {
            self.above.retain(|other| *other != id);
        }
        self.kept -= u64::from(gone.kept.is_some());
        gone.kept
    }

    /// The node of a file on disk.
    pub(super) fn known(&self, key: InodeKey) -> Option<u64> {
        let is_it = |id: &u64| self.nodes.get(id).is_some_and(|node| node.key() == Some(key));
        self.aliases.get(&key).copied().or(Some(key.2)).filter(is_it)
    }

    /// Notes that a name was removed. `last` means that the inode was removed too, and its number may be reused. `file`
    /// is a descriptor of what had the name.
    pub(super) fn unnamed(&mut self, parent: u64, name: &OsStr, key: InodeKey, last: bool, file: Option<Backing>) {
        self.changes += 1;
        let Some(id) = self.known(key) else { return };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.names.remove(parent, name);
        if node.names.is_empty() && node.kept.is_none() && self.kept < self.most_kept {
            node.kept = file.map(Arc::new);
            self.kept += u64::from(node.kept.is_some());
        }
        if last {
            node.file = None;
            self.aliases.remove(&key);
        }
    }

    /// Notes that a file has another name.
    pub(super) fn renamed(&mut self, key: InodeKey, from: (u64, &OsStr), to: (u64, &OsStr)) {
        self.changes += 1;
        let Some(node) = self.known(key).and_then(|id| self.nodes.get_mut(&id)) else { return };
        node.names.remove(from.0, from.1);
        node.names.add(to.0, to.1);
    }

    /// The inode number that a listing shows for a file.
    pub(super) fn listed_number(&self, key: InodeKey) -> u64 {
        self.known(key).unwrap_or(key.2.max(ROOT + 1))
    }
}
