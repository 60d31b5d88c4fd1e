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
use crate::objects::NodePacks;
use crate::store::Store;

/// What is kept of the packs of `base` when `new` packs will be added.
pub(in crate::commit) fn kept(store: &Store, base: &ManifestFile, new: usize) -> Result<NodePacks> {
    let (packs, chained) = (base.packs(), base.chained());
    if packs.len() + new <= MAX_PACKS {
        return Ok(NodePacks { names: packs.to_vec(), chained });
    }
    let block = packs.len() - chained;
    if block + new > MAX_PACKS {
        return Ok(NodePacks::default()); // a put's packs name each other in any order: all are kept, or none
    }
    let mut keep = chained;
    let mut younger = 0;
    while keep > 0 {
        let size = disk::lstat(&store.layout().pack(&packs[block + keep - 1]))?.map_or(0, |m| m.len());
        if block + keep + new <= MAX_PACKS && size >= younger {
            break;
        }
        younger += size;
        keep -= 1;
    }
    if keep == 0 {
        let mut put = 0;
        for pack in &packs[..block] {
            put += disk::lstat(&store.layout().pack(pack))?.map_or(0, |m| m.len());
        }
        if put < younger {
            // Patches have written as much as the put had: store all nodes again together.
            return Ok(NodePacks::default());
        }
    }
    Ok(NodePacks { names: packs[..block + keep].to_vec(), chained: keep })
}
