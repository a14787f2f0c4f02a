//! Which metadata blocks an allocation or a free touches, and how much of them it can change at most.

use super::place::Place;
use super::table::Space;
use crate::format::{
    AllocatorState, Layout, LeafAddress, PAGE_HEADER_BYTES, PayloadEncoder, SEGMENT_RECORD_BYTES,
};

/// Two headers as changes of bytes, which is what room is claimed for, and the bits of a page between two bitmap blocks: as much as
/// two records and what is around them.
const _: () = assert!(
    2 * (PayloadEncoder::update_bound(1, PAGE_HEADER_BYTES) + PayloadEncoder::update_bound(1, 0)
        - PayloadEncoder::update_bound(0, 0))
        >= 2 * PayloadEncoder::EXTENT_BOUND + PayloadEncoder::EXTENTS_BOUND
);

impl Space {
    /// Metadata changes and bytes that allocating or freeing this, or changing its length, can cause, at most: checksums of
    /// bitmap blocks, what becomes of extents, records, and the allocator state. There is room for bits and headers, too, which follow
    /// from that.
    #[must_use]
    pub fn change_bound(layout: &Layout, place: &Place) -> (usize, usize) {
        let pages = match *place {
            Place::Run { pages, .. } => pages,
            Place::Item { .. } => layout.region_pages(),
            Place::Span { tail_pages, .. } => tail_pages,
        };
        let bitmap_blocks = (pages / layout.pages_per_bitmap_block()) as usize + 2;
        // A span has a header and a record at either end.
        (
            bitmap_blocks + 2 + 2 + 1,
            (pages / 8) as usize
                + 2 * bitmap_blocks
                + 2 * PAGE_HEADER_BYTES
                + 2 * SEGMENT_RECORD_BYTES
                + AllocatorState::ENCODED_BYTES,
        )
    }

    /// Calls `name` with the metadata blocks that allocating or freeing this, or changing its length, changes.
    /// Some may be named more than once.
    pub fn for_touched_leaves(layout: &Layout, place: &Place, mut name: impl FnMut(LeafAddress)) {
        name(layout.state_leaf());
        let mut pages = |segment: u32, page: u32, pages: u32| {
            let per_block = layout.pages_per_bitmap_block();
            for block in page / per_block..=(page + pages.max(1) - 1) / per_block {
                name(layout.bitmap_leaf(segment, block.into()));
            }
            name(layout.header_place(segment, page).0);
            name(layout.record_place(segment).0);
        };
        match *place {
            Place::Run { segment, page, pages: count, .. } => pages(segment, page, count),
            Place::Item { segment, region, .. } => {
                pages(segment, region * layout.region_pages(), layout.region_pages());
            }
            Place::Span { segment, segments, tail_pages } => {
                if tail_pages > 0 {
                    pages(segment + segments, 0, tail_pages);
                }
                name(layout.header_place(segment, 0).0);
                name(layout.record_place(segment).0);
            }
        }
    }
}
