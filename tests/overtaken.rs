//! Goal: a call that is dropped half way, fails half way, or takes so long that others overtake it leaves nothing half done, and
//! comes to an end.
//!
//! Method: a device in memory some of whose reads fail or take long, and whose direct writes wait behind a gate.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use freehold::device::{Device, DeviceGeometry, MemoryDevice, Purpose};
use freehold::{AllocRequest, Allocator, Error, Extent, FormatOptions, OpenOptions, Transaction};
use futures_util::{FutureExt, TryStreamExt};

const PAGE: u64 = 4096;
/// When a test has failed.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a slow read takes.
const SLOW: Duration = Duration::from_millis(8);

#[derive(Debug)]
struct Reluctant {
    device: MemoryDevice,
    reads_fail: AtomicBool,
    /// Where reads take long, and how many there were.
    slow: Mutex<Range<u64>>,
    slow_reads: AtomicUsize,
    /// Whether direct writes have to wait, and how many do.
    gate: Mutex<(bool, usize)>,
    moved: Condvar,
    /// The purposes of writes and, as `None`, flushes that have ended, in order.
    done: Mutex<Vec<Option<Purpose>>>,
}

impl Device for Reluctant {
    fn geometry(&self) -> DeviceGeometry {
        self.device.geometry()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.reads_fail.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        let slow = self.slow.lock().unwrap().contains(&offset);
        if slow {
            self.slow_reads.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(SLOW);
        }
        self.device.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> io::Result<()> {
        if purpose == Purpose::CallerDirect {
            let mut gate = self.gate.lock().unwrap();
            gate.1 += 1;
            self.moved.notify_all();
            let mut gate = self.moved.wait_timeout_while(gate, DEADLINE, |(shut, _)| *shut).unwrap().0;
            gate.1 -= 1;
        }
        self.device.write_at(offset, data, purpose)?;
        self.done.lock().unwrap().push(Some(purpose));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.done.lock().unwrap().push(None);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.discard(offset, len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.preallocate(offset, len)
    }

    fn may_block(&self) -> bool {
        true
    }
}

impl Reluctant {
    async fn formatted(bytes: usize, segment_bytes: u64) -> Arc<Self> {
        let device = Arc::new(Self {
            device: MemoryDevice::zeroed(bytes),
            reads_fail: AtomicBool::new(false),
            slow: Mutex::new(0..0),
            slow_reads: AtomicUsize::new(0),
            gate: Mutex::new((false, 0)),
            moved: Condvar::new(),
            done: Mutex::default(),
        });
        let format = FormatOptions::new().page_bytes(PAGE).segment_bytes(segment_bytes);
        format.journal_bytes(1 << 20).format_device(Arc::clone(&device) as _).await.unwrap();
        device
    }

    async fn open(self: &Arc<Self>, options: OpenOptions) -> Allocator {
        options.open_device(Arc::clone(self) as _).await.unwrap().0
    }

    fn shut(&self, shut: bool) {
        self.gate.lock().unwrap().0 = shut;
        self.moved.notify_all();
    }
}

async fn allocate(store: &Allocator, request: impl Into<AllocRequest>) -> Extent {
    let mut transaction = store.begin();
    let extent = transaction.alloc(request).await.unwrap();
    transaction.commit().await.unwrap();
    extent
}

async fn in_time<T>(ends: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, ends).await.unwrap()
}

/// Work that goes on beside something.
struct Traffic {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Traffic {
    async fn of<F: Future<Output = ()> + Send>(mut round: impl FnMut() -> F + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                round().await;
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        Self { stop, task }
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // Of a test that has failed.
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// An extent that a transaction has given another length, and journaled bytes for the page that it grew into.
async fn grown(store: &Allocator, extent: &Extent) -> Option<(Transaction, Extent)> {
    let mut transaction = store.begin();
    let grown = transaction.resize(extent, 2 * PAGE).await.ok()?;
    transaction.write(&grown, PAGE, &[0xAA; 64]).await.unwrap();
    Some((transaction, grown))
}

/// Whatever becomes of the free, what is behind the extent is somebody else's then.
async fn others_keep_what_they_have(store: &Allocator, extent: &Extent, transaction: Transaction) {
    let mut other = store.begin();
    if let Ok(theirs) = other.alloc(AllocRequest::bytes(PAGE).at(extent.offset + PAGE)).await {
        store.write_at(&theirs, 0, &[0x55; PAGE as usize]).await.unwrap();
        other.commit().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(
            store.read_at(&theirs, 0, 1).await.unwrap(),
            [0x55],
            "journaled bytes went to another owner"
        );
    } else {
        transaction.commit().await.unwrap();
    }
}

/// Rules 2 and 4. Symptom: bytes of one transaction lay in an extent that another one had committed. Cause: a free of an extent that
/// the transaction itself had given another length let go of it before it looked for its header, and did not come to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_free_after_a_resize_is_whole_or_not_at_all() {
    for is_dropped in [false, true] {
        let device = Reluctant::formatted(16 << 20, 64 << 10).await;
        let store = device.open(OpenOptions::new().cached_blocks(0)).await;
        let areas: Vec<_> = store.free_areas().try_collect().await.unwrap();
        let whole = areas.iter().filter(|area| area.len == 64 << 10).take(100);
        let mut extents = Vec::new();
        for (at, area) in whole.enumerate() {
            let bytes = if at < 10 { PAGE } else { 60 << 10 };
            let extent = allocate(&store, AllocRequest::bytes(bytes).at(area.offset)).await;
            if at < 10 {
                extents.push(extent);
            }
        }
        store.checkpoint().await.unwrap();
        for extent in extents {
            let (mut transaction, grown) = grown(&store, &extent).await.unwrap();
            // Blocks of headers leave the cache.
            let _: Vec<_> = store.extents().try_collect().await.unwrap();
            device.reads_fail.store(!is_dropped, Ordering::SeqCst);
            if is_dropped {
                let _ = transaction.free(&grown).now_or_never();
            } else {
                let _ = transaction.free(&grown).await;
            }
            device.reads_fail.store(false, Ordering::SeqCst);
            others_keep_what_they_have(&store, &extent, transaction).await;
        }
    }
}

/// The same, without any fault: others want the extent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_between_a_resize_and_a_free() {
    let device = Reluctant::formatted(4 << 20, 128 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    let extent = allocate(&store, PAGE).await;
    let others = store.clone();
    let traffic = Traffic::of(move || {
        let store = others.clone();
        async move {
            let mut transaction = store.begin();
            let _ = transaction.free(&extent).await;
            drop(transaction);
        }
    })
    .await;
    let mut freed = 0;
    while freed < 2000 {
        let Some((mut transaction, grown)) = grown(&store, &extent).await else { continue };
        transaction.free(&grown).await.unwrap();
        freed += 1;
    }
    traffic.end().await;
}

/// Rule 16: a direct write counts for the transaction that has the extent, whatever length that has by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_data_written_while_the_extent_was_resized() {
    for is_committed in [false, true] {
        let device = Reluctant::formatted(16 << 20, 1 << 20).await;
        let store = device.open(OpenOptions::new().block_up_to(Duration::ZERO)).await;
        let mut transaction = store.begin();
        let mut extent = transaction.alloc(PAGE).await.unwrap();
        if is_committed {
            transaction.commit().await.unwrap();
            transaction = store.begin();
            extent = transaction.resize(&extent, 2 * PAGE).await.unwrap();
        }
        device.shut(true);
        let writer = store.clone();
        let writing = tokio::spawn(async move { writer.write_at(&extent, 0, &[7; PAGE as usize]).await });
        let waits = || device.gate.lock().unwrap().1 > 0;
        in_time(async {
            while !waits() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        transaction.resize(&extent, 3 * PAGE).await.unwrap();
        device.shut(false);
        writing.await.unwrap().unwrap();
        device.done.lock().unwrap().clear();
        transaction.commit().await.unwrap();
        let done = device.done.lock().unwrap().clone();
        let place = |sought| done.iter().position(|one| *one == sought).unwrap();
        assert!(place(None) < place(Some(Purpose::Journal)), "{done:?}");
    }
}

/// What a transaction journals goes to the extent as it will be.
#[tokio::test]
async fn adopted_bytes_go_to_the_new_length() {
    let device = Reluctant::formatted(4 << 20, 128 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    let extent = allocate(&store, PAGE).await;
    let at = |page: u64| {
        let mut staging = Transaction::staging(1);
        staging.write(extent.offset + page * PAGE, b"tail".to_vec());
        staging
    };
    let mut transaction = store.begin();
    let longer = transaction.resize(&extent, 3 * PAGE).await.unwrap();
    transaction.adopt(at(2)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.read_at(&longer, 2 * PAGE, 4).await.unwrap(), b"tail");
    let mut transaction = store.begin();
    transaction.resize(&longer, PAGE).await.unwrap();
    assert!(matches!(transaction.adopt(at(2)).await, Err(Error::NotAllocated { .. })));
    assert!(matches!(transaction.write(&longer, 2 * PAGE, b"x").await, Err(Error::NotAllocated { .. })));
    transaction.adopt(at(0)).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Symptom: extents that nobody had been told of were committed with the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_pieces_are_given_back() {
    let device = Reluctant::formatted(16 << 20, 64 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    // Holes of three pages in all segments.
    let mut transaction = store.begin();
    let areas: Vec<_> = store.free_areas().try_collect().await.unwrap();
    for area in areas.iter().filter(|area| area.len > 4 * PAGE) {
        let request = AllocRequest::bytes(area.len - 3 * PAGE).at(area.offset);
        transaction.alloc(request).await.unwrap();
    }
    transaction.commit().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = device.open(OpenOptions::new().loaded_bytes(0).cached_blocks(0)).await;
    // Else all may be loaded before anybody looks.
    *device.slow.lock().unwrap() = 0..u64::MAX;
    let mut transaction = store.begin();
    let mut pieces = Box::pin(transaction.alloc_extents(AllocRequest::bytes(20 * PAGE).max_extents(8)));
    in_time(async {
        while store.stats().reserved_bytes == 0 {
            assert!(futures_util::poll!(pieces.as_mut()).is_pending(), "it never waited");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    })
    .await;
    drop(pieces);
    assert_eq!(store.stats().reserved_bytes, 0);
    drop(transaction);
}

/// Symptom: an old item could not be read for as long as others were allocated and freed in the same segment, on a device that reads
/// slower than they commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_region_is_loaded_while_others_change_theirs() {
    let device = Reluctant::formatted(64 << 20, 16 << 20).await;
    let store = device.open(OpenOptions::new()).await;
    let old = allocate(&store, 100).await;
    allocate(&store, 1000).await;
    store.close().await.unwrap();
    drop(store);
    let store = device.open(OpenOptions::new()).await;
    let others = store.clone();
    let traffic = Traffic::of(move || {
        let store = others.clone();
        async move {
            let item = allocate(&store, 1000).await;
            let mut transaction = store.begin();
            transaction.free(&item).await.unwrap();
            transaction.commit().await.unwrap();
        }
    })
    .await;
    let region = old.offset / 65536 * 65536;
    *device.slow.lock().unwrap() = region..region + 65536;
    in_time(store.read_at(&old, 0, 100)).await.unwrap();
    traffic.end().await;
    assert!(device.slow_reads.load(Ordering::SeqCst) <= 4);
}

/// Symptom: a commit failed after it had read the same blocks a thousand times. Cause: any block of a caller that went in place
/// meanwhile made all of them doubtful.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_block_is_read_once_while_others_go_in_place() {
    let device = Reluctant::formatted(16 << 20, 1 << 20).await;
    let store = device.open(OpenOptions::new()).await;
    let (busy, slow) = (allocate(&store, PAGE).await, allocate(&store, PAGE).await);
    let others = store.clone();
    let traffic = Traffic::of(move || {
        let store = others.clone();
        async move {
            let mut transaction = store.begin();
            transaction.write(&busy, 0, b"journaled").await.unwrap();
            transaction.commit().await.unwrap();
            store.write_at(&busy, 0, b"direct").await.unwrap();
        }
    })
    .await;
    *device.slow.lock().unwrap() = slow.offset..slow.end();
    let mut transaction = store.begin();
    transaction.write(&slow, 7, b"as it should be").await.unwrap();
    in_time(transaction.commit()).await.unwrap();
    assert_eq!(device.slow_reads.load(Ordering::SeqCst), 1);
    traffic.end().await;
    assert_eq!(store.read_at(&slow, 7, 15).await.unwrap(), b"as it should be");
}

/// What goes in place while a commit reads other blocks is what is under its bytes, and not what was read before.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_goes_in_place_meanwhile_is_under_what_is_journaled() {
    let device = Reluctant::formatted(16 << 20, 1 << 20).await;
    let store = device.open(OpenOptions::new()).await;
    let extent = allocate(&store, 64 * PAGE).await;
    let last = extent.end() - PAGE;
    for round in 1..20_u8 {
        // The first block is read early, and the last one late.
        *device.slow.lock().unwrap() = last..extent.end();
        let mut transaction = store.begin();
        transaction.write(&extent, 0, &[round; 8]).await.unwrap();
        transaction.write(&extent, 63 * PAGE, &[round; 8]).await.unwrap();
        let committing = tokio::spawn(transaction.commit());
        tokio::time::sleep(SLOW / 2).await;
        let mut other = store.begin();
        other.write(&extent, 100, &[round; 100]).await.unwrap();
        other.commit().await.unwrap();
        store.checkpoint().await.unwrap();
        in_time(committing).await.unwrap().unwrap();
        store.checkpoint().await.unwrap();
        *device.slow.lock().unwrap() = 0..0;
        let found = store.read_at(&extent, 0, 200).await.unwrap();
        assert_eq!((&found[..8], &found[100..]), (&[round; 8][..], &[round; 100][..]), "round {round}");
    }
}

/// Symptom: a commit that journals into items of two segments failed after a thousand attempts. Cause: loading one of them dropped
/// the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_looks_at_stays_loaded() {
    let device = Reluctant::formatted(4 << 20, 128 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    let segment_of = |item: &Extent| item.offset / (128 << 10);
    let first = allocate(&store, 2000).await;
    let mut last = first;
    while segment_of(&last) == segment_of(&first) {
        last = allocate(&store, 2000).await;
    }
    store.close().await.unwrap();
    drop(store);
    let store = device.open(OpenOptions::new().loaded_bytes(0)).await;
    let mut transaction = store.begin();
    transaction.write(&first, 0, b"one").await.unwrap();
    transaction.write(&last, 0, b"two").await.unwrap();
    in_time(transaction.commit()).await.unwrap();
    assert_eq!(store.read_at(&last, 0, 3).await.unwrap(), b"two");
}

/// Rule 2: what an open transaction means to do is nobody else's business.
#[tokio::test]
async fn open_transactions_are_not_seen() {
    let device = Reluctant::formatted(4 << 20, 128 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    let extent = allocate(&store, PAGE).await;
    let mut transaction = store.begin();
    transaction.resize(&extent, 2 * PAGE).await.unwrap();
    assert_eq!(store.extent_at(extent.offset).await.unwrap().extent, extent);
    drop(transaction);
    let mut transaction = store.begin();
    transaction.free(&extent).await.unwrap();
    assert_eq!(store.extent_at(extent.offset).await.unwrap().extent, extent);
    transaction.commit().await.unwrap();
    assert!(matches!(store.extent_at(extent.offset).await, Err(Error::NotAllocated { .. })));
}

#[tokio::test]
async fn a_reader_frees_nothing() {
    let device = Reluctant::formatted(4 << 20, 128 << 10).await;
    let store = device.open(OpenOptions::new()).await;
    let extent = allocate(&store, PAGE).await;
    store.close().await.unwrap();
    drop(store);
    let store = device.open(OpenOptions::new().read_only(true)).await;
    assert!(matches!(store.begin().free(&extent).await, Err(Error::ReadOnly)));
    assert_eq!(store.extent_at(extent.offset).await.unwrap().extent, extent);
}
