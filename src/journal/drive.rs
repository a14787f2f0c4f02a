//! Who writes groups: one at a time, group after group, until nobody waits.
//!
//! A committer that finds nobody writing takes the duty over. Where it is done is a matter of what a group is expected to
//! cost, as measured at those before:
//! - Waking another thread takes longer than a quick device needs for the write: the duty becomes a task of the runtime.
//! - A lone committer on a device that is not slow writes its group itself, which saves it two hops between threads. As
//!   soon as others come, a thread for blocking calls takes over, so that the runtime's threads can fill the next group.
//! - On a slow device it is that thread from the start: a thread of the runtime must not be blocked for long.
//!
//! On devices whose calls cannot block, and outside of a runtime, the committer does it all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;

use super::engine::{Journal, count};
use super::maintenance::EngineThread;
use crate::error::Error;

/// How long a writer waits for somebody who wants a turn to take it: at most a millisecond in all.
const YIELD: Duration = Duration::from_micros(20);
const YIELDS: u32 = 50;

/// About what it takes until another thread runs.
const HOP: Duration = Duration::from_micros(20);

/// Whether the duty goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Perhaps somebody waits.
    Again,
    /// Nobody waits, and the next one to wait takes the duty over.
    Done,
}

impl Journal {
    /// Has the groups that are waiting written. The duty is done even when this future is dropped.
    ///
    /// Unless a thread for blocking calls does it, other tasks that are ready get to join the group first.
    pub async fn start_driving(self: &Arc<Self>) {
        let duty = Duty(Some(Arc::clone(self)));
        let runtime = if self.port.may_block() { Handle::try_current().ok() } else { None };
        let Some(runtime) = runtime else {
            yield_once().await;
            return duty.run();
        };
        let expected = self.expected_write();
        let quick = expected <= HOP.min(self.options.block_up_to);
        if expected >= self.options.block_up_to {
            // A runtime that shuts down drops the closure unrun; dropping the duty then does the work.
            drop(runtime.spawn_blocking(move || duty.run()));
            return;
        }
        yield_once().await;
        let mut duty = duty;
        if (quick || self.has_lone_committer()) && duty.step() == Step::Done {
            return;
        }
        if quick {
            drop(runtime.spawn(duty.run_between_tasks()));
        } else {
            drop(runtime.spawn_blocking(move || duty.run()));
        }
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

    fn has_lone_committer(&self) -> bool {
        let state = self.lock(&self.state);
        state.closed.is_empty() && state.open.transactions <= 1
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
        self.done_if_idle()
    }

    /// Saves the round that would find out.
    fn done_if_idle(&self) -> Step {
        let mut state = self.lock(&self.state);
        let idle = state.closed.is_empty() && state.open.is_empty() && state.data_waiters.is_empty();
        if idle && self.port.check_poison().is_ok() {
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

/// The duty to write groups. It is done even when this is dropped before (rule 18).
struct Duty(Option<Arc<Journal>>);

impl Duty {
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

    /// The same, as a task among others.
    async fn run_between_tasks(mut self) {
        while self.step() == Step::Again {
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
