//! Which packs of nodes a version made by a patch keeps from its base (FORMAT.md, "Patches").
//!
//! A patch adds a pack. If the list would be too long, the youngest packs become one: their nodes that
//! are still in the version are stored again, in the patch's own pack. Every node in a patch's pack names only nodes in
//! it and in packs before it in the list, so what stays is always the older part of the list. Which part, sizes decide:
//! an old pack stays when it is at least as large as all younger ones together. So a node is stored again O(log n)
//! times in a chain of n patches, and what is listed stays within about twice what is needed.
//!
//! So now and then a patch of one file writes more than its own few nodes: with at most P packs in a list, and N bytes
//! of nodes that patches have replaced, one of the packs has N/P or more, and the patch that made it wrote them. No
//! rule can do better; this one writes O(log n) times the mean.

use crate::catalog::manifest_file::{MAX_PACKS, ManifestFile};
use crate::disk;
use crate::error::Result;
use crate::objects::{NodePacks, ObjectWriter};
use crate::store::Store;
use crate::types::Digest;

/// What is kept of the packs of `base` when `new` packs will be added.
pub(in crate::commit) fn kept(
    store: &Store,
    writer: &ObjectWriter,
    base: &ManifestFile,
    new: usize,
) -> Result<NodePacks> {
    let (NodePacks { names: packs, chained }, sizes) = in_place(store, writer, base, new)?;
    if packs.len() + new <= MAX_PACKS {
        return Ok(NodePacks { names: packs, chained });
    }
    let block = packs.len() - chained;
    if block + new > MAX_PACKS {
        return Ok(NodePacks::default()); // a put's packs name each other in any order: all are kept, or none
    }
    let mut keep = chained;
    let mut younger = 0;
    while keep > 0 {
        let size = sizes[block + keep - 1];
        if block + keep + new <= MAX_PACKS && size >= younger {
            break;
        }
        younger += size;
        keep -= 1;
    }
    if keep == 0 && sizes[..block].iter().sum::<u64>() < younger {
        // Patches have written as much as the put had: store all nodes again together.
        return Ok(NodePacks::default());
    }
    Ok(NodePacks { names: packs[..block + keep].to_vec(), chained: keep })
}

/// The packs of `base` with their sizes. A garbage collector may have rewritten some: then those that have the nodes
/// now take their place, as far as there is room.
fn in_place(store: &Store, writer: &ObjectWriter, base: &ManifestFile, new: usize) -> Result<(NodePacks, Vec<u64>)> {
    let size = |pack: &Digest| Ok(disk::lstat(&store.layout().pack(pack))?.map(|meta| meta.len()));
    let (mut names, mut sizes, mut chained) = (Vec::new(), Vec::new(), base.chained());
    for (i, pack) in base.packs().iter().enumerate() {
        match size(pack)? {
            Some(size) => {
                names.push(*pack);
                sizes.push(size);
            }
            None => chained -= usize::from(i >= base.packs().len() - base.chained()),
        }
    }
    if names.len() < base.packs().len() {
        let room = MAX_PACKS.saturating_sub(names.len() + new);
        let rewritten = writer.packs_of_nodes(&base.root().children())?;
        for pack in rewritten.into_iter().filter(|pack| !base.packs().contains(pack)).take(room) {
            names.insert(0, pack);
            sizes.insert(0, size(&pack)?.unwrap_or(0));
        }
    }
    Ok((NodePacks { names, chained }, sizes))
}
