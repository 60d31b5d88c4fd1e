//! The model: a map from paths to entries, and how tests make, build and grind them.

use super::*;
use crate::manifest::cut::key_hash;
use crate::words::{Digest, RelPath};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Paths in walk order, as the key of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key(pub RelPath);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        path_order(&self.0, &other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A version as a map. Directories are entries; those that hold something need not be listed.
pub type Model = BTreeMap<Key, Entry>;

pub fn path(text: impl AsRef<[u8]>) -> RelPath {
    RelPath::parse(text.as_ref()).unwrap()
}

pub fn file(n: u64) -> Entry {
    Entry::File { digest: Digest::of(&n.to_le_bytes()), size: n % 10_000, exec: n % 7 == 0, place: None }
}

/// A model of these paths, with every parent directory as an entry.
pub fn model(entries: impl IntoIterator<Item = (RelPath, Entry)>) -> Model {
    let mut out = Model::new();
    for (path, entry) in entries {
        let mut parent = path.parent();
        while let Some(p) = parent.filter(|p| !p.is_root()) {
            out.entry(Key(p.clone())).or_insert_with(|| Entry::Directory(Dir::empty()));
            parent = p.parent();
        }
        out.insert(Key(path), entry);
    }
    out
}

/// Builds the model from scratch.
pub fn build(model: &Model, nodes: &MemoryNodes) -> Root {
    let mut sink = nodes.clone();
    let mut b = Builder::new(&mut sink);
    for (Key(path), entry) in model {
        if entry.is_directory() {
            b.add_directory(path).unwrap();
        } else {
            b.add(path, entry.clone()).unwrap();
        }
    }
    b.finish().unwrap()
}

pub fn tree(root: &Root, nodes: &MemoryNodes) -> Tree {
    Tree::of(root, Arc::new(nodes.clone()))
}

pub fn build_tree(model: &Model, nodes: &MemoryNodes) -> Tree {
    tree(&build(model, nodes), nodes)
}

/// Reads a tree back into a model.
pub fn unbuild(tree: &Tree) -> Model {
    let entry = |e| if let Entry::Directory(_) = e { Entry::Directory(Dir::empty()) } else { e };
    tree.walk().map(|v| v.unwrap()).map(|v| (Key(v.path), entry(v.entry))).collect()
}

pub fn same(a: &Model, b: &Model) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((p, x), (q, y))| p == q && (x.same(y) || x.is_directory() && y.is_directory()))
}

/// Names whose hashes at the leaf level rise with their order: no run ever begins.
pub fn monotone_names(count: usize) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let step = u64::MAX / (count as u64 + 1);
    for i in 0..count as u64 {
        let wanted = i * step..(i + 1) * step;
        let name = (0u64..).map(|n| format!("{i:08}-{n:x}").into_bytes()).find(|name| wanted.contains(&key_hash(0, name))).unwrap();
        out.push(name);
    }
    out
}

/// Names in order whose hashes are all tiny or all large in turn, so that runs are as short as they can be.
pub fn dense_names(count: usize) -> Vec<Vec<u8>> {
    let reach = crate::manifest::cut::LEAF_REACH + 1;
    (0..count)
        .map(|i| {
            let low = i % reach == 0;
            let good = |h: u64| if low { h < u64::MAX / 4096 } else { h >= u64::MAX / 2048 };
            (0u64..).map(|n| format!("{i:08}-{n:x}").into_bytes()).find(|name| good(key_hash(0, name))).unwrap()
        })
        .collect()
}
