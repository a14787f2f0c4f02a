//! Goal: runs of pages are exactly as long as asked for, and lie where they fit best or were asked for.
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

use freehold::{AllocRequest, Error, Extent};
use roles::{Bed, PAGE, extents, pages, picture};

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
    let bed = Bed::wide().await;
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
    let bed = Bed::wide().await;
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
async fn near_is_a_hint() {
    let bed = Bed::wide().await;
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
