//! The handle to an open store.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use rustc_hash::{FxHashMap, FxHashSet};

use super::extent::Extent;
use super::offload::offload;
use super::options::OpenOptions;
use super::publish::{InFlight, Shared};
use super::reserve::Reserved;
use super::stats::{AllocatorStats, RoleStats, SegmentStats};
use super::transaction::Transaction;
use crate::device::{Clock, Device, Port};
use crate::error::Result;
use crate::format::{Layout, Role, StoreId};
use crate::journal::{CommitStages, Journal, JournalOptions, Maintenance, RangeLocks, Replay, ReplayReport};
use crate::space::Space;

/// An extent that an open transaction gives another length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resized {
    /// As it will be.
    pub(super) extent: Extent,
    /// Number of the last direct write into it.
    pub(super) data_number: u64,
}

/// What transactions share in memory.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) space: Space,
    /// Reservations of open transactions, by offset.
    pub(super) reserved: FxHashMap<u64, Reserved>,
    /// Offsets of extents that an open transaction is going to free, or gives another length.
    pub(super) claimed: FxHashSet<u64>,
    /// Those that get another length, by offset.
    pub(super) resized: FxHashMap<u64, Resized>,
    /// What the group that is being written did.
    pub(super) in_flight: InFlight,
    /// Blocks that were asked for here and were in memory. Counted under the lock, which costs nothing.
    pub(super) cache_hits: AtomicU64,
}

// Apart from the count of the handles, which changes with each transaction.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Inner {
    pub(super) journal: Arc<Journal>,
    pub(super) shared: Arc<Shared>,
    pub(super) locks: RangeLocks,
    /// See [`OpenOptions::loaded_bytes`].
    pub(super) loaded_budget: usize,
    /// Metadata blocks whose slots are known to be physically there, some together.
    prepared: Mutex<FxHashSet<u64>>,
    maintenance: Maintenance,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.maintenance.stop_and_settle(&self.journal);
    }
}

impl Inner {
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.core(self.journal.port())
    }

    /// The same for who holds what others wait for.
    pub(super) fn core_at_once(&self) -> MutexGuard<'_, Core> {
        self.shared.core_at_once(self.journal.port())
    }

    pub(super) fn layout(&self) -> &Layout {
        self.journal.layout()
    }

    pub(super) fn prepared(&self) -> MutexGuard<'_, FxHashSet<u64>> {
        // A set that somebody left in the middle of an insertion is whole.
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what somebody may have who has joined a group, and who may never be polled again: then the group is
    /// written all the same.
    pub(super) async fn wait_in_line<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        if let Some(done) = wait.as_mut().now_or_never() {
            return done;
        }
        self.journal.look_after_waiting();
        wait.await
    }

    /// Runs a call that may wait for the device.
    pub(super) async fn offload<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(self);
        offload(self.journal.port().may_block(), move || call(&inner)).await
    }
}

/// An open store. Cheap to clone; all clones are the same store.
///
/// Dropping the last clone without [`close`](Self::close) loses nothing that was committed; the next opening replays
/// the journal.
///
/// ```
/// # use freehold::{Allocator, FormatOptions};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> freehold::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("store");
/// FormatOptions::new().create(&path, 16 << 20).await?;
///
/// let store = Allocator::open(&path).await?;
/// let mut txn = store.begin();
/// let extent = txn.alloc(10_000).await?;
/// store.write_at(&extent, 0, b"hello").await?;
/// txn.commit().await?; // the data is durable before the record that publishes it
///
/// assert_eq!(store.read_at(&extent, 0, 5).await?, b"hello");
/// store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Allocator {
    pub(super) inner: Arc<Inner>,
}

impl Allocator {
    /// Opens the store at `path` for writing, with default [`OpenOptions`], and replays its journal.
    ///
    /// # Errors
    /// See [`OpenOptions::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(OpenOptions::new().open(path).await?.0)
    }

    /// Opens the store at `path` for reading; the journal is applied in memory only.
    pub async fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        Ok(OpenOptions::new().read_only(true).open(path).await?.0)
    }

    pub(super) async fn open_with(
        device: Arc<dyn Device>,
        clock: Arc<dyn Clock>,
        options: JournalOptions,
        loaded_budget: usize,
        read_only: bool,
    ) -> Result<(Self, ReplayReport)> {
        let may_block = device.may_block();
        let replay = if read_only { Replay::InMemory } else { Replay::InPlace };
        offload(may_block, move || {
            let port = Arc::new(Port::new(device, clock, read_only));
            // The tables are read before anything is written: a store that contradicts itself is refused untouched.
            let (journal, report, space) = Journal::open(port, options, replay, super::load::load_space)?;
            let core = Core {
                space,
                reserved: FxHashMap::default(),
                claimed: FxHashSet::default(),
                resized: FxHashMap::default(),
                in_flight: InFlight::default(),
                cache_hits: AtomicU64::new(0),
            };
            let maintenance = Maintenance::start(&journal)?;
            // The thread that writes groups must never be the one that closes the store: it has no more than this.
            let shared = Arc::new(Shared::new(Arc::clone(journal.layout()), core, options.block_up_to));
            journal.set_publisher(Arc::clone(&shared) as _);
            let inner = Inner {
                journal,
                shared,
                locks: RangeLocks::default(),
                loaded_budget,
                prepared: Mutex::new(FxHashSet::default()),
                maintenance,
            };
            Ok((Self { inner: Arc::new(inner) }, report))
        })
        .await
    }

    /// Begins a transaction. Costs nothing on the device.
    pub fn begin(&self) -> Transaction {
        Transaction::new(Arc::clone(&self.inner))
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.inner.layout()
    }

    /// Identity of the store.
    #[must_use]
    pub fn store_id(&self) -> &StoreId {
        self.inner.journal.store_id()
    }

    /// The most journal bytes that one transaction may need; see [`Transaction::journal_bytes`].
    #[must_use]
    pub fn max_transaction_bytes(&self) -> u64 {
        self.inner.journal.max_transaction_bytes()
    }

    /// Writes everything committed so far in place and frees the journal. Commits go on meanwhile.
    ///
    /// # Errors
    /// A failed write or flush stops the store.
    pub async fn checkpoint(&self) -> Result<()> {
        self.inner.offload(|inner| inner.journal.checkpoint()).await
    }

    /// What a store on a real device does by itself every now and then: a checkpoint when the oldest change is old
    /// enough, else a note of the last durable LSN. For devices whose calls cannot block this is left to the caller.
    pub async fn maintain(&self) -> Result<()> {
        self.inner.offload(|inner| inner.journal.maintain()).await
    }

    /// Closes in order: everything goes in place, and the next opening has nothing to replay. Open transactions can
    /// no longer be committed.
    ///
    /// # Errors
    /// After an error the store must be reopened, which replays.
    pub async fn close(&self) -> Result<()> {
        if self.inner.journal.port().is_read_only() {
            return Ok(());
        }
        self.inner.offload(|inner| inner.journal.close()).await
    }

    /// Reads all counters. Costs no I/O; the time it takes does not depend on what is allocated.
    #[must_use]
    pub fn stats(&self) -> AllocatorStats {
        let layout = self.inner.layout();
        let core = self.inner.core();
        let (space, counters) = (&core.space, core.space.counters());
        let mut journal = self.inner.journal.stats();
        journal.cache_hits += core.cache_hits.load(Ordering::Relaxed);
        let numbers = space.segment_numbers();
        let of = |role| u32::try_from(counters.role(role).segments).unwrap_or(u32::MAX);
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let (buddy, extent, slab, span) = (of(Role::Buddy), of(Role::Extent), of(Role::Slab), of(Role::Span));
        let segments = SegmentStats {
            total: layout.segment_count() - numbers.start,
            untouched: layout.segment_count() - numbers.end,
            unused: count.saturating_sub(buddy + extent + slab + span),
            buddy,
            extent,
            slab,
            span,
        };
        AllocatorStats {
            device_bytes: layout.device_bytes(),
            metadata_bytes: layout.metadata_bytes() + counters.overhead_bytes(),
            allocated_bytes: counters.allocated_bytes(),
            free_bytes: space.free_bytes(),
            reserved_bytes: counters.reserved_bytes,
            pending_bytes: counters.pending_bytes,
            extents: counters.extents(),
            rounding_bytes: counters.slack_bytes(),
            loaded_bytes: space.loaded_bytes() as u64,
            segments,
            journal,
            device: self.inner.journal.port().metrics().snapshot(),
        }
    }

    /// Where the time of commits goes, stage by stage, since the store was opened. Costs no I/O.
    #[must_use]
    pub fn stages(&self) -> CommitStages {
        self.inner.journal.stages()
    }

    /// What the segments of each role hold; roles without a segment are left out. Costs no I/O.
    #[must_use]
    pub fn role_stats(&self) -> Vec<RoleStats> {
        let core = self.inner.core();
        let counters = core.space.counters();
        let roles = Role::ALL.into_iter().filter(|role| *role != Role::Unused);
        let stats = roles.map(|role| {
            let totals = counters.role(role);
            RoleStats {
                role,
                segments: totals.segments,
                extents: totals.extents,
                allocated_bytes: totals.allocated_bytes,
                overhead_bytes: totals.overhead_bytes,
                rounding_bytes: totals.slack_bytes,
            }
        });
        stats.filter(|stats| stats.segments > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use crate::device::{Device, DeviceGeometry, MemoryDevice, Purpose, SystemClock};
    use crate::format::LeafAddress;
    use crate::journal::JournalOptions;
    use crate::{Allocator, FormatOptions, OpenOptions};
    use std::sync::{Arc, Mutex};

    async fn store() -> Allocator {
        let device = Arc::new(MemoryDevice::zeroed(1 << 20));
        FormatOptions::new().format_device(Arc::clone(&device) as _).await.unwrap();
        OpenOptions::new().open_device(device).await.unwrap().0
    }

    /// A device that calls somebody at each flush.
    struct Watched {
        device: MemoryDevice,
        on_flush: Mutex<Option<Box<dyn Fn() + Send>>>,
    }

    impl std::fmt::Debug for Watched {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.device.fmt(f)
        }
    }

    impl Device for Watched {
        fn geometry(&self) -> DeviceGeometry {
            self.device.geometry()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.device.read_at(offset, buf)
        }
        fn write_at(&self, offset: u64, data: &[u8], purpose: Purpose) -> std::io::Result<()> {
            self.device.write_at(offset, data, purpose)
        }
        fn flush(&self) -> std::io::Result<()> {
            if let Some(call) = &*self.on_flush.lock().unwrap() {
                call();
            }
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

    /// Rule 3, where one group is durable and the next one is not.
    #[tokio::test]
    async fn what_a_later_group_frees_stays_where_it_is() {
        let device = MemoryDevice::zeroed(1 << 20);
        let device = Arc::new(Watched { device, on_flush: Mutex::default() });
        FormatOptions::new().format_device(Arc::clone(&device) as _).await.unwrap();
        let store = OpenOptions::new().open_device(Arc::clone(&device) as _).await.unwrap().0;
        let mut transaction = store.begin();
        let extent = transaction.alloc(4096).await.unwrap();
        let durable = transaction.commit().await.unwrap().lsn;

        let mut transaction = store.begin();
        transaction.free(&extent).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (weak, pending) = (Arc::downgrade(&store.inner), Arc::clone(&seen));
        *device.on_flush.lock().unwrap() = Some(Box::new(move || {
            let store = Allocator { inner: weak.upgrade().unwrap() };
            store.inner.core().land(durable);
            pending.lock().unwrap().push(store.stats().pending_bytes);
        }));
        transaction.commit().await.unwrap();
        *device.on_flush.lock().unwrap() = None;
        assert_eq!(*seen.lock().unwrap(), [4096], "its group is about to become durable");
        assert_eq!(store.stats().pending_bytes, 0);
    }

    /// What is dropped from memory after a transaction looked at it, and before its group is made, could not be changed.
    #[tokio::test]
    async fn blocks_that_somebody_is_about_to_change_stay() {
        let device = Arc::new(MemoryDevice::zeroed(64 << 20));
        FormatOptions::new().page_bytes(4096).format_device(Arc::clone(&device) as _).await.unwrap();
        let options = JournalOptions { cached_blocks: 0, ..JournalOptions::default() };
        let clock = Arc::new(SystemClock::default());
        let (store, _) = Allocator::open_with(device, clock, options, 1 << 20, false).await.unwrap();
        let mut extents = Vec::new();
        for _ in 0..60 {
            let mut transaction = store.begin();
            extents.push(transaction.alloc(900_000).await.unwrap());
            transaction.commit().await.unwrap();
        }
        store.checkpoint().await.unwrap();
        let journal = &store.inner.journal;
        for extent in &extents {
            let mut transaction = store.begin();
            transaction.free(extent).await.unwrap();
            let mut commit = Box::pin(transaction.commit());
            assert!(futures_util::FutureExt::now_or_never(commit.as_mut()).is_none());
            let before = journal.overlay().len();
            for leaf in 0..store.layout().leaf_count() {
                journal.read_leaf(LeafAddress(leaf)).unwrap();
            }
            assert!(journal.overlay().len() < before + 60, "blocks were dropped");
            commit.await.unwrap();
            store.checkpoint().await.unwrap();
        }
    }

    /// The last handle waits until nobody else has the journal, and would wait in vain.
    #[tokio::test]
    async fn nothing_in_an_idle_store_keeps_its_journal_alive() {
        let store = store().await;
        let mut transaction = store.begin();
        transaction.alloc(4096).await.unwrap();
        transaction.commit().await.unwrap();
        let journal = &store.inner.journal;
        assert_eq!((Arc::strong_count(journal), Arc::strong_count(journal.port())), (1, 1));
    }
}
