//! The checksum tree, from the root down to the leaves.

use freehold::device::Device;

use super::bytes::{block_checksum, read};
use super::flaw::Flaw;
use super::layout::{Layout, Level};
use super::superblock::{Reference, Superblock};

/// Reads all leaves, one after the other, as the superblock's root has them.
pub(super) fn read_leaves(
    device: &dyn Device,
    superblock: &Superblock,
    layout: &Layout,
) -> Result<Vec<u8>, Flaw> {
    let root = superblock.root;
    // A number modulo 2^30 can be compared as long as it never wrapped.
    if superblock.generation < 1 << 30 && root.checkpoint() > superblock.generation {
        return Err(Flaw::superblock(superblock.at, "the root is of a later checkpoint"));
    }
    let ordered = superblock.generation < 1 << 30;
    let mut references = vec![root];
    let mut blocks = Vec::new();
    for (depth, &level) in layout.levels.iter().enumerate() {
        blocks = read_level(device, superblock, layout, level, &references)?;
        if let Some(below) = layout.levels.get(depth + 1) {
            references = children(&blocks, layout.block, &references, *below, ordered)?;
        }
    }
    Ok(blocks)
}

/// The blocks of one level; those that were never written are zero.
fn read_level(
    device: &dyn Device,
    superblock: &Superblock,
    layout: &Layout,
    level: Level,
    references: &[Reference],
) -> Result<Vec<u8>, Flaw> {
    let mut blocks = vec![0; references.len() * layout.block];
    for ((block, reference), number) in blocks.chunks_mut(layout.block).zip(references).zip(0..) {
        if reference.is_zero() {
            continue;
        }
        let offset = level.offset + (2 * number + reference.slot()) * superblock.block_bytes;
        read(device, offset, block)?;
        if block_checksum(&superblock.store_id, offset, reference.tag, &[block]) != reference.checksum {
            return Err(Flaw::Damaged { what: "metadata block", offset });
        }
    }
    Ok(blocks)
}

/// The references in the blocks of one level, one for each block of the level below.
fn children(
    blocks: &[u8],
    block: usize,
    parents: &[Reference],
    below: Level,
    ordered: bool,
) -> Result<Vec<Reference>, Flaw> {
    let flaw =
        |number: usize, what| Err(Flaw::Inconsistent { structure: "reference", number: number as u64, what });
    let mut references: Vec<Reference> =
        (0..blocks.len() / 8).map(|number| Reference::read(blocks, number * 8)).collect();
    for (number, reference) in references.iter().enumerate().filter(|(_, reference)| !reference.is_zero()) {
        let parent = parents.get(number / (block / 8)).copied().unwrap_or_default();
        if number as u64 >= below.count {
            return flaw(number, "it has no child");
        }
        if !reference.is_written() {
            return flaw(number, "it names a child that was never written");
        }
        if ordered && reference.checkpoint() > parent.checkpoint() {
            return flaw(number, "the child is newer than its parent");
        }
    }
    references.truncate(super::bytes::index(below.count));
    Ok(references)
}
