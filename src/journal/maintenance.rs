//! The thread that checkpoints beside commits, and notes the last durable LSN when the store is idle.
//!
//! It is a thread of its own and not a task, so that it needs no timer of any runtime and outlives none. Devices whose
//! calls cannot block have none: there checkpoints run where they are asked for.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::drive::FailOnPanic;
use super::engine::Journal;
use crate::error::{Error, IoOperation, Result};

/// How long the store must have been idle before the witness is written, and how often ages are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long a handle that goes away waits for the last calls, in all two seconds.
const SETTLE_PAUSE: Duration = Duration::from_micros(50);
const SETTLE_ROUNDS: u32 = 40_000;

/// What the thread waits for.
#[derive(Debug, Default)]
pub(super) struct Wake {
    request: Mutex<Request>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Request {
    checkpoint: bool,
    stop: bool,
}

impl Wake {
    fn change(&self, change: impl FnOnce(&mut Request)) {
        change(&mut self.request.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    pub(super) fn request_checkpoint(&self) {
        self.change(|request| request.checkpoint = true);
    }

    pub(super) fn stop(&self) {
        self.change(|request| request.stop = true);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).stop
    }

    /// Waits for a request or a tick: whether to stop, and whether a checkpoint was asked for.
    fn wait(&self) -> (bool, bool) {
        let request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut request, _) = self
            .changed
            .wait_timeout_while(request, TICK, |request| !request.checkpoint && !request.stop)
            .unwrap_or_else(PoisonError::into_inner);
        (request.stop, std::mem::take(&mut request.checkpoint))
    }
}

thread_local! {
    static ENGINE_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as working for a journal until dropped: it holds the journal, and must not wait for
/// others to let go of it.
pub(super) struct EngineThread {
    outer: bool,
}

impl EngineThread {
    pub(super) fn enter() -> Self {
        Self { outer: ENGINE_THREAD.replace(true) }
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        ENGINE_THREAD.set(self.outer);
    }
}

/// The running thread; stops when dropped.
#[derive(Debug)]
pub struct Maintenance {
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the thread for a journal on a device whose calls may block.
    pub fn start(journal: &Arc<Journal>) -> Result<Self> {
        let wake = Arc::clone(&journal.wake);
        let weak = Arc::downgrade(journal);
        let thread = if journal.port.may_block() && !journal.port.is_read_only() {
            let wake = Arc::clone(&wake);
            let spawned = std::thread::Builder::new()
                .name("freehold-maintenance".to_owned())
                .spawn(move || run(&weak, &wake))
                .map_err(|error| Error::io(IoOperation::Spawn, 0, 0, error))?;
            Some(spawned)
        } else {
            None
        };
        Ok(Self { wake, thread })
    }
}

fn run(journal: &Weak<Journal>, wake: &Wake) {
    loop {
        let (stop, checkpoint) = wake.wait();
        if stop {
            return;
        }
        let Some(journal) = journal.upgrade() else {
            return;
        };
        let _here = EngineThread::enter();
        let panicked = FailOnPanic(&journal);
        journal.stand_in();
        journal.look_after_waiting_elsewhere();
        let done = if checkpoint { journal.checkpoint_if_due().map(drop) } else { journal.maintain() };
        std::mem::forget(panicked);
        if let Err(error) = done {
            tracing::debug!(%error, "maintenance ends");
            // What still waits when the store is closed in order, closing commits: it is not to be told otherwise.
            if !matches!(error, Error::Closed) {
                journal.fail_waiting();
            }
            return;
        }
    }
}

impl Maintenance {
    /// Stops the thread, then waits until nobody works for the journal any more, so that the device is free to be
    /// opened again as soon as the last handle is gone. Gives up after a while: an abandoned call may hang in the
    /// device.
    pub fn stop_and_settle(&mut self, journal: &Arc<Journal>) {
        self.stop();
        if ENGINE_THREAD.get() {
            return;
        }
        for _ in 0..SETTLE_ROUNDS {
            if Arc::strong_count(journal) == 1 && Arc::strong_count(&journal.port) == 1 {
                return;
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
    }

    fn stop(&mut self) {
        self.wake.stop();
        if let Some(thread) = self.thread.take()
            // A thread that works for the journal holds locks that the maintenance thread may be waiting for (and may be
            // that thread itself): it must not wait. The thread ends by itself.
            && !ENGINE_THREAD.get()
        {
            // A panic in the thread has poisoned the store; there is nothing to add to it here.
            let _ = thread.join();
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop();
    }
}
