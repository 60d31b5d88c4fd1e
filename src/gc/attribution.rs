//! Why content is garbage: which removed versions named it. For the report only.

use super::batch::Item;
use super::marks::Digests;
use super::report::GcReport;
use super::roots::{Marker, Removals};
use super::survey::PackUse;
use crate::catalog::Version;
use crate::error::Result;
use crate::manifest::{Node, Tree};
use crate::objects::{BlobKind, PackBlobs, StoredFile};
use crate::prefixes::Prefixes;
use crate::progress::Progress;
use crate::store::Store;
use crate::types::{ArtifactName, Digest};
use std::sync::Arc;

/// What leaves its place and is needed by nothing.
#[derive(Default)]
pub(super) struct Garbage {
    content: Prefixes,
    nodes: Digests,
    /// Each content is counted once.
    counted: Vec<u64>,
}

impl Garbage {
    pub(super) fn add_objects(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Object(digest) = item {
                self.content.insert(digest);
            }
        }
    }

    /// Adds what nothing needs in packs that go.
    pub(super) fn add_packs<'a>(
        &mut self,
        store: &Store,
        Marker { marks, recipes, .. }: &Marker<'_>,
        packs: impl Iterator<Item = &'a PackUse>,
    ) -> Result<()> {
        for pack in packs {
            let read = match recipes.blobs_of(&pack.name) {
                Some(_) => Vec::new(),
                None => read_blobs(store, pack)?,
            };
            let blobs = recipes.blobs_of(&pack.name).unwrap_or(&read);
            for (digest, kind, _) in blobs.iter().filter(|(digest, kind, _)| !marks.needs(digest, *kind)) {
                match kind {
                    BlobKind::Content => self.content.insert(digest),
                    BlobKind::Recipe => {} // its content takes no space of its own
                    BlobKind::Node => drop(self.nodes.insert(*digest)),
                }
            }
        }
        Ok(())
    }

    /// Adds to the report what each artifact's removed versions named of it. Reads only nodes that are among it, so
    /// that what was freed long ago is not searched.
    ///
    /// # Errors
    /// A conflict, if it was cancelled. A version or node that cannot be read is skipped.
    pub(super) fn attribute(
        mut self,
        store: &Store,
        removals: &Removals,
        report: &mut GcReport,
        progress: &Progress,
    ) -> Result<()> {
        self.content.settle();
        self.counted = vec![0; self.content.len().div_ceil(64)];
        for (name, number) in removals.all() {
            if self.nodes.is_empty() {
                break; // no removed version leads to any of it
            }
            progress.check_cancelled()?;
            let version = Version::read(store, name, number);
            let Some(tree) = version.ok().flatten().and_then(|version| version.tree().ok()) else { continue };
            if self.nodes.remove(&tree.digest()) {
                self.walk(&tree, tree.root(), name, report);
            }
        }
        Ok(())
    }

    /// No deeper than a manifest nests.
    fn walk(&mut self, tree: &Tree, node: &Arc<Node>, name: &ArtifactName, report: &mut GcReport) {
        for (digest, size, _) in node.blobs() {
            self.count(&digest, size, name, report);
        }
        for below in node.children() {
            if self.nodes.remove(&below.digest)
                && let Ok(below) = tree.source().load(&below)
            {
                self.walk(tree, &below, name, report);
            }
        }
    }

    fn count(&mut self, digest: &Digest, size: u64, name: &ArtifactName, report: &mut GcReport) {
        let Some(at) = self.content.position(digest) else { return };
        if self.counted[at / 64] >> (at % 64) & 1 == 0 {
            self.counted[at / 64] |= 1 << (at % 64);
            report.removed.entry(name.clone()).or_default().add(size);
        }
    }
}

fn read_blobs(store: &Store, pack: &PackUse) -> Result<PackBlobs> {
    let file = StoredFile { path: store.layout().pack(&pack.name), name: Some(pack.name), size: pack.size };
    Ok(store.objects().list_pack(&file, &mut Vec::new())?.blobs)
}
