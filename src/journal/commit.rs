//! From records to durable groups: appending, group commit without a timer, and the waits around it.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use tokio::sync::oneshot;

use super::data::DataWaiter;
use super::engine::{Journal, State, Writer, count};
use super::group::ClosedGroup;
use super::maintenance::EngineThread;
use super::overlay::BlockId;
use super::ring::{Ring, RingPermit};
use crate::error::{Error, Result};
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, LeafAddress, PayloadEncoder};

/// Called once, with the transaction's LSN when it is durable, or with why it is not.
pub type Completion = Box<dyn FnOnce(Result<u64>) + Send>;

/// A change of part of a metadata block.
#[derive(Clone, Debug)]
pub enum MetadataChange {
    /// New bytes.
    Bytes {
        /// Offset in the block.
        offset: u32,
        /// What stands there from now on.
        bytes: Vec<u8>,
    },
    /// A run of bits, least significant bit of each byte first.
    Bits {
        /// First bit in the block.
        first: u32,
        /// How many.
        count: u32,
        /// Set or cleared.
        set: bool,
    },
}

/// A change of a metadata block.
#[derive(Clone, Debug)]
pub struct MetadataWrite {
    /// Which block.
    pub leaf: LeafAddress,
    /// What changes.
    pub change: MetadataChange,
}

impl MetadataChange {
    /// The bytes of the block that change.
    fn range(&self) -> (u32, u32) {
        match self {
            Self::Bytes { offset, bytes } => (*offset, offset + u32::try_from(bytes.len()).unwrap_or(0)),
            Self::Bits { first, count, .. } => (first / 8, (first + count).div_ceil(8)),
        }
    }

    fn apply(&self, block: &mut [u8]) {
        match self {
            Self::Bytes { offset, bytes } => {
                let start = *offset as usize;
                if let Some(target) = block.get_mut(start..start + bytes.len()) {
                    target.copy_from_slice(bytes);
                }
            }
            Self::Bits { first, count, set } => set_bits(block, *first, *count, *set),
        }
    }
}

fn set_bits(block: &mut [u8], first: u32, count: u32, set: bool) {
    let end = first + count;
    let mut bit = first;
    while bit < end {
        let Some(byte) = block.get_mut(bit as usize / 8) else {
            return;
        };
        let within = bit % 8;
        let bits = (8 - within).min(end - bit);
        #[expect(clippy::cast_possible_truncation, reason = "at most eight bits, shifted within a byte")]
        let mask = (((1_u32 << bits) - 1) << within) as u8;
        if set {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
        bit += bits;
    }
}

/// A transaction as the journal sees it.
pub struct Record {
    /// Changes of metadata blocks, all of which are resident.
    pub metadata: Vec<MetadataWrite>,
    /// Journaled bytes of the caller: offset on the device, content.
    pub caller: Vec<(u64, Vec<u8>)>,
    /// The blocks under `caller` that were not in the overlay, as read from the device.
    pub bases: HashMap<u64, Vec<u8>>,
    /// Ring space, claimed for [`Journal::record_bound`].
    pub permit: RingPermit,
    /// Who is told.
    pub completion: Completion,
}

/// The right to append. While it is held, nothing is appended by others and no snapshot is taken.
pub struct Appender<'a> {
    journal: &'a Journal,
    state: MutexGuard<'a, State>,
}

impl Appender<'_> {
    /// Whether a block can be changed without reading it first.
    #[must_use]
    pub fn is_resident(&self, id: BlockId) -> bool {
        self.journal.overlay.contains(id)
    }

    /// Applies a record to the overlay and adds it to the open group. Returns its LSN, and whether the caller has to
    /// see to it that the group gets written ([`Journal::start_driving`]).
    ///
    /// # Errors
    /// Nothing is changed when a block is missing.
    pub fn append(mut self, record: Record) -> Result<(u64, bool)> {
        let journal = self.journal;
        let block_bytes = u64::from(journal.layout.block_bytes());
        let missing = record.metadata.iter().any(|write| !self.is_resident(BlockId::Metadata(write.leaf.0)))
            || record
                .caller
                .iter()
                .flat_map(|(offset, bytes)| blocks(*offset, bytes.len(), block_bytes))
                .any(|block| !self.is_resident(BlockId::Caller(block)) && !record.bases.contains_key(&block));
        if missing {
            return Err(Error::Internal("a block to be changed is not in memory"));
        }
        let state = &mut *self.state;
        let granule = journal.layout.ring_granule_bytes() as usize;
        let granules = record.permit.take();
        let max_group = usize::try_from(journal.max_transaction_bytes()).unwrap_or(usize::MAX);
        if !state.open.is_empty() && (state.open.granules + granules) * granule > max_group {
            journal.close_open_group(state)?;
        }
        let lsn = state.next_lsn;
        state.next_lsn += 1;
        if state.open.is_empty() {
            state.open.first_lsn = lsn;
        }
        state.open.transactions += 1;
        state.open.granules += granules;
        state.open.completions.push(record.completion);

        if state.dirty.is_empty() {
            state.dirty_since = journal.port.clock().monotonic();
        }
        for write in &record.metadata {
            let id = BlockId::Metadata(write.leaf.0);
            journal.overlay.change(id, |block| {
                write.change.apply(Arc::make_mut(&mut block.content).as_mut_slice());
                block.lsn = lsn;
                block.dirty = true;
            });
            let (start, end) = write.change.range();
            state.open.touch(id, start, end, false);
            state.dirty.insert(id);
        }
        let mut bases = record.bases;
        for (offset, bytes) in &record.caller {
            journal.apply_caller_write(state, lsn, *offset, bytes, &mut bases);
        }
        let must_drive = !state.driving;
        state.driving = true;
        Ok((lsn, must_drive))
    }
}

/// Numbers of the blocks under a range.
pub(super) fn blocks(offset: u64, len: usize, block_bytes: u64) -> std::ops::Range<u64> {
    offset / block_bytes..(offset + len as u64).div_ceil(block_bytes)
}

impl Journal {
    /// The most journal bytes that a record can need, group header included.
    #[must_use]
    pub fn record_bound(&self, metadata_changes: usize, metadata_bytes: usize, caller: &[(u64, u64)]) -> u64 {
        let block_bytes = u64::from(self.layout.block_bytes());
        let images: usize = caller
            .iter()
            .map(|&(offset, len)| {
                blocks(offset, usize::try_from(len).unwrap_or(usize::MAX), block_bytes).count()
            })
            .sum();
        let image = PayloadEncoder::update_bound(1, self.layout.block_bytes() as usize);
        let metadata = metadata_changes * PayloadEncoder::update_bound(1, 0) + metadata_bytes;
        (GROUP_HEADER_BYTES + metadata + images * image) as u64
    }

    fn apply_caller_write(
        &self,
        state: &mut State,
        lsn: u64,
        offset: u64,
        bytes: &[u8],
        bases: &mut HashMap<u64, Vec<u8>>,
    ) {
        let block_bytes = u64::from(self.layout.block_bytes());
        let mut rest = bytes;
        for number in blocks(offset, bytes.len(), block_bytes) {
            let id = BlockId::Caller(number);
            let within = offset.saturating_sub(number * block_bytes);
            let len = usize::try_from(block_bytes - within).unwrap_or(0).min(rest.len());
            let (part, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = after;
            if !self.overlay.contains(id)
                && let Some(base) = bases.remove(&number)
            {
                self.overlay.insert_caller(id, base);
            }
            let round = state.image_round;
            let start = usize::try_from(within).unwrap_or(0);
            let image = self.overlay.change(id, |block| {
                if let Some(target) = Arc::make_mut(&mut block.content).get_mut(start..start + part.len()) {
                    target.copy_from_slice(part);
                }
                block.lsn = lsn;
                let image = block.image_round != round;
                block.image_round = round;
                image
            });
            let (start, end) =
                (u32::try_from(start).unwrap_or(0), u32::try_from(start + part.len()).unwrap_or(0));
            state.open.touch(id, start, end, image.unwrap_or(false));
            state.dirty.insert(id);
        }
    }

    /// Begins to append.
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failure, [`Error::Closed`] after closing, [`Error::ReadOnly`].
    pub fn appender(&self) -> Result<Appender<'_>> {
        let state = self.lock(&self.state);
        self.check_open(&state)?;
        Ok(Appender { journal: self, state })
    }

    pub(super) fn check_open(&self, state: &State) -> Result<()> {
        self.port.check_poison()?;
        if state.shut {
            return Err(Error::Closed);
        }
        if self.port.is_read_only() {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// Whether calls still make sense.
    pub fn check_alive(&self) -> Result<()> {
        self.port.check_poison()?;
        if self.lock(&self.state).shut { Err(Error::Closed) } else { Ok(()) }
    }

    /// Claims ring space, waiting for a checkpoint when there is too little.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`] when it can never fit.
    pub async fn claim_space(self: &Arc<Self>, bytes: u64) -> Result<RingPermit> {
        let max = self.max_transaction_bytes();
        if bytes > max {
            return Err(Error::TransactionTooLarge { needed: bytes, max });
        }
        let granules = bytes.div_ceil(u64::from(self.layout.ring_granule_bytes()));
        let granules =
            u32::try_from(granules).map_err(|_| Error::TransactionTooLarge { needed: bytes, max })?;
        let claimed = match self.space.try_acquire_many(granules) {
            Ok(permit) => permit,
            Err(_) => {
                let _wanted = Wanted::new(self);
                self.request_checkpoint();
                match self.space.acquire_many(granules).await {
                    Ok(permit) => permit,
                    Err(_) => {
                        self.check_alive()?;
                        return Err(Error::Closed);
                    }
                }
            }
        };
        claimed.forget();
        Ok(RingPermit::new(Arc::clone(&self.space), granules as usize))
    }

    /// Waits until a direct write is durable. Returns at once when a flush has covered it.
    pub async fn wait_data_durable(self: &Arc<Self>, number: u64) -> Result<()> {
        if self.data.is_durable(number) {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        let must_drive = {
            let mut state = self.lock(&self.state);
            self.check_open(&state)?;
            if self.data.is_durable(number) {
                return Ok(());
            }
            state.data_waiters.push(DataWaiter { number, sender });
            !std::mem::replace(&mut state.driving, true)
        };
        if must_drive {
            self.start_driving().await;
        }
        receiver.await.unwrap_or(Err(Error::Internal("a waiter for data was forgotten")))
    }

    /// Has the groups that are waiting written: on a thread for blocking calls, or here when calls cannot block.
    ///
    /// Here, other tasks that are ready get to join the group first. The duty is done even when this future is dropped.
    pub async fn start_driving(self: &Arc<Self>) {
        let task = DriveTask(Some(Arc::clone(self)));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.port.may_block() => {
                // A runtime that shuts down drops the closure unrun; dropping the task then does the work.
                drop(runtime.spawn_blocking(move || task.run()));
            }
            _ => {
                yield_once().await;
                task.run();
            }
        }
    }

    /// Writes groups, one write and one flush each, until nobody waits.
    fn drive(self: &Arc<Self>) {
        let _here = EngineThread::enter();
        let panicked = FailOnPanic(self);
        loop {
            let mut writer = self.lock(&self.writer);
            let group = {
                let mut state = self.lock(&self.state);
                if self.port.check_poison().is_err() {
                    drop(writer);
                    state.driving = false;
                    drop(state);
                    self.fail_waiting();
                    break;
                }
                if state.closed.is_empty()
                    && !state.open.is_empty()
                    && let Err(error) = self.close_open_group(&mut state)
                {
                    self.port.poison(error);
                    continue;
                }
                let group = state.closed.pop_front();
                if group.is_none() && state.data_waiters.is_empty() {
                    state.driving = false;
                    break;
                }
                group
            };
            let completed = self.data.completed();
            let result = match group {
                Some(group) => self.write_group(&mut writer, group),
                None => {
                    count(&self.counters.data_flushes, 1);
                    self.port.flush().inspect_err(|error| {
                        self.port.poison(error.clone());
                    })
                }
            };
            drop(writer);
            if result.is_ok() {
                self.data.flushed(completed);
                self.wake_data_waiters();
                if self.wants_checkpoint() {
                    self.request_checkpoint();
                }
            }
        }
        std::mem::forget(panicked);
    }

    fn wake_data_waiters(&self) {
        let ready: Vec<DataWaiter> = {
            let mut state = self.lock(&self.state);
            let (ready, waiting) =
                state.data_waiters.drain(..).partition(|waiter| self.data.is_durable(waiter.number));
            state.data_waiters = waiting;
            ready
        };
        for waiter in ready {
            // A receiver that is gone no longer cares.
            let _ = waiter.sender.send(Ok(()));
        }
    }

    /// Fixes the content of the open group and queues it.
    pub(super) fn close_open_group(&self, state: &mut State) -> Result<()> {
        let open = std::mem::take(&mut state.open);
        let (group, spare) = open.close(&self.overlay, self.layout.ring_granule_bytes())?;
        self.space.add_permits(spare);
        state.closed.push_back(group);
        Ok(())
    }

    /// Writes one group and makes it durable; tells everyone in it. Poisons on failure.
    pub(super) fn write_group(&self, writer: &mut Writer, mut group: ClosedGroup) -> Result<()> {
        let header = GroupHeader {
            length: group.length,
            transactions: group.transactions,
            epoch: writer.epoch,
            position: writer.head_position,
            first_lsn: group.first_lsn,
            durable_lsn: writer.durable_lsn,
            updates: group.updates,
        };
        header.seal(&self.store, &mut group.bytes);
        let written = Ring::new(&self.port, &self.layout)
            .write(writer.head_position, &group.bytes)
            .and_then(|()| self.port.flush());
        match written {
            Ok(()) => {
                writer.head_position += group.bytes.len() as u64;
                writer.durable_lsn = group.last_lsn();
                let counters = &self.counters;
                count(&counters.groups, 1);
                count(&counters.transactions, u64::from(group.transactions));
                count(&counters.encoded_bytes, u64::from(group.length));
                count(&counters.written_bytes, group.bytes.len() as u64);
                counters.durable_lsn.store(writer.durable_lsn, std::sync::atomic::Ordering::Relaxed);
                for (lsn, completion) in (group.first_lsn..).zip(group.completions) {
                    completion(Ok(lsn));
                }
                Ok(())
            }
            Err(error) => {
                let cause = self.port.poison(error.clone());
                for completion in group.completions {
                    completion(Err(Error::OutcomeUnknown { cause: Arc::clone(&cause) }));
                }
                Err(error)
            }
        }
    }

    /// After poison: nobody who waits will get what they wait for. None of these groups was issued.
    pub(super) fn fail_waiting(&self) {
        let error = match self.port.check_poison() {
            Err(error) => error,
            Ok(()) => Error::Closed,
        };
        self.space.close();
        let (completions, waiters) = {
            let mut state = self.lock(&self.state);
            let open = std::mem::take(&mut state.open);
            let closed = std::mem::take(&mut state.closed);
            let completions: Vec<Completion> =
                closed.into_iter().flat_map(|group| group.completions).chain(open.completions).collect();
            (completions, std::mem::take(&mut state.data_waiters))
        };
        for completion in completions {
            completion(Err(error.clone()));
        }
        for waiter in waiters {
            let _ = waiter.sender.send(Err(error.clone()));
        }
    }
}

/// Lets other tasks of the executor run once.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Counts a transaction that waits for ring space, so that checkpoints keep coming.
struct Wanted<'a>(&'a Journal);

impl<'a> Wanted<'a> {
    fn new(journal: &'a Journal) -> Self {
        journal.space_wanted.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        Self(journal)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.space_wanted.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
    }
}

/// The duty to drive. It is done even when the task is dropped without having been run (rule 18).
struct DriveTask(Option<Arc<Journal>>);

impl DriveTask {
    fn run(mut self) {
        if let Some(journal) = self.0.take() {
            journal.drive();
        }
    }
}

impl Drop for DriveTask {
    fn drop(&mut self) {
        if let Some(journal) = self.0.take() {
            journal.drive();
        }
    }
}

/// A panic while driving must not leave anyone waiting for ever.
struct FailOnPanic<'a>(&'a Journal);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.port.poison(Error::Internal("a panic stopped the journal"));
        self.0.fail_waiting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn bits_match_a_model(first: u16, count: u16, set: bool) -> bool {
            let (first, count) = (u32::from(first % 500), u32::from(count % 300));
            let mut block = vec![if set { 0 } else { 0xff }; 128];
            set_bits(&mut block, first, count, set);
            (0..1024_u32).all(|bit| {
                let is_set = block[bit as usize / 8] >> (bit % 8) & 1 == 1;
                is_set == ((first..first + count).contains(&bit) == set)
            })
        }
    }
}
