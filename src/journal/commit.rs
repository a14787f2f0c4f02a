//! Group commit without a timer: transactions join a group; groups take effect, are written and made durable; and the waits
//! around it, for ring space and for data. Who does it stands in `drive.rs`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::append::{Appender, Changes};
use super::data::DataWaiter;
use super::engine::{Journal, State, Writer, count};
use super::group::{EncodedGroup, Group, encode};
use super::outcome::{Ticket, Told};
use super::ring::{Ring, RingPermit};
use crate::error::{Error, Result};
use crate::format::GroupHeader;

/// The most that a small transaction claims, on a ring of small granules.
const SMALL_CLAIM_BYTES: u64 = 32 << 10;

impl Journal {
    /// Whether a group can be joined. Whoever holds the state lock can rely on it until the lock is let go.
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
        self.port.check_poison()?;
        if self.shut.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Claims ring space. When there is too little it waits for groups that give some back, or for a checkpoint.
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
        // So that checkpoints come when they make some.
        let _waiting = self.space_wanted.count_one();
        if self.wants_checkpoint() {
            self.request_checkpoint();
        }
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

    /// Whether every direct write that has completed is known to be durable.
    pub fn is_all_data_durable(&self) -> bool {
        self.data.is_durable(self.data.completed())
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
            // Others may have joined meanwhile, and count on it.
            self.start_driving(None).await;
        }
        receiver.await.unwrap_or(Err(Error::Internal("a waiter for data was forgotten")))
    }

    /// Takes the writer's lock for something else than a group, with the promise of a turn.
    pub(super) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        let _waiting = self.writer_wanted.count_one();
        self.lock(&self.writer)
    }

    /// Calls `look` while no group takes effect or is being written: after the one that is, if there is one.
    pub fn between_groups<T>(&self, look: impl FnOnce() -> T) -> T {
        let writer = self.lock_writer();
        let result = look();
        drop(writer);
        result
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

    /// Takes a place in the group that fills, for a transaction with this claim on ring space; `journals` says whether it changes
    /// the caller's space. Returns where its outcome arrives, and whether the caller has to see to it that the group gets written
    /// ([`start_driving`](Self::start_driving)).
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failure, [`Error::Closed`] after closing, [`Error::ReadOnly`].
    pub fn join(&self, permit: RingPermit<'_>, journals: bool) -> Result<(Ticket, bool)> {
        let mut state = self.lock(&self.state);
        self.check_open(&state)?;
        let granules = permit.take();
        let max_granules = Self::max_group_bytes(&self.layout) / u64::from(self.layout.ring_granule_bytes());
        if !state.open.is_empty() && (state.open.granules + granules) as u64 > max_granules {
            let full = std::mem::take(&mut state.open);
            state.full.push_back(full);
        }
        let lsn = state.next_lsn;
        state.next_lsn += 1;
        if state.open.is_empty() {
            state.open.first_lsn = lsn;
            state.open.since = self.now();
        }
        state.open.transactions += 1;
        state.open.granules += granules;
        state.open.journaling += u32::from(journals);
        let granule = u64::from(self.layout.ring_granule_bytes());
        state.open.large_bytes += (granules as u64 * granule).saturating_sub(granule.max(SMALL_CLAIM_BYTES));
        let ticket = state.open.teller.ticket(lsn);
        let must_drive = !std::mem::replace(&mut state.driving, true);
        Ok((ticket, must_drive))
    }

    /// Writes every group that waits.
    pub(super) fn write_all_waiting(&self) -> Result<()> {
        // Woken when the writer's lock is free again.
        let mut all_told = Vec::new();
        let mut writer = self.lock_writer();
        loop {
            let group = self.lock(&self.state).next_group();
            let Some(group) = group else { return Ok(()) };
            let (told, written) = self.write_group(&mut writer, &group);
            all_told.push(told);
            if let Err(error) = written {
                drop(writer);
                self.fail_waiting();
                return Err(error);
            }
        }
    }

    /// Has a group take effect, and encodes it; when it had taken effect. Poisons on failure.
    fn publish_group(&self, writer: &mut Writer, group: &Group) -> Result<(EncodedGroup, Duration)> {
        let start = self.now();
        self.stages.wait.record_time(start.saturating_sub(group.since));
        self.stages.transactions.record(group.transactions.into());
        let mut publish = || {
            let mut appender = Appender::new(self, &mut writer.changes, group);
            if let Some(publisher) = self.publisher.get() {
                publisher.publish(group.transactions, &mut appender)?;
            }
            drop(appender);
            let published_at = self.now();
            self.stages.publish.record_time(published_at.saturating_sub(start));
            let granule = self.layout.ring_granule_bytes();
            let Changes { extents, touched, scratch, missing, .. } = &mut writer.changes;
            if *missing {
                return Err(Error::Internal("a block that a group changes left the overlay"));
            }
            let encoded = encode(extents, touched, &self.overlay, granule, scratch)?;
            let spare = group.granules.checked_sub(encoded.bytes.len() / granule as usize);
            self.space
                .add_permits(spare.ok_or(Error::Internal("a group outgrew the ring space claimed for it"))?);
            Ok((encoded, published_at))
        };
        publish().inspect_err(|error: &Error| {
            // Memory is ahead of the journal for good.
            self.port.poison(error.clone());
        })
    }

    /// Writes one group and makes it durable; tells everyone in it, whom the caller wakes. Poisons on failure.
    pub(super) fn write_group(&self, writer: &mut Writer, group: &Group) -> (Told, Result<()>) {
        let (mut encoded, published_at) = match self.publish_group(writer, group) {
            Ok(published) => published,
            Err(error) => {
                // Never issued: not committed.
                return (group.teller.tell(self.port.check_poison()), Err(error));
            }
        };
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
        let sealed_at = self.now();
        self.stages.encode.record_time(sealed_at.saturating_sub(published_at));
        if let Some(publisher) = self.publisher.get() {
            publisher.writing(group.transactions);
        }
        let mut written_at = sealed_at;
        let written =
            Ring::new(&self.port, &self.layout).write(writer.head_position, &encoded.bytes).and_then(|()| {
                written_at = self.now();
                // All that has been written directly by now is durable with the group.
                let mark = self.data.mark();
                self.port.flush()?;
                Ok(mark)
            });
        match written {
            Ok(mark) => {
                let flushed_at = self.now();
                self.note_write(flushed_at.saturating_sub(sealed_at));
                self.recent_transactions.store(group.transactions, Ordering::Relaxed);
                self.note_encoded(group.transactions, encoded.length);
                writer.head_position += encoded.bytes.len() as u64;
                self.ring_head.store(writer.head_position, Ordering::Relaxed);
                writer.durable_lsn = group.last_lsn();
                let counters = &self.counters;
                count(&counters.groups, 1);
                count(&counters.transactions, u64::from(group.transactions));
                count(&counters.encoded_bytes, u64::from(encoded.length));
                count(&counters.written_bytes, encoded.bytes.len() as u64);
                counters.durable_lsn.store(writer.durable_lsn, Ordering::Relaxed);
                if let Some(publisher) = self.publisher.get() {
                    publisher.durable(&self.port, writer.durable_lsn);
                }
                self.data.flushed(mark);
                let mut told = group.teller.tell(Ok(()));
                told.took = Some(self.now().saturating_sub(flushed_at));
                let stages = &self.stages;
                stages.write.record_time(written_at.saturating_sub(sealed_at));
                stages.flush.record_time(flushed_at.saturating_sub(written_at));
                tracing::trace!(
                    transactions = group.transactions,
                    bytes = encoded.length,
                    waited = ?sealed_at.saturating_sub(group.since),
                    wrote = ?written_at.saturating_sub(sealed_at),
                    flushed = ?flushed_at.saturating_sub(written_at),
                    "a group is durable"
                );
                (told, Ok(()))
            }
            Err(error) => {
                let cause = self.port.poison(error.clone());
                (group.teller.tell(Err(Error::OutcomeUnknown { cause })), Err(error))
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
        let (open, full, waiters) = {
            let mut state = self.lock(&self.state);
            let open = std::mem::take(&mut state.open);
            (open, std::mem::take(&mut state.full), std::mem::take(&mut state.data_waiters))
        };
        if let Some(publisher) = self.publisher.get() {
            publisher.abandon();
        }
        for group in full {
            drop(group.teller.tell(Err(error.clone())));
        }
        drop(open.teller.tell(Err(error.clone())));
        for waiter in waiters {
            let _ = waiter.sender.send(Err(error.clone()));
        }
        // Whoever was told before: there is nobody any more who looks whether they sleep on.
        self.come_back();
    }
}

impl State {
    /// The group whose turn it is.
    pub(super) fn next_group(&mut self) -> Option<Group> {
        let open = &mut self.open;
        self.full.pop_front().or_else(|| (!open.is_empty()).then(|| std::mem::take(open)))
    }
}
