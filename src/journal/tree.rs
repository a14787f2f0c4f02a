//! The checksum tree: every metadata block is verified against its parent, up to the superblock (rule 12).
//!
//! Blocks at rest are never overwritten while they are referenced: a new version goes to the other slot, and the new
//! reference travels up to the superblock, whose replacement makes the whole checkpoint valid at once (rules 10, 11).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::device::Port;
use crate::error::{Error, Result, Structure};
use crate::format::{BLOCK_REFERENCE_BYTES, BlockReference, Layout, LeafAddress, StoreId, block_checksum};

/// A block's place: level 0 are the metadata blocks, the highest level has one block, the root.
type Node = (usize, u64);

/// Which structure a metadata block holds.
#[must_use]
pub fn structure_of(layout: &Layout, leaf: LeafAddress) -> Structure {
    let segments_from = 1 + layout.table_blocks();
    if leaf == layout.state_leaf() {
        Structure::AllocatorState
    } else if leaf.0 < segments_from {
        Structure::SegmentRecord
    } else if (leaf.0 - segments_from) % (layout.bitmap_blocks() + layout.header_blocks())
        < layout.bitmap_blocks()
    {
        Structure::Bitmap
    } else {
        Structure::PageHeader
    }
}

/// The tree as of the last checkpoint, loaded as needed.
#[derive(Debug)]
pub struct ChecksumTree {
    layout: Arc<Layout>,
    store: StoreId,
    root: BlockReference,
    generation: u64,
    interior: HashMap<Node, Vec<u8>>,
}

/// A new version of the tree that nothing refers to yet.
#[derive(Debug)]
pub(super) struct StagedTree {
    pub(super) root: BlockReference,
    pub(super) generation: u64,
    interior: BTreeMap<Node, Vec<u8>>,
    /// Where the new version of each leaf goes, in the order given.
    pub(super) leaf_offsets: Vec<u64>,
    /// Offset and content of the new versions of interior blocks.
    pub(super) interior_offsets: Vec<(u64, Node)>,
}

impl StagedTree {
    /// The content of an interior block to be written.
    pub(super) fn block(&self, node: Node) -> &[u8] {
        self.interior.get(&node).map_or(&[], Vec::as_slice)
    }
}

fn child_range(layout: &Layout, index: u64) -> std::ops::Range<usize> {
    let start = usize::try_from(index % layout.fan_out()).unwrap_or(0) * BLOCK_REFERENCE_BYTES;
    start..start + BLOCK_REFERENCE_BYTES
}

impl ChecksumTree {
    /// The tree that a superblock refers to.
    #[must_use]
    pub fn new(layout: Arc<Layout>, store: StoreId, root: BlockReference, generation: u64) -> Self {
        Self { layout, store, root, generation, interior: HashMap::new() }
    }

    fn top(&self) -> usize {
        self.layout.interior().len()
    }

    /// The reference to a block, from its parent. Depth is bounded by the height of the tree.
    fn reference(&mut self, port: &Port, (level, index): Node) -> Result<BlockReference> {
        if level >= self.top() {
            return Ok(self.root);
        }
        let parent = (level + 1, index / self.layout.fan_out());
        self.load_interior(port, parent)?;
        let range = child_range(&self.layout, index);
        self.interior
            .get(&parent)
            .and_then(|block| block.get(range))
            .and_then(|bytes| bytes.first_chunk())
            .and_then(BlockReference::decode)
            .ok_or_else(|| {
                let offset = self.layout.slot(parent.0, parent.1, 0).offset;
                Error::corrupt(Structure::ChecksumTree, offset, "malformed reference")
            })
    }

    fn load_interior(&mut self, port: &Port, node: Node) -> Result<()> {
        if !self.interior.contains_key(&node) {
            let reference = self.reference(port, node)?;
            let block = self.read_block(port, node, reference, Structure::ChecksumTree)?;
            self.interior.insert(node, block);
        }
        Ok(())
    }

    fn read_block(
        &self,
        port: &Port,
        (level, index): Node,
        reference: BlockReference,
        structure: Structure,
    ) -> Result<Vec<u8>> {
        let mut block = vec![0; self.layout.block_bytes() as usize];
        if reference.is_present() {
            let offset = self.layout.slot(level, index, reference.slot()).offset;
            port.read(offset, &mut block)?;
            if block_checksum(&self.store, offset, reference.tag(), &block) != reference.checksum {
                return Err(Error::corrupt(structure, offset, "checksum mismatch"));
            }
        }
        Ok(block)
    }

    /// Reads and verifies a metadata block as of the last checkpoint. One that was never written is all zeros.
    pub fn read_leaf(&mut self, port: &Port, leaf: LeafAddress) -> Result<Vec<u8>> {
        let node = (0, leaf.0);
        let reference = self.reference(port, node)?;
        self.read_block(port, node, reference, structure_of(&self.layout, leaf))
    }

    /// Whether a metadata block was ever written.
    pub fn is_present(&mut self, port: &Port, leaf: LeafAddress) -> Result<bool> {
        Ok(self.reference(port, (0, leaf.0))?.is_present())
    }

    /// Where the last checkpoint put a metadata block; `None` when it was never written.
    pub fn leaf_offset(&mut self, port: &Port, leaf: LeafAddress) -> Result<Option<u64>> {
        let reference = self.reference(port, (0, leaf.0))?;
        Ok(reference.is_present().then(|| self.layout.slot(0, leaf.0, reference.slot()).offset))
    }

    /// The slots, not referred to, of some metadata blocks and of the blocks of the tree above them: ranges of the
    /// device, neighbours joined. What the next versions of these blocks need.
    pub(super) fn unused_slots(&mut self, port: &Port, leaves: Range<u64>) -> Result<Vec<Range<u64>>> {
        let block_bytes = u64::from(self.layout.block_bytes());
        let mut slots: Vec<Range<u64>> = Vec::new();
        let (mut first, mut last) = (leaves.start, leaves.end.saturating_sub(1).max(leaves.start));
        for level in 0..=self.top() {
            for index in first..=last {
                let reference = self.reference(port, (level, index))?;
                let unused: &[u8] = match reference.is_present() {
                    true if reference.slot() == 0 => &[1],
                    true => &[0],
                    false => &[0, 1],
                };
                for slot in unused {
                    let start = self.layout.slot(level, index, *slot).offset;
                    match slots.last_mut().filter(|before| before.end == start) {
                        Some(before) => before.end += block_bytes,
                        None => slots.push(start..start + block_bytes),
                    }
                }
            }
            first /= self.layout.fan_out();
            last /= self.layout.fan_out();
        }
        Ok(slots)
    }

    /// Computes the next version of the tree for new contents of some leaves. Nothing is written, and this version
    /// stays in force until [`install`](Self::install).
    pub(super) fn stage(
        &mut self,
        port: &Port,
        leaves: &[(LeafAddress, Arc<Vec<u8>>)],
    ) -> Result<StagedTree> {
        let generation = self.generation + 1;
        let mut staged = StagedTree {
            root: self.root,
            generation,
            interior: BTreeMap::new(),
            leaf_offsets: Vec::with_capacity(leaves.len()),
            interior_offsets: Vec::new(),
        };
        for (leaf, content) in leaves {
            let offset = self.stage_reference(port, &mut staged, (0, leaf.0), content)?;
            staged.leaf_offsets.push(offset);
        }
        for level in 1..=self.top() {
            let nodes: Vec<Node> =
                staged.interior.range((level, 0)..(level + 1, 0)).map(|(node, _)| *node).collect();
            for node in nodes {
                let content = staged.block(node).to_vec();
                let offset = self.stage_reference(port, &mut staged, node, &content)?;
                staged.interior_offsets.push((offset, node));
            }
        }
        Ok(staged)
    }

    /// Puts the reference to a block's new content into its staged parent; returns where the content goes.
    fn stage_reference(
        &mut self,
        port: &Port,
        staged: &mut StagedTree,
        node: Node,
        content: &[u8],
    ) -> Result<u64> {
        let (level, index) = node;
        let slot = self.reference(port, node)?.unused_slot();
        let offset = self.layout.slot(level, index, slot).offset;
        let tag = BlockReference::tag_for(slot, staged.generation);
        let reference = BlockReference::new(block_checksum(&self.store, offset, tag, content), tag);
        if level >= self.top() {
            staged.root = reference;
            return Ok(offset);
        }
        let parent = (level + 1, index / self.layout.fan_out());
        self.load_interior(port, parent)?;
        let current = self.interior.get(&parent);
        let block = staged.interior.entry(parent).or_insert_with(|| current.cloned().unwrap_or_default());
        let target = block.get_mut(child_range(&self.layout, index));
        target.ok_or(Error::Internal("a tree block is short"))?.copy_from_slice(&reference.encode());
        Ok(offset)
    }

    /// Makes a staged version the one in force, after the superblock that refers to it is durable.
    pub(super) fn install(&mut self, staged: StagedTree) {
        self.root = staged.root;
        self.generation = staged.generation;
        self.interior.extend(staged.interior);
    }
}
