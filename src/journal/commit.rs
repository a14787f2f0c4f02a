//! Group commit without a timer: groups are closed, written and made durable; and the waits around it, for ring space and
//! for data. Who does it stands in `drive.rs`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use tokio::sync::oneshot;

use super::data::DataWaiter;
use super::engine::{Journal, State, Writer, count};
use super::group::ClosedGroup;
use super::ring::{Ring, RingPermit};
use crate::error::{Error, Result};
use crate::format::GroupHeader;

impl Journal {
    /// Whether something can be appended. Whoever holds the state lock can rely on it until the lock is let go.
    pub(super) fn check_open(&self, _state: &State) -> Result<()> {
        self.port.check_poison()?;
        if self.shut.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if self.port.is_read_only() {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// Whether calls still make sense.
    pub fn check_alive(&self) -> Result<()> {
        if self.state.is_poisoned() {
            // Says why, and stops the store.
            drop(self.lock(&self.state));
        }
        self.port.check_poison()?;
        if self.shut.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Claims ring space, waiting for a checkpoint when there is too little.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`] when it can never fit.
    pub async fn claim_space(&self, bytes: u64) -> Result<RingPermit<'_>> {
        let max = self.max_transaction_bytes();
        if bytes > max {
            return Err(Error::TransactionTooLarge { needed: bytes, max });
        }
        if let Some(permit) = self.try_claim_space(bytes) {
            return Ok(permit);
        }
        let granules = bytes.div_ceil(u64::from(self.layout.ring_granule_bytes()));
        let granules =
            u32::try_from(granules).map_err(|_| Error::TransactionTooLarge { needed: bytes, max })?;
        let _wanted = Wanted::new(self);
        self.request_checkpoint();
        match self.space.acquire_many(granules).await {
            Ok(claimed) => {
                claimed.forget();
                Ok(RingPermit::new(&self.space, granules as usize))
            }
            Err(_) => {
                self.check_alive()?;
                Err(Error::Closed)
            }
        }
    }

    /// Claims ring space if there is enough.
    pub fn try_claim_space(&self, bytes: u64) -> Option<RingPermit<'_>> {
        let granules = bytes.div_ceil(u64::from(self.layout.ring_granule_bytes()));
        let granules = u32::try_from(granules).ok()?;
        self.space.try_acquire_many(granules).ok()?.forget();
        Some(RingPermit::new(&self.space, granules as usize))
    }

    /// Whether a direct write is known to be durable.
    pub fn is_data_durable(&self, number: u64) -> bool {
        self.data.is_durable(number)
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

    /// Takes the writer's lock for something else than a group, with the promise of a turn.
    pub(super) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer_wanted.fetch_add(1, Ordering::AcqRel);
        let writer = self.lock(&self.writer);
        self.writer_wanted.fetch_sub(1, Ordering::AcqRel);
        writer
    }

    pub(super) fn wake_data_waiters(&self) {
        let ready: Vec<DataWaiter> = {
            let mut state = self.lock(&self.state);
            // Those who no longer wait are not flushed for.
            let is_over =
                |waiter: &DataWaiter| self.data.is_durable(waiter.number) || waiter.sender.is_closed();
            let (ready, waiting) = state.data_waiters.drain(..).partition(is_over);
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
        state.closed.push_back(open.close(&self.overlay)?);
        Ok(())
    }

    /// Writes one group and makes it durable; tells everyone in it. Poisons on failure.
    pub(super) fn write_group(&self, writer: &mut Writer, mut group: ClosedGroup) -> Result<()> {
        let start = self.now();
        self.stages.wait.record_time(start.saturating_sub(group.since));
        self.stages.transactions.record(group.transactions.into());
        let mut encoded = match group.encode(self.layout.ring_granule_bytes()) {
            Ok(encoded) => encoded,
            Err(error) => {
                self.port.poison(error.clone());
                // Never issued: not committed.
                group.teller.tell(self.port.check_poison());
                return Err(error);
            }
        };
        self.space.add_permits(encoded.spare);
        let header = GroupHeader {
            length: encoded.length,
            transactions: group.transactions,
            epoch: writer.epoch,
            position: writer.head_position,
            first_lsn: group.first_lsn,
            durable_lsn: writer.durable_lsn,
            updates: encoded.updates,
        };
        header.seal(&self.store, &mut encoded.bytes);
        let (encoded_at, mut written_at) = (self.now(), start);
        let written = Ring::new(&self.port, &self.layout)
            .write(writer.head_position, &encoded.bytes)
            .inspect(|()| written_at = self.now())
            .and_then(|()| self.port.flush());
        match written {
            Ok(()) => {
                let flushed_at = self.now();
                self.note_write(flushed_at.saturating_sub(encoded_at));
                writer.head_position += encoded.bytes.len() as u64;
                writer.durable_lsn = group.last_lsn();
                let counters = &self.counters;
                count(&counters.groups, 1);
                count(&counters.transactions, u64::from(group.transactions));
                count(&counters.encoded_bytes, u64::from(encoded.length));
                count(&counters.written_bytes, encoded.bytes.len() as u64);
                counters.durable_lsn.store(writer.durable_lsn, Ordering::Relaxed);
                if let Some(hook) = self.durable_hook.get() {
                    hook(&self.port, writer.durable_lsn);
                }
                group.teller.tell(Ok(()));
                let stages = &self.stages;
                stages.encode.record_time(encoded_at.saturating_sub(start));
                stages.write.record_time(written_at.saturating_sub(encoded_at));
                stages.flush.record_time(flushed_at.saturating_sub(written_at));
                stages.tell.record_time(self.now().saturating_sub(flushed_at));
                tracing::trace!(
                    transactions = group.transactions,
                    bytes = encoded.length,
                    waited = ?start.saturating_sub(group.since),
                    wrote = ?written_at.saturating_sub(start),
                    flushed = ?flushed_at.saturating_sub(written_at),
                    "a group is durable"
                );
                Ok(())
            }
            Err(error) => {
                let cause = self.port.poison(error.clone());
                group.teller.tell(Err(Error::OutcomeUnknown { cause }));
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
        let (open, closed, waiters) = {
            let mut state = self.lock(&self.state);
            let open = std::mem::take(&mut state.open);
            (open, std::mem::take(&mut state.closed), std::mem::take(&mut state.data_waiters))
        };
        for group in closed {
            group.teller.tell(Err(error.clone()));
        }
        open.teller.tell(Err(error.clone()));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(error.clone()));
        }
    }
}

/// Counts a transaction that waits for ring space, so that checkpoints keep coming.
struct Wanted<'a>(&'a Journal);

impl<'a> Wanted<'a> {
    fn new(journal: &'a Journal) -> Self {
        journal.space_wanted.fetch_add(1, Ordering::AcqRel);
        Self(journal)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.space_wanted.fetch_sub(1, Ordering::AcqRel);
    }
}
