//! Goal: items smaller than a page get the right class, take and give back regions and segments, keep their bytes through
//! the journal, and no handle of another life is ever taken for theirs.
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
use freehold::{AllocRequest, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use roles::{Bed, PAGE, areas, balanced, extents, in_time, picture, sound};

const SEGMENT: u64 = 64 << 10;
const REGION: u64 = 32 << 10;

fn capacity(bed: &Bed, bytes: u64, tagged: bool) -> u64 {
    let class = ItemClass::for_bytes(bytes).unwrap();
    bed.store.layout().region_layout(class, tagged).unwrap().capacity().into()
}

fn region_of(extent: &Extent) -> u64 {
    extent.offset / REGION
}

async fn alloc_many(bed: &Bed, count: u64, request: AllocRequest) -> Vec<Extent> {
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let mut txn = bed.store.begin();
        for _ in 0..(count - all.len() as u64).min(64) {
            all.push(txn.alloc(request).await.unwrap());
        }
        txn.commit().await.unwrap();
    }
    all
}

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
        bed.fill().await;
        bed.free(&item).await.unwrap();
        if request == AllocRequest::bytes(2 * segment + 1).owner(5) {
            let next = (item.offset / segment + 1) * segment;
            let walls = walls.into_iter().filter(|wall| (next..next + 2 * segment).contains(&wall.offset));
            bed.free_all(walls).await;
        }
        let new = bed.alloc(request).await.unwrap();
        assert_eq!(bed.segment_of(&new), bed.segment_of(&item), "{request:?}");
        assert!(matches!(
            bed.free(&item).await,
            Err(Error::InvalidExtent { .. } | Error::NotAllocated { .. })
        ));
        assert!(bed.store.read_at(&item, 0, 8).await.is_err());
        bed.store.write_at(&new, 0, &[1; 16]).await.unwrap();
        bed.crash().await;
        assert_eq!(bed.store.read_at(&new, 0, 16).await.unwrap(), [1; 16]);
        bed.verify().await;
    }
}

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
            let mut txn = bed.store.begin();
            for error in [
                txn.free(extent).await.err(),
                txn.resize(extent, 100).await.err(),
                txn.write(extent, 0, b"x").await.err(),
                bed.store.read_at(extent, 0, 1).await.err(),
                bed.store.write_at(extent, 0, b"x").await.err(),
            ] {
                let typed = matches!(error, Some(Error::NotAllocated { .. } | Error::InvalidExtent { .. }));
                assert!(typed, "{what}: {error:?}");
            }
            txn.commit().await.unwrap();
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
        if close {
            bed.close_and_open().await;
        } else {
            bed.crash().await;
        }
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
        if close {
            bed.close_and_open().await;
        } else {
            bed.crash().await;
        }
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
        let area = bed.segment_of(&old);
        assert!(areas(&bed.store).await.iter().all(|free| free.offset / SEGMENT != area));
        assert!(matches!(
            bed.free(&old).await,
            Err(Error::NotAllocated { .. } | Error::InvalidExtent { .. })
        ));
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

/// Three classes share a bit of the record: a segment that was looked at in vain is not looked at again.
#[test]
fn a_search_for_an_item_ends_when_no_head_stays_in_memory() {
    in_time(30, async {
        let mut bed = Bed::small().await;
        let full = capacity(&bed, 2048, false);
        alloc_many(&bed, 6 * full - 1, AllocRequest::bytes(2048)).await;
        let all = bed.live().await;
        for region in 0..6 {
            bed.free(&all[region * full as usize]).await.unwrap();
        }
        bed.options = bed.options.clone().loaded_bytes(0);
        bed.crash().await;
        let first = bed.alloc(1700).await.unwrap();
        assert_eq!(first.len, 1792);
        bed.crash().await;
        assert_eq!(region_of(&bed.alloc(1700).await.unwrap()), region_of(&first));
        for _ in 0..7 {
            let extent = bed.alloc(2048).await.unwrap();
            bed.store.write_at(&extent, 0, &[1; 2048]).await.unwrap();
            bed.alloc(AllocRequest::bytes(20).owner(1)).await.unwrap();
        }
        bed.verify().await;
        bed.free_all(bed.live().await).await;
        assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
        bed.verify().await;
    });
}

/// Hardly any block of metadata stays in memory.
#[test]
fn questions_end_when_no_block_stays_in_memory() {
    in_time(30, async {
        for blocks in [0, 1, 2, 3] {
            let mut bed = Bed::small().await;
            bed.options = bed.options.clone().cached_blocks(blocks).loaded_bytes(0);
            let long = bed.alloc(16 * PAGE).await.unwrap();
            let item = bed.alloc(100).await.unwrap();
            let page = bed.alloc(PAGE).await.unwrap();
            bed.close_and_open().await;
            let inside = Extent { offset: long.offset + 5 * PAGE, len: PAGE, generation: 1 };
            assert!(matches!(bed.free(&inside).await, Err(Error::InvalidExtent { .. })));
            let mut staging = freehold::Transaction::staging(1);
            staging.write(long.offset + 15 * PAGE, b"far from the header".to_vec());
            let mut txn = bed.store.begin();
            txn.adopt(staging).await.unwrap();
            txn.commit().await.unwrap();
            bed.store.checkpoint().await.unwrap();
            for extent in [long, item, page] {
                bed.free(&extent).await.unwrap();
                bed.store.checkpoint().await.unwrap();
                assert!(bed.free(&extent).await.is_err());
            }
            bed.verify().await;
        }
    });
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
