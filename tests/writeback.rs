//! Goal: what goes to the medium before anybody flushes goes there when that saves time, and in such portions that nobody waits long
//! for what is not his.
//!
//! Method: a device in memory that notes what it is asked to begin with, or to end with.

#![allow(clippy::unwrap_used, reason = "a test")]

mod gated;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use freehold::{Allocator, FormatOptions, OpenOptions};

use gated::{Gated, PATIENCE, journaled_blocks};

const MIB: u64 = 1 << 20;

async fn store() -> (Arc<Gated>, Allocator) {
    let device = Arc::new(Gated::new(64 << 20));
    let options = FormatOptions::new().page_bytes(4096).journal_bytes(4 * MIB);
    options.format_device(Arc::clone(&device) as _).await.unwrap();
    // Nobody makes a checkpoint, or flushes, but who is asked to.
    let options = OpenOptions::new().checkpoint_age(10 * PATIENCE);
    let (store, _) = options.open_device(Arc::clone(&device) as _).await.unwrap();
    (device, store)
}

impl Gated {
    fn take_begun(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.begun.lock().unwrap())
    }

    fn take_ended(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.ended.lock().unwrap())
    }
}

#[tokio::test]
async fn the_medium_begins_with_a_blob_before_its_commit_and_not_with_pieces() {
    let (device, store) = store().await;
    let mut txn = store.begin();
    let blob = txn.alloc(10_000).await.unwrap();
    store.write_at(&blob, 0, &[1; 5000]).await.unwrap();
    assert_eq!(device.take_begun(), []);
    store.write_at(&blob, 5000, &[2; 5000]).await.unwrap();
    assert_eq!(device.take_begun(), [(blob.offset, blob.len)]);
    txn.commit().await.unwrap();
    // A page of the caller that is written again and again.
    store.write_at(&blob, 8192, &[3; 1808]).await.unwrap();
    assert_eq!(device.take_begun(), []);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_under_way_gets_no_more_than_eight_mebibytes_to_wait_for() {
    let (device, store) = store().await;
    let mut blobs = store.begin();
    let mut extents = Vec::new();
    for _ in 0..12 {
        extents.push(blobs.alloc(MIB).await.unwrap());
    }
    let written = vec![7; 1 << 20];
    device.gate.set(true);
    let flushing = tokio::spawn({
        let store = store.clone();
        async move { journaled_blocks(&store, 1).await }
    });
    let waiting = Arc::clone(&device);
    tokio::task::spawn_blocking(move || waiting.gate.wait_for_somebody()).await.unwrap();
    for extent in &extents {
        store.write_at(extent, 0, &written).await.unwrap();
    }
    let due: Vec<_> = extents.iter().map(|extent| (extent.offset, extent.len)).collect();
    assert_eq!(device.take_begun(), due[..8]);
    device.gate.set(false);
    flushing.await.unwrap();
    // Nobody flushes any more, from soon after on.
    let start = Instant::now();
    while device.take_begun().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        store.write_at(&extents[11], 0, &written).await.unwrap();
    }
    blobs.commit().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_goes_in_place_a_few_blocks_at_a_time() {
    let (device, store) = store().await;
    let extent = journaled_blocks(&store, 20).await;
    store.checkpoint().await.unwrap();
    let ended = device.take_ended();
    // Nobody knows how many blocks of metadata come first; the rest is left to the flush.
    let caller = ended.iter().filter(|(offset, _)| (extent.offset..extent.end()).contains(offset));
    let bytes: u64 = caller.map(|(_, len)| len).sum();
    assert!((4 << 12..=20 << 12).contains(&bytes), "{ended:?}");
    assert!(ended.iter().all(|(_, len)| *len <= 64 << 10), "{ended:?}");

    // Somebody waits for it.
    let other = journaled_blocks(&store, 20).await;
    store.write_at(&other, 0, b"z").await.unwrap();
    assert_eq!(device.take_ended(), []);
    // Nobody commits any more, and nobody is held up.
    journaled_blocks(&store, 20).await;
    store.close().await.unwrap();
    assert_eq!(device.take_ended(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_under_way_hurries_once_somebody_waits() {
    let (device, store) = store().await;
    let extent = journaled_blocks(&store, 320).await;
    // Twenty portions, of which each takes long enough for somebody to come.
    device.writeback_micros.store(400_000, Ordering::Relaxed);
    let checkpoint = tokio::spawn({
        let store = store.clone();
        async move { store.checkpoint().await }
    });
    let start = Instant::now();
    while device.ended.lock().unwrap().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    store.write_at(&extent, 0, b"z").await.unwrap();
    checkpoint.await.unwrap().unwrap();
    let ended = device.take_ended().len();
    assert!(ended < 12, "{ended} portions were waited for");
    store.close().await.unwrap();
}
