//! Reading metadata blocks through the checksum tree, verified from the superblock down.
//!
//! Only the path to the block at hand is kept in memory, so that walking over a large store takes a few blocks.

use std::sync::Arc;

use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{BLOCK_REFERENCE_BYTES, BlockReference, Layout, StoreId, Superblock, block_checksum};
use crate::journal::structure_of;

/// A cached block of the path: its number at its level, and its content or what is wrong with it.
type Cached = Option<(u64, Result<Vec<u8>>)>;

#[derive(Debug)]
pub(super) struct TreeReader {
    layout: Arc<Layout>,
    store: StoreId,
    root: BlockReference,
    /// The block last looked at on each level above the leaves.
    path: Vec<Cached>,
}

/// Whether a metadata block was ever written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It was.
    Present,
    /// It was not, nor any up to this one, which is excluded.
    AbsentUntil(u64),
}

impl TreeReader {
    pub(super) fn new(layout: Arc<Layout>, superblock: &Superblock) -> Self {
        let path = vec![None; layout.interior().len()];
        Self { store: superblock.store_id, root: superblock.root, path, layout }
    }

    fn top(&self) -> usize {
        self.layout.interior().len()
    }

    /// The reference to a block, from its parent. Depth is bounded by the height of the tree.
    fn reference(&mut self, port: &Port, level: usize, index: u64) -> Result<BlockReference> {
        if level >= self.top() {
            return Ok(self.root);
        }
        let parent = index / self.layout.fan_out();
        if self.path.get(level).and_then(Option::as_ref).is_none_or(|(cached, _)| *cached != parent) {
            let loaded = self.load(port, level + 1, parent);
            if let Some(place) = self.path.get_mut(level) {
                *place = Some((parent, loaded));
            }
        }
        let Some(Some((_, block))) = self.path.get(level) else {
            return Err(Error::Internal("the checksum tree is higher than its layout"));
        };
        let block = block.as_ref().map_err(Clone::clone)?;
        let start = usize::try_from(index % self.layout.fan_out()).unwrap_or(0) * BLOCK_REFERENCE_BYTES;
        let bytes = block.get(start..).and_then(|rest| rest.first_chunk());
        bytes.and_then(BlockReference::decode).ok_or_else(|| {
            let offset = self.layout.slot(level + 1, parent, 0).offset + start as u64;
            Error::corrupt(Structure::ChecksumTree, offset, "malformed reference")
        })
    }

    fn load(&mut self, port: &Port, level: usize, index: u64) -> Result<Vec<u8>> {
        let reference = self.reference(port, level, index)?;
        let block = self.read(port, (level, index), reference, Structure::ChecksumTree)?;
        Ok(block.unwrap_or_else(|| vec![0; self.layout.block_bytes() as usize]))
    }

    fn read(
        &self,
        port: &Port,
        (level, index): (usize, u64),
        reference: BlockReference,
        structure: Structure,
    ) -> Result<Option<Vec<u8>>> {
        if !reference.is_present() {
            return Ok(None);
        }
        let offset = self.layout.slot(level, index, reference.slot()).offset;
        let block = port.read_vec(offset, self.layout.block_bytes() as usize)?;
        if block_checksum(&self.store, offset, reference.tag(), &block) == reference.checksum {
            Ok(Some(block))
        } else {
            Err(Error::corrupt(structure, offset, "checksum mismatch"))
        }
    }

    /// Reads a metadata block as of the last checkpoint, and says where it lies. `None` when it was never written: it
    /// is zeros then, by definition.
    pub(super) fn leaf(&mut self, port: &Port, leaf: u64) -> Result<(Option<Vec<u8>>, u64)> {
        let reference = self.reference(port, 0, leaf)?;
        let structure = structure_of(&self.layout, crate::format::LeafAddress(leaf));
        let slot = if reference.is_present() { reference.slot() } else { 0 };
        let offset = self.layout.slot(0, leaf, slot).offset;
        Ok((self.read(port, (0, leaf), reference, structure)?, offset))
    }

    /// Whether a block was ever written; when not, how far the gap is known to go.
    pub(super) fn presence(&mut self, port: &Port, leaf: u64) -> Result<Presence> {
        for level in (0..=self.top()).rev() {
            let span = self.span(level);
            if !self.reference(port, level, leaf / span)?.is_present() {
                return Ok(Presence::AbsentUntil((leaf / span + 1).saturating_mul(span)));
            }
        }
        Ok(Presence::Present)
    }

    /// The first metadata block behind the damaged block of the tree that hides `leaf`.
    pub(super) fn behind_damage(&mut self, port: &Port, leaf: u64) -> u64 {
        for level in (0..self.top()).rev() {
            if self.reference(port, level, leaf / self.span(level)).is_err() {
                let span = self.span(level + 1);
                return (leaf / span + 1).saturating_mul(span);
            }
        }
        leaf + 1
    }

    /// Metadata blocks under one block of a level.
    fn span(&self, level: usize) -> u64 {
        (0..level).fold(1, |span: u64, _| span.saturating_mul(self.layout.fan_out()))
    }

    /// References of the tree that lead to blocks that do not exist must not be there. Looks at the last block of each
    /// level, the only one with room for them.
    pub(super) fn check_ends(
        &mut self,
        port: &Port,
        mut found: impl FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        for level in 0..self.top() {
            let blocks = match level.checked_sub(1) {
                None => self.layout.leaf_count(),
                Some(above) => self.layout.interior().get(above).map_or(0, |level| level.blocks),
            };
            for index in blocks..blocks.next_multiple_of(self.layout.fan_out()) {
                match self.reference(port, level, index) {
                    Ok(reference) if !reference.is_present() => {}
                    Ok(_) => {
                        let parent = index / self.layout.fan_out();
                        let offset = self.layout.slot(level + 1, parent, 0).offset;
                        let reason = format!("refers to block {index}, of {blocks} on level {level}");
                        found(Error::corrupt(Structure::ChecksumTree, offset, reason))?;
                        break;
                    }
                    Err(error) => {
                        found(error)?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
