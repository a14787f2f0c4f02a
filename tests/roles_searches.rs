//! Goal: a search for space ends, with what can be had or with a refusal, however little stays in memory.
//!
//! Method: stores in memory with hardly any memory for maps or metadata, in which there is nearly what is asked for in many
//! segments; a search that goes on for ever fails by its time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod roles;

use freehold::{AllocRequest, Error, Extent};
use roles::items::{alloc_many, capacity, region_of};
use roles::{Bed, PAGE, in_time, pages};

/// Every segment is looked at, and there is memory for one only.
#[test]
fn a_search_ends_when_no_map_stays_in_memory() {
    in_time(30, async {
        let mut bed = Bed::small().await;
        let all = bed.fill().await;
        assert_eq!(bed.store.stats().free_bytes, 0);
        // Two pages here and there, never three, and never aligned; and a slab of another class that shares a bit.
        let segments = u64::from(bed.store.layout().segment_count());
        for segment in 25..segments - 1 {
            bed.holes(&all, segment, |page| matches!(page, 1 | 2 | 9 | 10)).await;
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
