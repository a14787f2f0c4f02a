//! Which metadata blocks an allocation or a free touches, and how much of them it can change at most.

use super::place::Place;
use super::table::Space;
use crate::format::{AllocatorState, Layout, LeafAddress, PAGE_HEADER_BYTES, SEGMENT_RECORD_BYTES};

impl Space {
    /// Metadata changes and bytes that allocating or freeing this, or changing its length, can cause, at most: bits,
    /// headers, records, and the allocator state.
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
