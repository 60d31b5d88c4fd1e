//! From the stored tree to the manifest: one pass in path order.

use super::tree::{Body, FileBody, SourceTree};
use crate::error::{Error, Result};
use crate::manifest::{Builder, Entry, NodeSink, RootNode};

/// Builds the manifest of a settled, stored tree.
///
/// # Errors
/// Usage: an entry that a version cannot hold. Those of the sink.
pub fn build(tree: &SourceTree, sink: &mut dyn NodeSink) -> Result<RootNode> {
    let mut builder = Builder::new(sink);
    visit(tree, 0, &mut builder)?;
    builder.finish()
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
