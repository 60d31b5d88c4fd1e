//! Manifest nodes that are not stored yet: in memory while they are few, then in a temporary file without a name, so
//! that the memory of a process does not grow with the number of changes.

use super::spill::{Fields, Span, Spill};
use crate::error::{Error, Result};
use crate::locks::Mutex;
use crate::manifest::{Node, NodeRef, NodeSink, NodeSource};
use crate::types::{Digest, Location, PackRef};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What the nodes in memory take.
const IN_MEMORY: usize = if cfg!(test) { 20_000 } else { 16 << 20 };

/// New nodes, over those of a store. Clones share the nodes.
#[derive(Clone)]
pub struct NewNodes {
    nodes: Arc<Nodes>,
    below: Option<Arc<dyn NodeSource>>,
}

struct Nodes {
    spill: Spill,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    places: HashMap<Digest, Place>,
    in_memory: usize,
    bytes: u64,
}

/// Where a node is.
enum Place {
    Memory(Arc<Node>),
    File(Span),
}

impl std::fmt::Debug for NewNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewNodes").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl NewNodes {
    /// No nodes. A temporary file is made on the file system of `dir` when it is needed. Nodes that are not here come
    /// from `below`.
    pub fn new(dir: &Path, below: Option<Arc<dyn NodeSource>>) -> NewNodes {
        NewNodes { nodes: Arc::new(Nodes { spill: Spill::new(dir), known: Mutex::default() }), below }
    }

    /// Whether a node is one of these.
    pub fn has(&self, digest: &Digest) -> bool {
        self.nodes.known.lock().places.contains_key(digest)
    }

    /// The bytes of these nodes.
    pub fn bytes(&self) -> u64 {
        self.nodes.known.lock().bytes
    }
}

impl NodeSource for NewNodes {
    fn load(&self, at: &NodeRef) -> Result<Arc<Node>> {
        let span = match self.nodes.known.lock().places.get(&at.digest) {
            Some(Place::Memory(node)) => return Ok(node.clone()),
            Some(Place::File(span)) => Some(*span),
            None => None,
        };
        match (span, &self.below) {
            (Some(span), _) => Ok(Arc::new(decode(&self.nodes.spill.read(span)?)?)),
            (None, Some(below)) => below.load(at),
            (None, None) => Err(Error::damaged(format!("manifest node {} is missing", at.digest))),
        }
    }
}

impl NodeSink for NewNodes {
    fn store(&mut self, node: &Node) -> Result<Option<Location>> {
        let digest = node.digest();
        let mut known = self.nodes.known.lock();
        if known.places.contains_key(&digest) {
            return Ok(None);
        }
        let place = if known.in_memory + node.memory() <= IN_MEMORY {
            known.in_memory += node.memory();
            Place::Memory(Arc::new(node.clone()))
        } else {
            Place::File(self.nodes.spill.append(&encode(node))?)
        };
        known.bytes += node.bytes().len() as u64;
        known.places.insert(digest, place);
        Ok(None)
    }
}

/// The hashed bytes, then a flag, a pack's number and an offset for each location.
fn encode(node: &Node) -> Vec<u8> {
    let mut out = (node.bytes().len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(node.bytes());
    for place in node.places() {
        out.push(u8::from(place.is_some()));
        let Location { pack, offset } = place.unwrap_or(Location { pack: PackRef(0), offset: 0 });
        out.extend_from_slice(&pack.0.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out
}

fn decode(bytes: &[u8]) -> Result<Node> {
    let mut fields = Fields(bytes);
    let hashed = fields.text()?.to_vec();
    let mut places = Vec::new();
    while !fields.0.is_empty() {
        let (is_known, pack, offset) = (fields.u8()? != 0, PackRef(fields.u32()?), fields.u32()?);
        places.push(is_known.then_some(Location { pack, offset }));
    }
    Node::decode(hashed, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Builder, Entry, Tree};

    #[test]
    fn a_manifest_is_read_from_memory_and_from_the_file_with_the_locations_of_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = NewNodes::new(dir.path(), None);
        let mut builder = Builder::new(&mut nodes);
        let entry = |n: u32| {
            let place = (!n.is_multiple_of(3)).then_some(Location { pack: PackRef(n % 2), offset: n });
            Entry::File { digest: Digest::of(&n.to_le_bytes()), size: 1, exec: false, place }
        };
        let name = |n: u32| format!("{n:05}").into_bytes();
        for n in 0..3000 {
            builder.entry(&name(n), entry(n)).unwrap();
        }
        let root = builder.finish().unwrap();
        assert!(nodes.nodes.known.lock().in_memory <= IN_MEMORY && nodes.bytes() > 5 * IN_MEMORY as u64);
        assert!(nodes.has(&root.node.digest()));
        let tree = Tree::of(&root, Arc::new(nodes));
        let found: Vec<_> = tree.walk().map(|visit| visit.unwrap()).collect();
        assert_eq!(found.len(), 3000);
        for (n, visit) in (0..).zip(found) {
            assert_eq!(visit.path.as_bytes(), name(n));
            let (Entry::File { digest, place, .. }, Entry::File { digest: d, place: p, .. }) = (visit.entry, entry(n))
            else {
                panic!("not a file");
            };
            assert_eq!((digest, place), (d, p));
        }
    }
}
