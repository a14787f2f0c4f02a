//! What commits leave for the one who writes their group: each transaction takes effect in memory when it is its group's
//! turn, and what it freed comes back when the group is durable.
//!
//! One core at a time does what is shared: whoever commits only puts down what is to be done.

use std::collections::VecDeque;
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use write_journal::TransactionWrite;

use super::extent::Extent;
use super::handle::Core;
use super::turns::Turns;
use crate::device::Port;
use crate::error::{Error, Result};
use crate::format::{AllocatorState, ExtentChange, Layout, LeafAddress, SEGMENT_RECORD_BYTES};
use crate::journal::{Appender, Bases, ExtentUpdate, Publisher, RangeGuard};
use crate::space::{Allocation, Batch, MetadataBlocks, Place, RegionHeads, Release, Resize, Space};

/// Transactions that take effect under one holding of the lock: others wait for it meanwhile.
const TOGETHER: usize = 64;
/// The longest that a thread lets others have the lock over the space, again and again, before it queues up for it.
const MOST_PATIENCE: Duration = Duration::from_millis(1);
/// Transactions in a group that are few beside those that a sleeping thread may have in hand.
const FEW: u32 = 32;
/// Transactions in a group that are made before anybody has many turns with the space.
const VERY_FEW: u32 = 16;

/// An extent that a transaction allocates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) extent: Extent,
    pub(super) allocation: Allocation,
}

impl Own {
    pub(super) fn place(&self) -> Place {
        self.allocation.reservation.place
    }
}

/// What a transaction is going to change. All of it is checked when it joins a group, and nothing can fail any more.
#[derive(Debug, Default)]
pub(super) struct Intent {
    // Most transactions have one of each: no memory of their own for that.
    pub(super) allocated: SmallVec<[Own; 1]>,
    pub(super) freed: SmallVec<[(Extent, Release); 1]>,
    /// Extents that get another length: the new handle, and what changes.
    pub(super) resized: Vec<(Extent, Resize)>,
    pub(super) staged: Vec<TransactionWrite>,
    /// What is under the bytes of the caller's space that change.
    pub(super) ground: Option<Box<Ground>>,
}

/// Blocks of the caller's space that a transaction changes.
#[derive(Debug)]
pub(super) struct Ground {
    /// Those under what is staged, and under heads of regions.
    pub(super) blocks: Vec<u64>,
    /// Those that were not in the overlay, or have left it since, as they are before.
    pub(super) bases: Bases,
    /// Among those who [gather](Queue).
    pub(super) gathering: u64,
    /// Held until the bytes are in the overlay: no direct write comes between a block's image and its record.
    pub(super) guard: RangeGuard,
}

impl Intent {
    /// Where something changes; what grows or shrinks as a whole.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let resized = self.resized.iter().map(|(_, resize)| Resize::place(resize));
        let allocated = self.allocated.iter().map(Own::place);
        allocated.chain(self.freed.iter().map(|(_, release)| release.place)).chain(resized)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allocated.is_empty()
            && self.freed.is_empty()
            && self.resized.is_empty()
            && self.staged.is_empty()
    }

    /// Whether it frees the extent that begins here, or gives it another length.
    pub(super) fn changes(&self, offset: u64) -> bool {
        let mut extents =
            self.freed.iter().map(|(extent, _)| extent).chain(self.resized.iter().map(|(extent, _)| extent));
        extents.any(|extent| extent.offset == offset)
    }
}

/// Transactions that have joined a group; and blocks of the caller that others gather who are about to.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order in which they joined.
    pub(super) joined: VecDeque<Intent>,
    gathering: FxHashMap<u64, Gathering>,
    last_gathering: u64,
}

/// Blocks that a transaction is going to change.
#[derive(Debug)]
struct Gathering {
    blocks: Vec<u64>,
    /// Those that have left the overlay since, as they are in place.
    settled: Bases,
}

impl Queue {
    /// What has left the overlay meanwhile of the blocks that are gathered. It is newer than what was read from the device.
    pub(super) fn take_settled(&mut self, gathering: u64) -> Bases {
        self.gathering.get_mut(&gathering).map(|own| std::mem::take(&mut own.settled)).unwrap_or_default()
    }
}

/// Keeps what leaves the overlay for a transaction that gathers blocks, until it is dropped.
#[derive(Debug)]
pub(super) struct Gatherer<'a> {
    shared: &'a Shared,
    pub(super) number: u64,
}

impl Drop for Gatherer<'_> {
    fn drop(&mut self) {
        self.shared.queue().gathering.remove(&self.number);
    }
}

/// What transactions share in memory, and what those that have joined a group are going to do to it.
#[derive(Debug)]
pub(super) struct Shared {
    layout: Arc<Layout>,
    // Those who commit are not to wait for the cache lines of those who allocate.
    core: Turns<Core>,
    /// Its lock comes behind that of `core`.
    queue: CachePadded<Mutex<Queue>>,
    /// The lists of the last group that took effect, empty: for the next one. Only the one who writes groups takes them.
    lists: Mutex<Changes>,
}

impl Shared {
    /// Threads block for at most `block_up_to` while others are at work.
    pub(super) fn new(layout: Arc<Layout>, core: Core, block_up_to: Duration) -> Self {
        let core = Turns::new(core, block_up_to.min(MOST_PATIENCE));
        Self { layout, core, queue: CachePadded::default(), lists: Mutex::default() }
    }

    pub(super) fn core(&self, port: &Port) -> MutexGuard<'_, Core> {
        unpoisoned(self.core.lock(), port)
    }

    /// The same for the one who writes groups, and for who holds what that one waits for.
    pub(super) fn core_at_once(&self, port: &Port) -> MutexGuard<'_, Core> {
        unpoisoned(self.core.lock_at_once(), port)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic half way is done under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to gather blocks of the caller: to be called before anybody looks for them.
    pub(super) fn gather(&self, blocks: Vec<u64>) -> Gatherer<'_> {
        let mut queue = self.queue();
        queue.last_gathering += 1;
        let number = queue.last_gathering;
        queue.gathering.insert(number, Gathering { blocks, settled: Bases::default() });
        Gatherer { shared: self, number }
    }

    fn lists(&self) -> MutexGuard<'_, Changes> {
        // Nothing is done under this lock.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic under the lock means that the space can no longer be trusted: the store stops.
fn unpoisoned<'a>(locked: LockResult<MutexGuard<'a, Core>>, port: &Port) -> MutexGuard<'a, Core> {
    locked.unwrap_or_else(|poisoned| {
        port.poison(Error::Internal("a panic left the space half changed"));
        poisoned.into_inner()
    })
}

impl Publisher for Shared {
    fn publish(&self, transactions: u32, appender: &mut Appender<'_>) -> Result<()> {
        let mut left = transactions as usize;
        let mut changes = std::mem::take(&mut *self.lists());
        while left > 0 {
            let published = self.publish_some(left, appender.last_lsn(), appender.port(), &mut changes)?;
            left -= published;
            // Blocks change without the lock. What reads several of them looks whether their segment is in flight.
            changes.apply(appender);
        }
        // After an error, or a panic, they may not be empty, and are dropped.
        *self.lists() = changes;
        Ok(())
    }

    fn writing(&self, transactions: u32) {
        self.core.set_few(transactions <= VERY_FEW);
        if transactions <= FEW {
            self.core.pause();
        }
    }

    fn durable(&self, port: &Port, lsn: u64) {
        self.core_at_once(port).land(lsn);
    }

    fn abandon(&self) {
        // They may hold locks of ranges, whose drop is not to happen under the queue's.
        let abandoned = std::mem::take(&mut self.queue().joined);
        drop(abandoned);
    }

    fn spare(&self, drop_others: &mut dyn FnMut(&FxHashSet<LeafAddress>)) {
        let queue = self.queue();
        let mut spared = FxHashSet::default();
        for place in queue.joined.iter().flat_map(Intent::places) {
            Space::for_touched_leaves(&self.layout, &place, |leaf| {
                spared.insert(leaf);
            });
        }
        drop_others(&spared);
    }

    fn hand_over(&self, settle: &mut dyn FnMut() -> Vec<(u64, Arc<Vec<u8>>)>) {
        let mut queue = self.queue();
        let Queue { joined, gathering, .. } = &mut *queue;
        let settled: Bases = settle().into_iter().collect();
        let grounds = joined.iter_mut().filter_map(|intent| intent.ground.as_mut());
        let joined = grounds.map(|ground| (&ground.blocks, &mut ground.bases));
        let gathering = gathering.values_mut().map(|own| (&own.blocks, &mut own.settled));
        for (blocks, bases) in joined.chain(gathering) {
            bases.extend(blocks.iter().filter_map(|block| Some((*block, Arc::clone(settled.get(block)?)))));
        }
    }
}

impl Shared {
    /// Some of the next transactions take effect in memory; returns how many.
    fn publish_some(&self, most: usize, lsn: u64, port: &Port, changes: &mut Changes) -> Result<usize> {
        let mut core = self.core_at_once(port);
        let core = &mut *core;
        let mut queue = self.queue();
        let joined = &mut queue.joined;
        let count = most.min(TOGETHER).min(joined.len());
        if count == 0 {
            port.check_poison()?;
            return Err(Error::Internal("a transaction that joined a group is gone"));
        }
        if count == joined.len() {
            std::mem::swap(&mut changes.intents, joined);
        } else {
            changes.intents.extend(joined.drain(..count));
        }
        drop(queue);
        core.in_flight.lsn = lsn;
        let mut batch = core.space.begin_batch();
        for intent in &changes.intents {
            core.take_effect(intent, &mut batch, &mut changes.metadata);
        }
        changes.heads = core.space.settle(batch, &mut changes.metadata, &mut core.in_flight.segments);
        Ok(count)
    }
}

/// What some transactions change on disk.
#[derive(Debug, Default)]
struct Changes {
    metadata: MetadataChanges,
    intents: VecDeque<Intent>,
    heads: RegionHeads,
}

/// Changes of metadata blocks.
#[derive(Debug, Default)]
struct MetadataChanges {
    extents: Vec<ExtentUpdate>,
    /// Of records and the allocator's state, which lie in other blocks.
    bytes: Vec<BytesChange>,
}

#[derive(Debug)]
struct BytesChange {
    leaf: LeafAddress,
    offset: u32,
    len: u32,
    bytes: [u8; MOST_BYTES],
}

impl BytesChange {
    fn place_and_bytes(&self) -> (u32, &[u8]) {
        (self.offset, self.bytes.get(..self.len as usize).unwrap_or(&self.bytes))
    }
}

/// Nothing that is changed at once is longer.
const MOST_BYTES: usize = SEGMENT_RECORD_BYTES;
const _: () = assert!(AllocatorState::ENCODED_BYTES <= MOST_BYTES);

impl MetadataBlocks for MetadataChanges {
    fn bytes(&mut self, leaf: LeafAddress, offset: u32, bytes: &[u8]) {
        let mut copy = [0; MOST_BYTES];
        copy.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let len = u32::try_from(bytes.len().min(MOST_BYTES)).unwrap_or(0);
        self.bytes.push(BytesChange { leaf, offset, len, bytes: copy });
    }

    fn extent(&mut self, segment: u32, page: u32, change: ExtentChange) {
        self.extents.push(ExtentUpdate { segment, page, change });
    }
}

impl MetadataChanges {
    /// Hands everything over, block by block where many changes are in few blocks.
    fn apply(&mut self, appender: &mut Appender<'_>) {
        appender.extents(&self.extents);
        self.extents.clear();
        // Records come one after the other.
        for changes in self.bytes.chunk_by(|change, next| change.leaf == next.leaf) {
            if let Some(BytesChange { leaf, .. }) = changes.first() {
                appender.many_bytes(*leaf, changes.iter().map(BytesChange::place_and_bytes));
            }
        }
        self.bytes.clear();
    }
}

impl Changes {
    /// Hands everything over.
    fn apply(&mut self, appender: &mut Appender<'_>) {
        self.metadata.apply(appender);
        let RegionHeads { bytes, fresh } = std::mem::take(&mut self.heads);
        // What lay in a region before it was one means nothing: zeros take no room in the journal.
        for ground in self.intents.iter_mut().filter_map(|intent| intent.ground.as_mut()) {
            let in_fresh = |block: &u64| {
                let next = fresh.partition_point(|region| region.end <= *block);
                fresh.get(next).is_some_and(|region| region.contains(block))
            };
            let bases = ground.bases.iter_mut().filter(|(block, _)| in_fresh(block));
            bases.for_each(|(_, base)| Arc::make_mut(base).fill(0));
        }
        // The heads first: what the caller wrote never overlaps them.
        for (offset, bytes) in &bytes {
            let grounds = || self.intents.iter().filter_map(|intent| intent.ground.as_ref());
            appender.caller(*offset, bytes, |block| grounds().find_map(|ground| ground.bases.get(&block)));
        }
        for intent in self.intents.drain(..) {
            let Some(ground) = intent.ground else { continue };
            for write in &intent.staged {
                appender.caller(write.offset, &write.data, |block| ground.bases.get(&block));
            }
            drop(ground.guard);
        }
    }
}

/// What the transactions of a group did that is not durable yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The last of them.
    pub(super) lsn: u64,
    /// What they freed. It is handed out again when that is durable (rule 3).
    releases: Vec<Release>,
    resizes: Vec<Resize>,
    /// Offsets of extents that they allocated, and of those that they freed or gave another length: until these are in the
    /// blocks, others see them as before.
    allocated: Vec<u64>,
    claimed: Vec<u64>,
    /// Whose blocks change; some more than once.
    segments: Vec<u32>,
}

impl InFlight {
    /// Whether the group frees the extent that begins here, or gives it another length.
    pub(super) fn changes(&self, offset: u64) -> bool {
        self.claimed.contains(&offset)
    }
}

impl Core {
    /// One transaction takes effect.
    fn take_effect(&mut self, intent: &Intent, batch: &mut Batch, blocks: &mut dyn MetadataBlocks) {
        let in_flight = &mut self.in_flight;
        in_flight.allocated.extend(intent.allocated.iter().map(|own| own.extent.offset));
        in_flight.claimed.extend(intent.freed.iter().map(|(extent, _)| extent.offset));
        in_flight.claimed.extend(intent.resized.iter().map(|(extent, _)| extent.offset));
        let allocations = intent.allocated.iter().map(|own| &own.allocation);
        let releases = intent.freed.iter().map(|(_, release)| release);
        let resizes = intent.resized.iter().map(|(_, resize)| resize);
        self.space.publish(allocations, releases.clone(), resizes.clone(), batch, blocks);
        self.in_flight.releases.extend(releases.clone());
        self.in_flight.resizes.extend(resizes.clone());
        releases.for_each(|release| self.unpin(release));
        resizes.for_each(|resize| self.space.unpin(resize.segment));
    }

    /// What took effect up to this LSN is durable.
    pub(super) fn land(&mut self, lsn: u64) {
        if self.in_flight.lsn > lsn {
            return;
        }
        let Self { in_flight, space, .. } = self;
        space.reclaim(&in_flight.releases, &in_flight.resizes);
        for offset in in_flight.allocated.drain(..) {
            self.reserved.remove(&offset);
        }
        for offset in in_flight.claimed.drain(..) {
            self.claimed.remove(&offset);
            if !self.resized.is_empty() {
                self.resized.remove(&offset);
            }
        }
        for segment in in_flight.segments.drain(..) {
            space.land(segment);
        }
        in_flight.releases.clear();
        in_flight.resizes.clear();
    }
}
