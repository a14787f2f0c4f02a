//! Goal: runs of pages change their length where they are, with the transaction or not at all, and their bytes follow.
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

use freehold::{Error, Extent};
use roles::{Bed, PAGE, is_no_extent, pages, picture};

#[tokio::test]
async fn growing_and_shrinking_in_place() {
    let bed = Bed::wide().await;
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
        assert!(is_no_extent(&got), "{got:?}");
    }
    assert_eq!(picture(&bed.store).await, before);
    bed.verify().await;
}

#[tokio::test]
async fn twice_in_a_transaction_and_then_not_at_all() {
    let bed = Bed::wide().await;
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
    assert!(is_no_extent(&txn.free(&grown).await));
    assert!(matches!(txn.resize(&short, PAGE).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(bed.store.begin().resize(&short, PAGE).await, Err(Error::NotAllocated { .. })));
    txn.commit().await.unwrap();
    assert_eq!(bed.store.stats().free_bytes, bed.usable_bytes());
    bed.verify().await;
}

#[tokio::test]
async fn a_refused_second_change_leaves_the_first() {
    let bed = Bed::wide().await;
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
    let bed = Bed::wide().await;
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
    let bed = Bed::wide().await;
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
    let mut bed = Bed::wide().await;
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
