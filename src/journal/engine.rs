//! The journal's state, and how its parts find each other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use rustc_hash::FxHashSet;
use tokio::sync::Semaphore;

use super::absence::Absence;
use super::append::Changes;
use super::data::{DataSequence, DataWaiter};
use super::group::Group;
use super::kept::{Keeping, KeptLeaves};
use super::maintenance::Wake;
use super::overlay::{BlockId, Overlay};
use super::publisher::Publisher;
use super::stages::Stages;
use super::superblocks::SuperblockPair;
use super::tree::ChecksumTree;
use super::waiting::Waiting;
use crate::device::Port;
use crate::error::{Error, Result};
use crate::format::{Layout, LeafAddress, StoreId};

/// What is written directly and not durable is much from so many bytes on.
const MOST_STARTED_BYTES: u64 = 8 << 20;

/// How the journal behaves.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// A checkpoint runs when the oldest uncheckpointed group is this old.
    pub checkpoint_age: Duration,
    /// Metadata blocks kept in memory beyond the dirty ones.
    pub cached_blocks: usize,
    /// What writing a group must be expected to take less than, to be done on a thread of the runtime.
    pub block_up_to: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            checkpoint_age: Duration::from_secs(5),
            cached_blocks: 8192,
            block_up_to: Duration::from_millis(1),
        }
    }
}

/// Counters of the journal since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct JournalStats {
    /// Transactions made durable.
    pub transactions: u64,
    /// Groups written.
    pub groups: u64,
    /// Bytes of groups without padding.
    pub encoded_bytes: u64,
    /// Bytes of groups as written.
    pub written_bytes: u64,
    /// Flushes for the sake of direct writes only.
    pub data_flushes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Blocks written in place by checkpoints.
    pub checkpointed_blocks: u64,
    /// Ring space that the groups take which no checkpoint has covered, in bytes.
    pub ring_used_bytes: u64,
    /// Ring space that is given out and that no group has taken or given back yet, in bytes: to transactions that have joined a
    /// group, or are about to, or wait for more. Approximate while others are at work.
    pub ring_claimed_bytes: u64,
    /// Blocks in the overlay, clean ones included.
    pub overlay_blocks: u64,
    /// Metadata blocks that were asked for and were in memory.
    pub cache_hits: u64,
    /// Metadata blocks that had to be read.
    pub cache_misses: u64,
    /// The last durable LSN.
    pub durable_lsn: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) transactions: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) encoded_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) data_flushes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) checkpointed_blocks: AtomicU64,
    pub(super) durable_lsn: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What those who join a group change.
pub(super) struct State {
    /// The group that fills.
    pub(super) open: Group,
    /// Full groups that wait for their turn, oldest first.
    pub(super) full: VecDeque<Group>,
    pub(super) next_lsn: u64,
    pub(super) data_waiters: Vec<DataWaiter>,
    /// Somebody is writing groups and will go on until there are none.
    pub(super) driving: bool,
}

/// What the one who writes groups changes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) head_position: u64,
    pub(super) durable_lsn: u64,
    pub(super) epoch: u64,
    pub(super) witnessed_lsn: u64,
    pub(super) witness_copy: usize,
    pub(super) changes: Changes,
}

/// The journal of an open store. Shared by everyone who commits to it.
#[repr(align(128))]
pub struct Journal {
    pub(super) port: Arc<Port>,
    pub(super) layout: Arc<Layout>,
    pub(super) store: StoreId,
    pub(super) options: JournalOptions,
    pub(super) overlay: Overlay,
    pub(super) block_claim_bytes: u64,
    pub(super) tree: Mutex<ChecksumTree>,
    /// Held by a checkpoint from beginning to end.
    pub(super) checkpointing: Mutex<SuperblockPair>,
    /// Those who wait for that lock, or have it, and hold up others or are commits.
    pub(super) checkpointing_wanted: Waiting,
    pub(super) writer: Mutex<Writer>,
    // What changes with each transaction has cache lines of its own.
    pub(super) state: CachePadded<Mutex<State>>,
    /// Free granules of the ring.
    pub(super) space: CachePadded<Semaphore>,
    /// Transactions that wait for ring space.
    pub(super) space_wanted: Waiting,
    /// Where in the ring the groups begin that no checkpoint has covered, and where they end. To be looked at without the
    /// writer's lock.
    pub(super) ring_tail: AtomicU64,
    pub(super) ring_head: AtomicU64,
    pub(super) data: DataSequence,
    pub(super) counters: CachePadded<Counters>,
    pub(super) stages: Stages,
    pub(super) wake: Arc<Wake>,
    pub(super) epoch: AtomicU64,
    /// What a group of late took to be written and durable, in nanoseconds.
    pub(super) recent_write: AtomicU64,
    /// What each of the last two took.
    pub(super) last_writes: [AtomicU64; 2],
    /// Transactions of the last group.
    pub(super) recent_transactions: AtomicU32,
    /// Transactions of late, and their encoded bytes: each group counts half as much as the one after it.
    pub(super) encoded_of_late: [AtomicU64; 2],
    /// Those who wait for their turn between two groups.
    pub(super) writer_wanted: Waiting,
    /// Blocks that a checkpoint would have to write, to be looked at without the writer's lock.
    pub(super) dirty_blocks: AtomicUsize,
    /// Since when there are any, in nanoseconds of the clock.
    pub(super) dirty_since: AtomicU64,
    /// Metadata blocks that transactions gather.
    pub(super) kept: KeptLeaves,
    /// Of whoever has the duty to write groups.
    pub(super) absence: Mutex<Absence>,
    /// Somebody writes groups in place of one who is absent.
    pub(super) standing_in: AtomicBool,
    /// Blocks of the last snapshot, for as long as they are not in place.
    pub(super) settling: AtomicUsize,
    /// Closed in order. Changes under the state lock.
    pub(super) shut: AtomicBool,
    /// Who knows what transactions change.
    pub(super) publisher: OnceLock<Arc<dyn Publisher>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Journal {
    /// Takes a lock of the journal. A panic under it means that the state can no longer be trusted: the store stops.
    pub(super) fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.port.poison(Error::Internal("a panic left the journal half changed"));
            poisoned.into_inner()
        })
    }

    /// The device's port.
    #[must_use]
    pub fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// The recovery epoch: another one at each writable opening.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Identity of the store.
    #[must_use]
    pub fn store_id(&self) -> &StoreId {
        &self.store
    }

    /// Journaled blocks that are not yet in place.
    #[must_use]
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The most journal bytes that one transaction may need: half the ring, so that recovery can always write the last
    /// group once more beside the original.
    #[must_use]
    pub fn max_transaction_bytes(&self) -> u64 {
        Self::max_group_bytes(&self.layout)
    }

    /// Journal bytes that a transaction needs at least for each metadata block that it changes, however little: blocks take memory,
    /// here and at replay.
    #[must_use]
    pub fn block_claim_bytes(&self) -> u64 {
        self.block_claim_bytes
    }

    pub(super) fn max_group_bytes(layout: &Layout) -> u64 {
        let granule = u64::from(layout.ring_granule_bytes());
        layout.ring_bytes() / 2 / granule * granule
    }

    pub(super) fn ring_granules(layout: &Layout) -> usize {
        usize::try_from(layout.ring_bytes() / u64::from(layout.ring_granule_bytes())).unwrap_or(0)
    }

    /// Bytes of the groups that no checkpoint has covered.
    pub(super) fn ring_used_bytes(&self) -> u64 {
        let tail = self.ring_tail.load(Ordering::Relaxed);
        self.ring_head.load(Ordering::Relaxed).saturating_sub(tail)
    }

    /// A metadata block as the overlay and the last checkpoint have it.
    pub fn read_leaf(&self, leaf: LeafAddress) -> Result<Arc<Vec<u8>>> {
        let id = BlockId::Metadata(leaf.0);
        if let Some(content) = self.overlay.get(id) {
            count(&self.counters.cache_hits, 1);
            return Ok(content);
        }
        count(&self.counters.cache_misses, 1);
        // The tree stays locked until the block is in the overlay: no checkpoint can install a newer version between.
        let mut tree = self.lock(&self.tree);
        if let Some(content) = self.overlay.get(id) {
            return Ok(content);
        }
        let content = tree.read_leaf(&self.port, leaf)?;
        let content = self.overlay.insert_clean(id, content);
        drop(tree);
        // The one who writes groups relies on blocks staying while it is at work.
        if let Ok(writer) = self.writer.try_lock() {
            self.evict_clean(&writer);
        }
        Ok(content)
    }

    /// Keeps the clean blocks within their budget. Those that somebody is about to change stay.
    pub(super) fn evict_clean(&self, writer: &Writer) {
        // A question may need all headers and bits of a segment at once, and half of the budget goes at a time.
        let together = self.layout.header_blocks() + self.layout.bitmap_blocks() + 8;
        let least = usize::try_from(2 * together).unwrap_or(usize::MAX);
        let budget = self.options.cached_blocks.max(least);
        let stays = writer.changes.dirty_blocks() + self.settling.load(Ordering::Relaxed) + self.kept.count();
        if self.overlay.len() <= budget + stays {
            return;
        }
        let mut evict = |spared: &FxHashSet<LeafAddress>| {
            self.kept.ask(|is_kept| {
                self.overlay.evict(budget / 2 + stays, |leaf| spared.contains(&leaf) || is_kept(leaf));
            });
        };
        match self.publisher.get() {
            Some(publisher) => publisher.spare(&mut evict),
            None => evict(&FxHashSet::default()),
        }
    }

    /// Has metadata blocks stay in memory that are there, and those that are read from here on. For whoever needs more of them at
    /// once than usually stay.
    pub fn keep(&self, leaves: FxHashSet<LeafAddress>) -> Keeping<'_> {
        self.kept.keep(leaves)
    }

    /// Whether a metadata block is anything but zeros by definition: dirty, or written by a checkpoint.
    pub fn leaf_exists(&self, leaf: LeafAddress) -> Result<bool> {
        if self.overlay.is_dirty(BlockId::Metadata(leaf.0)) {
            return Ok(true);
        }
        self.lock(&self.tree).is_present(&self.port, leaf)
    }

    /// Makes the slots that the next versions of some metadata blocks go to physically present (rule 14). The slots that
    /// count are left alone: on a file system that can only be made to by writing, they would be written. Waits for a
    /// checkpoint that is under way, which may write the same slots.
    pub fn preallocate(&self, leaves: Range<u64>) -> Result<()> {
        let checkpointing = self.lock_checkpointing_soon();
        let slots = self.lock(&self.tree).unused_slots(&self.port, leaves)?;
        for range in slots {
            self.port.preallocate(range.start, range.end - range.start)?;
        }
        drop(checkpointing);
        Ok(())
    }

    /// The offset at which a metadata block was found, for reports; of its first slot when it was never written.
    #[must_use]
    pub fn leaf_offset(&self, leaf: LeafAddress) -> u64 {
        let found = self.lock(&self.tree).leaf_offset(&self.port, leaf);
        found.ok().flatten().unwrap_or_else(|| self.layout.slot(0, leaf.0, 0).offset)
    }

    /// Counters since opening.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let taken = Self::ring_granules(&self.layout).saturating_sub(self.space.available_permits());
        let taken = taken as u64 * u64::from(self.layout.ring_granule_bytes());
        let used = self.ring_used_bytes();
        JournalStats {
            transactions: get(&counters.transactions),
            groups: get(&counters.groups),
            encoded_bytes: get(&counters.encoded_bytes),
            written_bytes: get(&counters.written_bytes),
            data_flushes: get(&counters.data_flushes),
            checkpoints: get(&counters.checkpoints),
            checkpointed_blocks: get(&counters.checkpointed_blocks),
            ring_used_bytes: used,
            ring_claimed_bytes: taken.saturating_sub(used),
            overlay_blocks: self.overlay.len() as u64,
            cache_hits: get(&counters.cache_hits),
            cache_misses: get(&counters.cache_misses),
            durable_lsn: get(&counters.durable_lsn),
        }
    }

    /// Says who knows what transactions change. Only the first one given counts. Without one, transactions that join
    /// change nothing.
    pub fn set_publisher(&self, publisher: Arc<dyn Publisher>) {
        // A second one is left out, as said.
        let _ = self.publisher.set(publisher);
    }

    /// A direct write of so many bytes has completed; returns the number to wait for.
    pub fn data_written(&self, bytes: u64) -> u64 {
        self.data.complete_one(bytes)
    }

    /// Has the medium begin with what was written directly; unless there is much already, and somebody flushes: who does waits for
    /// all that is under way, also for what comes while he waits.
    pub fn start_writeback(&self, due: Range<u64>) {
        if self.data.bytes_at_risk() <= MOST_STARTED_BYTES || !self.lock(&self.state).driving {
            self.port.start_writeback(due.start, due.end - due.start);
        }
    }

    /// Number of the last completed direct write.
    #[must_use]
    pub fn last_data_written(&self) -> u64 {
        self.data.completed()
    }

    /// Whether the journal still holds changes to blocks of the caller in this range of the device (rule 4).
    #[must_use]
    pub fn has_journaled_blocks(&self, offset: u64, len: u64) -> bool {
        if self.overlay.caller_blocks() == 0 || len == 0 {
            return false;
        }
        let block = u64::from(self.layout.block_bytes());
        (offset / block..=(offset + len - 1) / block)
            .any(|block| self.overlay.contains(BlockId::Caller(block)))
    }
}
