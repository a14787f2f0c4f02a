//! Goal: items of transactions that share a region come and go one by one, whichever of them commit.
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

use freehold::AllocRequest;
use freehold::allocator::FreeArea;
use roles::items::{alloc_many, capacity, region_of};
use roles::{Bed, areas, balanced, is_no_extent, picture};

#[tokio::test]
async fn what_is_given_up_leaves_no_trace() {
    let bed = Bed::small().await;
    for kept in [false, true] {
        if kept {
            bed.alloc(104).await.unwrap();
        }
        let before = picture(&bed.store).await;
        let mut txn = bed.store.begin();
        for bytes in [1, 100, 104, 2048, 700] {
            for owner in [0, 1] {
                let extent = txn.alloc(AllocRequest::bytes(bytes).owner(owner)).await.unwrap();
                bed.store.write_at(&extent, 0, b"x").await.unwrap();
            }
        }
        balanced(&bed.store.stats());
        assert!(bed.store.stats().reserved_bytes > 0);
        txn.abort();
        assert_eq!(picture(&bed.store).await, before);
        let mut txn = bed.store.begin();
        let extent = txn.alloc(100).await.unwrap();
        txn.write(&extent, 0, b"x").await.unwrap();
        txn.free(&extent).await.unwrap();
        assert_eq!(bed.store.stats().reserved_bytes, 0);
        txn.commit().await.unwrap();
        assert_eq!(picture(&bed.store).await, before);
        bed.verify().await;
    }
    // Freed and then not.
    let item = bed.live().await[0];
    let before = picture(&bed.store).await;
    let mut txn = bed.store.begin();
    txn.free(&item).await.unwrap();
    drop(txn);
    assert_eq!(picture(&bed.store).await, before);
    bed.free(&item).await.unwrap();
    bed.verify().await;
}

#[tokio::test]
async fn two_transactions_in_one_new_region() {
    for (first, commit_first, commit_second) in [
        (0, true, false),
        (1, true, false),
        (0, false, true),
        (1, false, true),
        (0, true, true),
        (1, true, true),
        (0, false, false),
    ] {
        let mut bed = Bed::small().await;
        let (mut a, mut b) = (bed.store.begin(), bed.store.begin());
        let one = a.alloc(AllocRequest::bytes(300)).await.unwrap();
        let two = b.alloc(AllocRequest::bytes(300)).await.unwrap();
        let three = a.alloc(AllocRequest::bytes(300)).await.unwrap();
        assert_eq!((region_of(&one), region_of(&two)), (region_of(&three), region_of(&three)));
        for (number, extent) in [one, two, three].iter().enumerate() {
            bed.store.write_at(extent, 0, &[number as u8 + 1; 300]).await.unwrap();
        }
        let mut ends = [(Some(a), vec![one, three]), (Some(b), vec![two])];
        let mut there = Vec::new();
        for (at, commit) in [(first, commit_first), (1 - first, commit_second)] {
            let (txn, extents) = &mut ends[at];
            let txn = txn.take().unwrap();
            if commit {
                txn.commit().await.unwrap();
                there.append(extents);
            } else {
                txn.abort();
            }
            balanced(&bed.store.stats());
            let mut sorted = there.clone();
            sorted.sort_unstable();
            assert_eq!(bed.copy().await.live().await, sorted);
        }
        bed.verify().await;
        bed.crash().await;
        for (number, extent) in [one, two, three].iter().enumerate() {
            let read = bed.store.read_at(extent, 0, 300).await;
            if there.contains(extent) {
                assert_eq!(read.unwrap(), [number as u8 + 1; 300]);
            } else {
                assert!(read.is_err());
            }
        }
        bed.free_all(there).await;
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        bed.verify().await;
    }
}

#[tokio::test]
async fn the_last_item_goes_while_another_is_on_its_way() {
    for commit in [true, false] {
        let bed = Bed::small().await;
        let old = bed.alloc(300).await.unwrap();
        let mut txn = bed.store.begin();
        let new = txn.alloc(300).await.unwrap();
        assert_eq!(region_of(&new), region_of(&old));
        bed.free(&old).await.unwrap();
        // The region is no more on disk, and still nobody else's.
        assert_eq!(bed.copy().await.live().await, []);
        balanced(&bed.store.stats());
        assert_eq!(bed.store.stats().allocated_bytes, 0);
        let region_bytes = bed.store.layout().region_bytes();
        let region = old.offset / region_bytes * region_bytes;
        let holds = |free: &FreeArea| free.offset < region + region_bytes && region < free.offset + free.len;
        assert!(!areas(&bed.store).await.iter().any(holds));
        assert!(is_no_extent(&bed.free(&old).await));
        bed.store.write_at(&new, 0, &[5; 300]).await.unwrap();
        if commit {
            txn.commit().await.unwrap();
            bed.verify().await;
            assert_eq!(bed.copy().await.store.read_at(&new, 0, 300).await.unwrap(), [5; 300]);
            bed.free(&new).await.unwrap();
        } else {
            txn.abort();
        }
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        bed.verify().await;
    }
}

#[tokio::test]
async fn one_goes_and_one_comes_in_the_same_transaction() {
    let bed = Bed::small().await;
    let full = capacity(&bed, 2048, false);
    let all = alloc_many(&bed, full, AllocRequest::bytes(2048)).await;
    let mut txn = bed.store.begin();
    txn.free(&all[3]).await.unwrap();
    // Its place is not to be had before that is durable.
    let other = txn.alloc(2048).await.unwrap();
    assert_ne!(region_of(&other), region_of(&all[3]));
    txn.commit().await.unwrap();
    let again = bed.alloc(2048).await.unwrap();
    assert_eq!(again.offset, all[3].offset);
    // All of a region and something new in another one.
    let mut txn = bed.store.begin();
    for extent in all.iter().filter(|extent| extent.offset != again.offset).chain([&again]) {
        txn.free(extent).await.unwrap();
    }
    let new = txn.alloc(2048).await.unwrap();
    assert_eq!(region_of(&new), region_of(&other));
    txn.commit().await.unwrap();
    let mut live = vec![other, new];
    live.sort_unstable();
    assert_eq!(bed.live().await, live);
    bed.verify().await;
}
