//! Who writes groups: one at a time, group after group, until nobody waits.
//!
//! A committer that finds nobody writing takes the duty over. Where it is done is a matter of what a group is expected to
//! cost, as measured at those before:
//! - On a device that is not slow a lone committer writes its group itself, which saves it two hops between threads.
//! - Where there are others the duty is a task of the runtime, if that has other threads to run what else there is: waking a
//!   thread to write, and being woken by it, takes as long as a quick device needs. Those who are told that their group is
//!   durable run before the next one is made, on the same thread, so that they are in it.
//! - On a slow device, or with much to write, it is a thread for blocking calls: a thread of the runtime must not be blocked
//!   for long. So it is where the runtime has one thread, which can fill the next group meanwhile.
//!
//! On devices whose calls cannot block, and outside of a runtime, the committer does it all.
//!
//! The duty is never held by a future of somebody else's that is suspended: nobody may ever poll that again, and all others
//! would wait for it. A task or a thread that has it and does not get its turn is stood in for (`absence.rs`).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

use super::engine::{Journal, State, count};
use super::maintenance::EngineThread;
use super::outcome::{Ticket, Told};
use super::threads::{Place, block_first, is_multi_threaded, others_run};
use crate::error::{Error, Result};

/// How long a writer waits for somebody who wants a turn to take it: at most a millisecond in all.
const YIELD: Duration = Duration::from_micros(20);
const YIELDS: u32 = 50;

/// Tasks that are woken before they run, and others are woken: so many may another thread take over, and keep for as long as it
/// sleeps for the sake of this one (see `allocator/turns.rs`).
const WOKEN_TOGETHER: usize = 16;

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
    /// is dropped; and when it is neither dropped nor polled again, by the next one who comes, or by the maintenance thread.
    ///
    /// A caller whose transaction, with this ticket, was told meanwhile leaves the duty to those who still wait.
    pub async fn start_driving(self: &Arc<Self>, mut ticket: Option<&mut Ticket>) {
        let runtime = if self.port.may_block() { Handle::try_current().ok() } else { None };
        let is_here = |runtime: &Handle| self.place(runtime) == Place::Here;
        if let Some(runtime) = &runtime {
            let tasks_wander = is_multi_threaded(runtime);
            if self.expected_write() >= self.options.block_up_to || tasks_wander && !is_here(runtime) {
                return Duty::of(self).move_on(runtime);
            }
            // Where other threads run tasks, a pause wakes them, which takes as long as a part of a flush. So there is none,
            // but now and then.
            if tasks_wander && self.may_block_once_more(self.expected_write()) {
                return Duty::of(self).step_in_line(runtime).await;
            }
        }
        // Others who are ready get to join the group first, or to do something else.
        self.lock(&self.state).driving = false;
        let pause = Pause(Some(self));
        match (&runtime, &mut ticket) {
            (Some(runtime), Some(ticket)) if is_multi_threaded(runtime) => yield_to_all(ticket).await,
            // Who waits for data is told by a channel, which could not wake it here. The commit behind it pauses as well.
            _ => yield_once().await,
        }
        if ticket.is_some_and(|ticket| ticket.is_told()) {
            // Somebody else did it, and whoever has joined since comes here, too.
            return pause.give_up();
        }
        let Some(duty) = pause.end() else { return };
        match runtime {
            None => duty.run(),
            Some(runtime) if is_here(&runtime) => {
                if is_multi_threaded(&runtime) {
                    block_first(self.expected_write());
                }
                duty.step_in_line(&runtime).await;
            }
            Some(runtime) => duty.move_on(&runtime),
        }
    }

    /// For those who are about to wait for what somebody has who has joined a group, and who may never be polled again: has
    /// the groups that are waiting written, if nobody does.
    pub fn look_after_waiting(self: &Arc<Self>) {
        if let Some(duty) = self.claim_duty() {
            duty.move_anywhere();
        }
    }

    /// The same, for a thread that has other duties.
    pub(super) fn look_after_waiting_elsewhere(self: &Arc<Self>) {
        if let Some(duty) = self.claim_duty() {
            duty.move_to_own_thread(());
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

    /// Writes one group, one write and one flush, if there is one, and returns those who are to be woken; else flushes for those
    /// who wait for data. `None` if nobody waits: the next one to wait takes the duty over.
    fn write_next(self: &Arc<Self>) -> Option<Told> {
        let _here = EngineThread::enter();
        let panicked = FailOnPanic(self);
        let written = self.write_group_or_data();
        std::mem::forget(panicked);
        written
    }

    fn write_group_or_data(self: &Arc<Self>) -> Option<Told> {
        let mut writer = self.lock(&self.writer);
        let group = {
            let mut state = self.lock(&self.state);
            if self.port.check_poison().is_err() {
                drop(writer);
                state.driving = false;
                drop(state);
                self.fail_waiting();
                return None;
            }
            let group = state.next_group();
            if group.is_none() && state.data_waiters.is_empty() {
                state.driving = false;
                return None;
            }
            group
        };
        let (told, result) = match group {
            Some(group) => self.write_group(&mut writer, &group),
            None => (Told::default(), self.flush_data()),
        };
        drop(writer);
        if result.is_ok() {
            // They are about to join the next group, and those who are told begin something new.
            self.wake_data_waiters();
        }
        Some(told)
    }

    /// Stands in for whoever has the duty and stays away: all threads of a runtime may be busy, or blocked by somebody who waits
    /// for a commit. Then there may be two who write groups, one after the other. To be called now and then.
    pub(super) fn stand_in(self: &Arc<Self>) {
        let Some(told) = self.lock(&self.absence).overdue() else { return };
        drop(told);
        let waits = self.lock(&self.state).has_waiters();
        if waits && !self.standing_in.swap(true, Ordering::AcqRel) {
            Duty::of(self).move_to_own_thread(StandIn(Arc::clone(self)));
        }
    }

    /// Makes durable what was written directly, for those who wait for that and nothing else.
    fn flush_data(&self) -> Result<()> {
        count(&self.counters.data_flushes, 1);
        let (start, mark) = (self.now(), self.data.mark());
        self.port.flush().inspect_err(|error| {
            self.port.poison(error.clone());
        })?;
        self.note_write(self.now().saturating_sub(start));
        self.data.flushed(mark);
        Ok(())
    }

    /// Saves the round that would find out. Others who want a turn have it before the next group.
    fn done_if_idle(self: &Arc<Self>) -> Step {
        let _here = EngineThread::enter();
        let panicked = FailOnPanic(self);
        let step = self.look_for_more();
        std::mem::forget(panicked);
        step
    }

    fn look_for_more(&self) -> Step {
        self.let_others_write();
        if self.port.check_poison().is_ok() && self.wants_checkpoint() {
            self.request_checkpoint();
        }
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
            if !self.writer_wanted.is_any() {
                return;
            }
            std::thread::sleep(YIELD);
        }
    }
}

/// Lets other tasks run until none is ready, on a runtime of several threads, or until it looks at sockets and timers in any case. Whom
/// that wakes runs at the next pause at the latest. One of them may keep this thread, which is the only one to wake this task then, and wait for
/// the very transaction: so this task is woken, by any thread, when its transaction is told.
async fn yield_to_all(ticket: &mut Ticket) {
    let mut others = pin!(tokio::task::yield_now());
    poll_fn(|context| match Pin::new(&mut *ticket).poll(context) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => others.as_mut().poll(context),
    })
    .await;
    // Told by itself it would be woken while it runs, and the next pause would be none.
    ticket.forget_waiter();
}

/// Lets other tasks that are ready run once, on any executor.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl State {
    /// Whether a transaction waits for its group to be written.
    pub(super) fn has_joined(&self) -> bool {
        !(self.full.is_empty() && self.open.is_empty())
    }

    fn has_waiters(&self) -> bool {
        self.has_joined() || !self.data_waiters.is_empty()
    }
}

/// A committer that lets others join, without the duty. Dropped meanwhile, it has somebody else look after the group.
struct Pause<'a>(Option<&'a Arc<Journal>>);

impl Pause<'_> {
    fn end(mut self) -> Option<Duty> {
        self.0.take().and_then(Journal::claim_duty)
    }

    fn give_up(mut self) {
        self.0 = None;
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if let Some(duty) = self.0.take().and_then(Journal::claim_duty) {
            duty.move_anywhere();
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

    /// Writes one group, and wakes those who are in it.
    fn step(&mut self) -> Step {
        let Some(told) = self.write() else { return Step::Done };
        if let Some(journal) = &self.0 {
            journal.wake_all(told);
        }
        self.go_on()
    }

    /// Writes one group. `None` when there is none, and the duty is over.
    fn write(&mut self) -> Option<Told> {
        let journal = self.0.take()?;
        let told = journal.write_next()?;
        self.0 = Some(journal);
        Some(told)
    }

    /// Whether anybody waits; if not, the duty is over.
    fn go_on(&mut self) -> Step {
        let Some(journal) = self.0.take() else { return Step::Done };
        let step = journal.done_if_idle();
        if step == Step::Again {
            self.0 = Some(journal);
        }
        step
    }

    /// Writes one group here; if that was not all, the rest is done elsewhere.
    fn step_here(mut self, runtime: &Handle) -> Step {
        let step = self.step();
        if step == Step::Again {
            self.move_on(runtime);
        }
        step
    }

    /// The same, for a committer that waits for it itself.
    async fn step_in_line(self, runtime: &Handle) {
        if self.step_here(runtime) == Step::Again && is_multi_threaded(runtime) {
            // The task waits for this thread, perhaps, which is not to go on with something else first.
            yield_once().await;
        }
    }

    /// Writes until nobody waits, on a thread of its own, and drops `behind` then.
    fn move_to_own_thread(self, behind: impl Send + 'static) {
        // Where there is no thread to be had it is dropped, and done here.
        let thread = std::thread::Builder::new().name("freehold-writer".to_owned());
        drop(thread.spawn(move || {
            self.run();
            drop(behind);
        }));
    }

    /// Writes until nobody waits: on a thread for blocking calls, or here where there is none.
    fn move_anywhere(self) {
        match Handle::try_current() {
            Ok(runtime) if self.may_block() => self.move_to_pool(&runtime),
            _ => self.run(),
        }
    }

    /// Writes on a thread for blocking calls, all of which may be busy: until nobody waits, or groups are better written elsewhere.
    fn move_to_pool(mut self, runtime: &Handle) {
        if let Some(journal) = &self.0 {
            journal.leave(Told::default());
        }
        // A task of a runtime with one worker would wait for whoever blocks that.
        let elsewhere = others_run(runtime).then(|| runtime.clone());
        drop(runtime.spawn_blocking(move || {
            if let Some(journal) = &self.0 {
                journal.come_back();
            }
            while self.step() == Step::Again {
                let (Some(runtime), Some(journal)) = (&elsewhere, &self.0) else { continue };
                if journal.place(runtime) != Place::Thread {
                    return self.move_on(runtime);
                }
            }
        }));
    }

    /// Writes until nobody waits.
    fn run(mut self) {
        while self.step() == Step::Again {}
    }

    /// The same, where groups are best written now. A runtime that shuts down drops the duty undone; then it is done here.
    fn move_on(self, runtime: &Handle) {
        let Some(journal) = &self.0 else { return };
        // A runtime of one thread may not be polled again.
        if !is_multi_threaded(runtime) || journal.place(runtime) == Place::Thread {
            self.move_to_pool(runtime);
        } else {
            journal.leave(Told::default());
            drop(runtime.spawn(self.run_between_tasks(runtime.clone())));
        }
    }

    /// The same, as a task among others, for as long as that is best. Whoever was just told goes first.
    async fn run_between_tasks(mut self, runtime: Handle) {
        yield_once().await;
        loop {
            let Some(journal) = self.0.clone() else { return };
            journal.come_back();
            if journal.place(&runtime) == Place::Thread {
                return self.move_on(&runtime);
            }
            let Some(told) = self.write() else { return };
            journal.leave(told);
            if journal.check_alive().is_err() {
                // Nobody looks any more whether it stays away.
                journal.come_back();
            }
            loop {
                let more = journal.wake_some(WOKEN_TOGETHER);
                yield_once().await;
                if !more {
                    break;
                }
            }
            journal.come_back();
            if self.go_on() == Step::Done {
                return;
            }
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(journal) = &self.0 {
            journal.come_back();
        }
        while self.step() == Step::Again {}
    }
}

/// A thread that stands in. There is one at a time.
struct StandIn(Arc<Journal>);

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.standing_in.store(false, Ordering::Release);
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
