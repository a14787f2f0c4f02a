//! Goal: what is larger than a segment gets whole segments in a row and a tail, and gives all of it back.
//!
//! Method: stores in memory with segments of 16 pages; at the end the raw device is recounted, and a copy is opened as after
//! a power cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use freehold::format::Role;
use freehold::{AllocRequest, Error, Extent};
use roles::{Bed, PAGE, SEGMENT, areas, extents, is_no_extent, picture};

fn span(bytes: u64) -> AllocRequest {
    AllocRequest::bytes(bytes).owner(bytes)
}

#[tokio::test]
async fn sizes_around_segments() {
    for (bytes, segments, tail) in [
        (SEGMENT + 1, 1, 1),
        (2 * SEGMENT - 1, 2, 0),
        (2 * SEGMENT, 2, 0),
        (2 * SEGMENT + 1, 2, 1),
        (5 * SEGMENT / 2, 2, 8),
        (3 * SEGMENT - PAGE, 2, 15),
    ] {
        let mut bed = Bed::small().await;
        let before = picture(&bed.store).await;
        let whole = bed.alloc(SEGMENT).await.unwrap();
        assert_eq!((whole.len, bed.role(Role::Span)), (SEGMENT, None), "a segment is none");
        let mut txn = bed.store.begin();
        let extent = txn.alloc(span(bytes)).await.unwrap();
        assert_eq!((extent.len, extent.offset % SEGMENT), (segments * SEGMENT + tail * PAGE, 0), "{bytes}");
        assert_eq!(bed.store.stats().reserved_bytes, extent.len);
        bed.store.write_at(&extent, 0, b"head").await.unwrap();
        txn.write(&extent, extent.len - 4, b"tail").await.unwrap();
        bed.store.write_at(&extent, SEGMENT - 2, b"seam").await.unwrap();
        txn.commit().await.unwrap();
        let role = bed.role(Role::Span).unwrap();
        assert_eq!((role.segments, role.extents, role.allocated_bytes), (segments, 1, segments * SEGMENT));
        assert_eq!(bed.store.stats().allocated_bytes, SEGMENT + extent.len);
        assert_eq!(bed.store.stats().rounding_bytes, (extent.len - bytes) / 8 * 8);
        bed.verify().await;
        // Its tail is in a segment that others use too.
        if tail > 0 {
            let behind = bed.alloc(AllocRequest::bytes(PAGE).at(extent.end())).await.unwrap();
            assert_eq!(behind.offset, extent.end());
            assert_eq!(bed.role(Role::Extent).unwrap().extents, 2, "the tail is not one");
            bed.verify().await;
            bed.free(&behind).await.unwrap();
        }
        for close in [false, true, false] {
            bed.reopen(close).await;
            let listed = extents(&bed.store).await;
            let found = listed.iter().find(|info| info.extent == extent).unwrap();
            assert_eq!((found.owner, listed.len()), (bytes, 2));
            assert_eq!(bed.store.extent_at(extent.offset).await.unwrap(), *found);
            for (offset, data) in [(0, b"head"), (extent.len - 4, b"tail"), (SEGMENT - 2, b"seam")] {
                assert_eq!(bed.store.read_at(&extent, offset, 4).await.unwrap(), data);
            }
        }
        bed.free(&whole).await.unwrap();
        bed.verify().await;
        bed.free(&extent).await.unwrap();
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        assert_eq!((bed.live().await, bed.store.role_stats()), (vec![], vec![]));
        assert_eq!(picture(&bed.store).await, before);
        bed.verify().await;
        bed.crash().await;
        // The lowest segments, which `whole` had.
        assert_eq!(bed.alloc(extent.len).await.unwrap().offset, whole.offset);
    }
}

#[tokio::test]
async fn nearly_the_whole_device() {
    let mut bed = Bed::small().await;
    let layout = bed.store.layout().clone();
    let first = layout.data_offset().div_ceil(SEGMENT);
    let end = layout.page_count() * PAGE;
    let most = end - first * SEGMENT;
    for bytes in [most + 1, 4 << 20, (4 << 20) + 1, u64::MAX, 1 << 62] {
        assert!(
            matches!(bed.alloc(bytes).await, Err(Error::NoSpace { requested, .. }) if requested == bytes)
        );
    }
    let extent = bed.alloc(most).await.unwrap();
    assert_eq!((extent.offset, extent.len), (first * SEGMENT, most));
    assert!(bed.store.stats().free_bytes < SEGMENT);
    bed.verify().await;
    bed.crash().await;
    bed.store.write_at(&extent, most - 1, b"x").await.unwrap();
    assert!(matches!(bed.alloc(2 * SEGMENT).await, Err(Error::NoSpace { .. })));
    bed.free(&extent).await.unwrap();
    let again = bed.alloc(most - 1).await.unwrap();
    assert_eq!(again.offset, extent.offset);
    assert_ne!(again.generation, extent.generation);
    assert!(matches!(bed.free(&extent).await, Err(Error::NotAllocated { .. })));
    bed.verify().await;

    // A device that ends within a segment: its last pages are for a tail.
    let bed = Bed::new((4 << 20) + 10 * 4096 + 700, SEGMENT, 256 << 10).await;
    let layout = bed.store.layout().clone();
    let first = layout.data_offset().next_multiple_of(SEGMENT);
    let extent = bed.alloc(layout.page_count() * PAGE - first).await.unwrap();
    assert_eq!(extent.len / PAGE % 16, 10);
    assert_eq!(extent.end(), layout.page_count() * PAGE);
    bed.verify().await;
    bed.free(&extent).await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn handles_into_a_span_are_refused() {
    let bed = Bed::small().await;
    let extent = bed.alloc(span(5 * SEGMENT / 2)).await.unwrap();
    let other = bed.alloc(AllocRequest::bytes(PAGE).at(extent.end() + PAGE)).await.unwrap();
    let at = |offset: u64, len: u64| Extent { offset, len, generation: extent.generation };
    let before = picture(&bed.store).await;
    let bad = [
        at(extent.offset + SEGMENT, extent.len - SEGMENT),
        at(extent.offset + SEGMENT, SEGMENT),
        at(extent.offset + 2 * SEGMENT, SEGMENT / 2),
        at(extent.offset + 2 * SEGMENT + PAGE, PAGE),
        at(extent.offset + PAGE, PAGE),
        at(extent.offset + 1, extent.len),
        at(extent.offset, 2 * SEGMENT),
        at(extent.offset, SEGMENT),
        at(extent.end(), PAGE),
        Extent { generation: extent.generation + 1, ..extent },
    ];
    for bed in [&bed, &bed.copy().await] {
        for bad in &bad {
            bed.refuses(bad, &format!("{bad:?}")).await;
        }
        assert_eq!(picture(&bed.store).await, before);
    }
    // Bytes of its inside and of its tail are found to be its own.
    let mut staging = freehold::Transaction::staging(1);
    staging.write(extent.offset + SEGMENT + 9, b"inner".to_vec());
    staging.write(extent.end() - 4, b"tail".to_vec());
    let mut txn = bed.store.begin();
    txn.adopt(staging).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(bed.store.read_at(&extent, SEGMENT + 9, 5).await.unwrap(), b"inner");
    let mut staging = freehold::Transaction::staging(1);
    staging.write(extent.end() - 4, b"too long".to_vec());
    assert!(matches!(bed.store.begin().adopt(staging).await, Err(Error::InvalidExtent { .. })));

    bed.free(&extent).await.unwrap();
    for stale in bad.iter().chain([&extent]) {
        assert!(is_no_extent(&bed.free(stale).await), "{stale:?}");
    }
    assert_eq!(bed.live().await, [other]);
    bed.verify().await;
}

#[tokio::test]
async fn segments_must_be_in_a_row_and_the_first_that_fit_are_taken() {
    let bed = Bed::small().await;
    let walls = bed.fill_segments().await;
    bed.fill().await;
    let base = walls[0].offset;
    let free = |numbers: &[u64]| {
        let offsets: Vec<u64> = numbers.iter().map(|number| base + number * SEGMENT).collect();
        walls.iter().filter(move |wall| offsets.contains(&wall.offset)).copied().collect::<Vec<_>>()
    };
    bed.free_all(free(&[1, 3, 5, 7, 9, 11])).await;
    let before = picture(&bed.store).await;
    for bytes in [SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT] {
        assert!(matches!(bed.alloc(bytes).await, Err(Error::NoSpace { .. })), "{bytes}");
    }
    assert_eq!(picture(&bed.store).await, before);
    // 11 and 12, then 20 to 24.
    bed.free_all(free(&[12, 20, 21, 22, 23, 24])).await;
    assert_eq!(bed.alloc(span(SEGMENT + PAGE)).await.unwrap().offset, base + 11 * SEGMENT);
    // 12 has the tail of another, and room for no whole segment; of 20 on there are five.
    let three = bed.alloc(span(3 * SEGMENT)).await.unwrap();
    assert_eq!(three.offset, base + 20 * SEGMENT);
    assert!(matches!(bed.alloc(2 * SEGMENT + 1).await, Err(Error::NoSpace { .. })));
    let two = bed.alloc(span(2 * SEGMENT)).await.unwrap();
    assert_eq!(two.offset, base + 23 * SEGMENT);
    bed.verify().await;
    bed.free(&three).await.unwrap();
    assert_eq!(bed.alloc(span(3 * SEGMENT)).await.unwrap().offset, three.offset);
    bed.verify().await;
}

#[tokio::test]
async fn a_tail_shares_its_segment_with_any_role_of_pages() {
    let segment = |bed: &Bed| bed.store.layout().data_offset().next_multiple_of(SEGMENT);
    for request in [
        AllocRequest::bytes(2 * PAGE),
        AllocRequest::bytes(2 * PAGE).power_of_two(),
        AllocRequest::bytes(14 * PAGE),
    ] {
        let mut bed = Bed::small().await;
        let place = segment(&bed) + 2 * SEGMENT;
        let other = bed
            .alloc(
                request
                    .owner(4)
                    .at(place + if request == AllocRequest::bytes(14 * PAGE) { 2 } else { 8 } * PAGE),
            )
            .await
            .unwrap();
        bed.store.write_at(&other, 0, b"other").await.unwrap();
        let extent = bed.alloc(span(2 * SEGMENT + 2 * PAGE)).await.unwrap();
        assert_eq!(extent.end(), place + 2 * PAGE);
        bed.store.write_at(&extent, extent.len - 4, b"tail").await.unwrap();
        bed.verify().await;
        bed.crash().await;
        // One goes, the other stays, both ways round.
        bed.free(&extent).await.unwrap();
        assert_eq!(bed.live().await, [other]);
        bed.verify().await;
        let extent = bed.alloc(span(2 * SEGMENT + 2 * PAGE)).await.unwrap();
        bed.free(&other).await.unwrap();
        bed.crash().await;
        assert_eq!(bed.live().await, [extent]);
        bed.verify().await;
        bed.free(&extent).await.unwrap();
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        bed.verify().await;
    }
    // A slab does not let a tail in.
    let bed = Bed::small().await;
    let first = segment(&bed);
    let wall = bed
        .alloc(
            AllocRequest::bytes(first + SEGMENT - bed.store.layout().data_offset() - SEGMENT)
                .at(bed.store.layout().data_offset()),
        )
        .await;
    let blocks = [bed.alloc(AllocRequest::bytes(SEGMENT).at(first)).await.unwrap()];
    let item = bed.alloc(100).await.unwrap();
    bed.free_all(blocks).await;
    let extent = bed.alloc(span(SEGMENT + PAGE)).await.unwrap();
    assert!(
        extent.offset > item.offset || extent.end() < item.offset / SEGMENT * SEGMENT,
        "{extent:?} {item:?} {wall:?}"
    );
    bed.verify().await;
}

#[tokio::test]
async fn what_is_given_up_leaves_no_trace() {
    let mut bed = Bed::small().await;
    for round in 0..2 {
        if round == 1 {
            bed.alloc(PAGE).await.unwrap();
            bed.alloc(100).await.unwrap();
        }
        let before = picture(&bed.store).await;
        let free = areas(&bed.store).await;
        let mut txn = bed.store.begin();
        let one = txn.alloc(span(3 * SEGMENT + PAGE)).await.unwrap();
        let two = txn.alloc(span(2 * SEGMENT)).await.unwrap();
        bed.store.write_at(&one, one.len - 4, b"gone").await.unwrap();
        txn.free(&two).await.unwrap();
        assert_eq!(bed.store.stats().reserved_bytes, one.len);
        let inside = AllocRequest::bytes(PAGE).at(one.offset + SEGMENT);
        assert!(matches!(bed.alloc(inside).await, Err(Error::NoSpace { .. })));
        txn.abort();
        assert_eq!(picture(&bed.store).await, before);
        assert_eq!(areas(&bed.store).await, free);
        assert!(bed.free(&one).await.is_err());
        bed.verify().await;
    }
    // Freed, and then not; and not to be had before that is durable.
    let extent = bed.alloc(span(3 * SEGMENT + PAGE)).await.unwrap();
    let before = picture(&bed.store).await;
    let mut txn = bed.store.begin();
    txn.free(&extent).await.unwrap();
    assert!(matches!(txn.free(&extent).await, Err(Error::NotAllocated { .. })));
    let next = txn.alloc(span(3 * SEGMENT + PAGE)).await.unwrap();
    assert!(next.offset >= extent.end());
    drop(txn);
    assert_eq!(picture(&bed.store).await, before);
    let mut txn = bed.store.begin();
    txn.free(&extent).await.unwrap();
    let next = txn.alloc(span(3 * SEGMENT + PAGE)).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(bed.alloc(span(3 * SEGMENT)).await.unwrap().offset, extent.offset);
    assert_eq!(bed.live().await.iter().filter(|live| live.len > SEGMENT).count(), 2);
    bed.verify().await;
    bed.crash().await;
    bed.free(&next).await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn segments_of_a_span_take_other_roles_afterwards() {
    let mut bed = Bed::small().await;
    let walls = bed.fill_segments().await;
    bed.fill().await;
    bed.free_all(walls[10..14].iter().copied()).await;
    for round in 0..3_u8 {
        let extent = bed.alloc(span(3 * SEGMENT + 4 * PAGE)).await.unwrap();
        assert_eq!(extent.offset, walls[10].offset);
        for place in 0..extent.len / PAGE {
            let mut txn = bed.store.begin();
            txn.write(&extent, place * PAGE, &[round; 32]).await.unwrap();
            txn.commit().await.unwrap();
        }
        bed.free(&extent).await.unwrap();
        let run = bed.alloc(AllocRequest::bytes(10 * PAGE)).await.unwrap();
        let buddy = bed.alloc(AllocRequest::bytes(8 * PAGE).power_of_two()).await.unwrap();
        let item = bed.alloc(AllocRequest::bytes(1000).owner(2)).await.unwrap();
        for other in [run, buddy, item] {
            bed.store.write_at(&other, 0, &[round | 0x80; 500]).await.unwrap();
        }
        bed.crash().await;
        for other in [run, buddy, item] {
            assert_eq!(bed.store.read_at(&other, 0, 500).await.unwrap(), [round | 0x80; 500]);
        }
        assert!(bed.free(&extent).await.is_err());
        bed.verify().await;
        bed.free_all([run, buddy, item]).await;
        bed.verify().await;
    }
}

#[tokio::test]
async fn handles_of_a_tails_place_differ_from_all_before() {
    let bed = Bed::small().await;
    let place = bed.store.layout().data_offset().next_multiple_of(SEGMENT) + SEGMENT;
    let mut seen = std::collections::BTreeSet::new();
    let other = bed.alloc(AllocRequest::bytes(PAGE).at(place + 9 * PAGE)).await.unwrap();
    for round in 0..6 {
        for _ in 0..5 - round {
            let page = bed.alloc(AllocRequest::bytes(PAGE).at(place)).await.unwrap();
            assert!(seen.insert(page.generation), "{page:?} again in round {round}");
            bed.free(&page).await.unwrap();
        }
        let extent = bed.alloc(span(SEGMENT + PAGE)).await.unwrap();
        assert_eq!(extent.end(), place + PAGE);
        bed.free(&extent).await.unwrap();
    }
    bed.free(&other).await.unwrap();
    bed.verify().await;
}
