//! A version's `manifest` file: its root node, and the packs that hold the other nodes. Opening a version reads only
//! this (L4).

use crate::disk;
use crate::error::{Error, Result, show_path};
use crate::manifest::{Node, RootNode};
use crate::objects::{NodePacks, Objects};
use crate::types::Digest;
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"cairnmf1";
/// The most packs that may hold a version's nodes.
pub const MAX_PACKS: usize = 16;
/// The longest manifest file, in bytes.
const MAX_LEN: u64 = 16 << 20;

/// A version's manifest file, checked.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    root: Arc<Node>,
    packs: Vec<Digest>,
    chained: usize,
    hints_whole: bool,
}

impl ManifestFile {
    /// The bytes for a manifest that was built.
    ///
    /// # Errors
    /// Usage: the nodes are in too many packs, or a pack is still open.
    pub fn encode(root: &RootNode, packs: &NodePacks, objects: &Objects) -> Result<Vec<u8>> {
        if packs.names.len() > MAX_PACKS {
            return Err(Error::usage(format!(
                "the manifest would lie in {} packs: at most {MAX_PACKS}",
                packs.names.len()
            )));
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(packs.names.len() as u16).to_le_bytes());
        out.extend_from_slice(&(packs.chained as u16).to_le_bytes());
        for pack in &packs.names {
            out.extend_from_slice(&pack.0);
        }
        out.extend_from_slice(&objects.encode_node(&root.node)?);
        let sum = Digest::of(&out);
        out.extend_from_slice(&sum.0);
        Ok(out)
    }

    /// Reads and checks one.
    ///
    /// # Errors
    /// Damaged; I/O.
    pub fn read(path: &Path, objects: &Objects) -> Result<ManifestFile> {
        let bad = |why: &str| Error::damaged(format!("{}: {why}", show_path(path)));
        let bytes = disk::read_small(path, MAX_LEN)?.ok_or_else(|| bad("it is missing"))?;
        let (body, sum) =
            bytes.split_at_checked(bytes.len().saturating_sub(32)).ok_or_else(|| bad("it is too short"))?;
        if Digest::of(body).0 != sum {
            return Err(bad("it does not have the digest that it ends with"));
        }
        let rest = body.strip_prefix(MAGIC).ok_or_else(|| bad("it does not begin as a manifest"))?;
        let (n, rest) = rest.split_at_checked(4).ok_or_else(|| bad("it is too short"))?;
        let (n, chained) =
            (usize::from(u16::from_le_bytes([n[0], n[1]])), usize::from(u16::from_le_bytes([n[2], n[3]])));
        let (names, root) = Some(n)
            .filter(|n| *n <= MAX_PACKS && chained <= *n)
            .and_then(|n| rest.split_at_checked(n * 32))
            .ok_or_else(|| bad("its table of packs does not fit"))?;
        let packs = names.chunks_exact(32).map(|n| Digest(n.try_into().expect("32 bytes"))).collect();
        let (root, hints_whole) = objects.decode_node(root)?;
        root.check_root()?;
        Ok(ManifestFile { root: Arc::new(root), packs, chained, hints_whole })
    }

    /// The root node.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// The names of the packs that hold the version's nodes.
    pub fn packs(&self) -> &[Digest] {
        &self.packs
    }

    /// How many of them, the last ones, were added by patches. Each of those names nodes in itself and in packs before
    /// it only.
    pub fn chained(&self) -> usize {
        self.chained
    }

    /// Whether the root's place hints are what was written.
    pub fn hints_whole(&self) -> bool {
        self.hints_whole
    }
}
