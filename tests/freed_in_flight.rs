//! Goal: what a transaction frees is nobody's until the transaction is durable (rule 3), also between taking effect in memory
//! and the end of the flush. Where one thread does everything nobody can ask for space just then; here somebody does.
//!
//! Method: a device in memory whose flush waits behind a gate. Everything but what is being freed is in use.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod gated;

use std::sync::Arc;
use std::time::Duration;

use freehold::{AllocRequest, Allocator, Extent, FormatOptions, OpenOptions};

use gated::{Gated, PATIENCE};

/// Long enough for somebody who has no need to wait.
const MOMENT: Duration = Duration::from_millis(100);

async fn store() -> (Arc<Gated>, Allocator) {
    let device = Arc::new(Gated::new(4 << 20));
    let format = FormatOptions::new().page_bytes(4096).segment_bytes(256 << 10);
    format.format_device(Arc::clone(&device) as _).await.unwrap();
    let (store, _) = OpenOptions::new().open_device(Arc::clone(&device) as _).await.unwrap();
    (device, store)
}

async fn alloc(store: &Allocator, request: AllocRequest) -> Option<Extent> {
    let mut transaction = store.begin();
    let extent = transaction.alloc(request).await.ok()?;
    transaction.commit().await.unwrap();
    Some(extent)
}

/// Takes all space that is left, from long runs to short ones.
async fn fill(store: &Allocator) {
    for pages in [32, 8, 2, 1] {
        while alloc(store, AllocRequest::bytes(pages * 4096)).await.is_some() {}
    }
}

/// Frees these extents, and asks meanwhile for space that only they could give.
async fn freed_space_is_nobodys(
    device: &Arc<Gated>,
    store: &Allocator,
    freed: Vec<Extent>,
    asked: AllocRequest,
) {
    assert!(store.begin().alloc(asked).await.is_err(), "there is space without what is freed");
    device.gate.set(true);
    let freeing = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut transaction = store.begin();
            for extent in &freed {
                transaction.free(extent).await.unwrap();
            }
            transaction.commit().await.unwrap();
        })
    };
    let waiting = Arc::clone(device);
    tokio::task::spawn_blocking(move || waiting.gate.wait_for_somebody()).await.unwrap();
    // It may be refused, or wait; it must not be given what a power cut would give back to its old owner.
    let mut transaction = store.begin();
    if let Ok(Ok(extent)) = tokio::time::timeout(MOMENT, transaction.alloc(asked)).await {
        device.gate.set(false);
        panic!("{extent:?} is handed out before its free is durable");
    }
    drop(transaction);
    device.gate.set(false);
    tokio::time::timeout(PATIENCE, freeing).await.unwrap().unwrap();
    assert!(alloc(store, asked).await.is_some(), "it is free now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages() {
    let (device, store) = store().await;
    let extent = alloc(&store, AllocRequest::bytes(5 * 4096)).await.unwrap();
    fill(&store).await;
    freed_space_is_nobodys(&device, &store, vec![extent], AllocRequest::bytes(5 * 4096)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span() {
    let (device, store) = store().await;
    let request = AllocRequest::bytes(300 << 10);
    let span = alloc(&store, request).await.unwrap();
    fill(&store).await;
    freed_space_is_nobodys(&device, &store, vec![span], request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item() {
    let (device, store) = store().await;
    let item = alloc(&store, AllocRequest::bytes(1000)).await.unwrap();
    fill(&store).await;
    while alloc(&store, AllocRequest::bytes(1000)).await.is_some() {}
    freed_space_is_nobodys(&device, &store, vec![item], AllocRequest::bytes(1000)).await;
}

/// The last item of a region: its pages are for others when it is gone, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_of_items() {
    let (device, store) = store().await;
    let item = alloc(&store, AllocRequest::bytes(1000)).await.unwrap();
    fill(&store).await;
    freed_space_is_nobodys(&device, &store, vec![item], AllocRequest::bytes(2 * 4096)).await;
}

/// The last item of a segment: the segment is for another role when it is gone, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_of_items() {
    let (device, store) = store().await;
    // The first segment is not whole: what the store needs itself is in it.
    alloc(&store, AllocRequest::bytes(64 << 10)).await.unwrap();
    let item = alloc(&store, AllocRequest::bytes(1000)).await.unwrap();
    // All other segments have an extent; then the one behind that of the item has none, and a span needs both.
    let mut extents = Vec::new();
    while store.stats().segments.untouched + store.stats().segments.unused > 0 {
        extents.push(alloc(&store, AllocRequest::bytes(192 << 10)).await.unwrap());
    }
    let next = extents.iter().filter(|extent| extent.offset > item.offset).min_by_key(|extent| extent.offset);
    let mut transaction = store.begin();
    transaction.free(next.unwrap()).await.unwrap();
    transaction.commit().await.unwrap();
    freed_space_is_nobodys(&device, &store, vec![item], AllocRequest::bytes(300 << 10)).await;
}
