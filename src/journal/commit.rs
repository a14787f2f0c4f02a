//! Group commit without a timer: whoever finds nobody writing writes, group after group, until nobody waits; and the
//! waits around it, for ring space and for data.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::append::Completion;
use super::data::DataWaiter;
use super::engine::{Journal, State, Writer, count};
use super::group::ClosedGroup;
use super::maintenance::EngineThread;
use super::ring::{Ring, RingPermit};
use crate::error::{Error, Result};
use crate::format::GroupHeader;

/// How long a writer waits for somebody who wants a turn to take it: at most a millisecond in all.
const YIELD: Duration = Duration::from_micros(20);
const YIELDS: u32 = 50;

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
            self.let_others_write();
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

    /// A mutex goes to whoever asks first when it is let go, and that would be this thread again: under load a
    /// checkpoint would never get its turn between two groups.
    fn let_others_write(&self) {
        for _ in 0..YIELDS {
            if self.writer_wanted.load(Ordering::Acquire) == 0 {
                return;
            }
            std::thread::sleep(YIELD);
        }
    }

    /// Takes the writer's lock for something else than a group, with the promise of a turn.
    pub(super) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer_wanted.fetch_add(1, Ordering::AcqRel);
        let writer = self.lock(&self.writer);
        self.writer_wanted.fetch_sub(1, Ordering::AcqRel);
        writer
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
                for completion in group.completions {
                    completion(self.port.check_poison().map(|()| 0));
                }
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
                for (lsn, completion) in (group.first_lsn..).zip(group.completions) {
                    completion(Ok(lsn));
                }
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
        journal.space_wanted.fetch_add(1, Ordering::AcqRel);
        Self(journal)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.space_wanted.fetch_sub(1, Ordering::AcqRel);
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
pub(super) struct FailOnPanic<'a>(pub(super) &'a Journal);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.port.poison(Error::Internal("a panic stopped the journal"));
        self.0.fail_waiting();
    }
}
