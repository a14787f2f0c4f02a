//! Goal: rules 5 and 18. After a failed write or flush of the journal the store stops, says so to everyone, and writes
//! nothing more; any other failure concerns its own call only; and no await hangs, whatever goes away around it.
//!
//! Method: a device in memory that fails on request and counts what reaches it; runtimes and tasks that end early.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;

/// What fails next, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Write(Purpose),
    Flush,
    Preallocate,
    Read,
    Writeback,
}

#[derive(Debug)]
struct Fragile {
    inner: MemoryDevice,
    failing: Mutex<Option<Failing>>,
    changes: AtomicU64,
}

impl Fragile {
    fn new(bytes: usize) -> Arc<Self> {
        let inner = MemoryDevice::zeroed(bytes);
        Arc::new(Self { inner, failing: Mutex::new(None), changes: AtomicU64::new(0) })
    }

    fn fail(&self, what: Failing) {
        *self.failing.lock().unwrap() = Some(what);
    }

    fn check(&self, what: Failing) -> io::Result<()> {
        let mut failing = self.failing.lock().unwrap();
        if *failing == Some(what) {
            *failing = None;
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

impl Device for Fragile {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.check(Failing::Read)?;
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.check(Failing::Write(purpose))?;
        self.inner.write_at(offset, data, purpose)
    }
    fn finish_writeback(&self, _: u64, _: u64) -> io::Result<()> {
        self.check(Failing::Writeback)
    }
    fn flush(&self) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.check(Failing::Flush)
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        self.check(Failing::Preallocate)
    }
    fn may_block(&self) -> bool {
        false
    }
}

async fn open(device: &Arc<Fragile>) -> Allocator {
    OpenOptions::new().open_device(Arc::clone(device) as Arc<dyn Device>).await.unwrap().0
}

async fn formatted() -> (Arc<Fragile>, Allocator) {
    formatted_with(512 << 10, FormatOptions::new()).await
}

/// With a journal for large transactions.
async fn formatted_large() -> (Arc<Fragile>, Allocator) {
    formatted_with(8 << 20, FormatOptions::new().journal_bytes(1 << 20)).await
}

async fn formatted_with(bytes: usize, options: FormatOptions) -> (Arc<Fragile>, Allocator) {
    let device = Fragile::new(bytes);
    options.format_device(device.clone()).await.unwrap();
    let store = open(&device).await;
    (device, store)
}

async fn commit_one(store: &Allocator, owner: u64) -> freehold::Result<Extent> {
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(4096).owner(owner)).await?;
    txn.write(&extent, 0, &owner.to_le_bytes()).await?;
    txn.commit().await?;
    Ok(extent)
}

async fn owners(store: &Allocator) -> Vec<u64> {
    let extents: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
    extents.into_iter().map(|info| info.owner).collect()
}

#[tokio::test]
async fn a_failed_journal_write_or_flush_stops_the_store() {
    for failing in [Failing::Write(Purpose::Journal), Failing::Flush] {
        let (device, store) = formatted().await;
        let before = commit_one(&store, 1).await.unwrap();
        let mut waiting = store.begin();
        waiting.alloc(4096).await.unwrap();
        device.fail(failing);
        let error = commit_one(&store, 2).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{failing:?}: {error}");

        let changes = device.changes();
        let poisoned =
            |error: Error| assert!(matches!(error, Error::Poisoned { .. }), "{failing:?}: {error}");
        poisoned(waiting.commit().await.unwrap_err());
        poisoned(commit_one(&store, 3).await.unwrap_err());
        poisoned(store.write_at(&before, 0, b"x").await.unwrap_err());
        poisoned(store.read_at(&before, 0, 1).await.unwrap_err());
        poisoned(store.checkpoint().await.unwrap_err());
        poisoned(store.sync_data().await.unwrap_err());
        poisoned(store.maintain().await.unwrap_err());
        poisoned(store.close().await.unwrap_err());
        drop(store);
        assert_eq!(device.changes(), changes, "{failing:?}: something was written after the failure");

        let store = open(&device).await;
        let found = owners(&store).await;
        assert!(found == [1] || found == [1, 2], "{failing:?}: {found:?}");
        commit_one(&store, 4).await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_checkpoint_stops_the_store_and_loses_nothing() {
    for purpose in [Purpose::Metadata, Purpose::ChecksumTree, Purpose::CallerCheckpoint, Purpose::Superblock]
    {
        let (device, store) = formatted().await;
        commit_one(&store, 1).await.unwrap();
        device.fail(Failing::Write(purpose));
        assert!(store.checkpoint().await.is_err(), "{purpose:?}");
        assert!(matches!(commit_one(&store, 2).await, Err(Error::Poisoned { .. })), "{purpose:?}");
        drop(store);
        assert_eq!(owners(&open(&device).await).await, [1], "{purpose:?}");
    }
}

/// Twenty blocks of the caller that the next checkpoint writes in place.
async fn twenty_blocks(store: &Allocator) -> Extent {
    let mut txn = store.begin();
    let extent = txn.alloc(AllocRequest::bytes(20 << 12).owner(1)).await.unwrap();
    for block in 0..20 {
        txn.write(&extent, block << 12, b"x").await.unwrap();
    }
    txn.commit().await.unwrap();
    extent
}

#[tokio::test]
async fn a_checkpoint_that_cannot_reach_the_medium_stops_the_store_and_loses_nothing() {
    let (device, store) = formatted_large().await;
    twenty_blocks(&store).await;
    device.fail(Failing::Writeback);
    let error = store.checkpoint().await.unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(matches!(commit_one(&store, 2).await, Err(Error::Poisoned { .. })));
    drop(store);
    assert_eq!(owners(&open(&device).await).await, [1]);
}

#[tokio::test]
async fn other_failures_concern_their_call_only() {
    let (device, store) = formatted().await;
    device.fail(Failing::Preallocate);
    let mut txn = store.begin();
    txn.alloc(4096).await.unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Io { .. })), "no room for a segment's metadata");
    assert_eq!(store.stats().reserved_bytes, 0);

    let extent = commit_one(&store, 1).await.unwrap();
    store.checkpoint().await.unwrap();
    device.fail(Failing::Write(Purpose::CallerDirect));
    assert!(matches!(store.write_at(&extent, 0, b"x").await, Err(Error::Io { .. })));
    device.fail(Failing::Read);
    assert!(matches!(store.read_at(&extent, 0, 8).await, Err(Error::Io { .. })));
    // A failed read under a journaled write: not committed, and nothing is held.
    device.fail(Failing::Read);
    let mut txn = store.begin();
    txn.write(&extent, 100, b"y").await.unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Io { .. })));

    commit_one(&store, 2).await.unwrap();
    assert_eq!(store.read_at(&extent, 0, 8).await.unwrap(), 1_u64.to_le_bytes());
    let stats = store.stats();
    assert_eq!((stats.reserved_bytes, stats.pending_bytes, stats.extents), (0, 0, 2));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_task_that_panics_holds_nothing() {
    let (_device, store) = formatted().await;
    let extent = commit_one(&store, 1).await.unwrap();
    let inner = store.clone();
    let task = tokio::spawn(async move {
        let mut txn = inner.begin();
        txn.alloc(8192).await.unwrap();
        txn.free(&extent).await.unwrap();
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    assert_eq!(store.stats().reserved_bytes, 0);
    let mut txn = store.begin();
    txn.free(&extent).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(owners(&store).await, [0_u64; 0]);
}

#[test]
fn a_runtime_that_ends_in_mid_commit_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime().block_on(FormatOptions::new().create(&path, 64 << 20)).unwrap();
    for round in 0..10_u64 {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let first = runtime();
        let store = first.block_on(Allocator::open(&path)).unwrap();
        for task in 0..16_u64 {
            let (store, acknowledged) = (store.clone(), Arc::clone(&acknowledged));
            first.spawn(async move {
                for number in 0.. {
                    let owner = round << 48 | task << 32 | number;
                    if let Ok(extent) = commit_one(&store, owner).await {
                        acknowledged.lock().unwrap().push((owner, extent));
                    }
                }
            });
        }
        for _ in 0..2000 {
            if !acknowledged.lock().unwrap().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(round));
        first.shutdown_timeout(Duration::from_secs(20));
        drop(store);

        let second = runtime();
        second.block_on(async {
            let store = Allocator::open(&path).await.unwrap();
            let extents: Vec<ExtentInfo> = store.extents().try_collect().await.unwrap();
            let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
            assert!(!acknowledged.is_empty());
            for (owner, extent) in &acknowledged {
                assert!(
                    extents.contains(&ExtentInfo { extent: *extent, owner: *owner }),
                    "{owner:#x} is gone"
                );
            }
            let mut txn = store.begin();
            for chunk in extents.chunks(100) {
                for info in chunk {
                    txn.free(&info.extent).await.unwrap();
                }
                txn.commit().await.unwrap();
                txn = store.begin();
            }
            store.close().await.unwrap();
        });
    }
}

/// A device whose flushes take longer than the maintenance thread sleeps.
#[derive(Debug)]
struct Slow(MemoryDevice);

impl Device for Slow {
    fn geometry(&self) -> DeviceGeometry {
        self.0.geometry()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        self.0.write_at(offset, data, purpose)
    }
    fn flush(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(80));
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Symptom: the program hung at its end. Cause: the last handle was dropped by a completion, on the thread that was
/// writing; it waited for the maintenance thread, which waited for the writer's lock. Fix: a thread that works for the
/// journal waits for nobody.
#[test]
fn handles_dropped_in_mid_flush_do_not_hang() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let device: Arc<dyn Device> = Arc::new(Slow(MemoryDevice::zeroed(512 << 10)));
        runtime.block_on(async {
            FormatOptions::new().format_device(Arc::clone(&device)).await.unwrap();
            for _ in 0..3 {
                let (store, _) = OpenOptions::new().open_device(Arc::clone(&device)).await.unwrap();
                let task = tokio::spawn(async move { commit_one(&store, 1).await.map(drop) });
                tokio::time::sleep(Duration::from_millis(40)).await;
                task.abort();
                let _ = task.await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        drop(runtime);
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(30)).expect("it hangs");
}

/// Symptom: a commit never ended, and the device was flushed without end. Cause: a ticket of an earlier opening named a
/// write that this one will never count. Fix: such a ticket stands for everything written so far.
#[tokio::test]
async fn a_ticket_of_another_opening_is_no_obstacle() {
    let (device, store) = formatted().await;
    let extent = commit_one(&store, 1).await.unwrap();
    let mut old = store.write_at(&extent, 0, b"x").await.unwrap();
    for _ in 0..10 {
        old = store.write_at(&extent, 0, b"x").await.unwrap();
    }
    drop(store);
    let store = open(&device).await;
    let mut txn = store.begin();
    txn.alloc(4096).await.unwrap();
    txn.after(old);
    txn.commit().await.unwrap();
}

/// Symptom: as above, and the runtime could not be shut down either. Cause: the ticket was of another store that had been
/// opened as often, and its number larger than any of this one.
#[tokio::test]
async fn a_ticket_of_another_store_is_no_obstacle() {
    let (_device, store) = formatted().await;
    let (_other_device, other) = formatted().await;
    let extent = commit_one(&other, 1).await.unwrap();
    let mut foreign = other.write_at(&extent, 0, b"x").await.unwrap();
    for _ in 0..10 {
        foreign = other.write_at(&extent, 0, b"x").await.unwrap();
    }
    let mut txn = store.begin();
    txn.alloc(4096).await.unwrap();
    txn.after(foreign);
    txn.commit().await.unwrap();
}
