//! Where everything lies: derived from the few sizes that the superblock stores.
//!
//! ```text
//! 0        1        2        3        4                                              page-aligned
//! +--------+--------+--------+--------+----------------+---------------+--------------+----------------- ... -+
//! | super  | witness| super  | witness| journal ring   | checksum tree | metadata     | pages                 |
//! | block 0|   0    | block 1|   1    |                | (two slots)   | (two slots)  |                       |
//! +--------+--------+--------+--------+----------------+---------------+--------------+----------------- ... -+
//! |<------------------------------ metadata area --------------------->|
//! ```
//!
//! Segments are a grid over the whole device from offset 0, so that a run of 2^k pages is aligned on the device itself;
//! pages under the metadata area, and beyond the last whole page, are never usable.

use std::ops::Range;

use super::{
    BLOCK_REFERENCE_BYTES, HEAD_BLOCKS, ItemClass, MAX_BLOCK_BYTES, MAX_JOURNAL_BYTES, MAX_ORDER,
    MAX_PAGE_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, MIN_BLOCK_BYTES, MIN_JOURNAL_BYTES, MIN_PAGE_BYTES,
    MIN_STORE_BYTES, PAGE_HEADER_BYTES, REGION_BYTES, RegionLayout, SEGMENT_RECORD_BYTES, SUPERBLOCK_COPIES,
};
use crate::device::DeviceGeometry;
use crate::error::{Error, Result};
use crate::media::Medium;

/// What `format` is asked for; what is `None` is chosen to suit.
#[derive(Clone, Copy, Debug)]
pub struct GeometryRequest {
    /// The device as it is.
    pub device: DeviceGeometry,
    /// The medium, which suggests the page size.
    pub medium: Medium,
    /// Page size in bytes.
    pub page_bytes: Option<u64>,
    /// Segment size in bytes.
    pub segment_bytes: Option<u64>,
    /// Size of the journal ring in bytes.
    pub journal_bytes: Option<u64>,
}

/// One level of the checksum tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLevel {
    /// Offset of the first block's slot 0, in bytes.
    pub offset: u64,
    /// Blocks at this level (each has two slots).
    pub blocks: u64,
}

/// A metadata block's place in the tree: its number at the lowest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafAddress(pub u64);

/// A slot on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotAddress {
    /// Offset in bytes.
    pub offset: u64,
}

/// The sizes of a store, and everything that follows from them. Immutable; checked when made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    device_bytes: u64,
    sector_bytes: u32,
    block_bytes: u32,
    page_bytes: u32,
    ring_granule_bytes: u32,
    segment_bytes: u64,
    ring_bytes: u64,
    segment_count: u32,
    pages_per_segment: u32,
    page_count: u64,
    table_blocks: u64,
    bitmap_blocks: u64,
    header_blocks: u64,
    region_pages: u32,
    leaves: TreeLevel,
    /// From the level above the leaves up to the root, which has one block.
    interior: Vec<TreeLevel>,
    metadata_pages: u64,
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidGeometry(reason.into())
}

impl Layout {
    /// Chooses what was left open, and lays the store out.
    ///
    /// # Errors
    /// [`Error::InvalidGeometry`] says which size does not work and why.
    pub fn plan(request: &GeometryRequest) -> Result<Self> {
        let device = request.device;
        if device.len_bytes < MIN_STORE_BYTES {
            return Err(invalid(format!(
                "{} bytes are too few, a store has at least {MIN_STORE_BYTES}",
                device.len_bytes
            )));
        }
        let narrow = |what: &str, value: u64| {
            u32::try_from(value).map_err(|_| invalid(format!("{what} of {value} bytes is too large")))
        };
        let page_bytes = match request.page_bytes {
            Some(bytes) => narrow("a page", bytes)?,
            None => {
                // A page is whole physical blocks, so that no write of one tears a neighbour.
                let physical = device.physical_block_bytes.min(MAX_BLOCK_BYTES);
                let least = device.sector_bytes.max(physical).max(MIN_PAGE_BYTES);
                let mut page = request.medium.page_bytes_for_sector(device.sector_bytes).max(least);
                // A large page on a small device would leave a handful of pages.
                while page > least && device.len_bytes / u64::from(page) < 256 {
                    page /= 2;
                }
                page
            }
        };
        if !page_bytes.is_power_of_two() {
            return Err(invalid(format!("a page of {page_bytes} bytes is no power of two")));
        }
        if page_bytes < device.sector_bytes {
            return Err(invalid(format!(
                "a page of {page_bytes} bytes is smaller than the device's sector of {}",
                device.sector_bytes
            )));
        }
        let block_bytes =
            device.sector_bytes.max(device.physical_block_bytes.min(page_bytes)).max(MIN_BLOCK_BYTES);
        let largest_segment = MAX_SEGMENT_BYTES.min(u64::from(page_bytes) << MAX_ORDER);
        let segment_bytes = request.segment_bytes.unwrap_or_else(|| {
            // A role has whole segments: a small share of the device, or the few items of a store of blobs would cost it much
            // (docs/AGEING.md).
            let share = (device.len_bytes / 64).max(1);
            let power = 1_u64 << share.ilog2();
            power.max(u64::from(page_bytes) * 16).min(largest_segment)
        });
        let ring_bytes = request.journal_bytes.unwrap_or_else(|| {
            let block = u64::from(block_bytes);
            (device.len_bytes / 64).clamp(MIN_JOURNAL_BYTES, 64 << 20).max(6 * block).next_multiple_of(block)
        });
        Self::from_sizes(
            device.len_bytes,
            device.sector_bytes,
            block_bytes,
            page_bytes,
            device.physical_block_bytes.clamp(device.sector_bytes, block_bytes),
            segment_bytes,
            ring_bytes,
        )
    }

    /// Lays a store out from the sizes in its superblock. Nothing is trusted: every size is checked before it is used.
    pub fn from_sizes(
        device_bytes: u64,
        sector_bytes: u32,
        block_bytes: u32,
        page_bytes: u32,
        ring_granule_bytes: u32,
        segment_bytes: u64,
        ring_bytes: u64,
    ) -> Result<Self> {
        if !(MIN_STORE_BYTES..=i64::MAX.unsigned_abs()).contains(&device_bytes) {
            return Err(invalid(format!("a device of {device_bytes} bytes is out of range")));
        }
        if !sector_bytes.is_power_of_two() || !(512..=MAX_BLOCK_BYTES).contains(&sector_bytes) {
            return Err(invalid(format!("sectors of {sector_bytes} bytes are not supported")));
        }
        if !block_bytes.is_power_of_two()
            || !(MIN_BLOCK_BYTES.max(sector_bytes)..=MAX_BLOCK_BYTES).contains(&block_bytes)
        {
            return Err(invalid(format!("metadata blocks of {block_bytes} bytes are not supported")));
        }
        if !page_bytes.is_power_of_two() || !(block_bytes..=MAX_PAGE_BYTES).contains(&page_bytes) {
            return Err(invalid(format!(
                "a page of {page_bytes} bytes must be a power of two from {block_bytes} to {MAX_PAGE_BYTES}"
            )));
        }
        if !ring_granule_bytes.is_power_of_two()
            || !(sector_bytes..=block_bytes).contains(&ring_granule_bytes)
        {
            return Err(invalid(format!("a journal granule of {ring_granule_bytes} bytes is not supported")));
        }
        let page = u64::from(page_bytes);
        let largest_segment = MAX_SEGMENT_BYTES.min(page << MAX_ORDER);
        if !segment_bytes.is_power_of_two() || !(page * 8..=largest_segment).contains(&segment_bytes) {
            return Err(invalid(format!(
                "a segment of {segment_bytes} bytes must be a power of two from {} to {largest_segment}",
                page * 8
            )));
        }
        let block = u64::from(block_bytes);
        if !ring_bytes.is_multiple_of(block) || !(MIN_JOURNAL_BYTES..=MAX_JOURNAL_BYTES).contains(&ring_bytes)
        {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes must be a multiple of {block} from {MIN_JOURNAL_BYTES} to {MAX_JOURNAL_BYTES}"
            )));
        }
        if ring_bytes >= device_bytes {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes does not fit into a device of {device_bytes}"
            )));
        }
        let segment_count = u32::try_from(device_bytes.div_ceil(segment_bytes))
            .ok()
            .filter(|&count| count <= MAX_SEGMENTS)
            .ok_or_else(|| invalid("too many segments; choose larger ones"))?;
        let pages_per_segment =
            u32::try_from(segment_bytes / page).map_err(|_| invalid("too many pages in a segment"))?;

        // Half the ring holds the largest transaction: the bits of a whole segment, and a whole block of the caller.
        let largest = u64::from(pages_per_segment) / 8 + block + 2048;
        if ring_bytes / 2 < largest {
            return Err(invalid(format!(
                "a journal of {ring_bytes} bytes is too small for segments of {pages_per_segment} pages; make it {} at least",
                (2 * largest).next_multiple_of(block)
            )));
        }
        let pages = u64::from(pages_per_segment);
        let bitmap_blocks = pages.div_ceil(8).div_ceil(block);
        let header_blocks = (pages * PAGE_HEADER_BYTES as u64).div_ceil(block);
        let table_blocks = (u64::from(segment_count) * SEGMENT_RECORD_BYTES as u64).div_ceil(block);
        let too_large = || invalid("the metadata does not fit");
        let leaf_blocks = u64::from(segment_count)
            .checked_mul(bitmap_blocks + header_blocks)
            .and_then(|blocks| blocks.checked_add(1 + table_blocks))
            .ok_or_else(too_large)?;

        let fan_out = block / BLOCK_REFERENCE_BYTES as u64;
        let mut offset = HEAD_BLOCKS * block + ring_bytes;
        let mut interior = Vec::new();
        let mut blocks = leaf_blocks;
        loop {
            blocks = blocks.div_ceil(fan_out);
            interior.push(TreeLevel { offset, blocks });
            offset =
                blocks.checked_mul(2 * block).and_then(|b| b.checked_add(offset)).ok_or_else(too_large)?;
            if blocks == 1 {
                break;
            }
        }
        let leaves = TreeLevel { offset, blocks: leaf_blocks };
        let end =
            leaf_blocks.checked_mul(2 * block).and_then(|b| b.checked_add(offset)).ok_or_else(too_large)?;
        let metadata_pages = end.div_ceil(page);
        let page_count = device_bytes / page;
        if metadata_pages >= page_count {
            return Err(invalid(format!(
                "metadata and journal take {end} bytes, which leaves no page of {page_bytes} on a device of {device_bytes}"
            )));
        }
        Ok(Self {
            device_bytes,
            sector_bytes,
            block_bytes,
            page_bytes,
            ring_granule_bytes,
            segment_bytes,
            ring_bytes,
            segment_count,
            pages_per_segment,
            page_count,
            table_blocks,
            bitmap_blocks,
            header_blocks,
            region_pages: Self::region_pages_for(page, pages_per_segment, ring_bytes),
            leaves,
            interior,
            metadata_pages,
        })
    }

    /// Length of the device when the store was made.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// Logical block size of the device.
    #[must_use]
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// Size of a metadata block, and the unit of the overlay.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// The unit of allocation.
    #[must_use]
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// Groups start at multiples of this in the ring (rule 9).
    #[must_use]
    pub fn ring_granule_bytes(&self) -> u32 {
        self.ring_granule_bytes
    }

    /// Size of a segment.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Size of the journal ring.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Offset of the journal ring.
    #[must_use]
    pub fn ring_offset(&self) -> u64 {
        HEAD_BLOCKS * u64::from(self.block_bytes)
    }

    /// Segments on the device, counting those under the metadata area.
    #[must_use]
    pub fn segment_count(&self) -> u32 {
        self.segment_count
    }

    /// Pages in a whole segment.
    #[must_use]
    pub fn pages_per_segment(&self) -> u32 {
        self.pages_per_segment
    }

    /// The order of a run that fills a segment.
    #[must_use]
    pub fn max_order(&self) -> u8 {
        u8::try_from(self.pages_per_segment.ilog2()).unwrap_or(MAX_ORDER)
    }

    /// Whole pages on the device.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.page_count
    }

    /// Pages that can be allocated.
    #[must_use]
    pub fn usable_pages(&self) -> u64 {
        self.page_count - self.metadata_pages
    }

    /// Offset of the first page that can be allocated.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.metadata_pages * u64::from(self.page_bytes)
    }

    /// Bytes that can never be allocated: metadata, journal, and what is left behind the last whole page.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.device_bytes - self.usable_pages() * u64::from(self.page_bytes)
    }

    /// The first segment with a usable page.
    #[must_use]
    pub fn first_segment(&self) -> u32 {
        u32::try_from(self.metadata_pages / u64::from(self.pages_per_segment)).unwrap_or(u32::MAX)
    }

    /// A region is at least 64 KiB and four pages, at most half a segment, and small enough for its head to pass
    /// through the journal at once.
    fn region_pages_for(page: u64, pages_per_segment: u32, ring_bytes: u64) -> u32 {
        let wanted = (REGION_BYTES / page).max(4).min(u64::from(pages_per_segment / 2));
        let most = (ring_bytes / 8 / page).max(1);
        let pages = wanted.min(1 << most.ilog2());
        u32::try_from(pages).unwrap_or(1)
    }

    /// Pages of a region of items; a power of two.
    #[must_use]
    pub fn region_pages(&self) -> u32 {
        self.region_pages
    }

    /// Size of a region of items.
    #[must_use]
    pub fn region_bytes(&self) -> u64 {
        u64::from(self.region_pages) * u64::from(self.page_bytes)
    }

    /// Regions in a whole segment.
    #[must_use]
    pub fn regions_per_segment(&self) -> u32 {
        self.pages_per_segment / self.region_pages
    }

    /// The regions of a segment whose pages are all usable.
    #[must_use]
    pub fn usable_regions(&self, segment: u32) -> Range<u32> {
        let usable = self.usable_range(segment);
        let start = usable.start.div_ceil(self.region_pages);
        start..(usable.end / self.region_pages).max(start)
    }

    /// How a region of items of a class is laid out; `None` when this store has no such items.
    #[must_use]
    pub fn region_layout(&self, class: ItemClass, tagged: bool) -> Option<RegionLayout> {
        if class.bytes() > u64::from(self.page_bytes) / 2 {
            return None;
        }
        RegionLayout::new(class, tagged, self.region_bytes())
    }

    /// Whether every page of a segment can be allocated.
    #[must_use]
    pub fn is_whole(&self, segment: u32) -> bool {
        self.usable_range(segment).len() == self.pages_per_segment as usize
    }

    /// The pages of a segment that can be allocated, counted from the segment's start.
    #[must_use]
    pub fn usable_range(&self, segment: u32) -> Range<u32> {
        let pages = u64::from(self.pages_per_segment);
        let start = u64::from(segment) * pages;
        let clamp = |page: u64| {
            u32::try_from(page.clamp(start, start + pages) - start).unwrap_or(self.pages_per_segment)
        };
        clamp(self.metadata_pages)..clamp(self.page_count)
    }

    /// Offset on the device of a page of a segment.
    #[must_use]
    pub fn page_offset(&self, segment: u32, page: u32) -> u64 {
        u64::from(segment) * self.segment_bytes + u64::from(page) * u64::from(self.page_bytes)
    }

    /// Segment and page at an offset; `None` when the offset is not the start of a usable page.
    #[must_use]
    pub fn page_at(&self, offset: u64) -> Option<(u32, u32)> {
        let page = offset / u64::from(self.page_bytes);
        if !offset.is_multiple_of(u64::from(self.page_bytes))
            || !(self.metadata_pages..self.page_count).contains(&page)
        {
            return None;
        }
        let pages = u64::from(self.pages_per_segment);
        Some((u32::try_from(page / pages).ok()?, u32::try_from(page % pages).ok()?))
    }

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

    /// The block that holds frontier and free-list heads.
    #[must_use]
    pub fn state_leaf(&self) -> LeafAddress {
        LeafAddress(0)
    }

    /// Block and offset of a segment's record.
    #[must_use]
    pub fn record_place(&self, segment: u32) -> (LeafAddress, u32) {
        let per_block = self.block_bytes / super::narrow(SEGMENT_RECORD_BYTES);
        (
            LeafAddress(1 + u64::from(segment / per_block)),
            segment % per_block * super::narrow(SEGMENT_RECORD_BYTES),
        )
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
        self.block_bytes / super::narrow(PAGE_HEADER_BYTES)
    }

    /// Block and offset of a page's header.
    #[must_use]
    pub fn header_place(&self, segment: u32, page: u32) -> (LeafAddress, u32) {
        let per_block = self.headers_per_block();
        (
            self.header_leaf(segment, u64::from(page / per_block)),
            page % per_block * super::narrow(PAGE_HEADER_BYTES),
        )
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

#[cfg(test)]
mod tests;
