//! What an operation works with.

use std::sync::Arc;

use freehold::device::Device;

use super::history::{History, Progress, Step};
use super::run::Start;
use super::subject::{Refusal, Subject};
use crate::disk::{Event, SimDisk};
use crate::oracle::{Oracle, Violation};

/// A workload under way: the disk, the store while it is open, and the history so far.
pub struct Session<S: Subject> {
    disk: Arc<SimDisk>,
    /// The store; none before it is opened, and after an operation that ended it.
    pub store: Option<S::Store>,
    history: History<S::State>,
    serial: u64,
}

impl<S: Subject> Session<S> {
    /// A session that goes on from `start`.
    #[must_use]
    pub fn new(subject: &S, start: &Start<S::State>) -> Self {
        Self::with_history(subject, start, start.history(subject))
    }

    /// A session that goes on from `start` and from such a beginning of its history.
    pub(super) fn with_history(subject: &S, start: &Start<S::State>, history: History<S::State>) -> Self {
        let shape = subject.disk();
        let disk = SimDisk::new(Arc::clone(&start.base), shape.sector_bytes, shape.physical_block_bytes);
        disk.set_rewriting(shape.rewrites);
        Self { disk: Arc::new(disk), store: None, history, serial: start.serial }
    }

    /// The disk, to put faults on it, or for its counters.
    #[must_use]
    pub const fn disk(&self) -> &Arc<SimDisk> {
        &self.disk
    }

    /// The disk as a store takes it.
    #[must_use]
    pub fn device(&self) -> Arc<dyn Device> {
        Arc::clone(&self.disk) as Arc<dyn Device>
    }

    /// The history so far.
    #[must_use]
    pub const fn history(&self) -> &History<S::State> {
        &self.history
    }

    /// The end of a session: the history, the first number that was not given out, and the store.
    pub(super) fn into_parts(self) -> (History<S::State>, u64, Option<S::Store>) {
        (self.history, self.serial, self.store)
    }

    /// The state of the model now.
    ///
    /// # Errors
    /// Never while the history holds a state, which it always does.
    pub fn state(&self) -> Result<&S::State, Violation> {
        self.history.last().ok_or_else(|| Violation::new(Oracle::Conduct, "the history is empty"))
    }

    /// The store.
    ///
    /// # Errors
    /// Never at the beginning of an operation: the harness opens the store before each.
    pub fn open_store(&self) -> Result<&S::Store, Violation> {
        let store = self.store.as_ref();
        store.ok_or_else(|| Violation::new(Oracle::Conduct, "the workload has no open store"))
    }

    /// Numbers that were never given out before in this chain of runs; the first of `count`.
    pub fn fresh(&mut self, count: u64) -> u64 {
        let first = self.serial;
        self.serial += count;
        first
    }

    /// From here on, up to so many further steps may be found in a crash state. Comes before the first write of them.
    pub fn begin(&self, steps: usize) {
        self.disk.mark(Progress::started_mark(self.history.steps().len() + steps));
    }

    /// A step has taken effect.
    pub fn push(&mut self, step: Step, state: S::State) {
        self.history.push(step, state);
    }

    /// From here on, every step so far must be found.
    pub fn acknowledge(&self) {
        self.disk.mark(Progress::acknowledged_mark(self.history.steps().len()));
    }

    /// Space was handed out to a new owner.
    pub fn claim(&self, offset: u64, len: u64) {
        self.disk.annotate(Event::Claim { offset, len });
    }

    /// Opens the store, after whatever was open is gone.
    ///
    /// # Errors
    /// When it is refused: nothing was damaged.
    pub fn reopen(&mut self, subject: &S) -> Result<(), Violation> {
        self.store = None;
        self.disk.annotate(Event::Opening);
        let opened = subject.open(self.device()).map_err(|refusal| match refusal {
            Refusal::Broken(violation) => violation,
            Refusal::NotFormatted => Violation::new(Oracle::Refusal, "the store is gone"),
            Refusal::Damaged(message) => {
                Violation::new(Oracle::Refusal, format!("opening failed: {message}"))
            }
        })?;
        self.disk.annotate(Event::Opened);
        self.store = Some(opened.store);
        Ok(())
    }
}
