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

mod metadata;
mod plan;

use std::ops::Range;

use super::{HEAD_BLOCKS, ItemClass, MAX_ORDER, RegionLayout};

pub use plan::GeometryRequest;

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

impl Layout {
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

    /// Number of a page on the device: its offset, in pages.
    #[must_use]
    pub fn device_page(&self, segment: u32, page: u32) -> u64 {
        u64::from(segment) * u64::from(self.pages_per_segment) + u64::from(page)
    }

    /// Segment of a page of the device, and its number there. Pages per segment are a power of two; that there is such a segment
    /// is not said.
    #[must_use]
    pub fn page_in_segment(&self, page: u64) -> (u64, u32) {
        let within = page & u64::from(self.pages_per_segment - 1);
        (page >> self.pages_per_segment.trailing_zeros(), u32::try_from(within).unwrap_or(0))
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
}

#[cfg(test)]
mod tests;
