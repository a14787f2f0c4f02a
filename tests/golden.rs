//! Goal: stores of every released version of the format stay readable, those of version 1, which never was, are refused
//! by name, and the same steps give the same bytes. Method: images of each version lie in `tests/golden`; they are opened,
//! and those of the current version are also made again.
//!
//! `FREEHOLD_WRITE_GOLDEN=1 cargo test --test golden` writes the images of the current version, after a change of version.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use freehold::device::{ManualClock, MemoryDevice, Port};
use freehold::format::FEATURE_EXTENTS;
use freehold::inspect::check;
use freehold::journal::SuperblockPair;
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;
use std::path::PathBuf;
use std::sync::Arc;

const LEN: usize = 512 << 10;

/// The steps behind the images. Extents a and c stay, b is freed.
async fn make(close: bool) -> Vec<u8> {
    let device = Arc::new(MemoryDevice::zeroed(LEN));
    let format = FormatOptions::new().store_id(*b"the golden store").clock(Arc::new(ManualClock::default()));
    format.format_device(device.clone()).await.unwrap();
    let options = OpenOptions::new().clock(Arc::new(ManualClock::default()));
    let (store, _) = options.open_device(device.clone()).await.unwrap();
    let mut txn = store.begin();
    let a = txn.alloc(AllocRequest::bytes(8192).owner(0xa)).await.unwrap();
    let b = txn.alloc(AllocRequest::bytes(100).owner(0xb)).await.unwrap();
    store.write_at(&a, 0, b"written directly").await.unwrap();
    txn.write(&a, 4096, b"through the journal").await.unwrap();
    txn.commit().await.unwrap();
    store.checkpoint().await.unwrap();
    let mut txn = store.begin();
    txn.free(&b).await.unwrap();
    txn.alloc(AllocRequest::bytes(16384).owner(0xc)).await.unwrap();
    txn.write(&a, 4100, b"changed").await.unwrap();
    for bytes in [100, 70_000, 20_000] {
        txn.alloc(AllocRequest::bytes(bytes).owner(bytes)).await.unwrap();
    }
    txn.alloc(AllocRequest::bytes(16_384).power_of_two().owner(0xd)).await.unwrap();
    txn.commit().await.unwrap();
    if close {
        store.close().await.unwrap();
    }
    drop(store);
    device.image()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

async fn check_content(image: Vec<u8>, clean: bool) {
    let device = Arc::new(MemoryDevice::from_image(image, 512, 512));
    let (store, report): (Allocator, _) = OpenOptions::new().open_device(device).await.unwrap();
    assert_eq!((report.was_clean, report.transactions), (clean, if clean { 0 } else { 1 }));
    let extents: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
    let owners: Vec<(u64, u64)> = extents.iter().map(|info| (info.owner, info.extent.len)).collect();
    assert_eq!(
        owners,
        [(0xa, 8192), (0xc, 16384), (20_000, 20_480), (100, 104), (70_000, 73_728), (0xd, 16384)]
    );
    let a: Extent = extents[0].extent;
    assert_eq!(store.read_at(&a, 0, 16).await.unwrap(), b"written directly");
    assert_eq!(store.read_at(&a, 4096, 19).await.unwrap(), b"throchanged journal");
}

#[tokio::test]
async fn images_of_version_1_are_refused_by_name() {
    for name in [
        "v1-clean.img",
        "v1-needs-replay.img",
        "v1-counted-epochs-clean.img",
        "v1-counted-epochs-needs-replay.img",
    ] {
        let image = std::fs::read(path(name)).unwrap();
        let device = Arc::new(MemoryDevice::from_image(image, 512, 512));
        let error = OpenOptions::new().open_device(device).await.unwrap_err();
        assert!(matches!(error, Error::UnsupportedVersion { found: 1, supported: 2 }), "{name}: {error}");
        assert!(error.to_string().contains("before the first release"), "{error}");
    }
}

#[tokio::test]
async fn images_of_version_2_are_readable() {
    // Those named after patches are of a time when groups had no updates of extents; those named after whole changes, when
    // they held all bytes that were written, changed or not.
    for (name, clean) in [
        ("v2-clean.img", true),
        ("v2-needs-replay.img", false),
        ("v2-patches-clean.img", true),
        ("v2-patches-needs-replay.img", false),
        ("v2-whole-changes-clean.img", true),
        ("v2-whole-changes-needs-replay.img", false),
    ] {
        check_content(std::fs::read(path(name)).unwrap(), clean).await;
    }
}

#[tokio::test]
async fn the_same_steps_give_the_same_bytes() {
    for (name, close) in [("v2-clean.img", true), ("v2-needs-replay.img", false)] {
        let image = make(close).await;
        assert_eq!(image, make(close).await, "two runs differ");
        if std::env::var_os("FREEHOLD_WRITE_GOLDEN").is_some() {
            std::fs::write(path(name), &image).unwrap();
        }
        let golden = std::fs::read(path(name)).unwrap();
        let at = image.iter().zip(&golden).position(|(new, old)| new != old);
        assert_eq!(at, None, "{name} differs");
    }
}

/// Whether groups of this store may have updates of extents, as both copies of the superblock say.
fn may_have_extents(image: &[u8]) -> bool {
    let device = Arc::new(MemoryDevice::from_image(image.to_vec(), 512, 512));
    let port = Port::new(device, Arc::new(ManualClock::default()), true);
    let pair = SuperblockPair::read(&port).unwrap();
    assert!(pair.is_agreed());
    pair.current().incompatible == FEATURE_EXTENTS
}

#[tokio::test]
async fn older_stores_are_taken_over_when_they_are_opened_for_writing() {
    for name in ["v2-patches-clean.img", "v2-patches-needs-replay.img", "v2-whole-changes-needs-replay.img"] {
        let image = std::fs::read(path(name)).unwrap();
        assert!(!may_have_extents(&image), "{name}");
        let device = Arc::new(MemoryDevice::from_image(image, 512, 512));
        let options = OpenOptions::new();
        drop(options.clone().read_only(true).open_device(device.clone()).await.unwrap());
        assert!(!may_have_extents(&device.image()), "{name}: a reader changes nothing");
        // The last group of before is taken along as it was; the next ones say what becomes of extents.
        let (store, _) = options.open_device(device.clone()).await.unwrap();
        assert!(may_have_extents(&device.image()), "{name}: before the first group");
        let before: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
        for (round, old) in before.iter().enumerate() {
            let mut txn = store.begin();
            txn.free(&old.extent).await.unwrap();
            for pages in 1..3 {
                txn.alloc(AllocRequest::bytes(4096 * pages).owner(round as u64)).await.unwrap();
            }
            txn.alloc(AllocRequest::bytes(100).owner(1)).await.unwrap();
            txn.commit().await.unwrap();
        }
        let after: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
        assert_eq!(after.len(), before.len() * 3);
        // Power fails.
        let crashed = device.image();
        drop(store);
        let device = Arc::new(MemoryDevice::from_image(crashed, 512, 512));
        let (store, report) = options.open_device(device.clone()).await.unwrap();
        assert!(report.transactions >= before.len() as u64, "{name}");
        let replayed: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
        assert_eq!(replayed, after, "{name}");
        store.close().await.unwrap();
        drop(store);
        let report = check(device, &mut |_| {}).unwrap();
        assert!(report.errors.is_empty(), "{name}: {:?}", report.errors);
    }
}
