//! Goal: items smaller than a page get the right class, and take and give back regions and segments.
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
use std::sync::Arc;

use freehold::device::MemoryDevice;
use freehold::format::{ItemClass, Role};
use freehold::inspect::info;
use freehold::{AllocRequest, Error, ExtentInfo, FormatOptions, OpenOptions};
use roles::items::{REGION, alloc_many, capacity, region_of};
use roles::{Bed, PAGE, SEGMENT, extents, is_no_extent, sound};

#[tokio::test]
async fn every_size_gets_the_smallest_class_that_holds_it() {
    let bed = Bed::small().await;
    assert_eq!(bed.store.layout().region_bytes(), REGION);
    let mut last = 0;
    for owner in [0, 1] {
        let mut lens = BTreeSet::new();
        for bytes in 1..=PAGE / 2 {
            let mut txn = bed.store.begin();
            let extent = txn.alloc(AllocRequest::bytes(bytes).owner(owner)).await.unwrap();
            assert!(extent.len >= bytes && extent.len < PAGE, "{bytes}");
            assert!(bytes < 16 || (extent.len - bytes) * 8 <= bytes, "{bytes} in {}", extent.len);
            assert!(extent.len >= last || bytes == 1);
            // A size that is a class of its own gets that.
            assert!(!lens.contains(&bytes) || extent.len == bytes);
            last = extent.len;
            lens.insert(extent.len);
        }
        assert!(lens.iter().all(|len| ItemClass::for_bytes(*len).unwrap().bytes() == *len));
        assert_eq!(lens.len(), 57);
    }
    for (bytes, len) in [
        (1, 16),
        (16, 16),
        (17, 18),
        (32, 32),
        (33, 36),
        (2048, 2048),
        (2049, 4096),
        (4096, 4096),
        (4097, 8192),
    ] {
        let extent = bed.alloc(bytes).await.unwrap();
        assert_eq!(extent.len, len, "{bytes}");
        let role = bed.role(if len < PAGE { Role::Slab } else { Role::Extent }).unwrap();
        assert!(role.extents > 0);
        assert!(len < PAGE || extent.offset % PAGE == 0);
    }
    assert_eq!((bed.role(Role::Slab).unwrap().extents, bed.role(Role::Extent).unwrap().extents), (6, 3));
    for request in [
        AllocRequest::bytes(0),
        AllocRequest::bytes(0).owner(3).at(PAGE),
        AllocRequest::bytes(0).power_of_two(),
    ] {
        let mut txn = bed.store.begin();
        assert!(matches!(txn.alloc(request).await, Err(Error::InvalidSize(_))));
        assert!(matches!(txn.alloc_extents(request).await, Err(Error::InvalidSize(_))));
    }
    bed.verify().await;
}

/// The lowest place is always the next, so that what lives together lies together.
#[tokio::test]
async fn the_lowest_item_that_is_free_is_handed_out() {
    let bed = Bed::small().await;
    let all = alloc_many(&bed, capacity(&bed, 100, false), AllocRequest::bytes(100)).await;
    assert!(all.len() > 200);
    assert!(all.is_sorted_by_key(|extent| extent.offset));
    assert_eq!(region_of(&all[0]), region_of(all.last().unwrap()));
    let freed = [180, 3, 70, 199];
    let mut txn = bed.store.begin();
    for at in freed {
        txn.free(&all[at]).await.unwrap();
    }
    txn.commit().await.unwrap();
    let again = alloc_many(&bed, freed.len() as u64, AllocRequest::bytes(100)).await;
    let offsets =
        |extents: &[freehold::Extent]| extents.iter().map(|extent| extent.offset).collect::<Vec<_>>();
    assert_eq!(offsets(&again), offsets(&[all[3], all[70], all[180], all[199]]));
    bed.verify().await;
}

#[tokio::test]
async fn with_large_pages_items_reach_to_32_kib() {
    let device = Arc::new(MemoryDevice::zeroed(16 << 20));
    let format = FormatOptions::new().page_bytes(64 << 10).segment_bytes(1 << 20).journal_bytes(4 << 20);
    format.format_device(device.clone()).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(device.clone()).await.unwrap();
    let kib = 1024;
    let sizes = [
        (1, 16),
        (33, 36),
        (4 * kib + 1, 4608),
        (32 * kib, 32 * kib),
        (32 * kib + 1, 64 * kib),
        (64 * kib, 64 * kib),
        (64 * kib + 1, 128 * kib),
        (1024 * kib, 1024 * kib),
        (1024 * kib + 1, 1088 * kib),
    ];
    let mut txn = store.begin();
    for (bytes, len) in sizes {
        let extent = txn.alloc(AllocRequest::bytes(bytes).owner(bytes)).await.unwrap();
        assert_eq!(extent.len, len, "{bytes}");
        txn.write(&extent, len - 4, b"tail").await.unwrap();
    }
    txn.commit().await.unwrap();
    let roles: Vec<_> = store.role_stats().iter().map(|stats| (stats.role, stats.extents)).collect();
    assert_eq!(roles, [(Role::Extent, 4), (Role::Slab, 4), (Role::Span, 1)]);
    sound(device, &store.stats());
    for info in extents(&store).await {
        assert_eq!(store.read_at(&info.extent, info.extent.len - 4, 4).await.unwrap(), b"tail");
    }
}

#[tokio::test]
async fn the_first_item_takes_segment_region_and_a_bit_in_one_transaction() {
    let bed = Bed::small().await;
    let before = bed.alloc(PAGE).await.unwrap();
    let stats = bed.store.stats();
    let last = info(bed.device.clone()).unwrap();
    assert!(last.roles.iter().all(|usage| usage.role != Role::Slab));
    let mut txn = bed.store.begin();
    let item = txn.alloc(100).await.unwrap();
    assert_eq!(bed.store.stats().reserved_bytes, REGION);
    // Nothing is written before the commit, and all of it with it.
    let now = info(bed.device.clone()).unwrap();
    assert_eq!((now.last_lsn, &now.roles), (last.last_lsn, &last.roles));
    let committed = txn.commit().await.unwrap();
    let now = info(bed.device.clone()).unwrap();
    assert_eq!((committed.lsn, now.last_lsn), (last.last_lsn + 1, last.last_lsn + 1));
    assert_eq!(now.journal_transactions, last.journal_transactions + 1);
    let slab = now.roles.iter().find(|usage| usage.role == Role::Slab).unwrap();
    let room = capacity(&bed, 100, false) * 104;
    assert_eq!((slab.segments, slab.extents, slab.allocated_bytes), (1, 1, 104));
    assert_eq!((slab.overhead_bytes, slab.rounding_bytes), (REGION - room, 4));
    assert_eq!(slab.free_bytes, 2 * REGION - (REGION - room) - 104);
    let after = bed.store.stats();
    assert_eq!(after.allocated_bytes, stats.allocated_bytes + 104);
    assert_eq!(after.metadata_bytes, stats.metadata_bytes + REGION - room);
    assert_eq!((after.segments.slab, after.segments.extent), (1, 1));
    assert_ne!(bed.segment_of(&item), bed.segment_of(&before));
    bed.verify().await;

    // And the last one gives all of it back, in one transaction too.
    let mut txn = bed.store.begin();
    txn.free(&item).await.unwrap();
    assert_eq!(txn.commit().await.unwrap().lsn, committed.lsn + 1);
    assert_eq!(bed.role(Role::Slab), None);
    let now = bed.store.stats();
    assert_eq!((now.free_bytes, now.metadata_bytes), (stats.free_bytes, stats.metadata_bytes));
    bed.verify().await;
}

#[tokio::test]
async fn a_full_region_leads_to_the_next_and_a_full_segment_too() {
    for owner in [0, 77] {
        let bed = Bed::small().await;
        let full = capacity(&bed, 2048, owner != 0);
        assert_eq!(full, 15);
        let request = AllocRequest::bytes(2048).owner(owner);
        let all = alloc_many(&bed, 4 * full, request).await;
        let mut regions: Vec<u64> = all.iter().map(region_of).collect();
        regions.dedup();
        // Each is filled before the next one is begun, and in the same segment.
        let unique: BTreeSet<_> = regions.iter().copied().collect();
        assert_eq!((regions.len(), unique.len()), (4, 4), "{regions:?}");
        assert_eq!((regions[0] / 2, regions[2] / 2), (regions[1] / 2, regions[3] / 2));
        assert_eq!(bed.role(Role::Slab).unwrap().segments, 2);
        // Another class gets a region of its own.
        let small = bed.alloc(16).await.unwrap();
        assert!(!unique.contains(&region_of(&small)));
        let listed: Vec<u64> = extents(&bed.store).await.iter().map(|info| info.owner).collect();
        assert_eq!(
            listed.iter().filter(|tag| **tag == owner).count() as u64,
            4 * full + u64::from(owner == 0)
        );
        bed.verify().await;
        // A hole is filled first.
        bed.free(&all[20]).await.unwrap();
        let again = bed.alloc(request).await.unwrap();
        assert_eq!(again.offset, all[20].offset);
        assert_ne!(again.generation, all[20].generation);

        // Region by region, the segment comes back; then extents fill the whole store.
        for extent in &all {
            let extent = if extent.offset == again.offset { &again } else { extent };
            bed.free(extent).await.unwrap();
        }
        assert_eq!(bed.role(Role::Slab).unwrap().segments, 1);
        bed.verify().await;
        bed.free(&small).await.unwrap();
        assert_eq!(bed.role(Role::Slab), None);
        let pages = bed.fill().await;
        assert_eq!(pages.len() as u64, bed.store.layout().usable_pages());
        bed.verify().await;
    }
}

#[tokio::test]
async fn a_segment_of_items_takes_every_other_role_after_the_last_item() {
    let segment = SEGMENT;
    for request in [
        AllocRequest::bytes(segment),
        AllocRequest::bytes(segment).power_of_two(),
        AllocRequest::bytes(2 * segment + 1),
        AllocRequest::bytes(16),
    ] {
        let mut bed = Bed::small().await;
        let item = bed.alloc(AllocRequest::bytes(500).owner(4)).await.unwrap();
        bed.store.write_at(&item, 0, &[9; 500]).await.unwrap();
        let request = if request == AllocRequest::bytes(16) { request } else { request.owner(5) };
        // Everything else is full.
        let walls = bed.fill_segments().await;
        let rest = bed.fill().await;
        bed.free_all(rest.into_iter().filter(|rest| bed.segment_of(rest) == bed.segment_of(&item))).await;
        bed.free(&item).await.unwrap();
        if request == AllocRequest::bytes(2 * segment + 1).owner(5) {
            let next = (item.offset / segment + 1) * segment;
            let walls = walls.into_iter().filter(|wall| (next..next + 2 * segment).contains(&wall.offset));
            bed.free_all(walls).await;
        }
        let new = bed.alloc(request).await.unwrap();
        assert_eq!(bed.segment_of(&new), bed.segment_of(&item), "{request:?}");
        assert!(is_no_extent(&bed.free(&item).await));
        assert!(bed.store.read_at(&item, 0, 8).await.is_err());
        bed.store.write_at(&new, 0, &[1; 16]).await.unwrap();
        bed.crash().await;
        assert_eq!(bed.store.read_at(&new, 0, 16).await.unwrap(), [1; 16]);
        bed.verify().await;
    }
}

#[tokio::test]
async fn items_are_listed_with_and_without_tags() {
    let mut bed = Bed::small().await;
    let mut model = Vec::new();
    for number in 0..60_u64 {
        let owner = if number % 3 == 0 { 0 } else { number << 32 | 1 };
        let bytes = 16 + number * 30;
        let extent = bed.alloc(AllocRequest::bytes(bytes).owner(owner)).await.unwrap();
        model.push(ExtentInfo { extent, owner });
    }
    model.sort_by_key(|info| info.extent.offset);
    for close in [false, true, false] {
        bed.reopen(close).await;
        assert_eq!(extents(&bed.store).await, model);
        for info in &model {
            assert_eq!(bed.store.extent_at(info.extent.offset).await.unwrap(), *info);
        }
    }
    bed.verify().await;
    let half = model.iter().step_by(2).map(|info| info.extent);
    bed.free_all(half).await;
    bed.crash().await;
    let rest: Vec<_> = model.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(extents(&bed.store).await, rest);
    bed.verify().await;
}
