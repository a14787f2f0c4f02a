//! Giving an extent another length: what must not happen on the way. Method: stores in memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
use freehold::{Error, FormatOptions, OpenOptions, device::MemoryDevice};
use std::sync::Arc;

async fn store() -> freehold::Allocator {
    let device = Arc::new(MemoryDevice::zeroed(4 << 20));
    FormatOptions::new().page_bytes(4096).format_device(device.clone()).await.unwrap();
    OpenOptions::new().open_device(device).await.unwrap().0
}

#[tokio::test(flavor = "current_thread")]
async fn resize_to_what_no_device_holds() {
    let store = store().await;
    let mut txn = store.begin();
    let extent = txn.alloc(4096).await.unwrap();
    assert!(matches!(txn.resize(&extent, u64::MAX).await, Err(Error::CannotResize { .. })));
    txn.commit().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_resize_that_fails_changes_nothing() {
    let store = store().await;
    let mut txn = store.begin();
    let extent = txn.alloc(5000).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(store.stats().rounding_bytes, 3192);
    let mut txn = store.begin();
    let same = txn.resize(&extent, 5000).await.unwrap();
    assert!(txn.resize(&same, 64 << 20).await.is_err());
    txn.commit().await.unwrap();
    assert_eq!(store.stats().rounding_bytes, 3192);
}

#[tokio::test(flavor = "current_thread")]
async fn a_resize_keeps_what_was_staged_for_what_stays() {
    let store = store().await;
    let mut txn = store.begin();
    let extent = txn.alloc(8192).await.unwrap();
    txn.write(&extent, 4090, &[7; 20]).await.unwrap();
    let short = txn.resize(&extent, 4096).await.unwrap();
    let read = txn.read_at(&short, 4090, 6).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(read, [7; 6]);
}
