//! A store in memory that is checked from outside: raw device, counters, and a copy that is opened as after a power cut.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests; none uses all of them"
)]

pub(crate) mod items;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use freehold::allocator::{AllocatorStats, FreeArea, RoleStats};
use freehold::device::{Device, MemoryDevice};
use freehold::format::Role;
use freehold::inspect::{CheckReport, check};
use freehold::{AllocRequest, Allocator, Error, Extent, ExtentInfo, FormatOptions, OpenOptions};
use futures_util::TryStreamExt;

pub(crate) const PAGE: u64 = 4096;
/// A segment of [`Bed::small`].
pub(crate) const SEGMENT: u64 = 64 << 10;

/// What does not change by reopening.
pub(crate) type Picture = (Vec<ExtentInfo>, [u64; 6], Vec<RoleStats>);

/// A store on a device in memory.
pub(crate) struct Bed {
    pub(crate) device: Arc<MemoryDevice>,
    pub(crate) store: Allocator,
    pub(crate) options: OpenOptions,
}

pub(crate) async fn extents(store: &Allocator) -> Vec<ExtentInfo> {
    store.extents().try_collect().await.unwrap()
}

pub(crate) async fn areas(store: &Allocator) -> Vec<FreeArea> {
    store.free_areas().try_collect().await.unwrap()
}

pub(crate) fn balanced(stats: &AllocatorStats) {
    let parts = [
        stats.allocated_bytes,
        stats.free_bytes,
        stats.reserved_bytes,
        stats.pending_bytes,
        stats.metadata_bytes,
    ];
    assert_eq!(parts.iter().sum::<u64>(), stats.device_bytes, "{stats:?}");
}

pub(crate) fn pages(count: u64) -> AllocRequest {
    AllocRequest::bytes(count * PAGE)
}

/// Whether a handle was refused because there is no such extent, or no longer.
pub(crate) fn is_no_extent<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotAllocated { .. } | Error::InvalidExtent { .. }))
}

/// Extents and counters.
pub(crate) async fn picture(store: &Allocator) -> Picture {
    let stats = store.stats();
    balanced(&stats);
    let counters = [
        stats.allocated_bytes,
        stats.free_bytes,
        stats.metadata_bytes,
        stats.extents,
        stats.rounding_bytes,
        u64::from(stats.segments.unused + stats.segments.untouched),
    ];
    (extents(store).await, counters, store.role_stats())
}

/// Recounts the raw bytes.
pub(crate) fn sound(device: Arc<dyn Device>, stats: &AllocatorStats) -> CheckReport {
    let report = check(device, &mut |_| {}).unwrap();
    assert!(report.ok, "{:#?}", report.errors);
    assert_eq!(report.leaked_bytes, 0);
    assert_eq!(report.allocated_bytes, stats.allocated_bytes);
    assert_eq!(report.extents, stats.extents);
    report
}

impl Bed {
    /// Pages of 4 KiB; segments and journal of so many bytes.
    pub(crate) async fn new(len: usize, segment_bytes: u64, journal_bytes: u64) -> Self {
        let device = Arc::new(MemoryDevice::zeroed(len));
        FormatOptions::new()
            .page_bytes(PAGE)
            .segment_bytes(segment_bytes)
            .journal_bytes(journal_bytes)
            .format_device(device.clone())
            .await
            .unwrap();
        let options = OpenOptions::new();
        let (store, _) = options.open_device(device.clone()).await.unwrap();
        Self { device, store, options }
    }

    /// 4 MiB, segments of 16 pages with two regions each.
    pub(crate) async fn small() -> Self {
        Self::new(4 << 20, SEGMENT, 256 << 10).await
    }

    /// 6 MiB, segments of 64 pages.
    pub(crate) async fn wide() -> Self {
        Self::new(6 << 20, 256 << 10, 256 << 10).await
    }

    /// Opens a copy of the device as it is now, as after a power cut.
    pub(crate) async fn copy(&self) -> Self {
        let device = Arc::new(MemoryDevice::from_image(self.device.image(), 512, 512));
        let (store, _) = self.options.open_device(device.clone()).await.unwrap();
        Self { device, store, options: self.options.clone() }
    }

    /// Goes on after a power cut.
    pub(crate) async fn crash(&mut self) {
        *self = self.copy().await;
    }

    /// Goes on after closing and opening.
    pub(crate) async fn close_and_open(&mut self) {
        self.store.close().await.unwrap();
        self.store = self.options.open_device(self.device.clone()).await.unwrap().0;
    }

    /// Goes on after one of the two.
    pub(crate) async fn reopen(&mut self, close: bool) {
        if close {
            self.close_and_open().await;
        } else {
            self.crash().await;
        }
    }

    /// With no transaction open: device, counters and what a copy of the device says are in step.
    pub(crate) async fn verify(&self) {
        let stats = self.store.stats();
        assert_eq!((stats.reserved_bytes, stats.pending_bytes), (0, 0), "{stats:?}");
        sound(self.device.clone(), &stats);
        let copy = self.copy().await;
        let (here, there) = (picture(&self.store).await, picture(&copy.store).await);
        assert_eq!(here.0, there.0, "extents");
        // The frontier of memory may be ahead; those segments are as free as untouched ones.
        assert_eq!((here.1, here.2), (there.1, there.2), "counters");
        drop(copy.store);
        sound(copy.device, &stats);
    }

    pub(crate) async fn alloc(&self, request: impl Into<AllocRequest>) -> Result<Extent, Error> {
        let mut txn = self.store.begin();
        let extent = txn.alloc(request).await?;
        txn.commit().await?;
        Ok(extent)
    }

    pub(crate) async fn free(&self, extent: &Extent) -> Result<(), Error> {
        let mut txn = self.store.begin();
        txn.free(extent).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Frees in several transactions, each small enough for the journal.
    pub(crate) async fn free_all(&self, extents: impl IntoIterator<Item = Extent>) {
        for extent in extents {
            self.free(&extent).await.unwrap();
        }
    }

    pub(crate) async fn live(&self) -> Vec<Extent> {
        extents(&self.store).await.into_iter().map(|info| info.extent).collect()
    }

    pub(crate) fn usable_bytes(&self) -> u64 {
        self.store.layout().usable_pages() * u64::from(self.store.layout().page_bytes())
    }

    pub(crate) fn segment_of(&self, extent: &Extent) -> u64 {
        extent.offset / self.store.layout().segment_bytes()
    }

    pub(crate) fn role(&self, role: Role) -> Option<RoleStats> {
        self.store.role_stats().into_iter().find(|stats| stats.role == role)
    }

    /// Whatever is done with this handle, the answer is that there is no such extent.
    pub(crate) async fn refuses(&self, extent: &Extent, what: &str) {
        let mut txn = self.store.begin();
        assert!(is_no_extent(&txn.free(extent).await), "free: {what}");
        assert!(is_no_extent(&txn.resize(extent, PAGE).await), "resize: {what}");
        assert!(is_no_extent(&txn.write(extent, 0, b"x").await), "write: {what}");
        assert!(is_no_extent(&self.store.read_at(extent, 0, 1).await), "direct read: {what}");
        assert!(is_no_extent(&self.store.write_at(extent, 0, b"x").await), "direct write: {what}");
        txn.commit().await.unwrap();
    }

    /// Allocates the same until there is no space for it.
    pub(crate) async fn take_all(&self, request: AllocRequest) -> Vec<Extent> {
        let mut all = Vec::new();
        loop {
            match self.alloc(request).await {
                Ok(extent) => all.push(extent),
                Err(Error::NoSpace { .. }) => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Fills all that is left with extents of one page.
    pub(crate) async fn fill(&self) -> Vec<Extent> {
        self.take_all(pages(1)).await
    }

    /// Takes all whole segments that are free with one allocation each.
    pub(crate) async fn fill_segments(&self) -> Vec<Extent> {
        self.take_all(AllocRequest::bytes(self.store.layout().segment_bytes()).power_of_two()).await
    }

    /// Frees the pages of a segment that `free` names, after the store was filled with single pages.
    pub(crate) async fn holes(&self, all: &[Extent], segment: u64, free: impl Fn(u64) -> bool) {
        for extent in all.iter().filter(|extent| self.segment_of(extent) == segment) {
            if free(extent.offset / PAGE % u64::from(self.store.layout().pages_per_segment())) {
                self.free(extent).await.unwrap();
            }
        }
    }
}

/// Runs on a thread of its own, which is given up when it does not end: an endless loop is a failure and no hang.
pub(crate) fn in_time(seconds: u64, test: impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(seconds)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {seconds} seconds"),
        // The thread's own panic says more.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}
