//! Goal: a place of items has many lives; items keep their bytes through the journal, no bytes of an earlier life come back,
//! and no handle of another life is ever taken for theirs.
//!
//! Method: stores in memory with segments of two regions; at the end the raw device is recounted, and a copy is opened as
//! after a power cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use std::collections::BTreeSet;

use freehold::{AllocRequest, Error, Extent};
use roles::items::{REGION, alloc_many, region_of};
use roles::{Bed, PAGE, SEGMENT, in_time, picture};

#[tokio::test]
async fn frees_of_what_is_no_item_are_refused_and_change_nothing() {
    let bed = Bed::small().await;
    let items = alloc_many(&bed, 3, AllocRequest::bytes(200).owner(1)).await;
    let other = bed.alloc(AllocRequest::bytes(1000)).await.unwrap();
    let page = bed.alloc(PAGE).await.unwrap();
    // A place that was used before, one that never was, and a whole segment of that kind.
    bed.free(&items[1]).await.unwrap();
    let gone = alloc_many(&bed, 1, AllocRequest::bytes(40)).await[0];
    bed.free(&gone).await.unwrap();
    let again = bed.alloc(AllocRequest::bytes(200).owner(2)).await.unwrap();
    assert_eq!(again.offset, items[1].offset);
    let item = items[0];
    let at = |offset: u64, like: &Extent| Extent { offset, ..*like };
    let region = region_of(&item) * REGION;
    let bad = [
        ("in the middle", at(item.offset + 1, &item)),
        ("in the middle", at(item.offset + 104, &item)),
        ("the head", at(region, &item)),
        ("in the head", at(region + 16, &item)),
        ("an unused item", at(items[2].offset + item.len, &item)),
        ("the remainder of the region", at(region + REGION - 1, &item)),
        ("a free region", at(gone.offset, &gone)),
        ("a free region", at((region_of(&gone)) * REGION, &page)),
        ("another length", Extent { len: 216, ..item }),
        ("a page's length", Extent { len: PAGE, ..item }),
        ("another generation", Extent { generation: item.generation + 1, ..item }),
        ("another generation", Extent { generation: 0, ..item }),
        ("a stale handle", items[1]),
        ("an item's place with another class", Extent { offset: other.offset, ..item }),
        ("a free segment", at(item.offset + 4 * SEGMENT, &item)),
        ("an untouched segment", at(item.offset + 30 * SEGMENT, &item)),
        ("metadata", at(100, &item)),
        ("behind the device", at((4 << 20) + 100, &item)),
        ("behind everything", at(u64::MAX, &item)),
        ("in a page", at(page.offset + 16, &item)),
    ];
    let before = picture(&bed.store).await;
    for bed in [&bed, &bed.copy().await] {
        for (what, extent) in &bad {
            bed.refuses(extent, what).await;
        }
        assert_eq!(picture(&bed.store).await, before);
        bed.verify().await;
    }
    // Twice: in a transaction, in two at a time, and later.
    let mut txn = bed.store.begin();
    txn.free(&item).await.unwrap();
    assert!(matches!(txn.free(&item).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(bed.store.begin().free(&item).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(txn.write(&item, 0, b"x").await, Err(Error::NotAllocated { .. })));
    txn.commit().await.unwrap();
    assert!(matches!(bed.free(&item).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(bed.copy().await.free(&item).await, Err(Error::NotAllocated { .. })));
    bed.verify().await;
}

#[tokio::test]
async fn handles_of_every_life_of_a_place_differ() {
    let mut bed = Bed::small().await;
    // Keeps the region alive; or not.
    for keep in [true, false] {
        let kept = if keep { Some(bed.alloc(16).await.unwrap()) } else { None };
        let mut seen = BTreeSet::new();
        for round in 0..40 {
            let item = bed.alloc(16).await.unwrap();
            assert!(seen.insert(item), "{item:?} again in round {round}");
            if round % 3 == 0 {
                let mut txn = bed.store.begin();
                let dropped = txn.alloc(16).await.unwrap();
                assert!(seen.insert(dropped), "{dropped:?} again in round {round}");
                drop(txn);
            }
            bed.free(&item).await.unwrap();
            if round % 10 == 9 {
                // Handles of transactions that were dropped are only remembered in memory.
                bed.crash().await;
                seen.retain(|old| old.offset == item.offset && round > 0);
                for old in &seen {
                    assert!(bed.free(old).await.is_err());
                }
            }
        }
        if let Some(kept) = kept {
            bed.free(&kept).await.unwrap();
        }
        bed.verify().await;
    }
}

/// Its place is given out again after the region's head was read anew.
#[test]
fn the_handle_of_an_aborted_item_stays_stale_when_nothing_stays_in_memory() {
    in_time(30, async {
        let mut bed = Bed::small().await;
        bed.options = bed.options.clone().loaded_bytes(0);
        bed.close_and_open().await;
        let kept = bed.alloc(100).await.unwrap();
        let mut aborted = Vec::new();
        for _ in 0..3 {
            let mut txn = bed.store.begin();
            aborted.push(txn.alloc(100).await.unwrap());
            drop(txn);
            // Another role's segment drives the region out of memory.
            let page = bed.alloc(PAGE).await.unwrap();
            bed.free(&page).await.unwrap();
        }
        let item = bed.alloc(100).await.unwrap();
        for stale in &aborted {
            assert_eq!(stale.offset, item.offset);
            assert_ne!(stale, &item);
            assert!(bed.free(stale).await.is_err());
        }
        bed.free_all([kept, item]).await;
        bed.verify().await;
    });
}

#[tokio::test]
async fn a_region_that_changes_its_kind_within_a_journal_replays_to_the_last() {
    let mut bed = Bed::new(6 << 20, SEGMENT, 1 << 20).await;
    let walls = bed.fill_segments().await;
    bed.fill().await;
    bed.store.checkpoint().await.unwrap();
    let target = walls[10];
    let checkpoints = bed.store.stats().journal.checkpoints;
    bed.free(&target).await.unwrap();
    let lives = [
        (AllocRequest::bytes(16), 700),
        (AllocRequest::bytes(2000).owner(1), 16),
        (AllocRequest::bytes(3 * PAGE), 5),
        (AllocRequest::bytes(300).owner(2), 90),
        (AllocRequest::bytes(SEGMENT).power_of_two(), 1),
        (AllocRequest::bytes(40), 30),
    ];
    let mut last = Vec::new();
    for (number, (request, count)) in lives.into_iter().enumerate() {
        for extent in std::mem::take(&mut last) {
            bed.free(&extent).await.unwrap();
        }
        last = alloc_many(&bed, count, request).await;
        assert!(last.iter().all(|extent| bed.segment_of(extent) == bed.segment_of(&target)), "{number}");
        for extent in last.iter().step_by(7) {
            let mut txn = bed.store.begin();
            txn.write(extent, 3, &[number as u8 + 1; 9]).await.unwrap();
            txn.commit().await.unwrap();
        }
        if number % 2 == 1 {
            continue;
        }
        let copy = bed.copy().await;
        assert_eq!(picture(&copy.store).await, picture(&bed.store).await);
        for extent in last.iter().step_by(7) {
            assert_eq!(copy.store.read_at(extent, 3, 9).await.unwrap(), [number as u8 + 1; 9]);
        }
    }
    if bed.store.stats().journal.checkpoints != checkpoints {
        panic!("the ring is too small for what this test wants to see");
    }
    bed.crash().await;
    let mut offsets: Vec<u64> = last.iter().map(|extent| extent.offset).collect();
    offsets.sort_unstable();
    let listed =
        bed.live().await.into_iter().filter(|extent| bed.segment_of(extent) == bed.segment_of(&target));
    assert_eq!(listed.map(|extent| extent.offset).collect::<Vec<_>>(), offsets);
    bed.verify().await;
}

#[tokio::test]
async fn bytes_of_items_survive() {
    let mut bed = Bed::small().await;
    let committed = bed.alloc(600).await.unwrap();
    let mut txn = bed.store.begin();
    let open = txn.alloc(700).await.unwrap();
    let dropped = {
        let mut other = bed.store.begin();
        let dropped = other.alloc(700).await.unwrap();
        bed.store.write_at(&dropped, 0, &[66; 700]).await.unwrap();
        dropped
    };
    // In one row, whichever call.
    bed.store.write_at(&open, 0, &[1; 100]).await.unwrap();
    txn.write(&open, 50, &[2; 100]).await.unwrap();
    bed.store.write_at(&open, 100, &[3; 100]).await.unwrap();
    txn.write(&open, open.len - 1, &[4]).await.unwrap();
    let expect = [vec![1; 50], vec![2; 50], vec![3; 100]].concat();
    assert_eq!(bed.store.read_at(&open, 0, 200).await.unwrap(), expect);
    assert_eq!(txn.read_at(&open, 0, 200).await.unwrap(), expect);
    bed.store.write_at(&committed, 10, &[5; 20]).await.unwrap();
    txn.write(&committed, 20, &[6; 20]).await.unwrap();
    assert_eq!(txn.read_at(&committed, 10, 30).await.unwrap(), [vec![5; 10], vec![6; 20]].concat());
    assert_eq!(bed.store.read_at(&committed, 10, 20).await.unwrap(), [5; 20]);
    for (offset, len) in [(0, open.len + 1), (open.len, 1), (u64::MAX, 1)] {
        let data = vec![0; len as usize];
        assert!(matches!(txn.write(&open, offset, &data).await, Err(Error::InvalidExtent { .. })));
        assert!(matches!(bed.store.write_at(&open, offset, &data).await, Err(Error::InvalidExtent { .. })));
    }
    // Before the commit a power cut leaves nothing of it.
    let early = bed.copy().await;
    assert_eq!(early.live().await, [committed]);
    assert_eq!(early.store.read_at(&committed, 10, 20).await.unwrap(), [5; 20]);
    txn.commit().await.unwrap();
    bed.store.write_at(&open, 300, &[7; 8]).await.unwrap();
    for close in [false, true, false] {
        bed.reopen(close).await;
        assert_eq!(bed.store.read_at(&open, 0, 200).await.unwrap(), expect);
        assert_eq!(bed.store.read_at(&open, 300, 8).await.unwrap(), [7; 8]);
        assert_eq!(bed.store.read_at(&open, open.len - 1, 1).await.unwrap(), [4]);
        assert_eq!(bed.store.read_at(&committed, 10, 30).await.unwrap(), [vec![5; 10], vec![6; 20]].concat());
    }
    assert!(bed.store.read_at(&dropped, 0, 1).await.is_err());
    // Neighbours in a sector keep theirs.
    let near = alloc_many(&bed, 20, AllocRequest::bytes(24)).await;
    for (number, extent) in near.iter().enumerate() {
        bed.store.write_at(extent, 0, &[number as u8; 24]).await.unwrap();
    }
    bed.free(&near[3]).await.unwrap();
    let again = bed.alloc(24).await.unwrap();
    bed.store.write_at(&again, 0, &[99; 24]).await.unwrap();
    bed.crash().await;
    for (number, extent) in near.iter().enumerate() {
        let (extent, byte) = if number == 3 { (&again, 99) } else { (extent, number as u8) };
        assert_eq!(bed.store.read_at(extent, 0, 24).await.unwrap(), [byte; 24]);
    }
    bed.verify().await;
}

/// Rule 4.
#[tokio::test]
async fn bytes_of_an_item_do_not_come_back_over_pages() {
    for order in [0_u64, 1, 3] {
        let mut bed = Bed::small().await;
        let walls = bed.fill_segments().await;
        bed.fill().await;
        bed.free(&walls[20]).await.unwrap();
        let items = alloc_many(&bed, 20, AllocRequest::bytes(1500)).await;
        for item in &items {
            bed.store.write_at(item, 0, &[7; 1500]).await.unwrap();
        }
        bed.free_all(items.iter().copied()).await;
        let mut pages = Vec::new();
        let mut txn = bed.store.begin();
        for _ in 0..16 >> order {
            let extent = txn.alloc(AllocRequest::bytes(PAGE << order)).await.unwrap();
            assert_eq!(bed.segment_of(&extent), bed.segment_of(&walls[20]));
            bed.store.write_at(&extent, 0, &vec![1; (PAGE << order) as usize]).await.unwrap();
            pages.push(extent);
        }
        txn.commit().await.unwrap();
        for _ in 0..2 {
            bed.crash().await;
            for extent in &pages {
                let bytes = bed.store.read_at(extent, 0, extent.len as usize).await.unwrap();
                assert!(bytes.iter().all(|byte| *byte == 1), "old bytes in {extent:?}");
            }
        }
        // And the other way round: direct bytes do not come through items.
        bed.free_all(pages).await;
        let item = bed.alloc(1500).await.unwrap();
        bed.store.write_at(&item, 0, &[2; 1500]).await.unwrap();
        bed.store.checkpoint().await.unwrap();
        bed.crash().await;
        assert_eq!(bed.store.read_at(&item, 0, 1500).await.unwrap(), [2; 1500]);
        bed.verify().await;
    }
}
