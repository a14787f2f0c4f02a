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

use std::sync::Arc;

use freehold::allocator::FreeArea;
use freehold::device::MemoryDevice;
use freehold::{AllocRequest, Extent, FormatOptions, OpenOptions, Transaction};
use futures_util::future::join_all;
use roles::items::{alloc_many, capacity, region_of};
use roles::{Bed, PAGE, areas, balanced, is_no_extent, picture};

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

/// Head and header of a region are written down once for the transactions of a group, whoever of them came first.
#[tokio::test]
async fn many_transactions_of_a_group_change_one_region() {
    let bed = Bed::small().await;
    let count = 12;
    let lone = bed.store.stats().journal.encoded_bytes;
    let old = bed.alloc(300).await.unwrap();
    let lone = bed.store.stats().journal.encoded_bytes - lone;
    let before = bed.store.stats().journal;
    // The last item of the region goes, and others come, all in one group.
    let (mut commits, mut new) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut txn = bed.store.begin();
        if number == count / 2 {
            txn.free(&old).await.unwrap();
        }
        let extent = txn.alloc(300).await.unwrap();
        txn.write(&extent, 0, &[number; 300]).await.unwrap();
        new.push(extent);
        commits.push(txn.commit());
    }
    for committed in join_all(commits).await {
        committed.unwrap();
    }
    assert!(new.iter().all(|extent| region_of(extent) == region_of(&old)));
    let journal = bed.store.stats().journal;
    assert_eq!(journal.groups, before.groups + 1);
    // Of each item its bytes, which repeat, its bit and its mark.
    let each = (journal.encoded_bytes - before.encoded_bytes) / u64::from(count);
    assert!(each < lone / 8, "{each} bytes for each of many, {lone} for a lone one");
    bed.verify().await;
    let copy = bed.copy().await;
    for (number, extent) in (0..).zip(&new) {
        for store in [&bed.store, &copy.store] {
            assert_eq!(store.read_at(extent, 0, 300).await.unwrap(), [number; 300]);
        }
    }
    assert!(is_no_extent(&bed.free(&old).await));
}

/// The region is there before and behind; in between, as some transactions of the group have it, it is not. Those in between are
/// more than take effect together.
#[tokio::test]
async fn the_last_item_goes_and_the_first_one_comes_in_one_group() {
    for (comes_first, between) in [(false, 0), (true, 0), (false, 150), (true, 150)] {
        let bed = Bed::new(8 << 20, 1 << 20, 2 << 20).await;
        let old = bed.alloc(300).await.unwrap();
        let (mut coming, mut going) = (bed.store.begin(), bed.store.begin());
        going.free(&old).await.unwrap();
        let new = coming.alloc(300).await.unwrap();
        coming.write(&new, 0, &[9; 300]).await.unwrap();
        assert_eq!(region_of(&new), region_of(&old));
        let (mut first, mut last) = (going, coming);
        if comes_first {
            std::mem::swap(&mut first, &mut last);
        }
        let (mut commits, mut others) = (vec![first.commit()], Vec::new());
        for _ in 0..between {
            let mut other = bed.store.begin();
            others.push(other.alloc(PAGE).await.unwrap());
            commits.push(other.commit());
        }
        commits.push(last.commit());
        let groups = bed.store.stats().journal.groups;
        for committed in join_all(commits).await {
            committed.unwrap();
        }
        assert_eq!(bed.store.stats().journal.groups, groups + 1);
        bed.verify().await;
        bed.free_all(others).await;
        assert_eq!(bed.live().await, [new]);
        bed.verify().await;
        assert_eq!(bed.copy().await.store.read_at(&new, 0, 300).await.unwrap(), [9; 300]);
        assert!(is_no_extent(&bed.free(&old).await));
        bed.free(&new).await.unwrap();
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        bed.verify().await;
    }
}

/// What lay in a region before it was one means nothing, and takes no room in the journal.
#[tokio::test]
async fn old_bytes_under_a_new_region_are_not_journaled() {
    let bed = Bed::small().await;
    let all = bed.fill().await;
    for extent in &all {
        let noise: Vec<u8> = (0..extent.len).map(|at| (at * at + at / 7) as u8).collect();
        bed.store.write_at(extent, 0, &noise).await.unwrap();
    }
    bed.free_all(all).await;
    let before = bed.store.stats().journal.encoded_bytes;
    let mut commits = Vec::new();
    // The second one does not find the region there when it reads what is under it.
    for _ in 0..2 {
        let mut txn = bed.store.begin();
        let extent = txn.alloc(300).await.unwrap();
        txn.write(&extent, 0, &[1; 300]).await.unwrap();
        commits.push(txn.commit());
    }
    for committed in join_all(commits).await {
        committed.unwrap();
    }
    let encoded = bed.store.stats().journal.encoded_bytes - before;
    assert!(encoded < u64::from(bed.store.layout().block_bytes()) / 4, "{encoded} bytes");
    bed.verify().await;
}

/// Symptom: a store refused to open after acknowledged commits: "a group changes more bits than there are pages". Cause: a region
/// can go with its last item and come again with one that was reserved, in one group, and its pages counted twice.
#[tokio::test]
async fn all_regions_go_and_come_in_one_group() {
    let device = Arc::new(MemoryDevice::zeroed(64 << 20));
    let format = FormatOptions::new().page_bytes(4096).segment_bytes(1 << 20).journal_bytes(24 << 20);
    format.format_device(Arc::clone(&device) as _).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(Arc::clone(&device) as _).await.unwrap();
    let region_of = |item: &Extent| item.offset / (64 << 10);
    let commit = async |txn: Transaction| {
        txn.commit().await.unwrap();
    };
    // Transactions that come between, in a region of their own.
    let mut between = Vec::new();
    for _ in 0..70 {
        let mut txn = store.begin();
        txn.alloc(1024).await.unwrap();
        between.push(txn);
    }
    // One item of each region is reserved, and all others are committed.
    let (mut reserving, mut committed, mut last) = (store.begin(), Vec::new(), Vec::new());
    let mut reserved = 0;
    'regions: while let Ok(first) = reserving.alloc(2048).await {
        reserved += 1;
        let (mut txn, mut items) = (store.begin(), Vec::new());
        loop {
            match txn.alloc(2048).await {
                Ok(item) if region_of(&item) == region_of(&first) => items.push(item),
                Ok(item) => break txn.free(&item).await.unwrap(),
                Err(_) => break 'regions,
            }
        }
        commit(txn).await;
        last.extend(items.pop());
        committed.extend(items);
        if last.len() % 50 == 0 {
            store.checkpoint().await.unwrap();
        }
    }
    let pages = store.layout().page_count();
    assert!(last.len() as u64 * 2 * 16 > pages, "{} regions", last.len());
    for some in committed.chunks(500) {
        let mut txn = store.begin();
        for item in some {
            txn.free(item).await.unwrap();
        }
        commit(txn).await;
    }
    store.checkpoint().await.unwrap();
    let mut freeing = store.begin();
    for item in &last {
        freeing.free(item).await.unwrap();
    }
    let before = store.stats().journal.groups;
    let all = [freeing].into_iter().chain(between).chain([reserving]).map(commit);
    join_all(all).await;
    assert_eq!(store.stats().journal.groups, before + 1, "not one group");
    let crashed = Arc::new(MemoryDevice::from_image(device.image(), 512, 512));
    let (store, _) = OpenOptions::new().open_device(crashed).await.unwrap();
    assert_eq!(store.stats().extents, 70 + reserved);
}
