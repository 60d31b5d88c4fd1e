//! Which packs of nodes a version made by a patch keeps from its base (FORMAT.md, "Patches").
//!
//! A patch adds a pack. If the list would be too long, the youngest packs become one: their nodes that are still in the
//! version are stored again, in the patch's own pack. Every node in a patch's pack names only nodes in it and in packs
//! before it in the list, so what stays is always the older part of the list. Which part, sizes decide: to join k packs
//! costs the bytes of these packs, and gives k patches room. The k is taken whose cost divided by its square is least.
//! That joins more packs than the least cost for each patch, and leads to fewer joins of joined packs. In a chain of
//! 300 equal patches of which none replaces what another stored, a node is stored 2.7 times; the least is 2.64.
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
    let (of_put, of_patches) = sizes.split_at(block);
    let keep = patches_kept(of_patches, MAX_PACKS - block - new);
    let (put, patches) = (of_put.iter().sum::<u64>(), of_patches.iter().sum::<u64>());
    if patches > 2 * put || keep == 0 && patches > put {
        // Patches have written as much as the put had: store all nodes again together.
        return Ok(NodePacks::default());
    }
    Ok(NodePacks { names: packs[..block + keep].to_vec(), chained: keep })
}

/// How many of the packs of patches are kept, of which at most `most` can be. The others, the youngest, are joined.
fn patches_kept(sizes: &[u64], most: usize) -> usize {
    let mut best: Option<(u128, u128, usize)> = None;
    let mut cost: u128 = 0;
    for (joined, size) in (1u128..).zip(sizes.iter().rev()) {
        cost += u128::from(*size);
        let kept = sizes.len() - joined as usize;
        // cost / joined² is compared without division.
        let is_best = best.is_none_or(|(c, j, _)| cost * j * j <= c * joined * joined);
        if kept <= most && is_best {
            best = Some((cost, joined, kept));
        }
    }
    best.map_or(0, |(_, _, kept)| kept)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The packs of a chain of patches that all store as much and replace nothing, and the mean of what they stored.
    fn chain(patches: usize, most: usize) -> (Vec<u64>, f64) {
        let (mut sizes, mut stored): (Vec<u64>, u64) = (Vec::new(), 0);
        for _ in 0..patches {
            let keep = if sizes.len() < most { sizes.len() } else { patches_kept(&sizes, most - 1) };
            let own = 1 + sizes.drain(keep..).sum::<u64>();
            sizes.push(own);
            stored += own;
            assert!(sizes.len() <= most);
        }
        (sizes, stored as f64 / patches as f64)
    }

    #[test]
    fn a_node_is_stored_again_a_few_times_in_a_long_chain() {
        assert_eq!(chain(15, 15).1, 1.0);
        for (patches, most) in [(100, 2.1), (300, 2.8), (3_000, 4.3)] {
            let (sizes, mean) = chain(patches, 15);
            assert_eq!(sizes.iter().sum::<u64>(), patches as u64);
            assert!(mean < most, "{patches}: {mean}");
        }
    }
}
