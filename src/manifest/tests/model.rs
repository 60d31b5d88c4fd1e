//! The model: a map from paths to entries, and how tests make, build and grind them.

use super::*;
use crate::manifest::cut::key_hash;
use crate::types::{Digest, RelPath};
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
    Entry::File { digest: Digest::of(&n.to_le_bytes()), size: n % 10_000, exec: n.is_multiple_of(7), place: None }
}

/// A model of these paths, with every parent directory as an entry.
pub fn model(entries: impl IntoIterator<Item = (RelPath, Entry)>) -> Model {
    let mut out = Model::new();
    for (path, entry) in entries {
        let mut parent = path.parent();
        while let Some(p) = parent.filter(|p| !p.is_root()) {
            out.entry(Key(p.clone())).or_insert_with(|| Entry::Directory(Subtree::empty()));
            parent = p.parent();
        }
        out.insert(Key(path), entry);
    }
    out
}

/// Builds the model from scratch.
pub fn build(model: &Model, nodes: &MemoryNodes) -> RootNode {
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

pub fn tree(root: &RootNode, nodes: &MemoryNodes) -> Tree {
    Tree::of(root, Arc::new(nodes.clone()))
}

pub fn build_tree(model: &Model, nodes: &MemoryNodes) -> Tree {
    tree(&build(model, nodes), nodes)
}

/// Reads a tree back into a model.
pub fn unbuild(tree: &Tree) -> Model {
    let entry = |e| if let Entry::Directory(_) = e { Entry::Directory(Subtree::empty()) } else { e };
    tree.walk().map(|v| v.unwrap()).map(|v| (Key(v.path), entry(v.entry))).collect()
}

pub fn same(a: &Model, b: &Model) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((p, x), (q, y))| p == q && (x.same(y) || x.is_directory() && y.is_directory()))
}

/// Names whose hashes at the leaf level rise with their order: no run ever begins.
pub fn monotone_names(count: usize) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let step = u64::MAX / (count as u64 + 1);
    for i in 0..count as u64 {
        let wanted = i * step..(i + 1) * step;
        let name = (0u64..)
            .map(|n| format!("{i:08}-{n:x}").into_bytes())
            .find(|name| wanted.contains(&key_hash(0, name)))
            .unwrap();
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

/// A small deterministic generator: proptest gives the seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below
    }

    /// An entry that is not a directory, of any kind and sometimes heavy.
    pub fn entry(&mut self) -> Entry {
        let n = self.roll(1 << 20);
        match self.roll(20) {
            0 => Entry::Symlink { target: vec![b't'; 1 + self.roll(60) as usize] },
            1 => Entry::Symlink { target: vec![b'T'; 1 + self.roll(4000) as usize] },
            2 => Entry::Reference(Box::new(Reference {
                uri: format!("s3://bucket/{n}"),
                size: (!n.is_multiple_of(3)).then_some(n),
                etag: (!n.is_multiple_of(5)).then(|| format!("e{n}")),
                digest: (!n.is_multiple_of(2)).then(|| Digest::of(b"x")),
            })),
            _ => file(n),
        }
    }

    /// A path of one to four parts over few enough names that files and directories meet.
    pub fn path(&mut self, wide: u64) -> RelPath {
        let mut out = RelPath::root();
        for _ in 0..=self.roll(4).saturating_sub(1) {
            let name = match self.roll(12) {
                0 => vec![0xff, self.roll(255) as u8 + 1, b'\n'].into_iter().filter(|b| *b != b'/').collect(),
                1 => format!("a-{}", self.roll(3)).into_bytes(),
                2..5 => format!("d{}", self.roll(4)).into_bytes(),
                _ => format!("n{}", self.roll(wide)).into_bytes(),
            };
            out = out.join(&name).unwrap();
        }
        out
    }
}

/// Puts an entry into the model as `Action::Replace` does: parents made, what was below gone. Skips if a parent is not
/// a directory.
pub fn put(m: &mut Model, path: &RelPath, entry: Entry) -> bool {
    let mut parent = path.parent();
    let mut missing = Vec::new();
    while let Some(p) = parent.filter(|p| !p.is_root()) {
        match m.get(&Key(p.clone())) {
            Some(e) if e.is_directory() => {}
            Some(_) => return false,
            None => missing.push(p.clone()),
        }
        parent = p.parent();
    }
    remove(m, path);
    m.extend(missing.into_iter().map(|p| (Key(p), Entry::Directory(Subtree::empty()))));
    m.insert(Key(path.clone()), entry);
    true
}

/// Removes a path and all below it.
pub fn remove(m: &mut Model, path: &RelPath) -> bool {
    let mut prefix = path.as_bytes().to_vec();
    prefix.push(b'/');
    let below: Vec<Key> = m
        .range(Key(path.clone())..)
        .map(|(k, _)| k.clone())
        .take_while(|k| k.0 == *path || k.0.as_bytes().starts_with(&prefix))
        .collect();
    below.iter().for_each(|k| drop(m.remove(k)));
    !below.is_empty()
}
