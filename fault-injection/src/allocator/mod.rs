//! Freehold's allocator as the subject of crash tests: what workloads do to it, what must be there afterwards, and the
//! oracles that know its format.

mod compare;
mod describe;
pub(crate) mod direct;
mod injury;
pub mod model;
pub mod operation;
pub mod payload;
pub mod plan;
mod probe;
pub mod proof;
mod second_life;
pub mod shape;

use std::cell::Cell;
use std::sync::Arc;

use freehold::device::{Device, ManualClock};
use freehold::{Allocator, Error, OpenOptions};

pub use injury::Injury;
pub use operation::Operation;
pub use plan::{Plan, Request};
pub use shape::Shape;

use crate::disk::{CowBase, CowDisk, Cut, Trace};
use crate::executor;
use crate::harness::{self, Allowed, DiskShape, Injured, Opened, Probe, Refusal, Run, Session};
use crate::oracle::watcher::watch;
use crate::oracle::{Oracle, Violation};
use crate::rng::{Rng, mix};
use model::State;
use operation::Applying;

/// An allocator on a simulated disk.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The store's shape.
    pub shape: Shape,
}

/// An allocator that is open.
#[derive(Debug)]
pub struct Live {
    /// The handle.
    pub allocator: Allocator,
    /// Transactions that ended without a commit. Each may have used a generation up.
    aborts: Cell<u64>,
}

impl Live {
    pub(crate) fn new(allocator: Allocator) -> Self {
        Self { allocator, aborts: Cell::new(0) }
    }

    fn count_abort(&self) {
        self.aborts.set(self.aborts.get() + 1);
    }
}

fn refusal(error: &Error) -> Refusal {
    if error.is_corruption() {
        Refusal::Damaged(error.to_string())
    } else {
        Refusal::Broken(Violation::new(Oracle::Refusal, format!("recovery failed: {error}")))
    }
}

/// Opens the store on a device.
pub(crate) fn open(device: Arc<dyn Device>) -> Result<Opened<Live>, Refusal> {
    // The clock stands still: what is measured would differ from run to run.
    let options = OpenOptions::new().clock(Arc::new(ManualClock::default()));
    match executor::run(options.open_device(device))? {
        Ok((allocator, report)) => {
            Ok(Opened { store: Live::new(allocator), torn_tail: report.torn_tail, report: Box::new(report) })
        }
        Err(Error::NotFreehold { .. }) => Err(Refusal::NotFormatted),
        Err(error) => Err(refusal(&error)),
    }
}

impl Subject {
    /// What the watcher at the device says.
    fn order_of_writes(&self, base: &Arc<CowBase>, trace: &Trace) -> Result<(), Violation> {
        match watch(base, trace, &self.shape.disk.geometry()) {
            Ok(_) => Ok(()),
            Err(broken) => Err(Violation::new(Oracle::WriteAhead, broken.to_string())),
        }
    }
}

impl harness::Subject for Subject {
    type Operation = Operation;
    type Store = Live;
    type State = State;

    fn disk(&self) -> DiskShape {
        self.shape.disk
    }

    fn blank(&self) -> State {
        State::default()
    }

    fn format(&self, device: Arc<dyn Device>) -> Result<(), Violation> {
        executor::run(self.shape.format_options().format_device(device))?
            .map(drop)
            .map_err(|error| Violation::new(Oracle::Conduct, format!("formatting failed: {error}")))
    }

    fn open(&self, device: Arc<dyn Device>) -> Result<Opened<Live>, Refusal> {
        open(device)
    }

    fn apply(&self, session: &mut Session<Self>, operation: &Operation) -> Result<(), Violation> {
        Applying { subject: self, session }.apply(operation)
    }

    fn check(&self, store: &Live, allowed: &Allowed<'_, State>) -> Result<usize, Refusal> {
        self.compare(store, allowed)
    }

    fn any_operation(&self, rng: &mut Rng) -> Operation {
        Operation::any(rng)
    }

    fn fingerprint(&self, state: &State) -> u64 {
        state.fingerprint()
    }

    fn memory(&self, store: &Live) -> Option<u64> {
        let stats = store.allocator.stats();
        let numbers = [
            stats.journal.durable_lsn,
            stats.journal.ring_used_bytes,
            stats.journal.ring_claimed_bytes,
            stats.journal.overlay_blocks,
            stats.journal.groups,
            stats.journal.checkpoints,
            stats.free_bytes,
            store.aborts.get(),
        ];
        Some(numbers.iter().fold(0, |sum, &number| mix(sum ^ number)))
    }

    fn live_on(&self, probe: &Probe<'_, Self>) -> Result<(), Violation> {
        self.second_life(probe)
    }

    fn probe(&self, probe: &Probe<'_, Self>) -> Result<(), Violation> {
        self.look_closer(probe)
    }

    fn watch(&self, run: &Run<Self>) -> Result<(), Violation> {
        self.order_of_writes(&run.start.base, &run.trace)
    }

    fn injure(&self, run: &Run<Self>, cut: &Cut, disk: &Arc<CowDisk>, seed: u64) -> Option<Injured> {
        self.damage(run, cut, disk, seed)
    }

    fn describe(&self, disk: &Arc<CowDisk>) -> Vec<String> {
        describe::journal(disk)
    }
}
