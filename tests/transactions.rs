//! The handle on a real file: what a transaction does, and what is there after reopening.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

async fn store(len: u64) -> (TempDir, PathBuf, Allocator) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    FormatOptions::new().page_bytes(4096).create(&path, len).await.unwrap();
    let store = Allocator::open(&path).await.unwrap();
    (dir, path, store)
}

async fn extents(store: &Allocator) -> Vec<ExtentInfo> {
    store.extents().try_collect().await.unwrap()
}

async fn reopen(store: Allocator, path: &Path) -> Allocator {
    drop(store);
    Allocator::open(path).await.unwrap()
}

fn balanced(store: &Allocator) {
    let stats = store.stats();
    assert_eq!(
        stats.allocated_bytes
            + stats.free_bytes
            + stats.reserved_bytes
            + stats.pending_bytes
            + stats.metadata_bytes,
        stats.device_bytes,
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_extents_are_there_after_reopening_without_close() {
    let (_dir, path, store) = store(16 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(AllocRequest::bytes(10_000).owner(7)).await.unwrap();
    let b = txn.alloc(4096).await.unwrap();
    store.write_at(&a, 100, b"direct").await.unwrap();
    txn.write(&b, 8, b"journaled").await.unwrap();
    assert_eq!(txn.read_at(&b, 8, 9).await.unwrap(), b"journaled");
    let first = txn.commit().await.unwrap();
    balanced(&store);

    let store = reopen(store, &path).await;
    // Three pages, no more, and the next extent right behind them.
    assert_eq!((a.len, b.offset), (12_288, a.end()));
    assert_eq!(
        extents(&store).await,
        [ExtentInfo { extent: a, owner: 7 }, ExtentInfo { extent: b, owner: 0 }]
    );
    assert_eq!(store.read_at(&a, 100, 6).await.unwrap(), b"direct");
    assert_eq!(store.read_at(&b, 8, 9).await.unwrap(), b"journaled");
    let mut txn = store.begin();
    txn.free(&a).await.unwrap();
    let second = txn.commit().await.unwrap();
    assert!(second.lsn > first.lsn);
    store.close().await.unwrap();
    let store = reopen(store, &path).await;
    assert_eq!(extents(&store).await, [ExtentInfo { extent: b, owner: 0 }]);
    balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_leaves_no_trace() {
    let (_dir, path, store) = store(16 << 20).await;
    let before = store.stats();
    let mut txn = store.begin();
    let a = txn.alloc(4096).await.unwrap();
    assert_eq!(store.stats().reserved_bytes, 4096);
    store.write_at(&a, 0, b"lost").await.unwrap();
    drop(txn);
    let after = store.stats();
    assert_eq!((after.free_bytes, after.reserved_bytes, after.extents), (before.free_bytes, 0, 0));
    let mut txn = store.begin();
    assert!(matches!(txn.free(&a).await, Err(Error::InvalidExtent { .. } | Error::NotAllocated { .. })));
    drop(txn);
    assert_eq!(extents(&reopen(store, &path).await).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn frees_are_validated() {
    let (_dir, _path, store) = store(16 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(16384).await.unwrap();
    txn.commit().await.unwrap();
    let mut txn = store.begin();
    let wrong = |offset, len, generation| Extent { offset, len, generation };
    for bad in [
        wrong(a.offset + 4096, 4096, a.generation),
        wrong(a.offset, 4096, a.generation),
        wrong(a.offset + 1, a.len, a.generation),
        wrong(0, 4096, 1),
        wrong(u64::MAX, 4096, 1),
        wrong(a.offset + (8 << 20), 4096, 1),
    ] {
        assert!(matches!(txn.free(&bad).await, Err(Error::InvalidExtent { .. })), "{bad:?}");
    }
    assert!(matches!(
        txn.free(&wrong(a.offset, a.len, a.generation + 1)).await,
        Err(Error::NotAllocated { .. })
    ));
    txn.free(&a).await.unwrap();
    assert!(matches!(txn.free(&a).await, Err(Error::NotAllocated { .. })));
    let mut other = store.begin();
    assert!(matches!(other.free(&a).await, Err(Error::NotAllocated { .. })));
    drop(txn);
    other.free(&a).await.unwrap();
    other.commit().await.unwrap();
    let mut txn = store.begin();
    assert!(matches!(txn.free(&a).await, Err(Error::NotAllocated { .. })));
    balanced(&store);
}

/// More blocks than stay in memory: what the journal has room for can be committed, however little memory is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_may_need_more_blocks_than_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let format = FormatOptions::new().page_bytes(4096).segment_bytes(1 << 20).journal_bytes(8 << 20);
    format.create(&path, 512 << 20).await.unwrap();
    let options = OpenOptions::new().cached_blocks(1).loaded_bytes(0);
    let (store, _) = options.open(&path).await.unwrap();
    // In each segment one, and then all of them anew in one transaction.
    let mut live = Vec::new();
    for round in 0..3 {
        let mut txn = store.begin();
        for extent in live.drain(..) {
            txn.free(&extent).await.unwrap();
        }
        for _ in 0..200 {
            live.push(txn.alloc(600 << 10).await.unwrap());
        }
        assert!(txn.journal_bytes() < store.max_transaction_bytes());
        txn.commit().await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        balanced(&store);
    }
    // So it is with what it writes to. Everything is in place, so that nothing stays for another reason.
    store.close().await.unwrap();
    drop(store);
    let (store, _) = options.open(&path).await.unwrap();
    let mut txn = store.begin();
    for extent in &live {
        txn.write(extent, 4096, b"journaled").await.unwrap();
    }
    txn.commit().await.unwrap();
    let store = reopen(store, &path).await;
    assert_eq!(store.stats().allocated_bytes, 200 * (600 << 10));
    for extent in &live {
        assert_eq!(store.read_at(extent, 4096, 9).await.unwrap(), b"journaled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_is_an_answer_and_nothing_leaks() {
    let (_dir, _path, store) = store(1 << 20).await;
    let mut txn = store.begin();
    let mut got = Vec::new();
    let error = loop {
        match txn.alloc(4096).await {
            Ok(extent) => got.push(extent),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }));
    assert_eq!(store.stats().free_bytes, 0);
    drop(txn);
    let stats = store.stats();
    assert_eq!(stats.free_bytes, got.len() as u64 * 4096);
    assert!(matches!(store.begin().alloc(0).await, Err(Error::InvalidSize(_))));
    assert!(matches!(store.begin().alloc(2 << 20).await, Err(Error::NoSpace { .. })));
    assert!(matches!(store.begin().alloc(u64::MAX).await, Err(Error::NoSpace { .. })));
    // In transactions that fit the journal everything can be taken, and given back.
    let mut held = Vec::new();
    'fill: loop {
        let mut txn = store.begin();
        for _ in 0..8 {
            match txn.alloc(4096).await {
                Ok(extent) => held.push(extent),
                Err(_) => {
                    txn.commit().await.unwrap();
                    break 'fill;
                }
            }
        }
        txn.commit().await.unwrap();
    }
    assert_eq!(held.len(), got.len());
    for extents in held.chunks(8) {
        let mut txn = store.begin();
        for extent in extents {
            txn.free(extent).await.unwrap();
        }
        txn.commit().await.unwrap();
    }
    assert_eq!(store.stats().free_bytes, stats.free_bytes);
    balanced(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_share_groups_and_wrap_the_ring() {
    let (_dir, path, store) = store(32 << 20).await;
    let tasks: Vec<_> = (0..32_u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine: Vec<Extent> = Vec::new();
                for round in 0..60_u64 {
                    let mut txn = store.begin();
                    let new =
                        txn.alloc(AllocRequest::bytes(100 + round * 977 % 30_000).owner(task)).await.unwrap();
                    store.write_at(&new, 0, &task.to_le_bytes()).await.unwrap();
                    txn.write(&new, 64, &round.to_le_bytes()).await.unwrap();
                    if round % 3 == 2 {
                        txn.free(&mine.remove(0)).await.unwrap();
                    }
                    txn.commit().await.unwrap();
                    mine.push(new);
                }
                mine
            })
        })
        .collect();
    let mut expected = Vec::new();
    for (task, handle) in (0..).zip(tasks) {
        expected.extend(handle.await.unwrap().into_iter().map(|extent| ExtentInfo { extent, owner: task }));
    }
    expected.sort_by_key(|info| info.extent.offset);
    assert_eq!(extents(&store).await, expected);
    let stats = store.stats();
    assert!(stats.journal.groups < stats.journal.transactions, "{stats:?}");
    assert!(stats.journal.checkpoints > 0);
    balanced(&store);
    let store = reopen(store, &path).await;
    assert_eq!(extents(&store).await, expected);
    for info in expected {
        assert_eq!(store.read_at(&info.extent, 0, 8).await.unwrap(), info.owner.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_journal_transaction_commits_along() {
    let (_dir, path, store) = store(16 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(8192).await.unwrap();
    let mut theirs = freehold::Transaction::staging(1);
    theirs.write_with_overlay(a.offset + 4000, vec![9; 200]);
    theirs.write(a.offset, b"front".to_vec());
    txn.adopt(theirs).await.unwrap();
    txn.commit().await.unwrap();
    let store = reopen(store, &path).await;
    assert_eq!(store.read_at(&a, 4000, 200).await.unwrap(), [9; 200]);
    assert_eq!(store.read_at(&a, 0, 5).await.unwrap(), b"front");
    let mut outside = freehold::Transaction::staging(2);
    outside.write(a.offset + 8190, vec![0; 4]);
    assert!(matches!(store.begin().adopt(outside).await, Err(Error::InvalidExtent { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_too_large_for_the_journal_is_refused_and_another_goes_on() {
    let (_dir, _path, store) = store(8 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(1 << 20).await.unwrap();
    txn.write(&a, 0, &vec![1; 1 << 20]).await.unwrap();
    assert!(txn.journal_bytes() > store.max_transaction_bytes());
    assert!(matches!(txn.commit().await, Err(Error::TransactionTooLarge { .. })));
    assert_eq!(store.stats().reserved_bytes, 0);
    let mut txn = store.begin();
    let a = txn.alloc(4096).await.unwrap();
    txn.write(&a, 0, b"fits").await.unwrap();
    txn.commit().await.unwrap();
    balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_write_after_a_journaled_one_is_not_overwritten() {
    let (_dir, path, store) = store(16 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(4096).await.unwrap();
    txn.write(&a, 0, b"journaled").await.unwrap();
    txn.commit().await.unwrap();
    store.write_at(&a, 0, b"directly!").await.unwrap();
    assert_eq!(store.read_at(&a, 0, 9).await.unwrap(), b"directly!");
    store.sync_data().await.unwrap();
    let store = reopen(store, &path).await;
    assert_eq!(store.read_at(&a, 0, 9).await.unwrap(), b"directly!");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_journal_and_change_nothing() {
    let (_dir, path, store) = store(16 << 20).await;
    let mut txn = store.begin();
    let a = txn.alloc(4096).await.unwrap();
    txn.write(&a, 0, b"in the journal").await.unwrap();
    txn.commit().await.unwrap();
    assert!(matches!(Allocator::open_read_only(&path).await, Err(Error::Locked { .. })));
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let reader = Allocator::open_read_only(&path).await.unwrap();
    let second = Allocator::open_read_only(&path).await.unwrap();
    assert!(matches!(Allocator::open(&path).await, Err(Error::Locked { .. })));
    assert_eq!(reader.read_at(&a, 0, 14).await.unwrap(), b"in the journal");
    assert_eq!(extents(&second).await.len(), 1);
    assert!(matches!(reader.begin().alloc(1).await, Err(Error::ReadOnly)));
    assert!(matches!(reader.write_at(&a, 0, b"x").await, Err(Error::ReadOnly)));
    reader.close().await.unwrap();
    drop((reader, second));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_says_so() {
    let (_dir, _path, store) = store(16 << 20).await;
    let mut open = store.begin();
    open.alloc(4096).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(open.commit().await, Err(Error::Closed)));
    assert!(matches!(store.begin().alloc(1).await, Err(Error::Closed)));
    assert!(matches!(store.checkpoint().await, Err(Error::Closed)));
}
