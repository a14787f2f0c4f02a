//! Goal: between joining a group and being durable a transaction is neither lost nor seen in part: what others ask
//! meanwhile has the answer from before or the one from after.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::future::join_all;
use futures_util::{FutureExt, TryStreamExt};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn store(bytes: usize) -> Allocator {
    let device = Arc::new(MemoryDevice::zeroed(bytes));
    FormatOptions::new().page_bytes(4096).format_device(Arc::clone(&device) as _).await.unwrap();
    OpenOptions::new().open_device(device).await.unwrap().0
}

async fn allocated(store: &Allocator, bytes: u64) -> Extent {
    let mut transaction = store.begin();
    let extent = transaction.alloc(bytes).await.unwrap();
    transaction.commit().await.unwrap();
    extent
}

async fn replace(store: &Allocator, old: &mut Extent) {
    let mut transaction = store.begin();
    let new = transaction.alloc(AllocRequest::bytes(9000).owner(7)).await.unwrap();
    transaction.free(old).await.unwrap();
    transaction.commit().await.unwrap();
    *old = new;
}

/// Once each of those who were told took the next group for itself, with nobody else in it.
#[tokio::test]
async fn those_who_are_told_together_come_back_together() {
    let store = store(16 << 20).await;
    let groups = store.stats().journal.groups;
    let client = || async {
        let mut own = allocated(&store, 4096).await;
        for _ in 0..9 {
            replace(&store, &mut own).await;
        }
    };
    join_all((0..20).map(|_| client())).await;
    // Slow at first: blocks have to be made ready.
    let groups = store.stats().journal.groups - groups;
    assert!(groups <= 30, "200 transactions of 20 clients took {groups} groups");
}

#[tokio::test]
async fn what_a_joined_transaction_frees_is_not_written_to() {
    let store = store(16 << 20).await;
    let extent = allocated(&store, 4096).await;
    let mut writing = store.begin();
    writing.write(&extent, 0, b"late").await.unwrap();
    let mut freeing = store.begin();
    freeing.free(&extent).await.unwrap();
    let mut freeing = Box::pin(freeing.commit());
    assert!(freeing.as_mut().now_or_never().is_none(), "it has joined, and lets others join");
    let refused = writing.commit().await;
    assert!(matches!(refused, Err(Error::NotAllocated { .. })), "{refused:?}");
    freeing.await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.pending_bytes, stats.reserved_bytes, stats.extents), (0, 0, 0));
}

#[tokio::test]
async fn what_a_joined_transaction_cuts_off_is_not_written_to() {
    let store = store(16 << 20).await;
    let extent = allocated(&store, 8192).await;
    let mut writing = store.begin();
    writing.write(&extent, 5000, b"late").await.unwrap();
    let mut cutting = store.begin();
    cutting.resize(&extent, 4096).await.unwrap();
    let mut cutting = Box::pin(cutting.commit());
    assert!(cutting.as_mut().now_or_never().is_none());
    assert!(matches!(writing.commit().await, Err(Error::NotAllocated { .. })));
    cutting.await.unwrap();
}

/// What a commit holds that is kept and not polled: blocks of the caller.
#[tokio::test]
async fn a_joined_transaction_that_is_never_polled_again_keeps_nobody_from_its_blocks() {
    let store = store(16 << 20).await;
    let extent = allocated(&store, 4096).await;
    let mut kept = store.begin();
    kept.write(&extent, 0, b"first").await.unwrap();
    let mut kept = Box::pin(kept.commit());
    assert!(kept.as_mut().now_or_never().is_none());
    let direct = tokio::time::timeout(PATIENCE, store.write_at(&extent, 0, b"later")).await;
    direct.expect("the direct write waits for ever").unwrap();
    assert_eq!(store.read_at(&extent, 0, 5).await.unwrap(), b"later");
    kept.await.unwrap();
    assert_eq!(store.read_at(&extent, 0, 5).await.unwrap(), b"later");
}

/// Items share the heads of their regions, and their sectors.
#[tokio::test]
async fn items_of_one_region_are_committed_together() {
    let store = store(16 << 20).await;
    for _ in 0..3 {
        let groups = store.stats().journal.groups;
        let commits = (0..50).map(|number: u8| {
            let store = &store;
            async move {
                let mut transaction = store.begin();
                let item = transaction.alloc(64).await.unwrap();
                store.write_at(&item, 0, &[number; 64]).await.unwrap();
                transaction.commit().await.unwrap();
                (item, number)
            }
        });
        let items = join_all(commits).await;
        let groups = store.stats().journal.groups - groups;
        assert!(groups <= 5, "50 items took {groups} groups");
        for (item, number) in items {
            assert_eq!(store.read_at(&item, 0, 64).await.unwrap(), [number; 64]);
        }
        store.checkpoint().await.unwrap();
    }
}

#[tokio::test]
async fn an_item_that_is_being_committed_is_what_was_written() {
    let store = store(16 << 20).await;
    let mut transaction = store.begin();
    let item = transaction.alloc(64).await.unwrap();
    store.write_at(&item, 0, &[7; 64]).await.unwrap();
    let mut commit = Box::pin(transaction.commit());
    assert!(commit.as_mut().now_or_never().is_none());
    assert_eq!(store.read_at(&item, 0, 64).await.unwrap(), [7; 64]);
    commit.await.unwrap();
    assert_eq!(store.read_at(&item, 0, 64).await.unwrap(), [7; 64]);
}

/// A device on which something else happens while it reads.
struct Slow {
    device: MemoryDevice,
    on_read: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.device.fmt(f)
    }
}

impl Device for Slow {
    fn geometry(&self) -> DeviceGeometry {
        self.device.geometry()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.device.read_at(offset, buf)?;
        let call = self.on_read.lock().unwrap().take();
        call.into_iter().for_each(|call| call());
        Ok(())
    }
    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> std::io::Result<()> {
        self.device.write_at(offset, data, purpose)
    }
    fn flush(&self) -> std::io::Result<()> {
        self.device.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.device.discard(offset, len)
    }
    fn preallocate(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.device.preallocate(offset, len)
    }
    fn may_block(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn an_item_is_what_was_written_when_its_commit_ends_while_it_is_read() {
    let device = Arc::new(Slow { device: MemoryDevice::zeroed(16 << 20), on_read: Mutex::default() });
    FormatOptions::new().page_bytes(4096).format_device(Arc::clone(&device) as _).await.unwrap();
    let store = OpenOptions::new().open_device(Arc::clone(&device) as _).await.unwrap().0;
    let mut transaction = store.begin();
    let item = transaction.alloc(64).await.unwrap();
    store.write_at(&item, 0, &[7; 64]).await.unwrap();
    let mut commit = Box::pin(transaction.commit());
    assert!(commit.as_mut().now_or_never().is_none());
    *device.on_read.lock().unwrap() = Some(Box::new(move || {
        commit.as_mut().now_or_never().expect("nobody else is at it").unwrap();
    }));
    assert_eq!(store.read_at(&item, 0, 64).await.unwrap(), [7; 64]);
    assert!(device.on_read.lock().unwrap().is_none(), "the device was read");
}

#[tokio::test]
async fn what_a_joined_transaction_frees_is_not_freed_again() {
    let store = store(16 << 20).await;
    let extent = allocated(&store, 4096).await;
    let mut freeing = store.begin();
    freeing.free(&extent).await.unwrap();
    let mut freeing = Box::pin(freeing.commit());
    assert!(freeing.as_mut().now_or_never().is_none());
    assert!(matches!(store.begin().free(&extent).await, Err(Error::NotAllocated { .. })));
    freeing.await.unwrap();
    assert!(matches!(store.begin().free(&extent).await, Err(Error::NotAllocated { .. })));
}

/// Records are ahead of bitmaps and headers for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_whole_while_groups_take_effect() {
    // One segment, of which a list is as of one instant.
    let device = Arc::new(MemoryDevice::zeroed(16 << 20));
    let format = FormatOptions::new().page_bytes(4096).segment_bytes(16 << 20);
    format.format_device(Arc::clone(&device) as _).await.unwrap();
    let store = OpenOptions::new().open_device(device).await.unwrap().0;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(allocated(&store, 9000).await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let lister = {
        let (store, done) = (store.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut lists = 0;
            while !done.load(Ordering::Relaxed) || lists < 20 {
                let list = store.extents().try_collect::<Vec<ExtentInfo>>();
                let list = list.now_or_never().unwrap().unwrap();
                // Each transaction frees one and makes one.
                assert_eq!(list.len(), 30);
                lists += 1;
            }
        })
    };
    for _ in 0..100 {
        let commits = clients.iter_mut().map(|own| replace(&store, own));
        join_all(commits).await;
    }
    done.store(true, Ordering::Relaxed);
    lister.join().unwrap();
}
