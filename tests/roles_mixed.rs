//! Goal: pages that no region has are for extents, when nothing else is left: what lies in a segment of role `slab` keeps
//! apart, is listed, counted, loaded and freed like anywhere else, and the pages are a region's again later.
//!
//! Method: a store in memory, filled up; compared with its own list, with `check`, and with itself after a crash.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

mod roles;

use freehold::format::Role;
use freehold::{AllocRequest, Error, Extent};
use roles::items::region_of;
use roles::{Bed, PAGE, SEGMENT, balanced, pages};

/// A store whose only item has its region in a segment that is otherwise full of pages. Gives also those pages.
async fn mixed() -> (Bed, Extent, Vec<Extent>) {
    let bed = Bed::small().await;
    let item = bed.alloc(AllocRequest::bytes(300).owner(7)).await.unwrap();
    bed.store.write_at(&item, 0, &[7; 300]).await.unwrap();
    bed.fill_segments().await;
    bed.fill().await;
    let beside: Vec<_> = bed.live().await.into_iter().filter(|extent| *extent != item).collect();
    let beside =
        beside.into_iter().filter(|extent| bed.segment_of(extent) == bed.segment_of(&item)).collect();
    (bed, item, beside)
}

#[tokio::test]
async fn extents_take_the_pages_that_no_region_has() {
    let (mut bed, item, beside) = mixed().await;
    let layout = bed.store.layout().clone();
    let left = u64::from(layout.pages_per_segment() - layout.region_pages());
    assert_eq!(beside.len() as u64, left);
    let slab = bed.role(Role::Slab).unwrap();
    assert_eq!(slab.allocated_bytes, left * PAGE + item.len);
    for (at, extent) in beside.iter().enumerate() {
        bed.store.write_at(extent, 0, &[at as u8; PAGE as usize]).await.unwrap();
    }
    for _ in 0..2 {
        bed.crash().await;
        bed.verify().await;
        for (at, extent) in beside.iter().enumerate() {
            assert_eq!(bed.store.read_at(extent, 0, PAGE as usize).await.unwrap(), [at as u8; PAGE as usize]);
        }
        assert_eq!(bed.store.read_at(&item, 0, 300).await.unwrap(), [7; 300]);
        bed.store.checkpoint().await.unwrap();
    }
    // Handles are checked as anywhere else.
    let [first, second] = [beside[0], beside[1]];
    let stale = Extent { generation: first.generation + 1, ..first };
    bed.refuses(&stale, "another generation").await;
    bed.refuses(&Extent { len: 2 * PAGE, ..first }, "another length").await;
    bed.refuses(&Extent { offset: first.offset + 512, ..first }, "inside of a page").await;
    let region = item.offset / layout.region_bytes() * layout.region_bytes();
    bed.refuses(&Extent { offset: region, ..first }, "a region").await;
    bed.free(&first).await.unwrap();
    bed.refuses(&first, "freed").await;
    let mut txn = bed.store.begin();
    assert!(txn.resize(&second, 2 * PAGE).await.is_err());
    txn.abort();
    bed.free_all(beside[1..].iter().copied()).await;
    bed.free(&item).await.unwrap();
    assert_eq!(bed.role(Role::Slab).map_or(0, |slab| slab.segments), 0);
    bed.verify().await;
}

#[tokio::test]
async fn pages_of_extents_are_a_regions_again() {
    let (mut bed, item, beside) = mixed().await;
    // Another class: no page is free for its region, nor for a page of its own.
    assert!(matches!(bed.alloc(2000).await, Err(Error::NoSpace { .. })));
    // One page is, and the item takes it whole.
    bed.free(&beside[0]).await.unwrap();
    let whole = bed.alloc(2000).await.unwrap();
    assert_eq!((whole.offset, whole.len), (beside[0].offset, PAGE));
    bed.free(&whole).await.unwrap();
    // All are: a region is better.
    bed.free_all(beside[1..].iter().copied()).await;
    let other = bed.alloc(2000).await.unwrap();
    assert!(other.len < PAGE);
    assert_eq!(bed.segment_of(&other), bed.segment_of(&item));
    assert_ne!(region_of(&other), region_of(&item));
    bed.crash().await;
    bed.verify().await;
    balanced(&bed.store.stats());
    bed.free_all([item, other]).await;
    bed.verify().await;
}

#[tokio::test]
async fn an_extent_grows_and_shrinks_beside_a_region() {
    let (mut bed, item, beside) = mixed().await;
    bed.free_all(beside.iter().copied()).await;
    let room = beside.len() as u32;
    let mut extent = bed.alloc(pages(2).at(beside[0].offset)).await.unwrap();
    for count in [u64::from(room), 1, 3] {
        let mut txn = bed.store.begin();
        extent = txn.resize(&extent, count * PAGE).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!((extent.offset, extent.len), (beside[0].offset, count * PAGE));
        balanced(&bed.store.stats());
        bed.verify().await;
        bed.crash().await;
        assert!(bed.live().await.contains(&extent));
    }
    // Not into the region.
    let region = item.offset / PAGE * PAGE;
    assert!(matches!(bed.alloc(pages(1).at(region)).await, Err(Error::NoSpace { .. })));
    bed.free_all([extent, item]).await;
    bed.verify().await;
}

#[tokio::test]
async fn nothing_of_it_needs_to_stay_in_memory() {
    let (mut bed, item, beside) = mixed().await;
    bed.options = bed.options.clone().loaded_bytes(0).cached_blocks(4);
    bed.close_and_open().await;
    bed.free(&beside[1]).await.unwrap();
    let again = bed.alloc(PAGE).await.unwrap();
    assert_eq!(again.offset, beside[1].offset);
    assert!(matches!(bed.alloc(PAGE).await, Err(Error::NoSpace { .. })));
    bed.free(&item).await.unwrap();
    // The region is gone; its pages are free.
    let run = bed.alloc(pages(2)).await.unwrap();
    assert_eq!(bed.segment_of(&run), bed.segment_of(&again));
    bed.verify().await;
}

/// Kinds share bits of the record: the first segment that may have a place need not have one.
#[tokio::test]
async fn an_open_region_elsewhere_comes_before_a_new_one() {
    let mut bed = Bed::small().await;
    bed.alloc(300).await.unwrap();
    let other = bed.alloc(2000).await.unwrap();
    let open = bed.alloc(AllocRequest::bytes(300).owner(1)).await.unwrap();
    assert_ne!(bed.segment_of(&open), bed.segment_of(&other));
    // Now a region fits into the first segment, too.
    bed.free(&other).await.unwrap();
    bed.close_and_open().await;
    let next = bed.alloc(AllocRequest::bytes(300).owner(2)).await.unwrap();
    assert_eq!(region_of(&next), region_of(&open));
    bed.verify().await;
}

#[tokio::test]
async fn a_span_ends_beside_a_region() {
    let mut bed = Bed::small().await;
    let wall = bed.alloc(AllocRequest::bytes(SEGMENT).power_of_two()).await.unwrap();
    let first = bed.alloc(300).await.unwrap();
    let second = bed.alloc(2000).await.unwrap();
    assert_eq!(bed.segment_of(&second), bed.segment_of(&wall) + 1);
    bed.fill_segments().await;
    bed.fill().await;
    bed.free_all([first, wall]).await;
    let span = bed.alloc(SEGMENT + 2 * PAGE).await.unwrap();
    assert_eq!((span.offset, span.end() - 2 * PAGE), (wall.offset, wall.end()));
    bed.store.write_at(&span, SEGMENT, &[3; 512]).await.unwrap();
    bed.verify().await;
    bed.crash().await;
    assert_eq!(bed.store.read_at(&span, SEGMENT, 512).await.unwrap(), [3; 512]);
    bed.refuses(&Extent { offset: span.end() - 2 * PAGE, len: PAGE, ..span }, "the tail of a span").await;
    // The region goes first, or the span does.
    bed.free_all([second, span]).await;
    bed.verify().await;
    balanced(&bed.store.stats());
}

#[tokio::test]
async fn a_tail_stays_when_the_regions_are_gone() {
    let mut bed = Bed::small().await;
    let wall = bed.alloc(AllocRequest::bytes(SEGMENT).power_of_two()).await.unwrap();
    let first = bed.alloc(300).await.unwrap();
    let second = bed.alloc(2000).await.unwrap();
    bed.fill_segments().await;
    bed.free_all([first, wall]).await;
    let span = bed.alloc(SEGMENT + PAGE).await.unwrap();
    assert_eq!(span.offset, wall.offset);
    bed.free(&second).await.unwrap();
    assert_eq!(bed.role(Role::Slab).unwrap().extents, 0);
    bed.crash().await;
    bed.verify().await;
    bed.free(&span).await.unwrap();
    bed.verify().await;
}
