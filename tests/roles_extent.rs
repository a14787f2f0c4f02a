//! Goal: runs of pages are exactly as long as asked for, lie where they fit best, change their length where they are,
//! and are refused only when there is no such run.
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
use freehold::{AllocRequest, Error, Extent};
use roles::{Bed, PAGE, areas, balanced, extents, in_time, picture};

fn pages(count: u64) -> AllocRequest {
    AllocRequest::bytes(count * PAGE)
}

/// 6 MiB, segments of 64 pages.
async fn wide() -> Bed {
    Bed::new(6 << 20, 256 << 10, 256 << 10).await
}

/// Fills the store with extents of `count` pages, and what is left with single pages.
async fn filled(bed: &Bed, count: u64) -> Vec<Extent> {
    let mut all = Vec::new();
    loop {
        match bed.alloc(pages(count)).await {
            Ok(extent) => all.push(extent),
            Err(Error::NoSpace { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    bed.fill().await;
    assert_eq!(bed.store.stats().free_bytes, 0);
    all
}

/// Frees all of a segment's single pages that `free` names, after the store was filled with single pages.
async fn holes(bed: &Bed, all: &[Extent], segment: u64, free: impl Fn(u64) -> bool) {
    for extent in all.iter().filter(|extent| bed.segment_of(extent) == segment) {
        if free(extent.offset / PAGE % u64::from(bed.store.layout().pages_per_segment())) {
            bed.free(extent).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_length_is_exact_and_follows_the_one_before() {
    let bed = Bed::new(20 << 20, 256 << 10, 256 << 10).await;
    for count in 1..=40 {
        for bytes in [count * PAGE, count * PAGE - 1, (count - 1) * PAGE + PAGE / 2 + 1] {
            let extent = bed.alloc(AllocRequest::bytes(bytes).owner(bytes)).await.unwrap();
            assert_eq!((extent.len, extent.offset % PAGE), (count * PAGE, 0), "{bytes}");
        }
    }
    // Nothing but the ends of segments is left between them.
    let listed = extents(&bed.store).await;
    assert_eq!(listed.len(), 120);
    for pair in listed.windows(2) {
        let (one, next) = (pair[0].extent, pair[1].extent);
        assert!(one.end() == next.offset || bed.segment_of(&one) != bed.segment_of(&next), "{pair:?}");
    }
    bed.verify().await;
}

#[tokio::test]
async fn the_shortest_hole_that_suffices_is_taken_and_the_lowest_of_equals() {
    let bed = wide().await;
    let mut all = Vec::new();
    for count in [1, 5, 1, 3, 1, 8, 1, 3, 1] {
        all.push(
            bed.alloc(pages(count).near(*all.last().unwrap_or(&Extent { offset: 0, len: 0, generation: 0 })))
                .await
                .unwrap(),
        );
    }
    // The rest of the store is taken, so that only the holes are left.
    bed.fill().await;
    for at in [1, 3, 5, 7] {
        bed.free(&all[at]).await.unwrap();
    }
    let at = |extent: Extent| extent.offset;
    assert_eq!(at(bed.alloc(pages(2)).await.unwrap()), all[3].offset, "lowest of two holes of three");
    assert_eq!(at(bed.alloc(pages(3)).await.unwrap()), all[7].offset, "exact");
    assert_eq!(at(bed.alloc(pages(4)).await.unwrap()), all[1].offset, "five is nearest to four");
    assert_eq!(
        at(bed.alloc(pages(1)).await.unwrap()),
        all[1].offset + 4 * PAGE,
        "lowest hole of one page is the rest of five or of three"
    );
    assert_eq!(at(bed.alloc(pages(6)).await.unwrap()), all[5].offset);
    assert!(
        matches!(bed.alloc(pages(3)).await, Err(Error::NoSpace { requested, .. }) if requested == 3 * PAGE)
    );
    bed.verify().await;
}

#[tokio::test]
async fn alignment_and_powers_of_two() {
    let bed = wide().await;
    bed.alloc(pages(1)).await.unwrap();
    for order in 0..=6 {
        let align = PAGE << order;
        let extent = bed.alloc(pages(3).align(align)).await.unwrap();
        assert_eq!((extent.offset % align, extent.len), (0, 3 * PAGE));
    }
    for align in [1, 2, 512, PAGE / 2] {
        assert_eq!(
            bed.alloc(AllocRequest::bytes(100).align(align)).await.unwrap().len % PAGE == 0,
            align > 1
        );
    }
    for order in 0..=6 {
        for bytes in [PAGE << order, (PAGE << order) / 2 + 1] {
            let extent = bed.alloc(AllocRequest::bytes(bytes).power_of_two().owner(3)).await.unwrap();
            assert_eq!((extent.len, extent.offset % extent.len), (PAGE << order, 0), "{bytes}");
        }
    }
    assert_eq!(bed.alloc(AllocRequest::bytes(1).power_of_two()).await.unwrap().len, PAGE);
    let mut txn = bed.store.begin();
    for bad in [
        pages(1).align(0),
        pages(1).align(3),
        pages(1).align(PAGE).power_of_two(),
        pages(1).max_extents(0),
        pages(1).max_extents(9),
        pages(1).max_extents(2).align(2),
        pages(1).max_extents(2).power_of_two(),
        pages(1).max_extents(2).at(1 << 20),
        pages(1).max_extents(2),
    ] {
        assert!(matches!(txn.alloc(bad).await, Err(Error::InvalidRequest(_))), "{bad:?}");
    }
    assert!(matches!(txn.alloc(pages(1).align(1 << 63)).await, Err(Error::NoSpace { .. })));
    assert!(matches!(txn.alloc(pages(65).power_of_two()).await, Err(Error::NoSpace { .. })));
    assert!(matches!(txn.alloc(AllocRequest::bytes(u64::MAX)).await, Err(Error::NoSpace { .. })));
    assert_eq!(bed.store.stats().reserved_bytes, 0);
    drop(txn);
    bed.verify().await;
}

#[tokio::test]
async fn at_a_given_place_or_not_at_all() {
    let bed = Bed::small().await;
    let segment = bed.store.layout().segment_bytes();
    let data = bed.store.layout().data_offset();
    let base = (data / segment + 2) * segment;
    let first = bed.alloc(pages(3).at(base + 5 * PAGE)).await.unwrap();
    assert_eq!((first.offset, first.len), (base + 5 * PAGE, 3 * PAGE));
    // Beyond the frontier, and the very last page.
    let last = bed.store.layout().page_count() * PAGE - PAGE;
    assert_eq!(bed.alloc(AllocRequest::bytes(1).at(last)).await.unwrap().offset, last);
    let far = bed.alloc(pages(16).at(base + 4 * segment)).await.unwrap();
    assert_eq!(far.len, segment);
    let buddy = bed.alloc(pages(4).power_of_two().at(base + segment + 8 * PAGE)).await.unwrap();
    assert_eq!((buddy.offset, buddy.len), (base + segment + 8 * PAGE, 4 * PAGE));
    // An exact run in a segment of role buddy.
    let other = bed.alloc(pages(3).at(base + segment + 5 * PAGE)).await.unwrap();
    assert_eq!(other.end(), buddy.offset);
    let item = bed.alloc(100).await.unwrap();
    let slab = item.offset / segment * segment;

    let before = picture(&bed.store).await;
    let mut txn = bed.store.begin();
    for (request, what) in [
        (pages(1).at(base + 5 * PAGE), "taken"),
        (pages(3).at(base + 3 * PAGE), "its end is taken"),
        (pages(12).at(base + 8 * PAGE), "beyond the segment"),
        (pages(2).at(last), "beyond the device"),
        (pages(1).at(slab), "a region"),
        (pages(1).at(slab + 15 * PAGE), "a free region of a slab"),
        (pages(4).power_of_two().at(base + 4 * PAGE), "taken"),
    ] {
        assert!(matches!(txn.alloc(request).await, Err(Error::NoSpace { .. })), "{what}");
        // Not anywhere else either, whichever call.
        assert!(matches!(txn.alloc_extents(request).await, Err(Error::NoSpace { .. })), "{what}");
    }
    for (request, what) in [
        (pages(1).at(base + 1), "no page begins there"),
        (pages(1).at(base + PAGE / 2), "no page begins there"),
        (pages(1).at(0), "the superblock"),
        (pages(1).at(data - PAGE), "metadata"),
        (pages(1).at(last + PAGE), "behind the last page"),
        (pages(1).at(u64::MAX), "beyond everything"),
        (pages(1).align(2 * PAGE).at(base + PAGE), "not aligned"),
        (pages(4).power_of_two().at(base + 2 * PAGE), "not aligned"),
    ] {
        assert!(matches!(txn.alloc(request).await, Err(Error::InvalidExtent { .. })), "{what}");
    }
    let span = AllocRequest::bytes(segment + 1).at(base + 6 * segment);
    assert!(matches!(txn.alloc(span).await, Err(Error::NoSpace { .. })));
    drop(txn);
    assert_eq!(picture(&bed.store).await, before);
    bed.verify().await;
}

#[tokio::test]
async fn without_leave_for_several_extents_there_is_one_as_asked_for() {
    let bed = Bed::small().await;
    let all = filled(&bed, 1).await;
    // Five pages that are no aligned block of four, nor two of them aligned to eight.
    holes(&bed, &all, 40, |page| (1..6).contains(&page) && page != 4 || page == 11).await;
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
async fn near_is_a_hint() {
    let bed = wide().await;
    let a = bed.alloc(pages(2).at(2 << 20)).await.unwrap();
    let b = bed.alloc(pages(2).near(a)).await.unwrap();
    let c = bed.alloc(pages(2).near(b)).await.unwrap();
    assert_eq!((b.offset, c.offset), (a.end(), b.end()));
    bed.free(&b).await.unwrap();
    let far = bed.alloc(pages(30).near(c)).await.unwrap();
    assert_eq!(far.offset, c.end());
    assert_eq!(bed.alloc(pages(1).near(a)).await.unwrap().offset, a.end());
    // No room behind: elsewhere.
    assert!(bed.alloc(pages(2).near(a)).await.unwrap().offset != a.end());
    let strange = [
        Extent { offset: u64::MAX, len: u64::MAX, generation: 7 },
        Extent { offset: a.offset, len: u64::MAX, generation: 7 },
        Extent { offset: a.offset + 1, len: u64::MAX - a.offset - 2, generation: 7 },
        Extent { offset: 0, len: 0, generation: 0 },
    ];
    for hint in strange {
        bed.alloc(pages(1).near(hint)).await.unwrap();
        bed.alloc(AllocRequest::bytes(1).near(hint)).await.unwrap();
    }
    bed.verify().await;
}

#[tokio::test]
async fn several_extents_are_each_their_own_and_all_or_nothing() {
    let bed = Bed::small().await;
    let all = filled(&bed, 1).await;
    // Runs of 5, 4, 3, 1, 1 pages.
    holes(&bed, &all, 30, |page| matches!(page, 0..=4 | 6..=9 | 11..=13 | 15)).await;
    holes(&bed, &all, 32, |page| page == 8).await;
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
async fn growing_and_shrinking_in_place() {
    let bed = wide().await;
    let a = bed.alloc(pages(4).owner(9)).await.unwrap();
    let wall = bed.alloc(pages(2).at(a.offset + 10 * PAGE)).await.unwrap();
    for page in 0..4 {
        bed.store.write_at(&a, page * PAGE, &[page as u8 + 1; 16]).await.unwrap();
    }
    let mut txn = bed.store.begin();
    let grown = txn.resize(&a, 10 * PAGE - 100).await.unwrap();
    assert_eq!((grown.offset, grown.len, grown.generation), (a.offset, 10 * PAGE, a.generation));
    assert_eq!(bed.store.stats().reserved_bytes, 6 * PAGE);
    bed.store.write_at(&grown, 9 * PAGE, b"end").await.unwrap();
    // Nobody gets what it grows into, and the wall is in the way.
    let other = bed.store.begin().alloc(pages(6).near(a)).await.unwrap();
    assert!(other.offset > grown.end());
    assert!(matches!(txn.resize(&grown, 11 * PAGE).await, Err(Error::CannotResize { .. })));
    assert_eq!(bed.store.stats().reserved_bytes, 6 * PAGE);
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().rounding_bytes, 96, "in units of 8 bytes");
    bed.verify().await;
    for stale in [a, Extent { len: 9 * PAGE, ..a }] {
        assert!(matches!(bed.store.read_at(&stale, 0, 1).await, Err(Error::InvalidExtent { .. })));
        assert!(matches!(bed.free(&stale).await, Err(Error::InvalidExtent { .. })));
    }

    let mut txn = bed.store.begin();
    let short = txn.resize(&grown, 2 * PAGE).await.unwrap();
    let stats = bed.store.stats();
    assert_eq!((short.len, stats.reserved_bytes, stats.pending_bytes), (2 * PAGE, 0, 0));
    // Given back only when that is durable.
    let mut other = bed.store.begin();
    assert!(matches!(other.alloc(pages(1).at(short.end())).await, Err(Error::NoSpace { .. })));
    txn.commit().await.unwrap();
    assert_eq!(other.alloc(pages(8).at(short.end())).await.unwrap().offset, short.end());
    other.commit().await.unwrap();
    let copy = bed.copy().await;
    for page in 0..2 {
        assert_eq!(copy.store.read_at(&short, page * PAGE, 16).await.unwrap(), [page as u8 + 1; 16]);
    }
    let info = copy.store.extent_at(a.offset).await.unwrap();
    assert_eq!((info.extent, info.owner), (short, 9));
    for bytes in [1, 17 * PAGE] {
        let mut txn = bed.store.begin();
        assert!(matches!(txn.resize(&grown, bytes).await, Err(Error::InvalidExtent { .. })));
    }
    assert_eq!(wall.len, 2 * PAGE);
    bed.verify().await;
}

#[tokio::test]
async fn what_cannot_change_its_length_says_so() {
    let bed = Bed::small().await;
    let run = bed.alloc(pages(3)).await.unwrap();
    let buddy = bed.alloc(pages(3).power_of_two()).await.unwrap();
    let item = bed.alloc(100).await.unwrap();
    let span = bed.alloc(pages(20)).await.unwrap();
    let before = picture(&bed.store).await;
    for open in [false, true] {
        let mut txn = bed.store.begin();
        let (run, buddy, item, span) = if open {
            (
                txn.alloc(pages(3)).await.unwrap(),
                txn.alloc(pages(4).power_of_two()).await.unwrap(),
                txn.alloc(100).await.unwrap(),
                txn.alloc(pages(20)).await.unwrap(),
            )
        } else {
            (run, buddy, item, span)
        };
        for (extent, same, other) in [
            (&buddy, 3 * PAGE, 5 * PAGE),
            (&buddy, 4 * PAGE, 2 * PAGE),
            (&item, 97, 96),
            (&item, 104, 105),
            (&span, 20 * PAGE, 21 * PAGE),
            (&span, 20 * PAGE - 1, 19 * PAGE),
        ] {
            assert_eq!(txn.resize(extent, same).await.unwrap(), *extent);
            for bytes in [other, u64::MAX, u64::MAX - PAGE, 1 << 63] {
                let got = txn.resize(extent, bytes).await;
                assert!(matches!(got, Err(Error::CannotResize { .. })), "{extent:?} to {bytes}: {got:?}");
            }
        }
        for bytes in [17 * PAGE, u64::MAX, u64::MAX - PAGE + 2, 1 << 63] {
            assert!(matches!(txn.resize(&run, bytes).await, Err(Error::CannotResize { .. })));
        }
        assert!(matches!(txn.resize(&run, 0).await, Err(Error::InvalidSize(_))));
        let wrong = Extent { generation: run.generation + 9, ..run };
        let got = txn.resize(&wrong, PAGE).await;
        assert!(matches!(got, Err(Error::NotAllocated { .. } | Error::InvalidExtent { .. })), "{got:?}");
    }
    assert_eq!(picture(&bed.store).await, before);
    bed.verify().await;
}

#[tokio::test]
async fn twice_in_a_transaction_and_then_not_at_all() {
    let bed = wide().await;
    let a = bed.alloc(pages(4)).await.unwrap();
    let before = picture(&bed.store).await;
    for last in [1, 3, 4, 6, 9, 12] {
        for first in [1, 2, 4, 8, 20] {
            let mut txn = bed.store.begin();
            let once = txn.resize(&a, first * PAGE).await.unwrap();
            let twice = txn.resize(&once, last * PAGE).await.unwrap();
            assert_eq!(twice.len, last * PAGE);
            let held = last.max(4) - 4;
            assert_eq!(bed.store.stats().reserved_bytes, held * PAGE, "{first} {last}");
            if twice != a && once != twice {
                assert!(matches!(txn.resize(&a, PAGE).await, Err(Error::NotAllocated { .. })));
            }
            txn.abort();
            assert_eq!(picture(&bed.store).await, before, "{first} {last}");
        }
    }
    let mut txn = bed.store.begin();
    let grown = txn.resize(&a, 9 * PAGE).await.unwrap();
    let short = txn.resize(&grown, 2 * PAGE).await.unwrap();
    let back = txn.resize(&short, 4 * PAGE).await.unwrap();
    assert_eq!(back, a);
    let short = txn.resize(&back, 3 * PAGE).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(bed.live().await, [short]);
    bed.verify().await;

    // Another one, then freed: the whole extent goes.
    let mut txn = bed.store.begin();
    let grown = txn.resize(&short, 5 * PAGE).await.unwrap();
    txn.write(&grown, 4 * PAGE, b"gone").await.unwrap();
    txn.free(&grown).await.unwrap();
    assert!(matches!(txn.free(&grown).await, Err(Error::InvalidExtent { .. } | Error::NotAllocated { .. })));
    assert!(matches!(txn.resize(&short, PAGE).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(bed.store.begin().resize(&short, PAGE).await, Err(Error::NotAllocated { .. })));
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
    bed.verify().await;
}

#[tokio::test]
async fn a_refused_second_change_leaves_the_first() {
    let bed = wide().await;
    let a = bed.alloc(pages(2)).await.unwrap();
    bed.alloc(pages(1).at(a.offset + 6 * PAGE)).await.unwrap();
    let mut txn = bed.store.begin();
    let grown = txn.resize(&a, 4 * PAGE - 1000).await.unwrap();
    bed.store.write_at(&grown, 3 * PAGE, b"grown").await.unwrap();
    assert!(matches!(txn.resize(&grown, 7 * PAGE).await, Err(Error::CannotResize { .. })));
    assert!(matches!(txn.resize(&grown, 100 * PAGE).await, Err(Error::CannotResize { .. })));
    assert_eq!(bed.store.read_at(&grown, 3 * PAGE, 5).await.unwrap(), b"grown");
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().rounding_bytes, 1000, "what was asked for the first time still counts");
    assert_eq!(bed.store.read_at(&grown, 3 * PAGE, 5).await.unwrap(), b"grown");
    bed.verify().await;
}

#[tokio::test]
async fn of_an_extent_of_the_same_transaction() {
    let bed = wide().await;
    let mut txn = bed.store.begin();
    let a = txn.alloc(pages(4).owner(3)).await.unwrap();
    let grown = txn.resize(&a, 8 * PAGE).await.unwrap();
    assert_eq!((grown.offset, grown.generation, grown.len), (a.offset, a.generation, 8 * PAGE));
    assert_eq!(bed.store.stats().reserved_bytes, 8 * PAGE);
    let next = txn.alloc(pages(1).at(grown.end())).await.unwrap();
    assert!(matches!(txn.resize(&grown, 9 * PAGE).await, Err(Error::CannotResize { .. })));
    let short = txn.resize(&grown, 3 * PAGE).await.unwrap();
    // What never was published can be had at once.
    assert_eq!(txn.alloc(pages(5).at(short.end())).await.unwrap().end(), next.offset);
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().allocated_bytes, 9 * PAGE);
    let mut txn = bed.store.begin();
    let b = txn.alloc(pages(4)).await.unwrap();
    let b = txn.resize(&b, 6 * PAGE).await.unwrap();
    txn.free(&b).await.unwrap();
    txn.abort();
    bed.verify().await;
}

#[tokio::test]
async fn journaled_bytes_follow_the_length() {
    let bed = wide().await;
    let a = bed.alloc(pages(4)).await.unwrap();
    let mut txn = bed.store.begin();
    // One write over what stays and what goes.
    txn.write(&a, PAGE - 4, &[7; 3 * PAGE as usize]).await.unwrap();
    txn.write(&a, 3 * PAGE + 100, &[8; 8]).await.unwrap();
    let short = txn.resize(&a, 2 * PAGE).await.unwrap();
    assert_eq!(txn.read_at(&short, PAGE - 4, 8).await.unwrap(), [7; 8]);
    txn.commit().await.unwrap();
    assert_eq!(bed.store.read_at(&short, PAGE - 4, 8).await.unwrap(), [7; 8]);
    assert_eq!(bed.store.read_at(&short, 2 * PAGE - 8, 8).await.unwrap(), [7; 8]);

    // What was written where an extent grew to at first, and then did not, is nobody's.
    let mut txn = bed.store.begin();
    let grown = txn.resize(&short, 8 * PAGE).await.unwrap();
    txn.write(&grown, 7 * PAGE, &[9; 8]).await.unwrap();
    txn.write(&grown, 3 * PAGE - 4, &[9; 8]).await.unwrap();
    let less = txn.resize(&grown, 3 * PAGE).await.unwrap();
    let mut other = bed.store.begin();
    let foreign = other.alloc(pages(5).at(less.end())).await.unwrap();
    bed.store.write_at(&foreign, 4 * PAGE, &[1; 8]).await.unwrap();
    bed.store.write_at(&foreign, 0, &[1; 8]).await.unwrap();
    other.commit().await.unwrap();
    txn.commit().await.unwrap();
    for bed in [&bed, &bed.copy().await] {
        assert_eq!(bed.store.read_at(&foreign, 4 * PAGE, 8).await.unwrap(), [1; 8]);
        assert_eq!(bed.store.read_at(&foreign, 0, 8).await.unwrap(), [1; 8]);
        assert_eq!(bed.store.read_at(&less, 3 * PAGE - 4, 4).await.unwrap(), [9; 4]);
    }
    bed.verify().await;
}

#[tokio::test]
async fn bytes_of_a_part_that_was_cut_off_do_not_come_back() {
    let mut bed = wide().await;
    let a = bed.alloc(pages(8)).await.unwrap();
    let mut txn = bed.store.begin();
    txn.write(&a, 5 * PAGE, &[7; 64]).await.unwrap();
    txn.commit().await.unwrap();
    let mut txn = bed.store.begin();
    let short = txn.resize(&a, 2 * PAGE).await.unwrap();
    txn.commit().await.unwrap();
    let mut txn = bed.store.begin();
    let b = txn.alloc(pages(6).at(short.end())).await.unwrap();
    bed.store.write_at(&b, 3 * PAGE, &[1; 64]).await.unwrap();
    txn.commit().await.unwrap();
    bed.crash().await;
    assert_eq!(bed.store.read_at(&b, 3 * PAGE, 64).await.unwrap(), [1; 64]);
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
    let all = filled(&bed, 1).await;
    holes(&bed, &all, 30, |page| (3..9).contains(&page)).await;
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
    // An item's segment is not an area, nor are its free regions.
    let item = bed.alloc(64).await.unwrap();
    let less = areas(&bed.store).await;
    let segment = bed.segment_of(&item);
    assert!(less.iter().all(|area| area.offset / (64 << 10) != segment));
    assert_eq!(
        listed.iter().filter(|area| area.offset / (64 << 10) != segment).copied().collect::<Vec<_>>(),
        less
    );
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

/// Every segment is looked at, and there is memory for one only.
#[test]
fn a_search_ends_when_no_map_stays_in_memory() {
    in_time(30, async {
        let mut bed = Bed::small().await;
        let all = filled(&bed, 1).await;
        // Two pages here and there, never three, and never aligned; and a slab of another class that shares a bit.
        let segments = u64::from(bed.store.layout().segment_count());
        for segment in 25..segments - 1 {
            holes(&bed, &all, segment, |page| matches!(page, 1 | 2 | 9 | 10)).await;
        }
        bed.options = bed.options.clone().loaded_bytes(0);
        bed.crash().await;
        for request in [
            pages(3),
            pages(2).align(2 * PAGE),
            pages(2).power_of_two(),
            AllocRequest::bytes(70 * PAGE),
            pages(1).align(8 * PAGE),
        ] {
            let got = bed.alloc(request).await;
            assert!(matches!(got, Err(Error::NoSpace { .. })), "{request:?} {got:?}");
        }
        let mut txn = bed.store.begin();
        let got = txn.alloc_extents(pages(17).max_extents(8)).await;
        assert!(matches!(got, Err(Error::NoSpace { .. })), "{got:?}");
        assert_eq!(txn.alloc_extents(pages(16).max_extents(8)).await.unwrap().len(), 8);
        txn.commit().await.unwrap();
        bed.alloc(pages(2)).await.unwrap();
        bed.alloc(64).await.unwrap();
        bed.verify().await;
    });
}

/// The same with segments of powers of two, and with spans whose tail is looked for in vain.
#[test]
fn a_search_in_other_roles_ends_too() {
    in_time(30, async {
        let mut bed = Bed::small().await;
        let all = bed.fill_segments().await;
        bed.fill().await;
        for extent in &all[2..20] {
            bed.free(extent).await.unwrap();
            bed.alloc(pages(4).power_of_two().at(extent.offset + 4 * PAGE)).await.unwrap();
            bed.alloc(pages(8).power_of_two().at(extent.offset + 8 * PAGE)).await.unwrap();
            bed.alloc(pages(1).power_of_two().at(extent.offset)).await.unwrap();
        }
        // Whole segments, each with a tail behind it that is too short.
        for extent in all[20..].iter().step_by(2) {
            bed.free(extent).await.unwrap();
        }
        bed.options = bed.options.clone().loaded_bytes(0);
        bed.crash().await;
        for request in [pages(2 * 16 + 1), pages(16 + 2)] {
            let got = bed.alloc(request).await;
            assert!(matches!(got, Err(Error::NoSpace { .. })), "{request:?} {got:?}");
        }
        bed.fill_segments().await;
        bed.crash().await;
        for request in [pages(4), pages(3).align(4 * PAGE), pages(2).align(16 * PAGE)] {
            let got = bed.alloc(request).await;
            assert!(matches!(got, Err(Error::NoSpace { .. })), "{request:?} {got:?}");
        }
        for _ in 0..18 {
            bed.alloc(pages(3)).await.unwrap();
        }
        assert!(matches!(bed.alloc(1).await, Err(Error::NoSpace { .. })));
        bed.verify().await;
    });
}
