//! Where some digests occur in many manifests: the first few paths of each, and how many there are.
//!
//! The cost depends on the distinct marked nodes, not on the number of manifests or paths. Counts are computed on the
//! graph of nodes. Paths are found by a walk that enters a node at most as often as paths are wanted: each visit finds
//! one more path of everything below it.

use super::census::Census;
use super::entry::{DirAt, Entry, Subtree};
use super::node::Node;
use super::node_ref::ChildRef;
use super::tree::Tree;
use crate::types::{Digest, RelPath};
use std::collections::HashMap;
use std::sync::Arc;

/// Where one digest occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// The first paths, each with the number of its manifest.
    pub first: Vec<(usize, RelPath)>,
    /// How many there are in all manifests.
    pub count: u64,
}

/// A marked node: what it leads to, by number.
#[derive(Default)]
struct GraphNode {
    /// The marked nodes below it, once for each entry.
    below: Vec<u32>,
    /// The wanted digests that it names, once for each entry.
    hits: Vec<u32>,
    /// How many paths lead to it.
    paths: u64,
    /// How often the walk entered it.
    visits: u64,
}

/// The marked nodes of all manifests.
struct Graph<'a> {
    census: &'a Census,
    wanted: &'a dyn Fn(&Digest) -> bool,
    ids: HashMap<Digest, u32>,
    nodes: Vec<GraphNode>,
    /// The numbers of the nodes, each after those below it.
    order: Vec<u32>,
    hit_ids: HashMap<Digest, u32>,
    /// By number of the wanted digest.
    found: Vec<Occurrences>,
    /// The most paths that are listed for each.
    limit: u64,
}

/// One thing in a node that leads to something wanted.
enum Lead {
    Hit(Digest),
    Below(ChildRef),
}

/// A node that is being walked.
struct Step {
    path: RelPath,
    node: Arc<Node>,
    next: usize,
}

impl Census {
    /// Where the digests occur for which `wanted` returns true: files by their content's digest, directories by the
    /// digest of a node of their tree. Only marked nodes are walked. `tree` returns the manifest with a number below
    /// `trees`, or `None` if it cannot be read.
    pub fn occurrences(
        &self,
        trees: usize,
        tree: &dyn Fn(usize) -> Option<Tree>,
        wanted: &dyn Fn(&Digest) -> bool,
        limit: usize,
    ) -> HashMap<Digest, Occurrences> {
        let (mut graph, roots) = Graph::of(self, trees, tree, wanted, limit);
        graph.count(&roots);
        for (i, root) in roots.iter().enumerate() {
            let Some(root) = root else { continue };
            if wanted(root) {
                graph.hit(root, i, &RelPath::root());
            }
            if graph.is_needed(root)
                && let Some(tree) = tree(i)
            {
                graph.walk(i, &tree);
            }
        }
        let Graph { hit_ids, mut found, .. } = graph;
        hit_ids.into_iter().map(|(digest, id)| (digest, std::mem::take(&mut found[id as usize]))).collect()
    }

    /// For each manifest below `trees`, whether it leads to a digest for which `wanted` returns true. As
    /// [`Census::occurrences`], without paths.
    pub fn leading(
        &self,
        trees: usize,
        tree: &dyn Fn(usize) -> Option<Tree>,
        wanted: &dyn Fn(&Digest) -> bool,
    ) -> Vec<bool> {
        let (graph, roots) = Graph::of(self, trees, tree, wanted, 0);
        let mut leads = vec![false; graph.nodes.len()];
        for id in &graph.order {
            let node = &graph.nodes[*id as usize];
            leads[*id as usize] = !node.hits.is_empty() || node.below.iter().any(|below| leads[*below as usize]);
        }
        let of = |root: &Digest| wanted(root) || leads[graph.ids[root] as usize];
        roots.iter().map(|root| root.as_ref().is_some_and(of)).collect()
    }
}

impl<'a> Graph<'a> {
    /// The graph of these manifests, and the digest of each one's root.
    fn of(
        census: &'a Census,
        trees: usize,
        tree: &dyn Fn(usize) -> Option<Tree>,
        wanted: &'a dyn Fn(&Digest) -> bool,
        limit: usize,
    ) -> (Graph<'a>, Vec<Option<Digest>>) {
        let mut graph = Graph {
            census,
            wanted,
            ids: HashMap::new(),
            nodes: Vec::new(),
            order: Vec::new(),
            hit_ids: HashMap::new(),
            found: Vec::new(),
            limit: limit as u64,
        };
        let roots = (0..trees).map(|i| tree(i).map(|tree| graph.add(&tree))).collect();
        (graph, roots)
    }

    /// Adds all marked nodes of a manifest. Returns its root's digest.
    fn add(&mut self, tree: &Tree) -> Digest {
        let root = tree.digest();
        if self.ids.contains_key(&root) {
            return root;
        }
        let mut stack = vec![(self.new_node(root), self.leads(tree.root()))];
        while let Some((id, leads)) = stack.last_mut() {
            let id = *id;
            match leads.pop() {
                None => {
                    self.order.push(id);
                    stack.pop();
                }
                Some(Lead::Hit(digest)) => {
                    let hit = self.hit_id(&digest);
                    self.nodes[id as usize].hits.push(hit);
                }
                Some(Lead::Below(child)) => {
                    if let Some(known) = self.ids.get(&child.at.digest) {
                        self.nodes[id as usize].below.push(*known);
                    } else if let Ok(node) = tree.source().load(&child.at) {
                        let below = self.new_node(child.at.digest);
                        self.nodes[id as usize].below.push(below);
                        stack.push((below, self.leads(&node)));
                    }
                }
            }
        }
        root
    }

    fn new_node(&mut self, digest: Digest) -> u32 {
        let id = self.nodes.len() as u32;
        self.nodes.push(GraphNode::default());
        self.ids.insert(digest, id);
        id
    }

    fn hit_id(&mut self, digest: &Digest) -> u32 {
        let next = self.found.len() as u32;
        let id = *self.hit_ids.entry(*digest).or_insert(next);
        if id == next {
            self.found.push(Occurrences::default());
        }
        id
    }

    /// What a node leads to, with what is inlined in it.
    fn leads(&self, node: &Arc<Node>) -> Vec<Lead> {
        let mut out = Vec::new();
        let mut inlined = vec![node.clone()];
        while let Some(node) = inlined.pop() {
            for i in 0..node.len() {
                let child = match self.entry(&node, i) {
                    Some(EntryLead::File(digest)) => {
                        out.push(Lead::Hit(digest));
                        continue;
                    }
                    Some(EntryLead::Inlined(below)) => {
                        inlined.push(below);
                        continue;
                    }
                    Some(EntryLead::Stored(child)) => child,
                    None => continue,
                };
                if (self.wanted)(&child.at.digest) {
                    out.push(Lead::Hit(child.at.digest));
                }
                if self.census.is_marked(&child.at.digest) {
                    out.push(Lead::Below(child));
                }
            }
        }
        out
    }

    fn entry(&self, node: &Node, i: usize) -> Option<EntryLead> {
        if !node.is_leaf() {
            return Some(EntryLead::Stored(node.child(i)));
        }
        match node.entry(i) {
            Entry::File { digest, .. } if (self.wanted)(&digest) => Some(EntryLead::File(digest)),
            Entry::Directory(Subtree(DirAt::Inline(below))) => Some(EntryLead::Inlined(below)),
            Entry::Directory(Subtree(DirAt::Stored(child))) => Some(EntryLead::Stored(child)),
            _ => None,
        }
    }

    /// Computes how often each wanted digest occurs: from the roots down, each node times the paths that lead to it.
    fn count(&mut self, roots: &[Option<Digest>]) {
        for root in roots.iter().flatten() {
            if (self.wanted)(root) {
                let hit = self.hit_id(root);
                self.found[hit as usize].count += 1;
            }
            self.nodes[self.ids[root] as usize].paths += 1;
        }
        for id in self.order.iter().rev() {
            let node = std::mem::take(&mut self.nodes[*id as usize]);
            for below in &node.below {
                let below = &mut self.nodes[*below as usize].paths;
                *below = below.saturating_add(node.paths);
            }
            for hit in &node.hits {
                let count = &mut self.found[*hit as usize].count;
                *count = count.saturating_add(node.paths);
            }
            self.nodes[*id as usize] = node;
        }
    }

    fn hit(&mut self, digest: &Digest, tree: usize, path: &RelPath) {
        let Some(id) = self.hit_ids.get(digest) else { return };
        let found = &mut self.found[*id as usize];
        if (found.first.len() as u64) < self.limit {
            found.first.push((tree, path.clone()));
        }
    }

    /// Whether another visit of a node can find a path that is not listed.
    fn is_needed(&self, digest: &Digest) -> bool {
        let Some(id) = self.ids.get(digest) else { return false };
        let wants_visit = |node: &GraphNode| node.visits < node.paths.min(self.limit);
        let wants_path = |found: &Occurrences| (found.first.len() as u64) < found.count.min(self.limit);
        let node = &self.nodes[*id as usize];
        wants_visit(node)
            && (node.hits.iter().any(|hit| wants_path(&self.found[*hit as usize]))
                || node.below.iter().any(|below| wants_visit(&self.nodes[*below as usize])))
    }

    fn enter(&mut self, digest: &Digest) {
        if let Some(id) = self.ids.get(digest) {
            self.nodes[*id as usize].visits += 1;
        }
    }

    /// Lists paths of one manifest.
    fn walk(&mut self, number: usize, tree: &Tree) {
        self.enter(&tree.digest());
        let mut stack = vec![Step { path: RelPath::root(), node: tree.root().clone(), next: 0 }];
        while let Some(step) = stack.last_mut() {
            let i = step.next;
            if i == step.node.len() {
                stack.pop();
                continue;
            }
            step.next += 1;
            let Some(lead) = self.entry(&step.node, i) else { continue };
            let path = if step.node.is_leaf() { step.path.join(step.node.name(i)) } else { Ok(step.path.clone()) };
            let Ok(path) = path else { continue };
            match lead {
                EntryLead::File(digest) => self.hit(&digest, number, &path),
                EntryLead::Inlined(below) => stack.push(Step { path, node: below, next: 0 }),
                EntryLead::Stored(child) => {
                    let digest = child.at.digest;
                    if (self.wanted)(&digest) {
                        self.hit(&digest, number, &path);
                    }
                    if self.is_needed(&digest)
                        && let Ok(node) = tree.source().load(&child.at)
                    {
                        self.enter(&digest);
                        stack.push(Step { path, node, next: 0 });
                    }
                }
            }
        }
    }
}

/// An entry that may lead to something wanted.
enum EntryLead {
    File(Digest),
    Inlined(Arc<Node>),
    Stored(ChildRef),
}
