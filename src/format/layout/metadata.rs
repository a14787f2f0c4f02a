//! Where the metadata lies: superblocks and witnesses, the slots of the checksum tree, and what each of its leaves holds.

use std::ops::Range;

use super::{Layout, LeafAddress, SlotAddress, TreeLevel};
use crate::format::{
    BLOCK_REFERENCE_BYTES, MAX_BLOCK_BYTES, PAGE_HEADER_BYTES, SEGMENT_RECORD_BYTES, SUPERBLOCK_COPIES,
    narrow,
};

impl Layout {
    /// Offset of a superblock copy. Copies are a block apart from each other, with a witness between them.
    #[must_use]
    pub fn superblock_offset(&self, copy: usize) -> u64 {
        Self::superblock_offset_for(self.block_bytes, copy)
    }

    /// Offset of a superblock copy when only the block size is known, or guessed.
    #[must_use]
    pub fn superblock_offset_for(block_bytes: u32, copy: usize) -> u64 {
        2 * (copy % SUPERBLOCK_COPIES) as u64 * u64::from(block_bytes)
    }

    /// Offset of a witness block.
    #[must_use]
    pub fn witness_offset(&self, copy: usize) -> u64 {
        self.superblock_offset(copy) + u64::from(self.block_bytes)
    }

    /// Metadata blocks of the store.
    #[must_use]
    pub fn leaf_count(&self) -> u64 {
        self.leaves.blocks
    }

    /// Blocks of the segment table.
    #[must_use]
    pub fn table_blocks(&self) -> u64 {
        self.table_blocks
    }

    /// Bitmap blocks of each segment.
    #[must_use]
    pub fn bitmap_blocks(&self) -> u64 {
        self.bitmap_blocks
    }

    /// Page-header blocks of each segment.
    #[must_use]
    pub fn header_blocks(&self) -> u64 {
        self.header_blocks
    }

    /// The levels of the checksum tree above the leaves, lowest first.
    #[must_use]
    pub fn interior(&self) -> &[TreeLevel] {
        &self.interior
    }

    /// References in one block of the checksum tree.
    #[must_use]
    pub fn fan_out(&self) -> u64 {
        u64::from(self.block_bytes) / BLOCK_REFERENCE_BYTES as u64
    }

    /// The slot of a block: level 0 are the leaves, level 1 is `interior()[0]` and so on.
    #[must_use]
    pub fn slot(&self, level: usize, index: u64, slot: u8) -> SlotAddress {
        let base = match level.checked_sub(1) {
            None => self.leaves.offset,
            Some(above) => self.interior.get(above).map_or(0, |level| level.offset),
        };
        SlotAddress { offset: base + (index * 2 + u64::from(slot)) * u64::from(self.block_bytes) }
    }

    /// The block that holds the allocator's state: the frontier.
    #[must_use]
    pub fn state_leaf(&self) -> LeafAddress {
        LeafAddress(0)
    }

    /// Block and offset of a segment's record.
    #[must_use]
    pub fn record_place(&self, segment: u32) -> (LeafAddress, u32) {
        let per_block = self.block_bytes / narrow(SEGMENT_RECORD_BYTES);
        (LeafAddress(1 + u64::from(segment / per_block)), segment % per_block * narrow(SEGMENT_RECORD_BYTES))
    }

    fn segment_leaves(&self, segment: u32) -> u64 {
        1 + self.table_blocks + u64::from(segment) * (self.bitmap_blocks + self.header_blocks)
    }

    /// A block of a segment's bitmap.
    #[must_use]
    pub fn bitmap_leaf(&self, segment: u32, block: u64) -> LeafAddress {
        LeafAddress(self.segment_leaves(segment) + block)
    }

    /// A block of a segment's page headers.
    #[must_use]
    pub fn header_leaf(&self, segment: u32, block: u64) -> LeafAddress {
        LeafAddress(self.segment_leaves(segment) + self.bitmap_blocks + block)
    }

    /// Pages whose bits are in one bitmap block.
    #[must_use]
    pub fn pages_per_bitmap_block(&self) -> u32 {
        self.block_bytes * 8
    }

    /// Pages whose headers are in one block.
    #[must_use]
    pub fn headers_per_block(&self) -> u32 {
        self.block_bytes / narrow(PAGE_HEADER_BYTES)
    }

    /// Block and offset of a page's header.
    #[must_use]
    pub fn header_place(&self, segment: u32, page: u32) -> (LeafAddress, u32) {
        // Powers of two: a division takes longer than all the rest.
        let per_block = self.headers_per_block();
        let block = u64::from(page >> per_block.trailing_zeros());
        (self.header_leaf(segment, block), (page & (per_block - 1)) * narrow(PAGE_HEADER_BYTES))
    }

    /// The metadata blocks of a segment: its bitmap, then its page headers.
    #[must_use]
    pub fn segment_leaf_range(&self, segment: u32) -> Range<u64> {
        let start = self.segment_leaves(segment);
        start..start + self.bitmap_blocks + self.header_blocks
    }

    /// The metadata blocks that belong to no segment: allocator state and segment table.
    #[must_use]
    pub fn common_leaf_range(&self) -> Range<u64> {
        0..1 + self.table_blocks
    }

    /// The ranges of the device that hold the slots of some metadata blocks, and of every block of the checksum tree
    /// above them.
    #[must_use]
    pub fn slots_for_leaves(&self, leaves: Range<u64>) -> Vec<Range<u64>> {
        let mut ranges = Vec::with_capacity(1 + self.interior.len());
        let (mut first, mut last) = (leaves.start, leaves.end.saturating_sub(1).max(leaves.start));
        for level in 0..=self.interior.len() {
            let end = self.slot(level, last, 1).offset + u64::from(self.block_bytes);
            ranges.push(self.slot(level, first, 0).offset..end);
            first /= self.fan_out();
            last /= self.fan_out();
        }
        ranges
    }

    /// The front of the device in which a superblock copy of any block size may lie.
    #[must_use]
    pub fn superblock_search_bytes() -> u64 {
        Self::superblock_offset_for(MAX_BLOCK_BYTES, SUPERBLOCK_COPIES - 1) + u64::from(MAX_BLOCK_BYTES)
    }
}
