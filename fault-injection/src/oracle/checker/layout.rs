//! Where everything lies, computed from the superblock.

use super::bytes::index;
use super::flaw::Flaw;
use super::superblock::Superblock;

/// Metadata and journal that are taken into memory, in bytes.
const LIMIT: u64 = 64 << 20;

/// Sizes of fields, in bytes.
const REFERENCE: u64 = 8;
const RECORD: u64 = 32;
const HEADER: u64 = 16;

/// A region is the larger of this and [`REGION_PAGES`], unless segment or ring say less.
const REGION_BYTES: u64 = 64 << 10;
const REGION_PAGES: u64 = 4;

/// The length of a region, which depends on segment and ring too.
fn region_pages(superblock: &Superblock) -> u64 {
    let wanted = REGION_BYTES.max(REGION_PAGES * superblock.page_bytes);
    let bytes = wanted.min(superblock.segment_bytes / 2).min(superblock.ring_bytes / 8);
    (bytes / superblock.page_bytes).checked_ilog2().map_or(1, |order| 1 << order)
}

/// One level of the checksum tree, or the leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub offset: u64,
    /// Number of blocks; each has two slots.
    pub count: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub block: usize,
    pub ring_offset: u64,
    /// From the root down to the leaves.
    pub levels: Vec<Level>,
    pub data_offset: u64,
    pub segments: usize,
    pub pages_of_segment: usize,
    pub page_bytes: u64,
    /// Length of a region of items: a power of two.
    pub pages_of_region: usize,
    /// The pages that can be handed out, counted from the start of the device.
    pub usable: std::ops::Range<u64>,
    table_blocks: usize,
    bitmap_blocks: usize,
    header_blocks: usize,
}

impl Layout {
    pub(super) fn of(superblock: &Superblock) -> Result<Self, Flaw> {
        let block = superblock.block_bytes;
        let segments = superblock.device_bytes.div_ceil(superblock.segment_bytes);
        let pages = superblock.segment_bytes / superblock.page_bytes;
        let table_blocks = (segments * RECORD).div_ceil(block);
        let bitmap_blocks = pages.div_ceil(8 * block);
        let header_blocks = (pages * HEADER).div_ceil(block);
        let leaves = 1 + table_blocks + segments * (bitmap_blocks + header_blocks);
        let bytes = (leaves * block).saturating_add(superblock.ring_bytes);
        if bytes > LIMIT {
            return Err(Flaw::TooLarge { bytes });
        }
        let ring_offset = 4 * block;
        let mut offset = ring_offset + superblock.ring_bytes;
        let mut levels = Vec::with_capacity(4);
        let mut count = leaves;
        while count > 1 {
            count = count.div_ceil(block / REFERENCE);
            levels.push(Level { offset, count });
            offset += 2 * count * block;
        }
        levels.reverse();
        levels.push(Level { offset, count: leaves });
        let data_offset = (offset + 2 * leaves * block).next_multiple_of(superblock.page_bytes);
        let usable = data_offset / superblock.page_bytes..superblock.device_bytes / superblock.page_bytes;
        if usable.is_empty() {
            return Err(Flaw::superblock(superblock.at, "there is no room for pages"));
        }
        Ok(Self {
            block: index(block),
            ring_offset,
            levels,
            data_offset,
            segments: index(segments),
            pages_of_segment: index(pages),
            page_bytes: superblock.page_bytes,
            pages_of_region: index(region_pages(superblock)),
            usable,
            table_blocks: index(table_blocks),
            bitmap_blocks: index(bitmap_blocks),
            header_blocks: index(header_blocks),
        })
    }

    /// The leaves of the segment table, as bytes within all leaves.
    pub(super) const fn table(&self) -> std::ops::Range<usize> {
        self.block..self.block * (1 + self.table_blocks)
    }

    /// The bitmap of a segment, as bytes within all leaves.
    pub(super) const fn bitmap(&self, segment: usize) -> std::ops::Range<usize> {
        let first = 1 + self.table_blocks + segment * (self.bitmap_blocks + self.header_blocks);
        first * self.block..(first + self.bitmap_blocks) * self.block
    }

    /// The page headers of a segment, as bytes within all leaves.
    pub(super) const fn headers(&self, segment: usize) -> std::ops::Range<usize> {
        let start = self.bitmap(segment).end;
        start..start + self.header_blocks * self.block
    }

    /// Bytes of all usable pages.
    pub(super) const fn usable_bytes(&self) -> u64 {
        (self.usable.end - self.usable.start) * self.page_bytes
    }

    /// The usable pages of a segment, by page number within it.
    pub(super) fn usable_of(&self, segment: usize) -> std::ops::Range<usize> {
        let first = (segment * self.pages_of_segment) as u64;
        let within = |page: u64| index(page.saturating_sub(first)).min(self.pages_of_segment);
        within(self.usable.start)..within(self.usable.end)
    }
}
