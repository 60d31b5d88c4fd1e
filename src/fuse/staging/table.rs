//! Which nodes the kernel knows, and by which names: a path is made anew for each request, so a node takes no descriptor, and a renamed directory
//! takes all below it along.

use super::tree::Live;
use crate::words::{ArtifactName, DistributedId, RunId};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

/// The root's number.
pub(super) const ROOT: u64 = 1;
/// Numbers of nodes whose own inode number is not to be had: directories that are nowhere, and inodes used again while the kernel still knows the last one.
const ALIASES: u64 = 1 << 62;

/// What a node is.
#[derive(Clone)]
pub(super) enum Kind {
    /// All artifacts.
    Store,
    /// An artifact: its drafts.
    Artifact(ArtifactName),
    /// A draft: its runs.
    Draft(ArtifactName, DistributedId),
    /// A run's own directory, whose stage nobody holds as far as this mount knows: it is taken up at the first use.
    Run(ArtifactName, DistributedId, RunId),
    /// A run's own directory, or something in it.
    In(Arc<Live>),
}

struct Node {
    kind: Kind,
    /// Device and inode of what stands there; none once it is gone.
    key: Option<(u64, u64)>,
    /// The names under which it was looked up, with their directories. A run's own directory has none.
    names: Vec<(u64, OsString)>,
    /// The top of a run.
    top: bool,
    lookups: u64,
}

/// The nodes.
pub(super) struct Table {
    nodes: HashMap<u64, Node>,
    by_key: HashMap<(u64, u64), u64>,
    /// The nodes above the runs, and the tops of runs.
    above: Vec<u64>,
    next_alias: u64,
}

/// Where a node is.
pub(super) enum Spot {
    /// In none of the runs.
    Above(Kind),
    /// In a run, at this path below its top.
    At(Arc<Live>, PathBuf),
}

impl Table {
    /// With the root alone.
    pub(super) fn new(kind: Kind) -> Table {
        let top = matches!(kind, Kind::In(_));
        let root = Node { kind, key: None, names: Vec::new(), top, lookups: 1 };
        Table { nodes: HashMap::from([(ROOT, root)]), by_key: HashMap::new(), above: Vec::new(), next_alias: ALIASES }
    }

    /// Where a node is; ESTALE for one that has no name any more, ENOENT for one that is not known.
    pub(super) fn spot(&self, id: u64) -> Result<Spot, i32> {
        let node = self.nodes.get(&id).ok_or(libc::ENOENT)?;
        let Kind::In(live) = &node.kind else { return Ok(Spot::Above(node.kind.clone())) };
        let mut parts: Vec<&OsStr> = Vec::new();
        let mut at = node;
        while !at.top {
            let (parent, name) = at.names.last().ok_or(libc::ESTALE)?;
            parts.push(name);
            at = self.nodes.get(parent).ok_or(libc::ESTALE)?;
        }
        Ok(Spot::At(live.clone(), parts.iter().rev().collect()))
    }

    /// The run that a node is in.
    pub(super) fn live(&self, id: u64) -> Option<&Arc<Live>> {
        match &self.nodes.get(&id)?.kind {
            Kind::In(live) => Some(live),
            _ => None,
        }
    }

    /// The node of an inode that was found under `name`, known to the kernel once more.
    pub(super) fn enter(&mut self, parent: u64, name: &OsStr, key: (u64, u64)) -> Result<u64, i32> {
        let kind = self.nodes.get(&parent).ok_or(libc::ESTALE)?.kind.clone();
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let id = if key.1 > ROOT && key.1 < ALIASES && !self.nodes.contains_key(&key.1) { key.1 } else { self.alias() };
                self.by_key.insert(key, id);
                self.nodes.insert(id, Node { kind, key: Some(key), names: Vec::new(), top: false, lookups: 0 });
                id
            }
        };
        let node = self.nodes.get_mut(&id).expect("it was found or just made");
        node.lookups += 1;
        node.names.retain(|(p, n)| !(*p == parent && n == name));
        node.names.push((parent, name.to_owned()));
        Ok(id)
    }

    /// The node of a directory that is in no run, or the top of one.
    pub(super) fn enter_above(&mut self, parent: u64, name: &OsStr, kind: Kind) -> u64 {
        let top = matches!(kind, Kind::In(_));
        let same = |k: &Kind| match (k, &kind) {
            (Kind::Artifact(a), Kind::Artifact(b)) => a == b,
            (Kind::Draft(a, b), Kind::Draft(c, d)) => (a, b) == (c, d),
            (Kind::Run(a, b, c), Kind::Run(d, e, f)) => (a, b, c) == (d, e, f),
            (Kind::In(a), Kind::In(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let known = self.above.iter().copied().find(|id| self.nodes.get(id).is_some_and(|n| n.top == top && same(&n.kind)));
        let id = known.unwrap_or_else(|| {
            let id = self.alias();
            self.above.push(id);
            id
        });
        let node = self.nodes.entry(id).or_insert(Node { kind, key: None, names: vec![(parent, name.to_owned())], top, lookups: 0 });
        node.lookups += 1;
        id
    }

    /// The stage of a run's directory is held from here on.
    pub(super) fn taken_up(&mut self, id: u64, live: Arc<Live>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.kind, node.top) = (Kind::In(live), true);
        }
    }

    fn alias(&mut self) -> u64 {
        self.next_alias += 1;
        self.next_alias
    }

    /// The kernel has forgotten so many look-ups of a node.
    pub(super) fn forget(&mut self, id: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|_| id != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 {
            if let Some(key) = node.key {
                self.by_key.remove(&key);
            }
            self.nodes.remove(&id);
            if id >= ALIASES {
                self.above.retain(|other| *other != id);
            }
        }
    }

    /// A name is gone; `last`: and with it the inode, whose number may be used again.
    pub(super) fn unnamed(&mut self, parent: u64, name: &OsStr, key: (u64, u64), last: bool) {
        let Some(id) = self.by_key.get(&key).copied() else { return };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.names.retain(|(p, n)| !(*p == parent && n == name));
            if last {
                node.key = None;
                self.by_key.remove(&key);
            }
        }
    }

    /// An inode has another name.
    pub(super) fn renamed(&mut self, key: (u64, u64), from: (u64, &OsStr), to: (u64, &OsStr)) {
        let Some(node) = self.by_key.get(&key).and_then(|id| self.nodes.get_mut(id)) else { return };
        node.names.retain(|(p, n)| !(*p == from.0 && n == from.1));
        node.names.push((to.0, to.1.to_owned()));
    }

    /// The number that a listing gives for an inode.
    pub(super) fn shown(&self, key: (u64, u64)) -> u64 {
        self.by_key.get(&key).copied().unwrap_or(key.1.max(ROOT + 1))
    }
}
