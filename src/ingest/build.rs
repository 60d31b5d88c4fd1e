//! From the stored tree to the manifest: one pass in path order.

use super::stored::StoredTree;
use super::tree::{Body, FileBody, SourceTree};
use crate::error::{Error, Result};
use crate::manifest::{Builder, Entry, NodeSink, RootNode};
use crate::types::RelPath;

/// All that is in a version, stored.
#[derive(Debug)]
pub enum Sources {
    /// Put together entry by entry, and settled.
    Tree(SourceTree),
    /// One directory.
    Directory(StoredTree),
}

impl Sources {
    /// Builds the manifest.
    ///
    /// # Errors
    /// Usage: an entry that a version cannot hold. I/O; those of the sink.
    pub fn build(&self, sink: &mut dyn NodeSink) -> Result<RootNode> {
        match self {
            Sources::Directory(stored) => stored.build(sink),
            Sources::Tree(tree) => {
                let mut builder = Builder::new(sink);
                visit(tree, 0, &mut builder)?;
                builder.finish()
            }
        }
    }

    /// All of it in memory.
    ///
    /// # Errors
    /// I/O.
    pub fn into_tree(self) -> Result<SourceTree> {
        match self {
            Sources::Tree(tree) => Ok(tree),
            Sources::Directory(stored) => {
                let mut tree = SourceTree::default();
                tree.graft(&RelPath::root(), &stored)?;
                Ok(tree)
            }
        }
    }
}

fn visit(tree: &SourceTree, dir: u32, builder: &mut Builder<'_>) -> Result<()> {
    for item in &tree.dirs[dir as usize].items {
        let entry = match &item.body {
            Body::Directory(child) => {
                builder.enter(&item.name)?;
                visit(tree, *child, builder)?;
                builder.leave()?;
                continue;
            }
            Body::File { exec, body: FileBody::Stored(s) } => {
                Entry::File { digest: s.digest, size: s.size, exec: *exec, place: s.place }
            }
            Body::File { .. } => return Err(Error::usage("a file was not stored before its manifest was built")),
            Body::Symlink(target) => Entry::Symlink { target: target.to_vec() },
            Body::Reference(reference) => Entry::Reference(reference.clone()),
        };
        builder.entry(&item.name, entry)?;
    }
    Ok(())
}
