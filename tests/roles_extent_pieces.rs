//! Goal: of free space in pieces everything can be had, in one extent or in several; a request is refused only when there is no
//! such run.
//!
//! Method: stores in memory with segments of 16 or 64 pages; at the end the raw device is recounted, and a copy is opened as
//! after a power cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use freehold::allocator::FreeArea;
use freehold::format::Role;
use freehold::{AllocRequest, Error};
use roles::{Bed, PAGE, areas, balanced, pages, picture};

#[tokio::test]
async fn without_leave_for_several_extents_there_is_one_as_asked_for() {
    let bed = Bed::small().await;
    let all = bed.fill().await;
    assert_eq!(bed.store.stats().free_bytes, 0);
    // Five pages that are no aligned block of four, nor two of them aligned to eight.
    bed.holes(&all, 40, |page| (1..6).contains(&page) && page != 4 || page == 11).await;
    let mut txn = bed.store.begin();
    for request in [pages(4), pages(4).power_of_two(), pages(2).align(8 * PAGE), pages(1).align(16 * PAGE)] {
        let got = txn.alloc_extents(request).await;
        assert!(matches!(got, Err(Error::NoSpace { .. })), "{request:?} gave {got:?}");
    }
    assert_eq!(txn.alloc_extents(pages(3)).await.unwrap().len(), 1);
    txn.commit().await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn several_extents_are_each_their_own_and_all_or_nothing() {
    let bed = Bed::small().await;
    let all = bed.fill().await;
    assert_eq!(bed.store.stats().free_bytes, 0);
    // Runs of 5, 4, 3, 1, 1 pages.
    bed.holes(&all, 30, |page| matches!(page, 0..=4 | 6..=9 | 11..=13 | 15)).await;
    bed.holes(&all, 32, |page| page == 8).await;
    let before = picture(&bed.store).await;
    let mut txn = bed.store.begin();
    for request in [pages(15).max_extents(8), pages(13).max_extents(3), pages(6).max_extents(1)] {
        assert!(matches!(txn.alloc_extents(request).await, Err(Error::NoSpace { .. })), "{request:?}");
        assert_eq!(bed.store.stats().reserved_bytes, 0);
    }
    let got = txn.alloc_extents(AllocRequest::bytes(13 * PAGE - 9).max_extents(4).owner(5)).await.unwrap();
    assert_eq!(got.iter().map(|extent| extent.len / PAGE).collect::<Vec<_>>(), [5, 4, 3, 1]);
    for (number, extent) in got.iter().enumerate() {
        bed.store.write_at(extent, 0, &[number as u8; 8]).await.unwrap();
    }
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().rounding_bytes, 8);
    bed.verify().await;
    bed.free(&got[1]).await.unwrap();
    assert_eq!(bed.store.read_at(&got[2], 0, 8).await.unwrap(), [2; 8]);
    for at in [0, 3, 2] {
        bed.free(&got[at]).await.unwrap();
    }
    assert!(matches!(bed.free(&got[1]).await, Err(Error::NotAllocated { .. })));
    assert_eq!(picture(&bed.store).await, before);

    // More than a segment, in eight pieces at most.
    let bed = Bed::small().await;
    for number in (24..64).step_by(2) {
        bed.alloc(pages(1).at(number * bed.store.layout().segment_bytes())).await.unwrap();
    }
    let mut txn = bed.store.begin();
    let got = txn.alloc_extents(pages(8 * 16).max_extents(8)).await.unwrap();
    assert!(got.len() > 1 && got.len() <= 8, "{got:?}");
    assert_eq!(got.iter().map(|extent| extent.len).sum::<u64>(), 8 * 16 * PAGE);
    txn.commit().await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn pieces_come_out_of_segments_of_powers_of_two_too() {
    let bed = Bed::small().await;
    let all = bed.fill_segments().await;
    bed.fill().await;
    assert_eq!(bed.store.stats().free_bytes, 0);
    for extent in [&all[3], &all[5]] {
        bed.free(extent).await.unwrap();
        // Again a segment of powers of two, with nine pages and five left.
        bed.alloc(pages(2).power_of_two().at(extent.offset + 10 * PAGE)).await.unwrap();
        let order = bed.alloc(pages(1).power_of_two().at(extent.offset)).await.unwrap();
        assert_eq!(order.offset, extent.offset);
    }
    let mut txn = bed.store.begin();
    assert_eq!(txn.alloc_extents(pages(25).max_extents(4)).await.unwrap().len(), 4);
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().free_bytes, PAGE);
    bed.verify().await;
}

#[tokio::test]
async fn a_run_is_found_wherever_there_is_one() {
    let bed = Bed::small().await;
    // Only segments of role buddy.
    let all = bed.fill_segments().await;
    bed.fill().await;
    bed.free(&all[4]).await.unwrap();
    let at = all[4].offset;
    bed.alloc(pages(1).power_of_two().at(at)).await.unwrap();
    bed.alloc(pages(8).power_of_two().at(at + 8 * PAGE)).await.unwrap();
    assert_eq!(areas(&bed.store).await, [FreeArea { offset: at + PAGE, len: 7 * PAGE }]);
    // Three pages, aligned to four; then three more that are no aligned block.
    assert_eq!(bed.alloc(pages(3).align(4 * PAGE)).await.unwrap().offset, at + 4 * PAGE);
    assert_eq!(bed.alloc(pages(3)).await.unwrap().offset, at + PAGE, "three pages in a row are free");
    // The last page for an item: no segment is left for a slab.
    let item = bed.alloc(AllocRequest::bytes(20).owner(8)).await.unwrap();
    assert_eq!((item.offset, item.len), (at + 7 * PAGE, PAGE));
    assert_eq!(bed.role(Role::Slab), None);
    bed.store.write_at(&item, 0, &[5; 20]).await.unwrap();
    assert!(matches!(bed.alloc(1).await, Err(Error::NoSpace { requested: 1, .. })));
    bed.verify().await;

    // Only segments of exact runs.
    let bed = Bed::small().await;
    let all = bed.fill().await;
    assert_eq!(bed.store.stats().free_bytes, 0);
    bed.holes(&all, 30, |page| (3..9).contains(&page)).await;
    let offset = 30 * bed.store.layout().segment_bytes();
    let buddy = bed.alloc(pages(4).power_of_two()).await.unwrap();
    assert_eq!((buddy.offset, buddy.len), (offset + 4 * PAGE, 4 * PAGE));
    assert_eq!(bed.alloc(pages(1).align(8 * PAGE)).await.unwrap().offset, offset + 8 * PAGE);
    assert!(matches!(bed.alloc(pages(1).align(4 * PAGE)).await, Err(Error::NoSpace { .. })));
    let item = bed.alloc(2048).await.unwrap();
    assert_eq!((item.offset, item.len), (offset + 3 * PAGE, PAGE));
    bed.verify().await;
    bed.free(&buddy).await.unwrap();
    bed.free(&item).await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn free_areas_are_what_can_be_had() {
    let bed = Bed::small().await;
    for count in [3, 1, 7, 2] {
        bed.alloc(pages(count)).await.unwrap();
    }
    bed.alloc(pages(4).power_of_two()).await.unwrap();
    let span = bed.alloc(pages(37)).await.unwrap();
    let freed = bed.alloc(pages(5)).await.unwrap();
    bed.free(&freed).await.unwrap();
    let listed = areas(&bed.store).await;
    assert_eq!(listed.iter().map(|area| area.len).sum::<u64>(), bed.store.stats().free_bytes);
    assert!(listed.windows(2).all(|pair| pair[0].offset + pair[0].len <= pair[1].offset));
    assert!(listed.iter().all(|area| area.offset >= span.end() || area.offset + area.len <= span.offset));
    assert_eq!(areas(&bed.copy().await.store).await, listed);
    // An item's region is in no area; the pages beside it are.
    let item = bed.alloc(64).await.unwrap();
    let less = areas(&bed.store).await;
    let region_bytes = bed.store.layout().region_bytes();
    let region = item.offset / region_bytes * region_bytes;
    assert!(less.iter().all(|area| area.offset >= region + region_bytes || area.offset + area.len <= region));
    let sum = |areas: &[FreeArea]| areas.iter().map(|area| area.len).sum::<u64>();
    assert_eq!(sum(&less) + region_bytes, sum(&listed));
    // Each of them can be taken as it is, and then there is nothing.
    let mut all = Vec::new();
    for area in &less {
        let extent = bed.alloc(AllocRequest::bytes(area.len).at(area.offset)).await.unwrap();
        assert_eq!((extent.offset, extent.len), (area.offset, area.len));
        all.push(extent);
    }
    assert_eq!(areas(&bed.store).await, []);
    bed.verify().await;
    bed.free_all(all).await;
    assert_eq!(areas(&bed.store).await, less);
    balanced(&bed.store.stats());
}
