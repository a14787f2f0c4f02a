//! Who writes groups: one at a time, group after group, until nobody waits.
//!
//! A committer that finds nobody writing takes the duty over. Where it is done is a matter of what a group is expected to
//! cost, as measured at those before:
//! - A lone committer on a device that is not slow writes its group itself, which saves it two hops between threads. As
//!   soon as others come, a thread for blocking calls takes over, so that the runtime's threads can fill the next group.
//! - On a slow device, or with much to write, it is that thread from the start: a thread of the runtime must not be blocked
//!   for long.
//! - Waking another thread takes longer than a quick device needs for the write: there the duty becomes a task of the
//!   runtime, if that has other threads to run it.
//!
//! On devices whose calls cannot block, and outside of a runtime, the committer does it all.
//!
//! The duty is never held by a future that is suspended: nobody may ever poll that again, and all others would wait for
//! it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::engine::{Journal, State, count};
use super::maintenance::EngineThread;
use crate::error::Error;

/// How long a writer waits for somebody who wants a turn to take it: at most a millisecond in all.
const YIELD: Duration = Duration::from_micros(20);
const YIELDS: u32 = 50;

/// About what it takes until another thread runs.
const HOP: Duration = Duration::from_micros(20);

/// The most that is written, or made durable of what was written directly, on a thread that is not for blocking calls.
/// What is expected goes by groups of the usual size.
const MOST_IN_LINE_BYTES: u64 = 256 << 10;

/// Whether the duty goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Perhaps somebody waits.
    Again,
    /// Nobody waits, and the next one to wait takes the duty over.
    Done,
}

impl Journal {
    /// Has the groups that are waiting written: by whoever was told that nobody does. That is done even when this future
    /// is dropped; and when it is neither dropped nor polled again, by the next one who comes.
    pub async fn start_driving(self: &Arc<Self>) {
        let runtime = if self.port.may_block() { Handle::try_current().ok() } else { None };
        if let Some(runtime) = &runtime
            && self.expected_write() >= self.options.block_up_to
        {
            return Duty::of(self).move_to_thread(runtime);
        }
        // Other tasks that are ready get to join the group first.
        self.lock(&self.state).driving = false;
        let pause = Pause(Some(self));
        yield_once().await;
        let Some(mut duty) = pause.end() else { return };
        let Some(runtime) = runtime else { return duty.run() };
        let quick = self.is_quick();
        if self.may_write_here(quick) && duty.step() == Step::Done {
            return;
        }
        if quick && runtime.runtime_flavor() == RuntimeFlavor::MultiThread {
            drop(runtime.spawn(duty.run_between_tasks()));
            // It waits for this thread, perhaps, which is not to go on with something else first.
            yield_once().await;
        } else {
            duty.move_to_thread(&runtime);
        }
    }

    /// Takes the duty, if nobody has it and somebody waits.
    fn claim_duty(self: &Arc<Self>) -> Option<Duty> {
        let mut state = self.lock(&self.state);
        if state.driving || !state.has_waiters() {
            return None;
        }
        state.driving = true;
        drop(state);
        Some(Duty::of(self))
    }

    /// Whether a group takes less than waking somebody to write it.
    fn is_quick(&self) -> bool {
        self.expected_write() <= HOP.min(self.options.block_up_to)
    }

    /// Whether the next group may be written by whoever asks: it is small, and those who are in it are not kept from
    /// filling another one meanwhile.
    fn may_write_here(&self, quick: bool) -> bool {
        let state = self.lock(&self.state);
        let bytes = state.open.granules as u64 * u64::from(self.layout.ring_granule_bytes());
        (quick || state.open.transactions <= 1)
            && state.closed.is_empty()
            && bytes.max(self.data.bytes_at_risk()) <= MOST_IN_LINE_BYTES
    }

    /// What writing a group and making it durable took of late; for ever, before the first one.
    fn expected_write(&self) -> Duration {
        Duration::from_nanos(self.recent_write.load(Ordering::Relaxed))
    }

    /// Takes one group into account for what is expected of the next.
    pub(super) fn note_write(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let recent = self.recent_write.load(Ordering::Relaxed);
        let next = if recent == u64::MAX { took } else { recent - recent / 8 + took / 8 };
        // Only the one who writes groups comes here.
        self.recent_write.store(next, Ordering::Relaxed);
    }

    /// Writes one group, one write and one flush, if there is one; else flushes for those who wait for data.
    fn drive_once(self: &Arc<Self>) -> Step {
        let _here = EngineThread::enter();
        let panicked = FailOnPanic(self);
        let step = self.write_next();
        std::mem::forget(panicked);
        step
    }

    fn write_next(self: &Arc<Self>) -> Step {
        let mut writer = self.lock(&self.writer);
        let group = {
            let mut state = self.lock(&self.state);
            if self.port.check_poison().is_err() {
                drop(writer);
                state.driving = false;
                drop(state);
                self.fail_waiting();
                return Step::Done;
            }
            if state.closed.is_empty()
                && !state.open.is_empty()
                && let Err(error) = self.close_open_group(&mut state)
            {
                self.port.poison(error);
                return Step::Again;
            }
            let group = state.closed.pop_front();
            if group.is_none() && state.data_waiters.is_empty() {
                state.driving = false;
                return Step::Done;
            }
            group
        };
        let mark = self.data.mark();
        let result = match group {
            Some(group) => self.write_group(&mut writer, group),
            None => {
                count(&self.counters.data_flushes, 1);
                let start = self.now();
                let flushed = self.port.flush().inspect_err(|error| {
                    self.port.poison(error.clone());
                });
                self.note_write(self.now().saturating_sub(start));
                flushed
            }
        };
        drop(writer);
        self.let_others_write();
        if result.is_ok() {
            self.data.flushed(mark);
            self.wake_data_waiters();
            if self.wants_checkpoint() {
                self.request_checkpoint();
            }
        }
        self.done_if_idle()
    }

    /// Saves the round that would find out.
    fn done_if_idle(&self) -> Step {
        let mut state = self.lock(&self.state);
        if !state.has_waiters() && self.port.check_poison().is_ok() {
            state.driving = false;
            Step::Done
        } else {
            Step::Again
        }
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

impl State {
    fn has_waiters(&self) -> bool {
        !(self.closed.is_empty() && self.open.is_empty() && self.data_waiters.is_empty())
    }
}

/// A committer that lets others join, without the duty. Dropped meanwhile, it has somebody else look after the group.
struct Pause<'a>(Option<&'a Arc<Journal>>);

impl Pause<'_> {
    fn end(mut self) -> Option<Duty> {
        self.0.take().and_then(Journal::claim_duty)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let Some(duty) = self.0.take().and_then(Journal::claim_duty) else { return };
        match Handle::try_current() {
            Ok(runtime) if duty.may_block() => duty.move_to_thread(&runtime),
            _ => duty.run(),
        }
    }
}

/// The duty to write groups. It is done even when this is dropped before (rule 18).
struct Duty(Option<Arc<Journal>>);

impl Duty {
    fn of(journal: &Arc<Journal>) -> Self {
        Self(Some(Arc::clone(journal)))
    }

    fn may_block(&self) -> bool {
        self.0.as_ref().is_some_and(|journal| journal.port.may_block())
    }

    /// Writes one group.
    fn step(&mut self) -> Step {
        let Some(journal) = self.0.take() else { return Step::Done };
        let step = journal.drive_once();
        if step == Step::Again {
            self.0 = Some(journal);
        }
        step
    }

    /// Writes until nobody waits.
    fn run(mut self) {
        while self.step() == Step::Again {}
    }

    /// The same, on a thread for blocking calls. A runtime that shuts down drops the duty undone; then it is done here.
    fn move_to_thread(self, runtime: &Handle) {
        drop(runtime.spawn_blocking(move || self.run()));
    }

    /// The same, as a task among others, for as long as the device is quick.
    async fn run_between_tasks(mut self) {
        while self.step() == Step::Again {
            if !self.0.as_ref().is_some_and(|journal| journal.is_quick()) {
                return self.move_to_thread(&Handle::current());
            }
            yield_once().await;
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        while self.step() == Step::Again {}
    }
}

/// A panic while writing must not leave anyone waiting for ever.
pub(super) struct FailOnPanic<'a>(pub(super) &'a Journal);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.port.poison(Error::Internal("a panic stopped the journal"));
        self.0.fail_waiting();
    }
}
